//! [`AuthorizationServerBuilder`]: the settings of a server, with safe defaults.

mod authentication;
mod build;
mod endpoints;
mod grants;

use std::sync::Arc;
use std::time::Duration;

use super::authenticate::{AttemptLimits, CheckPlace, ClientAssertions, ClientCacheLimits};
use super::body::BodyLimits;
use super::config_error::ConfigError;
use super::endpoint::PathSettings;
use super::error::TokenError;
use super::peer::PeerAddress;
use super::token::GrantHook;
use crate::clock::{Clock, SystemClock};
use crate::crypto::{DrawnAhead, Random, SystemRandom};
use crate::event::EventSender;
use crate::keys::KeyRing;
use crate::registration::ClientRules;
use crate::revocation::Revocations;
use crate::scope::Scopes;
use crate::store::ClientStore;
use crate::token_lifetime::TokenLifetime;
use crate::transport::{DocumentSettings, RefusalHook};
use crate::uri::PlainHttp;

/// Builds an [`AuthorizationServer`](crate::AuthorizationServer). Each setting has a safe default.
///
/// Setters do not fail. [`build`](Self::build) returns the first error.
#[derive(Debug)]
#[must_use = "the settings are not used until .build()"]
pub struct AuthorizationServerBuilder {
    issuer: String,
    plain_http: PlainHttp,
    keys: KeyRing,
    clients: Arc<dyn ClientStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    default_scopes: Scopes,
    rules: ClientRules,
    accepts_audience: bool,
    /// The first mistake that a setter found.
    mistake: Option<ConfigError>,
    lifetime: Duration,
    revocations: Option<Revocations>,
    reuse_percent: Option<u8>,
    token_queue: Option<usize>,
    store_timeout: Duration,
    client_cache: Option<ClientCacheLimits>,
    limits: AttemptLimits,
    assertions: Option<ClientAssertions>,
    refusal_body: Option<RefusalHook<TokenError>>,
    slow_checks: (usize, usize),
    check_place: CheckPlace,
    #[cfg(feature = "legacy_hashes")]
    upgrade_hashes: Option<Arc<dyn crate::store::ClientAdmin>>,
    #[cfg(feature = "legacy_hashes")]
    imported_are_random: bool,
    hook: Option<Box<dyn GrantHook>>,
    peer: PeerAddress,
    events: Option<EventSender>,
    public_url: Option<String>,
    paths: PathSettings,
    response_types: Vec<String>,
    documents: DocumentSettings,
    body_limits: BodyLimits,
}

impl AuthorizationServerBuilder {
    pub(super) fn new(issuer: &str, keys: KeyRing, clients: impl ClientStore) -> Self {
        let cores = cores();
        Self {
            issuer: issuer.to_owned(),
            plain_http: PlainHttp::default(),
            keys,
            clients: Arc::new(clients),
            clock: Arc::new(SystemClock),
            random: Arc::new(DrawnAhead::<SystemRandom>::default()),
            default_scopes: Scopes::NONE,
            rules: ClientRules::default(),
            accepts_audience: false,
            mistake: None,
            lifetime: TokenLifetime::DEFAULT,
            revocations: None,
            reuse_percent: None,
            token_queue: None,
            store_timeout: Duration::from_secs(2),
            client_cache: Some(ClientCacheLimits::default()),
            limits: AttemptLimits::default(),
            assertions: None,
            refusal_body: None,
            slow_checks: (cores, 4 * cores),
            check_place: CheckPlace::default(),
            #[cfg(feature = "legacy_hashes")]
            upgrade_hashes: None,
            #[cfg(feature = "legacy_hashes")]
            imported_are_random: false,
            hook: None,
            peer: PeerAddress::default(),
            events: None,
            public_url: None,
            paths: PathSettings::default(),
            response_types: vec!["none".to_owned()],
            documents: DocumentSettings::default(),
            body_limits: BodyLimits::default(),
        }
    }

    /// Allows plain `http` with any host in the issuer and in the [public URL](Self::public_url). By default, plain
    /// `http` is allowed for loopback hosts only.
    ///
    /// Dangerous: an attacker on the network can read secrets and tokens, and can replace the keys that verify tokens.
    /// Use it only for development, and on networks that encrypt traffic on a lower layer, such as a service mesh.
    pub fn dangerous_plain_http(self) -> Self {
        Self { plain_http: PlainHttp::AnyHost, ..self }
    }

    /// Sets the [revocations](crate::revocation), so that tokens can be revoked. Off by default. Set them if the client
    /// store can be [administered](ClientStore::is_administered): without them, [`build`](Self::build) logs a warning.
    ///
    /// Revocations have these effects:
    ///
    /// 1. The [verifiers](crate::AuthorizationServer::verifier) of this server refuse revoked tokens.
    /// 2. No token lives longer than the [limit](crate::store::RevocationStore::longest_token_lifetime) of the
    ///    revocation store.
    /// 3. If the tokens of a client were revoked and the client may get new ones, a new token is dated after the
    ///    revocation.
    /// 4. The server has a [revocation](Self::revocation_path) and an [introspection](Self::introspection_path)
    ///    endpoint.
    /// 5. A changed client is looked up again within 1 second, even if it is in the [client cache](Self::client_cache).
    ///    If the revocation store has not answered for 2 seconds, cached clients are looked up again, too.
    /// 6. A token is issued at most 5 seconds after the client store confirmed its client. A request that takes longer,
    ///    because of a [grant hook](Self::grant_hook) or a slow secret check, gets 503. So the revocation of a disabled
    ///    client covers all of its tokens.
    pub fn revocations(self, revocations: Revocations) -> Self {
        Self { revocations: Some(revocations), ..self }
    }

    /// Limits how many grants may wait to be signed, in addition to one grant per core that is being signed. When the
    /// queue is full, a request gets 503 with `Retry-After`. There is no limit by default.
    ///
    /// A request enters the queue just before the signature: it is authenticated, and its grant is decided, including
    /// by the [grant hook](Self::grant_hook). A request that is refused, that waits for the client store, or that gets
    /// a [reused token](Self::reuse_tokens) takes no place. So a caller without credentials cannot fill the queue.
    ///
    /// Use it on servers that also do other work, such as verifying tokens, and that get more token requests than they
    /// can sign: between two signatures, other ready tasks run first. A concurrency limit of `tower` has no such
    /// effect: a signature is computed without an await point, so no second request runs at the same time.
    ///
    /// Choose the limit by the longest acceptable wait: 16 signatures with RS256 take about 6 ms, 1,024 with ES256 or
    /// EdDSA about 30 ms. Refusing a request over HTTP, including its authentication, takes nearly as long as signing
    /// with ES256 or EdDSA. So with these algorithms a short queue saves no work, and refuses requests that the server
    /// could have served. Use as many places as there are connections, and limit the connections in front of the
    /// process.
    pub fn token_queue(self, waiting: usize) -> Self {
        Self { token_queue: Some(waiting), ..self }
    }

    /// Sends [events](crate::event) to this sender. None by default.
    pub fn events(self, events: EventSender) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Sets the timeout of calls to the client store and to the [grant hook](Self::grant_hook). The default is 2
    /// seconds. On timeout, the caller gets 503.
    pub fn store_timeout(self, time: Duration) -> Self {
        Self { store_timeout: time, ..self }
    }

    /// Sets the source of the time. The default is the operating system's clock.
    pub fn clock(self, clock: impl Clock) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Sets the source of token ids. The default is the cryptographic backend, which generates the ids of 16 tokens per
    /// call.
    pub fn random(self, random: impl Random) -> Self {
        Self { random: Arc::new(random), ..self }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
