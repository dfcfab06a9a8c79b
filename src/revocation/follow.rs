//! [`Follow`]: the settings of a view, each with a default that is safe, and the start of it.

use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::feed::Feed;
use super::freshness::Freshness;
use super::losses::Losses;
use super::purge_clock::PurgeClock;
use super::view::{Bounds, View};
use super::{Handle, Revocations, Shared};
use crate::clock::{Clock, Moment, SystemClock};
use crate::crypto::{Random, SystemRandom};
use crate::event::EventSender;
use crate::store::{DynRevocationStore, StoreError};

/// [`Revocations`] that are about to follow a store: await it, once it is set as it should be.
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
#[must_use = "it does nothing unless it is awaited"]
pub struct Follow {
    store: Arc<dyn DynRevocationStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    poll_interval: Duration,
    max_age: Duration,
    store_timeout: Duration,
    bounds: Bounds,
    passes_when_stale: bool,
    losses: Losses,
}

/// The view could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// A setting with which nothing would ever be decided.
    #[error("{0}")]
    Settings(&'static str),
    /// The store holds more than the view may.
    #[error("the store holds more revocations than the view may; let it hold more with .max_entries(…)")]
    Full,
    /// The store could not tell what is revoked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Follow {
    pub(super) fn new(store: Arc<dyn DynRevocationStore>) -> Self {
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

    /// The time from one poll of the store to the next, to which up to as much is added at random, so that replicas spread
    /// out: 250 ms by default, and so at most 500. With more than twice that, a revocation may take longer than a second.
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How old the view may be and still decide: 30 seconds by default. That is also how long a replica that is cut off
    /// from the store goes on accepting what was revoked in the meantime.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// How long one call of the store may take: 2 seconds by default.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// How many revoked tokens of one client are told apart: 1,000 by default. With one more, all are revoked that the
    /// client was issued up to the last of them.
    pub fn tokens_per_client(mut self, tokens: usize) -> Self {
        self.bounds.tokens_per_client = tokens;
        self
    }

    /// How many entries the view holds in all: 1,000,000 by default, of 100 to 400 bytes each. When that is not enough,
    /// it decides over nothing until some have expired.
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.bounds.entries = entries;
        self
    }

    /// Lets tokens pass though the view is older than it [may be](Self::max_age), unless it knows them to be revoked.
    ///
    /// Dangerous: whoever can keep a replica from reaching the store can use a revoked token there until it expires.
    pub fn dangerous_pass_when_stale(mut self) -> Self {
        self.passes_when_stale = true;
        self
    }

    /// Where the time comes from: the operating system by default. The time from poll to poll, and the second measure of
    /// the view's age, are those of the Tokio runtime.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Where to send an event when the store turns out to have [lost](crate::event::Outcome::StoreLostData) writes. Nowhere by
    /// default. The [events](crate::AuthorizationServerBuilder::events) of a server that has these revocations get it in any
    /// case, so this is for a process that only verifies tokens.
    pub fn events(self, events: EventSender) -> Self {
        self.losses.report_to(&events);
        self
    }

    /// Where the spread of polls comes from: the cryptographic backend by default.
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
            losses: self.losses,
        });
        let mut feed = Feed::new(shared.clone(), self.random, self.poll_interval);
        feed.load().await?;
        let task = tokio::spawn(feed.follow()).abort_handle();
        Ok(Revocations(Arc::new(Handle { shared, task })))
    }

    fn check(&self) -> Result<(), FollowError> {
        if self.poll_interval.is_zero() || self.store_timeout.is_zero() {
            return Err(FollowError::Settings(
                "a poll interval or store timeout of 0 leaves the store no time to answer",
            ));
        }
        if self.max_age <= self.poll_interval.saturating_mul(2) {
            return Err(FollowError::Settings(
                "the view would be too old between two polls; let max_age be more than twice the poll interval",
            ));
        }
        if self.bounds.entries == 0 || self.bounds.tokens_per_client == 0 {
            return Err(FollowError::Settings(
                "a view that may hold nothing decides over nothing; give it some entries",
            ));
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
