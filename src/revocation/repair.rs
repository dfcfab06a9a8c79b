//! [`Repair`]: writes to a store again what it lost and this process knows.
//!
//! A store that failed over to a server without the last writes no longer has revocations that it acknowledged. Processes
//! that run know them; one that starts later would not. So each running process compares what the store still has with its
//! view, and writes the missing entries. Several processes may do so at once: each skips the entries that another has written.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Shared;
use crate::deadline;
use crate::store::{Change, Revocation, StoreError};

/// How many entries are written at the same time: a store that waits for its disk with each write may do so for all at once.
const AT_ONCE: usize = 32;

/// How many times as many are written after one poll.
const MAX_ROUNDS: usize = 32;

/// How long writing may take after one poll: others wait for the next one.
const MAX_TIME: Duration = Duration::from_millis(200);

/// The work that is left after a loss; none as a rule.
#[derive(Debug, Default)]
pub(super) struct Repair(Option<Task>);

#[derive(Debug, Default)]
struct Task {
    hasher: RandomState,
    /// The digests of what the store has.
    held: HashSet<u64>,
    /// The part of the view that comes next.
    part: usize,
    /// The missing entries of the parts before it.
    missing: Vec<Revocation>,
    written: usize,
}

impl Repair {
    /// The store turned out to have lost writes: what it tells from now on is what it has.
    pub(super) fn begin(&mut self) {
        self.0 = Some(Task::default());
    }

    pub(super) fn heard(&mut self, changes: &[Change]) {
        let Some(task) = &mut self.0 else { return };
        let revoked = changes.iter().filter_map(|change| match change {
            Change::Revoked(revocation) => Some(task.hasher.hash_one(revocation)),
            Change::Client(_) => None,
        });
        task.held.extend(revoked);
    }

    /// Writes some of the missing entries, after the feed was read to its end. Those that fail are tried again after the next
    /// poll.
    pub(super) async fn go_on(&mut self, shared: &Shared) {
        let Some(task) = &mut self.0 else { return };
        match task.write_some(shared).await {
            Ok(false) => {}
            Ok(true) => {
                tracing::info!(entries = task.written, "revocations that the store had lost were written again");
                self.0 = None;
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(tracing::field::display);
                tracing::warn!(%error, source, "revocations that the store lost cannot be written again yet");
            }
        }
    }
}

impl Task {
    /// Returns whether everything is written.
    async fn write_some(&mut self, shared: &Shared) -> Result<bool, StoreError> {
        let begun = Instant::now();
        for _ in 0..MAX_ROUNDS {
            let batch: Vec<Revocation> = std::iter::from_fn(|| self.next(shared)).take(AT_ONCE).collect();
            if batch.is_empty() {
                return Ok(true);
            }
            if let Err(error) = write_all(shared, &batch).await {
                // Some of them may be written, and no harm is done by writing them twice.
                self.missing.extend(batch);
                return Err(error);
            }
            self.written += batch.len();
            if begun.elapsed() >= MAX_TIME {
                break;
            }
        }
        Ok(false)
    }

    fn next(&mut self, shared: &Shared) -> Option<Revocation> {
        loop {
            while let Some(revocation) = self.missing.pop() {
                if !self.held.contains(&self.hasher.hash_one(&revocation)) {
                    return Some(revocation);
                }
            }
            self.missing = shared.view.part_entries(self.part)?;
            self.part += 1;
        }
    }
}

async fn write_all(shared: &Shared, batch: &[Revocation]) -> Result<(), StoreError> {
    let mut writing = JoinSet::new();
    for revocation in batch.iter().cloned() {
        let (store, timeout) = (shared.store.clone(), shared.store_timeout);
        writing.spawn(async move { deadline::within(timeout, store.revoke(revocation)).await });
    }
    while let Some(written) = writing.join_next().await {
        written.map_err(StoreError::new)?.map_err(StoreError::new)??;
    }
    Ok(())
}
