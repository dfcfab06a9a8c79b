//! [`RemoteKeys`]: a key set that is kept fresh in the background, with one fetch at a time.
//!
//! [`policy`](super::policy) says when a set is fetched regularly; [`fetches`](super::fetches) decides when a request may
//! cause a fetch. This is the mechanism.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::fetches::{Due, Fetches, SOON, Source, Step, Ticket};
use super::policy::Policy;
use super::source::{Fetched, KeySource};
use crate::clock::{Clock, Moment};
use crate::crypto::Random;
use crate::deadline::LONGEST_WAIT;
use crate::keys::{FoundKey, KeySet, NoKey};
use crate::metrics;
use crate::transport::fetch::{FetchError, SharedCaches};

/// How many requests may wait for a fetch at once, for a key that is not in the set.
const MAX_WAITING: usize = 1_000;

/// How many more may wait because a signature failed. They have places of their own, so that forged tokens take none from
/// tokens of a new key.
const MAX_WAITING_FOR_SIGNATURES: usize = 100;

/// The longest sleep of the task that keeps keys fresh: the clock may be set meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// The keys of an issuer elsewhere, kept fresh for as long as there is a clone of this; a clone shares them.
#[derive(Clone)]
pub(crate) struct RemoteKeys(Arc<Shared>);

struct Shared {
    source: KeySource,
    policy: Policy,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Read for every token: a look locks nothing, and counts nothing that cores would share. Changed under the lock of
    /// `fetches`.
    current: ArcSwapOption<Current>,
    fetches: Mutex<Fetches>,
    /// Counts the fetches that ended, and wakes the requests that wait for one.
    finished: watch::Sender<u64>,
    waiting: Semaphore,
    waiting_for_signatures: Semaphore,
}

struct Current {
    keys: KeySet,
    since: Moment,
}

/// What a request needs a fetch for.
#[derive(Clone, Copy)]
enum Question<'a> {
    /// Which key this is.
    Name { key_id: &'a str, alg: &'a str },
    /// Whether the name that this key was found by means another key by now.
    Replacement(&'a FoundKey),
}

impl RemoteKeys {
    /// Creates an empty set. Nothing is fetched before a request asks or [`keep_fresh`](Self::keep_fresh) runs.
    pub(crate) fn new(source: KeySource, policy: Policy, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let fetches = Fetches::new(&policy, Moment::now(&*clock));
        Self(Arc::new(Shared {
            source,
            policy,
            clock,
            random,
            current: ArcSwapOption::empty(),
            fetches: Mutex::new(fetches),
            finished: watch::Sender::new(0),
            waiting: Semaphore::new(MAX_WAITING),
            waiting_for_signatures: Semaphore::new(MAX_WAITING_FOR_SIGNATURES),
        }))
    }

    /// Returns the key of this name, by the set that is here now.
    pub(crate) fn find(&self, key_id: &str, alg: &str) -> Result<FoundKey, NoKey> {
        let now = self.0.now();
        match self.0.keys(now, |keys| keys.find(key_id, alg)) {
            None | Some(Err(NoKey::Unknown)) => self.0.find_again(key_id, alg, now),
            Some(found) => found,
        }
    }

    /// Returns whether the name that this key was found by still means this key.
    pub(crate) fn still_names(&self, found: &FoundKey) -> Result<bool, NoKey> {
        let now = self.0.now();
        self.0.keys(now, |keys| keys.still_names(found)).map_or_else(|| self.0.still_names_again(found, now), Ok)
    }

    /// Returns whether there are keys that may be used.
    pub(crate) fn are_there(&self) -> bool {
        self.0.has_keys(self.0.now())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns until when a request that comes now waits for keys: as long as two documents may take, for the fetch in flight
    /// and for the one that follows it.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.source.limits.time.saturating_mul(2).min(LONGEST_WAIT)
    }

    /// Counts an answer that a stranger can cause by naming keys at random.
    pub(crate) fn count_too_early(&self) {
        metrics::unknown_key_unavailable(&self.0.source.place.to_string());
    }

    /// Waits for a set that was requested after this call, if the policy allows a fetch. `Ok` if a key of this name may be
    /// here now.
    ///
    /// At the deadline it stops waiting, and the fetch continues.
    pub(crate) async fn ask(&self, key_id: &str, alg: &str, deadline: Instant) -> Result<(), NoKey> {
        // It takes no place: it may be a signature that is in question, and a flood of unknown names takes them all.
        if let Some(Ok(_) | Err(NoKey::Algorithm(_))) = self.0.keys(self.0.now(), |keys| keys.find(key_id, alg)) {
            return Ok(());
        }
        let Ok(_place) = self.0.waiting.try_acquire() else {
            return Err(self.0.counted(self.0.without_wait()));
        };
        let answer = self.0.wait_for(Question::Name { key_id, alg }, deadline).await;
        answer.map_err(|no_key| self.0.counted(no_key))
    }

