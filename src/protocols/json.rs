//! Heartbeats in JSON, which are recognised by the members that the manual of the server lists.

use super::beats::{Beats, preset};
use super::id;
use super::scan::{self, ID};
use crate::error::InvalidConfig;
use crate::protocol::{MessageKind, Rfc6455};

/// A heartbeat in JSON: a ping and its pong as they stand in the manual of the server.
///
/// An object is a pong if it has all members of the one given here, with the same values. Their order,
/// white space and further members do not matter. Elements of an array are compared one by one, and there
/// must be as many of them. Strings and numbers are compared as they are written, an escape in a string
/// included. A text of more than 1 KiB is data, and is not looked at.
///
/// Where the ping and the pong have the value `"$id"`, the payload of the ping goes there as a string of
/// hexadecimal digits, 32 of them for the payloads that a heartbeat draws. The id proves the pong, so that a
/// replayed pong is refused. Without an id a pong is a [`MessageKind::Answer`].
///
/// The peer may ping in the same way. Whatever value it has in the place of `"$id"`,
/// [`pong_for`](crate::Protocol::pong_for) sends it back.
///
/// # Examples
///
/// ```
/// use futures_pinger::protocols::Json;
/// use futures_pinger::{Frame, MessageKind, Protocol};
/// use tungstenite_0_30::Message;
///
/// let proven = Json::new(r#"{"type":"ping","id":"$id"}"#, r#"{"type":"pong","id":"$id"}"#)?;
/// let ping = proven.encode(Frame::Ping(vec![1, 0xff].into()));
/// assert_eq!(ping, Some(Message::text(r#"{"type":"ping","id":"01ff"}"#)));
/// let pong = Message::text(r#"{ "id": "01ff", "at": 1700000000, "type": "pong" }"#);
/// assert_eq!(proven.classify(&pong), MessageKind::Pong(vec![1, 0xff].into()));
///
/// let trusted = Json::new(r#"{"op":"ping"}"#, r#"{"ret_msg":"pong"}"#)?;
/// let pong = Message::text(r#"{"success":true,"ret_msg":"pong","op":"ping"}"#);
/// assert_eq!(trusted.classify(&pong), MessageKind::Answer);
/// # Ok::<(), futures_pinger::InvalidConfig>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<P = Rfc6455> {
    ping: String,
    pong: String,
    below: P,
}

impl Json {
    /// A heartbeat of these pings and pongs.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`], with the option `ping` or `pong`, for a text that is no object or array of JSON, has
    /// no member, is longer than 1 KiB, or has `"$id"` twice or as a name; and for a pong with `"$id"` whose
    /// ping has none, which could never be proven.
    ///
    /// # Examples
    ///
    /// ```
    /// use futures_pinger::protocols::Json;
    ///
    /// let error = Json::new(r#"{"op":"ping"}"#, "{}").unwrap_err();
    /// assert_eq!(error.to_string(), "invalid pong {}: must have a member, so that it is recognised");
    /// ```
    pub fn new(ping: impl Into<String>, pong: impl Into<String>) -> Result<Self, InvalidConfig> {
        let (ping, pong) = (ping.into(), pong.into());
        id::check(&ping, &pong, check)?;
        Ok(Self {
            ping,
            pong,
            below: Rfc6455,
        })
    }
}

/// Checks a text, and returns whether it has an id.
fn check(option: &'static str, text: &str) -> Result<bool, InvalidConfig> {
    let refuse = |rule| Err(InvalidConfig::new(option, text, rule));
    if text.len() > scan::MAX_LEN {
        return refuse("must not be longer than 1 KiB");
    }
    if !text.trim_start().starts_with(['{', '[']) || !scan::is_json(text) {
        return refuse("must be an object or an array of JSON");
    }
    if scan::is_empty(text) {
        return refuse("must have a member, so that it is recognised");
    }
    let has_id = scan::matches(text, text).flatten().is_some();
    if text.matches(ID).count() != usize::from(has_id) {
        return refuse("must have $id at most once, as a whole value");
    }
    Ok(has_id)
}

/// The text of `template` with `raw`, a value of JSON, in the place of the id.
pub(super) fn fill(template: &str, raw: &str) -> String {
    template.replacen(ID, raw, 1)
}

/// The text of a ping with the id of `payload`.
pub(super) fn ping(template: &str, payload: &[u8]) -> String {
    fill(template, &format!("\"{}\"", id::of(payload)))
}

/// The text of the pong for a payload that [`kind`] has found in a ping of the peer, which is a value of JSON
/// and goes back as it came. Any other payload is written as our own are.
pub(super) fn pong(template: &str, payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(raw) if scan::is_json(raw) => fill(template, raw),
        _ => ping(template, payload),
    }
}

/// What `text` means to a heartbeat with this ping and this pong.
pub(super) fn kind<'t>(ping: &str, pong: &str, text: &'t str) -> MessageKind<'t> {
    if let Some(id) = scan::matches(pong, text) {
        return id.map_or(MessageKind::Answer, |raw| match scan::string(raw) {
            Some(id) => id::pong(id),
            // Our ids are strings. Any other value, such as a number, becomes a payload that no ping of ours
            // has.
            None => MessageKind::Pong(raw.as_bytes().into()),
        });
    }
    match scan::matches(ping, text) {
        Some(id) => MessageKind::Ping(id.unwrap_or_default().as_bytes()),
        None => MessageKind::Data,
    }
}

impl<P> Beats for Json<P> {
    fn ping(&self, payload: &[u8]) -> String {
        ping(&self.ping, payload)
    }

    fn pong(&self, payload: &[u8]) -> Option<String> {
        Some(pong(&self.pong, payload))
    }

    fn kind<'t>(&self, text: &'t str) -> MessageKind<'t> {
        kind(&self.ping, &self.pong, text)
    }
}

preset!(Json { ping, pong });
