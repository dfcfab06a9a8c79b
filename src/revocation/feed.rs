//! [`Feed`]: the task that brings a view up to date, for as long as there is somebody to use it.

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
use crate::store::{Change, Cursor, DynRevocationStore, Revocation, StoreError};

/// Polls a store, and applies what it tells.
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
    #[error("the view has no place for all that is revoked")]
    Full,
}

impl From<Full> for PollError {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// A store whose news come thick and fast is polled no more often than this.
const LEAST_WAIT: Duration = Duration::from_millis(20);

/// A store that fails is asked again after this at the latest, and up to as much again at random, so that a replica knows
/// all that is revoked within a second once it reaches the store; but not more often than one that does not fail.
const MOST_WAIT: Duration = Duration::from_millis(400);

/// How often what has expired is taken out, of the store and of the view, give or take half of it.
const PURGE_INTERVAL: Duration = Duration::from_secs(40);

/// What a purge of a large store may take.
const PURGE_TIMEOUT: Duration = Duration::from_secs(30);

impl Feed {
    pub(super) fn new(shared: Arc<Shared>, random: Arc<dyn Random>, interval: Duration) -> Self {
        Self { shared, random, interval, cursor: Cursor::start(), failures: 0, repair: Repair::default() }
    }

    /// The first poll, which tells everything.
    pub(super) async fn load(&mut self) -> Result<(), FollowError> {
        self.read_on().await.map_err(|error| match error {
            PollError::Full => FollowError::Full,
            PollError::Store(error) => FollowError::Store(error),
        })
    }

    /// Polls and purges until it is dropped; a purge that takes long holds up no poll.
    pub(super) async fn follow(mut self) {
        let (shared, random) = (self.shared.clone(), self.random.clone());
        let purging = pin!(purge_for_ever(shared, random));
        let polling = pin!(async move {
            let store = self.shared.store.clone();
            let mut news = News::of(&*store);
            loop {
                self.wait(&mut news).await;
                self.poll().await;
            }
        });
        both(polling, purging).await;
    }

    /// Until the next poll is due, or the store has news.
    async fn wait(&self, news: &mut News<'_>) {
        let doubled = self.interval.saturating_mul(2_u32.saturating_pow(self.failures));
        let time = jittered(doubled.min(MOST_WAIT.max(self.interval)), &*self.random);
        if self.failures > 0 {
            return sleep(time).await;
        }
        sleep(LEAST_WAIT.min(time)).await;
        let _ = timeout(time.saturating_sub(LEAST_WAIT), news.come()).await;
    }

    async fn poll(&mut self) {
        match self.read_on().await {
            Ok(()) => {
                self.shared.is_full.store(false, Ordering::Relaxed);
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!("the revocations are followed again");
                }
                let shared = self.shared.clone();
                self.repair.go_on(&shared).await;
            }
            Err(error) => {
                // A store that fails after that leaves it as it is: what had no place is missing still.
                self.shared.is_full.fetch_or(matches!(error, PollError::Full), Ordering::Relaxed);
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    let source = std::error::Error::source(&error).map(tracing::field::display);
                    tracing::error!(%error, source, "the revocations cannot be followed; what is known is used until it is too old");
                }
            }
        }
    }

    /// Reads the feed to its end. What was asked for last is what is known, and not when the answer came.
    async fn read_on(&mut self) -> Result<(), PollError> {
        let shared = self.shared.clone();
        loop {
            let asked = Moment::now(&*shared.clock);
            let answer = caught(shared.store.changes(&self.cursor));
            let answer = deadline::within(shared.store_timeout, answer).await;
            let changes = answer.map_err(StoreError::new)?.map_err(StoreError::new)??;
            if let Some(reason) = &changes.lost {
                shared.losses.report(reason, &*shared.clock);
                self.repair.begin();
            }
            self.repair.heard(&changes.changes);
            // The cursor stays where something had no place: it is told again.
            self.apply(&changes.changes)?;
            self.cursor = changes.cursor;
            if !changes.more {
                shared.freshness.good(asked);
                metrics::revocations_read(shared.clock.now());
                return Ok(());
            }
        }
    }

    /// What finds no place keeps nothing else from being heard.
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
            Change::Client(client_id) => self.shared.tell_of(client_id),
            Change::Revoked(revocation) if now.is_some_and(|now| revocation.expires_at() <= now) => {}
            Change::Revoked(revocation) => {
                // It may be disabled.
                if let Revocation::Client { client_id, .. } = revocation {
                    self.shared.tell_of(client_id);
                }
                self.shared.add(revocation)?;
            }
        }
        Ok(())
    }
}

/// Waits for what a store says of itself. It listens on between two waits, so that nothing said in the meantime is lost.
struct News<'a> {
    store: &'a dyn DynRevocationStore,
    next: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    /// It was heard already.
    is_here: bool,
}

impl<'a> News<'a> {
    fn of(store: &'a dyn DynRevocationStore) -> Self {
        Self { store, next: listen_to(store), is_here: false }
    }

    async fn come(&mut self) {
        if !std::mem::take(&mut self.is_here) {
            self.next.as_mut().await;
            self.next = listen_to(self.store);
        }
        // The first poll is what makes a store listen.
        self.is_here = poll_fn(|cx| Poll::Ready(self.next.as_mut().poll(cx).is_ready())).await;
        if self.is_here {
            self.next = listen_to(self.store);
        }
    }
}

fn listen_to(store: &dyn DynRevocationStore) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
    Box::pin(async move {
        let _ = caught(store.changed()).await;
    })
}

async fn purge_for_ever(shared: Arc<Shared>, random: Arc<dyn Random>) {
    loop {
        sleep(jittered(PURGE_INTERVAL, &*random)).await;
        let Some(now) = shared.purge_time() else { continue };
        for part in 0..PURGE_PARTS {
            shared.view.purge_part(part, UnixTime::at(now));
            tokio::task::yield_now().await;
        }
        if let Err(error) = purge(&shared, now).await {
            let source = std::error::Error::source(&error).map(tracing::field::display);
            tracing::warn!(%error, source, "what has expired could not be taken out of the store");
        }
    }
}

async fn purge(shared: &Shared, now: SystemTime) -> Result<u64, StoreError> {
    let purged = deadline::within(PURGE_TIMEOUT, caught(shared.store.purge(now))).await;
    purged.map_err(StoreError::new)?.map_err(StoreError::new)?
}

/// A call of a store that panics has failed, and the next one may do better: the task must not end with it.
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

/// Polls two futures, neither of which ends.
async fn both(mut one: impl Future<Output = ()> + Unpin, mut other: impl Future<Output = ()> + Unpin) {
    poll_fn(|cx| {
        let _ = Pin::new(&mut one).poll(cx);
        Pin::new(&mut other).poll(cx)
    })
    .await;
}

/// As much, and up to as much again; at most twice the longest wait, which a sum and a product of times can hold.
fn jittered(time: Duration, random: &dyn Random) -> Duration {
    let time = time.min(deadline::LONGEST_WAIT);
    let mut bits = [0; 2];
    // Without randomness all replicas poll in step, and that is all.
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
    struct Most;

    impl Random for Most {
        fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
            bytes.fill(255);
            Ok(())
        }
    }

    #[test]
    fn the_longest_poll_interval_is_doubled_at_random_without_an_overflow() {
        assert_eq!(jittered(Duration::from_secs(2), &Most), Duration::from_secs(4));
        assert_eq!(jittered(Duration::MAX, &Most), 2 * LONGEST_WAIT);
    }
}
