//! [`AuthorizationServerBuilder`]: the settings of a server, with safe defaults.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderValue};

use super::authenticate::{
    AssertionAuthenticator, AssertionContext, AttemptLimits, Audit, Authenticator, CheckPlace, ClientAssertions,
    ClientCache, ClientCacheLimits, Decoy, OnRead, SecretAuthenticator, SlowChecks, Throttle,
};
use super::body::BodyLimits;
use super::config_error::ConfigError;
use super::documents::Documents;
use super::endpoint::{Endpoints, PathSetting, PathSettings};
use super::error::TokenError;
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
use crate::keys::{KeyRing, KeySnapshot};
use crate::registration::ClientRules;
use crate::revocation::Revocations;
use crate::scope::Scopes;
use crate::store::{ClientStore, DynClientStore};
use crate::timing::CLIENT_CHANGE_RETENTION;
use crate::token_lifetime::TokenLifetime;
use crate::transport::{Document, DocumentSettings, RefusalBody, RefusalHook};
use crate::uri::PlainHttp;

/// Builds an [`AuthorizationServer`]. Each setting has a safe default.
///
/// Setters do not fail. [`build`](Self::build) returns the first error.
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
            mistake: None,
            lifetime: Duration::from_secs(600),
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
    #[must_use]
    pub fn dangerous_plain_http(mut self) -> Self {
        self.plain_http = PlainHttp::AnyHost;
        self
    }

    /// Sets the lifetime of tokens, in whole seconds from 1 second to 365 days. The default is 10 minutes.
    ///
    /// Without [revocations](Self::revocations), a token cannot be revoked, so a client that loses its rights keeps
    /// them for this time. Clients renew tokens automatically, so a short lifetime costs only a few additional
    /// requests.
    #[must_use]
    pub fn token_lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Sets the [revocations](crate::revocation), so that tokens can be revoked. Off by default. Set them if the client
    /// store can be [administered](ClientStore::is_administered): without them, [`build`](Self::build) logs a warning.
    ///
    /// Revocations have these effects:
    ///
    /// 1. The [verifiers](AuthorizationServer::verifier) of this server refuse revoked tokens.
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
    #[must_use]
    pub fn revocations(mut self, revocations: Revocations) -> Self {
        self.revocations = Some(revocations);
        self
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
    #[must_use]
    pub fn token_queue(mut self, waiting: usize) -> Self {
        self.token_queue = Some(waiting);
        self
    }

    /// Reuses a token for identical requests until `percent` of its lifetime has passed. `percent` is 1 to 90. Off by
    /// default: each request gets a new token.
    ///
    /// Requests are identical if client, subject, scopes and their order, audiences, lifetime, and the claims of the
    /// [grant hook](Self::grant_hook) are equal. Authentication and the hook run for each request. `expires_in` is the
    /// remaining lifetime of the token. Identical requests at the same time share one signature. A process keeps up to
    /// 8,192 tokens of up to 2 KiB each.
    ///
    /// Use it for clients that do not cache their tokens and request one before every call. Such a request then costs a
    /// fraction of a signature, and fewer tokens are in circulation. The disadvantages:
    ///
    /// - All instances of a client share a token. Its `jti` does not tell which instance used it, and revoking it
    ///   affects all instances.
    /// - The memory of the server contains valid tokens.
    /// - A revoked token is still returned until the server's own [view](Self::revocations) has the revocation.
    /// - Clients get tokens with a shorter remaining lifetime: with 50 percent, at least half of the lifetime.
    ///
    /// ```
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// let server = AuthorizationServer::builder("https://auth.example.com", KeyRing::generate()?, MemoryStore::default())
    ///     .reuse_tokens(50)
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn reuse_tokens(mut self, percent: u8) -> Self {
        self.reuse_percent = Some(percent);
        self
    }

    /// Sets the default scopes (RFC 6749 §3.3). They apply to a request without `scope`, from a client without default
    /// scopes of its own; the client gets those that it is allowed to have. None by default.
    #[must_use]
    pub fn default_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.default_scopes = scopes.into();
        self
    }

    /// Sets the audience of clients without audiences, as an absolute URI. There is no default, and each client must
    /// list at least one.
    #[must_use]
    pub fn default_audience(mut self, audience: impl AsRef<str>) -> Self {
        self.rules.default_audience = self.keep(audience.as_ref().parse());
        self
    }

    /// Sets all scopes that exist. A client that lists any other scope is invalid, and is reported as described in
    /// [`ClientRules`]. A [grant hook](Self::grant_hook) cannot grant any other scope. By default, every scope that a
    /// client lists exists.
    #[must_use]
    pub fn known_scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.rules.known_scopes = Some(scopes.into());
        self
    }

    /// Adds an audience that exists, as an absolute URI. A client that lists any other audience is invalid, and is
    /// reported as described in [`ClientRules`]. By default, if no resource is added, every audience that a client
    /// lists exists.
    #[must_use]
    pub fn resource(mut self, audience: impl AsRef<str>) -> Self {
        self.add_resource(audience.as_ref(), None);
        self
    }

    /// Adds an audience that exists, as an absolute URI, and sets all scopes that exist for it. A token for this
    /// audience contains no other scope (RFC 9068 §3). A token for several audiences contains only scopes that exist
    /// for all of them.
    ///
    /// All spellings of a resource that are equal by RFC 3986 §6.2.2 and §6.2.3, such as `https://a.example` and
    /// `https://a.example/`, need the same scopes.
    #[must_use]
    pub fn resource_with_scopes(mut self, audience: impl AsRef<str>, scopes: impl Into<Scopes>) -> Self {
        self.add_resource(audience.as_ref(), Some(scopes.into()));
        self
    }

    fn add_resource(&mut self, audience: &str, scopes: Option<Scopes>) {
        let Some(audience) = self.keep(audience.parse()) else { return };
        if self.rules.resources.insert(audience.clone(), scopes).is_some() {
            self.mistake.get_or_insert(ConfigError::ResourceTwice(audience));
        }
    }

    fn keep(&mut self, audience: Result<Audience, InvalidAudience>) -> Option<Audience> {
        audience.map_err(|error| self.mistake.get_or_insert(error.into())).ok()
    }

    /// Accepts the parameter `audience` as a synonym of `resource` (RFC 8707 §2). Off by default.
    ///
    /// Some clients name the API by `audience`, as Auth0 does. The value must be an audience of the client, as an
    /// absolute URI. A request with both parameters that name different resources is refused with `invalid_target`.
    /// Without this option, the parameter is ignored, as RFC 6749 §3.2 requires for unrecognized parameters, with a log
    /// line and the event [`AudienceParameterIgnored`](crate::event::Outcome::AudienceParameterIgnored).
    #[must_use]
    pub fn accept_audience_parameter(mut self) -> Self {
        self.accepts_audience = true;
        self
    }

    /// Sets your own policy, which decides each grant; see [`GrantHook`]. None by default.
    #[must_use]
    pub fn grant_hook(mut self, hook: impl GrantHook) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Sends [events](crate::event) to this sender. None by default.
    #[must_use]
    pub fn events(mut self, events: EventSender) -> Self {
        self.events = Some(events);
        self
    }

    /// Sets how to find the caller's address. Failed attempts are counted by address; see [`AttemptLimits`]. By
    /// default, the address is unknown, and all callers of a client id share one count.
    ///
    /// With axum, `axum::extract::ConnectInfo` holds the address. Behind a load balancer or a reverse proxy, it is the
    /// address of the proxy, and all callers share one count: add the proxies with
    /// [`trusted_proxies`](Self::trusted_proxies).
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

    /// Sets the proxies whose information about a caller's address is trusted. Failed attempts are counted by that
    /// address. None by default: the [peer's address](Self::peer_address) counts. Trusted proxies require
    /// [`peer_address`](Self::peer_address). See [`TrustedProxies`] for the rules.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.peer.trust(proxies);
        self
    }

    /// Sets the base URL of the endpoints in the metadata, as clients see it. The default is the issuer's scheme and
    /// authority. Set it if clients reach the endpoints at another host than the issuer's. If a proxy removes the
    /// issuer's path, [`proxy_strips_issuer_path`](Self::proxy_strips_issuer_path) is sufficient.
    #[must_use]
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = Some(url.into());
        self
    }

    /// Expects requests without the issuer's path, because a proxy removes it. With the issuer
    /// `https://host.example/auth`, clients send token requests to `https://host.example/auth/token`, as the metadata
    /// says, and this server receives them at `/token`.
    ///
    /// By default, the proxy keeps the issuer's path, and this server receives token requests at `/auth/token`. See
    /// [`TokenEndpointLayer`](super::TokenEndpointLayer#behind-a-proxy-with-a-path) for the proxy configuration of both
    /// cases.
    ///
    /// The metadata path does not change. RFC 8414 §3.1 puts the metadata at
    /// `/.well-known/oauth-authorization-server/auth`, which does not begin with the issuer's path. An issuer without a
    /// path is an error.
    #[must_use]
    pub fn proxy_strips_issuer_path(mut self) -> Self {
        self.paths.stripped = true;
        self
    }

    /// Sets the path of the token endpoint, as this server receives it. The default is `/token` below the issuer's
    /// path. `None` turns the endpoint off, for a listener that serves only the key set and the metadata.
    #[must_use]
    pub fn token_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.token = PathSetting::new(path.into());
        self
    }

    /// Sets the path of an authorization endpoint, such as `/authorize`, and adds it to the metadata. Off by default:
    /// RFC 8414 §2 requires the endpoint only for grants that use it.
    ///
    /// The server supports no grant that uses it, and answers GET and POST with 400 `unsupported_response_type`. Some
    /// clients, such as the MCP SDKs for TypeScript, Python and Rust, refuse metadata without an
    /// `authorization_endpoint`, even if they use only client credentials.
    #[must_use]
    pub fn authorization_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.authorization = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the revocation endpoint (RFC 7009). The default is `/revoke` below the issuer's path if the
    /// server has [revocations](Self::revocations), otherwise none. `None` turns the endpoint off.
    ///
    /// A client authenticates as at the token endpoint, and revokes one of its own tokens.
    #[must_use]
    pub fn revocation_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.revocation = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the introspection endpoint (RFC 7662). The default is `/introspect` below the issuer's path if
    /// the server has [revocations](Self::revocations), otherwise none: without revocations, a token is active until it
    /// expires. `None` turns the endpoint off.
    ///
    /// A client authenticates as at the token endpoint, and may introspect tokens for the audiences listed in
    /// [`Client::introspects`](crate::Client::introspects). A client that sends
    /// `Accept: application/token-introspection+jwt` gets a signed answer (RFC 9701).
    #[must_use]
    pub fn introspection_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.introspection = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the key set. The default is `/.well-known/jwks.json` below the issuer's path. `None` turns it
    /// off.
    #[must_use]
    pub fn jwks_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.jwks = PathSetting::new(path.into());
        self
    }

    /// Sets the path of the metadata. The default is the path of RFC 8414 §3.1:
    /// `/.well-known/oauth-authorization-server`, followed by the issuer's path. `None` turns it off.
    #[must_use]
    pub fn metadata_path<'a>(mut self, path: impl Into<Option<&'a str>>) -> Self {
        self.paths.metadata = PathSetting::new(path.into());
        self
    }

    /// Sets `response_types_supported` in the metadata. The default is `["none"]`.
    ///
    /// RFC 8414 §2 requires this member, but §3.2 omits members without a value. Some clients refuse metadata without
    /// it; `none` is the registered response type for "nothing is returned". If another server provides further grants,
    /// list its response types. An empty list omits the member:
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

    /// Allows web pages of any origin to read the key set and the metadata (`Access-Control-Allow-Origin: *`). Off by
    /// default. Other endpoints are not affected: web pages must not have client secrets.
    #[must_use]
    pub fn cross_origin_documents(mut self) -> Self {
        self.documents.cross_origin = true;
        self
    }

    /// Sets the maximum size of a request body, in bytes. The default is 64 KiB. A larger body gets 413.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limits.bytes = bytes;
        self
    }

    /// Sets the maximum time in which a request body must arrive. The default is 10 seconds. A slower body gets 408.
    #[must_use]
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_limits.time = time;
        self
    }

    /// Sets the timeout of calls to the client store and to the [grant hook](Self::grant_hook). The default is 2
    /// seconds. On timeout, the caller gets 503.
    #[must_use]
    pub fn store_timeout(mut self, time: Duration) -> Self {
        self.store_timeout = time;
        self
    }

    /// Sets how long answers of the client store are cached; see [`ClientCacheLimits`] for the defaults. `None` turns
    /// the cache off.
    #[must_use]
    pub fn client_cache(mut self, limits: impl Into<Option<ClientCacheLimits>>) -> Self {
        self.client_cache = limits.into();
        self
    }

    /// Accepts client authentication by signed assertions, `private_key_jwt` (RFC 7523, RFC 10070), at the token,
    /// introspection and revocation endpoints; see [`ClientAssertions`] for the settings. Off by default, because it needs
    /// a log of used assertions that all replicas share.
    #[must_use]
    pub fn client_assertions(mut self, settings: ClientAssertions) -> Self {
        self.rules.accepted = settings.accepted();
        self.assertions = Some(settings);
        self
    }

    /// Sets a hook that writes the bodies of refusals, for an application with an error format of its own, such as RFC 9457.
    /// By default they are those of RFC 6749 §5.2. It applies to the token, revocation, introspection and authorization
    /// endpoints.
    ///
    /// The hook gets the error and the extensions of the request. It cannot change the status, the challenge, or any header
    /// other than the content type. It runs for refused requests only, and must not block.
    ///
    /// Keep the members `error` and `error_description`: OAuth clients read them, and RFC 6749 §5.2 requires `error`. Do not
    /// write the error's `Display` into the body: that text is for the operator, and tells an attacker which check failed.
    ///
    /// ```
    /// use serde_json::json;
    /// use tower_client_credentials::transport::RefusalBody;
    /// # use tower_client_credentials::{AuthorizationServer, KeyRing, MemoryStore};
    /// # let builder = AuthorizationServer::builder("https://a.example", KeyRing::generate()?, MemoryStore::default());
    ///
    /// let server = builder
    ///     .refusal_body(|error, _| {
    ///         RefusalBody::problem_json(&json!({
    ///             "title": error.description(),
    ///             "status": error.status().as_u16(),
    ///             "error": error.kind().code(),
    ///             "error_description": error.description(),
    ///         }))
    ///     })
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn refusal_body(
        mut self,
        write: impl Fn(&TokenError, &Extensions) -> RefusalBody + Send + Sync + 'static,
    ) -> Self {
        self.refusal_body = Some(RefusalHook::new(write));
        self
    }

    /// Sets the limits on failed attempts; see [`AttemptLimits`] for the defaults.
    #[must_use]
    pub fn attempt_limits(mut self, limits: AttemptLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how many chosen secrets are checked at the same time, and how many checks may wait. A chosen secret is one
    /// that a person made up. Each check takes tens of milliseconds and 19 MiB. The defaults are one check per core,
    /// and four waiting checks per core. Both values are limited to 10,000. When the queue is full, the caller gets
    /// 503.
    ///
    /// The queue is fair: the networks of the callers, by their [address](Self::peer_address), take turns, and so do
    /// the clients within a network, independent of the number of their requests. If several checks may run at the same
    /// time, one client in one network leaves at least one of them to others. When the queue is full, the last request
    /// of the network with the most requests is refused.
    ///
    /// A network, or a client within it, with 10 wrong secrets in the current and the previous minute is served after
    /// all others. So guessing a secret does not delay its owner at another address. A network is an IPv4 address or an
    /// IPv6 /64. The networks of one IPv6 /48 share the turns of one network, and are served last after 30 wrong
    /// secrets from at least three of them. All callers without a known address are one network. An attacker with many
    /// networks gets one share for each.
    #[cfg(feature = "argon2")]
    #[must_use]
    pub fn slow_checks(mut self, at_once: usize, queued: usize) -> Self {
        self.slow_checks = (at_once.clamp(1, MAX_SLOW_CHECKS), queued.min(MAX_SLOW_CHECKS));
        self
    }

    /// Sets where chosen secrets are checked. The default is Tokio's threads for blocking work. `run` gets a function
    /// that computes for tens of milliseconds without a pause, so `run` must not call it on a thread that serves
    /// requests. If `run` drops the function, the caller gets 503. At most as many checks run at the same time as
    /// [`slow_checks`](Self::slow_checks) allows.
    ///
    /// If a core also serves other requests, these wait until the operating system preempts a check. On Linux, we
    /// measured 4 ms; verifying a token takes a tenth of a millisecond. Your own threads can yield immediately if you
    /// use Linux's `SCHED_IDLE` (crate `thread-priority`). Such threads run only when a core is idle, and never on a
    /// machine that is always busy.
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

    /// Replaces password hashes of older systems in `store` when their secret is first used: by a digest if the secret
    /// is a generated one, otherwise by argon2id. Off by default: such hashes are kept, and continue to be checked.
    ///
    /// The replacement runs in the background. A request neither waits for it nor fails because of it, and it never
    /// overwrites concurrent changes. Pass the store that contains the server's clients.
    ///
    /// ```
    /// use tower_client_credentials::secret::StoredSecret;
    /// use tower_client_credentials::{AuthorizationServer, Client, KeyRing, MemoryStore};
    ///
    /// let hash: StoredSecret = "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m".parse()?;
    /// let clients = MemoryStore::try_from([Client::new("billing", hash).audience("https://api.example.com")])?;
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

    /// Declares that the secrets behind the hashes of older systems are random, with at least 128 bits each. By default
    /// they are treated as secrets that people chose.
    ///
    /// It applies to bcrypt and PBKDF2 hashes, not to argon2id, which this crate uses for chosen secrets. Use it for
    /// clients that were imported from a system that generated the secrets. It changes two things:
    ///
    /// 1. Wrong secrets never lock out such a client, as with generated secrets. Beyond [the
    ///    limit](AttemptLimits::generated_by_address), only wrong secrets are refused. Each secret is still hashed.
    ///    Wrong secrets from one network are hashed after those of other networks, so a flood of guesses does not delay
    ///    the owner at another [address](Self::peer_address). Behind a proxy, this requires [trusted
    ///    proxies](Self::trusted_proxies). All checks together are limited by
    #[cfg_attr(feature = "argon2", doc = "    [`slow_checks`](Self::slow_checks).")]
    #[cfg_attr(not(feature = "argon2"), doc = "    one check for each core.")]
    /// 2. [`upgrade_hashes`](Self::upgrade_hashes) replaces such a hash by a digest if the secret passes the checks of
    ///    [`ClientSecret::assume_random`](crate::ClientSecret::assume_random), and otherwise by argon2id.
    ///
    /// If such a secret can be guessed after all, only the limit on concurrent checks slows the guesses down.
    #[cfg(feature = "legacy_hashes")]
    #[must_use]
    pub fn imported_secrets_are_random(mut self) -> Self {
        self.imported_are_random = true;
        self
    }

    /// Sets how long caches may keep the key set and the metadata, in whole seconds. The default is 5 minutes. Publish
    /// a new key for at least this time before it signs.
    #[must_use]
    pub fn documents_max_age(mut self, max_age: Duration) -> Self {
        self.documents.max_age = max_age;
        self
    }

    /// Sets the source of the time. The default is the operating system's clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the source of token ids. The default is the cryptographic backend, which generates the ids of 16 tokens per
    /// call.
    #[must_use]
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    /// Checks all settings and the clients, and builds the server.
    ///
    /// # Errors
    ///
    /// Returns the first error in the settings or the clients. Its text says how to fix it.
    pub fn build(self) -> Result<AuthorizationServer, ConfigError> {
        self.check()?;
        if self.revocations.is_none() && self.clients.is_administered() {
            tracing::warn!(
                "the client store can disable clients while the server runs, but the server has no revocations: a disabled client \
                     gets tokens until its cache entry expires, and its tokens work until they expire; create revocations with \
                     Revocations::follow(…) and set them with .revocations(…)"
            );
        }
        let issuer = Issuer::new(&self.issuer, self.plain_http)?;
        let lifetime = TokenLifetime::new(self.lifetime).map_err(ConfigError::Lifetime)?;
        let longest = self.revocations.as_ref().map_or(TokenLifetime::LONGEST, Revocations::longest_token_lifetime);
        // No token outlives the publication of its key.
        let longest = longest.min(self.keys.longest_token().unwrap_or(TokenLifetime::LONGEST));
        let longest = TokenLifetime::new(longest.min(TokenLifetime::LONGEST)).map_err(ConfigError::Lifetime)?;
        let base_url = public_url(self.public_url, &issuer, self.paths.stripped, self.plain_http)?;
        let endpoints = Endpoints::new(&issuer, self.paths, self.revocations.is_some())?;
        if let (Some(revocations), Some(events)) = (&self.revocations, &self.events) {
            revocations.report_losses_to(events);
        }
        let audit = Arc::new(Audit::new(self.events.clone(), self.clock.clone()));
        let clients = ClientCache::new(
            self.clients,
            self.client_cache,
            self.store_timeout,
            self.clock.clone(),
            self.revocations.clone(),
            Some(check_on_read(self.rules.clone(), audit.clone())),
        );
        #[cfg(feature = "legacy_hashes")]
        let upgrades = self.upgrade_hashes.map(|store| {
            let (timeout, clock) = (self.store_timeout, self.clock.clone());
            super::authenticate::Upgrades::new(store, clients.clone(), timeout, clock, self.imported_are_random)
        });
        let context = AssertionContext {
            issuer: &issuer,
            token_endpoint: endpoints.token.as_ref().map(|path| format!("{base_url}{path}")),
            clients: clients.clone(),
            store_timeout: self.store_timeout,
            clock: self.clock.clone(),
            random: &self.random,
            audit: audit.clone(),
        };
        let assertion = self.assertions.map(|settings| AssertionAuthenticator::new(settings, context));
        let authenticator = Authenticator {
            assertion: assertion.transpose()?,
            secret: SecretAuthenticator {
                peer: self.peer,
                #[cfg(feature = "legacy_hashes")]
                upgrades: upgrades.map(Arc::new),
                #[cfg(feature = "legacy_hashes")]
                imported_are_random: self.imported_are_random,
                decoy: Decoy::new()?,
                audit,
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
        };
        let metadata = {
            let (issuer, endpoints, scopes) = (issuer.clone(), endpoints.clone(), self.rules.known_scopes.clone());
            let (response_types, settings, methods) = (self.response_types, self.documents, authenticator.methods());
            let assertion = authenticator.assertion.as_ref();
            let assertion_algorithms = assertion.map(AssertionAuthenticator::algorithm_names).unwrap_or_default();
            move |keys: &KeySnapshot| {
                let metadata = Metadata {
                    issuer: &issuer,
                    base_url: base_url.clone(),
                    endpoints: &endpoints,
                    scopes: scopes.as_ref(),
                    response_types: &response_types,
                    methods: &methods,
                    assertion_algorithms: &assertion_algorithms,
                    algorithms: keys.signing_algorithms(),
                };
                Document::new("application/json", &metadata.document(), settings)
            }
        };
        let documents = Documents::new(self.keys.clone(), self.documents, metadata)?;
        let inner = Inner {
            body_limits: self.body_limits,
            documents,
            token: TokenPipeline {
                challenge: challenge(&issuer)?,
                refusal_body: self.refusal_body,
                queue: self.token_queue.map(|waiting| TokenQueue::new(cores(), waiting)),
                authenticator,
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
                reused: self.reuse_percent.map(ReusedTokens::new),
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

    /// Checks that the settings are consistent, and that the clients are valid under them.
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone());
        }
        if let Some((one, other)) = self.rules.different_scopes_of_one_resource() {
            return Err(ConfigError::ResourceSpelledTwice(one.clone(), other.clone()));
        }
        if let Some(scope) = self.rules.unknown_scope(&self.default_scopes) {
            return Err(ConfigError::UnknownScope(scope.to_owned()));
        }
        if self.limits.chosen_by_address == 0 || self.limits.chosen_by_client == 0 {
            return Err(ConfigError::Limits(
                "an attempt limit of 0 for chosen secrets would refuse every client with one; use 1 or more in .attempt_limits(…)",
            ));
        }
        if self.body_limits.bytes == 0 || self.body_limits.time.is_zero() || self.store_timeout.is_zero() {
            return Err(ConfigError::Limits(
                "a body limit, body timeout or store timeout of 0 would refuse every request; use a larger value",
            ));
        }
        if self.revocations.is_some() && self.client_cache.is_some_and(|limits| limits.found > CLIENT_CHANGE_RETENTION)
        {
            return Err(ConfigError::Limits(
                "clients are cached for longer than the store reports changes; set `found` in .client_cache(…) to 10 minutes or less",
            ));
        }
        if self.peer.lacks_peer() {
            return Err(ConfigError::NoPeerAddress);
        }
        if self.reuse_percent.is_some_and(|percent| !(1..=90).contains(&percent)) {
            return Err(ConfigError::Limits(
                ".reuse_tokens(…) needs a percentage from 1 to 90; omit it to issue a new token for each request",
            ));
        }
        match self.clients.in_memory() {
            Some(clients) => Ok(clients.enforce(&self.rules)?),
            None => Ok(()),
        }
    }
}

#[cfg(feature = "argon2")]
const MAX_SLOW_CHECKS: usize = 10_000;

/// Reports invalid clients when they are read, for stores that are not in memory.
fn check_on_read(rules: ClientRules, audit: Arc<Audit>) -> OnRead {
    OnRead::new(move |client| audit.registered(client, &rules))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the base URL of the endpoints, without a trailing slash.
fn public_url(
    url: Option<String>,
    issuer: &Issuer,
    stripped: bool,
    plain_http: PlainHttp,
) -> Result<String, ConfigError> {
    let Some(url) = url else {
        // Clients see the path that the proxy removes.
        return Ok(format!("{}{}", issuer.origin(), if stripped { issuer.path() } else { "" }));
    };
    let parsed = Issuer::new(&url, plain_http).map_err(ConfigError::PublicUrl)?;
    Ok(format!("{}{}", parsed.origin(), parsed.path()))
}

/// Returns the `Basic` challenge with UTF-8 (RFC 7617 §2.1). The characters of an issuer need no escaping.
fn challenge(issuer: &Issuer) -> Result<HeaderValue, ConfigError> {
    let challenge = format!("Basic realm=\"{issuer}\", charset=\"UTF-8\"");
    HeaderValue::try_from(challenge).map_err(|error| ConfigError::Document(error.to_string()))
}
