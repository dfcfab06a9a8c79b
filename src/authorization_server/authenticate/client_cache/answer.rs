//! [`Answer`]: what the store answered, and how long that can be used to accept and to refuse.

use std::time::{Duration, SystemTime};

use super::Known;
use super::limits::ClientCacheLimits;
use crate::timing::MAX_FEED_LAG;

/// An answer of the client store.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) client: Known,
    pub(crate) basis: Basis,
    /// The time at which the answer was correct: when the store was asked, or the later time up to which the feed has
    /// reported all changes.
    pub(crate) as_of: SystemTime,
}

/// Whether an answer can be used for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// No: it was not fetched for a refusal, or is too old. Use [`ClientCache::find_lately`].
    Acceptance,
    /// Yes: the store was just asked. Call [`ClientCache::refused`] afterwards.
    Fetched,
    Refusal,
}

/// The current time, and the time up to which the feed has reported all changes, if there is a feed.
#[derive(Clone, Copy)]
pub(super) struct Now {
    pub(super) time: SystemTime,
    pub(super) told: Option<SystemTime>,
}

impl Now {
    /// Returns whether `asked_at` is at least `than` ago. After the clock was set back, every entry is old.
    pub(super) fn is_older(self, asked_at: SystemTime, than: Duration) -> bool {
        self.time.duration_since(asked_at).map_or(true, |age| age >= than)
    }

    /// Returns the time at which the answer to a look-up from `asked_at` was correct.
    pub(super) fn as_of(self, asked_at: SystemTime) -> SystemTime {
        self.told.map_or(asked_at, |told| told.max(asked_at))
    }

    /// Returns whether the feed may not have reported a change since then yet.
    pub(super) fn is_behind(self, as_of: SystemTime) -> bool {
        self.told.is_some() && as_of.checked_add(MAX_FEED_LAG).is_none_or(|end| end < self.time)
    }

    pub(super) fn may_refuse(self, asked_for_refusal: SystemTime, limits: ClientCacheLimits) -> bool {
        !self.is_older(asked_for_refusal, limits.absent) && !self.is_behind(self.as_of(asked_for_refusal))
    }
}
