//! The refresh of the keys in the background, and the fetch that it shares with the requests that need one.

use std::sync::{Arc, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::alarm::{Woken, woken};
use super::fetches::{Due, Fetches, Source};
use super::remote_keys::{Current, Shared};
use super::source::Fetched;
use crate::clock::Moment;
use crate::keys::KeySet;
use crate::metrics;
use crate::transport::fetch::{FetchError, SharedCaches};

/// The maximum sleep of the refresh task, since the clock may be set meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// Fetches the keys whenever they are due, until the last handle is dropped.
pub(super) async fn keep_fresh(shared: Weak<Shared>, mut changes: Option<watch::Receiver<()>>) {
    let Some(mut finished) = shared.upgrade().map(|shared| shared.finished.subscribe()) else { return };
    let mut has_changed = false;
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let nap = strong.start_if_due(&mut has_changed);
        drop(strong);
        match timeout(nap, woken(&mut finished, &mut changes)).await {
            Ok(Woken::Dropped) => return,
            Ok(Woken::Changed) => has_changed = true,
            Ok(Woken::Finished) | Err(_) => {}
        }
    }
}

impl Shared {
    /// Starts a fetch if one is due, and returns how long to sleep. One that is due because of a change waits for the fetch in
    /// flight, which may have begun before the change.
    fn start_if_due(self: &Arc<Self>, has_changed: &mut bool) -> Duration {
        let now = self.now();
        let fetches = self.fetches();
        if fetches.is_in_flight() {
            return LONGEST_NAP;
        }
        if let Some(time) = self.policy.refreshed_after_use
            && !(self.has_keys(now) && fetches.used_at.is_some_and(|at| now.since(at) < time))
        {
            return LONGEST_NAP;
        }
        let next = if self.has_keys(now) { fetches.next } else { fetches.next_without_keys() };
        if let Some(left) = next.left(now).filter(|_| !*has_changed) {
            return left.min(LONGEST_NAP);
        }
        *has_changed = false;
        self.start(fetches, Source::Schedule, now);
        LONGEST_NAP
    }

    /// Starts a fetch. It continues if the request that caused it is dropped, since others may wait for it.
    pub(super) fn start(self: &Arc<Self>, mut fetches: MutexGuard<'_, Fetches>, source: Source, now: Moment) {
        let number = fetches.start(source, now);
        // A runtime that shuts down drops a new task immediately, and the dropped fetch takes the lock.
        drop(fetches);
        let caches = if self.policy.revalidate_first && self.current.load().is_none() {
            SharedCaches::MustRevalidate
        } else {
            source.shared_caches()
        };
        tokio::spawn(fetch(InFlight { shared: self.clone(), number, outcome: None }, caches));
    }

    fn finish(&self, number: u64, outcome: Option<(Result<Fetched, FetchError>, Moment)>) {
        if let Some((outcome, started_at)) = &outcome {
            self.report(outcome, *started_at);
        }
        let from = self.now();
        let mut fetches = self.fetches();
        match outcome {
            Some((Ok(Fetched { keys, caching }), started_at)) => {
                if self.replace(keys, started_at) {
                    fetches.unknown.forget_all();
                }
                let after = self.policy.next_after_success(caching, &*self.random);
                fetches.succeed(number, started_at, Due { from, after });
            }
            Some((Err(error), _)) => {
                #[cfg(feature = "workload_api")]
                if error.is_withdrawn() {
                    self.current.store(None);
                    fetches.unknown.forget_all();
                }
                fetches.failures = fetches.failures.saturating_add(1);
                let after = self.policy.next_after_failure(fetches.failures, &*self.random);
                fetches.fail(Arc::new(error), Due { from, after });
            }
            None => {}
        }
        fetches.finish(number);
        // Under the same lock, so that a request that waits for the next fetch is not woken here.
        self.finished.send_modify(|finished| *finished = finished.wrapping_add(1));
    }

    fn report(&self, outcome: &Result<Fetched, FetchError>, started_at: Moment) {
        let place = &self.source.place;
        match outcome {
            Ok(_) => metrics::keys_fetched(&place.label(), started_at.wall),
            Err(error) => {
                metrics::keys_not_fetched(&place.label());
                tracing::warn!(%error, source = %place, "cannot fetch the keys of an issuer");
            }
        }
    }

    /// Stores the fetched set, or keeps the former one if nothing changed. Returns whether the set changed.
    fn replace(&self, keys: Option<KeySet>, since: Moment) -> bool {
        let former = self.current.load().as_ref().map(|current| current.keys.clone());
        let others = keys.filter(|keys| former.as_ref() != Some(keys));
        let is_another = others.is_some();
        self.current.store(others.or(former).map(|keys| Arc::new(Current { keys, since })));
        is_another
    }
}

/// A fetch in progress. Dropping it finishes it, even if the runtime shuts down.
struct InFlight {
    shared: Arc<Shared>,
    number: u64,
    outcome: Option<(Result<Fetched, FetchError>, Moment)>,
}

async fn fetch(mut in_flight: InFlight, caches: SharedCaches) {
    let now = in_flight.shared.now();
    let outcome = in_flight.shared.source.fetch(caches, now).await;
    in_flight.outcome = Some((outcome, now));
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.finish(self.number, self.outcome.take());
    }
}
