//! [`AuthorizationServerBuilder`]: the settings of a server, each with a default that is safe, checked as a whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderValue};

use super::authenticate::{AttemptLimits, Authenticator, CheckPlace, Decoy, Notices, SlowChecks, Throttle};
use super::authenticate::{ClientCache, ClientCacheLimits, OnRead};
use super::body::BodyLimits;
use super::config_error::ConfigError;
use super::endpoint::{Endpoints, PathSetting, PathSettings};
use super::metadata::Metadata;
use super::peer::PeerAddress;
use super::report::Reporter;
use super::token::{
    AudienceParameter, DynGrantHook, GrantHook, GrantPolicy, Minter, ReusedTokens, TokenPipeline, TokenQueue,
};
use super::{AuthorizationServer, Inner, TrustedProxies};
use crate::audience::{Audience, InvalidAudience};
use crate::clock::{Clock, SystemClock};
use crate::crypto::{DrawnAhead, Random, SystemRandom};
use crate::event::EventSender;
use crate::issuer::Issuer;
use crate::keys::KeyRing;
use crate::registration::ClientRules;
use crate::revocation::Revocations;
use crate::scope::Scopes;
use crate::store::{ClientStore, DynClientStore};
use crate::timing::CLIENT_CHANGE_RETENTION;
use crate::token_lifetime::TokenLifetime;
use crate::transport::{Document, DocumentSettings};
use crate::uri::PlainHttp;

/// The settings of an [`AuthorizationServer`]; each has a default that is safe.
///
/// A mistake is kept until [`build`](Self::build).
#[derive(Debug)]
pub struct AuthorizationServerBuilder {
    issuer: String,
    plain_http: PlainHttp,
    keys: KeyRing,
    clients: Arc<dyn DynClientStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    default_scopes: Scopes,
    rules: ClientRules,
    accepts_audience: bool,
    invalid_audience: Option<InvalidAudience>,
    resource_twice: Option<Audience>,
    lifetime: Duration,
    revocations: Option<Revocations>,
    repeat_percent: Option<u8>,
    token_queue: Option<usize>,
    store_timeout: Duration,
    client_cache: Option<ClientCacheLimits>,
    limits: AttemptLimits,
    slow_checks: (usize, usize),
    check_place: CheckPlace,
    #[cfg(feature = "legacy_hashes")]
    upgrade_hashes: Option<Arc<dyn super::authenticate::DynUpgrade>>,
    #[cfg(feature = "legacy_hashes")]
    imported_are_random: bool,
    hook: Option<Box<dyn DynGrantHook>>,
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
            invalid_audience: None,
            resource_twice: None,
            lifetime: Duration::from_secs(600),
            revocations: None,
            repeat_percent: None,
            token_queue: None,
            store_timeout: Duration::from_secs(2),
            client_cache: Some(ClientCacheLimits::default()),
            limits: AttemptLimits::default(),
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

    /// Accepts plain `http` with any host, in the issuer and in the [public URL](Self::public_url). By default it is
    /// accepted on loopback only.
    ///
    /// Dangerous: an attacker on the network can read secrets and tokens, and can replace the keys that verify them. It is
    /// for development, and for networks that encrypt underneath, such as a service mesh.
    #[must_use]
    pub fn dangerous_plain_http(mut self) -> Self {
        self.plain_http = PlainHttp::AnyHost;
        self
    }

    /// How long a token lives, in whole seconds: 10 minutes by default, 1 second to 365 days.
    ///
    /// Without [revocations](Self::revocations) a token cannot be called back, so this is also how long a client that lost
    /// its rights keeps them. Clients renew tokens by themselves; a short life costs them a request now and then.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the [revocations](crate::revocation), so that tokens can be revoked. None by default. A server whose store can be
    /// [administered](ClientStore::is_administered) should have them: without, it logs a warning when it is built.
    ///
    /// 1. The [verifiers](AuthorizationServer::verifier) of this server refuse what is revoked.
    /// 2. No token lives longer than the store of the revocations is
    ///    [made for](crate::RevocationStore::longest_token_lifetime).
    /// 3. A client whose tokens were called back, and that may have new ones, gets one that is dated after those.
    /// 4. There are a [revocation](Self::revocation_path) and an [introspection](Self::introspection_path) endpoint.
    /// 5. A client that was changed is looked up anew within a second, whatever the [cache](Self::client_cache) has; and one
    ///    that the cache has, once nothing was heard from the store of the revocations for 2 seconds.
    /// 6. No token is dated more than 5 seconds after the client store vouched for its client: who waited longer, for a
    ///    [grant hook](Self::grant_hook) or a check, gets a 503. So what calls back a disabled client misses none.
    #[must_use]
    pub fn revocations(mut self, revocations: Revocations) -> Self {
        self.revocations = Some(revocations);
        self
    }

