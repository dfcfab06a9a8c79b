//! [`Object`]: writes a JSON object member by member.
//!
//! It is used for the claims and the answer of each token; all other JSON uses serde. It is faster because it searches
//! for characters to escape in many bytes at once, and such characters are rare.

use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Debug)]
pub(super) struct Object(String);

impl Object {
    /// Creates an object with a capacity in bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut json = String::with_capacity(bytes);
        json.push('{');
        Self(json)
    }

    pub(super) fn string(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.name(name);
        self.text(value);
        self
    }

    /// Writes a string whose alphabet needs no escaping, such as base64url.
    pub(super) fn plain(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.name(name);
        self.0.extend(["\"", value, "\""]);
        self
    }

    pub(super) fn number(&mut self, name: &'static str, value: u64) -> &mut Self {
        self.name(name);
        self.decimal(value);
        self
    }

    /// Writes a list of strings.
    pub(super) fn strings<'a>(&mut self, name: &'static str, values: impl Iterator<Item = &'a str>) -> &mut Self {
        self.name(name);
        self.0.push('[');
        for (place, value) in values.enumerate() {
            if place > 0 {
                self.0.push(',');
            }
            self.text(value);
        }
        self.0.push(']');
        self
    }

    pub(super) fn members(&mut self, members: &Map<String, Value>) -> &mut Self {
        for (name, value) in members {
            self.separate();
            self.text(name);
            self.0.push(':');
            self.serialize(value);
        }
        self
    }

    pub(super) fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }

    /// Writes a name. The names of this crate need no escaping.
    fn name(&mut self, name: &'static str) {
        self.separate();
        self.0.extend(["\"", name, "\":"]);
    }

    fn separate(&mut self) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
    }

    fn text(&mut self, text: &str) {
        // Without early exit, so that the compiler can vectorize it.
        if text.bytes().fold(false, |found, byte| found | must_be_escaped(byte)) {
            self.serialize(text);
        } else {
            self.0.extend(["\"", text, "\""]);
        }
    }

    /// Writes a string or a JSON value.
    #[expect(clippy::expect_used, reason = "an empty value instead would be a malformed token or answer")]
    fn serialize(&mut self, value: &(impl Serialize + ?Sized)) {
        self.0.push_str(&serde_json::to_string(value).expect("text and JSON values are JSON"));
    }

    fn decimal(&mut self, number: u64) {
        if number >= 10 {
            self.decimal(number / 10);
        }
        self.0.push(char::from(b'0' + (number % 10) as u8));
    }
}

/// Returns whether RFC 8259 §7 requires escaping.
#[allow(clippy::needless_bitwise_bool)] // lazy operators would be branches, and take ten times as long
fn must_be_escaped(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::Object;

    #[test]
    fn members_are_written_in_order() {
        let mut object = Object::with_capacity(0);
        object
            .string("a", "x")
            .number("b", u64::MAX)
            .strings("c", ["y", "z\""].into_iter())
            .strings("f", [].into_iter());
        object.members(json!({"d\"": [1, {"e": null}]}).as_object().unwrap());
        assert_eq!(
            object.finish(),
            r#"{"a":"x","b":18446744073709551615,"c":["y","z\""],"f":[],"d\"":[1,{"e":null}]}"#
        );
        assert_eq!(Object::with_capacity(0).finish(), "{}");
    }

    proptest! {
        #[test]
        fn any_string_is_read_back(name in ".*", value in "[\\x00-\\x7f]*|.*") {
            let members: Map<String, Value> = [(name, json!(value))].into_iter().collect();
            let mut object = Object::with_capacity(0);
            object.string("a name", &value).members(&members);
            let parsed: Map<String, Value> = serde_json::from_str(&object.finish()).unwrap();
            prop_assert!(parsed.iter().all(|(_, read)| *read == json!(value)));
            prop_assert!(parsed.contains_key("a name") && members.keys().all(|name| parsed.contains_key(name)));
        }
    }
}
