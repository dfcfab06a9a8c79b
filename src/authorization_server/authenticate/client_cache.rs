//! [`ClientCache`]: what a client store said, kept for a short time, and asked for once however many callers wait.
//!
//! 1. A client that was found is kept for one time, that there is none for a shorter one; both by the injected clock,
//!    and counted from when the store was asked.
//! 2. A refusal rests on an answer no older than the shorter time, so that a secret that was just added is accepted within
//!    that time. It has to be an answer that was fetched for a refusal: what the owner of a secret had fetched a moment ago
//!    serves none. So the time of a refusal does not tell a client that is in use from an id that is unknown: either
//!    costs one question to the store in that time.
//! 3. An error is told to all who wait for it, and never kept.
//! 4. Where tokens can be called back, a client is believed for no longer than the feed can be behind: who was disabled gets
//!    no token that its callback does not reach, though the feed be cut off.
//! 5. Unknown ids come from outsiders. They have room of their own, so that a flood of them evicts no client.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::authorization_server::error::TokenError;
use crate::client_id::ClientId;
use crate::clock::Clock;
use crate::deadline::{self, Late};
use crate::registration::RegisteredClient;
use crate::revocation::Revocations;
use crate::store::{DynClientStore, StoreError};
use crate::sync::BoundedMap;
use crate::timing::MAX_FEED_LAG;

/// How long the token endpoint goes by what the client store told it, and how much of that it keeps. A store that is
/// [in memory](crate::ClientStore::is_in_memory) is asked each time.
///
/// A change of a client is thus seen at the latest when this time is over, and sooner where a replica follows the
/// [feed](crate::store::RevocationStore::changes). A server that follows it, and has not heard from it for 2 seconds, asks
/// the store about each client as often as that.
///
/// ```
/// use std::time::Duration;
/// use tower_client_credentials::ClientCacheLimits;
///
/// let limits = ClientCacheLimits::default().found(Duration::from_secs(10));
/// assert_eq!(limits.absent, Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientCacheLimits {
    /// How long a client that was found lets in who proves to be it: 60 seconds by default, and at most 10 minutes where
    /// tokens can be called back, since a store tells no longer than that who changed.
    pub found: Duration,
    /// How long a refusal may rest on an answer that was fetched for a refusal, be it that there is no such client, or
    /// that none of its secrets is the one that was shown: 5 seconds by default.
    pub absent: Duration,
    /// How many clients are kept, and how many ids that are nobody's: 10,000 of each by default.
    pub entries: usize,
}

impl Default for ClientCacheLimits {
    fn default() -> Self {
        Self { found: Duration::from_secs(60), absent: Duration::from_secs(5), entries: 10_000 }
    }
}

impl ClientCacheLimits {
    /// Sets [`found`](Self#structfield.found).
    #[must_use]
    pub const fn found(self, time: Duration) -> Self {
        Self { found: time, ..self }
    }

    /// Sets [`absent`](Self#structfield.absent).
    #[must_use]
    pub const fn absent(self, time: Duration) -> Self {
        Self { absent: time, ..self }
    }

    /// Sets [`entries`](Self#structfield.entries).
    #[must_use]
    pub const fn entries(self, clients: usize) -> Self {
        Self { entries: clients, ..self }
    }
}

/// How many clients are looked up at the same time. Who asks for one more gets a 503.
const MOST_FLIGHTS: usize = 10_000;

/// So that cores do not wait for each other.
const SHARDS: usize = 16;

type Known = Option<Arc<RegisteredClient>>;

/// Why the registry did not answer. Everybody who waits for one look-up gets the same.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error(transparent)]
    Store(Arc<StoreError>),
    #[error(transparent)]
    Late(Late),
    #[error("too many clients are being looked up at once")]
    Busy,
    #[error("the store broke off")]
    BrokenOff,
}

/// What the registry said.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) client: Known,
    pub(crate) basis: Basis,
    /// When that was so: when the store was asked, or later, up to when the feed would have told of a change.
    pub(crate) as_of: SystemTime,
}