    /// Limits how many grants may wait for a signature, while as many as there are cores are being signed. When the queue is
    /// full, a request gets 503 with `Retry-After`. There is no limit by default, and each request is served in turn.
    ///
    /// A place in the queue is taken just before the signature, by an authenticated request whose grant is decided, the
    /// [grant hook](Self::grant_hook) included. A request that is refused takes none, nor does one that waits for the
    /// client store, nor one that gets a token [again](Self::repeat_tokens). So a caller without credentials cannot fill
    /// the queue.
    ///
    /// It is for servers that also do other work, such as verifying tokens, and that get requests for more tokens than they
    /// can sign: between two signatures, other tasks that are ready run first. A concurrency limit of `tower` has no such
    /// effect, since the signature is computed without a pause and no second request runs at the same time.
    ///
    /// Choose the limit by the longest wait: 16 signatures with RS256 take some 6 ms, 1,024 with ES256 or EdDSA some 30 ms. A
    /// refusal over HTTP, authentication included, takes nearly as long as a signature by the latter, so a short queue of
    /// these sheds no load, and refuses requests that it could have served. Choose as many places as there are connections,
    /// and limit the connections in front of the process.
    #[must_use]
    pub fn token_queue(mut self, waiting: usize) -> Self {
        self.token_queue = Some(waiting);
        self
    }

