//! The settings for the authentication of clients.

use std::net::IpAddr;

use http::Extensions;

use super::AuthorizationServerBuilder;
use crate::authorization_server::TrustedProxies;
use crate::authorization_server::authenticate::{AttemptLimits, ClientAssertions, ClientCacheLimits};

/// Settings for the authentication of clients.
impl AuthorizationServerBuilder {
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
    pub fn peer_address(mut self, find: impl Fn(&Extensions) -> Option<IpAddr> + Send + Sync + 'static) -> Self {
        self.peer.find(find);
        self
    }

    /// Sets the proxies whose information about a caller's address is trusted. Failed attempts are counted by that
    /// address. None by default: the [peer's address](Self::peer_address) counts. Trusted proxies require
    /// [`peer_address`](Self::peer_address). See [`TrustedProxies`] for the rules.
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.peer.trust(proxies);
        self
    }

    /// Sets how long answers of the client store are cached; see [`ClientCacheLimits`] for the defaults. `None` turns
    /// the cache off.
    pub fn client_cache(self, limits: impl Into<Option<ClientCacheLimits>>) -> Self {
        Self { client_cache: limits.into(), ..self }
    }

    /// Accepts client authentication by signed assertions, `private_key_jwt` (RFC 7523, RFC 10070), at the token,
    /// introspection and revocation endpoints; see [`ClientAssertions`] for the settings. Off by default, because it needs
    /// a log of used assertions that all replicas share.
    pub fn client_assertions(mut self, settings: ClientAssertions) -> Self {
        self.rules.accepted = settings.accepted();
        self.assertions = Some(settings);
        self
    }

    /// Sets the limits on failed attempts; see [`AttemptLimits`] for the defaults.
    pub fn attempt_limits(self, limits: AttemptLimits) -> Self {
        Self { limits, ..self }
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
    pub fn slow_checks(self, at_once: usize, queued: usize) -> Self {
        Self { slow_checks: (at_once.clamp(1, MAX_SLOW_CHECKS), queued.min(MAX_SLOW_CHECKS)), ..self }
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
    pub fn slow_checks_on(self, run: impl Fn(Box<dyn FnOnce() + Send>) + Send + Sync + 'static) -> Self {
        Self { check_place: crate::authorization_server::authenticate::CheckPlace::new(run), ..self }
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
    pub fn upgrade_hashes(self, store: impl crate::store::ClientAdmin) -> Self {
        Self { upgrade_hashes: Some(std::sync::Arc::new(store)), ..self }
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
    pub fn imported_secrets_are_random(self) -> Self {
        Self { imported_are_random: true, ..self }
    }
}

#[cfg(feature = "argon2")]
const MAX_SLOW_CHECKS: usize = 10_000;