/// Whether an answer may serve a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    /// It was not fetched for a refusal, or too long ago: ask [`ClientCache::find_lately`].
    Acceptance,
    /// The store was asked just now: it may, and [`ClientCache::refused`] has to be told.
    Fetched,
    Refusal,
}

/// The registry of clients, as those see it who authenticate them. A clone shares it.
#[derive(Clone, Debug)]
pub(crate) struct ClientCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn DynClientStore>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Whose feed tells of each client that changed.
    revocations: Option<Revocations>,
    /// `None` where each question goes to the store.
    kept: Option<Kept>,
    /// `None` where the store checks its clients itself.
    on_read: Option<OnRead>,
}

/// Is called with each client that was read from the store.
pub(crate) struct OnRead(Box<dyn Fn(&RegisteredClient) + Send + Sync>);

impl OnRead {
    pub(crate) fn new(call: impl Fn(&RegisteredClient) + Send + Sync + 'static) -> Self {
        Self(Box::new(call))
    }
}

impl fmt::Debug for OnRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnRead")
    }
}

struct Kept {
    limits: ClientCacheLimits,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
    flights: Arc<Semaphore>,
}

/// A part of what is kept.
struct Shard {
    found: BoundedMap<ClientId, Entry<Arc<RegisteredClient>>>,
    absent: BoundedMap<ClientId, Entry<()>>,
    flights: HashMap<ClientId, Flight>,
}

/// A look-up under way; whoever wants the same client waits for it. It goes on when they hang up.
#[derive(Clone)]
struct Flight {
    asked_at: SystemTime,
    landed: watch::Receiver<Option<Result<Known, Unanswered>>>,
}

struct Entry<T> {
    value: T,
    /// When the store was asked, which is before it answered.
    asked_at: SystemTime,
    /// When it was last asked for a refusal.
    asked_for_refusal: Option<SystemTime>,
}

/// A point in time, and up to when the feed has told of every change, if there is a feed.
#[derive(Clone, Copy)]
struct Now {
    time: SystemTime,
    told: Option<SystemTime>,
}

impl Now {
    /// A clock that was set back makes everything old.
    fn is_older(self, asked_at: SystemTime, than: Duration) -> bool {
        self.time.duration_since(asked_at).map_or(true, |age| age >= than)
    }

    /// The time for which an answer is valid whose question was asked at `asked_at`.
    fn as_of(self, asked_at: SystemTime) -> SystemTime {
        self.told.map_or(asked_at, |told| told.max(asked_at))
    }

    /// Whether the feed may owe a change since then.
    fn is_behind(self, as_of: SystemTime) -> bool {
        self.told.is_some() && as_of.checked_add(MAX_FEED_LAG).is_none_or(|end| end < self.time)
    }

    fn may_refuse(self, asked_for_refusal: SystemTime, limits: ClientCacheLimits) -> bool {
        !self.is_older(asked_for_refusal, limits.absent) && !self.is_behind(self.as_of(asked_for_refusal))
    }
}

impl ClientCache {
    /// `timeout` is how long the store may take. Each client that the feed of `revocations` tells of is forgotten.
    /// `on_read` is called for each client that is read from a store which is not in memory.
    pub(crate) fn new(
        store: Arc<dyn DynClientStore>,
        limits: Option<ClientCacheLimits>,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        revocations: Option<Revocations>,
        on_read: Option<OnRead>,
    ) -> Self {
        let is_elsewhere = !store.is_in_memory();
        let kept = limits.filter(|_| is_elsewhere).map(Kept::new);
        let on_read = on_read.filter(|_| is_elsewhere);
        let cache = Self(Arc::new(Inner { store, timeout, clock, revocations, kept, on_read }));
        cache.listen();
        cache
    }

    /// The client of this id.
    pub(crate) async fn find(&self, id: &ClientId) -> Result<Answer, Unanswered> {
        match &self.0.kept {
            Some(kept) => self.find_kept(kept, id, false).await,
            None => self.ask(id).await,
        }
    }

    /// The same, as of not long ago: what a refusal may rest on.
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

    /// Someone was refused by this answer, which another refusal may rest on.
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

