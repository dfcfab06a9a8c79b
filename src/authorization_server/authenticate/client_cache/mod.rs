//! [`ClientCache`]: caches the answers of a client store for a short time, with one look-up for concurrent callers.
//!
//! 1. A client that was found is cached for one duration, and an unknown id for a shorter one. Both use the injected
//!    clock, and start when the store is asked.
//! 2. A refusal uses an answer no older than the shorter duration, so a new secret is accepted within that time. The
//!    answer must have been fetched for a refusal: an answer that was fetched when the client was accepted does not
//!    count. So the time of a refusal does not reveal whether an id is in use or unknown: both cost one look-up in that
//!    duration.
//! 3. An error is returned to all waiting callers, and never cached.
//! 4. With revocations, a client is cached for no longer than the feed may lag. So a disabled client gets no token that
//!    its revocation does not cover, even if the feed is cut off.
//! 5. Outsiders choose the unknown ids. These have a capacity of their own, so a flood of them evicts no client.

mod answer;
mod entries;
mod limits;
mod look_up;
#[cfg(test)]
mod tests;
mod workloads;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;

use self::answer::Now;
pub(crate) use self::answer::{Answer, Basis};
use self::entries::{Kept, Shard};
pub use self::limits::ClientCacheLimits;
pub(crate) use self::look_up::Unanswered;
use self::look_up::{LookUp, LookUpTask, Started};
pub(crate) use self::workloads::WorkloadClients;
use crate::client_id::ClientId;
use crate::clock::Clock;
use crate::deadline;
use crate::debug_fields::debug_fields;
use crate::registration::RegisteredClient;
use crate::revocation::Revocations;
use crate::store::ClientStore;
use crate::sync::InFlight;

type Known = Option<Arc<RegisteredClient>>;

/// The client store with a cache, for client authentication. A clone shares the cache.
#[derive(Clone, Debug)]
pub(crate) struct ClientCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn ClientStore>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Their feed reports each client that changed.
    revocations: Option<Revocations>,
    /// `None` if nothing is cached.
    kept: Option<Kept>,
    /// `None` if the store is in memory, and checks its clients at each change.
    on_read: Option<OnRead>,
}

/// A function that is called with each client that was read from the store.
pub(crate) struct OnRead(Box<dyn Fn(&RegisteredClient) + Send + Sync>);

impl OnRead {
    pub(crate) fn new(call: impl Fn(&RegisteredClient) + Send + Sync + 'static) -> Self {
        Self(Box::new(call))
    }
}

debug_fields!(OnRead {});

impl ClientCache {
    /// Creates the cache. `timeout` limits each call to the store. Each client that the feed of `revocations` reports
    /// is removed. `on_read` is called for each client that is read from a store which is not in memory.
    pub(crate) fn new(
        store: Arc<dyn ClientStore>,
        limits: Option<ClientCacheLimits>,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        revocations: Option<Revocations>,
        on_read: Option<OnRead>,
    ) -> Self {
        let is_elsewhere = store.in_memory().is_none();
        let kept = limits.filter(|_| is_elsewhere).map(Kept::new);
        let on_read = on_read.filter(|_| is_elsewhere);
        let cache = Self(Arc::new(Inner { store, timeout, clock, revocations, kept, on_read }));
        cache.listen();
        cache
    }

    /// Returns the client with this id.
    pub(crate) async fn find(&self, id: &ClientId) -> Result<Answer, Unanswered> {
        match &self.0.kept {
            Some(kept) => self.find_kept(kept, id, false).await,
            None => self.ask(id).await,
        }
    }

    /// Returns the client with this id, from an answer that is recent enough for a refusal.
    pub(crate) async fn find_lately(&self, id: &ClientId) -> Result<Answer, Unanswered> {
        match &self.0.kept {
            Some(kept) => {
                let answer = self.find_kept(kept, id, true).await?;
                self.refused(id, &answer);
                Ok(answer)
            }
            None => self.ask(id).await,
        }
    }

    /// Records that a caller was refused by this answer, so that further refusals can use it.
    pub(crate) fn refused(&self, id: &ClientId, answer: &Answer) {
        let Some(kept) = self.0.kept.as_ref().filter(|_| answer.basis == Basis::Fetched) else { return };
        if let Some(entry) = kept.shard(id).found.get_mut(id) {
            entry.asked_for_refusal = entry.asked_for_refusal.max(Some(answer.as_of));
        }
    }

