//! [`TokenQueue`]: by option, a bound on how many grants wait for a signature, and room for other work between two of them.
//!
//! Once its grant is decided, a request for a token is work without a pause: those that are ready would be served one
//! after the other before anything else. Here they queue instead, and each yields once to other ready tasks when its
//! turn comes.
//!
//! A place is taken just before the signature. What a request waits for before that, such as the client store, takes
//! none: an unauthenticated caller could fill the queue with slow look-ups otherwise.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::authorization_server::error::{Fault, TokenError};

#[derive(Debug)]
pub(in crate::authorization_server) struct TokenQueue {
    /// One for each grant that is being signed, and one for each that waits.
    places: Semaphore,
    served: Semaphore,
}

/// The turn of one grant. It ends, and its place is free again, when this is dropped.
#[must_use]
pub(super) struct Turn<'a> {
    _served: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl TokenQueue {
    pub(in crate::authorization_server) fn new(at_once: usize, waiting: usize) -> Self {
        let places = at_once.saturating_add(waiting).min(Semaphore::MAX_PERMITS);
        Self { places: Semaphore::new(places), served: Semaphore::new(at_once.min(places)) }
    }

    /// Takes a place in the queue and waits for the turn. A full queue is a refusal at once.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, TokenError> {
        let full = |_| TokenError::new(Fault::UNAVAILABLE).detailed(FULL);
        let place = self.places.try_acquire().map_err(full)?;
        let served = self.served.acquire().await.map_err(TokenError::unavailable)?;
        tokio::task::yield_now().await;
        Ok(Turn { _served: served, _place: place })
    }
}

const FULL: &str = "too many requests wait for a token; a longer .token_queue(…) holds more";

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::TokenQueue;
    use crate::deadline::in_time;

    #[test]
    fn a_full_queue_refuses_and_a_request_that_leaves_makes_room() {
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
            assert!(futures_util::poll!(&mut other).is_pending(), "there is room, and the turn is not over");
            drop((first, waiting));
            assert!(other.await.is_ok());
        });
    }

    #[test]
    fn between_two_that_wait_comes_what_else_is_ready() {
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
            assert!(place <= 1, "it waited for {place} that came before it");
            assert!(done.iter().filter(|number| **number >= 0).is_sorted(), "each in its turn");
        });
    }
}