    /// Gives a client that asks again for the same the same token, until that token has lived for so much of its life, in
    /// percent: 1 to 90. Off by default, and each request then gets a token of its own.
    ///
    /// The same is: client, subject, scopes in their order, audiences, lifetime, and the claims of the
    /// [hook](Self::grant_hook), which runs each time, as authentication does. `expires_in` is what is left of the token's
    /// life. Of those who ask at once, one has it signed. A process keeps 8,192 tokens, of 2 KiB at most each.
    ///
    /// It is for clients that ask before every call, since they do not keep their tokens: they are served for a fraction
    /// of a signature, and flood nobody with tokens. In return:
    ///
    /// - the instances of a client share a token: it cannot be told by its `jti` which of them used it, and to revoke it
    ///   is to revoke it for all of them;
    /// - good tokens are kept in the memory of the server;
    /// - one that was called back is given out until the server's own [view](Self::revocations) has heard of it;
    /// - tokens live shorter from their client's view: at 50, one that asks again has at least half of the lifetime left.
    ///
    /// ```
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())
    ///     .repeat_tokens(50)
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn repeat_tokens(mut self, percent: u8) -> Self {
        self.repeat_percent = Some(percent);
        self
    }

    /// The scopes of a request without `scope`, from a client without defaults of its own: those of them that
    /// the client may have (RFC 6749 §3.3). None by default.
    #[must_use]
    pub fn default_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.default_scopes = scopes.into();
        self
    }

    /// The audience of clients that list none of their own, an absolute URI. None by default, and each client
    /// then needs one.
    #[must_use]
    pub fn default_audience(mut self, audience: impl AsRef<str>) -> Self {
        self.rules.default_audience = self.keep(audience.as_ref().parse());
        self
    }

    /// The scopes that exist. A client that lists another one is a mistake, which is reported as [`ClientRules`] says, and a
    /// [grant hook](Self::grant_hook) cannot grant another one. By default every scope that a client lists exists.
    #[must_use]
    pub fn known_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.rules.known_scopes = Some(scopes.into());
        self
    }

    /// One more audience that exists, an absolute URI. A client that lists another one is a mistake, which is reported as
    /// [`ClientRules`] says. By default, without any of these, every audience that a client lists exists.
    #[must_use]
    pub fn resource(mut self, audience: impl AsRef<str>) -> Self {
        self.add_resource(audience.as_ref(), None);
        self
    }

    /// One more audience that exists, and all the scopes that exist there: a token for it says no other (RFC 9068
    /// §3). A token for several says only those that exist at each.
    ///
    /// Each spelling of a resource that equals another one by RFC 3986 §6.2.2 and §6.2.3, such as `https://a.example` and
    /// `https://a.example/`, needs the same scopes.
    #[must_use]
    pub fn resource_with_scopes(mut self, audience: impl AsRef<str>, scopes: impl Into<Scopes>) -> Self {
        self.add_resource(audience.as_ref(), Some(scopes.into()));
        self
    }

    fn add_resource(&mut self, audience: &str, scopes: Option<Scopes>) {
        let Some(audience) = self.keep(audience.parse()) else { return };
        if self.rules.resources.insert(audience.clone(), scopes).is_some() {
            self.resource_twice = Some(audience);
        }
    }

    fn keep(&mut self, audience: Result<Audience, InvalidAudience>) -> Option<Audience> {
        audience.map_err(|error| self.invalid_audience.get_or_insert(error)).ok()
    }

    /// Accepts the parameter `audience` as another name of `resource` (RFC 8707 §2). Off by default.
    ///
    /// Some clients name the API by `audience`, as Auth0 has it. Its value is an audience of the client, an absolute URI;
    /// a request that has both, and names different resources by them, is refused with `invalid_target`. Without this
    /// option the parameter is ignored, as RFC 6749 §3.2 demands of an unrecognised one, with a log line and the event
    /// [`AudienceParameterIgnored`](crate::event::Outcome::AudienceParameterIgnored).
    #[must_use]
    pub fn accept_audience_parameter(mut self) -> Self {
        self.accepts_audience = true;
        self
    }

    /// A policy of one's own over each grant; see [`GrantHook`]. None by default.
    #[must_use]
    pub fn grant_hook(mut self, hook: impl GrantHook) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Where [events](crate::event) go. Nowhere by default.
    #[must_use]
    pub fn events(mut self, events: EventSender) -> Self {
        self.events = Some(events);
        self
    }

    /// How to find the caller's address, by which failed attempts are counted (see [`AttemptLimits`]). By default it
    /// is not known, and all callers of a client id are counted together.
    ///
    /// With axum, `axum::extract::ConnectInfo` holds it. Behind a load balancer or a proxy that is the proxy's own address, and
    /// all callers share one count: name the proxies with [`trusted_proxies`](Self::trusted_proxies) in addition.
    ///
    /// ```
    /// # use std::net::SocketAddr;
    /// # use axum::extract::ConnectInfo;
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
    /// let builder = builder.peer_address(|extensions| {
    ///     extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.ip())
    /// });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn peer_address(mut self, find: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.peer.find(find);
        self
    }

    /// Trusts what these proxies say of a caller's address, by which failed attempts are counted. None by default: then the
    /// [peer's address](Self::peer_address) counts, which has to be set in any case. See [`TrustedProxies`] for the rules.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.peer.trust(proxies);
        self
    }

    /// The URL in front of the paths, as clients see it, in the metadata: the issuer's scheme and authority by
    /// default. Set it when clients reach the endpoints under another host than the issuer's. Behind a proxy that removes
    /// the issuer's path, [`proxy_strips_issuer_path`](Self::proxy_strips_issuer_path) is enough.
    #[must_use]
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// Expects requests without the issuer's path, since a proxy removes it: behind it, the issuer
    /// `https://host.example/auth` gets its requests for a token at `/token`, and clients find them at
    /// `https://host.example/auth/token`, as the metadata says.
    ///
    /// By default requests keep the issuer's path, and this server expects them at `/auth/token`. The page of
    /// [`TokenEndpointLayer`](super::TokenEndpointLayer#behind-a-proxy-with-a-path) has the proxy's side of both.
    ///
    /// The metadata stays where RFC 8414 §3.1 puts it, at `/.well-known/oauth-authorization-server/auth`: this path does not
    /// begin with the issuer's, and nothing is removed from it. An issuer without a path is an error.
    #[must_use]
    pub fn proxy_strips_issuer_path(mut self) -> Self {
        self.paths.stripped = true;
        self
    }

    /// The path of the token endpoint, as requests arrive with it: `/token` below the issuer's path by default.
    /// `None` turns it off, for a listener that shows the documents only.
    #[must_use]
    pub fn token_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.token = PathSetting::new(path.into());
        self
    }

    /// Sets the path of an authorization endpoint, such as `/authorize`, which the metadata then names. Off by
    /// default: RFC 8414 §2 requires one only for grants that use it.
    ///
    /// The server has no grant that uses it, and answers GET and POST there with 400 `unsupported_response_type`. It is for
    /// clients that refuse metadata without an `authorization_endpoint`, as the MCP SDKs for TypeScript, Python and Rust
    /// do, also where they use client credentials only.
    #[must_use]
    pub fn authorization_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.authorization = PathSetting::new(path.into());
        self
    }

    /// The path of the revocation endpoint (RFC 7009): `/revoke` below the issuer's path by default, where the server has
    /// [revocations](Self::revocations). `None` turns it off.
    ///
    /// A client authenticates as at the token endpoint, and gives a token of its own back.
    #[must_use]
    pub fn revocation_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.revocation = PathSetting::new(path.into());
        self
    }

    /// The path of the introspection endpoint (RFC 7662): `/introspect` below the issuer's path by default, where the server
    /// has [revocations](Self::revocations); without, a token is active until it expires. `None` turns it off.
    ///
    /// A client authenticates as at the token endpoint, and asks about tokens for the audiences that it
    /// [introspects](crate::Client::introspects). Who accepts `application/token-introspection+jwt` gets the answer signed
    /// (RFC 9701).
    #[must_use]
    pub fn introspection_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.introspection = PathSetting::new(path.into());
        self
    }

    /// The path of the key set: `/.well-known/jwks.json` below the issuer's path by default. `None` turns it off.
    #[must_use]
    pub fn jwks_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.jwks = PathSetting::new(path.into());
        self
    }

    /// The path of the metadata: by default where RFC 8414 §3.1 puts it,
    /// `/.well-known/oauth-authorization-server` before the issuer's path. `None` turns it off.
    #[must_use]
    pub fn metadata_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.metadata = PathSetting::new(path.into());
        self
    }

    /// Sets what the metadata says as `response_types_supported`: `["none"]` by default.
    ///
    /// RFC 8414 §2 requires the member, and §3.2 leaves out members without a value. Some clients refuse metadata without
    /// it; `none` is the registered response type by which nothing is returned. Give the types of the server that serves
    /// the other grants, where there is one. An empty list leaves the member out:
    ///
    /// ```
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
    /// let builder = builder.response_types_supported(None::<&str>);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn response_types_supported(mut self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.response_types = types.into_iter().map(Into::into).collect();
        self
    }

    /// Lets web pages of any origin read the key set and the metadata (`Access-Control-Allow-Origin: *`). Off by
    /// default. The token endpoint is none of a web page's business, and stays as it is.
    #[must_use]
    pub fn cross_origin_documents(mut self) -> Self {
        self.documents.cross_origin = true;
        self
    }

    /// How large the body of a request may be, in bytes: 64 KiB by default. A larger one is a 413.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limits.bytes = bytes;
        self
    }

    /// How long the body of a request may take to arrive: 10 seconds by default. A slower one is a 408.
    #[must_use]
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_limits.time = time;
        self
    }

    /// How long the client store may take to answer, and the [grant hook](Self::grant_hook) to decide: 2 seconds by
    /// default. After that the caller gets a 503.
    #[must_use]
    pub fn store_timeout(mut self, time: Duration) -> Self {
        self.store_timeout = time;
        self
    }

    /// How long the server goes by what the client store said; see [`ClientCacheLimits`] for the defaults. With `None` it
    /// asks each time.
    #[must_use]
    pub fn client_cache(mut self, limits: impl Into<Option<ClientCacheLimits>>) -> Self {
        self.client_cache = limits.into();
        self
    }

    /// How many failed attempts are answered before the next is turned away; see [`AttemptLimits`] for the defaults.
    #[must_use]
    pub fn attempt_limits(mut self, limits: AttemptLimits) -> Self {
        self.limits = limits;
        self
    }

    /// How many secrets that people chose are checked at once, and how many wait, each tens of milliseconds and 19 MiB:
    /// one a core and four more for each by default, and at most 10,000 of either. Beyond that the caller gets a 503.
    ///
    /// The networks of the callers take turns, by their [address](Self::peer_address), and within a network its clients, no
    /// matter which of them asks more often. Of several places at once, one client at one network leaves one to others. When
    /// too many wait, the last caller of the network with the most gets the 503. A network, and a client within it, with 10
    /// wrong secrets in this minute and the last one comes after all others. So guesses at a secret do not keep its owner, at
    /// another address, from being served. A network is an IPv4 address or an IPv6 /64. The networks of one IPv6 /48 share the
    /// turns of one network, and come after all others with 30 wrong secrets from at least three of them. Callers without a
    /// known address are one network. An attacker with many networks competes as an equal of each.
    #[cfg(feature = "argon2")]
    #[must_use]
    pub fn slow_checks(mut self, at_once: usize, queued: usize) -> Self {
        self.slow_checks = (at_once.clamp(1, MOST_SLOW_CHECKS), queued.min(MOST_SLOW_CHECKS));
        self
    }

    /// Where secrets that people chose are checked: by default on the threads that Tokio has for blocking work. Each check
    /// is a function that works for tens of milliseconds without a pause, so `run` must not call it where requests are
    /// served; if it drops it, the caller gets a 503. Never more are handed over at a time than
    /// [`slow_checks`](Self::slow_checks) lets at once.
    ///
    /// Where a core has other requests to serve as well, these wait for the system to take it from a check: 4 ms on the
    /// Linux that we measured, beside a tenth of one for the verification of a token. Threads of your own can yield at
    /// once, by Linux's `SCHED_IDLE` (crate `thread-priority`). They get what others leave, though, and nothing on a
    /// machine that is busy for good.
    ///
    /// ```
    /// use std::{sync::mpsc, thread};
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    ///
    /// let (checks, waiting) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
    /// thread::spawn(move || {
    ///     // Here the thread sets its priority.
    ///     for check in waiting {
    ///         check();
    ///     }
    /// });
    /// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
    /// let server = builder.slow_checks(1, 4).slow_checks_on(move |check| drop(checks.send(check))).build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "argon2")]
    #[must_use]
    pub fn slow_checks_on(mut self, run: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static) -> Self {
        self.check_place = CheckPlace::new(run);
        self
    }

    /// Where a hash that an older system made is replaced by one of ours, when its secret was first shown: by a digest
    /// where the secret is a generated one, else by argon2id. Nowhere by default: such hashes then go on being checked.
    ///
    /// It is done beside the request, which neither waits for it nor fails with it, and never undoes what somebody else
    /// changed. Give it the store that the server's clients are in.
    ///
    /// ```
    /// use tower_client_credentials::{AuthorizationServer, Client, KeyRing, MemoryStore, StoredSecret};
    ///
    /// let hash: StoredSecret = "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m".parse()?;
    /// let clients = MemoryStore::from([Client::new("billing", hash).audience("https://api.example.com")]);
    /// let server = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, clients.clone())
    ///     .upgrade_hashes(clients)
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "legacy_hashes")]
    #[must_use]
    pub fn upgrade_hashes(mut self, store: impl crate::store::ClientAdmin) -> Self {
        self.upgrade_hashes = Some(Arc::new(store));
        self
    }

    /// Declares that the secrets under the hashes of older systems are random, with 128 bits or more each. By default they
    /// are taken for secrets that people chose.
    ///
    /// It is about hashes by bcrypt and PBKDF2 (not argon2id, by which this crate keeps chosen secrets), for a registry that
    /// was imported from a system that generated the secrets. Two things change:
    ///
    /// 1. Wrong secrets never lock such a client out, as with a generated secret: only wrong ones are turned away beyond
    ///    [the limit](AttemptLimits::generated_by_address). Each is still hashed, after the secrets that other networks show,
    ///    so that a flood of guesses does not delay the owner at another [address](Self::peer_address); behind a proxy, that
    ///    takes [trusted proxies](Self::trusted_proxies). All of it is within the bound of
    #[cfg_attr(feature = "argon2", doc = "    [`slow_checks`](Self::slow_checks).")]
    #[cfg_attr(not(feature = "argon2"), doc = "    one check for each core.")]
    /// 2. [`upgrade_hashes`](Self::upgrade_hashes) replaces such a hash by a digest, if the secret passes the checks of
    ///    [`ClientSecret::assume_random`](crate::ClientSecret::assume_random), and else by argon2id.
    ///
    /// Where one of these secrets can be guessed nevertheless, only the bound on checks slows the guesses down.
    #[cfg(feature = "legacy_hashes")]
    #[must_use]
    pub fn imported_secrets_are_random(mut self) -> Self {
        self.imported_are_random = true;
        self
    }

    /// How long caches may keep the key set and the metadata, in whole seconds: 5 minutes by default. A new key should
    /// be published for that long before it signs.
    #[must_use]
    pub fn documents_max_age(mut self, max_age: Duration) -> Self {
        self.documents.max_age = max_age;
        self
    }

    /// Where the time comes from: the operating system by default.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where token ids come from: by default the cryptographic backend, which is asked for those of 16 tokens at once.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Checks everything, and builds the server.
    ///
    /// # Errors
    ///
    /// The first mistake in the settings or the clients, with the mend.
    pub fn build(self) -> Result<AuthorizationServer, ConfigError> {
        self.check()?;
        if self.revocations.is_none() && self.clients.is_administered() {
            tracing::warn!(
                "the clients can be disabled while the server runs, and the server has no revocations: a disabled client gets \
                 tokens for as long as the cache has it, and its tokens work until they expire; follow the store with \
                 Revocations::follow(…), and give them to the server with .revocations(…)"
            );
        }
        let issuer = Issuer::new(&self.issuer, self.plain_http)?;
        let lifetime = TokenLifetime::new(self.lifetime).map_err(ConfigError::Lifetime)?;
        let longest = self.revocations.as_ref().map_or(TokenLifetime::LONGEST, Revocations::longest_token_lifetime);
        let longest = TokenLifetime::new(longest.min(TokenLifetime::LONGEST)).map_err(ConfigError::Lifetime)?;
        let base_url = public_url(self.public_url, &issuer, self.paths.stripped, self.plain_http)?;
        let endpoints = Endpoints::new(&issuer, self.paths, self.revocations.is_some())?;
        let metadata = Metadata {
            issuer: &issuer,
            base_url,
            endpoints: &endpoints,
            scopes: self.rules.known_scopes.as_ref(),
            response_types: &self.response_types,
            algorithm: self.keys.signing_key().algorithm(),
        };
        if let (Some(revocations), Some(events)) = (&self.revocations, &self.events) {
            revocations.report_losses_to(events);
        }
        let notices = Arc::new(Notices::new(self.events.clone(), self.clock.clone()));
        let clients = ClientCache::new(
            self.clients,
            self.client_cache,
            self.store_timeout,
            self.clock.clone(),
            self.revocations.clone(),
            Some(check_on_read(self.rules.clone(), notices.clone())),
        );
        #[cfg(feature = "legacy_hashes")]
        let upgrades = self.upgrade_hashes.map(|store| {
            let (timeout, clock) = (self.store_timeout, self.clock.clone());
            super::authenticate::Upgrades::new(store, clients.clone(), timeout, clock, self.imported_are_random)
        });
        let inner = Inner {
            body_limits: self.body_limits,
            jwks: Document::new("application/jwk-set+json", &self.keys.to_jwk_set(), self.documents)?,
            metadata: Document::new("application/json", &metadata.document(), self.documents)?,
            token: TokenPipeline {
                challenge: challenge(&issuer)?,
                queue: self.token_queue.map(|waiting| TokenQueue::new(cores(), waiting)),
                authenticator: Authenticator {
                    peer: self.peer,
                    #[cfg(feature = "legacy_hashes")]
                    upgrades: upgrades.map(Arc::new),
                    #[cfg(feature = "legacy_hashes")]
                    imported_are_random: self.imported_are_random,
                    decoy: Decoy::new()?,
                    notices,
                    clients,
                    clock: self.clock.clone(),
                    slow_checks: SlowChecks::new(
                        self.slow_checks.0,
                        self.slow_checks.1,
                        self.check_place,
                        self.clock.clone(),
                    ),
                    throttle: Throttle::new(self.limits, self.clock.clone()),
                },
                audience_parameter: AudienceParameter::new(
                    self.accepts_audience,
                    self.events.clone(),
                    self.clock.clone(),
                ),
                policy: GrantPolicy {
                    rules: self.rules,
                    default_scopes: self.default_scopes,
                    lifetime,
                    longest,
                    hook: self.hook,
                    timeout: self.store_timeout,
                },
                reused: self.repeat_percent.map(ReusedTokens::new),
                reporter: Reporter { events: self.events, clock: self.clock.clone() },
                minter: Minter {
                    issuer,
                    keys: self.keys,
                    clock: self.clock,
                    random: self.random,
                    revocations: self.revocations,
                },
            },
            endpoints,
        };
        Ok(AuthorizationServer { inner: Arc::new(inner) })
    }

    /// What the settings say of each other and of the clients.
    fn check(&self) -> Result<(), ConfigError> {
        self.invalid_audience.map_or(Ok(()), Err)?;
        if let Some(audience) = &self.resource_twice {
            return Err(ConfigError::ResourceTwice(audience.clone()));
        }
        if let Some((one, other)) = self.rules.different_scopes_of_one_resource() {
            return Err(ConfigError::ResourceSpelledTwice(one.clone(), other.clone()));
        }
        if let Some(scope) = self.rules.unknown_scope(&self.default_scopes) {
            return Err(ConfigError::UnknownScope(scope.to_owned()));
        }
        if self.limits.chosen_by_address == 0 || self.limits.chosen_by_client == 0 {
            return Err(ConfigError::Limits(
                "an attempt limit of 0 for chosen secrets would turn away every client that has one",
            ));
        }
        if self.body_limits.bytes == 0 || self.body_limits.time.is_zero() || self.store_timeout.is_zero() {
            return Err(ConfigError::Limits(
                "a body limit, body timeout or store timeout of 0 would refuse every request",
            ));
        }
        if self.revocations.is_some() && self.client_cache.is_some_and(|limits| limits.found > CLIENT_CHANGE_RETENTION)
        {
            return Err(ConfigError::Limits(
                "a client is cached for longer than its store tells of changes; let `found` in .client_cache(…) be 10 minutes at most",
            ));
        }
        if self.peer.lacks_peer() {
            return Err(ConfigError::NoPeerAddress);
        }
        if self.repeat_percent.is_some_and(|percent| !(1..=90).contains(&percent)) {
            return Err(ConfigError::Limits(
                "a token is repeated for 1 to 90 percent of its life; leave .repeat_tokens(…) out to give each request its own",
            ));
        }
        Ok(self.clients.validate(&self.rules)?)
    }
}

