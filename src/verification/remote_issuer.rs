//! [`RemoteIssuer`]: an issuer elsewhere → [`Verifier`] (feature `remote`).

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Verifier;
use crate::audience::{Audience, InvalidAudience};
use crate::client_id::InvalidClientId;
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Random, SystemRandom};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::keys::remote::{KeySource, Place, Policy, RemoteKeys};
use crate::keys::{Algorithm, TrustedKeys};
use crate::transport::{DynHttpClient, FetchError, HttpClient, HttpError, Limits, ReqwestClient};
use crate::uri::{self, PlainHttp};

/// An issuer in another process, or another vendor's: by its URL, its keys are found, fetched and kept fresh.
///
/// [`connect`](Self::connect) waits until the keys are here; [`lazy`](Self::lazy) does not, so that a service can start
/// before its issuer, and [`Verifier::is_ready`] tells a health check. What happens while the issuer is down is told
/// [there](crate::keys::remote).
///
/// Tokens must be those of RFC 9068, unless the verifier is told [otherwise](Verifier::tokens).
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_client_credentials::{BearerAuthLayer, RemoteIssuer};
///
/// let verifier = RemoteIssuer::new("https://auth.example.com", "https://api.example.com")?.connect().await?;
/// let protect = BearerAuthLayer::new(verifier);
/// # Ok(())
/// # }
/// ```
pub struct RemoteIssuer {
    issuer: Issuer,
    audience: Audience,
    place: Place,
    algorithms: Option<Vec<Algorithm>>,
    client: Option<Arc<dyn DynHttpClient>>,
    environment_proxy: bool,
    plain_http: PlainHttp,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    limits: Limits,
    policy: Policy,
    patience: Duration,
}

impl RemoteIssuer {
    /// The issuer, to the letter of its tokens' `iss`, and the API that they must be for.
    ///
    /// The URL of the keys comes from the issuer's metadata: that of RFC 8414 or, if that cannot be read for any reason, that
    /// of OpenID Connect Discovery. The `issuer` in it has to be the same (RFC 8414 §3.3).
    ///
    /// # Errors
    ///
    /// When the issuer or the audience is invalid. Plain `http` is checked later, by [`connect`](Self::connect) and
    /// [`lazy`](Self::lazy), since [a setting](Self::dangerous_plain_http) can accept it.
    pub fn new(issuer: impl AsRef<str>, audience: impl AsRef<str>) -> Result<Self, RemoteError> {
        let issuer = Issuer::new(issuer.as_ref(), PlainHttp::AnyHost)?;
        Ok(Self {
            place: Place::Of(issuer.clone()),
            issuer,
            audience: audience.as_ref().parse()?,
            algorithms: None,
            client: None,
            environment_proxy: false,
            plain_http: PlainHttp::default(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            limits: Limits::default(),
            policy: Policy::default(),
            patience: Duration::from_secs(30),
        })
    }

    /// Takes the keys from this URL, and asks for no metadata.
    ///
    /// # Errors
    ///
    /// When it is not a URL of https or http. Plain `http` is checked later, as with [`new`](Self::new).
    pub fn jwks_url(mut self, url: impl AsRef<str>) -> Result<Self, RemoteError> {
        self.place = Place::At(uri::http_url(url.as_ref()).map_err(RemoteError::JwksUrl)?);
        Ok(self)
    }

    /// Accepts plain `http` with any host, in the issuer and in the URLs of its keys. By default it is accepted on
    /// loopback only.
    ///
    /// Dangerous: an attacker on the network can replace the keys, and so forge every token. It is for development, and for networks that encrypt underneath, such as a service mesh. An https URL
    /// still never leads to a plain one. It applies to a [client of your own](Self::http_client), too.
    #[must_use]
    pub fn dangerous_plain_http(mut self) -> Self {
        self.plain_http = PlainHttp::AnyHost;
        self
    }

    /// Sends requests through the proxy that `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` name. By default they
    /// are sent directly, whatever these variables say: a proxy on the way of plain `http`
    /// could replace the keys.
    ///
    /// Requests to this machine (`localhost` and loopback addresses) never go through it. A
    /// [client of your own](Self::http_client) decides on proxies without this setting; both together are an error.
    #[must_use]
    pub fn use_environment_proxy(mut self) -> Self {
        self.environment_proxy = true;
        self
    }

    /// Takes keys for these algorithms alone: all that are supported by default, where a key without an `alg` stands
    /// for the first of its type (`RS256` for RSA). With this, it stands for each of these of its type.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl Into<Vec<Algorithm>>) -> Self {
        self.algorithms = Some(algorithms.into());
        self
    }

