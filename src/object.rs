//! [`Object`]: a struct that is deserialized only from a JSON object.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value that is deserialized only from a map: a JSON object or a TOML table.
///
/// serde's derived code for a struct also accepts an array with the fields in the order of their declaration. Each struct that
/// is read from a document is wrapped in this type, so that `["https://i", "https://i/keys"]` is not accepted as metadata.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<T: Serialize> Serialize for Object<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::Object;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Pair<'a> {
        one: &'a str,
        #[serde(default)]
        two: Option<u8>,
    }

    fn read(json: &str) -> Result<Pair<'_>, String> {
        serde_json::from_str(json).map(|Object(pair)| pair).map_err(|error| error.to_string())
    }

    #[test]
    fn an_object_is_deserialized_like_the_struct() {
        assert_eq!(read(r#" {"one": "a", "two": 2} "#), Ok(Pair { one: "a", two: Some(2) }));
        assert_eq!(read(r#"{"one": "a"}"#), Ok(Pair { one: "a", two: None }));
        for (json, says) in [
            (r#"{"two": 2}"#, "missing field `one`"),
            (r#"{"one": "a", "one": "a"}"#, "duplicate field"),
            (r#"{"one": "a", "three": 3}"#, "unknown field"),
            (r#"{"one": 1}"#, "invalid type"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(says), "{json}: {error}");
        }
    }

    #[test]
    fn an_array_is_refused() {
        assert!(
            serde_json::from_str::<Pair<'_>>(r#"["a", 2]"#).is_ok(),
            "serde has changed, so this module can be removed"
        );
        for json in [r#"["a", 2]"#, r#"["a"]"#, "[]", r#""a""#, "null", "5"] {
            let error = read(json).unwrap_err();
            assert!(error.contains("expected an object"), "{json}: {error}");
        }
    }
}
