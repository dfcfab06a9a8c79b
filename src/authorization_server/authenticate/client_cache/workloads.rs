//! The look-up of the clients of a workload, which is only made for a token whose signature was verified.
//!
//! 1. One client is cached as long as a client that was found, and any other answer as long as an unknown id.
//! 2. A refusal uses an answer that is no older than the shorter of the two. So a workload that moved to another client is accepted
//!    within that time.
//! 3. Each change of a client that the feed reports outdates all answers, since it may change any of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Now;
use super::limits::ClientCacheLimits;
use super::look_up::Unanswered;
use super::{ClientCache, Kept};
use crate::client_id::ClientId;
use crate::deadline;
use crate::registration::WorkloadKey;
use crate::sync::{BoundedMap, Finish, InFlight};

/// The ids of the clients of a workload. `None` if the store has no index of workloads.
pub(crate) type WorkloadClients = Option<Arc<[ClientId]>>;

type Asked = Result<WorkloadClients, Unanswered>;

/// An answer about a workload.
pub(crate) struct WorkloadAnswer {
    pub(crate) clients: WorkloadClients,
    /// Whether it may be too old for a refusal. Use [`ClientCache::find_workload_lately`].
    pub(crate) is_stale: bool,
}

/// The cached answers, by the first key of the workload.
pub(super) struct KeptWorkloads(Mutex<State>);

struct State {
    answers: BoundedMap<WorkloadKey, Entry>,
    in_flight: HashMap<WorkloadKey, Flight>,
    /// How many changes of clients were reported.
    changes: u64,
}

struct Entry {
    clients: WorkloadClients,
    /// When the store was asked, before it answered.
    asked_at: SystemTime,
    changes: u64,
}

#[derive(Clone)]
struct Flight {
    result: InFlight<Asked>,
    changes: u64,
}

impl KeptWorkloads {
    pub(super) fn new(entries: usize) -> Self {
        Self(Mutex::new(State { answers: BoundedMap::new(entries), in_flight: HashMap::new(), changes: 0 }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().answers.len()
    }

    /// Outdates all answers.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        state.changes = state.changes.wrapping_add(1);
        state.in_flight.clear();
    }
}

impl State {
    fn look(
        &mut self,
        key: &WorkloadKey,
        for_refusal: bool,
        limits: ClientCacheLimits,
        now: Now,
    ) -> Option<WorkloadAnswer> {
        let changes = self.changes;
        let entry = self.answers.get(key).filter(|entry| entry.changes == changes)?;
        let is_recent = now.may_refuse(entry.asked_at, limits);
        let is_one = entry.clients.as_ref().is_some_and(|ids| ids.len() == 1);
        let may_accept =
            is_one && !now.is_older(entry.asked_at, limits.found) && !now.is_behind(now.as_of(entry.asked_at));
        let is_usable = is_recent || may_accept && !for_refusal;
        is_usable.then(|| WorkloadAnswer { clients: entry.clients.clone(), is_stale: !is_recent })
    }
}

impl ClientCache {
    /// Returns the clients of a workload, by the keys under which they may be. `keys` begins with the key that no other workload has.
    pub(crate) async fn find_workload(&self, keys: &[WorkloadKey]) -> Result<WorkloadAnswer, Unanswered> {
        self.find_workload_kept(keys, false).await
    }

    /// Returns the clients of a workload, from an answer that is recent enough for a refusal.
    pub(crate) async fn find_workload_lately(&self, keys: &[WorkloadKey]) -> Result<WorkloadClients, Unanswered> {
        Ok(self.find_workload_kept(keys, true).await?.clients)
    }

    async fn find_workload_kept(&self, keys: &[WorkloadKey], for_refusal: bool) -> Result<WorkloadAnswer, Unanswered> {
        let (Some(kept), Some(key)) = (&self.0.kept, keys.first()) else {
            return Ok(WorkloadAnswer { clients: self.ask_workload(keys).await?, is_stale: false });
        };
        let time = self.0.clock.now();
        // Read first, so that an answer that the feed outdated before this time is not used.
        let now = Now { time, told: self.0.told_until(time) };
        let (result, task) = {
            let mut state = kept.workloads.lock();
            if let Some(answer) = state.look(key, for_refusal, kept.limits, now) {
                return Ok(answer);
            }
            if let Some(flight) = state.in_flight.get(key) {
                (flight.result.clone(), None)
            } else {
                let (result, task) = self.start_workload(kept, &mut state, keys, *key)?;
                (result, Some(task))
            }
        };
        if let Some((runtime, task)) = task {
            // Not while the lock is held: a runtime that shuts down drops the task at once, which takes the lock.
            runtime.spawn(task.run());
        }
        let clients = result.result().await.unwrap_or(Err(Unanswered::BrokenOff))?;
        Ok(WorkloadAnswer { clients, is_stale: false })
    }

    /// Prepares a look-up on a task of its own, for all callers that want the same.
    fn start_workload(
        &self,
        kept: &Kept,
        state: &mut State,
        keys: &[WorkloadKey],
        key: WorkloadKey,
    ) -> Result<(InFlight<Asked>, (Handle, WorkloadTask)), Unanswered> {
        let permit = kept.in_flight.clone().try_acquire_owned().map_err(|_| Unanswered::Busy)?;
        let runtime = Handle::try_current().map_err(|_| Unanswered::BrokenOff)?;
        let (result, finish) = InFlight::start();
        let changes = state.changes;
        state.in_flight.insert(key, Flight { result: result.clone(), changes });
        let asked_at = self.0.clock.now();
        let (cache, keys) = (self.clone(), keys.into());
        let task = WorkloadTask { cache, key, keys, changes, asked_at, answer: None, finish, _permit: permit };
        Ok((result, (runtime, task)))
    }

    async fn ask_workload(&self, keys: &[WorkloadKey]) -> Asked {
        let asked = deadline::within(self.0.timeout, self.0.store.find_by_workload(keys)).await;
        let found = asked.map_err(Unanswered::Late)?.map_err(|error| Unanswered::Store(Arc::new(error)))?;
        Ok(found.map(|mut ids| {
            ids.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
            ids.dedup();
            ids.into()
        }))
    }
}

/// Ends a look-up, even if the store panics or the runtime shuts down.
struct WorkloadTask {
    cache: ClientCache,
    key: WorkloadKey,
    keys: Box<[WorkloadKey]>,
    changes: u64,
    asked_at: SystemTime,
    answer: Option<Asked>,
    finish: Finish<Asked>,
    _permit: OwnedSemaphorePermit,
}

impl WorkloadTask {
    async fn run(mut self) {
        self.answer = Some(self.cache.ask_workload(&self.keys).await);
        drop(self);
    }
}

impl Drop for WorkloadTask {
    fn drop(&mut self) {
        let Some(kept) = &self.cache.0.kept else { return };
        let mut state = kept.workloads.lock();
        if state.in_flight.get(&self.key).is_some_and(|flight| flight.changes == self.changes) {
            state.in_flight.remove(&self.key);
        }
        // Otherwise a client has changed since, and the answer may be outdated. It is still valid for callers that asked before.
        if state.changes == self.changes
            && let Some(Ok(clients)) = &self.answer
        {
            let entry = Entry { clients: clients.clone(), asked_at: self.asked_at, changes: self.changes };
            state.answers.insert(self.key, entry);
        }
        drop(state);
        if let Some(answer) = self.answer.take() {
            self.finish.finish(answer);
        }
    }
}
