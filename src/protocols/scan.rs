//! Reads texts of JSON (RFC 8259) in place: just enough for the few members of a heartbeat.
//!
//! A parser would build values that are not needed, and would be a dependency of each user. Nothing is
//! unescaped here: names, strings and numbers are compared as they are written. Tests compare the scanner with
//! `serde_json`.

/// The longest text that is read. Longer texts are no heartbeats.
pub(super) const MAX_LEN: usize = 1024;

/// The value of a pattern that any value matches.
pub(super) const ID: &str = "\"$id\"";

/// How deep objects and arrays may be nested. No heartbeat needs more.
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

/// The value of a member of an object; the name is given with its quotes. Of two members with that name the
/// first counts, as RFC 8259 §4 leaves that open.
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

/// The text between the quotes of a string; `None` if the value is no string.
pub(super) fn string(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// Compares a text of JSON with `pattern`. `None` if they differ; else what `text` has in the place of the id,
/// if `pattern` has one.
pub(super) fn matches<'t>(pattern: &str, text: &'t str) -> Option<Option<&'t str>> {
    if text.len() > MAX_LEN {
        return None;
    }
    let (pattern, text) = (pattern.trim(), text.trim());
    let mut id = None;
    // The first members tell most texts from the pattern, before all of the text is checked to be JSON.
    (is_like(pattern, text, &mut id) && is_json(text)).then_some(id)
}

/// Whether a value has everything that `pattern` has; puts what it has in the place of the id into `id`.
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

/// Calls `see` with the name and value of each member of an object, or with an empty name and each element of
/// an array, until `see` returns false.
fn each<'t>(text: &'t str, mut see: impl FnMut(&'t str, &'t str) -> bool) {
    Scanner { text, at: 0 }.container(MAX_DEPTH, &mut see);
}

