//! The checks of RFC 9068 §4 and RFC 8725 §3: a token's text → [`VerifiedToken`].

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

use super::claims::Claims;
use super::verified_token::VerifiedToken;
use crate::audience::Audience;
use crate::clock::{Clock, UnixTime};
use crate::issuer::Issuer;
use crate::keys::{KeyRing, VerifyingKey};

/// A clock that differs by more is wrong, and a larger leeway would be a longer life for every token.
const MOST_LEEWAY: Duration = Duration::from_secs(300);

/// The longest token that is looked at, in bytes.
pub(crate) const LONGEST_TOKEN: usize = 16 * 1024;

/// Verifies the tokens of one issuer for one audience; a clone is the same verifier.
///
/// It comes from [`AuthorizationServer::verifier`](crate::AuthorizationServer::verifier), and usually goes into a
/// [`BearerAuthLayer`](super::BearerAuthLayer). For tokens that arrive by another way than HTTP, it verifies by
/// itself:
///
/// ```
/// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
/// # let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())?;
/// let verifier = server.verifier("https://api.example.com")?;
/// let error = verifier.verify("a.b.c").unwrap_err();
/// assert_eq!(error.to_string(), "it is not a JWS in compact form");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Verifier(Arc<Settings>);

#[derive(Clone, Debug)]
struct Settings {
    issuer: Issuer,
    audience: Audience,
    keys: KeyRing,
    clock: Arc<dyn Clock>,
    leeway: Duration,
}

impl Verifier {
    pub(crate) fn new(issuer: Issuer, audience: Audience, keys: KeyRing, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Settings { issuer, audience, keys, clock, leeway: Duration::from_secs(5) }))
    }

    /// How far the issuer's clock may differ from ours, in whole seconds: 5 by default, 5 minutes at most, and more is
    /// taken for that. It applies to `exp`, `nbf` and `iat`.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        Arc::make_mut(&mut self.0).leeway = leeway.min(MOST_LEEWAY);
        self
    }

    /// The audience that tokens must be for.
    #[must_use]
    pub fn audience(&self) -> &Audience {
        &self.0.audience
    }

    pub(super) fn now(&self) -> SystemTime {
        self.0.clock.now()
    }

    /// Whether what one proved holds for the other.
    pub(super) fn checks_the_same_as(&self, other: &Self) -> bool {
        let (one, other) = (&*self.0, &*other.0);
        (&one.issuer, &one.audience, one.leeway) == (&other.issuer, &other.audience, other.leeway)
            && one.keys.is(&other.keys)
            && Arc::ptr_eq(&one.clock, &other.clock)
    }

    /// Checks again what time can change.
    pub(super) fn still_good(&self, token: &VerifiedToken) -> Result<VerifiedToken, InvalidToken> {
        self.check(token.parsed_claims())?;
        Ok(token.clone())
    }

    /// Verifies a token: a JWS in compact form, `typ: at+jwt`, signed by a trusted key, from the issuer, for the
    /// audience, in its time.
    ///
    /// # Errors
    ///
    /// The first check that fails. Its text is for the operator; tell the caller no more than "invalid".
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, InvalidToken> {
        let jws = Jws::split(token)?;
        let header = decode(jws.header)?;
        let key = self.trusted_key(&Header::parse(&header)?)?;
        let payload = jws.verified_payload(key)?;
        let claims = Claims::parse(&payload).map_err(|_| InvalidToken::Claims)?;
        self.check(&claims)?;
        Ok(VerifiedToken::new(token, claims, payload, self))
    }

    /// The key is ours to choose: the header names it, and nothing in the header brings one along.
    fn trusted_key(&self, header: &Header<'_>) -> Result<&VerifyingKey, InvalidToken> {
        // RFC 9068 §4: the type keeps an ID token, or any other JWT of the issuer, from passing for a token.
        if !is_access_token(&header.typ) {
            return Err(InvalidToken::Type);
        }
        // RFC 7515 §4.1.11: an extension that must be understood, and we understand none.
        if header.crit == Presence::Present {
            return Err(InvalidToken::Critical);
        }
        if [header.jku, header.jwk, header.x5u].contains(&Presence::Present) {
            return Err(InvalidToken::ForeignKey);
        }
        let mut keys = self.0.keys.named(&header.kid).peekable();
        keys.peek().ok_or(InvalidToken::UnknownKey)?;
        // RFC 8725 §3.1: the algorithm is the key's, and not the token's to choose.
        keys.find(|key| key.algorithm().is_named(&header.alg)).ok_or(InvalidToken::Algorithm)
    }

    fn check(&self, claims: &Claims) -> Result<(), InvalidToken> {
        let Settings { issuer, audience, clock, leeway, .. } = &*self.0;
        let now = UnixTime::now(&**clock);
        if claims.issuer != issuer.as_str() {
            return Err(InvalidToken::Issuer);
        }
        if !claims.audiences.iter().any(|own| own == audience.as_str()) {
            return Err(InvalidToken::Audience);
        }
        // RFC 7519 §4.1.4: on or after `exp` is too late.
        if now >= claims.expires_at.after(*leeway) {
            return Err(InvalidToken::Expired);
        }
        let begin = claims.not_before.map_or(claims.issued_at, |not_before| not_before.max(claims.issued_at));
        if begin > now.after(*leeway) {
            return Err(InvalidToken::NotYetValid);
        }
        Ok(())
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { issuer, audience, .. } = &*self.0;
        f.debug_struct("Verifier").field("issuer", issuer).field("audience", audience).finish_non_exhaustive()
    }
}

