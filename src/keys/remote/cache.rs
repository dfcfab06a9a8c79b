//! The mechanism that keeps keys: one fetch at a time, in the background; [`policy`](super::policy) says when.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, watch};
use tokio::time::{timeout, timeout_at};

use super::fetch::FetchError;
use super::policy::Policy;
use super::source::{Fetched, KeySource};
use super::unknown::UnknownKeyIds;
use crate::clock::{Clock, Moment};
use crate::deadline;
use crate::keys::{KeySet, NoKey, VerifyingKey};
use crate::metrics;
use crate::random::Random;

/// How many may wait for a fetch at once; each holds a request.
const MOST_WAITING: usize = 1_000;

/// The longest sleep of the task that keeps keys fresh: the clock may be set meanwhile.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// What whoever finds no place to wait is told.
const SOON: Duration = Duration::from_secs(1);

/// The keys of somebody else, kept fresh for as long as anybody holds them; a clone shares them.
#[derive(Clone)]
pub(crate) struct RemoteKeys(Arc<Shared>);

struct Shared {
    source: KeySource,
    policy: Policy,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    /// Every token that is shown looks here: to look locks nothing, and counts nothing that cores would share. Changed under
    /// the lock of `flight`.
    current: ArcSwapOption<Current>,
    flight: Mutex<Flight>,
    /// Counts the fetches that ended; whoever waits for one watches it.
    landed: watch::Sender<u64>,
    waiting: Semaphore,
}

struct Current {
    keys: KeySet,
    since: Moment,
}

/// What is known about fetches. There is one at a time.
struct Flight {
    in_the_air: bool,
    next: Due,
    failures: u32,
    error: Option<Arc<FetchError>>,
    /// When an unknown name had keys fetched last.
    for_unknown: Option<SystemTime>,
    unknown: UnknownKeyIds,
}

/// When something is to be done: so long after a time, by either of its clocks.
#[derive(Clone, Copy)]
struct Due {
    from: Moment,
    after: Duration,
}

impl Due {
    /// How long it is until then; `None` when it is time.
    fn left(self, now: Moment) -> Option<Duration> {
        self.after.checked_sub(now.since(self.from)).filter(|left| !left.is_zero())
    }
}

impl RemoteKeys {
    /// Nothing is fetched before somebody asks or [`keep_fresh`](Self::keep_fresh) runs.
    pub(crate) fn new(source: KeySource, policy: Policy, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let flight = Flight {
            in_the_air: false,
            next: Due { from: Moment::now(&*clock), after: Duration::ZERO },
            failures: 0,
            error: None,
            for_unknown: None,
            unknown: UnknownKeyIds::default(),
        };
        Self(Arc::new(Shared {
            source,
            policy,
            clock,
            random,
            current: ArcSwapOption::empty(),
            flight: Mutex::new(flight),
            landed: watch::Sender::new(0),
            waiting: Semaphore::new(MOST_WAITING),
        }))
    }

    /// The key of this name, by what is known now.
    pub(crate) fn find(&self, key_id: &str, alg: &str) -> Result<VerifyingKey, NoKey> {
        let now = self.0.now();
        match self.0.keys(now, |keys| keys.find(key_id, alg)) {
            None | Some(Err(NoKey::Unknown)) => self.0.find_again(key_id, alg, now),
            Some(found) => found,
        }
    }

    /// Whether this key is among them still.
    pub(crate) fn has(&self, key: &VerifyingKey) -> Result<bool, NoKey> {
        let now = self.0.now();
        self.0.keys(now, |keys| keys.has(key)).map_or_else(|| self.0.has_again(key, now), Ok)
    }

