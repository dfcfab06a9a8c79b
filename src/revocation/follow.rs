//! [`Follow`]: the settings of a view, each with a safe default, and its start.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::freshness::Freshness;
use super::losses::Losses;
use super::polling::Feed;
use super::purge_clock::PurgeClock;
use super::view::{Bounds, View};
use super::{Handle, Revocations, Shared};
use crate::clock::{Clock, Moment, SystemClock};
use crate::crypto::{Random, SystemRandom};
use crate::event::EventSender;
use crate::metrics;
use crate::store::{RevocationStore, StoreError};
use crate::sync::AbortOnDrop;

/// A builder of [`Revocations`]. Await it to load the revocations from the store and to start following it.
///
/// ```
/// use std::time::Duration;
/// use tower_client_credentials::{MemoryStore, Revocations};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let revocations = Revocations::follow(MemoryStore::default()).max_age(Duration::from_secs(10)).await?;
/// assert!(revocations.is_ready());
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "`Follow` does nothing unless it is awaited"]
pub struct Follow {
    store: Arc<dyn RevocationStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    poll_interval: Duration,
    max_age: Duration,
    store_timeout: Duration,
    bounds: Bounds,
    passes_when_stale: bool,
    losses: Losses,
}

/// An error when starting to follow a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// A setting is invalid: with it, no token could ever be accepted.
    #[error("{0}")]
    Settings(&'static str),
    /// The store holds more revocations than [`Follow::max_entries`].
    #[error("the store holds more revocations than the view may; raise .max_entries(…)")]
    Full,
    /// The store failed or did not answer in time.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Follow {
    pub(super) fn new(store: Arc<dyn RevocationStore>) -> Self {
        Self {
            store,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            poll_interval: Duration::from_millis(250),
            max_age: Duration::from_secs(30),
            store_timeout: Duration::from_secs(2),
            bounds: Bounds::default(),
            passes_when_stale: false,
            losses: Losses::default(),
        }
    }

    /// Sets the time between two polls of the store: 250 ms by default.
    ///
    /// Up to as much is added at random, so that replicas do not poll at the same time. By default, the time between two polls is
    /// therefore at most 500 ms. With an interval of more than 500 ms, a revocation may take longer than a second to reach a replica.
    ///
    /// A replica that is connected to Postgres or Redis sees a revocation after the time between two polls and two round trips to
    /// the server at most. It usually takes less, since the store notifies its readers.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Sets the maximum age of the view: 30 seconds by default.
    ///
    /// With an older view, requests get 503 instead of being accepted. A replica that cannot reach the store may accept tokens
    /// revoked in the meantime for this long.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Sets how long a call of the store may take: 2 seconds by default.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// Sets how many revoked tokens of one client the view holds individually: 1,000 by default.
    ///
    /// One more revokes all tokens of the client that were issued up to the most recent of the revoked ones.
    pub fn tokens_per_client(mut self, tokens: usize) -> Self {
        self.bounds.tokens_per_client = tokens;
        self
    }

    /// Sets how many entries the view may hold in total: 1,000,000 by default, of 100 to 400 bytes each.
    ///
    /// When a revocation does not fit, all requests get 503 until enough entries have expired.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.bounds.entries = entries;
        self
    }

    /// Accepts tokens even when the view is older than [`max_age`](Self::max_age), unless the view has them as revoked. By
    /// default, such requests get 503.
    ///
    /// Dangerous: an attacker who can cut off a replica from the store can use a revoked token there until it expires.
    pub fn dangerous_pass_when_stale(mut self) -> Self {
        self.passes_when_stale = true;
        self
    }

    /// Sets the wall clock: that of the operating system by default.
    ///
    /// The time between polls, and the monotonic part of the [age](Revocations::age), come from the Tokio runtime.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sends a [`StoreLostData`](crate::event::Outcome::StoreLostData) event to `events` when the store has lost writes. By
    /// default, no event is sent.
    ///
    /// This is for processes that only verify tokens. An authorization server with these revocations sends the event to its own
    /// [`events`](crate::authorization_server::AuthorizationServerBuilder::events) in any case.
    pub fn events(self, events: EventSender) -> Self {
        self.losses.report_to(&events);
        self
    }

    /// Sets the source of randomness for the time between polls: the cryptographic backend by default.
    pub fn random(mut self, random: impl Random) -> Self {
        self.random = Arc::new(random);
        self
    }

    async fn start(self) -> Result<Revocations, FollowError> {
        self.check()?;
        let shared = Arc::new(Shared {
            longest_lifetime: self.store.longest_token_lifetime(),
            store: self.store,
            store_timeout: self.store_timeout,
            purge_clock: PurgeClock::new(Moment::now(&*self.clock)),
            clock: self.clock,
            view: View::new(self.bounds),
            freshness: Freshness::new(self.max_age),
            full_purge: Mutex::default(),
            is_full: AtomicBool::new(false),
            passes_when_stale: self.passes_when_stale,
            client_listeners: Mutex::default(),
            watchers: Mutex::default(),
            losses: self.losses,
        });
        let mut feed = Feed::new(shared.clone(), self.random, self.poll_interval);
        feed.load().await?;
        metrics::expect_store_losses();
        let task = AbortOnDrop(tokio::spawn(feed.follow()).abort_handle());
        Ok(Revocations(Arc::new(Handle { shared, _task: task })))
    }

    fn check(&self) -> Result<(), FollowError> {
        if self.poll_interval.is_zero() || self.store_timeout.is_zero() {
            return Err(FollowError::Settings(
                "the poll interval or the store timeout is 0; use for example `poll_interval(Duration::from_millis(250))` and `store_timeout(Duration::from_secs(2))`",
            ));
        }
        if self.max_age <= self.poll_interval.saturating_mul(2) {
            return Err(FollowError::Settings(
                "`max_age` is at most twice the poll interval, so that the view would be too old between two polls; raise `max_age` or lower `poll_interval`",
            ));
        }
        if self.bounds.entries == 0 || self.bounds.tokens_per_client == 0 {
            return Err(FollowError::Settings("`max_entries` or `tokens_per_client` is 0; use at least 1"));
        }
        Ok(())
    }
}

impl IntoFuture for Follow {
    type Output = Result<Revocations, FollowError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}
