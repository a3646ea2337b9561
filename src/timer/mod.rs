//! Time: the one place of the crate that reads a clock, and one file for each backend.
//!
//! | Timer | feature | for |
//! |---|---|---|
//! | [`FuturesTimer`] | – | any executor, or none: a helper thread keeps the time. The default |
//! | [`TokioTimer`] | `tokio` | tokio; follows `tokio::time::pause` |
//! | [`AsyncIoTimer`] | `async-io` | smol, async-std, and all that run on async-io's reactor |
//! | [`from_fn`] | – | any function that sleeps: `FnMut(Duration) -> impl Future` |
//!
//! [`FuturesTimer`] and [`from_fn`] work in browsers and Node too, with the feature `wasm`;
//! [`TokioTimer`] is not there on that target, as tokio has no clock on it.
//!
//! With the feature `suspend`, on Linux and Android, the first three tell how long the machine was
//! [asleep](Timer::asleep).
//!
//! Each timer is armed when it is first needed, so a heartbeat may be built outside of the runtime in
//! which it is polled.

mod alarm;
#[cfg(feature = "async-io")]
mod async_io;
mod bell;
mod from_fn;
mod futures_timer;
mod interface;
mod suspend;
mod time_line;
#[cfg(all(
    feature = "tokio",
    not(all(target_family = "wasm", target_os = "unknown"))
))]
mod tokio;

pub(crate) use self::alarm::Alarm;
#[cfg(feature = "async-io")]
#[cfg_attr(docsrs, doc(cfg(feature = "async-io")))]
pub use self::async_io::AsyncIoTimer;
pub(crate) use self::bell::{Bell, wake};
pub use self::from_fn::{FnTimer, from_fn};
pub use self::futures_timer::FuturesTimer;
pub use self::interface::{Clock, Timer};
#[cfg(all(
    feature = "tokio",
    not(all(target_family = "wasm", target_os = "unknown"))
))]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use self::tokio::TokioTimer;
pub use crate::time::Instant;
