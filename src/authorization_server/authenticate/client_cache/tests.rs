use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use futures_util::poll;
use tokio::sync::Semaphore;

use super::answer::Now;
use super::entries::Kept;
use super::look_up::MAX_LOOK_UPS;
use super::{Basis, ClientCache, ClientCacheLimits, Known, OnRead, Unanswered};
use crate::client_id::ClientId;
use crate::clock::ManualClock;
use crate::registration::{Client, RegisteredClient, WorkloadKey};
use crate::revocation::Revocations;
use crate::secret::ClientSecret;
use crate::store::{
    ChangeFeed, Changes, ClientStore, Cursor, MemoryStore, Revocation, RevocationStore, StoreError, StoreFuture,
};

static BILLING: ClientId = ClientId::from_static("billing");
static UNKNOWN: ClientId = ClientId::from_static("unknown");
const TIMEOUT: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

/// A client store that counts its calls. It answers once it is allowed to, with the state at the time of the call.
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

    /// Creates a store that does not answer until [`answer`](Self::answer) is called.
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
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            assert_ne!(id.as_str(), "panic");
            let exists = *id == BILLING && !self.is_deleted.load(Ordering::SeqCst);
            let found = exists.then(|| self.billing.lock().unwrap().clone());
            self.may_answer.acquire().await.unwrap().forget();
            if self.fails { Err(StoreError::new("the database is gone")) } else { Ok(found) }
        })
    }

    /// Every workload belongs to `billing`, until that is deleted.
    fn find_by_workload<'a>(&'a self, _: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        StoreFuture::new(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let exists = !self.is_deleted.load(Ordering::SeqCst);
            self.may_answer.acquire().await.unwrap().forget();
            if self.fails {
                Err(StoreError::new("the database is gone"))
            } else {
                Ok(Some(exists.then_some(BILLING.clone()).into_iter().collect()))
            }
        })
    }
}

fn workload(number: usize) -> [WorkloadKey; 1] {
    [WorkloadKey::platform("https://issuer.example", &number.to_string())]
}

#[tokio::test]
async fn the_client_of_a_workload_is_cached_for_60_seconds_and_that_there_is_none_for_5() {
    for (is_deleted, kept) in [(false, 60), (true, 5)] {
        let registry = Registry::new();
        registry.is_deleted.store(is_deleted, Ordering::SeqCst);
        let (cache, clock) = cache(&registry);
        for _ in 0..3 {
            let answer = cache.find_workload(&workload(1)).await.unwrap();
            assert_eq!(answer.clients.unwrap().is_empty(), is_deleted);
        }
        clock.advance(Duration::from_millis(kept * 1_000 - 1));
        cache.find_workload(&workload(1)).await.unwrap();
        assert_eq!(registry.asked(), 1);
        clock.advance(Duration::from_millis(1));
        cache.find_workload(&workload(1)).await.unwrap();
        assert_eq!(registry.asked(), 2);
    }
}

#[tokio::test]
async fn a_refusal_of_a_workload_uses_an_answer_of_the_last_5_seconds() {
    let registry = Registry::new();
    let (cache, clock) = cache(&registry);
    assert!(!cache.find_workload(&workload(1)).await.unwrap().is_stale);
    clock.advance(Duration::from_secs(5));
    registry.is_deleted.store(true, Ordering::SeqCst);
    assert!(cache.find_workload(&workload(1)).await.unwrap().is_stale);
    for _ in 0..3 {
        assert_eq!(cache.find_workload_lately(&workload(1)).await.unwrap().unwrap().len(), 0);
    }
    assert_eq!(registry.asked(), 2);
}

