//! The handles that others hold of a heartbeat. Each call is a visit to its one state.

mod controller;
mod pong_sender;
mod probe;

pub use self::controller::Controller;
pub(crate) use self::pong_sender::pongs;
pub use self::pong_sender::{PongSender, Pongs};
pub use self::probe::Probe;
