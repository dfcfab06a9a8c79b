//! [`Introspection`]: tokens that only their server can read (RFC 7662) → [`Verifier`] (feature `remote`).

mod answer;
mod answers;
mod flights;
mod introspector;
mod outage;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Uri};

pub(super) use self::introspector::{Asked, Introspector};
use super::remote_issuer::http_client;
use super::trusted_issuer::TrustedIssuer;
use super::{RemoteError, TokenProfile, Verifier};
use crate::audience::Audience;
use crate::client_id::ClientId;
use crate::clock::{Clock, SystemClock};
use crate::issuer::Issuer;
use crate::secret::ClientSecret;
use crate::transport::{DynHttpClient, HttpClient, Limits};
use crate::uri::{self, PlainHttp};

/// Asks an authorization server what a token is good for (RFC 7662): for tokens that are opaque to everybody else, and
/// where a token has to stop working at once.
///
/// 1. What the server says is believed for 30 s, and never past the token's `exp`; a token that it does not know, for as
///    long. Both are bounded: 10,000 tokens and 16 MiB, and a tenth of that for unknown ones.
/// 2. Requests with one token ask once. 256 tokens are asked about at once, and more are answered 503. 64 of these places are
///    for tokens that the server called active before. Where no place is free, a token that has had no answer for 2 s gives
///    way to another, and is answered 503.
/// 3. No answer about a token is a 503 with `Retry-After`. That token is asked about again a second later at the soonest,
///    or after the `Retry-After` of a 429 or 503, up to 10 s; other tokens are not affected. A server that cannot be
///    connected to, and that answered about no token for 5 s, counts as down until it answers. If it failed for three different
///    tokens in a row and answered about none for 5 s, it is asked about a random token, which a server that is up calls inactive (RFC 7662 §2.2). If that fails as
///    well, or if the server answered 401, 429 or 503, it counts as down. A server that is down is asked once a second (or
///    `Retry-After`), once more about tokens that it called active before, and once more about a random token.
/// 4. Requests go over https (http on loopback, or where [that is accepted](Self::dangerous_plain_http)), in 5 s and 64 KiB,
///    without redirects, and directly, whatever proxy the environment names, unless
///    [that is chosen](Self::use_environment_proxy).
/// 5. Of the answer, `active`, `client_id`, and `aud` are needed, which has to name this API; without `exp` or `iat`, the
///    token is one of this moment. [`tokens`](Self::tokens) has it otherwise.
///
/// Callers can show made-up tokens, and may know some that the server cannot answer. These keep no token out that was
/// active before, or for a second at most. They keep new tokens out only if the server never answers about more than 90 of them
/// a second; or if no token at all had an answer for 5 s, and the server answers 401, 429 or 503 to them, or fails for random
/// tokens as well. Then a new token has the same chance as each of these, and the first token that has an answer ends this
/// state. Limit the rate of requests per address before this layer, and let the
/// server accept 256 connections, or streams of HTTP/2, at once. The 503s of such tokens are no sign that this service is ill: see
/// [outlier detection](crate::keys::remote#outlier-detection).
///
/// A token that is a JWT costs nothing to verify: prefer [`RemoteIssuer`](crate::verification::RemoteIssuer) for these. Both together:
/// `remote_issuer.or(introspection)`.
///
/// ```
/// use tower_client_credentials::{BearerAuthLayer, ClientSecret, Introspection};
///
/// let verifier = Introspection::new("https://auth.example.com", "https://api.example.com")?
///     .client_secret_basic("invoices-api", ClientSecret::new("a secret of 32 characters or more")?)?
///     .at("https://auth.example.com/introspect")?
///     .verifier()?;
/// let protect = BearerAuthLayer::new(verifier);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Introspection {
    issuer: Issuer,
    audience: Audience,
    endpoint: Option<Uri>,
    credentials: Option<Credentials>,
    profile: TokenProfile,
    signer: Option<TrustedIssuer>,
    believed: Duration,
    old_answers_while_down: bool,
    client: Option<Arc<dyn DynHttpClient>>,
    environment_proxy: bool,
    plain_http: PlainHttp,
    clock: Arc<dyn Clock>,
}

/// How we prove who asks (RFC 7662 §2.1).
struct Credentials {
    client_id: ClientId,
    proof: Proof,
}

enum Proof {
    /// In the header.
    Basic(HeaderValue),
    /// In the body.
    Post(ClientSecret),
}

impl Introspection {
    /// The issuer, to the letter of what its answers have for `iss` if anything, and the API that tokens must be for.
    ///
    /// # Errors
    ///
    /// When the issuer or the audience is invalid. Plain `http` is checked later, by [`verifier`](Self::verifier), since
    /// [a setting](Self::dangerous_plain_http) can accept it.
    pub fn new(issuer: impl AsRef<str>, audience: impl AsRef<str>) -> Result<Self, RemoteError> {
        Ok(Self {
            issuer: Issuer::new(issuer.as_ref(), PlainHttp::AnyHost)?,
            audience: audience.as_ref().parse()?,
            endpoint: None,
            credentials: None,
            profile: TokenProfile::default().without_subject().without_token_id().without_token_issuer(),
            signer: None,
            believed: Duration::from_secs(30),
            old_answers_while_down: false,
            client: None,
            environment_proxy: false,
            plain_http: PlainHttp::default(),
            clock: Arc::new(SystemClock),
        })
    }

    /// The URL of the introspection endpoint.
    ///
    /// # Errors
    ///
    /// When it is not a URL of https or http. Plain `http` is checked later, as with [`new`](Self::new).
    pub fn at(mut self, url: impl AsRef<str>) -> Result<Self, RemoteError> {
        self.endpoint = Some(uri::http_url(url.as_ref()).map_err(RemoteError::IntrospectionUrl)?);
        Ok(self)
    }