#[tokio::test]
async fn a_change_of_any_client_outdates_what_is_known_of_workloads_also_while_the_store_is_asked() {
    let registry = Registry::silent();
    let (cache, _) = cache(&registry);
    let first = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.find_workload(&workload(1)).await.unwrap().clients.unwrap().len() })
    };
    while registry.asked() == 0 {
        tokio::task::yield_now().await;
    }
    cache.forget(&UNKNOWN);
    registry.is_deleted.store(true, Ordering::SeqCst);
    registry.answer(2);
    assert_eq!(first.await.unwrap(), 1, "the answer from before the change is valid for the caller from before it");
    assert_eq!(cache.find_workload(&workload(1)).await.unwrap().clients.unwrap().len(), 0);
    registry.is_deleted.store(false, Ordering::SeqCst);
    cache.forget(&UNKNOWN);
    registry.answer(1);
    assert_eq!(cache.find_workload(&workload(1)).await.unwrap().clients.unwrap().len(), 1);
}

#[tokio::test]
async fn concurrent_requests_of_a_workload_share_one_look_up_and_an_error_is_not_cached() {
    let registry = Registry { fails: true, ..Registry::new() };
    let (cache, _) = cache(&registry);
    let key = workload(1);
    let answers = join_all((0..100).map(|_| cache.find_workload(&key))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(registry.asked(), 1);
    assert!(cache.find_workload(&key).await.is_err());
    assert_eq!(registry.asked(), 2);
}

#[tokio::test]
async fn the_number_of_workloads_in_the_cache_is_bounded() {
    let registry = Registry::new();
    let (cache, _) = cache_of(registry.clone(), ClientCacheLimits::default().entries(10));
    for number in 0..100 {
        cache.find_workload(&workload(number)).await.unwrap();
    }
    assert_eq!(registry.asked(), 100);
    assert_eq!(cache.0.kept.as_ref().unwrap().workloads.len(), 10);
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
async fn a_client_is_cached_for_60_seconds_and_an_unknown_id_for_5() {
    let registry = Registry::new();
    let (cache, clock) = cache(&registry);
    for (id, kept) in [(&BILLING, 60), (&UNKNOWN, 5)] {
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
async fn a_refusal_uses_an_answer_of_the_last_5_seconds() {
    let registry = Registry::new();
    let (cache, clock) = cache(&registry);
    assert_eq!(cache.find(&BILLING).await.unwrap().basis, Basis::Fetched);
    clock.advance(Duration::from_secs(5));
    let changed = registry.change();
    let answer = cache.find(&BILLING).await.unwrap();
    assert!(answer.basis == Basis::Acceptance && answer.client.unwrap() != changed);
    assert_eq!(cache.find_lately(&BILLING).await.unwrap().client.unwrap(), changed);
    cache.find_lately(&BILLING).await.unwrap();
    assert_eq!(registry.asked(), 2, "guesses cost one look-up in that time");
    assert_eq!(found(&cache, &BILLING).await.unwrap(), changed);
}

/// Returns how many look-ups a refusal costs.
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
        for id in [&BILLING, &UNKNOWN] {
            cache.forget(id);
        }
        for second in 0..120 {
            if second > 0 || owner_asks_first {
                found(&cache, &BILLING).await;
            }
            let [known, unknown] = [
                cost_of_a_refusal(&cache, &registry, &BILLING).await,
                cost_of_a_refusal(&cache, &registry, &UNKNOWN).await,
            ];
            let expected = usize::from(second % 5 == 0);
            assert_eq!((known, unknown), (expected, expected), "{second} s, owner first: {owner_asks_first}");
            clock.advance(Duration::from_secs(1));
        }
    }
}

#[tokio::test]
async fn an_accepted_client_costs_one_look_up_a_minute_even_if_others_are_refused_under_its_id() {
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
async fn a_deleted_client_does_not_reappear_when_its_absent_entry_expires() {
    let registry = Registry::new();
    let (cache, clock) = cache(&registry);
    assert!(found(&cache, &BILLING).await.is_some());
    clock.advance(Duration::from_secs(5));
    registry.is_deleted.store(true, Ordering::SeqCst);
    assert!(cache.find_lately(&BILLING).await.unwrap().client.is_none());
    // The first answer would be cached for 60 seconds, the second one is for 5.
    for _ in 0..10 {
        assert!(found(&cache, &BILLING).await.is_none());
        clock.advance(Duration::from_secs(5));
    }
}

/// A feed without changes, or one that fails.
#[derive(Clone, Debug, Default)]
struct Feed(Arc<AtomicBool>);

impl ChangeFeed for Feed {
    fn changes<'a>(&'a self, _: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move {
            if self.0.load(Ordering::SeqCst) {
                return Err(StoreError::new("the feed is gone"));
            }
            Ok(Changes::new(Vec::new(), Cursor::start()))
        })
    }
}

impl RevocationStore for Feed {
    fn revoke(&self, _: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move { Ok(()) })
    }

    fn purge(&self, _: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move { Ok(0) })
    }

    fn longest_token_lifetime(&self) -> Duration {
        Duration::from_secs(3_600)
    }
}

