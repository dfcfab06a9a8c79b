//! [`RemoteIssuer`]: builds a [`Verifier`] for an issuer in another process (feature `remote`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::verifier_error::{self, Mistake};
use super::{Verifier, VerifierError};
use crate::audience::Audience;
use crate::clock::{Clock, SystemClock};
use crate::crypto::{Random, SystemRandom};
use crate::debug_fields::debug_fields;
use crate::issuer::Issuer;
use crate::keys::remote::{KeySource, Place, Policy, RemoteKeys};
use crate::keys::{Algorithm, TrustedKeys};
use crate::transport::{HttpClient, Outgoing};
use crate::uri::{self, PlainHttp};

/// An issuer in another process, or of another vendor. Its keys are found by its URL, fetched, and kept up to date.
///
/// [`connect`](Self::connect) waits for the keys. [`build`](Self::build) does not, so that a service can start before its issuer;
/// [`Verifier::is_ready`] then reports readiness to a health check. The module [`keys::remote`](crate::keys::remote)
/// describes what happens while the issuer is down.
///
/// Tokens must follow RFC 9068, unless the verifier has [another profile](Verifier::tokens).
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
#[must_use = "the settings are not used until .connect() or .build()"]
pub struct RemoteIssuer {
    issuer: Issuer,
    audience: Audience,
    place: Place,
    algorithms: Option<Vec<Algorithm>>,
    outgoing: Outgoing,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: Policy,
    patience: Duration,
}

