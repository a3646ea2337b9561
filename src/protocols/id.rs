//! The payload of a ping as an id in a text.

use crate::error::InvalidConfig;
use crate::protocol::MessageKind;

/// The placeholder of the id in the texts of a preset.
pub(super) const PLACE: &str = "$id";

/// The digits of the longest payload of a ping, which has 125 bytes (RFC 6455 §5.5).
const MAX_DIGITS: usize = 2 * 125;

/// Checks both texts, and that the ping has an id if the pong has one. `check` checks one text, and returns
/// whether it has an id.
pub(super) fn check(
    ping: &str,
    pong: &str,
    check: fn(&'static str, &str) -> Result<bool, InvalidConfig>,
) -> Result<(), InvalidConfig> {
    let ping_has_id = check("ping", ping)?;
    if check("pong", pong)? && !ping_has_id {
        let rule = "must not have $id where the ping has none";
        return Err(InvalidConfig::new("pong", pong, rule));
    }
    Ok(())
}

/// The id of a payload: its bytes as hexadecimal digits.
pub(super) fn of(payload: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut id = String::with_capacity(2 * payload.len());
    for byte in payload {
        id.push(char::from(DIGITS[usize::from(byte >> 4)]));
        id.push(char::from(DIGITS[usize::from(byte & 0xf)]));
    }
    id
}

/// The pong that brings `id` back. An id that is not ours becomes a payload that no ping of ours has.
pub(super) fn pong(id: &str) -> MessageKind<'_> {
    match payload(id) {
        Some(payload) => MessageKind::Pong(payload.into()),
        None => MessageKind::Pong(id.as_bytes().into()),
    }
}

fn payload(id: &str) -> Option<Vec<u8>> {
    let digits = id.as_bytes();
    if digits.len() % 2 != 0 || digits.len() > MAX_DIGITS {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = digits.chunks_exact(2).map(|pair| {
        let byte = 16 * digit(pair[0])? + digit(pair[1])?;
        u8::try_from(byte).ok()
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_payload_comes_back_and_nothing_else_is_one() {
        for byte in 0..=u8::MAX {
            let bytes = [byte, byte.wrapping_add(7), 0];
            assert_eq!(payload(&of(&bytes)).as_deref(), Some(&bytes[..]));
        }
        assert_eq!(of(&[0, 0x0f, 0xa0]), "000fa0");
        for text in ["0", "000", "0g", "g0", "+1", "é", "0x00", " 00"] {
            assert_eq!(payload(text), None, "{text}");
            assert_eq!(pong(text), MessageKind::Pong(text.as_bytes().into()));
        }
        assert!(payload(&"0".repeat(250)).is_some());
        assert_eq!(payload(&"0".repeat(252)), None);
    }
}