    /// Accepts plain `http` with any host, in the issuer and in the URL of its endpoint. By default it is accepted on
    /// loopback only.
    ///
    /// Dangerous: an attacker on the network can read the tokens and this API's secret, and can answer that any token is
    /// active. It is for development, and for networks that encrypt underneath, such as a service mesh. An https URL
    /// still never leads to a plain one. It applies to a [client of your own](Self::http_client), too.
    #[must_use]
    pub fn dangerous_plain_http(mut self) -> Self {
        self.plain_http = PlainHttp::AnyHost;
        self
    }

    /// Sends requests through the proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name. By default they
    /// are sent directly, whatever these variables say: a request has this API's
    /// secret and the caller's token in it.
    ///
    /// Requests to this machine (`localhost` and loopback addresses) never go through it. A
    /// [client of your own](Self::http_client) decides on proxies without this setting; both together are an error.
    #[must_use]
    pub fn use_environment_proxy(mut self) -> Self {
        self.environment_proxy = true;
        self
    }

    /// This API's own id and secret at the server, sent in the `Authorization` header (RFC 6749 §2.3.1).
    ///
    /// # Errors
    ///
    /// When the id is none.
    #[expect(clippy::expect_used, reason = "a header without the credentials would be refused without a cause")]
    #[expect(clippy::missing_panics_doc, reason = "any text can be encoded")]
    pub fn client_secret_basic(mut self, client_id: &str, secret: ClientSecret) -> Result<Self, RemoteError> {
        let encoded = serde_urlencoded::to_string([(client_id, secret.expose())]).expect("any text can be encoded");
        let pair = encoded.replacen('=', ":", 1);
        let mut header = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))
            .expect("base64 has no character that a header must not have");
        header.set_sensitive(true);
        self.credentials = Some(Credentials { client_id: client_id.try_into()?, proof: Proof::Basic(header) });
        Ok(self)
    }

    /// This API's own id and secret at the server, sent in the body.
    ///
    /// # Errors
    ///
    /// When the id is none.
    pub fn client_secret_post(mut self, client_id: &str, secret: ClientSecret) -> Result<Self, RemoteError> {
        self.credentials = Some(Credentials { client_id: client_id.try_into()?, proof: Proof::Post(secret) });
        Ok(self)
    }

    /// Asks for signed answers (RFC 9701), and takes no others: those that this verifier's keys for the issuer have
    /// signed, for this API's id.
    ///
    /// # Errors
    ///
    /// When the verifier has no keys of the issuer.
    pub fn signed_answers(mut self, verifier: &Verifier) -> Result<Self, RemoteError> {
        let signer = verifier.named(self.issuer.as_str()).ok_or(RemoteError::Signer)?;
        self.signer = Some(signer.clone());
        Ok(self)
    }

    /// What the answers are like, where they say less or other than is needed. Of its settings, those about types and
    /// headers mean nothing here.
    #[must_use]
    pub fn tokens(mut self, profile: TokenProfile) -> Self {
        self.profile = profile;
        self
    }

    /// How long an answer is believed: 30 s by default. A token that is called back works for so much longer.
    #[must_use]
    pub fn believed_for(mut self, time: Duration) -> Self {
        self.believed = time;
        self
    }

    /// While the server does not answer, takes tokens for good of which it said so before, until they expire.
    ///
    /// Dangerous: whoever keeps this API from reaching the server keeps a token from being called back.
    #[must_use]
    pub fn dangerous_old_answers_while_down(mut self) -> Self {
        self.old_answers_while_down = true;
        self
    }

    /// Another HTTP client than the one that comes with the crate.
    #[must_use]
    pub fn http_client(mut self, client: impl HttpClient) -> Self {
        self.client = Some(Arc::new(client));
        self
    }

    /// Where the time comes from: the system by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// The verifier that asks. Its own settings for times and tokens are for JWTs: here they are made before.
    ///
    /// # Errors
    ///
    /// Without an endpoint or credentials, for plain `http` without [the setting](Self::dangerous_plain_http), and when the
    /// HTTP client cannot be built.
    pub fn verifier(self) -> Result<Verifier, RemoteError> {
        let endpoint = self.endpoint.ok_or(RemoteError::NoEndpoint)?;
        self.plain_http.check(&endpoint).map_err(RemoteError::IntrospectionUrl)?;
        let client = http_client(self.client, self.environment_proxy)?;
        let settings = Settings {
            issuer: Arc::new(Issuer::new(self.issuer.as_str(), self.plain_http)?),
            audience: self.audience.clone(),
            endpoint,
            credentials: self.credentials.ok_or(RemoteError::NoCredentials)?,
            profile: self.profile,
            signer: self.signer,
            believed: self.believed,
            old_answers_while_down: self.old_answers_while_down,
            client,
            clock: self.clock.clone(),
            limits: Limits { body: 64 * 1024, ..Limits::default() },
        };
        Ok(Verifier::of_opaque_tokens(self.audience, self.clock, Introspector::new(settings)))
    }
}

/// What an [`Introspector`] goes by.
struct Settings {
    issuer: Arc<Issuer>,
    audience: Audience,
    endpoint: Uri,
    credentials: Credentials,
    profile: TokenProfile,
    signer: Option<TrustedIssuer>,
    believed: Duration,
    old_answers_while_down: bool,
    client: Arc<dyn DynHttpClient>,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, audience, endpoint, .. } = self;
        f.debug_struct("Introspection")
            .field("issuer", issuer)
            .field("audience", audience)
            .field("endpoint", endpoint)
            .finish_non_exhaustive()
    }
}
