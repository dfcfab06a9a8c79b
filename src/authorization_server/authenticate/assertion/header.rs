//! [`Header`]: the JOSE header of an assertion (RFC 7515 §4.1).

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// The members that affect the verification. Others are ignored (RFC 7515 §4).
#[derive(Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) typ: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    jku: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    jwk: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    x5u: Option<IgnoredAny>,
}

/// Deserializes a member that is present. `null` is a value, and not an absent member.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl<'a> Header<'a> {
    /// Parses a JSON object. serde alone would also accept an array for the struct.
    pub(super) fn parse(json: &'a [u8]) -> Option<Self> {
        json.starts_with(b"{").then(|| serde_json::from_slice(json).ok()).flatten()
    }

    /// Returns the name of the first parameter that brings a key or names its place.
    pub(super) fn foreign_key(&self) -> Option<&'static str> {
        let members = [("jku", self.jku), ("jwk", self.jwk), ("x5u", self.x5u)];
        members.into_iter().find(|(_, member)| member.is_some()).map(|(name, _)| name)
    }
}

/// Returns whether a JWT with this `typ` may be a client assertion: an absent one (RFC 7523 has none), `JWT`, or the type of
/// RFC 10070. Media types are case-insensitive, and `application/` may be omitted (RFC 7515 §4.1.9).
pub(super) fn is_assertion(typ: Option<&str>) -> bool {
    let Some(typ) = typ else { return true };
    let (prefix, rest) = typ.split_at_checked("application/".len()).unwrap_or(("", typ));
    let name = if prefix.eq_ignore_ascii_case("application/") { rest } else { typ };
    name.eq_ignore_ascii_case("JWT") || name.eq_ignore_ascii_case("client-authentication+jwt")
}

#[cfg(test)]
mod tests {
    use super::{Header, is_assertion};

    #[test]
    fn an_assertion_has_no_type_or_one_of_two() {
        assert!(is_assertion(None));
        for typ in
            ["JWT", "jwt", "application/jwt", "client-authentication+jwt", "Application/Client-Authentication+JWT"]
        {
            assert!(is_assertion(Some(typ)), "{typ}");
        }
        for typ in
            ["", "application/", "at+jwt", "application/at+jwt", "JWS", "jwt ", "application/application/jwt", "é"]
        {
            assert!(!is_assertion(Some(typ)), "{typ}");
        }
    }

    #[test]
    fn a_header_is_an_object_with_unique_members_of_the_right_types() {
        assert!(Header::parse(br#"{"alg":"ES256"}"#).is_some_and(|header| header.typ.is_none()));
        for json in [
            r#"["ES256"]"#,
            r#"{"typ":"JWT"}"#,
            r#"{"alg":5}"#,
            r#"{"alg":"ES256","typ":null}"#,
            r#"{"alg":"ES256","kid":null}"#,
            r#"{"alg":"ES256","kid":5}"#,
            r#"{"alg":"ES256","alg":"ES256"}"#,
            "",
        ] {
            assert!(Header::parse(json.as_bytes()).is_none(), "{json}");
        }
        assert!(Header::parse(br#"{"alg":"ES256","crit":null}"#).is_some_and(|header| header.crit.is_some()));
    }
}
