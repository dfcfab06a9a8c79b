//! [`ClientAssertions`]: the settings for authentication by assertions.

use std::sync::Arc;
use std::time::Duration;

use super::decoy_keys::ALL;
use super::replay::DynReplayLog;
use crate::keys::Algorithm;
use crate::store::ReplayLog;

/// The settings for client authentication by signed assertions: `private_key_jwt` (RFC 7523, RFC 10070).
///
/// Pass them to [`AuthorizationServerBuilder::client_assertions`](crate::authorization_server::AuthorizationServerBuilder::client_assertions).
/// Clients get their keys by [`Client::credential`](crate::Client::credential).
///
/// Each assertion is accepted once. The log of used assertions must therefore be shared by all replicas: use the store
/// that has the clients or the revocations. If the log does not answer, or is full, the caller gets 503. One client can
/// record 50,000 assertions that have not expired, and all clients together 1,000,000, in each process; beyond its
/// share, a client gets 503, and others are served.
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
pub struct ClientAssertions {
    pub(super) log: Arc<dyn DynReplayLog>,
    pub(super) max_lifetime: Duration,
    pub(super) clock_skew: Duration,
    pub(super) algorithms: Vec<Algorithm>,
}

impl ClientAssertions {
    /// Creates the default settings with this log of used assertions.
    pub fn new(log: impl ReplayLog) -> Self {
        Self {
            log: Arc::new(log),
            max_lifetime: Duration::from_secs(300),
            clock_skew: Duration::from_secs(10),
            algorithms: ALL.to_vec(),
        }
    }

    /// Sets how far ahead `exp` of an assertion may be, in whole seconds from 1 second to 1 hour. The default is 5
    /// minutes. The log keeps an assertion until it expires, so a longer lifetime needs more room.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = lifetime;
        self
    }

    /// Sets by how much the clocks of clients may differ, for `exp`, `nbf` and `iat`. It is 10 to 60 seconds, and the
    /// default is 10 seconds.
    #[must_use]
    pub fn clock_skew(mut self, skew: Duration) -> Self {
        self.clock_skew = skew;
        self
    }

    /// Sets the algorithms that assertions may have, and that the metadata lists. The default is every asymmetric one.
    /// FAPI 2.0 §5.4 allows `ES256`, `PS256` and `EdDSA`.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
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
        Ok(())
    }
}
