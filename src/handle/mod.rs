//! The handles of a heartbeat for other tasks. Each call is a visit to the one state of the heartbeat.

mod controller;
mod pong_sender;
mod probe;

pub use self::controller::Controller;
pub(crate) use self::pong_sender::pongs;
pub use self::pong_sender::{PongSender, Pongs};
pub use self::probe::Probe;