    /// Whether there are keys that may be used.
    pub(crate) fn are_there(&self) -> bool {
        self.0.has_keys(self.0.now())
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Waits for a fetch that may bring the key of this name; begins one where the policy lets it.
    pub(crate) async fn ask(&self, key_id: &str) -> Result<(), NoKey> {
        let Ok(_place) = self.0.waiting.try_acquire() else {
            return Err(NoKey::Unavailable { error: None, retry_after: SOON });
        };
        let mut landed = self.0.landed.subscribe();
        let is_ours = self.0.take_off_for(key_id);
        if is_ours.is_none() {
            return Ok(());
        }
        // The sender is ours: it is not gone.
        let _ = landed.changed().await;
        if is_ours == Some(true) {
            self.0.remember_if_unknown(key_id);
        }
        Ok(())
    }

    /// Fetches now, and again where that may help, until there are keys or the time is over.
    pub(crate) async fn connect(&self, patience: Duration) -> Result<(), Arc<FetchError>> {
        let end = deadline::after(patience);
        let mut landed = self.0.landed.subscribe();
        while !self.are_there() {
            let error = self.0.flight().error.clone();
            if let Some(error) = error.clone().filter(|error| !error.is_transient()) {
                return Err(error);
            }
            if timeout_at(end, landed.changed()).await.is_err() {
                return Err(error.unwrap_or_else(|| Arc::new(self.0.source.late(patience))));
            }
        }
        Ok(())
    }

    /// Waits until there are keys.
    pub(crate) async fn ready(&self) {
        let mut landed = self.0.landed.subscribe();
        while !self.are_there() {
            let _ = landed.changed().await;
        }
    }

    /// Begins a task that keeps the keys fresh until nobody holds them. Within a Tokio runtime.
    pub(crate) fn keep_fresh(&self) {
        tokio::spawn(keep_fresh(Arc::downgrade(&self.0)));
    }

    /// What [`find`](Self::find) does when its first look was too early.
    #[cfg(test)]
    pub(super) fn find_again(&self, key_id: &str, alg: &str) -> Result<VerifyingKey, NoKey> {
        self.0.find_again(key_id, alg, self.0.now())
    }

    /// What [`has`](Self::has) does when its first look was too early.
    #[cfg(test)]
    pub(super) fn has_again(&self, key: &VerifyingKey) -> Result<bool, NoKey> {
        self.0.has_again(key, self.0.now())
    }

    #[cfg(test)]
    pub(super) fn unknown_names(&self) -> usize {
        self.0.flight().unknown.len()
    }
}

async fn keep_fresh(shared: Weak<Shared>) {
    let Some(mut landed) = shared.upgrade().map(|shared| shared.landed.subscribe()) else { return };
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let nap = strong.take_off_if_due();
        drop(strong);
        // An error is that of a sender which is gone, and with it everybody who held the keys.
        if let Ok(Err(_)) = timeout(nap, landed.changed()).await {
            return;
        }
    }
}

impl Shared {
    /// What `ask` has to know of the keys, unless they are older than they may be.
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

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for a key that was not there, under the lock: keys that landed after the first look count, too.
    fn find_again(&self, key_id: &str, alg: &str, now: Moment) -> Result<VerifyingKey, NoKey> {
        let flight = self.flight();
        match self.keys(now, |keys| keys.find(key_id, alg)) {
            None => Err(flight.missing(now)),
            Some(Err(NoKey::Unknown)) => Err(flight.unknown(key_id, now, &self.policy)),
            Some(found) => found,
        }
    }

    /// Looks for keys where there were none, under the lock.
    fn has_again(&self, key: &VerifyingKey, now: Moment) -> Result<bool, NoKey> {
        let flight = self.flight();
        self.keys(now, |keys| keys.has(key)).ok_or_else(|| flight.missing(now))
    }

    /// Begins a fetch for a name that is not there, if the policy lets it. `None`: there is nothing to wait for;
    /// else whether the fetch is of the caller's making.
    fn take_off_for(self: &Arc<Self>, key_id: &str) -> Option<bool> {
        let now = self.now();
        let has_keys = self.has_keys(now);
        let mut flight = self.flight();
        if flight.in_the_air {
            return Some(false);
        }
        if !has_keys && flight.next.left(now).is_none() {
            self.take_off(flight);
            return Some(true);
        }
        let is_new = !flight.unknown.has(key_id, now.wall, self.policy.unknown_for);
        if has_keys && is_new && flight.is_cool(now.wall, self.policy.cooldown) {
            flight.for_unknown = Some(now.wall);
            self.take_off(flight);
            return Some(true);
        }
        None
    }

    /// Begins a fetch if one is due, and returns how long to sleep.
    fn take_off_if_due(self: &Arc<Self>) -> Duration {
        let now = self.now();
        let flight = self.flight();
        if flight.in_the_air {
            return LONGEST_NAP;
        }
        if let Some(left) = flight.next.left(now) {
            return left.min(LONGEST_NAP);
        }
        self.take_off(flight);
        LONGEST_NAP
    }

