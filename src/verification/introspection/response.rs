//! Reads introspection responses (RFC 7662 §2.2, RFC 9701 §5).

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::Settings;
use crate::clock::{UnixTime, later};
use crate::numeric_date::NumericDate;
use crate::object::Object;
use crate::timing::DEFAULT_LEEWAY;
use crate::transport::{FetchError, retry_after};
use crate::verification::claims::Claims;
use crate::verification::foreign_claims::Unique;
use crate::verification::jws::{Header, Jws, decode};
use crate::verification::refused_token::{quoted, shown};
use crate::verification::trusted_issuer::TrustedIssuer;
use crate::verification::validity_period::{in_its_time, out_of_time};
use crate::verification::{InvalidToken, RefusedToken, TokenProfile, UnavailableKind, VerifyError};

/// The media type of a signed answer (RFC 9701 §5).
pub(super) const SIGNED: &str = "application/token-introspection+jwt";

/// The maximum difference between the clocks of the server and of this process, as with JWTs.
const LEEWAY: Duration = DEFAULT_LEEWAY;

/// The maximum age of a signed answer. An older one answered another request.
const OLDEST_SIGNED: Duration = Duration::from_secs(60);

/// The server's answer for a token: its claims, and the bytes they were read from; or why the token is invalid.
pub(super) type Answer = Result<(Claims, Vec<u8>), RefusedToken>;

/// The server did not report whether the token is active.
pub(super) struct NoAnswer {
    pub(super) error: FetchError,
    pub(super) kind: NoAnswerKind,
    /// How long the server asked this client to wait, usually with 429 and 503 (RFC 9110 §10.2.3).
    pub(super) retry_after: Option<Duration>,
}

/// The possible cause of a missing answer: the server, this client, or the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoAnswerKind {
    /// It cannot be reached, or this API has no credential for it. The token cannot be the cause.
    NoConnection,
    /// It refused this client's credentials (401), or asked it to wait (429, 503). The token may be the cause, and then others
    /// are not affected.
    Refused,
    /// It failed, closed the connection, or was too late. The token may be the cause, and more likely so.
    Failed,
    /// It answered, but the answer cannot be used.
    Unusable,
}

impl NoAnswer {
    pub(super) fn new(error: FetchError) -> Self {
        let kind = if error.is_no_connection() {
            NoAnswerKind::NoConnection
        } else if error.is_transient() {
            NoAnswerKind::Failed
        } else {
            NoAnswerKind::Unusable
        };
        Self { error, kind, retry_after: None }
    }

    /// Creates the error for a credential of this API that could not be read or made.
    pub(super) fn without_credential(url: &Uri, what: &str) -> Self {
        let error = FetchError::document(url, format!("it cannot be asked without the credential of this API: {what}"));
        Self { error, kind: NoAnswerKind::NoConnection, retry_after: None }
    }

    /// Creates the error for a slow token whose slot another token took.
    pub(super) fn too_slow(url: &Uri) -> Self {
        let error = FetchError::document(url, "no answer within 2 s, and its slot was needed for another token");
        Self { error, kind: NoAnswerKind::Failed, retry_after: None }
    }
}

