//! [`Replays`]: the used credentials in memory.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{MAX_ENTRIES, PURGED_AT_ONCE, expired};
use crate::clock::UnixTime;
use crate::store::{Replay, ReplayId, StoreError};

/// The used credentials, and when each may be removed.
#[derive(Default)]
pub(crate) struct Replays {
    pub(super) seen: HashMap<ReplayId, UnixTime>,
    pub(super) by_end: BTreeSet<(UnixTime, ReplayId)>,
}

/// How much longer than required used credentials are kept, since the clock may be set back.
const KEPT_BEYOND_END: Duration = Duration::from_secs(60);

impl Replays {
    fn purge(&mut self, now: UnixTime) {
        for expired in expired(&mut self.by_end, now, PURGED_AT_ONCE) {
            self.seen.remove(&expired);
        }
    }

    pub(crate) fn check_and_insert(
        &mut self,
        id: ReplayId,
        expires_at: UnixTime,
        now: UnixTime,
    ) -> Result<Replay, StoreError> {
        self.purge(now.before(KEPT_BEYOND_END));
        if self.seen.len() >= MAX_ENTRIES {
            self.purge(now);
        }
        match self.seen.get(&id).copied() {
            Some(end) if end > now => return Ok(Replay::Seen),
            // More have expired than were removed.
            Some(end) => drop(self.by_end.remove(&(end, id))),
            None if self.seen.len() >= MAX_ENTRIES => {
                return Err(StoreError::new(
                    "the store is full: it holds 1,000,000 used credentials that have not expired",
                ));
            }
            None => {}
        }
        self.seen.insert(id, expires_at);
        self.by_end.insert((expires_at, id));
        Ok(Replay::Fresh)
    }
}

/// For a store that keeps the used credentials elsewhere as well.
#[cfg(feature = "file")]
impl Replays {
    pub(crate) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Returns until when the use of this id counts.
    pub(crate) fn end_of(&self, id: &ReplayId) -> Option<UnixTime> {
        self.seen.get(id).copied()
    }

    /// Adds an entry that was recorded before, unless it is no longer needed.
    pub(crate) fn load(&mut self, id: ReplayId, end: UnixTime, now: UnixTime) {
        if end > now.before(KEPT_BEYOND_END) && self.end_of(&id).is_none_or(|own| own < end) {
            self.restore(id, Some(end));
        }
    }

    /// Sets until when the use of this id counts. `None` removes it.
    pub(crate) fn restore(&mut self, id: ReplayId, end: Option<UnixTime>) {
        if let Some(former) = self.seen.remove(&id) {
            self.by_end.remove(&(former, id));
        }
        if let Some(end) = end {
            self.seen.insert(id, end);
            self.by_end.insert((end, id));
        }
    }

    /// Removes all entries that are no longer needed.
    pub(crate) fn purge_all(&mut self, now: UnixTime) {
        let mut before = usize::MAX;
        while self.len() < before {
            before = self.len();
            self.purge(now.before(KEPT_BEYOND_END));
        }
    }

    /// Returns the ids whose use counts beyond this time.
    pub(crate) fn lasting(&self, beyond: UnixTime) -> impl Iterator<Item = &ReplayId> {
        self.all().filter(move |(_, end)| *end > beyond).map(|(id, _)| id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&ReplayId, UnixTime)> {
        self.by_end.iter().map(|(end, id)| (id, *end))
    }
}
