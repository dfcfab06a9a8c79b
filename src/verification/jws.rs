//! A token as a JWS in compact form (RFC 7515 §7.1): text → [`Jws`] and its [`Header`].

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::{InvalidToken, RefusedToken};
use crate::base64url::{self, DecodeSliceError};
#[cfg(feature = "remote")]
use crate::clock::UnixTime;
use crate::keys::VerifyingKey;
#[cfg(feature = "remote")]
use crate::numeric_date::NumericDate;
use crate::object::Object;

/// The longest token that is looked at, in bytes.
pub(crate) const LONGEST_TOKEN: usize = 16 * 1024;

/// The longest signature that there is a key for, RSA's of 8,192 bits, in bytes.
const LONGEST_SIGNATURE: usize = 1024;

/// The three parts of a compact JWS (RFC 7515 §7.1).
pub(super) struct Jws<'a> {
    pub(super) header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What the signature covers: header, dot, payload.
    signed: &'a str,
}

impl<'a> Jws<'a> {
    pub(super) fn split(token: &'a str) -> Result<Self, InvalidToken> {
        if token.len() > LONGEST_TOKEN {
            return Err(InvalidToken::TooLong);
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidToken::Malformed);
        };
        let (signed, _) = token.split_at_checked(header.len() + 1 + payload.len()).ok_or(InvalidToken::Malformed)?;
        Ok(Self { header, payload, signature, signed })
    }

    /// Who the token says it is from: for choosing who is to prove it, and for nothing else.
    pub(super) fn unverified_issuer(&self) -> Result<String, InvalidToken> {
        #[derive(Deserialize)]
        struct Claims {
            iss: String,
        }
        let payload = decode(self.payload)?;
        let claims = serde_json::from_slice(&payload).map_err(|_| InvalidToken::Claims)?;
        let Object::<Claims>(Claims { iss }) = claims;
        Ok(iss)
    }

    /// Returns when the token says that it was issued, if it does: for a refusal, and for nothing else.
    #[cfg(feature = "remote")]
    pub(super) fn unverified_time_of_issue(&self) -> Option<UnixTime> {
        #[derive(Deserialize)]
        struct Claims {
            iat: NumericDate,
        }
        let payload = decode(self.payload).ok()?;
        let Object::<Claims>(Claims { iat }) = serde_json::from_slice(&payload).ok()?;
        iat.rounded_up()
    }

    pub(super) fn verified_payload(&self, key: &VerifyingKey) -> Result<Vec<u8>, InvalidToken> {
        let mut signature = [0; LONGEST_SIGNATURE];
        let length = match base64url::decode_into(&mut signature, self.signature) {
            Ok(length) => length,
            Err(DecodeSliceError::DecodeError(_)) => return Err(InvalidToken::Malformed),
            Err(DecodeSliceError::OutputSliceTooSmall) => return Err(InvalidToken::Signature),
        };
        match signature.get(..length) {
            Some(signature) if key.verifies(self.signed.as_bytes(), signature) => decode(self.payload),
            _ => Err(InvalidToken::Signature),
        }
    }
}

/// The payload of a token that was verified before.
pub(super) fn payload(token: &str) -> Result<Vec<u8>, InvalidToken> {
    decode(Jws::split(token)?.payload)
}

/// base64url without padding, to the letter: stray bits and characters are refused.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, InvalidToken> {
    base64url::decode(part).map_err(|_| InvalidToken::Malformed)
}

/// The members of a JOSE header that decide anything (RFC 7515 §4.1).
#[derive(Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) typ: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) kid: Cow<'a, str>,
    #[serde(default)]
    pub(super) crit: Presence,
    #[serde(default)]
    pub(super) jku: Presence,
    #[serde(default)]
    pub(super) jwk: Presence,
    #[serde(default)]
    pub(super) x5u: Presence,
}

impl<'a> Header<'a> {
    /// A JSON object (RFC 7515 §4); serde would take an array for the struct as well.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, InvalidToken> {
        match json {
            [b'{', ..] => serde_json::from_slice(json).map_err(|_| InvalidToken::Header),
            _ => Err(InvalidToken::Header),
        }
    }

    /// Names the parameter that brings a key along, for the operator.
    #[cold]
    pub(super) fn brings_key(&self) -> RefusedToken {
        let parameters = [("jku", self.jku), ("jwk", self.jwk), ("x5u", self.x5u)];
        let found = parameters.iter().find(|(_, presence)| *presence == Presence::Present);
        RefusedToken::header(InvalidToken::ForeignKey, found.map_or("", |(name, _)| name))
    }
}

/// Whether a member is there, whatever its value is, `null` included.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    Absent,
    Present,
}

impl<'de> Deserialize<'de> for Presence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self::Present)
    }
}

/// `at+jwt` or `application/at+jwt` (RFC 9068 §4), in any case, as media types are.
pub(super) fn is_access_token(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::{InvalidToken, Jws};

    #[test]
    fn the_issuer_is_read_from_an_object_and_not_from_a_list() {
        let issuer = |claims: &str| {
            let token = format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims));
            Jws::split(&token).and_then(|jws| jws.unverified_issuer())
        };
        assert_eq!(issuer(r#"{"iss": "https://i", "sub": 5}"#).as_deref(), Ok("https://i"));
        assert_eq!(issuer(r#"["https://i"]"#), Err(InvalidToken::Claims));
    }
}
