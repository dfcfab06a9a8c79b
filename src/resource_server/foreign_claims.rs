//! The claims of tokens that are not those of RFC 9068: JSON → [`Claims`], as a [`TokenProfile`] has them.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::claims::{Audiences, Claims};
use super::token_profile::{Object, TokenProfile};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::revocation::Cleared;
use crate::scope::{Scope, Scopes};
use crate::text::Text;

impl TokenProfile {
    /// `None` where a claim is missing, twice, or of another type than the profile has it.
    pub(super) fn parse(&self, json: &[u8], issuer: &Issuer) -> Option<Claims> {
        let Unique(claims) = serde_json::from_slice(json).ok()?;
        self.read(claims, issuer)
    }

    /// As [`parse`](Self::parse), of an object that is read already.
    pub(super) fn read(&self, claims: Object, issuer: &Issuer) -> Option<Claims> {
        let reader = Reader { profile: self, claims: &claims };
        if !self.required.iter().all(|(name, value)| claims.get(name) == Some(value)) {
            return None;
        }
        let client_id = reader.client_id()?;
        let scopes = reader.scopes()?;
        Some(Claims {
            issuer: reader.text("iss", self.without_issuer.then(|| issuer.text()))?,
            subject: reader.text("sub", self.without_subject.then(|| client_id.text()))?,
            audiences: reader.audiences()?,
            issued_at: reader.time("iat")?,
            expires_at: reader.time("exp")?,
            not_before: if claims.contains_key("nbf") { Some(reader.time("nbf")?) } else { None },
            token_id: reader.token_id()?,
            cleared: Cleared::default(),
            client_id,
            scopes: match &self.map_scopes {
                Some(map) => scopes.union(&map(&Value::Object(claims))),
                None => scopes,
            },
        })
    }
}

struct Reader<'a> {
    profile: &'a TokenProfile,
    claims: &'a Object,
}

impl Reader<'_> {
    /// A text that is not empty, or what stands for it.
    fn text(&self, name: &str, otherwise: Option<&Text>) -> Option<Text> {
        match self.claims.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(text.as_str().into()),
            None | Some(Value::String(_)) => otherwise.cloned(),
            Some(_) => None,
        }
    }

    /// The first claim that is there has to hold one.
    fn client_id(&self) -> Option<ClientId> {
        let claim = self.profile.client_id.iter().find_map(|name| self.claims.get(name))?;
        match claim {
            Value::String(id) => id.as_str().try_into().ok(),
            Value::Array(ids) => match ids.as_slice() {
                [Value::String(id)] => id.as_str().try_into().ok(),
                _ => None,
            },
            _ => None,
        }
    }

    fn audiences(&self) -> Option<Audiences> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => Some(Audiences::One(one.as_str().into())),
            Some(Value::Array(several)) => several
                .iter()
                .map(|audience| audience.as_str().map(Text::from))
                .collect::<Option<_>>()
                .map(Audiences::Several),
            None => self.profile.without_audience().then(|| Audiences::Several(Box::default())),
            Some(_) => None,
        }
    }

    fn token_id(&self) -> Option<Text> {
        match self.claims.get("jti") {
            Some(Value::String(id)) => Some(id.as_str().into()),
            None => self.profile.without_token_id.then_some(Text::Literal("")),
            Some(_) => None,
        }
    }

    fn scopes(&self) -> Option<Scopes> {
        let claims = self.profile.scopes.iter().filter_map(|name| self.claims.get(name));
        claims.map(scopes_of).try_fold(Scopes::NONE, |all, scopes| Some(all.union(&scopes?)))
    }

    fn time(&self, name: &str) -> Option<UnixTime> {
        let number = self.claims.get(name)?.as_number()?;
        match number.as_u64() {
            Some(seconds) => UnixTime::from_secs(seconds),
            None if self.profile.fractional_times => whole_seconds(number.as_f64()?),
            None => None,
        }
    }
}

/// A string of scopes (RFC 6749 §3.3), or a list of single ones.
fn scopes_of(claim: &Value) -> Option<Scopes> {
    match claim {
        Value::String(scopes) => scopes.parse().ok(),
        Value::Array(list) => list.iter().map(|scope| scope.as_str()?.parse::<Scope>().ok()).collect(),
        _ => None,
    }
}

/// Up to the year 10,000: beyond 2⁵³ a fraction means nothing, and before 1970 nobody issued a token.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // within the bounds
fn whole_seconds(seconds: f64) -> Option<UnixTime> {
    (0.0..253_402_300_800.0).contains(&seconds).then(|| UnixTime::from_secs(seconds as u64)).flatten()
}

