//! [`ClientAssertions`]: the settings for authentication by assertions.

use std::sync::Arc;
use std::time::Duration;

use super::decoy_keys::ALL;
use super::platform::PlatformIssuer;
use super::trust_domain::TrustDomain;
use crate::keys::rotation::KeyEncryptionKey;
use crate::keys::{Algorithm, HmacAlgorithm};
use crate::registration::{AcceptedCredentials, AcceptedSecrets};
use crate::store::{ClientAdmin, ReplayLog};

/// The settings for client authentication by signed assertions: `private_key_jwt` and `client_secret_jwt` (RFC 7523, RFC 10070),
/// and tokens of workloads.
///
/// Pass them to [`AuthorizationServerBuilder::client_assertions`](crate::authorization_server::AuthorizationServerBuilder::client_assertions).
/// Clients get their keys by [`Client::credential`](crate::Client::credential).
///
/// Each assertion is accepted once. The log of used assertions must therefore be shared by all replicas: use the store
/// that has the clients or the revocations. If the log does not answer, or is full, the caller gets 503. One client can
/// record 50,000 assertions that have not expired, and all clients together 1,000,000; beyond its share, a client
/// gets 503, and others are served. Postgres and Redis count for all replicas, and other logs in each process.
///
/// ```
/// use tower_client_credentials::authorization_server::ClientAssertions;
/// use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
///
/// let store = MemoryStore::default();
/// let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, store.clone())
///     .client_assertions(ClientAssertions::new(store))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "the settings are not used until a server has them"]
pub struct ClientAssertions {
    pub(super) log: Arc<dyn ReplayLog>,
    pub(super) max_lifetime: Duration,
    pub(super) clock_skew: Duration,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) platforms: Vec<PlatformIssuer>,
    pub(super) trust_domains: Vec<TrustDomain>,
    pub(super) key_urls: KeyUrls,
    /// `None` if the server accepts no `client_secret_jwt`.
    pub(super) secrets: Option<AcceptedSecrets>,
    pub(super) hmac_algorithms: Vec<HmacAlgorithm>,
    pub(super) legacy_uses: Option<Arc<dyn ClientAdmin>>,
}

/// Whether the keys of clients are fetched from their URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyUrls {
    Refused,
    #[cfg(feature = "remote")]
    Public,
    #[cfg(feature = "remote")]
    Private,
}

impl ClientAssertions {
    /// Creates the default settings with this log of used assertions.
    ///
    /// An assertion stays used only as long as the log remembers it. In these cases, an assertion that has not expired is
    /// accepted again:
    ///
    /// - Redis evicts entries when its memory is full, or fails over to a replica without the last writes. Set
    ///   `maxmemory-policy noeviction`. No setting prevents the second case; Postgres with synchronous replication does.
    /// - A process with a [`MemoryStore`](crate::MemoryStore) restarts, which keeps used assertions in memory only.
    pub fn new(log: impl ReplayLog) -> Self {
        Self {
            log: Arc::new(log),
            max_lifetime: Duration::from_secs(300),
            clock_skew: Duration::from_secs(10),
            algorithms: ALL.to_vec(),
            platforms: Vec::new(),
            trust_domains: Vec::new(),
            key_urls: KeyUrls::Refused,
            secrets: None,
            hmac_algorithms: HmacAlgorithm::ALL.to_vec(),
            legacy_uses: None,
        }
    }

    /// Trusts a platform, so that its workloads can authenticate with its tokens. None by default.
    pub fn platform(mut self, platform: PlatformIssuer) -> Self {
        self.platforms.push(platform);
        self
    }

    /// Trusts a SPIFFE trust domain, so that its workloads can authenticate with JWT-SVIDs. None by default.
    pub fn trust_domain(mut self, domain: TrustDomain) -> Self {
        self.trust_domains.push(domain);
        self
    }

    /// Accepts clients with a [`jwks_uri`](crate::registration::Credential::jwks_uri), whose keys are fetched. Off by
    /// default. Only public addresses are connected to. At most 10,000 key sets are in memory, and at most 32 fetches are
    /// in flight, 4 of them from one host, and 24 from hosts that did not answer the last time. A set is refreshed in the
    /// background for an hour after the client authenticated with it; otherwise, a request waits for its fetch.
    ///
    /// A caller can find out whether such a client exists: while its keys cannot be fetched, an assertion that names it gets
    /// 503, and an unknown client gets 401. The time of a fetch shows the same. Clients with registered keys do not differ from
    /// unknown ones.
    #[cfg(feature = "remote")]
    pub fn client_key_urls(self) -> Self {
        Self { key_urls: KeyUrls::Public, ..self }
    }

    /// Like [`client_key_urls`](Self::client_key_urls), also with addresses of private networks and of this machine.
    ///
    /// Dangerous: a person who can register a client can let this server send requests into your network.
    #[cfg(feature = "remote")]
    pub fn dangerous_private_client_key_urls(self) -> Self {
        Self { key_urls: KeyUrls::Private, ..self }
    }

