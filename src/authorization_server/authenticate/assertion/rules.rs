//! [`Rules`]: the rules for the parts of an assertion (RFC 7523 §3, RFC 10070).

use std::time::Duration;

use super::claims::{Claims, shown_text};
use super::credentials::AssertionCredentials;
use super::header::{Header, is_assertion};
use super::invalid::{AssertionRule, Refusal};
use crate::base64url;
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::issuer::Issuer;
use crate::keys::{Algorithm, HmacAlgorithm};
use crate::verification::{InvalidToken, Jws};

/// The maximum length of a `jti` in bytes.
const MAX_JTI_BYTES: usize = 128;

/// How long an assertion may be valid under an allowance for older clients: the default of authlib.
const MAX_LEGACY_LIFETIME: Duration = Duration::from_secs(3_600);

const CLOCKS: &str = "sign each assertion just before its request, and synchronize the clocks";

#[derive(Debug)]
pub(super) struct Rules {
    pub(super) issuer: Issuer,
    /// The URL of the token endpoint in the metadata, which older clients send as `aud`.
    pub(super) token_endpoint: Option<String>,
    pub(super) max_lifetime: Duration,
    pub(super) clock_skew: Duration,
    pub(super) algorithms: Vec<Algorithm>,
    /// Empty if the server accepts no `client_secret_jwt`.
    pub(super) hmac_algorithms: Vec<HmacAlgorithm>,
}

/// The decoded parts of an assertion.
pub(super) struct Parts<'a> {
    jws: Jws<'a>,
    header: Vec<u8>,
    payload: Vec<u8>,
}

/// An assertion whose parts are well-formed. Its signature is not verified.
pub(super) struct Assertion<'a> {
    pub(super) jws: &'a Jws<'a>,
    pub(super) header: Header<'a>,
    pub(super) claims: Claims<'a>,
    /// The algorithm of an assertion that a secret authenticates. Such an assertion is never checked with a public key, and any
    /// other one never with a secret.
    pub(super) hmac: Option<HmacAlgorithm>,
    /// The client that the assertion claims to be from.
    pub(super) client_id: ClientId,
}

/// A part of an assertion that is accepted only because of an allowance for older clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Legacy {
    pub(super) part: &'static str,
    pub(super) until: UnixTime,
}

impl<'a> Parts<'a> {
    pub(super) fn jws(&self) -> &Jws<'a> {
        &self.jws
    }

    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn decode(text: &'a str) -> Result<Self, Refusal> {
        let malformed = || {
            let text = "the assertion is not a signed JWT: expected three parts in base64url without padding, with dots between \
                        them (RFC 7515 §7.1)";
            Refusal::new(AssertionRule::Form, text)
        };
        let jws = Jws::split(text).map_err(|error| match error {
            InvalidToken::TooLong => {
                Refusal::new(AssertionRule::Form, "the assertion is longer than 16 KiB; remove claims from it")
            }
            _ => malformed(),
        })?;
        let header = base64url::decode(jws.header()).map_err(|_| malformed())?;
        let payload = base64url::decode(jws.payload()).map_err(|_| malformed())?;
        Ok(Self { jws, header, payload })
    }
}

