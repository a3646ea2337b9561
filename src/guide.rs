//! A guide for people who run heartbeats: what to choose, how a connection works and ends, how to read what
//! a heartbeat reports, and how to migrate from other libraries.
//!
//! | Chapter | Answers |
//! |---|---|
//! | [`choosing`] | Which interval, which timeout, how many misses? What do proxies, phones and lossy links ask for? |
//! | [`working`] | How does the heartbeat go on while a handler works? |
//! | [`closing`] | How does a connection end in order, and what becomes of what is queued? |
//! | [`reconnecting`] | When does a client connect again, and what does it do first? |
//! | [`suspend`] | What happens when a laptop, a phone or a virtual machine sleeps? |
//! | [`above`] | What if the peer pings in messages of its own? Which lines does each wish take? |
//! | [`statistics`] | What does this log line, this counter mean, and what is to be done? How does it get into Prometheus? |
//! | [`tracing`] | Which events does a heartbeat emit for the subscribers of the `tracing` crate? |
//! | [`verdict`] | What is known when a heartbeat says that the peer is alive, or gone? |
//! | [`wasm`] | How does it work in browsers and Node? |
//! | [`migrating`] | What was this option called in ktor, Python, Node, OkHttp, .NET, and what behaves differently? |
//!
//! The chapters are prose alone: they add nothing to a build. Each figure that comes from elsewhere
//! names the document that it was read in, as vendors change their figures.

#[doc = include_str!("guide/choosing.md")]
pub mod choosing {}

#[doc = include_str!("guide/working.md")]
pub mod working {}

#[doc = include_str!("guide/closing.md")]
pub mod closing {}

#[doc = include_str!("guide/reconnecting.md")]
pub mod reconnecting {}

#[doc = include_str!("guide/suspend.md")]
pub mod suspend {}

#[doc = include_str!("guide/above.md")]
pub mod above {}

#[doc = include_str!("guide/statistics.md")]
pub mod statistics {}

#[doc = include_str!("guide/tracing.md")]
pub mod tracing {}

#[doc = include_str!("guide/verdict.md")]
pub mod verdict {}

#[doc = include_str!("guide/wasm.md")]
pub mod wasm {}

#[doc = include_str!("guide/migrating.md")]
pub mod migrating {}