    /// Accepts clients with a [secret](crate::registration::Credential::client_secret_jwt) for `client_secret_jwt` (OpenID
    /// Connect Core §9), which comes from the configuration of this process. Off by default: a server that can read the secrets of
    /// its clients can lose them, and `private_key_jwt` needs none.
    pub fn client_secret_jwt(mut self) -> Self {
        self.secrets.get_or_insert(AcceptedSecrets { key: None });
        self
    }

    /// Like [`client_secret_jwt`](Self::client_secret_jwt), also with secrets that this key
    /// [encrypted](crate::registration::Client::encrypt_secrets), which a store can keep. Give every replica the same key, and
    /// keep it apart from the store.
    ///
    /// If the key does not decrypt the secret of a client in memory or in a file, the server is not built. If a client is in
    /// another store, its assertions get 503 until the key is corrected, and an event reports the client; other clients are
    /// served.
    pub fn client_secret_jwt_with(self, key: KeyEncryptionKey) -> Self {
        Self { secrets: Some(AcceptedSecrets { key: Some(key) }), ..self }
    }

    /// Sets the algorithms of [`client_secret_jwt`](Self::client_secret_jwt). The default is all of them, each for secrets that
    /// are as long as its hash.
    pub fn hmac_algorithms(self, algorithms: impl IntoIterator<Item = HmacAlgorithm>) -> Self {
        Self { hmac_algorithms: algorithms.into_iter().collect(), ..self }
    }

    /// Records in this store when a client last sent an assertion that only its
    /// [allowance](crate::registration::Client::legacy_assertions_until) makes acceptable: with the URL of the token endpoint as `aud`,
    /// or valid for longer than [`max_lifetime`](Self::max_lifetime). `clients audience-report` lists these clients, and
    /// so does [`RegisteredClient::legacy_audience_used`](crate::registration::RegisteredClient::legacy_audience_used). Use the store
    /// that has the clients. Off by default.
    ///
    /// A client that authenticated causes at most one write an hour, in the background, and at most 4 writes are in flight. A write
    /// that fails is logged, and does not affect the request. It changes the revision of the client.
    pub fn record_legacy_uses(self, store: impl ClientAdmin) -> Self {
        Self { legacy_uses: Some(Arc::new(store)), ..self }
    }

    /// Returns the credentials that these settings accept.
    pub(crate) fn accepted(&self) -> AcceptedCredentials {
        AcceptedCredentials {
            keys: true,
            key_urls: self.key_urls != KeyUrls::Refused,
            secrets: self.secrets.clone(),
            platforms: self.platforms.iter().flat_map(|platform| platform.names.iter().cloned()).collect(),
            trust_domains: self.trust_domains.iter().map(|domain| domain.name.clone()).collect(),
        }
    }

    /// Sets how far ahead `exp` of an assertion may be, in whole seconds from 1 second to 1 hour. The default is 5
    /// minutes. The log keeps an assertion until it expires, so a longer lifetime needs more room.
    pub fn max_lifetime(self, lifetime: Duration) -> Self {
        Self { max_lifetime: lifetime, ..self }
    }

    /// Sets by how much the clocks of clients may differ, for `exp`, `nbf` and `iat`. It is 10 to 60 seconds, and the
    /// default is 10 seconds.
    pub fn clock_skew(self, skew: Duration) -> Self {
        Self { clock_skew: skew, ..self }
    }

    /// Sets the algorithms that assertions may have, and that the metadata lists. The default is every asymmetric one.
    /// FAPI 2.0 §5.4 allows `ES256`, `PS256` and `EdDSA`.
    pub fn algorithms(self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        Self { algorithms: algorithms.into_iter().collect(), ..self }
    }

    /// Checks the settings when the server is built.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let (seconds, hour) = (Duration::from_secs, Duration::from_secs(3_600));
        if !(seconds(10)..=seconds(60)).contains(&self.clock_skew) {
            return Err(
                "the clock skew of client assertions must be 10 to 60 seconds; see ClientAssertions::clock_skew",
            );
        }
        if !(seconds(1)..=hour).contains(&self.max_lifetime) {
            return Err(
                "the lifetime of client assertions must be 1 second to 1 hour; see ClientAssertions::max_lifetime",
            );
        }
        if self.algorithms.is_empty() || self.algorithms.iter().any(|algorithm| !ALL.contains(algorithm)) {
            return Err("client assertions need at least one algorithm, and only asymmetric ones; see \
                        ClientAssertions::algorithms");
        }
        if self.hmac_algorithms.is_empty() {
            return Err("client_secret_jwt needs at least one algorithm; see ClientAssertions::hmac_algorithms");
        }
        Ok(())
    }
}