    /// Another HTTP client than the one that comes with the crate: for certificates of one's own, for instance.
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

    /// Where the jitter of fetches comes from: the system by default.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Sets how long one document may take: 5 s by default. A request that needs keys waits for twice this time at most, for
    /// the fetch in flight and the one that follows it; then it is answered 503 with `Retry-After: 1`.
    #[must_use]
    pub fn fetch_timeout(mut self, time: Duration) -> Self {
        self.limits.time = time;
        self
    }

    /// How long [`connect`](Self::connect) tries: 30 s by default.
    #[must_use]
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.patience = time;
        self
    }

    /// Sets how long the last keys are used when none can be fetched: 24 hours by default, at least 1 minute, and less is
    /// taken for that. Then requests are answered 503, with a `Retry-After` of 30 s at most.
    ///
    /// Keys are fetched again at 70 to 80 % of this time at the latest, even where `Cache-Control` calls them fresh for longer
    /// (RFC 9111 §4.2 allows a cache to ask earlier).
    #[must_use]
    pub fn oldest_keys(mut self, age: Duration) -> Self {
        self.policy.oldest = age.max(Policy::LEAST_OLDEST);
        self
    }

    /// Sets how often tokens that name an unknown key may cause a fetch, once the [burst](Self::unknown_key_burst) is used
    /// up: once per 10 s by default. A name that the fetched set lacks causes no other fetch for that long: tokens that were issued
    /// before are refused, and newer ones are answered 503.
    ///
    /// It bounds what strangers can cost the issuer, and how long a token of a new key waits while they do.
    #[must_use]
    pub fn unknown_key_cooldown(mut self, time: Duration) -> Self {
        self.policy.unknown.every = time;
        self
    }

    /// Sets how many fetches in a row tokens that name an unknown key may cause: 3 by default, at least 1. One is earned
    /// back per [cooldown](Self::unknown_key_cooldown).
    ///
    /// With more than one, a stranger's token with a `kid` at random does not keep a new key waiting.
    #[must_use]
    pub fn unknown_key_burst(mut self, fetches: u32) -> Self {
        self.policy.unknown.burst = fetches;
        self
    }

    /// Sets how often tokens with a known `kid` and a wrong signature may cause a fetch, since the issuer may have given the
    /// name to another key: once per 60 s by default. In between, such tokens are refused.
    #[must_use]
    pub fn failed_signature_cooldown(mut self, time: Duration) -> Self {
        self.policy.signatures.every = time;
        self
    }

    /// Waits until the keys are here.
    ///
    /// # Errors
    ///
    /// At once where waiting does not help, such as for metadata of another issuer, or for plain `http` without
    /// [the setting](Self::dangerous_plain_http); else when
    /// [the time](Self::connect_timeout) is over. The message names the URL and the reason.
    pub async fn connect(self) -> Result<Verifier, RemoteError> {
        let patience = self.patience;
        let (verifier, keys) = self.begin()?;
        keys.connect(patience).await.map_err(|error| RemoteError::Fetch((*error).clone()))?;
        Ok(verifier)
    }

    /// Fetches the keys in the background. Until they are here, every request is answered 503; see
    /// [`Verifier::is_ready`].
    ///
    /// # Errors
    ///
    /// Outside of a Tokio runtime, for plain `http` without [the setting](Self::dangerous_plain_http), and when the HTTP
    /// client cannot be built.
    pub fn lazy(self) -> Result<Verifier, RemoteError> {
        Ok(self.begin()?.0)
    }

    fn begin(self) -> Result<(Verifier, RemoteKeys), RemoteError> {
        tokio::runtime::Handle::try_current().map_err(|_| RemoteError::NoRuntime)?;
        let issuer = Issuer::new(self.issuer.as_str(), self.plain_http)?;
        if let Place::At(url) = &self.place {
            self.plain_http.check(url).map_err(RemoteError::JwksUrl)?;
        }
        let client = http_client(self.client, self.environment_proxy)?;
        let (place, algorithms, limits, plain_http) = (self.place, self.algorithms, self.limits, self.plain_http);
        let source = KeySource { client, place, algorithms, limits, plain_http, known: Mutex::default() };
        let keys = RemoteKeys::new(source, self.policy, self.clock.clone(), self.random);
        keys.keep_fresh();
        let verifier = Verifier::new(issuer, self.audience, TrustedKeys::Remote(keys.clone()), self.clock);
        Ok((verifier, keys))
    }
}