impl Settings {
    /// Reads the answer.
    ///
    /// # Errors
    ///
    /// Why there is no answer, for the operator. The kind indicates whether other tokens are affected.
    pub(super) async fn read(&self, response: Response<Bytes>) -> Result<Answer, NoAnswer> {
        match response.status() {
            StatusCode::OK => Ok(self.understand(response).await.map_err(|what| self.about_token(what))?),
            StatusCode::UNAUTHORIZED => {
                let error =
                    self.no_document("it refuses the credentials of this API: 401; check the client id and secret");
                Err(NoAnswer { error, kind: NoAnswerKind::Refused, retry_after: None })
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Err(NoAnswer {
                error: FetchError::status(&self.endpoint, response.status()),
                kind: NoAnswerKind::Refused,
                retry_after: retry_after(response.headers(), self.clock.now()),
            }),
            // A gateway may refuse a token for its text, which a caller chooses.
            StatusCode::FORBIDDEN => {
                Err(self.about_token("it refuses this token, or the credentials of this API: 403"))
            }
            status => Err(NoAnswer {
                retry_after: retry_after(response.headers(), self.clock.now()),
                ..NoAnswer::new(FetchError::status(&self.endpoint, status))
            }),
        }
    }

    fn about_token(&self, what: impl Into<String>) -> NoAnswer {
        NoAnswer { error: self.no_document(what), kind: NoAnswerKind::Unusable, retry_after: None }
    }

    fn no_document(&self, what: impl Into<String>) -> FetchError {
        FetchError::document(&self.endpoint, what)
    }

    async fn understand(&self, response: Response<Bytes>) -> Result<Answer, String> {
        let json = match &self.signer {
            None => response.into_body().to_vec(),
            Some(signer) => self.unsealed(signer, &response).await?,
        };
        self.interpret(json)
    }

    /// Returns the answer inside a signed one, after checking the signature, the issuer and the audience.
    async fn unsealed(&self, signer: &TrustedIssuer, response: &Response<Bytes>) -> Result<Vec<u8>, String> {
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case(SIGNED) {
            return Err("the answer is not signed (RFC 9701), but the setting `signed_answers` requires it".to_owned());
        }
        let text = std::str::from_utf8(response.body()).map_err(|_| "the answer is not a JWT")?.trim();
        let payload = proven(signer, text).await.map_err(|error| format!("the signed answer is invalid: {error}"))?;
        let Object::<Sealed>(sealed) = serde_json::from_slice(&payload)
            .map_err(|_| "the signed answer lacks iss, aud, iat or token_introspection (RFC 9701 §5)")?;
        let now = UnixTime::now(&*self.clock);
        let iat = sealed.iat.rounded_down().ok_or("its iat is out of range")?;
        if sealed.iss != self.issuer.as_str() || !names(&sealed.aud, self.credentials.client_id.as_str()) {
            return Err(format!(
                "the signed answer is from another server or for another client: `iss` is {}, expected {}; `aud` is {}, \
                 expected {}",
                quoted(&sealed.iss),
                quoted(self.issuer.as_str()),
                quoted(&sealed.aud.to_string()),
                quoted(self.credentials.client_id.as_str())
            ));
        }
        if iat > now.after(LEEWAY) || now > iat.after(OLDEST_SIGNED) {
            return Err(format!(
                "the signed answer is too old or in the future: `iat` is {}, expected at most {} s before now ({}), \
                 and {} s after",
                iat.as_secs(),
                OLDEST_SIGNED.as_secs(),
                now.as_secs(),
                LEEWAY.as_secs()
            ));
        }
        Ok(sealed.token_introspection.to_string().into_bytes())
    }

    fn interpret(&self, json: Vec<u8>) -> Result<Answer, String> {
        let unreadable = || "the answer is not a JSON object with `active` (RFC 7662 §2.2)".to_owned();
        let Unique(mut members) = serde_json::from_slice(&json).map_err(|_| unreadable())?;
        match members.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Ok(Err(InvalidToken::Inactive.into())),
            _ => return Err(unreadable()),
        }
        // Only access tokens are bearer tokens here, not tokens that are bound to a key, or refresh tokens.
        let is_bearer = |kind: &str| ["bearer", "access_token"].iter().any(|known| kind.eq_ignore_ascii_case(known));
        if let Some(kind) = members.get("token_type").filter(|kind| !kind.as_str().is_some_and(is_bearer)) {
            let detail = format!("`token_type` is {}, expected `Bearer`; no setting accepts another", shown(kind));
            return Ok(Err(RefusedToken::because(InvalidToken::Type, detail)));
        }
        let now = UnixTime::now(&*self.clock);
        members.entry("iat").or_insert_with(|| now.as_secs().into());
        members.entry("exp").or_insert_with(|| now.after(self.believed).as_secs().into());
        members.entry("aud").or_insert_with(|| Value::Array(Vec::new()));
        Ok(self.profile.read(members, &self.issuer).and_then(|claims| {
            if claims.bound && !self.profile.accepts_bound_tokens {
                return Err(TokenProfile::bound());
            }
            self.check(&claims, now)?;
            Ok((claims, json))
        }))
    }

    /// Returns the remaining lifetime of a token with these claims, leeway included.
    pub(super) fn time_left(&self, claims: &Claims) -> Duration {
        let end = later(claims.expires_at.to_system(), LEEWAY);
        end.duration_since(self.clock.now()).unwrap_or_default()
    }

    pub(super) fn check(&self, claims: &Claims, now: UnixTime) -> Result<(), RefusedToken> {
        if claims.issuer != *self.issuer.text() {
            return Err(claims.of_another_issuer(&self.issuer));
        }
        if !self.profile.is_for(&self.audience, claims) {
            return Err(self.profile.for_another_audience(&self.audience, claims));
        }
        in_its_time(claims, now, LEEWAY)
            .map_err(|reason| out_of_time(reason, claims, now, LEEWAY, "no setting changes that"))
    }
}

#[derive(Deserialize)]
struct Sealed {
    iss: String,
    aud: Value,
    iat: NumericDate,
    token_introspection: Value,
}

fn names(aud: &Value, client_id: &str) -> bool {
    aud == client_id || aud.as_array().is_some_and(|several| several.iter().any(|one| one == client_id))
}

/// Returns the payload that the signer's key signed, if its type is that of an introspection response.
async fn proven(signer: &TrustedIssuer, text: &str) -> Result<Vec<u8>, VerifyError> {
    let jws = Jws::split(text)?;
    let header = decode(jws.header)?;
    let header = Header::parse(&header)?;
    // RFC 9701 §5: so that no other JWT of the server is accepted as an answer.
    let is_answer = |typ: &str| typ.eq_ignore_ascii_case("token-introspection+jwt") || typ.eq_ignore_ascii_case(SIGNED);
    if !is_answer(&header.typ) {
        return Err(InvalidToken::Type.into());
    }
    match signer.proven(&jws, &header) {
        Err(VerifyError::Unavailable(unavailable)) if unavailable.kind() == UnavailableKind::NotAsked => {
            signer.proven_later(&jws, &header).await
        }
        proven => proven,
    }
}