#[tokio::test(start_paused = true)]
async fn a_cached_client_is_not_used_while_the_revocation_view_is_too_old() {
    let (registry, feed) = (Registry::new(), Feed::default());
    let clock = ManualClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
    let max_age = Duration::from_millis(600);
    let revocations = Revocations::follow(feed.clone()).clock(clock.clone()).max_age(max_age).await.unwrap();
    let limits = Some(ClientCacheLimits::default());
    let (store, at) = (Arc::new(registry.clone()), Arc::new(clock.clone()));
    let cache = ClientCache::new(store, limits, TIMEOUT, at, Some(revocations.clone()), None);
    found(&cache, &BILLING).await;
    // Longer than the feed may lag. The feed is read meanwhile.
    clock.advance(Duration::from_secs(3));
    tokio::time::sleep(Duration::from_secs(3)).await;
    feed.0.store(true, Ordering::SeqCst);
    clock.advance(max_age);
    found(&cache, &BILLING).await;
    assert!(revocations.is_ready() && registry.asked() == 1);
    clock.advance(Duration::from_millis(1));
    found(&cache, &BILLING).await;
    assert!(!revocations.is_ready() && registry.asked() == 2, "a change may be missing here");
}

#[tokio::test]
async fn a_clock_that_is_set_back_expires_all_entries() {
    let registry = Registry::new();
    let (cache, clock) = cache(&registry);
    found(&cache, &BILLING).await;
    clock.set(SystemTime::UNIX_EPOCH);
    found(&cache, &BILLING).await;
    assert_eq!(registry.asked(), 2);
}