    /// Returns whether [`ask_for_replacement`](Self::ask_for_replacement) may change what a name means: for a signature
    /// that is not this key's.
    pub(crate) fn may_be_replaced(&self, found: &FoundKey) -> bool {
        let now = self.0.now();
        let mut fetches = self.0.fetches();
        let ticket = fetches.ticket();
        match self.0.decide(Question::Replacement(found), &mut fetches, ticket, now) {
            Step::Wait | Step::Fetch(_) => true,
            Step::Stop(_) => self.0.keys(now, |keys| keys.still_names(found)) != Some(true),
        }
    }

    /// Waits for a set that was requested after this call, if the policy allows a fetch, until the deadline.
    pub(crate) async fn ask_for_replacement(&self, found: &FoundKey, deadline: Instant) {
        if let Ok(_place) = self.0.waiting_for_signatures.try_acquire() {
            // It has no errors of its own: the caller looks at the keys again in any case.
            let _ = self.0.wait_for(Question::Replacement(found), deadline).await;
        }
    }

    /// Fetches now, and again where that may help, until there are keys or the time is over.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<(), Arc<FetchError>> {
        let connected = async {
            let mut finished = self.0.finished.subscribe();
            while !self.are_there() {
                if let Some(error) = self.0.fetches().error.clone().filter(|error| !error.is_transient()) {
                    return Err(error);
                }
                let _ = finished.changed().await;
            }
            Ok(())
        };
        timeout(patience, connected).await.unwrap_or_else(|_| {
            let error = self.0.fetches().error.clone();
            Err(error.unwrap_or_else(|| Arc::new(self.0.source.late(patience))))
        })
    }

    /// Waits until there are keys.
    pub(crate) async fn ready(&self) {
        let mut finished = self.0.finished.subscribe();
        while !self.are_there() {
            let _ = finished.changed().await;
        }
    }

    /// Starts a task that keeps the keys fresh until the last clone is dropped. Call it within a Tokio runtime.
    pub(crate) fn keep_fresh(&self) {
        tokio::spawn(keep_fresh(Arc::downgrade(&self.0)));
    }

    /// Does what [`find`](Self::find) does when its first look was too early.
    #[cfg(test)]
    pub(super) fn find_again(&self, key_id: &str, alg: &str) -> Result<FoundKey, NoKey> {
        self.0.find_again(key_id, alg, self.0.now())
    }

    /// Does what [`still_names`](Self::still_names) does when its first look was too early.
    #[cfg(test)]
    pub(super) fn still_names_again(&self, found: &FoundKey) -> Result<bool, NoKey> {
        self.0.still_names_again(found, self.0.now())
    }

    #[cfg(test)]
    pub(super) fn unknown_names(&self) -> usize {
        self.0.fetches().unknown.len()
    }
}

async fn keep_fresh(shared: Weak<Shared>) {
    let Some(mut finished) = shared.upgrade().map(|shared| shared.finished.subscribe()) else { return };
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let nap = strong.start_if_due();
        drop(strong);
        // An error means that the sender was dropped, and with it the keys.
        if let Ok(Err(_)) = timeout(nap, finished.changed()).await {
            return;
        }
    }
}

impl Shared {
    /// Returns what `ask` learns from the set, unless that is older than it may be.
    fn keys<T>(&self, now: Moment, ask: impl FnOnce(&KeySet) -> T) -> Option<T> {
        let current = self.current.load();
        let young = current.as_ref().filter(|current| now.since(current.since) < self.policy.oldest);
        young.map(|current| ask(&current.keys))
    }

    fn has_keys(&self, now: Moment) -> bool {
        self.keys(now, |_| ()).is_some()
    }

    fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    fn fetches(&self) -> MutexGuard<'_, Fetches> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a key that was not there, under the lock: keys that came after the first look count, too.
    fn find_again(&self, key_id: &str, alg: &str, now: Moment) -> Result<FoundKey, NoKey> {
        let mut fetches = self.fetches();
        let ticket = fetches.ticket();
        match self.decide(Question::Name { key_id, alg }, &mut fetches, ticket, now) {
            // The set does not change under the lock.
            Step::Stop(Ok(())) => self.keys(now, |keys| keys.find(key_id, alg)).unwrap_or(Err(NoKey::NotAsked)),
            Step::Stop(Err(no_key)) => Err(self.counted(no_key)),
            Step::Wait | Step::Fetch(_) => Err(NoKey::NotAsked),
        }
    }

    /// Looks for keys where there were none, under the lock.
    fn still_names_again(&self, found: &FoundKey, now: Moment) -> Result<bool, NoKey> {
        let fetches = self.fetches();
        self.keys(now, |keys| keys.still_names(found)).ok_or_else(|| {
            match fetches.without_keys(fetches.ticket(), now) {
                Step::Stop(Err(no_key)) => no_key,
                Step::Stop(Ok(())) | Step::Wait | Step::Fetch(_) => NoKey::NotAsked,
            }
        })
    }