impl Rules {
    /// Checks what does not depend on the client.
    pub(super) fn read<'a>(
        &self,
        credentials: &AssertionCredentials,
        parts: &'a Parts<'_>,
    ) -> Result<Assertion<'a>, Refusal> {
        let header = self.header(&parts.header)?;
        let claims = Claims::parse(&parts.payload)?;
        check_issuer(&claims)?;
        let client_id = subject(&claims)?;
        check_parameter(&client_id, credentials.client_id.as_deref())?;
        check_token_id(&claims)?;
        let hmac = HmacAlgorithm::from_name(&header.alg);
        Ok(Assertion { jws: &parts.jws, header, claims, hmac, client_id })
    }

    pub(super) fn header<'a>(&self, json: &'a [u8]) -> Result<Header<'a>, Refusal> {
        let header = header(json)?;
        check_type(&header)?;
        check_critical(&header)?;
        check_foreign_key(&header)?;
        self.check_algorithm(&header)?;
        Ok(header)
    }

    pub(super) fn check_algorithm(&self, header: &Header<'_>) -> Result<(), Refusal> {
        let is_accepted = self.algorithms.iter().any(|algorithm| algorithm.is_named(&header.alg))
            || self.hmac_algorithms.iter().any(|algorithm| algorithm.name() == header.alg);
        if is_accepted { Ok(()) } else { Err(self.other_algorithm(&header.alg, true)) }
    }

    /// Returns the refusal of an algorithm. `with_secrets` tells whether those of `client_secret_jwt` would be accepted.
    #[cold]
    pub(super) fn other_algorithm(&self, alg: &str, with_secrets: bool) -> Refusal {
        let hmac = self.hmac_algorithms.iter().filter(|_| with_secrets).map(|algorithm| algorithm.name());
        let names: Vec<_> = self.algorithms.iter().map(|algorithm| algorithm.name()).chain(hmac).collect();
        let expected = format!("one of {}", names.join(", "));
        let fix = if HmacAlgorithm::from_name(alg).is_some() {
            "sign with one of them; see ClientAssertions::algorithms, and ClientAssertions::client_secret_jwt for secrets"
        } else {
            "sign with one of them; see ClientAssertions::algorithms"
        };
        Refusal::claim(AssertionRule::Algorithm, "alg", &shown_text(alg), &expected, fix)
    }

    /// Checks the audience and the times. `allowance` is the time until which the client may send assertions as older
    /// clients do.
    pub(super) fn check(
        &self,
        assertion: &Assertion<'_>,
        allowance: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<Option<Legacy>, Refusal> {
        let audience = self.audience(&assertion.claims, allowance)?;
        let lifetime = self.times(&assertion.claims, allowance, now)?;
        Ok(audience.or(lifetime))
    }

    /// Checks `aud`: the issuer identifier, compared code point by code point, as the only value (RFC 10070).
    pub(super) fn audience(&self, claims: &Claims<'_>, allowance: Option<UnixTime>) -> Result<Option<Legacy>, Refusal> {
        let found = &*claims.aud.0;
        if found == self.issuer.as_str() {
            return Ok(None);
        }
        let is_endpoint = self.token_endpoint.as_deref() == Some(found);
        if let Some(until) = allowance.filter(|_| is_endpoint) {
            return Ok(Some(Legacy { part: "aud", until }));
        }
        let fix = if is_endpoint {
            "configure the issuer identifier as the audience in the client, or accept the URL of the token endpoint for this \
             client until a date with Client::legacy_assertions_until"
        } else {
            "configure the issuer identifier as the audience in the client, exactly as in the metadata"
        };
        let expected = format!("{}, the issuer identifier (RFC 10070)", shown_text(self.issuer.as_str()));
        Err(Refusal::claim(AssertionRule::Audience, "aud", &shown_text(found), &expected, fix))
    }

    fn times(
        &self,
        claims: &Claims<'_>,
        allowance: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<Option<Legacy>, Refusal> {
        self.check_expiry(claims, now)?;
        self.check_not_before(claims, now)?;
        self.check_issue_time(claims, now)?;
        self.lifetime(claims, allowance, now)
    }

    pub(super) fn check_expiry(&self, claims: &Claims<'_>, now: UnixTime) -> Result<(), Refusal> {
        let expires_at = expires_at(claims)?;
        if expires_at.after(self.clock_skew) <= now { Err(expired(expires_at, now)) } else { Ok(()) }
    }

    pub(super) fn check_not_before(&self, claims: &Claims<'_>, now: UnixTime) -> Result<(), Refusal> {
        let Some(time) = claims.nbf else { return Ok(()) };
        self.check_not_later("nbf", AssertionRule::NotBefore, time.rounded_up(), now)
    }

    pub(super) fn check_issue_time(&self, claims: &Claims<'_>, now: UnixTime) -> Result<(), Refusal> {
        let Some(time) = claims.iat else { return Ok(()) };
        self.check_not_later("iat", AssertionRule::IssuedAt, time.rounded_down(), now)
    }

    fn check_not_later(
        &self,
        name: &str,
        rule: AssertionRule,
        time: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        if time.is_some_and(|time| time <= now.after(self.clock_skew)) {
            return Ok(());
        }
        let found = time.map_or_else(|| "out of range".to_owned(), |time| time.as_secs().to_string());
        let expected = format!("a time until {}, which is now", now.as_secs());
        Err(Refusal::claim(rule, name, &found, &expected, CLOCKS))
    }

    /// Checks how far ahead `exp` is.
    pub(super) fn lifetime(
        &self,
        claims: &Claims<'_>,
        allowance: Option<UnixTime>,
        now: UnixTime,
    ) -> Result<Option<Legacy>, Refusal> {
        let (latest, expires_at) = (now.after(self.clock_skew), expires_at(claims)?);
        if expires_at <= latest.after(self.max_lifetime) {
            return Ok(None);
        }
        if let Some(until) = allowance.filter(|_| expires_at <= latest.after(MAX_LEGACY_LIFETIME)) {
            return Ok(Some(Legacy { part: "exp", until }));
        }
        let found = format!("{} seconds ahead", expires_at.as_secs().saturating_sub(now.as_secs()));
        let expected = format!("at most {} seconds", self.max_lifetime.as_secs());
        let fix = "sign assertions with a shorter lifetime, or see Client::legacy_assertions_until";
        Err(Refusal::claim(AssertionRule::Lifetime, "exp", &found, &expected, fix))
    }
}

pub(super) fn header(json: &[u8]) -> Result<Header<'_>, Refusal> {
    Header::parse(json).ok_or_else(|| {
        let text = "the header of the assertion is not a JSON object with a string `alg`, and with strings as `typ` and `kid` \
                    if they are present (RFC 7515 §4)";
        Refusal::new(AssertionRule::Header, text)
    })
}

