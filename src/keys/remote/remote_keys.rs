//! [`RemoteKeys`]: a key set that is refreshed in the background, with one fetch at a time.
//!
//! [`fetch_policy`](super::fetch_policy) sets the times of regular fetches, [`fetches`](super::fetches) decides whether a request may
//! cause a fetch, and [`refresh`](super::refresh) fetches.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::fetch_policy::Policy;
use super::fetches::{Fetches, SOON, Source, Step, Ticket};
use super::refresh;
use super::source::KeySource;
use crate::clock::{Clock, Moment};
use crate::crypto::Random;
use crate::deadline::LONGEST_WAIT;
use crate::keys::{FoundKey, KeySet, NoKey};
use crate::metrics;
use crate::sync::lock;
use crate::transport::fetch::FetchError;

/// The maximum number of requests that wait for a fetch because of a key that is not in the set.
const MAX_WAITING: usize = 1_000;

/// The maximum number of additional requests that wait because of a failed signature. A separate limit, so that forged
/// tokens do not block tokens of a new key.
const MAX_WAITING_FOR_SIGNATURES: usize = 100;

/// The keys of a remote issuer, refreshed while any clone exists. Clones share them.
#[derive(Clone)]
pub(crate) struct RemoteKeys(Arc<Shared>);

pub(super) struct Shared {
    pub(super) source: KeySource,
    pub(super) policy: Policy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    /// Read for every token, without a lock or a shared counter. Changed under the lock of `fetches`.
    pub(super) current: ArcSwapOption<Current>,
    pub(super) fetches: Mutex<Fetches>,
    /// Counts finished fetches, and wakes the requests that wait for one.
    pub(super) finished: watch::Sender<u64>,
    pub(super) waiting: Semaphore,
    pub(super) waiting_for_signatures: Semaphore,
}

pub(super) struct Current {
    pub(super) keys: KeySet,
    pub(super) since: Moment,
}

/// The reason why a request needs a fetch.
#[derive(Clone, Copy)]
enum Question<'a> {
    /// A key with this name is not in the set.
    Name { key_id: &'a str, alg: &'a str },
    /// The name by which this key was found may mean another key now.
    Replacement(&'a FoundKey),
}

impl RemoteKeys {
    /// Creates an empty set. Nothing is fetched before [`keep_fresh`](Self::keep_fresh) runs or a request calls
    /// [`ask`](Self::ask).
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

    /// Returns the key with this name in the current set.
    pub(crate) fn find(&self, key_id: &str, alg: &str) -> Result<FoundKey, NoKey> {
        let now = self.0.now();
        match self.0.keys(now, |keys| keys.find(key_id, alg)) {
            None | Some(Err(NoKey::Unknown)) => self.0.find_again(key_id, alg, now),
            Some(found) => found,
        }
    }

    /// Returns whether the name by which this key was found still means this key.
    pub(crate) fn still_names(&self, found: &FoundKey) -> Result<bool, NoKey> {
        let now = self.0.now();
        self.0.keys(now, |keys| keys.still_names(found)).map_or_else(|| self.0.still_names_again(found, now), Ok)
    }

