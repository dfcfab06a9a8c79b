//! [`NumericDate`]: a time in a JSON document, with or without a fraction (RFC 7519 §2).

use std::fmt;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::clock::UnixTime;

/// Seconds since 1970 as a JSON number: an integer, or a number with a fraction or an exponent before the year 10,000.
///
/// Times have whole seconds here, so a fraction is rounded in the direction that accepts less:
///
/// | claim | rounded | because |
/// |---|---|---|
/// | `exp` | down | the token expires earlier |
/// | `nbf` | up | the token becomes valid later |
/// | `iat` | down | "issued at or before this second" revokes more; and since the clock is rounded down too, a new token is never from the future |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumericDate {
    /// The seconds, rounded down.
    seconds: u64,
    has_fraction: bool,
}

impl From<u64> for NumericDate {
    fn from(seconds: u64) -> Self {
        Self { seconds, has_fraction: false }
    }
}

impl NumericDate {
    /// Returns `None` if the number is negative, not finite, or in the year 10,000 or later.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
    fn from_float(number: f64) -> Option<Self> {
        let is_in_range = (0.0..253_402_300_800.0).contains(&number);
        is_in_range.then(|| Self { seconds: number as u64, has_fraction: number.fract() > 0.0 })
    }

    /// Converts a JSON number.
    pub(crate) fn from_json(number: &serde_json::Number) -> Option<Self> {
        number.as_u64().map(Self::from).or_else(|| Self::from_float(number.as_f64()?))
    }

    /// Returns the seconds rounded down, or `None` if a `SystemTime` cannot represent them.
    pub(crate) fn rounded_down(self) -> Option<UnixTime> {
        UnixTime::from_secs(self.seconds)
    }

    /// Returns the seconds rounded up, or `None` if a `SystemTime` cannot represent them.
    pub(crate) fn rounded_up(self) -> Option<UnixTime> {
        UnixTime::from_secs(self.seconds.checked_add(self.has_fraction.into())?)
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_any`, which gives a map if another crate enables serde_json's `arbitrary_precision`.
        deserializer.deserialize_f64(NumericDateVisitor)
    }
}

struct NumericDateVisitor;

impl Visitor<'_> for NumericDateVisitor {
    type Value = NumericDate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds since 1970, before the year 10,000")
    }

    fn visit_u64<E>(self, seconds: u64) -> Result<NumericDate, E> {
        Ok(seconds.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<NumericDate, E> {
        NumericDate::from_float(number).ok_or_else(|| E::invalid_value(Unexpected::Float(number), &self))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::NumericDate;

    /// Returns the number rounded down and up. Both readers must agree.
    #[track_caller]
    fn read(json: &str) -> Option<(u64, u64)> {
        let by_type = serde_json::from_str::<NumericDate>(json).ok();
        let by_value = serde_json::from_str::<Value>(json).ok();
        let by_value = by_value.as_ref().and_then(Value::as_number).and_then(NumericDate::from_json);
        assert_eq!(by_type, by_value, "{json}");
        by_type.and_then(|date| Some((date.rounded_down()?.as_secs(), date.rounded_up()?.as_secs())))
    }

    #[test]
    fn a_fraction_is_rounded_down_or_up_and_an_integer_is_unchanged() {
        for (json, down, up) in [
            ("0", 0, 0),
            ("-0", 0, 0),
            ("-0.0", 0, 0),
            ("0.5", 0, 1),
            ("1700000000", 1_700_000_000, 1_700_000_000),
            ("1700000000.0", 1_700_000_000, 1_700_000_000),
            ("1700000000.25", 1_700_000_000, 1_700_000_001),
            ("1700000000.999999", 1_700_000_000, 1_700_000_001),
            ("17e8", 1_700_000_000, 1_700_000_000),
            ("1.7E+9", 1_700_000_000, 1_700_000_000),
            ("17000000005e-1", 1_700_000_000, 1_700_000_001),
            ("253402300799.5", 253_402_300_799, 253_402_300_800),
        ] {
            assert_eq!(read(json), Some((down, up)), "{json}");
        }
    }

    #[test]
    fn negative_and_too_large_numbers_and_other_types_are_refused() {
        for json in [
            "-1",
            "-0.5",
            "-1e9",
            "253402300800.0",
            "1e12",
            "1e308",
            "1e999",
            "18446744073709551615",
            "18446744073709551616",
            "NaN",
            "Infinity",
            "\"1\"",
            "01",
            "1.",
            ".5",
            "true",
            "null",
            "[1]",
            "{}",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
