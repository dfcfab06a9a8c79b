//! The claims of a JWT access token (RFC 9068 §2.2): JSON → [`Claims`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::refused_token::quoted;
use super::{InvalidToken, RefusedToken};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::keys::VerifyingKey;
use crate::numeric_date::NumericDate;
use crate::revocation::{Cleared, Named};
use crate::scope::Scopes;
use crate::text::Text;

/// Well-formed claims: every claim that RFC 9068 requires is present once and has its type. The values are checked by
/// [`verify`](crate::verification::verifier).
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub(super) issuer: Text,
    pub(super) subject: Text,
    pub(super) audiences: Audiences,
    pub(super) client_id: ClientId,
    pub(super) issued_at: UnixTime,
    pub(super) expires_at: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(super) token_id: Text,
    pub(super) scopes: Scopes,
    /// Whether `cnf` is present, with any value: the token is bound to a key or certificate (RFC 7800).
    pub(super) bound: bool,
    /// Not a claim: the result of the last revocation check.
    pub(super) cleared: Cleared,
}

/// The claim that binds a token to a key or certificate (RFC 7800 §3.1).
pub(super) const BINDING: &str = "cnf";

/// One audience, or any number of audiences (RFC 7519 §4.1.3).
#[derive(Clone, Debug)]
pub(super) enum Audiences {
    One(Text),
    Several(Box<[Text]>),
}

impl Deref for Audiences {
    type Target = [Text];

    fn deref(&self) -> &[Text] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(several) => several,
        }
    }
}

impl Claims {
    /// Returns `None` if a claim is missing, occurs twice, or has another type. A value that equals one of the `usual` texts
    /// shares its memory: all tokens of an issuer have its `iss`, and most have the same audience.
    pub(super) fn parse(json: &[u8], usual: &[&Text]) -> Option<Self> {
        let json = std::str::from_utf8(json).ok()?;
        let claims = Members::read_plain(json).map_or_else(|| serde_json::from_str(json).ok(), Some)?;
        let text = |text: Member<'_>| Text::shared_with(usual, &text.0);
        let client_id = ClientId::try_from(&*claims.client_id?.0).ok()?;
        let subject = claims.subject.filter(|subject| !subject.0.is_empty())?;
        Some(Self {
            issuer: text(claims.issuer?),
            subject: Text::shared_with(&[client_id.text()], &subject.0),
            audiences: match claims.audiences? {
                Aud::One(one) => Audiences::One(text(one)),
                Aud::Several(several) => Audiences::Several(several.into_iter().map(text).collect()),
            },
            client_id,
            issued_at: claims.issued_at?.rounded_down()?,
            expires_at: claims.expires_at?.rounded_down()?,
            not_before: match claims.not_before {
                Some(not_before) => Some(not_before.rounded_up()?),
                None => None,
            },
            token_id: (&*claims.token_id?.0).into(),
            scopes: claims.scopes.map_or(Ok(Scopes::NONE), |scopes| scopes.0.parse()).ok()?,
            bound: claims.bound,
            cleared: Cleared::default(),
        })
    }

    /// Returns an estimate of the heap memory, in bytes, without shared texts.
    pub(super) fn size(&self) -> usize {
        const EACH: usize = 32; // overhead of an unshared text
        let Self { subject, audiences, client_id, token_id, scopes, .. } = self;
        let audiences = match audiences {
            Audiences::One(_) => 0,
            Audiences::Several(several) => several.iter().map(|audience| audience.len() + 2 * EACH).sum(),
        };
        4 * EACH + subject.len() + audiences + client_id.len() + token_id.len() + scopes.size()
    }

    /// Returns the `iss` found and the one expected, for the operator.
    #[cold]
    pub(super) fn of_another_issuer(&self, issuer: &Issuer) -> RefusedToken {
        let detail = format!(
            "`iss` is {}, expected {}, compared character by character; give the verifier this issuer to accept it",
            quoted(&self.issuer),
            quoted(issuer.as_str())
        );
        RefusedToken::because(InvalidToken::Issuer, detail)
    }

