//! [`AuthorizationServerBuilder::build`]: checks all settings, and creates the parts of the server.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::{AuthorizationServerBuilder, cores};
use crate::authorization_server::authenticate::{
    AssertionAuthenticator, AssertionContext, Audit, Authenticator, ClientCache, Credentials, OnRead,
    SecretAuthenticator, SlowChecks, Throttle, UnknownClient,
};
use crate::authorization_server::config_error::ConfigError;
use crate::authorization_server::documents::Documents;
use crate::authorization_server::endpoint::Endpoints;
use crate::authorization_server::metadata::Metadata;
use crate::authorization_server::report::Reporter;
use crate::authorization_server::token::{GrantPolicy, Minter, ReusedTokens, TokenPipeline, TokenQueue};
use crate::authorization_server::{AuthorizationServer, Inner};
use crate::issuer::Issuer;
use crate::keys::KeySnapshot;
use crate::metrics;
use crate::revocation::Revocations;
use crate::timing::{CLIENT_CHANGE_RETENTION, CLOCK_SKEW};
use crate::token_lifetime::TokenLifetime;
use crate::transport::Document;
use crate::uri::PlainHttp;

impl AuthorizationServerBuilder {
    /// Checks all settings and the clients, and builds the server.
    ///
    /// # Errors
    ///
    /// Returns the first error in the settings or the clients. Its text says how to fix it.
    pub fn build(mut self) -> Result<AuthorizationServer, ConfigError> {
        self.check()?;
        if self.revocations.is_none() && self.clients.is_administered() {
            tracing::warn!(
                "the client store can disable clients while the server runs, but the server has no revocations: a disabled client \
                     gets tokens until its cache entry expires, and its tokens work until they expire; create revocations with \
                     Revocations::follow(…) and set them with .revocations(…)"
            );
        }
        if self.keys.current().clock_of_lease().is_some_and(|ring| differ(ring, self.clock.now()) > CLOCK_SKEW) {
            return Err(ConfigError::KeyRingClock);
        }
        let issuer = Issuer::new(&self.issuer, self.plain_http)?;
        let lifetime =
            TokenLifetime::new(self.lifetime).map_err(|expected| ConfigError::lifetime(self.lifetime, expected))?;
        let longest = self.revocations.as_ref().map_or(TokenLifetime::LONGEST, Revocations::longest_token_lifetime);
        // No token outlives the publication of its key.
        let longest = longest.min(self.keys.longest_token().unwrap_or(TokenLifetime::LONGEST));
        let longest = longest.min(TokenLifetime::LONGEST);
        let longest = TokenLifetime::new(longest).map_err(|expected| ConfigError::lifetime(longest, expected))?;
        let base_url = public_url(self.public_url.take(), &issuer, self.paths.stripped, self.plain_http)?;
        let endpoints = Endpoints::new(&issuer, std::mem::take(&mut self.paths), self.revocations.is_some())?;
        if let (Some(revocations), Some(events)) = (&self.revocations, &self.events) {
            revocations.report_losses_to(events);
        }
        if endpoints.token.is_some() {
            metrics::expect_token_requests(&Credentials::KINDS);
        }
        let token_endpoint = endpoints.token.as_ref().map(|path| format!("{base_url}{path}"));
        let authenticator = self.authenticator(&issuer, token_endpoint)?;
        if authenticator.assertion.is_some() {
            metrics::expect_legacy_assertions();
        }
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
                accepts_audience: self.accepts_audience,
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

    /// Takes the settings for the authentication of clients, and creates the authenticator.
    fn authenticator(&mut self, issuer: &Issuer, token_endpoint: Option<String>) -> Result<Authenticator, ConfigError> {
        let audit = Arc::new(Audit::new(self.events.clone(), self.clock.clone()));
        let (audit_read, rules) = (audit.clone(), self.rules.clone());
        let clients = ClientCache::new(
            self.clients.clone(),
            self.client_cache,
            self.store_timeout,
            self.clock.clone(),
            self.revocations.clone(),
            // For stores that are not in memory.
            Some(OnRead::new(move |client| audit_read.registered(client, &rules))),
        );
        #[cfg(feature = "legacy_hashes")]
        let upgrades = self.upgrade_hashes.take().map(|store| {
            let (timeout, clock) = (self.store_timeout, self.clock.clone());
            crate::authorization_server::authenticate::Upgrades::new(
                store,
                clients.clone(),
                timeout,
                clock,
                self.imported_are_random,
            )
        });
        let context = AssertionContext {
            issuer,
            token_endpoint,
            clients: clients.clone(),
            store_timeout: self.store_timeout,
            clock: self.clock.clone(),
            random: &self.random,
            audit: audit.clone(),
        };
        let assertion = self.assertions.take().map(|settings| AssertionAuthenticator::new(settings, context));
        Ok(Authenticator {
            assertion: assertion.transpose()?,
            secret: SecretAuthenticator {
                peer: std::mem::take(&mut self.peer),
                #[cfg(feature = "legacy_hashes")]
                upgrades: upgrades.map(Arc::new),
                #[cfg(feature = "legacy_hashes")]
                imported_are_random: self.imported_are_random,
                unknown: UnknownClient::new()?,
                audit,
                clients,
                clock: self.clock.clone(),
                slow_checks: SlowChecks::new(
                    self.slow_checks.0,
                    self.slow_checks.1,
                    std::mem::take(&mut self.check_place),
                    self.clock.clone(),
                ),
                throttle: Throttle::new(self.limits, self.clock.clone()),
            },
        })
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

fn differ(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|error| error.duration())
}
