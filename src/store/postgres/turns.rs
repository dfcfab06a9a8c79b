//! [`Turns`]: lets the calls of one client wait for each other in this process, and not with a connection in the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::sync::lock;

/// How many calls of one client are in flight. The database runs them one after the other, since each changes the same row.
const MAX_IN_FLIGHT: usize = 3;

/// The clients with calls that run or wait. There is no entry for any other client.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<HashMap<String, Arc<Semaphore>>>);

/// A call that waits for its turn or has it. Dropping it gives the turn to the next one.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    owner: &'a str,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Waits until fewer than three calls of this client are in flight, in the order of the calls.
    pub(super) async fn wait<'a>(&'a self, owner: &'a str) -> Turn<'a> {
        let places = {
            let mut owners = lock(&self.0);
            let places = owners.entry(owner.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(MAX_IN_FLIGHT)));
            places.clone()
        };
        // Made before the wait, so that the entry is also removed if the wait is given up.
        let mut turn = Turn { turns: self, owner, permit: None };
        // Nothing closes the semaphore.
        turn.permit = places.acquire_owned().await.ok();
        turn
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut owners = lock(&self.turns.0);
        // It holds the semaphore as well.
        self.permit = None;
        // Each other call of the client holds the semaphore, and gets it only under this lock.
        if owners.get(self.owner).is_some_and(|places| Arc::strong_count(places) == 1) {
            owners.remove(self.owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::{MAX_IN_FLIGHT, Turns};
    use crate::sync::lock;

    #[tokio::test]
    async fn calls_of_one_client_wait_for_their_turn_and_no_client_is_remembered_without_a_call() {
        let turns = Turns::default();
        let mut held = Vec::new();
        for _ in 0..MAX_IN_FLIGHT {
            held.push(turns.wait("one").await);
        }
        let mut context = Context::from_waker(Waker::noop());
        let mut next = pin!(turns.wait("one"));
        assert!(next.as_mut().poll(&mut context).is_pending());
        drop(turns.wait("other").await);
        {
            // A call that is given up while it waits.
            let mut given_up = pin!(turns.wait("one"));
            assert!(given_up.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(lock(&turns.0).len(), 1);
        held.pop();
        let Poll::Ready(next) = next.as_mut().poll(&mut context) else { panic!("it has no turn") };
        drop(held);
        assert_eq!(lock(&turns.0).len(), 1);
        drop(next);
        assert!(lock(&turns.0).is_empty());
    }
}
