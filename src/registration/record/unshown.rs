//! [`Unshown`]: a text that no error message shows.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A text that no error message contains, even if it is in the wrong place, or not a string.
pub(super) struct Unshown(pub(super) Zeroizing<String>);

impl Serialize for Unshown {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Unshown {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnshownText)
    }
}

struct UnshownText;

impl UnshownText {
    fn refuse<E: serde::de::Error>() -> Result<Unshown, E> {
        Err(E::custom("a secret or hash must be a string; put it in quotes"))
    }
}

impl Visitor<'_> for UnshownText {
    type Value = Unshown;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Unshown, E> {
        Ok(Unshown(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Unshown, E> {
        Ok(Unshown(Zeroizing::new(text)))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Unshown, E> {
        Self::refuse()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Unshown, E> {
        Self::refuse()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Unshown, E> {
        Self::refuse()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Unshown, E> {
        Self::refuse()
    }
}
