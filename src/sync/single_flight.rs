//! [`SingleFlight`]: one caller works, and all that ask in the meantime get its result.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A place for work that is done once for all callers that ask while it is in flight. `K` identifies the work.
pub(crate) struct SingleFlight<K, T>(Mutex<Option<Box<InFlight<K, T>>>>);

struct InFlight<K, T> {
    key: K,
    result: watch::Receiver<Option<T>>,
}

/// The role of a caller that asks for a result.
pub(crate) enum Flight<T> {
    /// The caller works, and [finishes](Leader::finish) with the result.
    Leader(Leader<T>),
    /// Another caller does the same work.
    Follower(Follower<T>),
    /// Another caller does other work in the same place.
    Occupied,
}

/// The role of the caller that works. If it is dropped without a result, a follower takes over.
pub(crate) struct Leader<T>(watch::Sender<Option<T>>);

pub(crate) struct Follower<T>(watch::Receiver<Option<T>>);

impl<K, T> SingleFlight<K, T> {
    /// Begins the work, or joins it. `is_same` returns whether the work in flight is the same.
    pub(crate) fn start(&self, key: impl FnOnce() -> K, is_same: impl FnOnce(&K) -> bool) -> Flight<T> {
        let mut place = self.lock();
        // A leader that is done or was dropped holds no sender any more.
        match place.as_ref().filter(|flight| flight.result.has_changed().is_ok()) {
            Some(flight) if is_same(&flight.key) => return Flight::Follower(Follower(flight.result.clone())),
            Some(_) => return Flight::Occupied,
            None => {}
        }
        let (sender, result) = watch::channel(None);
        *place = Some(Box::new(InFlight { key: key(), result }));
        Flight::Leader(Leader(sender))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<InFlight<K, T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> Default for SingleFlight<K, T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Leader<T> {
    /// Gives the result to all followers.
    pub(crate) fn finish(self, result: T) {
        self.0.send_replace(Some(result));
    }
}

impl<T: Clone> Follower<T> {
    /// Waits for the result. Returns `None` if the leader was dropped without one.
    pub(crate) async fn result(mut self) -> Option<T> {
        let result = self.0.wait_for(Option::is_some).await.ok()?;
        result.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::{Flight, Follower, Leader, SingleFlight};

    type Flights = SingleFlight<u32, u32>;

    fn leader(flights: &Flights, key: u32) -> Leader<u32> {
        match flights.start(|| key, |other| *other == key) {
            Flight::Leader(leader) => leader,
            _ => panic!("other work is in flight"),
        }
    }

    fn follower(flights: &Flights, key: u32) -> Follower<u32> {
        match flights.start(|| key, |other| *other == key) {
            Flight::Follower(follower) => follower,
            _ => panic!("no such work is in flight"),
        }
    }

    #[tokio::test]
    async fn followers_get_the_result_of_their_leader_also_after_its_end() {
        let flights = Flights::default();
        let first = leader(&flights, 1);
        let followers = [follower(&flights, 1), follower(&flights, 1)];
        assert!(matches!(flights.start(|| 2, |other| *other == 2), Flight::Occupied));
        first.finish(7);
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
        leader(&flights, 1).finish(8);
    }
}
