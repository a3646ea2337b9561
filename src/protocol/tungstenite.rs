//! tungstenite's messages, which tokio-tungstenite and async-tungstenite use.

macro_rules! tungstenite {
    ($feature:literal, $tungstenite:ident) => {
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        impl crate::Protocol<$tungstenite::Message> for crate::Rfc6455 {
            fn encode(&self, frame: crate::Frame) -> Option<$tungstenite::Message> {
                use $tungstenite::{Message, protocol::CloseFrame};

                Some(match frame {
                    crate::Frame::Ping(payload) => Message::Ping(payload),
                    crate::Frame::Pong(payload) => Message::Pong(payload),
                    crate::Frame::Close(reason) => Message::Close(Some(CloseFrame {
                        code: reason.code().into(),
                        reason: reason.reason().into(),
                    })),
                })
            }

            #[inline]
            fn classify<'m>(&self, message: &'m $tungstenite::Message) -> crate::MessageKind<'m> {
                use $tungstenite::Message;

                match message {
                    Message::Ping(payload) => crate::MessageKind::Ping(payload),
                    Message::Pong(payload) => crate::MessageKind::Pong(payload[..].into()),
                    Message::Close(_) => crate::MessageKind::Close,
                    Message::Text(_) | Message::Binary(_) | Message::Frame(_) => {
                        crate::MessageKind::Data
                    }
                }
            }
        }

        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        impl crate::TextProtocol<$tungstenite::Message> for crate::Rfc6455 {
            fn encode_text(&self, text: String) -> $tungstenite::Message {
                $tungstenite::Message::text(text)
            }

            fn text<'m>(&self, message: &'m $tungstenite::Message) -> Option<&'m str> {
                match message {
                    $tungstenite::Message::Text(text) => Some(text.as_str()),
                    _ => None,
                }
            }
        }
    };
}

tungstenite!("tungstenite-0_26", tungstenite_0_26);
tungstenite!("tungstenite-0_27", tungstenite_0_27);
tungstenite!("tungstenite-0_28", tungstenite_0_28);
tungstenite!("tungstenite-0_29", tungstenite_0_29);
tungstenite!("tungstenite-0_30", tungstenite_0_30);
