//! [`Flights`]: the tokens that a server is being asked about, and the places for them.
//!
//! A caller chooses the tokens, and how many. So:
//!
//! 1. Some places are [kept](KEPT) for tokens that the server called active before.
//! 2. Where no place is free, a token without an answer for [`SLOW`] gives way to another. Otherwise, a few tokens a second
//!    that the server never answers would hold every place.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::clock::Moment;
use crate::verification::error::Verified;

/// How many tokens are asked about at once.
const PLACES: usize = 256;

/// How many of the places are for tokens that were active before. These have the other places, too.
const KEPT: usize = 64;

/// How long a token has its place to itself. A server that is well answers sooner.
const SLOW: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Flights {
    flights: HashMap<Box<str>, Flight>,
    last: u64,
}

struct Flight {
    number: u64,
    landed: watch::Receiver<Option<Verified>>,
    /// Dropped with the flight, which tells the request to give up.
    _place: oneshot::Sender<()>,
    was_active: bool,
    began: Moment,
}

impl Flight {
    fn is_slow(&self, now: Moment) -> bool {
        now.since(self.began) >= SLOW
    }
}

/// What the request about a token needs.
pub(super) struct Started {
    pub(super) number: u64,
    pub(super) answer: watch::Sender<Option<Verified>>,
    /// Ends when the token has to give way.
    pub(super) gives_way: oneshot::Receiver<()>,
}

impl Flights {
    /// Returns the end of the request about a token.
    pub(super) fn of(&self, token: &str) -> Option<watch::Receiver<Option<Verified>>> {
        self.flights.get(token).map(|flight| flight.landed.clone())
    }

    /// Returns whether another token has a place.
    pub(super) fn has_place(&self, was_active: bool, now: Moment) -> bool {
        self.is_place_free(was_active) || self.slow(was_active, now).is_some()
    }

    /// Takes a place, that of a slow token if none is free.
    pub(super) fn start(&mut self, token: &str, was_active: bool, now: Moment) -> Started {
        if !self.is_place_free(was_active)
            && let Some(slow) = self.slow(was_active, now).map(Box::from)
        {
            self.flights.remove::<str>(&slow);
        }
        let (answer, landed) = watch::channel(None);
        let (place, gives_way) = oneshot::channel();
        self.last += 1;
        let number = self.last;
        let flight = Flight { number, landed, _place: place, was_active, began: now };
        self.flights.insert(token.into(), flight);
        Started { number, answer, gives_way }
    }

    /// Frees the place of a request that ended. The token may have given way, and have another place by now.
    pub(super) fn end(&mut self, token: &str, number: u64) {
        if self.flights.get(token).is_some_and(|flight| flight.number == number) {
            self.flights.remove(token);
        }
    }

    fn is_place_free(&self, was_active: bool) -> bool {
        let unknown = || self.flights.values().filter(|flight| !flight.was_active).count();
        self.flights.len() < PLACES && (was_active || unknown() < PLACES - KEPT)
    }

    /// Returns the token that gives way. Tokens that were active before give way only to their like, and last. Of several,
    /// the one that became slow last does, so that a server that is merely slow answers about the others.
    fn slow(&self, was_active: bool, now: Moment) -> Option<&str> {
        let may_take = |flight: &Flight| (was_active || !flight.was_active) && flight.is_slow(now);
        let slow = self.flights.iter().filter(|(_, flight)| may_take(flight));
        let last = slow.max_by_key(|(_, flight)| (!flight.was_active, flight.began.monotonic, flight.number));
        last.map(|(token, _)| &**token)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot::error::TryRecvError;

    use super::{Flights, KEPT, Moment, PLACES, SLOW, Started};
    use crate::clock::SystemClock;

    fn start(flights: &mut Flights, token: &str, was_active: bool, now: Moment) -> Option<Started> {
        flights.has_place(was_active, now).then(|| flights.start(token, was_active, now))
    }

    fn later(now: Moment, by: Duration) -> Moment {
        Moment { wall: now.wall + by, monotonic: now.monotonic + by }
    }

    #[test]
    fn tokens_that_were_active_have_places_that_no_other_takes() {
        let (mut flights, now) = (Flights::default(), Moment::now(&SystemClock));
        let mut started = |was_active| {
            (0..1_000).filter_map(|n| start(&mut flights, &format!("{was_active}-{n}"), was_active, now)).count()
        };
        assert_eq!((started(false), started(true), started(false)), (PLACES - KEPT, KEPT, 0));
        let mut flights = Flights::default();
        let mut started = |was_active| {
            (0..1_000).filter_map(|n| start(&mut flights, &format!("{was_active}-{n}"), was_active, now)).count()
        };
        assert_eq!((started(true), started(false)), (PLACES, 0));
    }

    #[test]
    fn a_slow_token_gives_way_where_no_place_is_free_and_an_active_one_only_to_its_like() {
        let (mut flights, now) = (Flights::default(), Moment::now(&SystemClock));
        let mut known: Vec<_> =
            (0..KEPT).filter_map(|n| start(&mut flights, &format!("known-{n}"), true, now)).collect();
        let mut others = Vec::new();
        while let Some(started) = start(&mut flights, &format!("other-{}", others.len()), false, now) {
            others.push(started);
        }
        assert_eq!((known.len(), others.len()), (KEPT, PLACES - KEPT));
        let soon = later(now, SLOW.mul_f64(0.999));
        assert!(!flights.has_place(false, soon) && !flights.has_place(true, soon));

        let now = later(now, SLOW);
        for n in 0..others.len() {
            assert!(start(&mut flights, &format!("new-{n}"), false, now).is_some(), "{n}");
        }
        assert!(start(&mut flights, "one too many", false, now).is_none(), "the places of active tokens stay theirs");
        let gave_way =
            |started: &mut Started| started.gives_way.try_recv().is_err_and(|error| error == TryRecvError::Closed);
        assert!(others.iter_mut().all(gave_way) && !known.iter_mut().any(gave_way));
        assert!(start(&mut flights, "known too", true, now).is_some());
        assert_eq!(known.iter_mut().map(gave_way).filter(|gave_way| *gave_way).count(), 1);
    }

    #[test]
    fn a_request_that_gave_way_does_not_free_the_place_that_its_token_has_again() {
        let (mut flights, now) = (Flights::default(), Moment::now(&SystemClock));
        let first = flights.start("a", false, now);
        flights.flights.clear();
        let second = flights.start("a", false, now);
        flights.end("a", first.number);
        assert!(flights.of("a").is_some());
        flights.end("a", second.number);
        assert!(flights.of("a").is_none());
    }
}
