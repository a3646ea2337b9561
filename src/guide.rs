//! A guide for those who run heartbeats: what to choose, how to read what comes back, what it
//! proves, and how to come here from other libraries.
//!
//! | Chapter | Answers |
//! |---|---|
//! | [`choosing`] | Which interval, which timeout, how many misses? What do proxies, phones and lossy links ask for? |
//! | [`above`] | What if the peer pings in messages of its own? A wish, and the lines it takes. |
//! | [`statistics`] | What does this log line, this counter mean, and what is to be done? How does it get into Prometheus? |
//! | [`verdict`] | What is known when a heartbeat says that the peer is alive, or gone? |
//! | [`migrating`] | What was this option called in ktor, Python, Node, OkHttp, .NET, and what behaves differently? |
//!
//! The chapters are prose alone: they add nothing to a build. Each figure that comes from elsewhere
//! names the document that it was read in; vendors change theirs.

#[doc = include_str!("guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("guide/above.md")]
pub mod above {}

#[doc = include_str!("guide/statistics.md")]
pub mod statistics {}

#[doc = include_str!("guide/verdict.md")]
pub mod verdict {}

#[doc = include_str!("guide/migrating.md")]
pub mod migrating {}
