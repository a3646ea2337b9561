//! A WebSocket heartbeat for any `Sink` and `Stream`, on any executor.