/// Returns the application's own client, or else the one that comes with the crate.
pub(super) fn http_client(
    own: Option<Arc<dyn DynHttpClient>>,
    environment_proxy: bool,
) -> Result<Arc<dyn DynHttpClient>, RemoteError> {
    match own {
        Some(_) if environment_proxy => Err(RemoteError::ProxyOfOwnClient),
        Some(client) => Ok(client),
        None => Ok(Arc::new(ReqwestClient::new(environment_proxy).map_err(RemoteError::Client)?)),
    }
}

impl fmt::Debug for RemoteIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { issuer, audience, place, .. } = self;
        f.debug_struct("RemoteIssuer")
            .field("issuer", issuer)
            .field("audience", audience)
            .field("keys", place)
            .finish_non_exhaustive()
    }
}

/// An issuer elsewhere cannot be used; the text says what to change, or what did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The issuer is none.
    #[error(transparent)]
    Issuer(#[from] InvalidIssuer),
    /// The audience is none.
    #[error(transparent)]
    Audience(#[from] InvalidAudience),
    /// The URL of the keys is none that may be fetched from.
    #[error("the URL of the keys is of no use: {0}")]
    JwksUrl(&'static str),
    /// The URL of the introspection endpoint is none that may be sent a token to.
    #[error("the URL of the introspection endpoint is of no use: {0}")]
    IntrospectionUrl(&'static str),
    /// Nobody said where to ask about tokens.
    #[error("the introspection endpoint is not set; name it with .at(…)")]
    NoEndpoint,
    /// Nobody said as whom to ask about tokens.
    #[error("an introspection endpoint answers clients only; name this API's own with .client_secret_basic(…)")]
    NoCredentials,
    /// The id of this API at the server is none.
    #[error(transparent)]
    ClientId(#[from] InvalidClientId),
    /// A verifier that has no keys to check signed answers with.
    #[error("the verifier has no keys of the issuer whose answers are to be signed; give one of the same issuer")]
    Signer,
    /// There is no Tokio runtime here to fetch in.
    #[error("keys are fetched in a Tokio runtime, and there is none: call this in an async fn, under #[tokio::main]")]
    NoRuntime,
    /// A proxy setting for the client that was replaced.
    #[error(
        "use_environment_proxy() is for the HTTP client of this crate, which http_client(…) replaces; remove one of them"
    )]
    ProxyOfOwnClient,
    /// The HTTP client could not be made.
    #[error("there is no HTTP client to be had: {0}")]
    Client(HttpError),
    /// The keys could not be fetched.
    #[error("the issuer's keys cannot be had: {0}")]
    Fetch(FetchError),
}
