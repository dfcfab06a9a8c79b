//! [`SingleFlight`]: one caller works, and all that ask in the meantime get its result.

use std::sync::Mutex;

use super::{Finish, InFlight, lock};

/// A place for work that is done once for all callers that ask while it is in flight. `K` identifies the work.
pub(crate) struct SingleFlight<K, T>(Mutex<Option<Box<Place<K, T>>>>);

struct Place<K, T> {
    key: K,
    work: InFlight<T>,
}

/// The role of a caller that asks for a result.
pub(crate) enum Flight<T> {
    /// The caller works, and finishes with the result. If it stops without one, a follower takes over.
    Leader(Finish<T>),
    /// Another caller does the same work.
    Follower(InFlight<T>),
    /// Another caller does other work in the same place.
    Occupied,
}

impl<K, T: Clone> SingleFlight<K, T> {
    /// Begins the work, or joins it. `is_same` returns whether the work in flight is the same.
    pub(crate) fn start(&self, key: impl FnOnce() -> K, is_same: impl FnOnce(&K) -> bool) -> Flight<T> {
        let mut place = lock(&self.0);
        match place.as_ref().filter(|place| place.work.is_running()) {
            Some(place) if is_same(&place.key) => return Flight::Follower(place.work.clone()),
            Some(_) => return Flight::Occupied,
            None => {}
        }
        let (work, finish) = InFlight::start();
        *place = Some(Box::new(Place { key: key(), work }));
        Flight::Leader(finish)
    }
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

#[cfg(test)]
mod tests {
    use super::{Finish, Flight, InFlight, SingleFlight};

    type Flights = SingleFlight<u32, u32>;

    fn leader(flights: &Flights, key: u32) -> Finish<u32> {
        match flights.start(|| key, |other| *other == key) {
            Flight::Leader(leader) => leader,
            _ => panic!("other work is in flight"),
        }
    }

    fn follower(flights: &Flights, key: u32) -> InFlight<u32> {
        match flights.start(|| key, |other| *other == key) {
            Flight::Follower(follower) => follower,
            _ => panic!("no such work is in flight"),
        }
    }

    #[tokio::test]
    async fn followers_get_the_result_of_their_leader_also_after_its_end() {
        let flights = Flights::default();
        let mut first = leader(&flights, 1);
        let followers = [follower(&flights, 1), follower(&flights, 1)];
        assert!(matches!(flights.start(|| 2, |other| *other == 2), Flight::Occupied));
        first.finish(7);
        drop(first);
        for follower in followers {
            assert_eq!(follower.result().await, Some(7));
        }
        leader(&flights, 2);
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_leaves_its_place_to_a_follower() {
        let flights = Flights::default();
        let first = leader(&flights, 1);
        let waiting = follower(&flights, 1);
        drop(first);
        assert_eq!(waiting.result().await, None);
        let mut second = leader(&flights, 1);
        second.finish(8);
    }
}
