//! Whether a presented secret is one of a client's: at once for digests, off the async threads for slow hashes.

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::fair_queue::{Busy, Caller, FairQueue};
use super::{Fault, TokenError};
use crate::clock::Clock;
use crate::secret::{Presented, StoredSecret};

/// Which of the digests among the stored secrets is that of the presented one. Every one is tried, whichever matches, so
/// that time tells nothing about which it was.
pub(super) fn matching_digest<'a>(
    stored: impl Iterator<Item = (usize, &'a StoredSecret)>,
    presented: &Presented<'_>,
) -> Option<usize> {
    matching(stored.filter(|(_, secret)| !secret.is_slow()), presented)
}

fn matching<'a>(stored: impl Iterator<Item = (usize, &'a StoredSecret)>, presented: &Presented<'_>) -> Option<usize> {
    stored.fold(None, |found, (at, secret)| if secret.matches(presented) { Some(at) } else { found })
}

/// Checks secrets that people chose, in a [fair queue](FairQueue).
#[derive(Debug)]
pub(in crate::authorization_server) struct SlowChecks {
    queue: FairQueue,
    place: CheckPlace,
}

type Work = Box<dyn FnOnce() + Send>;

/// Where the work of a check is done.
pub(in crate::authorization_server) struct CheckPlace(Box<dyn Fn(Work) + Send + Sync>);

/// What a slow check comes to; told wherever it ends, also when nobody waits for it any more.
pub(super) trait Verdict: Send + 'static {
    /// Returns whether this counts as a wrong secret.
    fn is_failure(&self, secret: Option<usize>) -> bool;

    /// Which of the secrets was shown, before the caller is answered. Returns whether there is slow work left to do.
    fn found(&mut self, secret: Option<usize>) -> bool;

    /// The caller had its answer, or had hung up. If there was slow work left to do, this is still its turn.
    fn answered(self, secret: Option<usize>, presented: &str, hung_up: bool);
}

impl SlowChecks {
    pub(in crate::authorization_server) fn new(
        at_once: usize,
        queued: usize,
        place: CheckPlace,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { queue: FairQueue::new(at_once, queued, clock), place }
    }

    /// Which of the stored secrets of that client the presented one is. `caller` has its id.
    pub(super) async fn find(
        &self,
        caller: &Caller,
        stored: Vec<(usize, StoredSecret)>,
        presented: &str,
        mut verdict: impl Verdict,
    ) -> Result<Option<usize>, TokenError> {
        let unavailable = |why| TokenError::new(Fault::UNAVAILABLE).detailed(why);
        let busy = |_: Busy| unavailable("too many chosen secrets are being checked");
        let turn = self.queue.turn(caller).await.map_err(busy)?;
        let presented = Zeroizing::new(presented.to_owned());
        let (sender, answer) = oneshot::channel();
        let runtime = Handle::current();
        // The turn goes with the work: a caller who hangs up does not make room for more of it.
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
        answer.await.map_err(|_| unavailable("the check of a chosen secret was dropped, or failed"))
    }
}

impl CheckPlace {
    #[cfg(feature = "argon2")]
    pub(in crate::authorization_server) fn new(run: impl Fn(Work) + Send + Sync + 'static) -> Self {
        Self(Box::new(run))
    }
}

/// A thread for work that blocks, of the runtime that serves the request.
impl Default for CheckPlace {
    fn default() -> Self {
        Self(Box::new(|work| drop(tokio::task::spawn_blocking(work))))
    }
}

impl fmt::Debug for CheckPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckPlace").finish_non_exhaustive()
    }
}
