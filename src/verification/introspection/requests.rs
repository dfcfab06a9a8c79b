//! [`Requests`]: the introspection requests in progress, and their slots.
//!
//! Callers choose the tokens, and how many. Therefore:
//!
//! 1. Some slots are [reserved](RESERVED) for tokens that the server called active before.
//! 2. If no slot is free, a token without an answer for [`SLOW`] loses its slot to another. Otherwise, a few tokens per second
//!    that the server never answers would hold every slot.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::Moment;
use crate::sync::{Finish, InFlight};
use crate::verification::error::Verified;

/// The maximum number of requests in flight.
const SLOTS: usize = 256;

/// The number of slots reserved for tokens that were active before. These tokens may also use the other slots.
const RESERVED: usize = 64;

/// The time for which no other token can take the slot of a token. A healthy server answers sooner.
const SLOW: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Requests {
    by_token: HashMap<Box<str>, Request>,
    started: u64,
}

struct Request {
    /// The position in the order in which the requests started.
    number: u64,
    result: InFlight<Verified>,
    /// Dropped with this value, which cancels the request.
    _slot: oneshot::Sender<()>,
    was_active: bool,
    began: Moment,
}

impl Request {
    fn is_slow(&self, now: Moment) -> bool {
        now.since(self.began) >= SLOW
    }
}

/// A request that was started.
pub(super) struct Started {
    pub(super) result: InFlight<Verified>,
    pub(super) finish: Finish<Verified>,
    /// Completes when the request must give up its slot.
    pub(super) cancelled: oneshot::Receiver<()>,
}

impl Requests {
    /// Returns the request in flight about this token.
    pub(super) fn get(&self, token: &str) -> Option<InFlight<Verified>> {
        self.by_token.get(token).map(|request| request.result.clone())
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
            self.by_token.remove::<str>(&slow);
        }
        let (result, finish) = InFlight::start();
        let (slot, cancelled) = oneshot::channel();
        self.started += 1;
        let request = Request { number: self.started, result: result.clone(), _slot: slot, was_active, began: now };
        self.by_token.insert(token.into(), request);
        Started { result, finish, cancelled }
    }

    /// Frees the slot of a finished request. The token may have lost that slot and have another one now.
    pub(super) fn finish(&mut self, token: &str, finish: &Finish<Verified>) {
        if self.by_token.get(token).is_some_and(|request| finish.is_for(&request.result)) {
            self.by_token.remove(token);
        }
    }

    fn is_slot_free(&self, was_active: bool) -> bool {
        let unknown = || self.by_token.values().filter(|request| !request.was_active).count();
        self.by_token.len() < SLOTS && (was_active || unknown() < SLOTS - RESERVED)
    }

    /// Returns the token that loses its slot. Tokens that were active before lose it only to other such tokens, and last. Among
    /// several, the one that became slow last loses its slot, so that a merely slow server still answers for the others.
    fn slow(&self, was_active: bool, now: Moment) -> Option<&str> {
        let may_take = |request: &Request| (was_active || !request.was_active) && request.is_slow(now);
        let slow = self.by_token.iter().filter(|(_, request)| may_take(request));
        let last = slow.max_by_key(|(_, request)| (!request.was_active, request.began.monotonic, request.number));
        last.map(|(token, _)| &**token)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::{Moment, RESERVED, Requests, SLOTS, SLOW, Started};
    use crate::clock::SystemClock;

    fn start(requests: &mut Requests, token: &str, was_active: bool, now: Moment) -> Option<Started> {
        requests.has_slot(was_active, now).then(|| requests.start(token, was_active, now))
    }

    fn later(now: Moment, by: Duration) -> Moment {
        Moment { wall: now.wall + by, monotonic: now.monotonic + by }
    }

    #[test]
    fn tokens_that_were_active_have_reserved_slots() {
        let (mut requests, now) = (Requests::default(), Moment::now(&SystemClock));
        let mut started = |was_active| {
            (0..1_000).filter_map(|n| start(&mut requests, &format!("{was_active}-{n}"), was_active, now)).count()
        };
        assert_eq!((started(false), started(true), started(false)), (SLOTS - RESERVED, RESERVED, 0));
        let mut requests = Requests::default();
        let mut started = |was_active| {
            (0..1_000).filter_map(|n| start(&mut requests, &format!("{was_active}-{n}"), was_active, now)).count()
        };
        assert_eq!((started(true), started(false)), (SLOTS, 0));
    }

    #[test]
    fn a_slow_token_loses_its_slot_and_an_active_one_only_to_another_active_one() {
        let (mut requests, now) = (Requests::default(), Moment::now(&SystemClock));
        let mut known: Vec<_> =
            (0..RESERVED).filter_map(|n| start(&mut requests, &format!("known-{n}"), true, now)).collect();
        let mut others = Vec::new();
        while let Some(started) = start(&mut requests, &format!("other-{}", others.len()), false, now) {
            others.push(started);
        }
        assert_eq!((known.len(), others.len()), (RESERVED, SLOTS - RESERVED));
        let soon = later(now, SLOW.mul_f64(0.999));
        assert!(!requests.has_slot(false, soon) && !requests.has_slot(true, soon));

        let now = later(now, SLOW);
        for n in 0..others.len() {
            assert!(start(&mut requests, &format!("new-{n}"), false, now).is_some(), "{n}");
        }
        assert!(start(&mut requests, "one too many", false, now).is_none(), "the slots of active tokens are reserved");
        let gave_way =
            |started: &mut Started| started.cancelled.try_recv().is_err_and(|error| error == TryRecvError::Closed);
        assert!(others.iter_mut().all(gave_way) && !known.iter_mut().any(gave_way));
        assert!(start(&mut requests, "known too", true, now).is_some());
        assert_eq!(known.iter_mut().map(gave_way).filter(|gave_way| *gave_way).count(), 1);
    }

    #[test]
    fn a_cancelled_request_does_not_free_the_later_slot_of_its_token() {
        let (mut requests, now) = (Requests::default(), Moment::now(&SystemClock));
        let first = requests.start("a", false, now);
        requests.by_token.clear();
        let second = requests.start("a", false, now);
        requests.finish("a", &first.finish);
        assert!(requests.get("a").is_some());
        requests.finish("a", &second.finish);
        assert!(requests.get("a").is_none());
    }
}