    /// Returns all that a revocation could name this token by. `key` is the key that signed it.
    pub(super) fn named<'a>(&'a self, key: &'a VerifyingKey) -> Named<'a> {
        let Self { client_id, token_id, issued_at, .. } = self;
        Named { client_id, token_id, issued_at: *issued_at, key_id: key.key_id() }
    }
}

/// The claims cannot be deserialized into the requested type; see
/// [`VerifiedToken::claims`](crate::verification::VerifiedToken::claims).
#[derive(Debug, thiserror::Error)]
#[error("the token's claims do not fit the requested type: {0}")]
pub struct ClaimsError(serde_json::Error);

// Not `#[from]`: it would set the source, too, whose text is already part of this error's text.
impl From<serde_json::Error> for ClaimsError {
    fn from(error: serde_json::Error) -> Self {
        Self(error)
    }
}

/// A JSON string, copied only if it has escapes.
#[cfg_attr(test, derive(Debug, PartialEq))]
#[derive(Deserialize)]
struct Member<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of the JSON object. Each may occur once (RFC 7519 §4 lets an implementation refuse duplicates).
#[cfg_attr(test, derive(Debug, PartialEq))]
#[derive(Default)]
struct Members<'a> {
    issuer: Option<Member<'a>>,
    subject: Option<Member<'a>>,
    audiences: Option<Aud<'a>>,
    client_id: Option<Member<'a>>,
    issued_at: Option<NumericDate>,
    expires_at: Option<NumericDate>,
    not_before: Option<NumericDate>,
    token_id: Option<Member<'a>>,
    scopes: Option<Member<'a>>,
    bound: bool,
    others: HashSet<Cow<'a, str>>,
}