    /// The fetch goes on when whoever asked for it hangs up: others may wait for it, too.
    fn take_off(self: &Arc<Self>, mut flight: MutexGuard<'_, Flight>) {
        flight.in_the_air = true;
        // A runtime that ends drops what it is given at once, and then the flight lands here.
        drop(flight);
        tokio::spawn(fly(Landing { shared: self.clone(), outcome: None }));
    }

    fn land(&self, outcome: Result<Fetched, FetchError>, took_off: Moment) {
        let from = self.now();
        let mut flight = self.flight();
        match outcome {
            Ok(Fetched { keys, caching }) => {
                metrics::keys_fetched(&self.source.place.to_string(), took_off.wall);
                if self.replace(keys, took_off) {
                    flight.unknown.forget_all();
                }
                (flight.failures, flight.error) = (0, None);
                flight.next = Due { from, after: self.policy.next_after_success(caching, &*self.random) };
            }
            Err(error) => {
                metrics::keys_not_fetched(&self.source.place.to_string());
                tracing::warn!(%error, "the keys of an issuer could not be fetched");
                flight.failures = flight.failures.saturating_add(1);
                flight.next = Due { from, after: self.policy.next_after_failure(flight.failures, &*self.random) };
                flight.error = Some(Arc::new(error));
            }
        }
    }

    /// Keeps what was fetched, if anything new was, and says whether it is another set than before.
    fn replace(&self, keys: Option<KeySet>, since: Moment) -> bool {
        let former = self.current.load().as_ref().map(|current| current.keys.clone());
        let others = keys.filter(|keys| former.as_ref() != Some(keys));
        let is_another = others.is_some();
        self.current.store(others.or(former).map(|keys| Arc::new(Current { keys, since })));
        is_another
    }

    fn remember_if_unknown(&self, key_id: &str) {
        let now = self.now();
        let mut flight = self.flight();
        let is_there = self.keys(now, |keys| keys.names(key_id)) == Some(true);
        if !is_there && flight.failures == 0 {
            flight.unknown.remember(key_id, now.wall);
        }
    }
}

impl Flight {
    /// What to do about keys that are not there.
    fn missing(&self, now: Moment) -> NoKey {
        if self.in_the_air || self.next.left(now).is_none() { NoKey::NotAsked } else { self.unavailable(now) }
    }

    /// What to do about a name that is not among the keys.
    fn unknown(&self, key_id: &str, now: Moment, policy: &Policy) -> NoKey {
        if self.unknown.has(key_id, now.wall, policy.unknown_for) {
            return NoKey::Unknown;
        }
        if self.in_the_air || self.is_cool(now.wall, policy.cooldown) {
            return NoKey::NotAsked;
        }
        // Whoever cannot be asked may have published it meanwhile.
        if self.failures > 0 { self.unavailable(now) } else { NoKey::Unknown }
    }

    fn is_cool(&self, now: SystemTime, cooldown: Duration) -> bool {
        self.for_unknown.is_none_or(|last| now.duration_since(last).map_or(true, |since| since >= cooldown))
    }

    fn unavailable(&self, now: Moment) -> NoKey {
        let retry_after = self.next.left(now).unwrap_or(SOON);
        NoKey::Unavailable { error: self.error.clone(), retry_after }
    }
}

/// Lands the flight however it ends: also when the runtime that it ran on does.
struct Landing {
    shared: Arc<Shared>,
    outcome: Option<(Result<Fetched, FetchError>, Moment)>,
}

async fn fly(mut landing: Landing) {
    let now = landing.shared.now();
    let outcome = landing.shared.source.fetch(now).await;
    landing.outcome = Some((outcome, now));
}

impl Drop for Landing {
    fn drop(&mut self) {
        if let Some((outcome, took_off)) = self.outcome.take() {
            self.shared.land(outcome, took_off);
        }
        // Under one lock: who asks next must not be woken by this landing.
        let mut flight = self.shared.flight();
        flight.in_the_air = false;
        self.shared.landed.send_modify(|landed| *landed = landed.wrapping_add(1));
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").field("place", &self.0.source.place).finish_non_exhaustive()
    }
}
