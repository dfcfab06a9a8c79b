//! The claims of tokens that do not follow RFC 9068: JSON → [`Claims`], as a [`TokenProfile`] defines.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::claims::{Audiences, BINDING, Claims};
use super::refused_token::{listed, shown};
use super::token_profile::{Object, TokenProfile};
use super::{InvalidToken, RefusedToken};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::numeric_date::NumericDate;
use crate::revocation::Cleared;
use crate::scope::{Scope, Scopes};
use crate::text::Text;

impl TokenProfile {
    /// Reads the claims as the profile defines.
    pub(super) fn parse(&self, json: &[u8], issuer: &Issuer) -> Result<Claims, RefusedToken> {
        let Unique(claims) = serde_json::from_slice(json).map_err(|_| {
            let detail = "the payload must be a JSON object with unique names (RFC 7519 §4)";
            RefusedToken::because(InvalidToken::Claims, detail.to_owned())
        })?;
        self.read(claims, issuer)
    }

    /// Like [`parse`](Self::parse), for an object that is already deserialized.
    pub(super) fn read(&self, claims: Object, issuer: &Issuer) -> Result<Claims, RefusedToken> {
        self.understand(claims, issuer).map_err(Mistake::refused)
    }

    /// Returns why the claims were refused, after another reader with the same rules refused them without a reason.
    #[cold]
    pub(super) fn why_not(&self, json: &[u8], issuer: &Issuer) -> RefusedToken {
        self.parse(json, issuer).err().unwrap_or(RefusedToken::new(InvalidToken::Claims))
    }

    fn understand(&self, claims: Object, issuer: &Issuer) -> Result<Claims, Mistake> {
        let reader = Reader { profile: self, claims: &claims };
        reader.required()?;
        let client_id = reader.client_id()?;
        let scopes = reader.scopes()?;
        Ok(Claims {
            issuer: reader.text("iss", self.without_issuer.then(|| issuer.text()))?,
            subject: reader.text("sub", self.without_subject.then(|| client_id.text()))?,
            audiences: reader.audiences()?,
            issued_at: reader.time("iat", NumericDate::rounded_down)?,
            expires_at: reader.time("exp", NumericDate::rounded_down)?,
            not_before: claims.contains_key("nbf").then(|| reader.time("nbf", NumericDate::rounded_up)).transpose()?,
            token_id: reader.token_id()?,
            bound: claims.contains_key(BINDING),
            cleared: Cleared::default(),
            client_id,
            scopes: match &self.map_scopes {
                Some(map) => scopes.union(&map(&Value::Object(claims))),
                None => scopes,
            },
        })
    }
}

/// A claim that differs from what the profile expects, for the operator.
struct Mistake {
    claim: String,
    found: String,
    expected: String,
    setting: &'static str,
}

impl Mistake {
    fn refused(self) -> RefusedToken {
        let Self { claim, found, expected, setting } = self;
        let detail = format!("{claim} is {found}, expected {expected}; {setting}");
        RefusedToken::because(InvalidToken::Claims, detail)
    }
}

struct Reader<'a> {
    profile: &'a TokenProfile,
    claims: &'a Object,
}

impl Reader<'_> {
    fn mistake(&self, claim: &str, expected: &str, setting: &'static str) -> Mistake {
        let found = self.claims.get(claim).map_or_else(|| "absent".to_owned(), shown);
        Mistake { claim: format!("`{claim}`"), found, expected: expected.to_owned(), setting }
    }

    fn required(&self) -> Result<(), Mistake> {
        let differs = |(name, value): &&(String, Value)| self.claims.get(name) != Some(value);
        match self.profile.required.iter().find(differs) {
            Some((name, value)) => Err(self.mistake(name, &shown(value), "`TokenProfile::require_claim` requires it")),
            None => Ok(()),
        }
    }

    /// Returns a non-empty string, or its substitute.
    fn text(&self, name: &str, otherwise: Option<&Text>) -> Result<Text, Mistake> {
        let mistake = || {
            let setting = match name {
                "iss" => "`TokenProfile::without_token_issuer` accepts tokens without it",
                _ => "`TokenProfile::without_subject` accepts tokens without it",
            };
            self.mistake(name, "a non-empty string", setting)
        };
        match self.claims.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str().into()),
            None | Some(Value::String(_)) => otherwise.cloned().ok_or_else(mistake),
            Some(_) => Err(mistake()),
        }
    }

    /// Returns the client id from the first claim that is present.
    fn client_id(&self) -> Result<ClientId, Mistake> {
        const SETTING: &str = "`TokenProfile::client_id_in` names another claim";
        let Some((name, claim)) = self.profile.client_id.iter().find_map(|name| self.claims.get_key_value(name)) else {
            let names = listed(self.profile.client_id.iter().map(String::as_str));
            let claim = format!("each of the claims {names}");
            let expected = "one of them to name the client".to_owned();
            return Err(Mistake { claim, found: "absent".to_owned(), expected, setting: SETTING });
        };
        let id = match claim {
            Value::String(id) => id.as_str().try_into().ok(),
            Value::Array(ids) => match ids.as_slice() {
                [Value::String(id)] => id.as_str().try_into().ok(),
                _ => None,
            },
            _ => None,
        };
        id.ok_or_else(|| self.mistake(name, "one client id of 1 to 255 printable ASCII characters", SETTING))
    }

    fn audiences(&self) -> Result<Audiences, Mistake> {
        let audiences = match self.claims.get("aud") {
            Some(Value::String(one)) => Some(Audiences::One(one.as_str().into())),
            Some(Value::Array(several)) => several
                .iter()
                .map(|audience| audience.as_str().map(Text::from))
                .collect::<Option<_>>()
                .map(Audiences::Several),
            None => self.profile.without_audience().then(|| Audiences::Several(Box::default())),
            Some(_) => None,
        };
        audiences.ok_or_else(|| {
            let setting = "`TokenProfile::clients_instead_of_audience` accepts tokens without it";
            self.mistake("aud", "a string or an array of strings", setting)
        })
    }

    fn token_id(&self) -> Result<Text, Mistake> {
        let token_id = match self.claims.get("jti") {
            Some(Value::String(id)) => Some(id.as_str().into()),
            None => self.profile.without_token_id.then_some(Text::Literal("")),
            Some(_) => None,
        };
        token_id.ok_or_else(|| {
            self.mistake("jti", "a string", "`TokenProfile::without_token_id` accepts tokens without it")
        })
    }

    fn scopes(&self) -> Result<Scopes, Mistake> {
        let claims = self.profile.scopes.iter().filter_map(|name| Some((name, self.claims.get(name)?)));
        claims.into_iter().try_fold(Scopes::NONE, |all, (name, claim)| {
            let scopes = scopes_of(claim).ok_or_else(|| {
                let setting = "`TokenProfile::scopes_in` names other claims";
                self.mistake(name, "scopes in a string, separated by spaces, or in an array (RFC 6749 §3.3)", setting)
            })?;
            Ok(all.union(&scopes))
        })
    }

    fn time(&self, name: &str, round: impl Fn(NumericDate) -> Option<UnixTime>) -> Result<UnixTime, Mistake> {
        let time = self.claims.get(name).and_then(Value::as_number).and_then(NumericDate::from_json).and_then(round);
        time.ok_or_else(|| {
            let expected = "a number of seconds since 1970, before the year 10,000 (RFC 7519 §2)";
            self.mistake(name, expected, "no setting accepts tokens without it")
        })
    }
}