#[tokio::test]
async fn concurrent_callers_share_one_look_up_and_one_that_hangs_up_does_not_affect_the_others() {
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
async fn the_result_of_a_look_up_is_cached_even_if_all_callers_hung_up() {
    let registry = Registry::silent();
    let (cache, _) = cache(&registry);
    assert!(poll!(Box::pin(found(&cache, &BILLING))).is_pending());
    registry.answer(1);
    assert!(found(&cache, &BILLING).await.is_some());
    assert_eq!(registry.asked(), 1);
}

#[tokio::test]
async fn an_error_is_returned_to_all_waiting_callers_and_not_cached() {
    let registry = Registry { fails: true, ..Registry::new() };
    let (cache, _) = cache(&registry);
    let answers = join_all((0..10).map(|_| cache.find(&BILLING))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(Unanswered::Store(_)))), "{answers:?}");
    assert_eq!(registry.asked(), 1);
    assert!(cache.find(&BILLING).await.is_err());
    assert_eq!(registry.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_times_out_or_panics_is_asked_again() {
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
async fn a_client_that_the_feed_reports_as_changed_is_looked_up_again() {
    let registry = Registry::new();
    let (cache, _) = cache(&registry);
    found(&cache, &BILLING).await;
    let changed = registry.change();
    cache.forget(&BILLING);
    assert_eq!(found(&cache, &BILLING).await.unwrap(), changed);
    assert_eq!(registry.asked(), 2);
}

#[tokio::test]
async fn an_answer_from_before_a_change_is_neither_cached_nor_shared_after_it() {
    let registry = Registry::silent();
    let (cache, _) = cache(&registry);
    let mut before = Box::pin(found(&cache, &BILLING));
    assert!(poll!(&mut before).is_pending());
    tokio::task::yield_now().await; // the store has read its answer
    let changed = registry.change();
    cache.forget(&BILLING);
    let mut after = Box::pin(found(&cache, &BILLING));
    assert!(poll!(&mut after).is_pending());
    registry.answer(1);
    assert_ne!(before.await.unwrap(), changed, "a caller from before the change may get the old state");
    assert!(poll!(Box::pin(found(&cache, &BILLING))).is_pending(), "and no other caller does");
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
        assert!(found(&cache, &format!("unknown-{number}").parse().unwrap()).await.is_none());
    }
    let kept = cache.0.kept.as_ref().unwrap();
    let sizes = kept.shards.iter().map(|shard| shard.lock().unwrap().absent.len());
    assert!(sizes.sum::<usize>() <= 160);
    assert!(kept.shards.iter().all(|shard| shard.lock().unwrap().in_flight.is_empty()));
    let asked = registry.asked();
    found(&cache, &BILLING).await;
    assert_eq!(registry.asked(), asked);
}

#[tokio::test]
async fn look_ups_in_flight_are_bounded_even_if_their_callers_hang_up() {
    let registry = Registry::silent();
    let (cache, _) = cache(&registry);
    for number in 0..MAX_LOOK_UPS {
        assert!(poll!(Box::pin(found(&cache, &format!("unknown-{number}").parse().unwrap()))).is_pending());
    }
    assert!(matches!(cache.find(&BILLING).await, Err(Unanswered::Busy)));
    registry.answer(MAX_LOOK_UPS + 1);
    found(&cache, &"unknown-0".parse().unwrap()).await;
    assert!(found(&cache, &BILLING).await.is_some());
}

#[tokio::test]
async fn without_a_cache_and_with_a_store_in_memory_each_call_asks_the_store() {
    let store = MemoryStore::try_from([Client::new("billing", ClientSecret::generate().unwrap())]).unwrap();
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
async fn a_client_with_another_id_than_the_requested_one_is_not_accepted() {
    #[derive(Debug)]
    struct Folding(Registry);
    impl ClientStore for Folding {
        fn find<'a>(&'a self, _: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
            StoreFuture::new(async move { self.0.find(&BILLING).await })
        }
    }
    let (cache, _) = cache_of(Folding(Registry::new()), ClientCacheLimits::default());
    assert!(found(&cache, &ClientId::from_static("BILLING")).await.is_none());
    assert!(found(&cache, &BILLING).await.is_some());
}

#[test]
fn a_look_up_on_a_runtime_that_has_shut_down_fails_and_does_not_hang() {
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
fn an_answer_is_used_for_up_to_two_seconds_without_the_feed() {
    let (told, second) = (SystemTime::UNIX_EPOCH + 100 * SECOND, SECOND);
    let at = |time| Now { time, told: Some(told) };
    assert!(!at(told + 2 * second).is_behind(told) && at(told + 2 * second + second / 1_000).is_behind(told));
    assert!(!Now { time: told + 100 * second, told: None }.is_behind(told), "there is no feed");
}

#[test]
fn debug_output_contains_the_capacity_and_no_client() {
    let mut map = crate::sync::BoundedMap::new(3);
    map.insert("billing", ());
    let kept = Kept::new(ClientCacheLimits::default());
    let on_read = OnRead::new(|_| {});
    let shown = format!("{map:?} {kept:?} {on_read:?}");
    assert!(
        shown.contains("max_entries: 3, entries: 1") && shown.contains("entries: 10000") && shown.contains("OnRead"),
        "{shown}"
    );
    assert!(!shown.contains("billing"), "{shown}");
}
