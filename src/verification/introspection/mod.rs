//! [`Introspection`]: verifies opaque tokens by asking their server (RFC 7662; feature `remote`).

mod answer_cache;
mod introspector;
mod outage;
mod requests;
mod response;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use http::Uri;

pub(super) use self::introspector::{Asked, Introspector};
use super::trusted_issuer::TrustedIssuer;
use super::verifier_error::{self, Mistake};
use super::{TokenProfile, Verifier, VerifierError};
use crate::audience::Audience;
use crate::client_authentication::ClientAuthentication;
use crate::client_id::ClientId;
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Random, SystemRandom};
use crate::debug_fields::debug_fields;
use crate::issuer::Issuer;
use crate::secret::ClientSecret;
use crate::transport::{HttpClient, Limits, Outgoing};
use crate::uri::{self, PlainHttp};

/// Asks an authorization server about each token (RFC 7662): for opaque tokens, and where a revocation must take effect
/// immediately.
///
/// 1. An answer is cached for 30 s, but never past the token's `exp`; so is the answer that a token is unknown. The caches are
///    bounded: 10,000 tokens and 16 MiB, and a tenth of that for unknown ones.
/// 2. Concurrent requests with one token cause one introspection request. At most 256 tokens are asked about at once; further
///    ones are answered 503. 64 of these slots are reserved for tokens that the server called active before. If no slot is
///    free, a token without an answer for 2 s loses its slot to another, and is answered 503.
/// 3. If there is no answer for a token, the result is a 503 with `Retry-After`. That token is asked about again after one
///    second at the earliest, or after the `Retry-After` of a 429 or 503, up to 10 s. Other tokens are not affected.
/// 4. The server counts as down, until it answers, in two cases:
///    - It cannot be connected to, and has answered for no token for 5 s.
///    - It failed for three different tokens in a row, and has answered for no token for 5 s. In addition, it answered 401, 429 or
///      503, or it fails for a random token as well, which a working server calls inactive (RFC 7662 §2.2).
/// 5. A server that is down is asked once per second (or `Retry-After`) about any token, once more about tokens that it called
///    active before, and once more about a random token.
/// 6. Requests use https (http on loopback, or where [that is accepted](Self::dangerous_plain_http)), within 5 s and 64 KiB,
///    without redirects. They are sent directly, ignoring the environment's proxy settings, unless
///    [that is chosen](Self::use_environment_proxy).
/// 7. An answer must contain `active`, `client_id`, and an `aud` that names this API. Without `exp` or `iat`, the token counts
///    as issued and expiring at this moment. [`tokens`](Self::tokens) changes these requirements.
///
/// Callers can send made-up tokens, and may know some for which the server cannot answer. Such a token blocks a token that was
/// active before for at most a second. It blocks new tokens only in two cases: the server leaves more than 90 of such tokens per
/// second without an answer, or the server counts as down by the second case of rule 4. Then each new token has the same chance
/// to be asked about, and the first answer for any token ends this state. Limit the rate of requests per address before this
/// layer, and let the server accept 256 connections, or HTTP/2 streams, at once. The 503s of such tokens do not indicate a problem
/// with this service: see [outlier detection](crate::keys::remote#outlier-detection).
///
/// Verifying a JWT needs no request: prefer [`RemoteIssuer`](crate::verification::RemoteIssuer) for JWTs. To use both:
/// `remote_issuer.or(introspection)`.
///
/// ```
/// use tower_client_credentials::{BearerAuthLayer, ClientSecret, Introspection};
///
/// let verifier = Introspection::new("https://auth.example.com", "https://api.example.com")?
///     .client_secret_basic("invoices-api", ClientSecret::new("a secret of 32 characters or more")?)?
///     .at("https://auth.example.com/introspect")?
///     .build()?;
/// let protect = BearerAuthLayer::new(verifier);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the settings are not used until .build()"]
pub struct Introspection {
    issuer: Issuer,
    audience: Audience,
    endpoint: Option<Uri>,
    credentials: Option<(ClientId, ClientAuthentication)>,
    assertion_audience: Option<String>,
    profile: TokenProfile,
    signer: Option<TrustedIssuer>,
    believed: Duration,
    old_answers_while_down: bool,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// The credentials of this API at the server (RFC 7662 §2.1).
struct Credentials {
    client_id: ClientId,
    authentication: ClientAuthentication,
    /// The `aud` of client assertions, if it is not the issuer.
    assertion_audience: Option<String>,
    random: Arc<dyn Random>,
}

impl Introspection {
    /// Creates the settings. `issuer` must equal the `iss` of answers that have one, character by character. `audience` is the
    /// API that the tokens must be for.
    ///
    /// # Errors
    ///
    /// If the issuer or the audience is invalid. Plain `http` is checked later, by [`build`](Self::build), since
    /// [a setting](Self::dangerous_plain_http) can accept it.
    pub fn new(issuer: impl AsRef<str>, audience: impl AsRef<str>) -> Result<Self, VerifierError> {
        Ok(Self {
            issuer: Issuer::new(issuer.as_ref(), PlainHttp::AnyHost)?,
            audience: verifier_error::audience(audience.as_ref())?,
            endpoint: None,
            credentials: None,
            assertion_audience: None,
            profile: TokenProfile::default().without_subject().without_token_id().without_token_issuer(),
            signer: None,
            believed: Duration::from_secs(30),
            old_answers_while_down: false,
            outgoing: Outgoing::new(Limits { body: 64 * 1024, ..Limits::default() }),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
        })
    }

