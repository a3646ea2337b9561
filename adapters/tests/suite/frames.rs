//! The messages alone, without a socket.

use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::protocol::Role;
use futures::executor::block_on;
use futures::io::Cursor;
use futures_pinger::protocols::EngineIo;
use futures_pinger::{
    AsyncIoTimer, CloseReason, Config, Frame, FuturesTimer, KeepAlive, MessageKind, Protocol,
    Rfc6455, TextProtocol, TokioTimer, from_fn,
};
use futures_timer::Delay;

use crate::Message;

fn control_frames_keep_their_meaning<M: Message>()
where
    Rfc6455: TextProtocol<M>,
{
    let payload = b"payload".as_slice();
    let ping = Rfc6455.encode(Frame::Ping(payload.into())).unwrap();
    assert_eq!(Rfc6455.classify(&ping), MessageKind::Ping(payload));
    let pong = Rfc6455.encode(Frame::Pong(payload.into())).unwrap();
    assert_eq!(Rfc6455.classify(&pong), MessageKind::Pong(payload.into()));
    for code in [1000, 1011, 3000, 4999] {
        let reason = CloseReason::new(code, "reason").unwrap();
        let close = Rfc6455.encode(Frame::Close(reason)).unwrap();
        assert_eq!(Rfc6455.classify(&close), MessageKind::Close);
        assert_eq!(close.close_code(), Some(code));
    }
    let text = Rfc6455.encode_text("ping".into());
    assert_eq!(Rfc6455.classify(&text), MessageKind::Data);
    assert_eq!(Rfc6455.text(&text), Some("ping"));
    assert_eq!(Rfc6455.text(&ping), None);
}

fn a_heartbeat_in_text_is_understood<M: Message>()
where
    Rfc6455: TextProtocol<M>,
{
    let preset = EngineIo::new();
    let beat: M = preset.encode(Frame::Ping(vec![1].into())).unwrap();
    assert_eq!(Rfc6455.text(&beat), Some("2"));
    assert_eq!(preset.classify(&beat), MessageKind::Ping(&[]));
    assert_eq!(preset.classify(&M::text("3".into())), MessageKind::Answer);
    let frame = Rfc6455.encode(Frame::Ping("2".into())).unwrap();
    assert_eq!(Rfc6455.text(&frame), None);
    assert_eq!(preset.classify(&frame), MessageKind::PingBelow);
    let frame = Rfc6455.encode(Frame::Pong("3".into())).unwrap();
    assert_eq!(preset.classify(&frame), MessageKind::PongBelow);
}

// contract: K72
#[test]
fn one_protocol_serves_the_messages_of_all_crates_at_once() {
    control_frames_keep_their_meaning::<tokio_tungstenite_0_24::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_26::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_27::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_28::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_29::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_tungstenite_0_30::tungstenite::Message>();
    control_frames_keep_their_meaning::<tokio_websockets_0_13::Message>();
    control_frames_keep_their_meaning::<axum_0_8::extract::ws::Message>();
    control_frames_keep_their_meaning::<warp_0_3::ws::Message>();
    control_frames_keep_their_meaning::<warp_0_4::ws::Message>();
    control_frames_keep_their_meaning::<poem_3::web::websocket::Message>();
    control_frames_keep_their_meaning::<reqwest_websocket_0_6::Message>();
    control_frames_keep_their_meaning::<actix_ws_0_4::Message>();
    control_frames_keep_their_meaning::<actix_ws_0_4::AggregatedMessage>();
}

// contract: P102
#[test]
fn a_preset_is_understood_in_the_text_of_all_crates() {
    a_heartbeat_in_text_is_understood::<tokio_tungstenite_0_24::tungstenite::Message>();
    a_heartbeat_in_text_is_understood::<tokio_tungstenite_0_26::tungstenite::Message>();
    a_heartbeat_in_text_is_understood::<tokio_tungstenite_0_27::tungstenite::Message>();
    a_heartbeat_in_text_is_understood::<tokio_tungstenite_0_28::tungstenite::Message>();
    a_heartbeat_in_text_is_understood::<tokio_tungstenite_0_29::tungstenite::Message>();
    a_heartbeat_in_text_is_understood::<tokio_tungstenite_0_30::tungstenite::Message>();
    a_heartbeat_in_text_is_understood::<tokio_websockets_0_13::Message>();
    a_heartbeat_in_text_is_understood::<axum_0_8::extract::ws::Message>();
    a_heartbeat_in_text_is_understood::<warp_0_3::ws::Message>();
    a_heartbeat_in_text_is_understood::<warp_0_4::ws::Message>();
    a_heartbeat_in_text_is_understood::<poem_3::web::websocket::Message>();
    a_heartbeat_in_text_is_understood::<reqwest_websocket_0_6::Message>();
    a_heartbeat_in_text_is_understood::<actix_ws_0_4::Message>();
    a_heartbeat_in_text_is_understood::<actix_ws_0_4::AggregatedMessage>();
}

#[test]
fn it_is_send_with_every_timer_where_the_socket_is() {
    fn is_send<T: Send>(_: &T) {}
    let socket = || {
        let socket = WebSocketStream::from_raw_socket(Cursor::new(Vec::new()), Role::Client, None);
        let socket = block_on(socket);
        is_send(&socket);
        KeepAlive::new(socket, Config::default())
    };
    // That it compiles is the test. None of them needs its runtime before it is polled.
    is_send(&socket());
    is_send(&socket().with_timer(FuturesTimer::new()));
    is_send(&socket().with_timer(TokioTimer::new()));
    is_send(&socket().with_timer(AsyncIoTimer::new()));
    is_send(&socket().with_timer(from_fn(tokio::time::sleep)));
    is_send(&socket().with_timer(from_fn(smol::Timer::after)));
    is_send(&socket().with_timer(from_fn(async_std::task::sleep)));
    is_send(&socket().with_timer(from_fn(Delay::new)));
}