    /// Returns whether there are keys that may be used.
    pub(crate) fn are_there(&self) -> bool {
        self.0.has_keys(self.0.now())
    }

    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns how long a request that arrives now waits for keys: twice the timeout of a document, for the fetch in flight and
    /// for the one after it.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.0.source.limits.time.saturating_mul(2).min(LONGEST_WAIT)
    }

    /// Counts a 503 that callers can cause with random key names.
    pub(crate) fn count_too_early(&self) {
        metrics::unknown_key_unavailable(&self.0.source.place.label());
    }

    /// Waits for a set that was requested after this call, if the policy allows a fetch. `Ok` means that a key with this name
    /// may be available now.
    ///
    /// At the deadline it stops waiting; the fetch continues.
    pub(crate) async fn ask(&self, key_id: &str, alg: &str, deadline: Instant) -> Result<(), NoKey> {
        // Before a waiting slot is taken: the signature may be in question, and a flood of unknown names can take all slots.
        if let Some(Ok(_) | Err(NoKey::Algorithm(_))) = self.0.keys(self.0.now(), |keys| keys.find(key_id, alg)) {
            return Ok(());
        }
        let Ok(_place) = self.0.waiting.try_acquire() else {
            return Err(self.0.counted(self.0.without_wait()));
        };
        let answer = self.0.wait_for(Question::Name { key_id, alg }, deadline).await;
        answer.map_err(|no_key| self.0.counted(no_key))
    }

    /// Returns whether [`ask_for_replacement`](Self::ask_for_replacement) may change the key of this name, after a signature
    /// did not match it.
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
            // Errors are ignored: the caller looks at the keys again in any case.
            let _ = self.0.wait_for(Question::Replacement(found), deadline).await;
        }
    }

    /// Fetches now, and again if that may help, until there are keys or the time is over.
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

    /// Starts a task that refreshes the keys until the last clone is dropped. Must be called within a Tokio runtime.
    pub(crate) fn keep_fresh(&self) {
        tokio::spawn(refresh::keep_fresh(Arc::downgrade(&self.0), None));
    }

    /// Does what [`keep_fresh`](Self::keep_fresh) does, and also fetches the keys after each change that it is told of.
    pub(crate) fn follow(&self, changes: watch::Receiver<()>) {
        tokio::spawn(refresh::keep_fresh(Arc::downgrade(&self.0), Some(changes)));
    }

    /// Notes that a key of the set has verified a signature, so that the schedule keeps the set fresh; see
    /// [`Policy::refreshed_after_use`].
    pub(crate) fn used(&self) {
        let now = self.0.now();
        self.0.fetches().used_at = Some(now);
    }

    /// Fetches the set if a fetch is due that the schedule left to the requests, and waits for it until the deadline. If the fetch
    /// fails, the last set is used as long as the policy allows.
    pub(crate) async fn catch_up(&self, deadline: Instant) {
        let mut finished = self.0.finished.subscribe();
        {
            let now = self.0.now();
            let fetches = self.0.fetches();
            // Without keys, the request asks for one.
            if !self.0.has_keys(now) || fetches.next.left(now).is_some() {
                return;
            }
            if !fetches.is_in_flight() {
                self.0.start(fetches, Source::Schedule, now);
            }
        }
        let Ok(_place) = self.0.waiting.try_acquire() else { return };
        let _ = timeout_at(deadline, finished.changed()).await;
    }

    /// Does what [`find`](Self::find) does if its first lookup was too early.
    #[cfg(test)]
    pub(super) fn find_again(&self, key_id: &str, alg: &str) -> Result<FoundKey, NoKey> {
        self.0.find_again(key_id, alg, self.0.now())
    }

    /// Does what [`still_names`](Self::still_names) does if its first lookup was too early.
    #[cfg(test)]
    pub(super) fn still_names_again(&self, found: &FoundKey) -> Result<bool, NoKey> {
        self.0.still_names_again(found, self.0.now())
    }

    #[cfg(test)]
    pub(super) fn unknown_names(&self) -> usize {
        self.0.fetches().unknown.len()
    }
}

impl Shared {
    /// Returns the result of `ask` for the current set, or `None` if that is too old.
    fn keys<T>(&self, now: Moment, ask: impl FnOnce(&KeySet) -> T) -> Option<T> {
        let current = self.current.load();
        let young = current.as_ref().filter(|current| now.since(current.since) < self.policy.oldest);
        young.map(|current| ask(&current.keys))
    }

    pub(super) fn has_keys(&self, now: Moment) -> bool {
        self.keys(now, |_| ()).is_some()
    }

    pub(super) fn now(&self) -> Moment {
        Moment::now(&*self.clock)
    }

    pub(super) fn fetches(&self) -> MutexGuard<'_, Fetches> {
        lock(&self.fetches)
    }

    /// Looks for a missing key under the lock: keys that arrived after the first lookup count, too.
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

    /// Checks the name again under the lock, after there were no keys.
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
                // No future set can have it.
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
        // It terminates: the fetch in flight is followed by one that is later than the ticket, or by an answer.
        loop {
            if let Some(answer) = self.advance(question, ticket) {
                return answer;
            }
            // This value owns the sender, so it is not dropped.
            if timeout_at(deadline, finished.changed()).await.is_err() {
                return Err(self.without_wait());
            }
        }
    }

    /// Takes the next step towards an answer, or returns `None` if there is a fetch to wait for.
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

    /// Returns the error for a request that cannot wait, or has waited too long.
    fn without_wait(&self) -> NoKey {
        let (error, retry_after) = (self.fetches().error.clone(), SOON);
        if self.has_keys(self.now()) {
            NoKey::TooEarly { error, retry_after }
        } else {
            NoKey::Unavailable { error, retry_after }
        }
    }

    /// Counts the errors that callers can cause with random key names.
    fn counted(&self, no_key: NoKey) -> NoKey {
        if matches!(no_key, NoKey::TooEarly { .. }) {
            metrics::unknown_key_unavailable(&self.source.place.label());
        }
        no_key
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").field("place", &self.0.source.place).finish_non_exhaustive()
    }
}
