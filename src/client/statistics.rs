//! [`Statistics`]: what a source of tokens has done since it was built.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one set of credentials since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How many tokens were obtained.
    pub obtained: u64,
    /// How many requests for a token failed.
    pub failed: u64,
    /// How many calls had to wait for a token.
    pub waited: u64,
    /// How many tokens were dropped because a resource server refused them.
    pub refused: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    obtained: AtomicU64,
    failed: AtomicU64,
    waited: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub(super) fn obtained(&self) {
        self.obtained.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waited(&self) {
        self.waited.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Statistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            obtained: read(&self.obtained),
            failed: read(&self.failed),
            waited: read(&self.waited),
            refused: read(&self.refused),
        }
    }
}
