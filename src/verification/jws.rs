//! [`Jws`]: a token as a JWS in compact form (RFC 7515 §7.1), and its [`Header`].

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::{InvalidToken, RefusedToken};
use crate::base64url::{self, DecodeSliceError};
#[cfg(feature = "remote")]
use crate::clock::UnixTime;
use crate::keys::{HmacAlgorithm, VerifyingKey};
#[cfg(feature = "remote")]
use crate::numeric_date::NumericDate;
use crate::object::Object;

/// The maximum length of a token, in bytes.
pub(crate) const LONGEST_TOKEN: usize = 16 * 1024;

/// The maximum length of a signature, in bytes: that of an RSA key of 8,192 bits.
const LONGEST_SIGNATURE: usize = 1024;

/// The three parts of a compact JWS (RFC 7515 §7.1).
pub(crate) struct Jws<'a> {
    pub(super) header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// The signed text: header, dot, payload.
    signed: &'a str,
}

impl<'a> Jws<'a> {
    pub(crate) fn split(token: &'a str) -> Result<Self, InvalidToken> {
        if token.len() > LONGEST_TOKEN {
            return Err(InvalidToken::TooLong);
        }
        let mut dots = memchr::memchr_iter(b'.', token.as_bytes());
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(InvalidToken::Malformed);
        };
        let part = |place| token.get(place).ok_or(InvalidToken::Malformed);
        let (header, payload, signature) = (part(0..first)?, part(first + 1..second)?, part(second + 1..token.len())?);
        Ok(Self { header, payload, signature, signed: part(0..second)? })
    }

    /// Returns the header in base64url.
    pub(crate) fn header(&self) -> &'a str {
        self.header
    }

    /// Returns the payload in base64url. Unauthenticated, unless the [signature](Self::is_signed_by) is verified.
    pub(crate) fn payload(&self) -> &'a str {
        self.payload
    }

    /// Returns whether the signature is well-formed and one of this key.
    pub(crate) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        self.verify(key).is_ok()
    }

    /// Returns whether the signature is well-formed and the HMAC under this secret.
    pub(crate) fn is_signed_with(&self, algorithm: HmacAlgorithm, secret: &[u8]) -> bool {
        self.verify_by(|signed, signature| algorithm.verifies(secret, signed, signature)).is_ok()
    }

    /// Returns the issuer that the token claims. Unauthenticated: only for choosing the issuer whose keys verify it.
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

    /// Returns the time of issue that the token claims, if any. Unauthenticated: only for a decision to refuse.
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
        self.verify(key)?;
        decode(self.payload)
    }

    fn verify(&self, key: &VerifyingKey) -> Result<(), InvalidToken> {
        self.verify_by(|signed, signature| key.verifies(signed, signature))
    }

    #[inline]
    fn verify_by(&self, verifies: impl FnOnce(&[u8], &[u8]) -> bool) -> Result<(), InvalidToken> {
        let mut signature = [0; LONGEST_SIGNATURE];
        let length = match base64url::decode_into(&mut signature, self.signature) {
            Ok(length) => length,
            Err(DecodeSliceError::DecodeError(_)) => return Err(InvalidToken::Malformed),
            Err(DecodeSliceError::OutputSliceTooSmall) => return Err(InvalidToken::Signature),
        };
        match signature.get(..length) {
            Some(signature) if verifies(self.signed.as_bytes(), signature) => Ok(()),
            _ => Err(InvalidToken::Signature),
        }
    }
}

/// Returns the payload of a token that was verified before.
pub(super) fn payload(token: &str) -> Result<Vec<u8>, InvalidToken> {
    decode(Jws::split(token)?.payload)
}

/// Decodes strict base64url without padding: trailing bits and other characters are refused.
pub(super) fn decode(part: &str) -> Result<Vec<u8>, InvalidToken> {
    base64url::decode(part).map_err(|_| InvalidToken::Malformed)
}

/// The members of a JOSE header that affect the verification (RFC 7515 §4.1).
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
    /// Parses a JSON object (RFC 7515 §4). serde alone would also accept an array for the struct.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, InvalidToken> {
        match json {
            [b'{', ..] => serde_json::from_slice(json).map_err(|_| InvalidToken::Header),
            _ => Err(InvalidToken::Header),
        }
    }

    /// Returns a refusal that names the parameter with the foreign key, for the operator.
    #[cold]
    pub(super) fn brings_key(&self) -> RefusedToken {
        let parameters = [("jku", self.jku), ("jwk", self.jwk), ("x5u", self.x5u)];
        let found = parameters.iter().find(|(_, presence)| *presence == Presence::Present);
        RefusedToken::header(InvalidToken::ForeignKey, found.map_or("", |(name, _)| name))
    }
}

/// Whether a member is present, with any value, including `null`.
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

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::{InvalidToken, Jws};

    #[test]
    fn the_issuer_is_read_from_an_object_but_not_from_an_array() {
        let issuer = |claims: &str| {
            let token = format!("e30.{}.AAAA", URL_SAFE_NO_PAD.encode(claims));
            Jws::split(&token).and_then(|jws| jws.unverified_issuer())
        };
        assert_eq!(issuer(r#"{"iss": "https://i", "sub": 5}"#).as_deref(), Ok("https://i"));
        assert_eq!(issuer(r#"["https://i"]"#), Err(InvalidToken::Claims));
    }
}