#[cfg_attr(test, derive(Debug, PartialEq))]
enum Aud<'a> {
    One(Member<'a>),
    Several(Vec<Member<'a>>),
}

impl<'a> Members<'a> {
    /// Reads the form that most tokens have: strings without escapes, whole numbers, and no white space. Returns `None` for
    /// everything else, which `serde_json` then reads or refuses. The results are equal; this path takes a third fewer
    /// instructions.
    fn read_plain(json: &'a str) -> Option<Self> {
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

/// Splits off a JSON string without escapes; returns it and the rest.
fn plain_text(json: &str) -> Option<(&str, &str)> {
    let text = json.strip_prefix('"')?;
    let end = text.bytes().position(|byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
    Some((text.get(..end)?, text.get(end..)?.strip_prefix('"')?))
}

fn plain_member(json: &str) -> Option<(Member<'_>, &str)> {
    plain_text(json).map(|(text, rest)| (Member(text.into()), rest))
}

/// Splits off a whole number (RFC 8259 §6) or the integer part of a fraction; returns it and the rest.
fn plain_number(json: &str) -> Option<(u64, &str)> {
    let end = json.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(json.len());
    let (digits, rest) = json.split_at_checked(end)?;
    let is_usual = digits == "0" || !digits.starts_with('0');
    Some((digits.parse().ok().filter(|_| is_usual)?, rest))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Claims, Members, Text};

    fn good() -> Value {
        json!({"iss": "i", "sub": "s", "aud": "a", "client_id": "c", "iat": 1, "exp": 2, "jti": "j", "scope": "x y", "own": {"a": 1}})
    }

    fn parses(claims: &Value) -> bool {
        Claims::parse(claims.to_string().as_bytes(), &[]).is_some()
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn claims_of_rfc_9068_are_read() {
        let claims = Claims::parse(with("aud", json!(["a", "b"])).to_string().as_bytes(), &[]).unwrap();
        assert_eq!(*claims.audiences, ["a".into(), "b".into()]);
        assert_eq!(claims.scopes.as_str(), "x y");
        assert!(parses(&good()));
        let escaped = good().to_string().replace(r#""i""#, r#""\u0069""#).replace(r#""a""#, r#""\u0061""#);
        let claims = Claims::parse(escaped.as_bytes(), &[]).unwrap();
        assert_eq!((&*claims.issuer, &*claims.audiences), ("i", &["a".into()][..]));
    }

    #[test]
    fn only_values_equal_to_the_usual_texts_share_their_memory() {
        let usual: [Text; 2] = ["i".into(), "a".into()];
        let shares = |text: &Text, with: &Text| std::ptr::eq(&raw const **text, &raw const **with);
        let claims = Claims::parse(good().to_string().as_bytes(), &[&usual[0], &usual[1]]).unwrap();
        assert!(shares(&claims.issuer, &usual[0]) && shares(&claims.audiences[0], &usual[1]));
        assert_eq!((&*claims.subject, claims.client_id.as_str()), ("s", "c"));
        let claims = Claims::parse(with("sub", json!("c")).to_string().as_bytes(), &[&usual[1]]).unwrap();
        assert_eq!((&*claims.issuer, &*claims.subject), ("i", "c"));
        assert!(shares(&claims.subject, claims.client_id.text()));
    }

    #[test]
    fn each_required_claim_is_required() {
        for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"] {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(name);
            assert!(!parses(&claims), "{name}");
            assert!(!parses(&with(name, Value::Null)), "{name}");
            assert!(!parses(&with(name, json!({}))), "{name}");
            assert!(!parses(&with(name, json!(true))), "{name}");
        }
    }

    #[test]
    fn claims_have_the_required_types_and_times_are_in_range() {
        for name in ["iss", "sub", "aud", "client_id", "jti", "scope"] {
            assert!(!parses(&with(name, json!(5))), "{name}");
        }
        for name in ["iat", "exp", "nbf"] {
            for value in [json!("1"), json!(-1), json!(-0.5), json!(1e12), json!(u64::MAX), json!([1]), Value::Null] {
                assert!(!parses(&with(name, value.clone())), "{name} {value}");
            }
            for value in [json!(7), json!(1.5), json!(1.0)] {
                assert!(parses(&with(name, value.clone())), "{name} {value}");
            }
        }
        assert!(!parses(&with("sub", json!(""))));
        assert!(!parses(&with("client_id", json!(""))));
        assert!(!parses(&with("aud", json!(["a", 5]))));
        assert!(!parses(&with("scope", json!("a\"b"))));
    }

    #[test]
    fn fractional_times_are_rounded_to_shorten_the_lifetime() {
        let text = good().to_string();
        for (time, down, up) in [("1.5", 1, 2), ("2.0", 2, 2), ("2e0", 2, 2), ("25E-1", 2, 3), ("7", 7, 7)] {
            let text = text.replace(r#""exp":2"#, &format!(r#""exp":{time}"#));
            let text = text.replace(r#""iat":1"#, &format!(r#""iat":{time},"nbf":{time}"#));
            let claims = Claims::parse(text.as_bytes(), &[]).unwrap();
            let times = [Some(claims.expires_at), Some(claims.issued_at), claims.not_before];
            assert_eq!(times.map(|time| time.unwrap().as_secs()), [down, down, up], "{time}");
        }
    }

    #[test]
    fn a_token_is_bound_if_cnf_is_present_with_any_value() {
        let bound = |text: &str| Claims::parse(text.as_bytes(), &[]).unwrap().bound;
        assert!(!bound(&good().to_string()) && !bound(&with("cnf2", json!("k")).to_string()));
        for value in [json!({"jkt": "k"}), json!({}), Value::Null, json!("k"), json!(5), json!([]), json!(false)] {
            assert!(bound(&with("cnf", value.clone()).to_string()), "{value}");
        }
        // On the fast path, and by serde_json with an escaped name.
        let plain = r#"{"iss":"i","sub":"s","aud":"a","client_id":"c","iat":1,"exp":2,"jti":"j","cnf":"k"}"#;
        assert!(Members::read_plain(plain).unwrap().bound && bound(plain));
        let escaped = plain.replace("cnf", r"\u0063nf");
        assert!(Members::read_plain(&escaped).is_none_or(|members| members.bound) && bound(&escaped));
    }

    #[test]
    fn the_size_of_claims_counts_the_index_of_many_scopes() {
        let size = |scope: &str| Claims::parse(with("scope", json!(scope)).to_string().as_bytes(), &[]).unwrap().size();
        let many: Vec<String> = (0..3_000).map(|number| format!("s{number}")).collect();
        let many = many.join(" ");
        // At least two slots of 12 bytes for each scope.
        assert!(size(&many) - size("") >= many.len() + 3_000 * 2 * 12, "{}", size(&many));
        assert_eq!(size("read write") - size(""), "read write".len(), "a short set has no index");
    }

    #[test]
    fn the_size_of_claims_counts_texts_and_their_containers() {
        let size =
            |claim: &str, value: Value| Claims::parse(with(claim, value).to_string().as_bytes(), &[]).unwrap().size();
        let texts = |claims: &Value| -> usize {
            ["sub", "client_id", "jti", "scope"].map(|claim| claims[claim].as_str().map_or(0, str::len)).iter().sum()
        };
        let usual = size("aud", json!("https://api.example.com"));
        assert_eq!(usual, 4 * 32 + texts(&good()));
        for claim in ["sub", "client_id", "jti"] {
            let former = good()[claim].as_str().unwrap().len();
            assert_eq!(size(claim, json!("x".repeat(former + 100))), usual + 100, "{claim}");
        }
        let several = ["https://a.example", "https://another.example", "https://c.example"];
        let more: usize = several.iter().map(|audience| audience.len() + 64).sum();
        assert_eq!(size("aud", json!(several)), usual + more);
    }

    #[test]
    fn duplicate_claims_are_refused() {
        let text = good().to_string();
        for twice in [r#"{"iss":"i","#, r#"{"exp":9,"#, r#"{"scope":"","#, r#"{"own":1,"#, r#"{"o\u0077n":1,"#] {
            assert!(Claims::parse(text.replacen('{', twice, 1).as_bytes(), &[]).is_none(), "{twice}");
        }
        for text in [format!("{text}x"), format!("[{text}]"), String::new(), "{".repeat(9_000)] {
            assert!(Claims::parse(text.as_bytes(), &[]).is_none());
        }
    }

    #[test]
    fn usual_claims_take_the_fast_path_and_all_others_go_to_serde_json() {
        let usual = r#"{"iss":"i","sub":"é","aud":"a","client_id":"c","iat":1,"exp":0,"nbf":3,"jti":"j","scope":"x y","other":10,"own":"t"}"#;
        assert_eq!(Members::read_plain(usual), Some(serde_json::from_str(usual).unwrap()));
        for (usual_part, other) in [
            (r#""i""#, r#""\u0069""#),
            (r#""a""#, r#"["a"]"#),
            (":1,", ":1.0,"),
            (":1,", ":01,"),
            (":1,", ":1e3,"),
            (":1,", ":-1,"),
            (":1,", ":18446744073709551616,"),
            (r#""own":"t""#, r#""own":[1]"#),
            (r#""own":"t""#, r#""own":01"#),
            (r#""own":"t""#, r#""iss":"i""#),
            (r#""own":"t""#, r#""own":"t","own":"t""#),
            ("{", "{ "),
            ("}", ",}"),
            ("}", "}}"),
            ("x y", "x\ny"),
        ] {
            let other = usual.replacen(usual_part, other, 1);
            assert_eq!(Members::read_plain(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_path_reads_the_same_as_serde_json(
            json in r#"\{("(iss|sub|aud|iat|exp|jti|cnf|own|o\\u0077n)":("[a-bé\\\\\x01\x7f]{0,3}"|[0-9]{1,21}|0[.]?[0-9]?|-1|true),?){0,4}\}"#
        ) {
            if let Some(plain) = Members::read_plain(&json) {
                prop_assert_eq!(Some(plain), serde_json::from_str(&json).ok());
            }
        }
    }
}