/// A position in a text. Each method that reads something moves the position behind it, and returns `None` if
/// that is no JSON.
struct Scanner<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scanner<'t> {
    /// The byte at this position.
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips white space, and returns the byte after it.
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

    /// Reads one digit or more.
    fn digits(&mut self) -> Option<()> {
        self.byte().filter(u8::is_ascii_digit)?;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What `serde_json` says, but for numbers that its own kinds of numbers cannot hold.
    fn is_json_elsewhere(text: &str) -> Option<bool> {
        match serde_json::from_str::<Value>(text) {
            Ok(_) => Some(true),
            Err(error) if error.to_string().contains("number out of range") => None,
            Err(_) => Some(false),
        }
    }

    /// Names and strings that need no escape: in others nothing is looked for.
    fn plain() -> impl Strategy<Value = String> {
        "[a-d$/é ]{0,3}"
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<i32>().prop_map(|number| Value::from(f64::from(number) / 4.0)),
            plain().prop_map(Value::from),
            // With quotes, backslashes, control characters and the like in it.
            ".{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((plain(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The text of a value with white space wherever it may be, and members in this order or the other.
    fn write(value: &Value, space: &str, reverse: bool) -> String {
        let between = format!("{space},{space}");
        match value {
            Value::Array(elements) => {
                let elements: Vec<_> = elements
                    .iter()
                    .map(|it| write(it, space, reverse))
                    .collect();
                format!("[{space}{}{space}]", elements.join(&between))
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members
                    .iter()
                    .map(|(name, value)| {
                        let name = Value::from(name.as_str());
                        format!("{name}{space}:{space}{}", write(value, space, reverse))
                    })
                    .collect();
                if reverse {
                    members.reverse();
                }
                format!("{{{space}{}{space}}}", members.join(&between))
            }
            other => other.to_string(),
        }
    }

    /// The same rule as in [`is_like`], by a parser.
    fn is_like_elsewhere(pattern: &Value, value: &Value) -> bool {
        match (pattern, value) {
            (Value::Object(pattern), Value::Object(value)) => {
                pattern.iter().all(|(name, pattern)| {
                    value
                        .get(name)
                        .is_some_and(|it| is_like_elsewhere(pattern, it))
                })
            }
            (Value::Array(pattern), Value::Array(value)) => {
                let both = || pattern.iter().zip(value);
                pattern.len() == value.len()
                    && both().all(|(pattern, it)| is_like_elsewhere(pattern, it))
            }
            (Value::String(pattern), _) if pattern == "$id" => true,
            (pattern, value) => pattern == value,
        }
    }

    /// Leaves out some of what a value has, and puts the id in place of something.
    fn reduce(value: &Value, choices: &mut impl Iterator<Item = u8>) -> Value {
        let choice = choices.next().unwrap_or(1);
        match value {
            _ if choice == 0 => Value::from("$id"),
            Value::Object(members) => members
                .iter()
                .filter_map(|(name, value)| {
                    let kept = choices.next().unwrap_or(1) > 3;
                    kept.then(|| (name.clone(), reduce(value, choices)))
                })
                .collect(),
            Value::Array(elements) => elements.iter().map(|it| reduce(it, choices)).collect(),
            other if choice == 1 => Value::from(format!("not {other}")),
            other => other.clone(),
        }
    }

    proptest! {
        // contract: P103
        #[test]
        fn a_text_is_json_where_a_parser_says_so(text in r#"[\[\]{}",:\\untrfalse01.eE+\- \n\t\x00é]{0,12}"#) {
            if let Some(expected) = is_json_elsewhere(&text) {
                prop_assert_eq!(is_json(&text), expected);
            }
        }

        // contract: P103
        #[test]
        fn one_character_more_or_less_is_seen_as_a_parser_sees_it(
            value in value(),
            at in any::<prop::sample::Index>(),
            replaced in prop::option::of(r#"[\[\]{}",:\\u019.eE+\- \x01é]"#),
        ) {
            let text = write(&value, " ", false);
            prop_assert!(is_json(&text));
            let (index, char) = text.char_indices().nth(at.index(text.chars().count())).expect("one of them");
            let (before, after) = text.split_at(index);
            for rest in [after, &after[char.len_utf8()..]] {
                let text = format!("{before}{}{rest}", replaced.as_deref().unwrap_or_default());
                if let Some(expected) = is_json_elsewhere(&text) {
                    prop_assert_eq!(is_json(&text), expected, "{}", text);
                }
            }
        }

        // contract: P103
        #[test]
        fn members_and_elements_are_found_in_any_order_and_form(
            value in value(),
            space in "[ \t\r\n]{0,2}",
            reverse: bool,
        ) {
            let text = write(&value, &space, reverse);
            let parsed = |text: Option<&str>| text.map(|text| serde_json::from_str::<Value>(text).expect(text));
            match &value {
                Value::Object(members) => {
                    for (name, value) in members {
                        let found = member(&text, &Value::from(name.as_str()).to_string());
                        prop_assert_eq!(parsed(found), Some(value.clone()));
                    }
                    prop_assert_eq!(member(&text, "\"not there\""), None);
                    prop_assert_eq!(element(&text, members.len()), None);
                }
                Value::Array(elements) => {
                    for (index, value) in elements.iter().enumerate() {
                        prop_assert_eq!(parsed(element(&text, index)), Some(value.clone()));
                    }
                    prop_assert_eq!(element(&text, elements.len()), None);
                    prop_assert_eq!(member(&text, "\"a\""), None);
                }
                _ => prop_assert_eq!((member(&text, "\"a\""), element(&text, 0)), (None, None)),
            }
        }

        // contract: P103
        #[test]
        fn a_text_is_like_a_pattern_where_a_parser_finds_all_of_the_pattern_in_it(
            (value, other) in (value(), value()),
            choices in prop::collection::vec(0..32_u8, 0..32),
            (space, reverse) in ("[ \n]{0,2}", any::<bool>()),
        ) {
            let mut choices = choices.into_iter();
            let text = write(&value, &space, reverse);
            prop_assume!(text.len() <= MAX_LEN);
            for pattern in [reduce(&value, &mut choices), reduce(&other, &mut choices), other] {
                let expected = is_like_elsewhere(&pattern, &value);
                let pattern = pattern.to_string();
                prop_assert_eq!(matches(&pattern, &text).is_some(), expected, "{} in {}", pattern, text);
            }
        }

        // contract: P103
        #[test]
        fn no_text_is_too_odd(pattern in ".{0,20}", text in ".{0,20}") {
            let _ = (is_json(&text), is_empty(&text), string(&text), matches(&pattern, &text));
            let _ = (member(&text, &pattern), element(&text, 3));
        }
    }

    // contract: P103
    #[test]
    fn each_rule_of_json_is_kept() {
        let texts = [
            "0",
            "-0",
            "10",
            "1.5",
            "-1.25e+3",
            "1E9",
            "1e-9",
            "\"\"",
            "\"é\"",
            "\" \u{7f}\"",
            "null",
            "true",
            "false",
            "\t[\r\n1 , 2 ] ",
            "{ \"a\" : [ ] , \"a\" : { } }",
            r#""\"\\\/\b\f\n\r\t""#,
            r#""\u00e9\uFFff""#,
            "",
            " ",
            "00",
            "01",
            "-",
            "-01",
            "+1",
            ".5",
            "1.",
            "1.e1",
            "1e",
            "1e+",
            "0x1",
            "1 2",
            "nul",
            "nullx",
            "True",
            "\"",
            "\"\u{1}\"",
            "\"\u{1f}\"",
            "\"\n\"",
            r#""\x""#,
            r#""\u12""#,
            r#""\u123g""#,
            r#""\""#,
            "'a'",
            "a",
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1}",
            "{",
            "}",
            "{1}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{\"a\" 1}",
            "{\"a\":1 \"b\":2}",
            "{a:1}",
            "{\"a\":1]",
            "\u{a0}1",
            "\u{c}1",
            "/**/1",
            "[1]]",
        ];
        for text in texts {
            assert_eq!(Some(is_json(text)), is_json_elsewhere(text), "{text:?}");
        }
    }

    // contract: P103
    #[test]
    fn what_a_heartbeat_never_is_costs_no_long_look() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_json(&nested(16)) && !is_json(&nested(17)) && !is_json(&nested(100_000)));

        let long = |len: usize| format!("{{\"a\":1,\"b\":\"{}\"}}", "x".repeat(len - 14));
        let pattern = r#"{"a":1}"#;
        assert_eq!(long(MAX_LEN).len(), MAX_LEN);
        assert_eq!(matches(pattern, &long(MAX_LEN)), Some(None));
        assert_eq!(matches(pattern, &long(MAX_LEN + 1)), None);
    }

    // contract: P103
    #[test]
    fn what_is_like_a_pattern_and_then_no_json_is_no_match() {
        let pattern = r#"{"type":"pong"}"#;
        assert_eq!(matches(pattern, r#"{"type":"pong"}"#), Some(None));
        for tail in [
            "",
            ",",
            ",}",
            ",\"a\"}",
            ",\"a\":}",
            ",\"a\":[}",
            "}}",
            "} x",
            "},",
        ] {
            let text = format!("{{\"type\":\"pong\"{tail}");
            assert_eq!(matches(pattern, &text), None, "{text}");
        }
    }
}
