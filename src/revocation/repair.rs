//! [`Repair`]: writes revocations that the store lost to it again.
//!
//! After a failover to a server without the last writes, a store lacks revocations that it had acknowledged. Running processes
//! know them, but a process that starts later would not. So each running process compares the entries in the store with its view
//! and writes the missing ones. Several processes may do so at once: each skips the entries that another has written.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::Shared;
use crate::clock::UnixTime;
use crate::deadline;
use crate::store::{Change, Revocation, StoreError};

/// How many entries are written concurrently. A store that waits for its disk at each write can wait once for all of them.
const MAX_IN_FLIGHT: usize = 32;

/// How many writes start after one poll.
const MAX_WRITES: usize = 1_024;

/// How long the next poll is delayed at most. Writes that take longer continue meanwhile.
const MAX_TIME: Duration = Duration::from_millis(200);

/// How long the first pause after a failed write is. Each later pause is twice as long as the one before it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause. A process that may not write fails each time, until others have written the entries or they have expired.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How many different errors are remembered, so that each is logged once.
const MAX_LOGGED: usize = 16;

/// The remaining work after a loss, if any.
#[derive(Debug, Default)]
pub(super) struct Repair(Option<Task>);

#[derive(Debug, Default)]
struct Task {
    hasher: RandomState,
    /// The hashes of the entries in the store, each with the second in which the entry expires.
    stored: HashMap<u64, u64>,
    /// The part of the view to compare next.
    part: usize,
    /// Entries of the parts before it that are still to be compared and written.
    pending: Vec<Revocation>,
    /// The writes in flight. They continue between two polls.
    writing: JoinSet<Result<(), StoreError>>,
    /// The entries of these writes.
    in_flight: HashMap<Id, Revocation>,
    written: usize,
    /// The pause after the last failure, and its end.
    pause: Duration,
    paused_until: Option<Instant>,
    /// The errors that were logged.
    logged: HashSet<String>,
}

impl Repair {
    /// Starts a repair after the store has lost writes. The entries [recorded](Self::record) from now on are those that it has.
    pub(super) fn begin(&mut self) {
        self.0 = Some(Task::default());
    }

    /// Records entries that the store has.
    pub(super) fn record(&mut self, changes: &[Change]) {
        let Some(task) = &mut self.0 else { return };
        let revoked = changes.iter().filter_map(|change| match change {
            Change::Revoked(revocation) => Some((task.hasher.hash_one(revocation), revocation.expires_at())),
            Change::Client(_) => None,
        });
        task.stored.extend(revoked);
    }

    /// Writes some of the missing entries. Call it when the feed was read to its end. Failed writes are tried again after a
    /// pause.
    pub(super) async fn write_missing(&mut self, shared: &Shared) {
        let Some(task) = &mut self.0 else { return };
        if task.paused_until.is_some_and(|end| Instant::now() < end) {
            return;
        }
        match task.write_some(shared).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(entries = task.written, "wrote the revocations that the store had lost to it again");
                self.0 = None;
            }
            Err(error) => task.pause_after(&error, shared),
        }
    }
}

impl Task {
    /// Starts a pause, and logs the error unless it was logged before.
    fn pause_after(&mut self, error: &StoreError, shared: &Shared) {
        self.pause = self.pause.saturating_mul(2).clamp(FIRST_PAUSE, MAX_PAUSE);
        self.paused_until = Some(Instant::now() + self.pause);
        // Expired entries are not written, so it does not matter whether the store has them.
        if let Some(now) = now(shared) {
            self.stored.retain(|_, expires_at| *expires_at > now);
        }
        let source = std::error::Error::source(error);
        let text = source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        if self.logged.len() < MAX_LOGGED && self.logged.insert(text) {
            let source = source.map(tracing::field::display);
            tracing::warn!(%error, source, "cannot write the revocations that the store lost yet; trying again after a pause");
        }
    }

    /// Writes missing entries until none are left, one of them fails, or a limit is reached. Returns whether none are left.
    async fn write_some(&mut self, shared: &Shared) -> Result<bool, StoreError> {
        let (end, mut started, mut failure) = (Instant::now() + MAX_TIME, 0, None);
        loop {
            let mut is_compared = false;
            while failure.is_none() && !is_compared && started < MAX_WRITES && self.in_flight.len() < MAX_IN_FLIGHT {
                if let Some(revocation) = self.next_missing(shared) {
                    self.start(revocation, shared);
                    started += 1;
                } else {
                    is_compared = !self.load_part(shared);
                    // A part may be large, and others need this thread.
                    tokio::task::yield_now().await;
                    if Instant::now() >= end {
                        return Ok(false);
                    }
                }
            }
            let Ok(Some(result)) = timeout_at(end, self.writing.join_next_with_id()).await else {
                return failure.map_or(Ok(is_compared && self.in_flight.is_empty()), Err);
            };
            if let Err(error) = self.finish(result) {
                failure.get_or_insert(error);
            }
        }
    }

    /// Starts to write an entry.
    fn start(&mut self, revocation: Revocation, shared: &Shared) {
        let (store, timeout) = (shared.store.clone(), shared.store_timeout);
        let write = {
            let revocation = revocation.clone();
            async move { deadline::within(timeout, store.revoke(revocation)).await.map_err(StoreError::new)? }
        };
        self.in_flight.insert(self.writing.spawn(write).id(), revocation);
    }

    /// Takes the result of a write. An entry that was not written is pending again. Perhaps it was written after all, but
    /// writing an entry twice does no harm.
    fn finish(&mut self, result: Result<(Id, Result<(), StoreError>), JoinError>) -> Result<(), StoreError> {
        let (id, result) = match result {
            Ok(done) => done,
            Err(panicked) => (panicked.id(), Err(StoreError::new(panicked))),
        };
        let revocation = self.in_flight.remove(&id);
        match result {
            Ok(()) => {
                self.written += 1;
                self.pause = Duration::ZERO;
            }
            Err(_) => self.pending.extend(revocation),
        }
        result
    }

    /// Returns the next pending entry that the store lacks.
    fn next_missing(&mut self, shared: &Shared) -> Option<Revocation> {
        let now = now(shared);
        while let Some(revocation) = self.pending.pop() {
            let has_expired = now.is_some_and(|now| revocation.expires_at() <= now);
            if !has_expired && !self.stored.contains_key(&self.hasher.hash_one(&revocation)) {
                return Some(revocation);
            }
        }
        None
    }

    /// Makes the next part of the view pending. Returns `false` after the last part.
    fn load_part(&mut self, shared: &Shared) -> bool {
        let Some(entries) = shared.view.part_entries(self.part) else { return false };
        self.pending = entries;
        self.part += 1;
        true
    }
}

/// Returns the second up to which entries have expired, if the clock is trusted.
fn now(shared: &Shared) -> Option<u64> {
    shared.purge_time().map(|time| UnixTime::at(time).as_secs())
}
