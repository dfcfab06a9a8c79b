//! [`Feed`]: the task that keeps a view in sync with its store until the last handle is dropped.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::time::{sleep, timeout};

use super::repair::Repair;
use super::view::{Full, PURGE_PARTS};
use super::{FollowError, Shared};
use crate::clock::{Moment, UnixTime};
use crate::crypto::Random;
use crate::deadline;
use crate::metrics;
use crate::store::{Change, Cursor, Revocation, RevocationStore, StoreError};

/// Polls a store and applies the changes that it returns to the view.
pub(super) struct Feed {
    shared: Arc<Shared>,
    random: Arc<dyn Random>,
    interval: Duration,
    cursor: Cursor,
    /// How many polls in a row failed.
    failures: u32,
    repair: Repair,
}

/// Why a poll failed.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store holds more revocations than the view may; raise .max_entries(…)")]
    Full,
}

impl From<Full> for PollError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// The shortest time between two polls, however often the store announces changes.
const MIN_WAIT: Duration = Duration::from_millis(20);

/// The longest time between two polls of a store that fails, to which up to as much is added at random. So a replica is up to
/// date within a second after the store recovers. A longer poll interval replaces this limit: a store that fails is not polled
/// more often than one that works.
const MAX_WAIT: Duration = Duration::from_millis(400);

/// The time between two purges of expired entries from the store and the view, to which up to as much is added at random.
const PURGE_INTERVAL: Duration = Duration::from_secs(40);

/// How long a purge of the store may take. A large store needs longer than for other calls.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);

impl Feed {
    pub(super) fn new(shared: Arc<Shared>, random: Arc<dyn Random>, interval: Duration) -> Self {
        Self { shared, random, interval, cursor: Cursor::start(), failures: 0, repair: Repair::default() }
    }

    /// Runs the first poll, which loads all entries.
    pub(super) async fn load(&mut self) -> Result<(), FollowError> {
        self.read().await.map_err(|error| match error {
            PollError::Full => FollowError::Full,
            PollError::Store(error) => FollowError::Store(error),
        })
    }

    /// Polls and purges until it is dropped. A long purge does not delay the polls.
    pub(super) async fn follow(mut self) {
        let (shared, random) = (self.shared.clone(), self.random.clone());
        let purging = pin!(purge_forever(shared, random));
        let polling = pin!(async move {
            let store = self.shared.store.clone();
            let mut announcements = Announcements::of(&*store);
            loop {
                self.wait(&mut announcements).await;
                self.poll().await;
            }
        });
        both(polling, purging).await;
    }

    /// Waits until the next poll is due or the store announces a change.
    async fn wait(&self, announcements: &mut Announcements<'_>) {
        let doubled = self.interval.saturating_mul(2_u32.saturating_pow(self.failures));
        let time = jittered(doubled.min(MAX_WAIT.max(self.interval)), &*self.random);
        if self.failures > 0 {
            return sleep(time).await;
        }
        sleep(MIN_WAIT.min(time)).await;
        let _ = timeout(time.saturating_sub(MIN_WAIT), announcements.next()).await;
    }

    async fn poll(&mut self) {
        match self.read().await {
            Ok(()) => {
                self.shared.is_full.store(false, Ordering::Relaxed);
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!("revocations can be read from the store again");
                }
                let shared = self.shared.clone();
                self.repair.write_missing(&shared).await;
            }
            Err(error) => {
                // A later failure of the store does not reset the flag: the entry that did not fit is still missing.
                self.shared.is_full.fetch_or(matches!(error, PollError::Full), Ordering::Relaxed);
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    let source = std::error::Error::source(&error).map(tracing::field::display);
                    tracing::error!(%error, source, "cannot read revocations from the store; the known ones are used until they are older than `max_age`");
                }
            }
        }
    }

    /// Reads the feed to its end. The view is then as recent as the start of the last request, not its answer.
    async fn read(&mut self) -> Result<(), PollError> {
        let shared = self.shared.clone();
        loop {
            let requested_at = Moment::now(&*shared.clock);
            let answer = caught(async { shared.store.changes(&self.cursor).await });
            let answer = deadline::within(shared.store_timeout, answer).await;
            let changes = answer.map_err(StoreError::new)?.map_err(StoreError::new)??;
            if let Some(reason) = &changes.lost {
                shared.losses.report(reason, &*shared.clock);
                self.repair.begin();
            }
            self.repair.record(&changes.changes);
            // If an entry did not fit, the cursor stays, so that the next poll returns the entry again.
            self.apply(&changes.changes)?;
            self.cursor = changes.cursor;
            if !changes.more {
                shared.freshness.succeeded(requested_at);
                metrics::revocations_read(shared.clock.now());
                return Ok(());
            }
        }
    }

    /// Applies all changes, also those that follow one that does not fit.
    fn apply(&self, changes: &[Change]) -> Result<(), Full> {
        let mut all = Ok(());
        for change in changes {
            all = all.and(self.apply_one(change));
        }
        all
    }

    fn apply_one(&self, change: &Change) -> Result<(), Full> {
        let now = self.shared.purge_time().map(|time| UnixTime::at(time).as_secs());
        match change {
            Change::Client(client_id) => self.shared.notify_client_change(client_id),
            Change::Revoked(revocation) if now.is_some_and(|now| revocation.expires_at() <= now) => {}
            Change::Revoked(revocation) => {
                // The client may have been disabled.
                if let Revocation::Client { client_id, .. } = revocation {
                    self.shared.notify_client_change(client_id);
                }
                self.shared.add(revocation)?;
            }
        }
        Ok(())
    }
}