    fn decide(&self, question: Question<'_>, fetches: &mut Fetches, ticket: Ticket, now: Moment) -> Step {
        match question {
            Question::Name { key_id, alg } => match self.keys(now, |keys| keys.find(key_id, alg)) {
                // No set that could come has it.
                None | Some(Err(NoKey::Unknown)) if !self.source.has_algorithm(alg) => {
                    Step::Stop(Err(NoKey::Algorithm(None)))
                }
                None => fetches.without_keys(ticket, now),
                Some(Err(NoKey::Unknown)) => fetches.for_name(key_id, alg, ticket, now, &self.policy),
                Some(_) => Step::Stop(Ok(())),
            },
            Question::Replacement(found) => match self.keys(now, |keys| keys.still_names(found)) {
                Some(true) => fetches.for_signature(ticket, now),
                Some(false) | None => Step::Stop(Ok(())),
            },
        }
    }

    async fn wait_for(self: &Arc<Self>, question: Question<'_>, deadline: Instant) -> Result<(), NoKey> {
        let mut finished = self.finished.subscribe();
        let ticket = self.fetches().ticket();
        // It ends: the first fetch that was in flight is followed by one that is later than the ticket, or by an answer.
        loop {
            if let Some(answer) = self.advance(question, ticket) {
                return answer;
            }
            // The sender is ours, so it is not dropped.
            if timeout_at(deadline, finished.changed()).await.is_err() {
                return Err(self.without_wait());
            }
        }
    }

    /// Takes the next step towards an answer; `None` if there is a fetch to wait for.
    fn advance(self: &Arc<Self>, question: Question<'_>, ticket: Ticket) -> Option<Result<(), NoKey>> {
        let now = self.now();
        let mut fetches = self.fetches();
        match self.decide(question, &mut fetches, ticket, now) {
            Step::Stop(answer) => return Some(answer),
            Step::Wait => {}
            Step::Fetch(source) => self.start(fetches, source, now),
        }
        None
    }

    /// Starts a fetch if one is due, and returns how long to sleep.
    fn start_if_due(self: &Arc<Self>) -> Duration {
        let now = self.now();
        let fetches = self.fetches();
        if fetches.is_in_flight() {
            return LONGEST_NAP;
        }
        let next = if self.has_keys(now) { fetches.next } else { fetches.next_without_keys() };
        if let Some(left) = next.left(now) {
            return left.min(LONGEST_NAP);
        }
        self.start(fetches, Source::Schedule, now);
        LONGEST_NAP
    }

    /// The fetch continues when the request that caused it is dropped: others may wait for it, too.
    fn start(self: &Arc<Self>, mut fetches: MutexGuard<'_, Fetches>, source: Source, now: Moment) {
        let number = fetches.start(source, now);
        // A runtime that ends drops a new task at once, and with it the fetch, which then takes the lock.
        drop(fetches);
        tokio::spawn(fetch(InFlight { shared: self.clone(), number, outcome: None }, source.shared_caches()));
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
                fetches.failures = fetches.failures.saturating_add(1);
                let after = self.policy.next_after_failure(fetches.failures, &*self.random);
                fetches.fail(Arc::new(error), Due { from, after });
            }
            None => {}
        }
        fetches.finish(number);
        // Under the same lock: a request that waits for the next fetch is not woken here.
        self.finished.send_modify(|finished| *finished = finished.wrapping_add(1));
    }

    fn report(&self, outcome: &Result<Fetched, FetchError>, started_at: Moment) {
        let place = self.source.place.to_string();
        match outcome {
            Ok(_) => metrics::keys_fetched(&place, started_at.wall),
            Err(error) => {
                metrics::keys_not_fetched(&place);
                tracing::warn!(%error, source = place, "the keys of an issuer could not be fetched");
            }
        }
    }

    /// Keeps the set that was fetched, or the former one if nothing changed, and returns whether the set is another one.
    fn replace(&self, keys: Option<KeySet>, since: Moment) -> bool {
        let former = self.current.load().as_ref().map(|current| current.keys.clone());
        let others = keys.filter(|keys| former.as_ref() != Some(keys));
        let is_another = others.is_some();
        self.current.store(others.or(former).map(|keys| Arc::new(Current { keys, since })));
        is_another
    }

    /// Returns the error for a request that finds no place to wait, or waited for too long.
    fn without_wait(&self) -> NoKey {
        let (error, retry_after) = (self.fetches().error.clone(), SOON);
        if self.has_keys(self.now()) {
            NoKey::TooEarly { error, retry_after }
        } else {
            NoKey::Unavailable { error, retry_after }
        }
    }

    /// Counts the answers that a stranger can cause by naming keys at random.
    fn counted(&self, no_key: NoKey) -> NoKey {
        if matches!(no_key, NoKey::TooEarly { .. }) {
            metrics::unknown_key_unavailable(&self.source.place.to_string());
        }
        no_key
    }
}

/// A fetch that has started. It is finished when this is dropped: also when the runtime that it ran on ends.
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

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").field("place", &self.0.source.place).finish_non_exhaustive()
    }
}
