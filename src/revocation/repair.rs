//! [`Repair`]: writes to a store again what it lost and this process knows.
//!
//! A store that failed over to a server without the last writes no longer has revocations that it acknowledged. Processes
//! that run know them; one that starts later would not. So each running process compares what the store still has with its
//! view, and writes what is missing. Several processes may do so at once: each skips what another has written.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::deadline;
use crate::store::{Change, Revocation, StoreError};

/// How many entries are written after one poll.
const MAX_WRITES: usize = 1_000;

/// How long writing may take after one poll: others wait for the next one.
const MAX_TIME: Duration = Duration::from_millis(200);

/// What is left to do after a loss; nothing as a rule.
#[derive(Debug, Default)]
pub(super) struct Repair(Option<Task>);

#[derive(Debug, Default)]
struct Task {
    hasher: RandomState,
    /// The digests of what the store has.
    held: HashSet<u64>,
    /// The part of the view that comes next.
    part: usize,
    /// What is missing of the parts before it.
    missing: Vec<Revocation>,
    written: u64,
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

    /// Writes some of what is missing, after the feed was read to its end. What fails is tried again after the next poll.
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
        for _ in 0..MAX_WRITES {
            let Some(revocation) = self.next(shared) else { return Ok(true) };
            let written = deadline::within(shared.store_timeout, shared.store.revoke(revocation.clone())).await;
            if let Err(error) = written.map_err(StoreError::new).and_then(|written| written) {
                self.missing.push(revocation);
                return Err(error);
            }
            self.written += 1;
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
