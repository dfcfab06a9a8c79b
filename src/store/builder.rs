//! [`StoreBuilder`]: the settings of a store.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::deadline::LONGEST_WAIT;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// The default time limit of a step at a database, the same as that of [the
/// server](crate::authorization_server::AuthorizationServerBuilder::store_timeout).
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of a store outside of this process, each with a default. `B` is the part that only one backend has, such as
/// its URL.
#[derive(Clone, Debug)]
#[must_use = "the store is not open yet"]
pub struct StoreBuilder<B> {
    pub(super) backend: B,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) longest_token_lifetime: Duration,
    pub(super) call_timeout: Duration,
}

impl<B> StoreBuilder<B> {
    pub(super) fn new(backend: B, call_timeout: Duration) -> Self {
        let clock = Arc::new(SystemClock);
        Self { backend, clock, longest_token_lifetime: DEFAULT_LONGEST_TOKEN_LIFETIME, call_timeout }
    }

    /// Sets the clock that dates the revocations of disabled clients. The default is the clock of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the [longest token lifetime](super::RevocationStore::longest_token_lifetime). The default is 24 hours.
    pub fn longest_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.longest_token_lifetime = lifetime;
        self
    }

    /// Sets the time limit of a step at the database, including the wait for a connection. The default is 2 seconds. Most calls are one
    /// step. A write to SQLite has a step before it, which looks at the file, and recording a used credential in Postgres can have
    /// one, so each takes up to twice the limit. [`create_all`](super::ClientAdmin::create_all) has a step for every 5,000 clients (in
    /// Redis: 500), and [`purge`](super::RevocationStore::purge) has several.
    ///
    /// For a [`FileStore`](super::FileStore) it limits the wait for other processes that write the file, and the default is 10
    /// seconds. The maximum is 24 days; a longer time counts as 24 days.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout.min(LONGEST_WAIT);
        self
    }
}
