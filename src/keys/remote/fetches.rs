//! [`Fetches`]: the state of the fetches of a key set, and the next step of a request that lacks a key.
//!
//! Fetches are numbered in the order in which they start, and run one at a time. A request that lacks a key takes the number of
//! the last started fetch as its ticket. Only a set of a later fetch was requested after the request arrived, so only such a
//! set can prove that the issuer does not have the key.

use std::sync::Arc;
use std::time::Duration;

use super::budget::Budget;
use super::fetch_policy::{LONGEST_PAUSE_WITHOUT_KEYS, Policy};
use super::unknown::UnknownKeyIds;
use crate::clock::{Moment, UnixTime};
use crate::keys::NoKey;
use crate::transport::fetch::{FetchError, SharedCaches};

/// The default of `Retry-After`, if no better time is known.
pub(super) const SOON: Duration = Duration::from_secs(1);

pub(super) struct Fetches {
    /// The number of the last fetch that started, that finished, and that succeeded.
    started: u64,
    finished: u64,
    succeeded: u64,
    /// When the last successful fetch was started.
    succeeded_at: Moment,
    /// When the next regular fetch is due.
    pub(super) next: Due,
    pub(super) failures: u32,
    pub(super) error: Option<Arc<FetchError>>,
    pub(super) unknown: UnknownKeyIds,
    /// The last time that a key of the set verified a signature. Kept only if the policy needs it.
    pub(super) used_at: Option<Moment>,
    for_names: Budget,
    for_signatures: Budget,
}

/// A time at which something is due: `after` a moment, by either of its clocks.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) from: Moment,
    pub(super) after: Duration,
}

impl Due {
    /// Returns the time until then, or `None` if it is due.
    pub(super) fn left(self, now: Moment) -> Option<Duration> {
        self.after.checked_sub(now.since(self.from)).filter(|left| !left.is_zero())
    }
}

/// The number of the last fetch that had started when a request arrived.
#[derive(Clone, Copy)]
pub(super) struct Ticket(u64);

/// The next step of a request that lacks a key.
pub(super) enum Step {
    /// It has its answer. `Ok` means that it should look at the keys again.
    Stop(Result<(), NoKey>),
    /// It waits for the fetch in flight.
    Wait,
    /// It starts a fetch from this budget, and waits.
    Fetch(Source),
}

/// The budget that a fetch is counted against.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// None: there are no keys, and a regular fetch is due.
    Schedule,
    Names,
    Signatures,
}

impl Source {
    /// Returns whether shared caches may answer. Only the issuer itself can prove that it has no other keys; a copy may be
    /// older than the token.
    pub(super) fn shared_caches(self) -> SharedCaches {
        match self {
            Self::Schedule => SharedCaches::MayAnswer,
            Self::Names | Self::Signatures => SharedCaches::MustRevalidate,
        }
    }
}