    /// Hears from the feed for as long as the cache is there.
    fn listen(&self) {
        let Some(revocations) = &self.0.revocations else { return };
        let cache = Arc::downgrade(&self.0);
        revocations
            .on_client_change(move |id| cache.upgrade().inspect(|cache| Self(cache.clone()).forget(id)).is_some());
    }

    /// What is known of this client is stale: the store is asked from now on, also while an older question is under way.
    pub(crate) fn forget(&self, id: &ClientId) {
        let Some(kept) = &self.0.kept else { return };
        let mut shard = kept.shard(id);
        shard.found.remove(id);
        shard.absent.remove(id);
        shard.flights.remove(id);
    }

    async fn find_kept(&self, kept: &Kept, id: &ClientId, for_refusal: bool) -> Result<Answer, Unanswered> {
        let time = self.0.clock.now();
        // First, so that what was told until then is forgotten before one looks.
        let now = Now { time, told: self.0.told_until(time) };
        let started = {
            let mut shard = kept.shard(id);
            if let Some(answer) = shard.look(id, kept.limits, now)
                && !(for_refusal && answer.basis == Basis::Acceptance)
            {
                return Ok(answer);
            }
            match shard.flights.get(id) {
                Some(flight) => Started { flight: flight.clone(), landing: None },
                None => self.start(kept, &mut shard, id)?,
            }
        };
        let Started { mut flight, landing } = started;
        if let Some((runtime, landing)) = landing {
            // Not while the shard is locked: a runtime that ends drops the task at once, which locks the shard.
            runtime.spawn(landing.fly());
        }
        // Boxed for those who find an answer and need not wait.
        let landed = Box::pin(flight.landed.wait_for(Option::is_some));
        let landed = landed.await.map_err(|_| Unanswered::BrokenOff)?;
        let client = landed.clone().unwrap_or(Err(Unanswered::BrokenOff))?;
        Ok(Answer { client, basis: Basis::Fetched, as_of: flight.asked_at })
    }

    /// Prepares to ask the store on a task of its own.
    fn start(&self, kept: &Kept, shard: &mut Shard, id: &ClientId) -> Result<Started, Unanswered> {
        let permit = kept.flights.clone().try_acquire_owned().map_err(|_| Unanswered::Busy)?;
        let runtime = Handle::try_current().map_err(|_| Unanswered::BrokenOff)?;
        let (sender, landed) = watch::channel(None);
        let flight = Flight { asked_at: self.0.clock.now(), landed };
        shard.flights.insert(id.clone(), flight.clone());
        let landing = Landing {
            cache: self.clone(),
            id: id.clone(),
            asked_at: flight.asked_at,
            answer: Err(Unanswered::BrokenOff),
            sender,
            _permit: permit,
        };
        Ok(Started { flight, landing: Some((runtime, landing)) })
    }
}

/// A look-up to wait for. A new one has to be spawned.
struct Started {
    flight: Flight,
    landing: Option<(Handle, Landing)>,
}

impl Inner {
    /// Up to when the feed has told of every change, where there is one to tell.
    fn told_until(&self, now: SystemTime) -> Option<SystemTime> {
        let revocations = self.revocations.as_ref()?;
        let told = now.checked_sub(revocations.age()).filter(|_| revocations.is_ready());
        Some(told.unwrap_or(UNIX_EPOCH))
    }

    async fn ask(&self, id: &ClientId) -> Result<Known, Unanswered> {
        let found = deadline::within(self.timeout, self.store.find(id)).await.map_err(Unanswered::Late)?;
        let found = found.map_err(|error| Unanswered::Store(Arc::new(error)))?;
        // A store that takes another spelling for the same client would multiply the limits on guessing.
        let found = found.filter(|client| client.id() == id);
        if let (Some(client), Some(on_read)) = (&found, &self.on_read) {
            (on_read.0)(client);
        }
        Ok(found)
    }
}

impl From<Unanswered> for TokenError {
    fn from(error: Unanswered) -> Self {
        Self::unavailable(error)
    }
}

