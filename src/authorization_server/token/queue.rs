//! [`TokenQueue`]: optionally limits how many grants wait for a signature, and lets other tasks run between two
//! signatures.
//!
//! Once its grant is decided, a token request runs without an await point. Without this queue, all ready requests would
//! be served before any other task. In the queue, each request yields once to other ready tasks when its turn comes.
//!
//! A request takes a place just before the signature. A request that still waits for something else, such as the client
//! store, takes none: otherwise an unauthenticated caller could fill the queue with slow look-ups.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::authorization_server::error::{Fault, TokenError};

#[derive(Debug)]
pub(crate) struct TokenQueue {
    /// One permit for each grant that is being signed, and one for each that waits.
    places: Semaphore,
    served: Semaphore,
}

/// The turn of one grant. Dropping it ends the turn and frees its place.
#[must_use]
pub(super) struct Turn<'a> {
    _served: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl TokenQueue {
    pub(crate) fn new(at_once: usize, waiting: usize) -> Self {
        let places = at_once.saturating_add(waiting).min(Semaphore::MAX_PERMITS);
        Self { places: Semaphore::new(places), served: Semaphore::new(at_once.min(places)) }
    }

    /// Takes a place in the queue and waits for the turn. Returns an error at once if the queue is full.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, TokenError> {
        let full = |_| TokenError::new(Fault::UNAVAILABLE).detailed(FULL);
        let place = self.places.try_acquire().map_err(full)?;
        let served = self.served.acquire().await.map_err(TokenError::unavailable)?;
        tokio::task::yield_now().await;
        Ok(Turn { _served: served, _place: place })
    }
}

const FULL: &str = "the queue for tokens is full; raise .token_queue(…) to let more requests wait";

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::TokenQueue;
    use crate::deadline::in_time;

    #[test]
    fn a_full_queue_refuses_requests_and_one_that_leaves_makes_room() {
        in_time(async {
            let turns = TokenQueue::new(1, 2);
            let first = turns.turn().await.ok().unwrap();
            let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(turns.turn())).collect();
            for turn in &mut waiting {
                assert!(futures_util::poll!(turn).is_pending());
            }
            assert_eq!(turns.turn().await.err().unwrap().status(), http::StatusCode::SERVICE_UNAVAILABLE);
            waiting.pop();
            let mut other = Box::pin(turns.turn());
            assert!(futures_util::poll!(&mut other).is_pending(), "it has a place, but the turn is not over");
            drop((first, waiting));
            assert!(other.await.is_ok());
        });
    }

    #[test]
    fn other_ready_tasks_run_between_two_waiting_requests() {
        in_time(async {
            let (turns, done) = (Rc::new(TokenQueue::new(1, 100)), Rc::new(RefCell::new(Vec::new())));
            let tasks = tokio::task::LocalSet::new();
            for number in 0..100 {
                let (turns, done) = (turns.clone(), done.clone());
                tasks.spawn_local(async move {
                    let _turn = turns.turn().await.ok().unwrap();
                    done.borrow_mut().push(number);
                });
            }
            let other = done.clone();
            tasks.spawn_local(async move { other.borrow_mut().push(-1) });
            tasks.await;
            let done = done.borrow();
            let place = done.iter().position(|number| *number == -1).unwrap();
            assert!(place <= 1, "it waited for {place} requests that came before it");
            assert!(done.iter().filter(|number| **number >= 0).is_sorted(), "requests are served in order");
        });
    }
}