    async fn ask(&self, id: &ClientId) -> Result<Answer, Unanswered> {
        let as_of = self.0.clock.now();
        Ok(Answer { client: self.0.ask(id).await?, basis: Basis::Refusal, as_of })
    }

    /// Follows the feed for as long as the cache exists.
    fn listen(&self) {
        let Some(revocations) = &self.0.revocations else { return };
        let cache = Arc::downgrade(&self.0);
        revocations
            .on_client_change(move |id| cache.upgrade().inspect(|cache| Self(cache.clone()).forget(id)).is_some());
    }

    /// Removes a client that was changed. The store is asked from now on, even if an older look-up is in flight.
    pub(crate) fn forget(&self, id: &ClientId) {
        let Some(kept) = &self.0.kept else { return };
        kept.workloads.forget();
        let mut shard = kept.shard(id);
        shard.found.remove(id);
        shard.absent.remove(id);
        shard.in_flight.remove(id);
    }

    async fn find_kept(&self, kept: &Kept, id: &ClientId, for_refusal: bool) -> Result<Answer, Unanswered> {
        let time = self.0.clock.now();
        // Read first, so that clients that the feed reported before this time are removed before the cache is read.
        let now = Now { time, told: self.0.told_until(time) };
        let started = {
            let mut shard = kept.shard(id);
            if let Some(answer) = shard.look(id, kept.limits, now)
                && !(for_refusal && answer.basis == Basis::Acceptance)
            {
                return Ok(answer);
            }
            match shard.in_flight.get(id) {
                Some(lookup) => Started { lookup: lookup.clone(), task: None },
                None => self.start(kept, &mut shard, id)?,
            }
        };
        let Started { lookup, task } = started;
        if let Some((runtime, task)) = task {
            // Not while the shard is locked: a runtime that shuts down drops the task at once, which locks the shard.
            runtime.spawn(task.run());
        }
        // Boxed, to keep the future small for callers that find an answer in the cache.
        let client = Box::pin(lookup.result.result()).await.unwrap_or(Err(Unanswered::BrokenOff))?;
        Ok(Answer { client, basis: Basis::Fetched, as_of: lookup.asked_at })
    }

    /// Prepares a look-up on a task of its own.
    fn start(&self, kept: &Kept, shard: &mut Shard, id: &ClientId) -> Result<Started, Unanswered> {
        let permit = kept.in_flight.clone().try_acquire_owned().map_err(|_| Unanswered::Busy)?;
        let runtime = Handle::try_current().map_err(|_| Unanswered::BrokenOff)?;
        let (result, finish) = InFlight::start();
        let lookup = LookUp { asked_at: self.0.clock.now(), result };
        shard.in_flight.insert(id.clone(), lookup.clone());
        let task = LookUpTask {
            cache: self.clone(),
            id: id.clone(),
            asked_at: lookup.asked_at,
            answer: None,
            finish,
            _permit: permit,
        };
        Ok(Started { lookup, task: Some((runtime, task)) })
    }
}

impl Inner {
    /// Returns the time up to which the feed has reported all changes, if there is a feed.
    fn told_until(&self, now: SystemTime) -> Option<SystemTime> {
        let revocations = self.revocations.as_ref()?;
        let told = now.checked_sub(revocations.age()).filter(|_| revocations.is_ready());
        Some(told.unwrap_or(UNIX_EPOCH))
    }

    async fn ask(&self, id: &ClientId) -> Result<Known, Unanswered> {
        let found = match self.store.find(id).into_ready() {
            Ok(found) => found,
            // Boxed: the future of a request whose client is in memory stays small.
            Err(asked) => Box::pin(deadline::within(self.timeout, asked)).await.map_err(Unanswered::Late)?,
        };
        let found = found.map_err(|error| Unanswered::Store(Arc::new(error)))?;
        // If the store treated different spellings of an id as the same client, each spelling would have its own
        // attempt limits.
        let found = found.filter(|client| client.id() == id);
        if let (Some(client), Some(on_read)) = (&found, &self.on_read) {
            (on_read.0)(client);
        }
        Ok(found)
    }
}