/// The three parts of a compact JWS (RFC 7515 §7.1).
struct Jws<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    /// What the signature covers: header, dot, payload.
    signed: &'a str,
}

impl<'a> Jws<'a> {
    fn split(token: &'a str) -> Result<Self, InvalidToken> {
        if token.len() > LONGEST_TOKEN {
            return Err(InvalidToken::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(InvalidToken::Malformed)?;
        if payload.contains('.') {
            return Err(InvalidToken::Malformed);
        }
        Ok(Self { header, payload, signature, signed })
    }

    fn verified_payload(&self, key: &VerifyingKey) -> Result<Vec<u8>, InvalidToken> {
        let signature = decode(self.signature)?;
        if !key.verifies(self.signed.as_bytes(), &signature) {
            return Err(InvalidToken::Signature);
        }
        decode(self.payload)
    }
}

/// base64url without padding, to the letter: stray bits and characters are refused.
fn decode(part: &str) -> Result<Vec<u8>, InvalidToken> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidToken::Malformed)
}

/// The members of a JOSE header that decide anything (RFC 7515 §4.1).
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(borrow, default)]
    typ: Cow<'a, str>,
    #[serde(borrow, default)]
    kid: Cow<'a, str>,
    #[serde(default)]
    crit: Presence,
    #[serde(default)]
    jku: Presence,
    #[serde(default)]
    jwk: Presence,
    #[serde(default)]
    x5u: Presence,
}

impl<'a> Header<'a> {
    /// A JSON object (RFC 7515 §4); serde would take an array for the struct as well.
    fn parse(json: &'a [u8]) -> Result<Self, InvalidToken> {
        match json {
            [b'{', ..] => serde_json::from_slice(json).map_err(|_| InvalidToken::Header),
            _ => Err(InvalidToken::Header),
        }
    }
}

/// Whether a member is there, whatever its value is, `null` included.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Presence {
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
fn is_access_token(typ: &str) -> bool {
    typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt")
}

/// Why a token is refused. For the operator: a caller is told no more than `invalid_token`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidToken {
    /// Longer than 16 KiB.
    #[error("it is longer than 16 KiB")]
    TooLong,
    /// Not three parts in base64url.
    #[error("it is not a JWS in compact form")]
    Malformed,
    /// The header is not a JOSE header.
    #[error("its header is malformed")]
    Header,
    /// `typ` is not `at+jwt`.
    #[error("its type is not at+jwt")]
    Type,
    /// `crit` asks for an extension.
    #[error("its header asks for a critical extension")]
    Critical,
    /// `jku`, `jwk` or `x5u` brings a key along.
    #[error("its header brings a key along")]
    ForeignKey,
    /// `kid` names no trusted key.
    #[error("its key is not known")]
    UnknownKey,
    /// `alg` is not the algorithm of the key.
    #[error("its algorithm is not that of its key")]
    Algorithm,
    /// The signature is not the key's.
    #[error("its signature does not match")]
    Signature,
    /// A claim of RFC 9068 is missing, twice, or of another type.
    #[error("its claims are not those of a JWT access token")]
    Claims,
    /// `iss` is another issuer.
    #[error("it is from another issuer")]
    Issuer,
    /// `aud` does not name this API.
    #[error("it is for another audience")]
    Audience,
    /// `exp` is past.
    #[error("it has expired")]
    Expired,
    /// `nbf` or `iat` is yet to come.
    #[error("it is not valid yet")]
    NotYetValid,
}