impl RemoteIssuer {
    /// Creates the issuer. `issuer` must equal the `iss` of its tokens, character by character. `audience` is the API that the
    /// tokens must be for.
    ///
    /// The URL of the keys comes from the issuer's metadata: RFC 8414, or OpenID Connect Discovery if the former cannot be read
    /// for any reason. The `issuer` in the metadata must be the same (RFC 8414 §3.3).
    ///
    /// # Errors
    ///
    /// If the issuer or the audience is invalid. Plain `http` is checked later, by [`connect`](Self::connect) and
    /// [`build`](Self::build), since [a setting](Self::dangerous_plain_http) can accept it.
    pub fn new(issuer: impl AsRef<str>, audience: impl AsRef<str>) -> Result<Self, VerifierError> {
        let issuer = Issuer::new(issuer.as_ref(), PlainHttp::AnyHost)?;
        Ok(Self {
            place: Place::Of(issuer.clone()),
            issuer,
            audience: verifier_error::audience(audience.as_ref())?,
            algorithms: None,
            outgoing: Outgoing::default(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            policy: Policy::default(),
            patience: Duration::from_secs(30),
        })
    }

    /// Fetches the keys from this URL, without metadata.
    ///
    /// # Errors
    ///
    /// If it is not an `https` or `http` URL. Plain `http` is checked later, as with [`new`](Self::new).
    pub fn jwks_url(mut self, url: impl AsRef<str>) -> Result<Self, VerifierError> {
        let url = url.as_ref();
        self.place = Place::At(uri::http_url(url).map_err(|reason| VerifierError::url("keys", url, reason))?);
        Ok(self)
    }

    /// Accepts plain `http` with any host, in the issuer and in the URLs of its keys. By default only with loopback hosts.
    ///
    /// Dangerous: an attacker on the network can replace the keys, and thereby forge every token. It is for development, and
    /// for networks that encrypt underneath, such as a service mesh. An `https` URL still never redirects to a plain one. The
    /// setting also applies to an [HTTP client of your own](Self::http_client).
    pub fn dangerous_plain_http(mut self) -> Self {
        self.outgoing.accept_plain_http();
        self
    }

    /// Sends requests through the proxy in `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`. By default they are sent
    /// directly and these variables are ignored, since a proxy for plain `http` could replace the keys.
    ///
    /// Requests to this machine (`localhost` and loopback addresses) never use the proxy. An
    /// [HTTP client of your own](Self::http_client) makes its own choice; combining both settings is an error.
    pub fn use_environment_proxy(mut self) -> Self {
        self.outgoing.use_environment_proxy();
        self
    }

    /// Accepts only keys for these algorithms. By default all supported ones, and a key without an `alg` is used for the first
    /// algorithm of its type (`RS256` for RSA). With this setting, it is used for each of these algorithms of its type.
    pub fn algorithms(self, algorithms: impl Into<Vec<Algorithm>>) -> Self {
        Self { algorithms: Some(algorithms.into()), ..self }
    }

    /// Sets an HTTP client of your own, for example with your own root certificates. By default the crate's own client.
    pub fn http_client(mut self, client: impl HttpClient) -> Self {
        self.outgoing.set_client(client);
        self
    }

    /// Sets the clock. The system clock by default.
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Sets the source of the jitter of fetches. The system's randomness by default.
    pub fn random(self, random: impl Random) -> Self {
        Self { random: Arc::new(random), ..self }
    }

    /// Sets the timeout for one document. 5 s by default. A request that needs keys waits for at most twice this time, for the
    /// fetch in flight and the one after it. Then it is answered 503 with `Retry-After: 1`.
    pub fn fetch_timeout(mut self, time: Duration) -> Self {
        self.outgoing.limits.time = time;
        self
    }

    /// Sets how long [`connect`](Self::connect) tries. 30 s by default.
    pub fn connect_timeout(self, time: Duration) -> Self {
        Self { patience: time, ..self }
    }

    /// Sets how long the last keys are used if no new ones can be fetched. 24 hours by default, and at least 1 minute: a
    /// smaller value counts as 1 minute. Afterwards requests are answered 503, with a `Retry-After` of at most 30 s.
    ///
    /// Keys are fetched again after 70 to 80 % of this time at the latest, even if `Cache-Control` declares them fresh for
    /// longer (RFC 9111 §4.2 allows a cache to revalidate earlier).
    pub fn oldest_keys(mut self, age: Duration) -> Self {
        self.policy.oldest = age.max(Policy::LEAST_OLDEST);
        self
    }

    /// Sets the shortest time for which a fetched key set counts as fresh, even if `Cache-Control` sets less. 1 minute by default,
    /// and at least 1 second. Keys are fetched again after 70 to 80 % of it at the earliest. Lower it for an issuer that rotates
    /// its keys within minutes.
    pub fn least_freshness(mut self, time: Duration) -> Self {
        self.policy.least_fresh = time.max(Duration::from_secs(1)).min(self.policy.most_fresh);
        self
    }

    /// Sets how often tokens with an unknown `kid` may cause a fetch after the [burst](Self::unknown_key_burst) is used up.
    /// Once per 10 s by default. A name that the fetched set lacks causes no other fetch during this time: tokens that were
    /// issued before the fetch are refused, and newer ones are answered 503.
    ///
    /// It bounds the load that arbitrary callers can put on the issuer, and how long a token with a new key waits meanwhile.
    pub fn unknown_key_cooldown(mut self, time: Duration) -> Self {
        self.policy.unknown.every = time;
        self
    }

    /// Sets how many fetches in a row tokens with an unknown `kid` may cause. 3 by default, at least 1. One is restored per
    /// [cooldown](Self::unknown_key_cooldown).
    ///
    /// With more than one, a token with a random `kid` does not delay the fetch of a new key.
    pub fn unknown_key_burst(mut self, fetches: u32) -> Self {
        self.policy.unknown.burst = fetches;
        self
    }

    /// Sets how often tokens with a known `kid` and a wrong signature may cause a fetch, since the issuer may have replaced the
    /// key under that name. Once per 60 s by default. In between, such tokens are refused.
    pub fn failed_signature_cooldown(mut self, time: Duration) -> Self {
        self.policy.signatures.every = time;
        self
    }

    /// Waits until the keys are fetched.
    ///
    /// # Errors
    ///
    /// Returns at once if waiting cannot help: for metadata of another issuer, or for plain `http` without
    /// [the setting](Self::dangerous_plain_http). Otherwise returns the last error when
    /// [the time](Self::connect_timeout) is over. The message names the URL and the reason.
    pub async fn connect(self) -> Result<Verifier, VerifierError> {
        let patience = self.patience;
        let (verifier, keys) = self.begin()?;
        keys.connect(patience).await.map_err(|error| Mistake::Fetch((*error).clone()))?;
        Ok(verifier)
    }

    /// Checks the settings, and fetches the keys in the background. Until they are available, every request is answered 503; see
    /// [`Verifier::is_ready`].
    ///
    /// # Errors
    ///
    /// Outside of a Tokio runtime, for plain `http` without [the setting](Self::dangerous_plain_http), or if the HTTP client
    /// cannot be built.
    pub fn build(self) -> Result<Verifier, VerifierError> {
        Ok(self.begin()?.0)
    }

    fn begin(mut self) -> Result<(Verifier, RemoteKeys), VerifierError> {
        tokio::runtime::Handle::try_current().map_err(|_| Mistake::NoRuntime)?;
        let issuer = Issuer::new(self.issuer.as_str(), self.outgoing.plain_http)?;
        if let Place::At(url) = &self.place {
            let check = self.outgoing.plain_http.check(url);
            check.map_err(|reason| VerifierError::url("keys", &url.to_string(), reason))?;
        }
        let client = self.outgoing.client()?;
        let (place, algorithms) = (self.place, self.algorithms);
        let Outgoing { limits, plain_http, .. } = self.outgoing;
        let source = KeySource { client, place, algorithms, limits, plain_http, known: Mutex::default() };
        let keys = RemoteKeys::new(source, self.policy, self.clock.clone(), self.random);
        keys.keep_fresh();
        let verifier = Verifier::new(issuer, self.audience, TrustedKeys::Remote(keys.clone()), self.clock);
        Ok((verifier, keys))
    }
}

debug_fields!(RemoteIssuer, |this| { issuer: this.issuer, audience: this.audience, keys: this.place });