pub(super) fn check_type(header: &Header<'_>) -> Result<(), Refusal> {
    if is_assertion(header.typ.as_deref()) {
        return Ok(());
    }
    let found = shown_text(header.typ.as_deref().unwrap_or_default());
    let (expected, fix) =
        ("`client-authentication+jwt`, `JWT` or none", "send an assertion that was made for client authentication");
    Err(Refusal::claim(AssertionRule::Type, "typ", &found, expected, fix))
}

pub(super) fn check_critical(header: &Header<'_>) -> Result<(), Refusal> {
    if header.crit.is_none() {
        return Ok(());
    }
    let text = "the header of the assertion has `crit`, and no extension is supported; sign without it";
    Err(Refusal::new(AssertionRule::Critical, text))
}

pub(super) fn check_foreign_key(header: &Header<'_>) -> Result<(), Refusal> {
    let Some(name) = header.foreign_key() else { return Ok(()) };
    let text = format!(
        "the header of the assertion has `{name}`, which is never used; register the key, and name it by its `kid`"
    );
    Err(Refusal::new(AssertionRule::ForeignKey, text))
}

pub(super) fn check_issuer(claims: &Claims<'_>) -> Result<(), Refusal> {
    if claims.iss == claims.sub {
        return Ok(());
    }
    let expected = format!("{}, the value of `sub`", shown_text(&claims.sub));
    let fix = "both are the client id (RFC 7523 §3); the token of a platform needs a credential for its issuer";
    Err(Refusal::claim(AssertionRule::Issuer, "iss", &shown_text(&claims.iss), &expected, fix))
}

/// Returns `sub`, which is the id of the client.
pub(super) fn subject(claims: &Claims<'_>) -> Result<ClientId, Refusal> {
    claims.sub.parse().map_err(|_| {
        let fix = "set it to the id under which the client is registered";
        Refusal::claim(AssertionRule::Subject, "sub", &shown_text(&claims.sub), "a client id", fix)
    })
}

/// Checks the parameter `client_id` of the request.
pub(super) fn check_parameter(client_id: &ClientId, parameter: Option<&str>) -> Result<(), Refusal> {
    let Some(named) = parameter.filter(|named| *named != client_id.as_str()) else { return Ok(()) };
    let text = format!(
        "the parameter `client_id` is {}, expected {}, the `sub` of the assertion; send the same id, or omit it",
        shown_text(named),
        shown_text(client_id)
    );
    Err(Refusal::new(AssertionRule::ClientId, text))
}

pub(super) fn check_token_id(claims: &Claims<'_>) -> Result<(), Refusal> {
    if (1..=MAX_JTI_BYTES).contains(&claims.jti.len()) {
        return Ok(());
    }
    let (found, fix) = (format!("{} bytes long", claims.jti.len()), "use for example a UUID");
    Err(Refusal::claim(AssertionRule::TokenId, "jti", &found, "1 to 128 bytes", fix))
}

/// Returns the refusal of an assertion with this expiry.
#[cold]
pub(super) fn expired(expires_at: UnixTime, now: UnixTime) -> Refusal {
    let expected = format!("a time after {}, which is now", now.as_secs());
    Refusal::claim(AssertionRule::Expiry, "exp", &expires_at.as_secs(), &expected, CLOCKS)
}

/// Returns the time from which the assertion is expired, without the skew.
pub(super) fn expires_at(claims: &Claims<'_>) -> Result<UnixTime, Refusal> {
    claims.exp.rounded_down().ok_or_else(|| {
        let fix = "sign each assertion just before its request";
        Refusal::claim(AssertionRule::Expiry, "exp", &"out of range", "a time soon", fix)
    })
}