/// Waits for the store to announce changes. It also listens between two waits, so that no announcement is missed.
struct Announcements<'a> {
    store: &'a dyn RevocationStore,
    listening: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    /// Whether a change was announced since the last wait.
    is_pending: bool,
}

impl<'a> Announcements<'a> {
    fn of(store: &'a dyn RevocationStore) -> Self {
        Self { store, listening: listen_to(store), is_pending: false }
    }

    /// Waits for the next announcement.
    async fn next(&mut self) {
        if !std::mem::take(&mut self.is_pending) {
            self.listening.as_mut().await;
            self.listening = listen_to(self.store);
        }
        // The store starts to listen at the first poll of the future.
        self.is_pending = poll_fn(|cx| Poll::Ready(self.listening.as_mut().poll(cx).is_ready())).await;
        if self.is_pending {
            self.listening = listen_to(self.store);
        }
    }
}

fn listen_to(store: &dyn RevocationStore) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(async move {
        let _ = caught(async { store.changed().await }).await;
    })
}

async fn purge_forever(shared: Arc<Shared>, random: Arc<dyn Random>) {
    loop {
        sleep(jittered(PURGE_INTERVAL, &*random)).await;
        let Some(now) = shared.purge_time() else { continue };
        for part in 0..PURGE_PARTS {
            shared.view.purge_part(part, UnixTime::at(now));
            tokio::task::yield_now().await;
        }
        if let Err(error) = purge(&shared, now).await {
            let source = std::error::Error::source(&error).map(tracing::field::display);
            tracing::warn!(%error, source, "cannot purge expired revocations from the store; trying again in 40 to 80 seconds");
        }
    }
}

async fn purge(shared: &Shared, now: SystemTime) -> Result<u64, StoreError> {
    let purged = deadline::within(PURGE_TIMEOUT, caught(async { shared.store.purge(now).await })).await;
    purged.map_err(StoreError::new)?.map_err(StoreError::new)?
}

/// Turns a panic of a store into an error, so that the task survives it and polls again.
async fn caught<F: Future>(call: F) -> Result<F::Output, Panicked> {
    let mut call = pin!(call);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[derive(Debug, thiserror::Error)]
#[error("the store panicked")]
struct Panicked;

/// Polls two futures that never complete.
async fn both(mut one: impl Future<Output = ()> + Unpin, mut other: impl Future<Output = ()> + Unpin) {
    poll_fn(|cx| {
        let _ = Pin::new(&mut one).poll(cx);
        Pin::new(&mut other).poll(cx)
    })
    .await;
}

/// Returns a random time between `time` and twice as much, with `time` limited to [`deadline::LONGEST_WAIT`] against overflow.
fn jittered(time: Duration, random: &dyn Random) -> Duration {
    let time = time.min(deadline::LONGEST_WAIT);
    let mut bits = [0; 2];
    // Without randomness, the only harm is that all replicas poll at the same time.
    let _ = random.fill(&mut bits);
    time + time.mul_f64(f64::from(u16::from_le_bytes(bits)) / f64::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::jittered;
    use crate::crypto::{Random, RandomError};
    use crate::deadline::LONGEST_WAIT;

    #[derive(Debug)]
    struct Max;

    impl Random for Max {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
            bytes.fill(255);
            Ok(())
        }
    }

    #[test]
    fn the_longest_poll_interval_does_not_overflow_when_doubled() {
        assert_eq!(jittered(Duration::from_secs(2), &Max), Duration::from_secs(4));
        assert_eq!(jittered(Duration::MAX, &Max), 2 * LONGEST_WAIT);
    }
}
