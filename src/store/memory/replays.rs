//! [`Replays`]: the used credentials in memory.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::{MAX_ENTRIES, PURGED_AT_ONCE, expired};
use crate::clock::UnixTime;
use crate::store::{Replay, ReplayId, StoreError};

/// The used credentials, and when each may be removed.
#[derive(Default)]
pub(super) struct Replays {
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

    pub(super) fn check_and_insert(
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