/// An object none of whose members occurs twice (RFC 7519 §4).
pub(super) struct Unique(pub(super) Object);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(UniqueVisitor)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims of a token")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut object = Object::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a claim occurs twice"));
            }
        }
        Ok(Unique(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::claims::Claims;
    use crate::resource_server::TokenProfile;

    fn good() -> Value {
        json!({"iss": "https://i", "sub": "s", "aud": "a", "client_id": "c", "iat": 1, "exp": 2, "jti": "j", "scope": "x"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    fn parse(profile: &TokenProfile, claims: &Value) -> Option<Claims> {
        profile.parse(claims.to_string().as_bytes(), &"https://i".parse().unwrap())
    }

    #[test]
    fn the_default_reads_what_rfc_9068_has_and_refuses_what_it_has_not() {
        let default = TokenProfile::default();
        assert!(parse(&default, &good()).is_some());
        for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"] {
            assert!(parse(&default, &without(name)).is_none(), "{name}");
            for value in [Value::Null, json!({}), json!(true), json!(1.5), json!([5])] {
                assert!(parse(&default, &with(name, value.clone())).is_none(), "{name} {value}");
            }
        }
        let twice = good().to_string().replacen('{', r#"{"exp":9,"#, 1);
        assert!(default.parse(twice.as_bytes(), &"https://i".parse().unwrap()).is_none());
        for text in ["", "[]", "5", "{"] {
            assert!(default.parse(text.as_bytes(), &"https://i".parse().unwrap()).is_none(), "{text}");
        }
    }

    #[test]
    fn scopes_come_as_a_string_or_as_a_list_and_from_several_claims() {
        let profile = TokenProfile::default().scopes_in(["scp", "scope"]);
        let scopes = |value| parse(&profile, &with("scp", value)).map(|claims| claims.scopes.to_string());
        assert_eq!(scopes(json!("a b")).as_deref(), Some("a b x"));
        assert_eq!(scopes(json!(["a", "b", "x"])).as_deref(), Some("a b x"));
        assert_eq!(scopes(json!([])).as_deref(), Some("x"));
        for value in [json!(["a b"]), json!([5]), json!(5), json!([""]), json!({"a": 1}), Value::Null] {
            assert_eq!(scopes(value.clone()), None, "{value}");
        }
    }

    #[test]
    fn times_with_fractions_are_cut_off_and_stay_in_range() {
        let profile = TokenProfile::default().fractional_times();
        let exp = |value| parse(&profile, &with("exp", value)).map(|claims| claims.expires_at.as_secs());
        assert_eq!(exp(json!(1.9)), Some(1));
        assert_eq!(exp(json!(1_700_000_000.123_456)), Some(1_700_000_000));
        for value in [json!(-0.5), json!(-1), json!(1e30), json!(u64::MAX), json!("1"), Value::Null] {
            assert_eq!(exp(value.clone()), None, "{value}");
        }
        assert!(parse(&TokenProfile::default(), &with("exp", json!(1.0))).is_none());
    }

    #[test]
    fn the_client_is_named_by_the_first_claim_that_is_there() {
        let profile = TokenProfile::default().client_id_in(["azp", "aud"]);
        let client = |claims: &Value| parse(&profile, claims).map(|claims| claims.client_id.to_string());
        assert_eq!(client(&with("azp", json!("z"))).as_deref(), Some("z"));
        assert_eq!(client(&good()).as_deref(), Some("a"));
        assert_eq!(client(&with("aud", json!(["a"]))).as_deref(), Some("a"));
        assert_eq!(client(&with("aud", json!(["a", "b"]))), None);
        assert_eq!(client(&with("azp", json!(""))), None);
        assert_eq!(client(&with("azp", Value::Null)), None);
    }

    #[test]
    fn each_claim_that_may_be_missing_is_missing_by_its_own_setting_alone() {
        let profile = TokenProfile::default;
        assert_eq!(parse(&profile().without_subject(), &without("sub")).unwrap().subject, "c".into());
        assert_eq!(parse(&profile().without_subject(), &with("sub", json!(""))).unwrap().subject, "c".into());
        assert_eq!(parse(&profile().without_token_id(), &without("jti")).unwrap().token_id, "".into());
        assert_eq!(parse(&profile().without_token_issuer(), &without("iss")).unwrap().issuer, "https://i".into());
        assert_eq!(parse(&profile().without_token_issuer(), &with("iss", json!("o"))).unwrap().issuer, "o".into());
        assert!(parse(&profile().clients_instead_of_audience(["c"]), &without("aud")).is_some());
        for name in ["iss", "sub", "aud", "jti"] {
            let lenient = profile().without_subject().without_token_id().without_token_issuer();
            assert!(parse(&lenient.clients_instead_of_audience(["c"]), &with(name, json!(5))).is_none(), "{name}");
        }
    }

    #[test]
    fn a_required_claim_has_its_value() {
        let profile = TokenProfile::default().require_claim("use", "access").require_claim("ver", 2);
        let claims = |usage: Value, ver: Value| {
            parse(
                &profile,
                &json!({"use": usage, "ver": ver, "iss": "https://i",
            "sub": "s", "aud": "a", "client_id": "c", "iat": 1, "exp": 2, "jti": "j"}),
            )
        };
        assert!(claims(json!("access"), json!(2)).is_some());
        assert!(claims(json!("id"), json!(2)).is_none());
        assert!(claims(json!("access"), json!("2")).is_none());
        assert!(parse(&profile, &good()).is_none());
    }
}