#[cfg(feature = "argon2")]
const MOST_SLOW_CHECKS: usize = 10_000;

/// Reports the clients that do not fit the settings, where the store does not.
fn check_on_read(rules: ClientRules, notices: Arc<Notices>) -> OnRead {
    OnRead::new(move |client| notices.registered(client, &rules))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A URL without anything behind its path, and without a slash at its end.
fn public_url(
    url: Option<String>,
    issuer: &Issuer,
    stripped: bool,
    plain_http: PlainHttp,
) -> Result<String, ConfigError> {
    let Some(url) = url else {
        // What a proxy removes on the way in is in front of the paths as clients see them.
        return Ok(format!("{}{}", issuer.origin(), if stripped { issuer.path() } else { "" }));
    };
    let parsed = Issuer::new(&url, plain_http).map_err(ConfigError::PublicUrl)?;
    Ok(format!("{}{}", parsed.origin(), parsed.path()))
}

/// `Basic`, in UTF-8 (RFC 7617 §2.1). An issuer's characters need no escape.
fn challenge(issuer: &Issuer) -> Result<HeaderValue, ConfigError> {
    let challenge = format!("Basic realm=\"{issuer}\", charset=\"UTF-8\"");
    HeaderValue::try_from(challenge).map_err(|error| ConfigError::Document(error.to_string()))
}
