//! Texts of JSON (RFC 8259), looked at in place: just enough for the few members of a heartbeat.
//!
//! A parser would build what nobody reads, and would be a dependency of each user. Nothing is unescaped here:
//! names and strings are compared as they are written, and numbers too. Tests hold the scanner against
//! `serde_json`.

/// Longer texts are no heartbeats, and cost no look.
pub(super) const MAX_LEN: usize = 1024;

/// The value that stands for any.
pub(super) const ID: &str = "\"$id\"";

/// Nothing that a heartbeat needs lies deeper.
const MAX_DEPTH: u8 = 16;

/// Whether `text` is JSON as a whole.
pub(super) fn is_json(text: &str) -> bool {
    let mut scanner = Scanner { text, at: 0 };
    scanner.value(MAX_DEPTH).is_some() && scanner.peek().is_none()
}

/// Whether an object or an array holds nothing.
pub(super) fn is_empty(text: &str) -> bool {
    let mut empty = true;
    each(text, |_, _| {
        empty = false;
        false
    });
    empty
}

/// The value of a member of an object; the name is given with its quotes. Where there are two the first
/// counts, which RFC 8259 §4 leaves open.
pub(super) fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut found = None;
    each(text, |other, value| {
        if other == name {
            found = Some(value);
        }
        found.is_none()
    });
    found
}

/// An element of an array, counted from 0.
fn element(text: &str, mut index: usize) -> Option<&str> {
    let mut found = None;
    each(text, |_, value| {
        match index.checked_sub(1) {
            Some(left) => index = left,
            None => found = Some(value),
        }
        found.is_none()
    });
    found
}

/// What is between the quotes of a string.
pub(super) fn string(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// Whether `text` is JSON that is like `pattern`, and what it has in the place of the id.
pub(super) fn matches<'t>(pattern: &str, text: &'t str) -> Option<Option<&'t str>> {
    if text.len() > MAX_LEN {
        return None;
    }
    let (pattern, text) = (pattern.trim(), text.trim());
    let mut id = None;
    // Most texts are found out by their first members.
    (is_like(pattern, text, &mut id) && is_json(text)).then_some(id)
}

/// Whether a value has all that `pattern` has.
fn is_like<'t>(pattern: &str, value: &'t str, id: &mut Option<&'t str>) -> bool {
    if pattern == ID {
        *id = Some(value);
        return true;
    }
    let kind = pattern.bytes().next();
    if !matches!(kind, Some(b'{' | b'[')) {
        return pattern == value;
    }
    if value.bytes().next() != kind {
        return false;
    }
    let mut like = true;
    if kind == Some(b'{') {
        each(pattern, |name, inner| {
            like = member(value, name).is_some_and(|value| is_like(inner, value, id));
            like
        });
        return like;
    }
    let mut index = 0;
    each(pattern, |_, inner| {
        like = element(value, index).is_some_and(|element| is_like(inner, element, id));
        index += 1;
        like
    });
    like && element(value, index).is_none()
}

/// Shows each member of an object with its name, or each element of an array with an empty name, until `see`
/// says that it has seen enough.
fn each<'t>(text: &'t str, mut see: impl FnMut(&'t str, &'t str) -> bool) {
    Scanner { text, at: 0 }.container(MAX_DEPTH, &mut see);
}

/// A place in a text. Each step forward ends behind what it has found, or says None where that is no JSON.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    /// The byte at this place.
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.byte()? == byte).then(|| self.at += 1)
    }

    fn value(&mut self, depth: u8) -> Option<&'t str> {
        let kind = self.peek()?;
        let start = self.at;
        match kind {
            b'"' => self.string()?,
            b'{' | b'[' => self.container(depth, &mut |_, _| true)?,
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        }
        self.text.get(start..self.at)
    }

    fn container(
        &mut self,
        depth: u8,
        see: &mut dyn FnMut(&'t str, &'t str) -> bool,
    ) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        let (is_object, end) = match self.peek()? {
            b'{' => (true, b'}'),
            b'[' => (false, b']'),
            _ => return None,
        };
        self.at += 1;
        if self.peek()? == end {
            return self.take(end);
        }
        loop {
            let mut name = "";
            if is_object {
                self.peek()?;
                let start = self.at;
                self.string()?;
                name = self.text.get(start..self.at)?;
                self.peek()?;
                self.take(b':')?;
            }
            let value = self.value(depth)?;
            if !see(name, value) {
                return None;
            }
            match self.peek()? {
                b',' => self.at += 1,
                _ => return self.take(end),
            }
        }
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let byte = self.byte()?;
            self.at += 1;
            match byte {
                b'"' => return Some(()),
                b'\\' => {
                    let escape = self.byte()?;
                    self.at += 1;
                    match escape {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            for _ in 0..4 {
                                self.byte().filter(u8::is_ascii_hexdigit)?;
                                self.at += 1;
                            }
                        }
                        _ => return None,
                    }
                }
                0..0x20 => return None,
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        rest.starts_with(word).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        self.byte().filter(u8::is_ascii_digit)?;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Some(())
    }
}
