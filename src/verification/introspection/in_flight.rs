//! [`InFlight`]: the introspection requests in progress, and their slots.
//!
//! Callers choose the tokens, and how many. Therefore:
//!
//! 1. Some slots are [reserved](RESERVED) for tokens that the server called active before.
//! 2. If no slot is free, a token without an answer for [`SLOW`] loses its slot to another. Otherwise, a few tokens per second
//!    that the server never answers would hold every slot.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::clock::Moment;
use crate::verification::error::Verified;

/// The maximum number of requests in request.
const SLOTS: usize = 256;

/// The number of slots reserved for tokens that were active before. These tokens may also use the other slots.
const RESERVED: usize = 64;

/// How long a token keeps its slot for certain. A healthy server answers sooner.
const SLOW: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct InFlight {
    in_flight: HashMap<Box<str>, InFlightToken>,
    last: u64,
}

struct InFlightToken {
    number: u64,
    finished: watch::Receiver<Option<Verified>>,
    /// Dropped with this value, which cancels the request.
    _slot: oneshot::Sender<()>,
    was_active: bool,
    began: Moment,
}

impl InFlightToken {
    fn is_slow(&self, now: Moment) -> bool {
        now.since(self.began) >= SLOW
    }
}

/// The channels of a started request.
pub(super) struct Started {
    pub(super) number: u64,
    pub(super) answer: watch::Sender<Option<Verified>>,
    /// Completes when the request must give up its slot.
    pub(super) cancelled: oneshot::Receiver<()>,
}

impl InFlight {
    /// Returns the receiver of the result for a token whose request is in request.
    pub(super) fn of(&self, token: &str) -> Option<watch::Receiver<Option<Verified>>> {
        self.in_flight.get(token).map(|request| request.finished.clone())
    }

    /// Returns whether there is a slot for another token.
    pub(super) fn has_slot(&self, was_active: bool, now: Moment) -> bool {
        self.is_slot_free(was_active) || self.slow(was_active, now).is_some()
    }

    /// Takes a slot; that of a slow token if none is free.
    pub(super) fn start(&mut self, token: &str, was_active: bool, now: Moment) -> Started {
        if !self.is_slot_free(was_active)
            && let Some(slow) = self.slow(was_active, now).map(Box::from)
        {
            self.in_flight.remove::<str>(&slow);
        }
        let (answer, finished) = watch::channel(None);
        let (slot, cancelled) = oneshot::channel();
        self.last += 1;
        let number = self.last;
        let request = InFlightToken { number, finished, _slot: slot, was_active, began: now };
        self.in_flight.insert(token.into(), request);
        Started { number, answer, cancelled }
    }

    /// Frees the slot of a finished request. The token may have lost that slot and have another one now.
    pub(super) fn finish(&mut self, token: &str, number: u64) {
        if self.in_flight.get(token).is_some_and(|request| request.number == number) {
            self.in_flight.remove(token);
        }
    }

    fn is_slot_free(&self, was_active: bool) -> bool {
        let unknown = || self.in_flight.values().filter(|request| !request.was_active).count();
        self.in_flight.len() < SLOTS && (was_active || unknown() < SLOTS - RESERVED)
    }

    /// Returns the token that loses its slot. Tokens that were active before lose it only to other such tokens, and last. Among
    /// several, the one that became slow last loses its slot, so that a merely slow server still answers for the others.
    fn slow(&self, was_active: bool, now: Moment) -> Option<&str> {
        let may_take = |request: &InFlightToken| (was_active || !request.was_active) && request.is_slow(now);
        let slow = self.in_flight.iter().filter(|(_, request)| may_take(request));
        let last = slow.max_by_key(|(_, request)| (!request.was_active, request.began.monotonic, request.number));
        last.map(|(token, _)| &**token)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::{InFlight, Moment, RESERVED, SLOTS, SLOW, Started};
    use crate::clock::SystemClock;

    fn start(in_flight: &mut InFlight, token: &str, was_active: bool, now: Moment) -> Option<Started> {
        in_flight.has_slot(was_active, now).then(|| in_flight.start(token, was_active, now))
    }

    fn later(now: Moment, by: Duration) -> Moment {
        Moment { wall: now.wall + by, monotonic: now.monotonic + by }
    }

    #[test]
    fn tokens_that_were_active_have_reserved_slots() {
        let (mut in_flight, now) = (InFlight::default(), Moment::now(&SystemClock));
        let mut started = |was_active| {
            (0..1_000).filter_map(|n| start(&mut in_flight, &format!("{was_active}-{n}"), was_active, now)).count()
        };
        assert_eq!((started(false), started(true), started(false)), (SLOTS - RESERVED, RESERVED, 0));
        let mut in_flight = InFlight::default();
        let mut started = |was_active| {
            (0..1_000).filter_map(|n| start(&mut in_flight, &format!("{was_active}-{n}"), was_active, now)).count()
        };
        assert_eq!((started(true), started(false)), (SLOTS, 0));
    }

    #[test]
    fn a_slow_token_loses_its_slot_and_an_active_one_only_to_another_active_one() {
        let (mut in_flight, now) = (InFlight::default(), Moment::now(&SystemClock));
        let mut known: Vec<_> =
            (0..RESERVED).filter_map(|n| start(&mut in_flight, &format!("known-{n}"), true, now)).collect();
        let mut others = Vec::new();
        while let Some(started) = start(&mut in_flight, &format!("other-{}", others.len()), false, now) {
            others.push(started);
        }
        assert_eq!((known.len(), others.len()), (RESERVED, SLOTS - RESERVED));
        let soon = later(now, SLOW.mul_f64(0.999));
        assert!(!in_flight.has_slot(false, soon) && !in_flight.has_slot(true, soon));

        let now = later(now, SLOW);
        for n in 0..others.len() {
            assert!(start(&mut in_flight, &format!("new-{n}"), false, now).is_some(), "{n}");
        }
        assert!(start(&mut in_flight, "one too many", false, now).is_none(), "the slots of active tokens are reserved");
        let gave_way =
            |started: &mut Started| started.cancelled.try_recv().is_err_and(|error| error == TryRecvError::Closed);
        assert!(others.iter_mut().all(gave_way) && !known.iter_mut().any(gave_way));
        assert!(start(&mut in_flight, "known too", true, now).is_some());
        assert_eq!(known.iter_mut().map(gave_way).filter(|gave_way| *gave_way).count(), 1);
    }

    #[test]
    fn a_cancelled_request_does_not_free_the_later_slot_of_its_token() {
        let (mut in_flight, now) = (InFlight::default(), Moment::now(&SystemClock));
        let first = in_flight.start("a", false, now);
        in_flight.in_flight.clear();
        let second = in_flight.start("a", false, now);
        in_flight.finish("a", first.number);
        assert!(in_flight.of("a").is_some());
        in_flight.finish("a", second.number);
        assert!(in_flight.of("a").is_none());
    }
}
