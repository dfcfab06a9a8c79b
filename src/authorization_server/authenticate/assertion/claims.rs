//! [`Claims`]: the claims of an assertion (RFC 7523 §3).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::header::present;
use super::invalid::{AssertionRule, Refusal};
use crate::numeric_date::NumericDate;
use crate::quoted::quoted_within;

/// The claims that are checked. Others are ignored.
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    #[serde(borrow)]
    pub(super) iss: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) sub: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) aud: SoleAudience<'a>,
    pub(super) exp: NumericDate,
    #[serde(default, deserialize_with = "present")]
    pub(super) nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "present")]
    pub(super) iat: Option<NumericDate>,
    #[serde(borrow)]
    pub(super) jti: Cow<'a, str>,
}

/// The only audience: a string, or an array of one string.
pub(super) struct SoleAudience<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for SoleAudience<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SoleAudienceVisitor)
    }
}

struct SoleAudienceVisitor;

impl<'de> Visitor<'de> for SoleAudienceVisitor {
    type Value = SoleAudience<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one audience")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(SoleAudience(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(SoleAudience(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let only = list.next_element::<Cow<'de, str>>()?.ok_or_else(|| A::Error::custom("no audience"))?;
        match list.next_element::<serde::de::IgnoredAny>()? {
            None => Ok(SoleAudience(only)),
            Some(_) => Err(A::Error::custom("several audiences")),
        }
    }
}

impl<'a> Claims<'a> {
    /// Parses the claims. The reason for a refusal is determined only for invalid claims, because that takes time.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, Refusal> {
        if json.starts_with(b"{")
            && let Ok(claims) = serde_json::from_slice(json)
        {
            return Ok(claims);
        }
        let first = mistakes(json).into_iter().next();
        Err(first.unwrap_or_else(|| Refusal::new(AssertionRule::Payload, "the claims cannot be read")))
    }
}

/// A required claim: its name, its rule, what is expected, and whether a value is of the right type.
type Required = (&'static str, AssertionRule, &'static str, fn(&Value) -> bool);

/// Returns why the claims cannot be read: each claim with a wrong type, or another mistake.
#[cold]
pub(super) fn mistakes(json: &[u8]) -> Vec<Refusal> {
    use AssertionRule::{Audience, Expiry, IssuedAt, Issuer, NotBefore, Payload, Subject, TokenId};
    const TEXT: &str = "a string";
    const TIME: &str = "a number of seconds since 1970 (RFC 7519 §2)";
    let claims: Option<Map<String, Value>> = serde_json::from_slice(json).ok();
    let Some(claims) = claims else {
        let text = "the payload is not a JSON object (RFC 7519 §7.2); sign the claims as JSON";
        return vec![Refusal::new(Payload, text)];
    };
    let required: [Required; 5] = [
        ("iss", Issuer, TEXT, Value::is_string),
        ("sub", Subject, TEXT, Value::is_string),
        ("aud", Audience, "this server's issuer identifier, as the only audience (RFC 10070)", is_sole),
        ("exp", Expiry, TIME, is_time),
        ("jti", TokenId, TEXT, Value::is_string),
    ];
    let required = required.into_iter().filter_map(|(name, rule, expected, is_valid)| match claims.get(name) {
        Some(value) if is_valid(value) => None,
        found => Some(Refusal::claim(rule, name, &shown(found), expected, "set it in the client")),
    });
    let times = [("nbf", NotBefore), ("iat", IssuedAt)].into_iter().filter_map(|(name, rule)| {
        let value = claims.get(name).filter(|value| !is_time(value))?;
        Some(Refusal::claim(rule, name, &shown(Some(value)), TIME, "set it in the client, or omit it"))
    });
    let mut mistakes: Vec<_> = required.chain(times).collect();
    if mistakes.is_empty() {
        let text = "a claim occurs twice (RFC 7519 §4); write each claim once";
        mistakes.push(Refusal::new(Payload, text));
    }
    mistakes
}

fn is_time(value: &Value) -> bool {
    value.as_number().and_then(NumericDate::from_json).is_some()
}

fn is_sole(value: &Value) -> bool {
    match value {
        Value::String(_) => true,
        Value::Array(list) => matches!(list.as_slice(), [Value::String(_)]),
        _ => false,
    }
}

/// The maximum length of a shown value, in bytes: enough for a URL.
const SHOWN: usize = 128;

pub(super) fn shown(value: Option<&Value>) -> String {
    match value {
        None => "absent".to_owned(),
        Some(Value::String(text)) => quoted_within(text, SHOWN),
        Some(other) => quoted_within(&other.to_string(), SHOWN),
    }
}

/// Returns a text for an error: quoted, escaped and bounded.
pub(super) fn shown_text(text: &str) -> String {
    quoted_within(text, SHOWN)
}