    /// Sets the URL of the introspection endpoint. Mandatory.
    ///
    /// # Errors
    ///
    /// If it is not an `https` or `http` URL. Plain `http` is checked later, as with [`new`](Self::new).
    pub fn at(mut self, url: impl AsRef<str>) -> Result<Self, VerifierError> {
        let url = url.as_ref();
        let endpoint =
            uri::http_url(url).map_err(|reason| VerifierError::url("introspection endpoint", url, reason))?;
        self.endpoint = Some(endpoint);
        Ok(self)
    }

    /// Accepts plain `http` with any host, in the issuer and in the URL of its endpoint. By default only with loopback hosts.
    ///
    /// Dangerous: an attacker on the network can read the tokens and this API's secret, and can answer that any token is
    /// active. It is for development, and for networks that encrypt underneath, such as a service mesh. An `https` URL still
    /// never redirects to a plain one. The setting also applies to an [HTTP client of your own](Self::http_client).
    pub fn dangerous_plain_http(mut self) -> Self {
        self.outgoing.accept_plain_http();
        self
    }

    /// Sends requests through the proxy in `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. By default they are sent
    /// directly and these variables are ignored, since a request contains this API's secret and the caller's token.
    ///
    /// Requests to this machine (`localhost` and loopback addresses) never use the proxy. An
    /// [HTTP client of your own](Self::http_client) makes its own choice; combining both settings is an error.
    pub fn use_environment_proxy(mut self) -> Self {
        self.outgoing.use_environment_proxy();
        self
    }

    /// Sets this API's own client id and secret at the server, sent in the `Authorization` header (RFC 6749 §2.3.1).
    ///
    /// # Errors
    ///
    /// If the client id is invalid.
    pub fn client_secret_basic(self, client_id: &str, secret: ClientSecret) -> Result<Self, VerifierError> {
        self.client_authentication(client_id, ClientAuthentication::secret_basic(secret))
    }

    /// Sets this API's own client id and secret at the server, sent in the body.
    ///
    /// # Errors
    ///
    /// If the client id is invalid.
    pub fn client_secret_post(self, client_id: &str, secret: ClientSecret) -> Result<Self, VerifierError> {
        self.client_authentication(client_id, ClientAuthentication::secret_post(secret))
    }

    /// Sets this API's own client id at the server, and how it authenticates (RFC 7662 §2.1): by the methods that a calling
    /// service has at the token endpoint, such as `private_key_jwt`, a secret in a file that is read again, or a Kubernetes token.
    ///
    /// A credential that cannot be read counts as a server that is down.
    ///
    /// # Errors
    ///
    /// If the client id is invalid.
    pub fn client_authentication(
        mut self,
        client_id: &str,
        authentication: impl Into<ClientAuthentication>,
    ) -> Result<Self, VerifierError> {
        let id = client_id.try_into().map_err(|error| VerifierError::client_id(client_id, error))?;
        self.credentials = Some((id, authentication.into()));
        Ok(self)
    }