impl Fetches {
    pub(super) fn new(policy: &Policy, now: Moment) -> Self {
        Self {
            started: 0,
            finished: 0,
            succeeded: 0,
            succeeded_at: now,
            next: Due { from: now, after: Duration::ZERO },
            failures: 0,
            error: None,
            unknown: UnknownKeyIds::default(),
            used_at: None,
            for_names: Budget::new(policy.unknown, now),
            for_signatures: Budget::new(policy.signatures, now),
        }
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.started)
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.started != self.finished
    }

    /// Counts a started fetch, and returns its number.
    pub(super) fn start(&mut self, source: Source, now: Moment) -> u64 {
        // The decision to fetch has checked the budget.
        match source {
            Source::Schedule => true,
            Source::Names => self.for_names.take(now),
            Source::Signatures => self.for_signatures.take(now),
        };
        self.started += 1;
        self.started
    }

    pub(super) fn finish(&mut self, number: u64) {
        self.finished = number;
    }

    pub(super) fn succeed(&mut self, number: u64, started_at: Moment, next: Due) {
        (self.succeeded, self.succeeded_at) = (number, started_at);
        (self.failures, self.error, self.next) = (0, None, next);
    }

    pub(super) fn fail(&mut self, error: Arc<FetchError>, next: Due) {
        (self.error, self.next) = (Some(error), next);
    }

    /// Decides for any key while there is no usable set.
    pub(super) fn without_keys(&self, ticket: Ticket, now: Moment) -> Step {
        if self.finished > ticket.0 {
            Step::Stop(Err(self.unavailable(now)))
        } else if self.is_in_flight() {
            Step::Wait
        } else if self.next_without_keys().left(now).is_none() {
            Step::Fetch(Source::Schedule)
        } else {
            Step::Stop(Err(self.unavailable(now)))
        }
    }

    /// Decides for a name that is not in the set.
    pub(super) fn for_name(&mut self, name: &str, alg: &str, ticket: Ticket, now: Moment, policy: &Policy) -> Step {
        if self.succeeded > ticket.0 {
            self.unknown.remember(name, alg, self.succeeded_at);
            return Step::Stop(Err(NoKey::Unknown));
        }
        if let Some(asked) = self.unknown.lacked(name, alg, now, policy.unknown.every) {
            // The set was requested before this request arrived. It proves nothing about a key that was published since: any
            // caller could have used the name before.
            let (at, left) = (UnixTime::at(asked.wall), policy.unknown.every.saturating_sub(now.since(asked)));
            let retry_after = left.min(self.next.left(now).unwrap_or(SOON));
            return Step::Stop(Err(NoKey::Lacked { at, retry_after }));
        }
        if self.finished > ticket.0 {
            return Step::Stop(Err(self.too_early(now)));
        }
        if self.is_in_flight() {
            return Step::Wait;
        }
        match self.for_names.wait(now) {
            None => Step::Fetch(Source::Names),
            Some(_) => Step::Stop(Err(self.too_early(now))),
        }
    }

    /// Decides for a failed signature under a name in the set, since the name may mean another key now. If nothing more can be
    /// learned, the signature has failed.
    pub(super) fn for_signature(&self, ticket: Ticket, now: Moment) -> Step {
        if self.finished > ticket.0 {
            Step::Stop(Ok(()))
        } else if self.is_in_flight() {
            Step::Wait
        } else if self.for_signatures.wait(now).is_none() {
            Step::Fetch(Source::Signatures)
        } else {
            Step::Stop(Ok(()))
        }
    }

    /// Returns when the next fetch is due while there is no usable set.
    pub(super) fn next_without_keys(&self) -> Due {
        Due { after: self.next.after.min(LONGEST_PAUSE_WITHOUT_KEYS), ..self.next }
    }

    /// Returns the error for any key while there is no usable set.
    pub(super) fn unavailable(&self, now: Moment) -> NoKey {
        let retry_after = self.next_without_keys().left(now).unwrap_or(SOON);
        NoKey::Unavailable { error: self.error.clone(), retry_after }
    }

    /// Returns the error for a name that is not in the set, while neither a regular fetch nor one from the budget can check
    /// whether the issuer has it.
    fn too_early(&self, now: Moment) -> NoKey {
        let left = self.for_names.wait(now).unwrap_or(SOON).min(self.next.left(now).unwrap_or(SOON));
        NoKey::TooEarly { error: self.error.clone(), retry_after: left }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::time::Instant;

    use super::{Due, Fetches, Source, Step};
    use crate::clock::Moment;
    use crate::keys::NoKey;
    use crate::keys::remote::Policy;

    #[test]
    fn without_a_usable_set_a_fetch_is_due_after_30_seconds_at_the_latest() {
        let first = Moment { wall: SystemTime::UNIX_EPOCH, monotonic: Instant::now() };
        let at = |seconds| Moment { wall: first.wall + Duration::from_secs(seconds), ..first };
        let mut fetches = Fetches::new(&Policy::default(), at(0));
        let number = fetches.start(Source::Schedule, at(0));
        fetches.succeed(number, at(0), Due { from: at(0), after: Duration::from_secs(20 * 60 * 60) });
        fetches.finish(number);
        match fetches.without_keys(fetches.ticket(), at(10)) {
            Step::Stop(Err(NoKey::Unavailable { retry_after, .. })) => assert_eq!(retry_after, Duration::from_secs(20)),
            _ => panic!("it is too early for a fetch"),
        }
        assert!(matches!(fetches.without_keys(fetches.ticket(), at(30)), Step::Fetch(Source::Schedule)));
    }
}
