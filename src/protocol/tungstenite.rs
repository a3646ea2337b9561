//! tungstenite's messages, which tokio-tungstenite and async-tungstenite use.

/// Makes a unit struct that is a [`Protocol`](crate::Protocol), and a
/// [`TextProtocol`](crate::TextProtocol), for the messages of a version of
/// tungstenite that has no feature here: a new one works on its first day.
///
/// The struct takes the place of [`Rfc6455`](crate::Rfc6455), in `KeepAlive::with_protocol`,
/// `FrameSink::new` and `attach`. It is `Copy` and `Default`, and has the documentation and the attributes
/// that stand before it. The path may be that of tungstenite or of its re-export in
/// `tokio_tungstenite` and the like.
///
/// All versions from 0.20 to 0.30 have the messages that the macro expects, but for 0.25.
///
/// # Examples
///
/// ```
/// # use tungstenite_0_30 as tungstenite;
/// use futures_pinger::{Frame, MessageKind, Protocol, protocol_for_tungstenite};
///
/// protocol_for_tungstenite!(
///     /// WebSockets of tungstenite.
///     pub struct Ws = tungstenite
/// );
///
/// let ping = Ws.encode(Frame::Ping(vec![1, 2].into()));
/// assert_eq!(ping, Some(tungstenite::Message::Ping(vec![1, 2].into())));
/// let pong = tungstenite::Message::Pong(vec![1, 2].into());
/// assert_eq!(Ws.classify(&pong), MessageKind::Pong([1, 2][..].into()));
/// ```
#[macro_export]
macro_rules! protocol_for_tungstenite {
    ($(#[$attribute:meta])* $visibility:vis struct $name:ident = $($tungstenite:ident)::+ $(;)?) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
        $visibility struct $name;

        $crate::protocol_for_tungstenite!(@implement $name, $($tungstenite)::+);
    };
    (@implement $(#[$attribute:meta])* $name:ty, $($tungstenite:ident)::+) => {
        $(#[$attribute])*
        impl $crate::Protocol<$($tungstenite)::+::Message> for $name {
            // Some versions have payloads of their own types, others those of a frame.
            #[allow(clippy::useless_conversion)]
            fn encode(
                &self,
                frame: $crate::Frame,
            ) -> ::core::option::Option<$($tungstenite)::+::Message> {
                use $($tungstenite)::+::{Message, protocol::CloseFrame};

                ::core::option::Option::Some(match frame {
                    $crate::Frame::Ping(payload) => Message::Ping(payload.into()),
                    $crate::Frame::Pong(payload) => Message::Pong(payload.into()),
                    $crate::Frame::Close(reason) => {
                        Message::Close(::core::option::Option::Some(CloseFrame {
                            code: reason.code().into(),
                            reason: ::std::string::String::from(reason.reason()).into(),
                        }))
                    }
                })
            }

            #[inline]
            fn classify<'m>(
                &self,
                message: &'m $($tungstenite)::+::Message,
            ) -> $crate::MessageKind<'m> {
                use $($tungstenite)::+::Message;

                match message {
                    Message::Ping(payload) => $crate::MessageKind::Ping(payload),
                    Message::Pong(payload) => $crate::MessageKind::Pong(payload[..].into()),
                    Message::Close(_) => $crate::MessageKind::Close,
                    Message::Text(_) | Message::Binary(_) | Message::Frame(_) => {
                        $crate::MessageKind::Data
                    }
                }
            }
        }

        $(#[$attribute])*
        impl $crate::TextProtocol<$($tungstenite)::+::Message> for $name {
            fn encode_text(&self, text: ::std::string::String) -> $($tungstenite)::+::Message {
                $($tungstenite)::+::Message::text(text)
            }

            fn text<'m>(
                &self,
                message: &'m $($tungstenite)::+::Message,
            ) -> ::core::option::Option<&'m str> {
                match message {
                    $($tungstenite)::+::Message::Text(text) => ::core::option::Option::Some(text),
                    _ => ::core::option::Option::None,
                }
            }
        }
    };
}

macro_rules! with_feature {
    ($feature:literal, $tungstenite:ident) => {
        #[cfg(feature = $feature)]
        protocol_for_tungstenite!(
            @implement
            #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
            crate::Rfc6455, $tungstenite
        );
    };
}

with_feature!("tungstenite-0_24", tungstenite_0_24);
with_feature!("tungstenite-0_26", tungstenite_0_26);
with_feature!("tungstenite-0_27", tungstenite_0_27);
with_feature!("tungstenite-0_28", tungstenite_0_28);
with_feature!("tungstenite-0_29", tungstenite_0_29);
with_feature!("tungstenite-0_30", tungstenite_0_30);
