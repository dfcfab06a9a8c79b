//! [`Turns`]: by option, a bound on how many requests wait for a signature, and room for others between two of them.
//!
//! A request for a token is work from end to end: once its body is there it waits for nothing, so a limit on how many are
//! under way would never be met, and those that are ready would be served one after the other before anything else. Here
//! they queue instead, and one comes behind whatever else was ready when its turn came.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::authorization_server::error::{Fault, TokenError};

#[derive(Debug)]
pub(in crate::authorization_server) struct Turns {
    /// One for each that is served, and one for each that waits.
    places: Semaphore,
    served: Semaphore,
}

/// A place in the queue.
#[must_use]
pub(super) struct Place<'a> {
    turns: &'a Turns,
    _permit: SemaphorePermit<'a>,
}

impl Turns {
    pub(in crate::authorization_server) fn new(at_once: usize, waiting: usize) -> Self {
        let places = at_once.saturating_add(waiting).min(Semaphore::MAX_PERMITS);
        Self { places: Semaphore::new(places), served: Semaphore::new(at_once.min(places)) }
    }

    /// A place, or the refusal of who finds none: quick, since nothing was read yet.
    pub(super) fn queue(&self) -> Result<Place<'_>, TokenError> {
        let full = |_| TokenError::new(Fault::UNAVAILABLE).detailed("too many requests wait for a token");
        Ok(Place { turns: self, _permit: self.places.try_acquire().map_err(full)? })
    }
}

impl Place<'_> {
    /// Waits for its turn, which ends when the permit is dropped.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, TokenError> {
        let turn = self.turns.served.acquire().await.map_err(TokenError::unavailable)?;
        tokio::task::yield_now().await;
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::Turns;

    #[tokio::test]
    async fn who_finds_the_queue_full_is_refused_and_whoever_leaves_makes_room() {
        let turns = Turns::new(1, 2);
        let mut places: Vec<_> = (0..3).map(|_| turns.queue().ok().unwrap()).collect();
        assert_eq!(turns.queue().err().unwrap().status(), http::StatusCode::SERVICE_UNAVAILABLE);
        places.pop();
        assert!(turns.queue().is_ok());
    }

    #[tokio::test]
    async fn between_two_that_wait_comes_what_else_is_ready() {
        let (turns, done) = (Rc::new(Turns::new(1, 100)), Rc::new(RefCell::new(Vec::new())));
        let tasks = tokio::task::LocalSet::new();
        for number in 0..100 {
            let (turns, done) = (turns.clone(), done.clone());
            tasks.spawn_local(async move {
                let place = turns.queue().ok().unwrap();
                let _turn = place.turn().await.unwrap();
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
    }
}