    /// Sets the `aud` of client assertions. By default it is the issuer as the sole value (RFC 10070); some older servers expect
    /// the URL of an endpoint.
    pub fn assertion_audience(self, audience: impl Into<String>) -> Self {
        Self { assertion_audience: Some(audience.into()), ..self }
    }

    /// Sets the source of the `jti` of client assertions. The system's randomness by default.
    pub fn random(self, random: impl Random) -> Self {
        Self { random: Arc::new(random), ..self }
    }

    /// Requires signed answers (RFC 9701). The signature must match this verifier's keys for the issuer, and the answer must be
    /// for this API's client id. Off by default.
    ///
    /// # Errors
    ///
    /// If the verifier has no keys of the issuer.
    pub fn signed_answers(mut self, verifier: &Verifier) -> Result<Self, VerifierError> {
        let signer = verifier.named(self.issuer.as_str()).ok_or_else(|| Mistake::Signer(self.issuer.to_string()))?;
        self.signer = Some(signer.clone());
        Ok(self)
    }

    /// Sets the profile of the answers, if their members differ from the required ones. The profile's settings about types and
    /// headers have no effect here.
    pub fn tokens(self, profile: TokenProfile) -> Self {
        Self { profile, ..self }
    }

    /// Sets how long an answer is cached. 30 s by default. A revoked token works for up to this time.
    pub fn believed_for(self, time: Duration) -> Self {
        Self { believed: time, ..self }
    }

    /// Accepts tokens that the server called active before while it does not answer, until they expire. Off by default.
    ///
    /// Dangerous: an attacker who can block the connection to the server can prevent the revocation of a token.
    pub fn dangerous_old_answers_while_down(self) -> Self {
        Self { old_answers_while_down: true, ..self }
    }

    /// Sets an HTTP client of your own. By default the crate's own client.
    pub fn http_client(mut self, client: impl HttpClient) -> Self {
        self.outgoing.set_client(client);
        self
    }

    /// Sets the clock. The system clock by default.
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Returns the verifier that asks. Its own settings for times and tokens are for JWTs; the ones here were set before.
    ///
    /// # Errors
    ///
    /// Without an endpoint or credentials, for plain `http` without [the setting](Self::dangerous_plain_http), or if the HTTP
    /// client cannot be built.
    pub fn build(mut self) -> Result<Verifier, VerifierError> {
        let endpoint = self.endpoint.ok_or(Mistake::NoEndpoint)?;
        let check = self.outgoing.plain_http.check(&endpoint);
        check.map_err(|reason| VerifierError::url("introspection endpoint", &endpoint.to_string(), reason))?;
        let client = self.outgoing.client()?;
        let (client_id, authentication) = self.credentials.ok_or(Mistake::NoCredentials)?;
        let (assertion_audience, random) = (self.assertion_audience, self.random);
        let settings = Settings {
            issuer: Arc::new(Issuer::new(self.issuer.as_str(), self.outgoing.plain_http)?),
            audience: self.audience.clone(),
            endpoint,
            credentials: Credentials { client_id, authentication, assertion_audience, random },
            profile: self.profile,
            signer: self.signer,
            believed: self.believed,
            old_answers_while_down: self.old_answers_while_down,
            client,
            clock: self.clock.clone(),
            limits: self.outgoing.limits,
        };
        Ok(Verifier::of_opaque_tokens(self.audience, self.clock, Introspector::new(settings)))
    }
}

/// The settings of an [`Introspector`].
struct Settings {
    issuer: Arc<Issuer>,
    audience: Audience,
    endpoint: Uri,
    credentials: Credentials,
    profile: TokenProfile,
    signer: Option<TrustedIssuer>,
    believed: Duration,
    old_answers_while_down: bool,
    client: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

debug_fields!(Introspection { issuer, audience, endpoint });
