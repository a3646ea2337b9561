//! warp's messages, which are no enum: their kind is asked for by methods.

macro_rules! warp {
    ($feature:literal, $warp:ident) => {
        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        impl crate::Protocol<$warp::ws::Message> for crate::Rfc6455 {
            fn encode(&self, frame: crate::Frame) -> Option<$warp::ws::Message> {
                use $warp::ws::Message;

                Some(match frame {
                    crate::Frame::Ping(payload) => Message::ping(payload),
                    crate::Frame::Pong(payload) => Message::pong(payload),
                    crate::Frame::Close(reason) => {
                        Message::close_with(reason.code(), reason.reason().to_owned())
                    }
                })
            }

            #[inline]
            fn classify<'m>(&self, message: &'m $warp::ws::Message) -> crate::MessageKind<'m> {
                if message.is_pong() {
                    crate::MessageKind::Pong(message.as_bytes().into())
                } else if message.is_ping() {
                    crate::MessageKind::Ping(message.as_bytes())
                } else if message.is_close() {
                    crate::MessageKind::Close
                } else {
                    crate::MessageKind::Data
                }
            }
        }

        #[cfg(feature = $feature)]
        #[cfg_attr(docsrs, doc(cfg(feature = $feature)))]
        impl crate::TextProtocol<$warp::ws::Message> for crate::Rfc6455 {
            fn encode_text(&self, text: String) -> $warp::ws::Message {
                $warp::ws::Message::text(text)
            }

            fn text<'m>(&self, message: &'m $warp::ws::Message) -> Option<&'m str> {
                message.to_str().ok()
            }
        }
    };
}

warp!("warp-0_3", warp_0_3);
warp!("warp-0_4", warp_0_4);
