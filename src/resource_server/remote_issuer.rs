//! [`RemoteIssuer`]: an issuer elsewhere → [`Verifier`] (feature `remote`).

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Verifier;
use crate::audience::{Audience, InvalidAudience};
use crate::client_id::InvalidClientId;
use crate::clock::{Clock, SystemClock};
use crate::issuer::{InvalidIssuer, Issuer};
use crate::keys::remote::{
    DynHttpClient, FetchError, HttpClient, HttpError, KeySource, Limits, Place, Policy, RemoteKeys, ReqwestClient,
};
use crate::keys::{Algorithm, TrustedKeys};
use crate::random::{Random, SystemRandom};

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
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    limits: Limits,
    policy: Policy,
    patience: Duration,
}

impl RemoteIssuer {
    /// The issuer, to the letter of its tokens' `iss`, and the API that they must be for.
    ///
    /// Where the keys are, its metadata says: that of RFC 8414, else that of OpenID Connect Discovery; the `issuer`
    /// inside has to be the same.
    ///
    /// # Errors
    ///
    /// When one of them is none.
    pub fn new(issuer: impl AsRef<str>, audience: impl AsRef<str>) -> Result<Self, RemoteError> {
        let issuer: Issuer = issuer.as_ref().parse()?;
        Ok(Self {
            place: Place::Of(issuer.clone()),
            issuer,
            audience: audience.as_ref().parse()?,
            algorithms: None,
            client: None,
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
    /// When it is neither an https URL nor one of http on loopback.
    pub fn jwks_url(mut self, url: impl AsRef<str>) -> Result<Self, RemoteError> {
        self.place = Place::At(crate::uri::secure(url.as_ref()).map_err(RemoteError::JwksUrl)?);
        Ok(self)
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

    /// How long one document may take: 5 s by default.
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

    /// How long the last keys are used when none can be fetched: 24 hours by default. Then requests are answered 503.
    #[must_use]
    pub fn oldest_keys(mut self, age: Duration) -> Self {
        self.policy.oldest = age;
        self
    }

    /// How often unknown `kid`s may have the keys fetched: once in 30 s by default.
    #[must_use]
    pub fn unknown_key_cooldown(mut self, time: Duration) -> Self {
        self.policy.cooldown = time;
        self
    }

    /// Waits until the keys are here.
    ///
    /// # Errors
    ///
    /// At once where waiting does not help, such as for metadata of another issuer; else when
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
    /// Outside of a Tokio runtime, or when there is no HTTP client to be had.
    pub fn lazy(self) -> Result<Verifier, RemoteError> {
        Ok(self.begin()?.0)
    }

    fn begin(self) -> Result<(Verifier, RemoteKeys), RemoteError> {
        tokio::runtime::Handle::try_current().map_err(|_| RemoteError::NoRuntime)?;
        let client = match self.client {
            Some(client) => client,
            None => Arc::new(ReqwestClient::new().map_err(RemoteError::Client)?),
        };
        let (place, algorithms, limits) = (self.place, self.algorithms, self.limits);
        let source = KeySource { client, place, algorithms, limits, known: Mutex::default() };
        let keys = RemoteKeys::new(source, self.policy, self.clock.clone(), self.random);
        keys.keep_fresh();
        let verifier = Verifier::new(self.issuer, self.audience, TrustedKeys::Remote(keys.clone()), self.clock);
        Ok((verifier, keys))
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
    /// The HTTP client could not be made.
    #[error("there is no HTTP client to be had: {0}")]
    Client(#[source] HttpError),
    /// The keys could not be fetched.
    #[error("the issuer's keys cannot be had: {0}")]
    Fetch(#[source] FetchError),
}
