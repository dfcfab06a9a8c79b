//! The claims of a JWT access token (RFC 9068 §2.2): JSON → [`Claims`].

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::keys::VerifyingKey;
use crate::revocation::{Cleared, Named};
use crate::scope::Scopes;

/// Well-formed claims: every one that RFC 9068 requires is there, once, and of its type. Whether they hold is
/// for [`verify`](super::verify) to say.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    pub(super) client_id: ClientId,
    pub(super) issued_at: UnixTime,
    pub(super) expires_at: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(super) token_id: String,
    pub(super) scopes: Scopes,
    /// None of the claims, but what was found of them.
    pub(super) cleared: Cleared,
}

impl Claims {
    pub(super) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// What a revocation could name it by; `key` has signed it.
    pub(super) fn named<'a>(&'a self, key: &'a VerifyingKey) -> Named<'a> {
        let Self { client_id, token_id, issued_at, .. } = self;
        Named { client_id, token_id, issued_at: *issued_at, key_id: key.key_id() }
    }
}

/// The claims do not have the shape that was asked for; see [`VerifiedToken::claims`](super::VerifiedToken::claims).
#[derive(Debug, thiserror::Error)]
#[error("the token's claims have another shape: {0}")]
pub struct ClaimsError(#[from] serde_json::Error);

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ClaimsVisitor)
    }
}

struct ClaimsVisitor;

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for ClaimsVisitor {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims of a JWT access token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
        let mut partial = Partial::default();
        while let Some(Name(name)) = map.next_key()? {
            match &*name {
                "iss" => once(&mut partial.issuer, map.next_value()?)?,
                "sub" => once(&mut partial.subject, map.next_value()?)?,
                "aud" => once(&mut partial.audiences, map.next_value()?)?,
                "client_id" => once(&mut partial.client_id, map.next_value()?)?,
                "iat" => once(&mut partial.issued_at, map.next_value()?)?,
                "exp" => once(&mut partial.expires_at, map.next_value()?)?,
                "nbf" => once(&mut partial.not_before, map.next_value()?)?,
                "jti" => once(&mut partial.token_id, map.next_value()?)?,
                "scope" => once(&mut partial.scopes, map.next_value()?)?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    if !partial.others.insert(name) {
                        return Err(A::Error::custom("a claim occurs twice"));
                    }
                }
            }
        }
        partial.complete()
    }
}

/// What was read so far.
#[derive(Default)]
struct Partial<'a> {
    issuer: Option<String>,
    subject: Option<String>,
    audiences: Option<Audiences>,
    client_id: Option<String>,
    issued_at: Option<u64>,
    expires_at: Option<u64>,
    not_before: Option<u64>,
    token_id: Option<String>,
    scopes: Option<String>,
    /// RFC 7519 §4 has names unique, and leaves it to us to refuse a token in which one occurs twice.
    others: HashSet<Cow<'a, str>>,
}

/// RFC 7519 §4.1.3.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

fn once<T, E: serde::de::Error>(slot: &mut Option<T>, value: T) -> Result<(), E> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("a claim occurs twice")),
    }
}

impl Partial<'_> {
    fn complete<E: serde::de::Error>(self) -> Result<Claims, E> {
        Ok(Claims {
            issuer: present(self.issuer, "iss")?,
            subject: Some(present(self.subject, "sub")?)
                .filter(|subject| !subject.is_empty())
                .ok_or(E::missing_field("sub"))?,
            audiences: match present(self.audiences, "aud")? {
                Audiences::One(audience) => vec![audience],
                Audiences::Several(audiences) => audiences,
            },
            client_id: present(self.client_id, "client_id")?.try_into().map_err(E::custom)?,
            issued_at: time(present(self.issued_at, "iat")?)?,
            expires_at: time(present(self.expires_at, "exp")?)?,
            not_before: self.not_before.map(time).transpose()?,
            token_id: present(self.token_id, "jti")?,
            scopes: self.scopes.unwrap_or_default().parse().map_err(E::custom)?,
            cleared: Cleared::default(),
        })
    }
}

fn present<T, E: serde::de::Error>(claim: Option<T>, name: &'static str) -> Result<T, E> {
    claim.ok_or_else(|| E::missing_field(name))
}

fn time<E: serde::de::Error>(secs: u64) -> Result<UnixTime, E> {
    UnixTime::from_secs(secs).ok_or_else(|| E::custom("a time is out of range"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Claims;

    fn good() -> Value {
        json!({"iss": "i", "sub": "s", "aud": "a", "client_id": "c", "iat": 1, "exp": 2, "jti": "j", "scope": "x y", "own": {"a": 1}})
    }

    fn parses(claims: &Value) -> bool {
        Claims::parse(claims.to_string().as_bytes()).is_ok()
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    #[test]
    fn claims_of_rfc_9068_are_read() {
        let claims = Claims::parse(with("aud", json!(["a", "b"])).to_string().as_bytes()).unwrap();
        assert_eq!(claims.audiences, ["a", "b"]);
        assert_eq!(claims.scopes.as_str(), "x y");
        assert!(parses(&good()));
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
    fn texts_are_texts_and_times_are_integers_in_range() {
        for name in ["iss", "sub", "aud", "client_id", "jti", "scope"] {
            assert!(!parses(&with(name, json!(5))), "{name}");
        }
        for name in ["iat", "exp", "nbf"] {
            for value in [json!("1"), json!(1.5), json!(1.0), json!(-1), json!(u64::MAX), json!([1]), Value::Null] {
                assert!(!parses(&with(name, value.clone())), "{name} {value}");
            }
            assert!(parses(&with(name, json!(7))), "{name}");
        }
        assert!(!parses(&with("sub", json!(""))));
        assert!(!parses(&with("client_id", json!(""))));
        assert!(!parses(&with("aud", json!(["a", 5]))));
        assert!(!parses(&with("scope", json!("a\"b"))));
    }

    #[test]
    fn no_claim_occurs_twice() {
        let text = good().to_string();
        for twice in [r#"{"iss":"i","#, r#"{"exp":9,"#, r#"{"scope":"","#, r#"{"own":1,"#, r#"{"o\u0077n":1,"#] {
            assert!(Claims::parse(text.replacen('{', twice, 1).as_bytes()).is_err(), "{twice}");
        }
        for text in [format!("{text}x"), format!("[{text}]"), String::new(), "{".repeat(9_000)] {
            assert!(Claims::parse(text.as_bytes()).is_err());
        }
    }
}