/// The end of a look-up, whichever it is: also when the store panics, or the runtime ends.
struct Landing {
    cache: ClientCache,
    id: ClientId,
    asked_at: SystemTime,
    answer: Result<Known, Unanswered>,
    sender: watch::Sender<Option<Result<Known, Unanswered>>>,
    _permit: OwnedSemaphorePermit,
}

impl Landing {
    async fn fly(mut self) {
        self.answer = self.cache.0.ask(&self.id).await;
        drop(self);
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let Some(kept) = &self.cache.0.kept else { return };
        let mut shard = kept.shard(&self.id);
        // Not there: the client was changed since, and the answer may be from before. It does for those who asked before.
        if shard.flights.get(&self.id).is_some_and(|flight| flight.landed.same_channel(&self.sender.subscribe())) {
            shard.flights.remove(&self.id);
            if let Ok(client) = &self.answer {
                shard.keep(&self.id, client.clone(), self.asked_at);
            }
        }
        drop(shard);
        self.sender.send_replace(Some(self.answer.clone()));
    }
}

impl Kept {
    fn new(limits: ClientCacheLimits) -> Self {
        let each = limits.entries.div_ceil(SHARDS);
        let shards = std::array::from_fn(|_| Mutex::new(Shard::new(each)));
        Self { limits, hasher: RandomState::new(), shards, flights: Arc::new(Semaphore::new(MOST_FLIGHTS)) }
    }

