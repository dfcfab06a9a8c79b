//! Checks a presented secret against those of a client: digests immediately, slow hashes outside of the async threads.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::fair_queue::{Busy, Caller, FairQueue};
use super::{Fault, TokenError};
use crate::clock::Clock;
use crate::debug_fields::debug_fields;
use crate::secret::{Presented, StoredSecret};

/// Returns which of the digests among the stored secrets is that of the presented one. Every digest is compared, even
/// after a match, so that the time does not reveal which one matched.
pub(super) fn matching_digest<'a>(
    stored: impl Iterator<Item = (usize, &'a StoredSecret)>,
    presented: &Presented<'_>,
) -> Option<usize> {
    matching(stored.filter(|(_, secret)| !secret.is_slow()), presented)
}

fn matching<'a>(stored: impl Iterator<Item = (usize, &'a StoredSecret)>, presented: &Presented<'_>) -> Option<usize> {
    stored.fold(None, |found, (at, secret)| if secret.matches(presented) { Some(at) } else { found })
}

/// Checks chosen secrets, with a [fair queue](FairQueue).
#[derive(Debug)]
pub(crate) struct SlowChecks {
    queue: FairQueue,
    place: CheckPlace,
}

type Work = Box<dyn FnOnce() + Send>;

/// Runs the work of a check.
pub(crate) struct CheckPlace(Box<dyn Fn(Work) + Send + Sync>);

/// Receives the result of a slow check, even if the caller no longer waits for it.
pub(super) trait Verdict: Send + 'static {
    /// Returns whether this counts as a wrong secret.
    fn is_failure(&self, secret: Option<usize>) -> bool;

    /// Receives which of the secrets was presented, before the caller gets its answer. Returns whether slow work
    /// remains.
    fn found(&mut self, secret: Option<usize>) -> bool;

    /// Called after the caller got its answer, or hung up. If slow work remains, the turn is still held.
    fn answered(self, secret: Option<usize>, presented: &str, hung_up: bool);
}

impl SlowChecks {
    pub(crate) fn new(at_once: usize, queued: usize, place: CheckPlace, clock: Arc<dyn Clock>) -> Self {
        Self { queue: FairQueue::new(at_once, queued, clock), place }
    }

    /// Returns which of the client's stored secrets the presented one is. `caller` contains the client id.
    pub(super) async fn find(
        &self,
        caller: &Caller,
        stored: Vec<(usize, StoredSecret)>,
        presented: &str,
        mut verdict: impl Verdict,
    ) -> Result<Option<usize>, TokenError> {
        let unavailable = |why| TokenError::new(Fault::UNAVAILABLE).detailed(why);
        let busy = |_: Busy| unavailable("the queue for checks of chosen secrets is full; see .slow_checks(…)");
        let turn = self.queue.turn(caller).await.map_err(busy)?;
        let presented = Zeroizing::new(presented.to_owned());
        let (sender, answer) = oneshot::channel();
        let runtime = Handle::current();
        // The turn is held until the work ends: a caller that hangs up must not make room for more work.
        self.place.0(Box::new(move || {
            let _runtime = runtime.enter();
            let found = matching(stored.iter().map(|(at, secret)| (*at, secret)), &Presented::new(&presented));
            if verdict.is_failure(found) {
                turn.refuse();
            }
            let _turn = verdict.found(found).then_some(turn);
            let hung_up = sender.send(found).is_err();
            verdict.answered(found, &presented, hung_up);
        }));
        answer.await.map_err(|_| unavailable("the check of a chosen secret was dropped, or panicked"))
    }
}

impl CheckPlace {
    #[cfg(feature = "argon2")]
    pub(crate) fn new(run: impl Fn(Work) + Send + Sync + 'static) -> Self {
        Self(Box::new(run))
    }
}

/// Runs the work on a blocking thread of the runtime that serves the request.
impl Default for CheckPlace {
    fn default() -> Self {
        Self(Box::new(|work| drop(tokio::task::spawn_blocking(work))))
    }
}

debug_fields!(CheckPlace {});
