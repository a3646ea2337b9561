//! WebSocket control frames as plain data (RFC 6455 §5.5).

use std::borrow::Cow;

use bytes::Bytes;

use crate::error::InvalidCloseReason;

/// A control frame that a heartbeat sends: RFC 6455 has these three and no others.
///
/// What this crate emits is always valid: payloads are at most 125 bytes long (§5.5), close codes
/// are ones an endpoint may send (§7.4).
///
/// # Examples
///
/// ```
/// use futures_pinger::{CloseReason, Frame};
///
/// // How a frame becomes a message of the WebSocket crate at hand:
/// let text = |frame: Frame| match frame {
///     Frame::Ping(payload) => format!("ping, {} bytes", payload.len()),
///     Frame::Pong(payload) => format!("pong, {} bytes", payload.len()),
///     Frame::Close(reason) => format!("close {} {:?}", reason.code(), reason.reason()),
/// };
/// assert_eq!(text(Frame::Close(CloseReason::ping_timeout())), r#"close 1011 "Ping timeout""#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Frame {
    /// A ping; the peer must answer with a pong of the same payload (RFC 6455 §5.5.2).
    Ping(Bytes),
    /// The answer to a ping (RFC 6455 §5.5.3).
    Pong(Bytes),
    /// The close frame; nothing may follow it (RFC 6455 §5.5.1).
    Close(CloseReason),
}

macro_rules! payload {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
        pub struct $name(pub Bytes);

        impl From<Bytes> for $name {
            fn from(payload: Bytes) -> Self {
                Self(payload)
            }
        }

        impl From<Vec<u8>> for $name {
            fn from(payload: Vec<u8>) -> Self {
                Self(payload.into())
            }
        }

        impl From<&'static [u8]> for $name {
            fn from(payload: &'static [u8]) -> Self {
                Self(payload.into())
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
    };
}

payload! {
    /// A ping that the peer sent: what goes into a [`PingSender`](crate::PingSender).
    ///
    /// It may be of any length, as the peer may send anything.
    ///
    /// # Examples
    ///
    /// ```
    /// let ping = futures_pinger::Ping::from(vec![1, 2, 3]);
    /// assert_eq!(ping.as_ref(), [1, 2, 3]);
    /// ```
    Ping
}

payload! {
    /// A pong that the peer sent: what a [`Pinger`](crate::Pinger) reads from its stream.
    ///
    /// It may be of any length, as the peer may send anything; what does not answer a ping is
    /// counted and dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// let pong = futures_pinger::Pong::from(vec![1, 2, 3]);
    /// assert_eq!(pong.as_ref(), [1, 2, 3]);
    /// ```
    Pong
}

/// The code and the reason of a close frame, checked to be ones that an endpoint may send.
///
/// # Examples
///
/// ```
/// use futures_pinger::CloseReason;
///
/// let reason = CloseReason::new(4000, "the heart stopped")?;
/// assert_eq!((reason.code(), reason.reason()), (4000, "the heart stopped"));
///
/// // 1006 stands for a connection lost without a close frame; no frame may carry it.
/// let refused = CloseReason::new(1006, "").unwrap_err();
/// assert_eq!(refused.to_string(), "close code 1006 must not be sent in a close frame");
/// # Ok::<(), futures_pinger::InvalidCloseReason>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CloseReason {
    code: u16,
    reason: Cow<'static, str>,
}

impl CloseReason {
    /// The longest reason in bytes: the 125 of a control frame less the two of the code (RFC 6455 §5.5).
    pub const MAX_REASON_LEN: usize = 123;

    /// Checks `code` and `reason`.
    ///
    /// # Errors
    ///
    /// [`InvalidCloseReason`] for codes that RFC 6455 §7.4 keeps from the wire or leaves
    /// undefined (below 1000, 1004, 1005, 1006, 1015, 1016 to 2999, above 4999), and for a reason
    /// of more than [123 bytes](Self::MAX_REASON_LEN).
    pub fn new(code: u16, reason: impl Into<String>) -> Result<Self, InvalidCloseReason> {
        let reason = reason.into();
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
            return Err(InvalidCloseReason::Code(code));
        }
        if reason.len() > Self::MAX_REASON_LEN {
            return Err(InvalidCloseReason::ReasonLength(reason.len()));
        }
        Ok(Self {
            code,
            reason: Cow::Owned(reason),
        })
    }

    /// 1011 "Ping timeout": what a heartbeat sends by default when the peer is gone.
    #[must_use]
    pub const fn ping_timeout() -> Self {
        Self {
            code: 1011,
            reason: Cow::Borrowed("Ping timeout"),
        }
    }

    /// The close code (RFC 6455 §7.4).
    #[must_use]
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The reason, at most 123 bytes of UTF-8.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // contract: E33
    #[test]
    fn only_codes_and_reasons_that_may_be_sent_are_accepted() {
        let accepted = |code| CloseReason::new(code, "").is_ok();
        for code in 0..=u16::MAX {
            let sendable = match code {
                0..=999 | 1004..=1006 | 1015..=2999 | 5000.. => false,
                1000..=1003 | 1007..=1014 | 3000..=4999 => true,
            };
            assert_eq!(accepted(code), sendable, "{code}");
        }
        assert!(CloseReason::new(1000, "r".repeat(123)).is_ok());
        assert_eq!(
            CloseReason::new(1000, "r".repeat(124)),
            Err(InvalidCloseReason::ReasonLength(124))
        );
        // Bytes count, not characters.
        assert_eq!(
            CloseReason::new(1000, "é".repeat(62)),
            Err(InvalidCloseReason::ReasonLength(124))
        );
    }

    #[test]
    fn the_default_reason_would_pass_its_own_check() {
        let default = CloseReason::ping_timeout();
        assert_eq!(
            CloseReason::new(default.code(), default.reason()),
            Ok(default)
        );
    }
}
