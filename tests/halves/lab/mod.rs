//! Random scripts over both halves of a `KeepAlive`, in virtual time.
//!
//! A [`Script`] is decoded from any bytes: what a fuzzer makes, and what [`random`] makes from a seed.
//! [`run`] takes a `KeepAlive` through it: a reader and a writer, which are polled only when they were
//! woken, over a socket in memory whose peer answers, falls silent, takes nothing, floods, closes or fails
//! as the script says. It panics where a promise is broken.
//!
//! | File | What is in it |
//! |---|---|
//! | `script` | the language of the scripts, and how bytes are read as one |
//! | `link` | the socket, and in `link/peer` the peer behind it |
//! | `app` | the reader and the writer |
//! | `run` | the steps, one after the other |
//! | `oracle` | the promises |
//! | `shrink` | a smaller script that fails as well |

mod app;
mod link;
mod oracle;
mod run;
mod script;
mod shrink;

pub use self::oracle::Report;
pub use self::run::run;
pub use self::script::{Script, random};
pub use self::shrink::shrink;