/// Parses a string of scopes (RFC 6749 §3.3), or an array of single scopes.
fn scopes_of(claim: &Value) -> Option<Scopes> {
    match claim {
        Value::String(scopes) => scopes.parse().ok(),
        Value::Array(list) => list.iter().map(|scope| scope.as_str()?.parse::<Scope>().ok()).collect(),
        _ => None,
    }
}

/// An object whose member names are unique (RFC 7519 §4).
pub(crate) struct Unique(pub(crate) Object);

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
    use crate::clock::UnixTime;
    use crate::verification::TokenProfile;

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
        profile.parse(claims.to_string().as_bytes(), &"https://i".parse().unwrap()).ok()
    }

    #[test]
    fn the_default_accepts_exactly_the_claims_of_rfc_9068() {
        let default = TokenProfile::default();
        assert!(parse(&default, &good()).is_some());
        for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"] {
            assert!(parse(&default, &without(name)).is_none(), "{name}");
            for value in [Value::Null, json!({}), json!(true), json!(-1.5), json!([5])] {
                assert!(parse(&default, &with(name, value.clone())).is_none(), "{name} {value}");
            }
        }
        let twice = good().to_string().replacen('{', r#"{"exp":9,"#, 1);
        assert!(default.parse(twice.as_bytes(), &"https://i".parse().unwrap()).is_err());
        for text in ["", "[]", "5", "{"] {
            assert!(default.parse(text.as_bytes(), &"https://i".parse().unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn scopes_may_be_a_string_or_an_array_in_several_claims() {
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
    fn fractional_times_are_rounded_to_shorten_the_lifetime_and_stay_in_range() {
        let times = |value: Value| {
            let mut claims = with("exp", value.clone());
            claims["iat"] = value.clone();
            claims["nbf"] = value;
            let claims = parse(&TokenProfile::default(), &claims)?;
            Some([claims.expires_at, claims.issued_at, claims.not_before?].map(UnixTime::as_secs))
        };
        assert_eq!(times(json!(1.9)), Some([1, 1, 2]));
        assert_eq!(times(json!(1.0)), Some([1, 1, 1]));
        assert_eq!(times(json!(1_700_000_000.123_456)), Some([1_700_000_000, 1_700_000_000, 1_700_000_001]));
        for value in [json!(-0.5), json!(-1), json!(1e12), json!(1e30), json!(u64::MAX), json!("1"), Value::Null] {
            assert_eq!(times(value.clone()), None, "{value}");
        }
    }

    #[test]
    fn a_token_is_bound_if_cnf_is_present_with_any_value() {
        assert!(!parse(&TokenProfile::default(), &good()).unwrap().bound);
        for value in [json!({"jkt": "k"}), json!({}), Value::Null, json!("k"), json!(5), json!(false)] {
            assert!(parse(&TokenProfile::default(), &with("cnf", value.clone())).unwrap().bound, "{value}");
        }
    }

    /// `Claims::parse` only refuses; this reader gives the reason.
    #[test]
    fn the_refusal_of_rfc_9068_claims_names_the_claim() {
        for name in ["iss", "sub", "aud", "client_id", "iat", "exp", "jti"] {
            for claims in [without(name), with(name, json!({})), with(name, Value::Null)] {
                let json = claims.to_string();
                assert!(Claims::parse(json.as_bytes(), &[]).is_none());
                let refused = TokenProfile::default().why_not(json.as_bytes(), &"https://i".parse().unwrap());
                assert!(refused.to_string().contains(name) && refused.to_string().contains("expected"), "{refused}");
            }
        }
    }

    #[test]
    fn the_first_claim_that_is_present_names_the_client() {
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
    fn each_optional_claim_has_its_own_setting() {
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
    fn a_required_claim_must_have_its_value() {
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