    #[allow(clippy::indexing_slicing, clippy::cast_possible_truncation)] // of a remainder
    fn shard(&self, id: &ClientId) -> MutexGuard<'_, Shard> {
        let shard = &self.shards[self.hasher.hash_one(id) as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn new(most: usize) -> Self {
        Self { found: BoundedMap::new(most), absent: BoundedMap::new(most), flights: HashMap::new() }
    }

    fn look(&mut self, id: &ClientId, limits: ClientCacheLimits, now: Now) -> Option<Answer> {
        if let Some(entry) = self.found.get(id).filter(|entry| !now.is_older(entry.asked_at, limits.found)) {
            let as_of = now.as_of(entry.asked_at);
            if now.is_behind(as_of) {
                return None;
            }
            let may_refuse = entry.asked_for_refusal.is_some_and(|asked_at| now.may_refuse(asked_at, limits));
            let basis = if may_refuse { Basis::Refusal } else { Basis::Acceptance };
            return Some(Answer { client: Some(entry.value.clone()), basis, as_of });
        }
        let entry = self.absent.get(id).filter(|entry| now.may_refuse(entry.asked_at, limits))?;
        Some(Answer { client: None, basis: Basis::Refusal, as_of: entry.asked_at })
    }

    fn keep(&mut self, id: &ClientId, client: Known, asked_at: SystemTime) {
        if let Some(value) = client {
            self.absent.remove(id);
            // The owner's question does not shorten the time for which a refusal needs none.
            let asked_for_refusal = self.found.get(id).and_then(|entry| entry.asked_for_refusal);
            self.found.insert(id.clone(), Entry { value, asked_at, asked_for_refusal });
        } else {
            self.found.remove(id);
            self.absent.insert(id.clone(), Entry { value: (), asked_at, asked_for_refusal: Some(asked_at) });
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    use futures_util::future::join_all;
    use futures_util::poll;
    use tokio::sync::Semaphore;

    use super::{Basis, ClientCache, ClientCacheLimits, Kept, Known, MOST_FLIGHTS, Now, OnRead, Unanswered};
    use crate::client_id::ClientId;
    use crate::clock::ManualClock;
    use crate::registration::{Client, RegisteredClient};
    use crate::revocation::Revocations;
    use crate::secret::ClientSecret;
    use crate::store::{Changes, ClientStore, Cursor, MemoryStore, Revocation, RevocationStore, StoreError};

    static BILLING: ClientId = ClientId::from_static("billing");
    static NOBODY: ClientId = ClientId::from_static("nobody");
    const TIMEOUT: Duration = Duration::from_secs(2);
    const SECOND: Duration = Duration::from_secs(1);

    /// A registry that counts the questions, and answers with what it had when it was asked, once it may.
    #[derive(Clone, Debug)]
    struct Registry {
        billing: Arc<Mutex<Arc<RegisteredClient>>>,
        asked: Arc<AtomicUsize>,
        may_answer: Arc<Semaphore>,
        fails: bool,
        is_deleted: Arc<AtomicBool>,
    }

    impl Registry {
        fn new() -> Self {
            Self {
                billing: Arc::new(Mutex::new(client("billing"))),
                asked: Arc::default(),
                may_answer: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
                fails: false,
                is_deleted: Arc::default(),
            }
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        /// Answers nothing until it [answers](Self::answer).
        fn silent() -> Self {
            Self { may_answer: Arc::new(Semaphore::new(0)), ..Self::new() }
        }

        fn answer(&self, times: usize) {
            self.may_answer.add_permits(times);
        }

        fn change(&self) -> Arc<RegisteredClient> {
            let changed = client("billing");
            *self.billing.lock().unwrap() = changed.clone();
            changed
        }
    }

    impl ClientStore for Registry {
        async fn find(&self, id: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            assert_ne!(id.as_str(), "panic");
            let exists = *id == BILLING && !self.is_deleted.load(Ordering::SeqCst);
            let found = exists.then(|| self.billing.lock().unwrap().clone());
            self.may_answer.acquire().await.unwrap().forget();
            if self.fails { Err(StoreError::new("the database is gone")) } else { Ok(found) }
        }
    }

    fn client(id: &str) -> Arc<RegisteredClient> {
        Arc::new(Client::new(id, ClientSecret::generate().unwrap()).register().unwrap())
    }

    fn cache(registry: &Registry) -> (ClientCache, ManualClock) {
        cache_of(registry.clone(), ClientCacheLimits::default())
    }

    fn cache_of(store: impl ClientStore, limits: ClientCacheLimits) -> (ClientCache, ManualClock) {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        (ClientCache::new(Arc::new(store), Some(limits), TIMEOUT, Arc::new(clock.clone()), None, None), clock)
    }

    async fn found(cache: &ClientCache, id: &ClientId) -> Known {
        cache.find(id).await.unwrap().client
    }

    #[tokio::test]
    async fn a_client_is_kept_for_a_minute_and_that_there_is_none_for_five_seconds() {
        let registry = Registry::new();
        let (cache, clock) = cache(&registry);
        for (id, kept) in [(&BILLING, 60), (&NOBODY, 5)] {
            let before = registry.asked();
            assert_eq!(found(&cache, id).await.is_some(), *id == BILLING);
            clock.advance(Duration::from_millis(kept * 1_000 - 1));
            found(&cache, id).await;
            assert_eq!(registry.asked() - before, 1);
            clock.advance(Duration::from_millis(1));
            found(&cache, id).await;
            assert_eq!(registry.asked() - before, 2);
        }
    }

    #[tokio::test]
    async fn a_refusal_rests_on_an_answer_of_the_last_five_seconds() {
        let registry = Registry::new();
        let (cache, clock) = cache(&registry);
        assert_eq!(cache.find(&BILLING).await.unwrap().basis, Basis::Fetched);
        clock.advance(Duration::from_secs(5));
        let changed = registry.change();
        let answer = cache.find(&BILLING).await.unwrap();
        assert!(answer.basis == Basis::Acceptance && answer.client.unwrap() != changed);
        assert_eq!(cache.find_lately(&BILLING).await.unwrap().client.unwrap(), changed);
        cache.find_lately(&BILLING).await.unwrap();
        assert_eq!(registry.asked(), 2, "and so guesses cost the store one question in that time");
        assert_eq!(found(&cache, &BILLING).await.unwrap(), changed);
    }

    /// How many questions to the store a refusal costs.
    async fn cost_of_a_refusal(cache: &ClientCache, registry: &Registry, id: &ClientId) -> usize {
        let before = registry.asked();
        let answer = cache.find(id).await.unwrap();
        if answer.basis == Basis::Acceptance {
            cache.find_lately(id).await.unwrap();
        } else {
            cache.refused(id, &answer);
        }
        registry.asked() - before
    }

    #[tokio::test]
    async fn a_refusal_costs_the_same_whether_the_id_is_unknown_or_its_owner_was_just_accepted() {
        let registry = Registry::new();
        let (cache, clock) = cache(&registry);
        for owner_asks_first in [true, false] {
            for id in [&BILLING, &NOBODY] {
                cache.forget(id);
            }
            for second in 0..120 {
                if second > 0 || owner_asks_first {
                    found(&cache, &BILLING).await;
                }
                let [known, unknown] = [
                    cost_of_a_refusal(&cache, &registry, &BILLING).await,
                    cost_of_a_refusal(&cache, &registry, &NOBODY).await,
                ];
                let expected = usize::from(second % 5 == 0);
                assert_eq!((known, unknown), (expected, expected), "{second} s, owner first: {owner_asks_first}");
                clock.advance(Duration::from_secs(1));
            }
        }
    }

    #[tokio::test]
    async fn an_accepted_client_costs_one_question_a_minute_though_others_are_refused_under_its_id() {
        let registry = Registry::new();
        let (cache, clock) = cache(&registry);
        for _ in 0..60 {
            found(&cache, &BILLING).await;
            clock.advance(Duration::from_secs(1));
        }
        assert_eq!(registry.asked(), 1);
        cost_of_a_refusal(&cache, &registry, &BILLING).await;
        let before = registry.asked();
        for _ in 0..59 {
            clock.advance(Duration::from_secs(1));
            found(&cache, &BILLING).await;
        }
        assert_eq!(registry.asked(), before);
    }

    #[tokio::test]
    async fn a_deleted_client_does_not_come_back_when_the_answer_that_there_is_none_has_expired() {
        let registry = Registry::new();
        let (cache, clock) = cache(&registry);
        assert!(found(&cache, &BILLING).await.is_some());
        clock.advance(Duration::from_secs(5));
        registry.is_deleted.store(true, Ordering::SeqCst);
        assert!(cache.find_lately(&BILLING).await.unwrap().client.is_none());
        // The first answer would be good for 60 seconds, the second one is for 5.
        for _ in 0..10 {
            assert!(found(&cache, &BILLING).await.is_none());
            clock.advance(Duration::from_secs(5));
        }
    }

    /// A feed that has no changes, or fails.
    #[derive(Clone, Debug, Default)]
    struct Feed(Arc<AtomicBool>);

    impl RevocationStore for Feed {
        async fn revoke(&self, _: Revocation) -> Result<(), StoreError> {
            Ok(())
        }

        async fn changes(&self, _: &Cursor) -> Result<Changes, StoreError> {
            if self.0.load(Ordering::SeqCst) {
                return Err(StoreError::new("the feed is gone"));
            }
            Ok(Changes::new(Vec::new(), Cursor::start()))
        }

        async fn purge(&self, _: SystemTime) -> Result<u64, StoreError> {
            Ok(0)
        }

        fn longest_token_lifetime(&self) -> Duration {
            Duration::from_secs(3_600)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_not_taken_from_the_cache_while_the_view_is_too_old_to_decide() {
        let (registry, feed) = (Registry::new(), Feed::default());
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        let max_age = Duration::from_millis(600);
        let revocations = Revocations::follow(feed.clone()).clock(clock.clone()).max_age(max_age).await.unwrap();
        let limits = Some(ClientCacheLimits::default());
        let (store, at) = (Arc::new(registry.clone()), Arc::new(clock.clone()));
        let cache = ClientCache::new(store, limits, TIMEOUT, at, Some(revocations.clone()), None);
        found(&cache, &BILLING).await;
        // Longer ago than the feed may be behind; the feed is read meanwhile.
        clock.advance(Duration::from_secs(3));
        tokio::time::sleep(Duration::from_secs(3)).await;
        feed.0.store(true, Ordering::SeqCst);
        clock.advance(max_age);
        found(&cache, &BILLING).await;
        assert!(revocations.is_ready() && registry.asked() == 1);
        clock.advance(Duration::from_millis(1));
        found(&cache, &BILLING).await;
        assert!(!revocations.is_ready() && registry.asked() == 2, "a change may be unknown here");
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_what_is_kept_old() {
        let registry = Registry::new();
        let (cache, clock) = cache(&registry);
        found(&cache, &BILLING).await;
        clock.set(SystemTime::UNIX_EPOCH);
        found(&cache, &BILLING).await;
        assert_eq!(registry.asked(), 2);
    }

    #[tokio::test]
    async fn however_many_want_a_client_the_store_is_asked_once_and_who_hangs_up_takes_nothing_from_the_others() {
        let registry = Registry::silent();
        let (cache, _) = cache(&registry);
        let mut first = Box::pin(found(&cache, &BILLING));
        assert!(poll!(&mut first).is_pending());
        let mut others = Box::pin(join_all((0..100).map(|_| found(&cache, &BILLING))));
        assert!(poll!(&mut others).is_pending());
        drop(first);
        registry.answer(1);
        assert!(others.await.iter().all(Option::is_some));
        assert_eq!(registry.asked(), 1);
    }

    #[tokio::test]
    async fn a_look_up_that_everybody_left_is_kept_all_the_same() {
        let registry = Registry::silent();
        let (cache, _) = cache(&registry);
        assert!(poll!(Box::pin(found(&cache, &BILLING))).is_pending());
        registry.answer(1);
        assert!(found(&cache, &BILLING).await.is_some());
        assert_eq!(registry.asked(), 1);
    }

    #[tokio::test]
    async fn an_error_is_told_to_all_who_wait_and_is_not_kept() {
        let registry = Registry { fails: true, ..Registry::new() };
        let (cache, _) = cache(&registry);
        let answers = join_all((0..10).map(|_| cache.find(&BILLING))).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(Unanswered::Store(_)))), "{answers:?}");
        assert_eq!(registry.asked(), 1);
        assert!(cache.find(&BILLING).await.is_err());
        assert_eq!(registry.asked(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_late_or_panics_is_asked_again() {
        let registry = Registry::silent();
        let (cache, _) = cache(&registry);
        assert!(matches!(cache.find(&BILLING).await, Err(Unanswered::Late(_))));
        registry.answer(1);
        assert!(found(&cache, &BILLING).await.is_some());
        for _ in 0..2 {
            assert!(matches!(cache.find(&ClientId::from_static("panic")).await, Err(Unanswered::BrokenOff)));
        }
        assert_eq!(registry.asked(), 4);
    }

    #[tokio::test]
    async fn what_is_told_to_have_changed_is_asked_for_again() {
        let registry = Registry::new();
        let (cache, _) = cache(&registry);
        found(&cache, &BILLING).await;
        let changed = registry.change();
        cache.forget(&BILLING);
        assert_eq!(found(&cache, &BILLING).await.unwrap(), changed);
        assert_eq!(registry.asked(), 2);
    }

    #[tokio::test]
    async fn an_answer_from_before_a_change_neither_lands_after_it_nor_is_joined() {
        let registry = Registry::silent();
        let (cache, _) = cache(&registry);
        let mut before = Box::pin(found(&cache, &BILLING));
        assert!(poll!(&mut before).is_pending());
        tokio::task::yield_now().await; // the store has read what it will say
        let changed = registry.change();
        cache.forget(&BILLING);
        let mut after = Box::pin(found(&cache, &BILLING));
        assert!(poll!(&mut after).is_pending());
        registry.answer(1);
        assert_ne!(before.await.unwrap(), changed, "whoever asked before may be told what was");
        assert!(poll!(Box::pin(found(&cache, &BILLING))).is_pending(), "and nobody else is");
        registry.answer(1);
        assert_eq!(after.await.unwrap(), changed);
        assert_eq!(found(&cache, &BILLING).await.unwrap(), changed);
        assert_eq!(registry.asked(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_unknown_ids_is_bounded_and_evicts_no_client() {
        let registry = Registry::new();
        let (cache, _) = cache_of(registry.clone(), ClientCacheLimits { entries: 160, ..ClientCacheLimits::default() });
        found(&cache, &BILLING).await;
        for number in 0..10_000 {
            assert!(found(&cache, &format!("nobody-{number}").parse().unwrap()).await.is_none());
        }
        let kept = cache.0.kept.as_ref().unwrap();
        let sizes = kept.shards.iter().map(|shard| shard.lock().unwrap().absent.len());
        assert!(sizes.sum::<usize>() <= 160);
        assert!(kept.shards.iter().all(|shard| shard.lock().unwrap().flights.is_empty()));
        let asked = registry.asked();
        found(&cache, &BILLING).await;
        assert_eq!(registry.asked(), asked);
    }

    #[tokio::test]
    async fn look_ups_under_way_are_bounded_though_their_callers_hang_up() {
        let registry = Registry::silent();
        let (cache, _) = cache(&registry);
        for number in 0..MOST_FLIGHTS {
            assert!(poll!(Box::pin(found(&cache, &format!("nobody-{number}").parse().unwrap()))).is_pending());
        }
        assert!(matches!(cache.find(&BILLING).await, Err(Unanswered::Busy)));
        registry.answer(MOST_FLIGHTS + 1);
        found(&cache, &"nobody-0".parse().unwrap()).await;
        assert!(found(&cache, &BILLING).await.is_some());
    }

    #[tokio::test]
    async fn a_store_in_memory_and_a_cache_that_is_off_are_asked_each_time() {
        let store = MemoryStore::from([Client::new("billing", ClientSecret::generate().unwrap())]);
        let (cache, clock) = cache_of(store, ClientCacheLimits::default());
        assert!(cache.0.kept.is_none() && found(&cache, &BILLING).await.is_some());

        let registry = Registry::new();
        let cache = ClientCache::new(Arc::new(registry.clone()), None, TIMEOUT, Arc::new(clock), None, None);
        for asked in 1..4 {
            assert_eq!(cache.find(&BILLING).await.unwrap().basis, Basis::Refusal);
            assert_eq!(registry.asked(), asked);
        }
    }

    #[tokio::test]
    async fn a_client_of_another_id_than_was_asked_for_is_none() {
        #[derive(Debug)]
        struct Folding(Registry);
        impl ClientStore for Folding {
            async fn find(&self, _: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
                self.0.find(&BILLING).await
            }
        }
        let (cache, _) = cache_of(Folding(Registry::new()), ClientCacheLimits::default());
        assert!(found(&cache, &ClientId::from_static("BILLING")).await.is_none());
        assert!(found(&cache, &BILLING).await.is_some());
    }

    #[test]
    fn a_look_up_on_a_runtime_that_has_ended_fails_and_does_not_hang() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        drop(runtime);
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _entered = handle.enter();
            let (cache, _) = cache(&Registry::new());
            let found = futures_util::FutureExt::now_or_never(cache.find(&BILLING)).map(|found| found.is_err());
            sender.send(found).unwrap();
        });
        assert_eq!(receiver.recv_timeout(Duration::from_secs(10)), Ok(Some(true)));
    }

    #[test]
    fn an_answer_is_believed_up_to_two_seconds_behind_the_feed() {
        let (told, second) = (SystemTime::UNIX_EPOCH + 100 * SECOND, SECOND);
        let at = |time| Now { time, told: Some(told) };
        assert!(!at(told + 2 * second).is_behind(told) && at(told + 2 * second + second / 1_000).is_behind(told));
        assert!(!Now { time: told + 100 * second, told: None }.is_behind(told), "there is no feed");
    }

    #[test]
    fn its_debug_output_says_how_much_is_kept_and_shows_no_client() {
        let mut map = crate::sync::BoundedMap::new(3);
        map.insert("billing", ());
        let kept = Kept::new(ClientCacheLimits::default());
        let on_read = OnRead::new(|_| {});
        let shown = format!("{map:?} {kept:?} {on_read:?}");
        assert!(
            shown.contains("max_entries: 3, entries: 1")
                && shown.contains("entries: 10000")
                && shown.contains("OnRead"),
            "{shown}"
        );
        assert!(!shown.contains("billing"), "{shown}");
    }
}
