//! [`Members`]: the members of the JSON object of the claims, before their values are checked.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::BINDING;
use crate::numeric_date::NumericDate;

/// A JSON string, copied only if it has escapes.
#[cfg_attr(test, derive(Debug, PartialEq))]
#[derive(Deserialize)]
pub(super) struct Member<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The members of the JSON object. Each may occur once (RFC 7519 §4 lets an implementation refuse duplicates).
#[cfg_attr(test, derive(Debug, PartialEq))]
#[derive(Default)]
pub(super) struct Members<'a> {
    pub(super) issuer: Option<Member<'a>>,
    pub(super) subject: Option<Member<'a>>,
    pub(super) audiences: Option<Aud<'a>>,
    pub(super) client_id: Option<Member<'a>>,
    pub(super) issued_at: Option<NumericDate>,
    pub(super) expires_at: Option<NumericDate>,
    pub(super) not_before: Option<NumericDate>,
    pub(super) token_id: Option<Member<'a>>,
    pub(super) scopes: Option<Member<'a>>,
    pub(super) bound: bool,
    pub(super) others: HashSet<Cow<'a, str>>,
}

#[cfg_attr(test, derive(Debug, PartialEq))]
pub(super) enum Aud<'a> {
    One(Member<'a>),
    Several(Vec<Member<'a>>),
}

impl<'a> Members<'a> {
    /// Reads the form that most tokens have: strings without escapes, whole numbers, and no white space. Returns `None` for
    /// everything else, which `serde_json` then reads or refuses. The results are equal; this path takes a third fewer
    /// instructions.
    pub(super) fn read_plain(json: &'a str) -> Option<Self> {
        if !is_plain(json) {
            return None;
        }
        let mut members = Self::default();
        let mut rest = json.strip_prefix('{')?.strip_suffix('}')?;
        loop {
            let (name, value) = plain_text(rest)?;
            let value = value.strip_prefix(':')?;
            rest = match name {
                "iss" => put(&mut members.issuer, plain_member(value)?)?,
                "sub" => put(&mut members.subject, plain_member(value)?)?,
                "aud" => put(&mut members.audiences, plain_member(value).map(|(one, rest)| (Aud::One(one), rest))?)?,
                "client_id" => put(&mut members.client_id, plain_member(value)?)?,
                "iat" => put(&mut members.issued_at, plain_date(value)?)?,
                "exp" => put(&mut members.expires_at, plain_date(value)?)?,
                "nbf" => put(&mut members.not_before, plain_date(value)?)?,
                "jti" => put(&mut members.token_id, plain_member(value)?)?,
                "scope" => put(&mut members.scopes, plain_member(value)?)?,
                other => {
                    let text = plain_text(value).map(|(_, rest)| rest);
                    let rest = text.or_else(|| plain_number(value).map(|(_, rest)| rest))?;
                    members.bound |= other == BINDING;
                    members.others.insert(other.into()).then_some(rest)?
                }
            };
            if rest.is_empty() {
                return Some(members);
            }
            rest = rest.strip_prefix(',')?;
        }
    }
}

/// Returns whether a text has neither escapes nor control characters. Every byte is looked at, which the compiler turns into
/// vector instructions.
#[expect(clippy::needless_bitwise_bool, reason = "without branches, it becomes vector instructions")]
fn is_plain(json: &str) -> bool {
    json.bytes().fold(true, |is_plain, byte| is_plain & (byte >= 0x20) & (byte != b'\\'))
}

/// Splits off a JSON string of a [plain](is_plain) text; returns it and the rest.
fn plain_text(json: &str) -> Option<(&str, &str)> {
    let text = json.strip_prefix('"')?;
    let end = text.bytes().position(|byte| byte == b'"')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

fn plain_member(json: &str) -> Option<(Member<'_>, &str)> {
    plain_text(json).map(|(text, rest)| (Member(text.into()), rest))
}

/// Splits off a whole number (RFC 8259 §6) or the integer part of a fraction; returns it and the rest.
fn plain_number(json: &str) -> Option<(u64, &str)> {
    let (mut number, mut length) = (0_u64, 0);
    for digit in json.bytes().map_while(|byte| char::from(byte).to_digit(10)) {
        number = number.checked_mul(10)?.checked_add(digit.into())?;
        length += 1;
    }
    let is_usual = length == 1 || !json.starts_with('0');
    Some((number, json.get(length..).filter(|_| length > 0 && is_usual)?))
}

fn plain_date(json: &str) -> Option<(NumericDate, &str)> {
    plain_number(json).map(|(seconds, rest)| (seconds.into(), rest))
}

fn put<'a, T>(slot: &mut Option<T>, (value, rest): (T, &'a str)) -> Option<&'a str> {
    slot.replace(value).is_none().then_some(rest)
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims of a JWT access token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        while let Some(Member(name)) = map.next_key()? {
            match &*name {
                "iss" => once(&mut members.issuer, map.next_value()?)?,
                "sub" => once(&mut members.subject, map.next_value()?)?,
                "aud" => once(&mut members.audiences, map.next_value()?)?,
                "client_id" => once(&mut members.client_id, map.next_value()?)?,
                "iat" => once(&mut members.issued_at, map.next_value()?)?,
                "exp" => once(&mut members.expires_at, map.next_value()?)?,
                "nbf" => once(&mut members.not_before, map.next_value()?)?,
                "jti" => once(&mut members.token_id, map.next_value()?)?,
                "scope" => once(&mut members.scopes, map.next_value()?)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    members.bound |= name == BINDING;
                    if !members.others.insert(name) {
                        return Err(twice());
                    }
                }
            }
        }
        Ok(members)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Aud<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AudVisitor)
    }
}

struct AudVisitor;

impl<'de> Visitor<'de> for AudVisitor {
    type Value = Aud<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an audience or an array of audiences")
    }

    fn visit_borrowed_str<E>(self, one: &'de str) -> Result<Aud<'de>, E> {
        Ok(Aud::One(Member(one.into())))
    }

    fn visit_str<E>(self, one: &str) -> Result<Aud<'de>, E> {
        Ok(Aud::One(Member(one.to_owned().into())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Aud<'de>, A::Error> {
        let mut several = Vec::new();
        while let Some(one) = list.next_element()? {
            several.push(one);
        }
        Ok(Aud::Several(several))
    }
}

fn once<T, E: serde::de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(twice()),
    }
}

fn twice<E: serde::de::Error>() -> E {
    E::custom("a claim occurs twice")
}
