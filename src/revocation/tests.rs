//! Tests of a view and a store that is slow, full, unreachable or lost data.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Cleared, FollowError, Named, NotCleared, Revocations, RevokedClients};
use crate::client_id::ClientId;
use crate::clock::{Clock as _, ManualClock, UnixTime};
use crate::crypto::{Random, RandomError};
use crate::registration::Client;
use crate::store::{
    ChangeFeed, Changes, ClientAdmin as _, Cursor, DynFuture, MemoryStore, Revocation, RevocationStore, StoreError,
    StoreFuture,
};
use crate::timing::REVOCATION_GRACE;
use crate::watchdog::Watchdog;

pub(super) static BILLING: ClientId = ClientId::from_static("billing");
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const NOW: u64 = 1_700_000_000;

/// A store that can fail, stall, panic and lose data.
#[derive(Clone, Debug, Default)]
pub(super) struct FaultyStore {
    pub(super) store: MemoryStore,
    pub(super) fails: Arc<AtomicBool>,
    stalls: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    /// The time that an answer takes, in milliseconds.
    delay: Arc<AtomicU64>,
    /// The next answer says that the store lost data.
    pub(super) lost: Arc<AtomicBool>,
    pub(super) refuses_writes: Arc<AtomicBool>,
    pub(super) refused: Arc<AtomicUsize>,
    /// Each refusal has another text.
    pub(super) names_refusals: Arc<AtomicBool>,
    /// The writes that were made, and those in progress, now and at most at once.
    pub(super) written: Arc<AtomicUsize>,
    writing: Arc<AtomicUsize>,
    pub(super) most_writing: Arc<AtomicUsize>,
    /// The time that a write takes, in milliseconds.
    pub(super) write_time: Arc<AtomicU64>,
    pub(super) polls: Arc<AtomicUsize>,
    purges: Arc<AtomicUsize>,
    /// The store announces changes all the time.
    announces_changes: Arc<AtomicBool>,
    _watchdog: Arc<Watchdog>,
}

impl FaultyStore {
    async fn fault(&self) -> Result<(), StoreError> {
        if self.stalls.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        assert!(!self.panics.load(Ordering::SeqCst), "on purpose");
        if self.fails.load(Ordering::SeqCst) { Err(StoreError::new("the store is gone")) } else { Ok(()) }
    }
}

impl ChangeFeed for FaultyStore {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move {
            self.polls.fetch_add(1, Ordering::SeqCst);
            self.fault().await?;
            let changes = if self.lost.swap(false, Ordering::SeqCst) {
                self.store.changes(&Cursor::start()).await.map(|all| all.lost("on purpose"))
            } else {
                self.store.changes(cursor).await
            };
            tokio::time::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst))).await;
            changes
        })
    }

    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(async move {
            if !self.announces_changes.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
        })
    }
}

impl RevocationStore for FaultyStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            self.fault().await?;
            if self.refuses_writes.load(Ordering::SeqCst) {
                let number = self.refused.fetch_add(1, Ordering::SeqCst);
                let other =
                    if self.names_refusals.load(Ordering::SeqCst) { format!(", {number}") } else { String::new() };
                return Err(StoreError::new(format!("read-only{other}")));
            }
            let writing = self.writing.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_writing.fetch_max(writing, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(self.write_time.load(Ordering::SeqCst))).await;
            self.writing.fetch_sub(1, Ordering::SeqCst);
            self.written.fetch_add(1, Ordering::SeqCst);
            self.store.revoke(revocation).await
        })
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            self.purges.fetch_add(1, Ordering::SeqCst);
            self.store.purge(now).await
        })
    }

    fn longest_token_lifetime(&self) -> Duration {
        Duration::from_secs(3_600)
    }
}

pub(super) fn clock() -> ManualClock {
    ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW))
}

fn named(token_id: &str, issued_at: u64) -> Named<'_> {
    Named { client_id: &BILLING, token_id, issued_at: UnixTime::from_secs(issued_at).unwrap(), key_id: "k" }
}

pub(super) fn check(revocations: &Revocations, token_id: &str) -> Result<(), NotCleared> {
    revocations.check(named(token_id, NOW), &Cleared::default())
}

pub(super) fn token(id: &str) -> Revocation {
    let now = clock().now();
    Revocation::token(id, BILLING.clone(), now, now + Duration::from_secs(600))
}

/// Returns the revocation of a token that is removed at `time`, some minutes after the token has expired.
pub(super) fn expiring(id: &str, time: SystemTime) -> Revocation {
    let expired = time - REVOCATION_GRACE;
    Revocation::token(id, BILLING.clone(), expired - SECOND, expired)
}

/// Randomness that causes no jitter.
#[derive(Debug)]
pub(super) struct NoJitter;

impl Random for NoJitter {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomError> {
        bytes.fill(0);
        Ok(())
    }
}

/// Notes at each call whether the view has the revocation.
struct Noting {
    revocations: Revocations,
    had_it: Mutex<Vec<bool>>,
}

impl RevokedClients for Noting {
    fn revoked(&self, client_id: &ClientId) {
        self.had_it.lock().unwrap().push(self.revocations.revokes_client(client_id));
    }
}

#[tokio::test]
async fn a_watcher_is_told_after_the_view_has_the_revocation_so_one_that_is_added_in_between_finds_it_there() {
    let revocations = Revocations::follow(MemoryStore::default()).clock(clock()).tokens_per_client(2).await.unwrap();
    let noting = Arc::new(Noting { revocations: revocations.clone(), had_it: Mutex::default() });
    let watcher: Arc<dyn RevokedClients> = noting.clone();
    revocations.watch(&watcher);
    for id in ["a", "b", "c", "d"] {
        revocations.revoke(token(id)).await.unwrap();
    }
    assert!(noting.had_it.lock().unwrap().is_empty(), "tokens that were revoked one by one");
    revocations.revoke_client(&BILLING).await.unwrap();
    assert_eq!(*noting.had_it.lock().unwrap(), [true]);
}

#[tokio::test]
async fn each_watcher_is_told_until_it_is_dropped_and_is_forgotten_then() {
    let revocations = Revocations::follow(MemoryStore::default()).clock(clock()).await.unwrap();
    let noting = || Arc::new(Noting { revocations: revocations.clone(), had_it: Mutex::default() });
    let (first, second, third) = (noting(), noting(), noting());
    let watch = |watcher: &Arc<Noting>| revocations.watch(&(watcher.clone() as Arc<dyn RevokedClients>));
    watch(&first);
    watch(&second);
    revocations.revoke_client(&BILLING).await.unwrap();
    let told = |watcher: &Noting| watcher.had_it.lock().unwrap().len();
    assert_eq!((told(&first), told(&second)), (1, 1));
    drop(first);
    watch(&third);
    assert_eq!(revocations.shared().watchers.lock().unwrap().len(), 2);
    revocations.revoke_client(&BILLING).await.unwrap();
    assert_eq!((told(&second), told(&third)), (2, 1));
}

/// Follows the store for an hour, after which the clock is trusted and shows [`NOW`].
pub(super) async fn follow_for_an_hour(follow: super::Follow) -> (Revocations, ManualClock) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let clock = ManualClock::at(clock().now() - HOUR);
    let revocations = follow.clock(clock.clone()).await.unwrap();
    pass(&clock, HOUR).await;
    (revocations, clock)
}

#[track_caller]
pub(super) fn assert_revoked(checked: Result<(), NotCleared>) {
    assert_eq!(checked, Err(NotCleared::Revoked));
}

#[track_caller]
fn assert_unknown(checked: Result<(), NotCleared>) {
    assert!(matches!(checked, Err(NotCleared::Unknown(_))), "{checked:?}");
}

/// Advances the wall clock and the clock of the runtime together, and lets the task run.
pub(super) async fn pass(clock: &ManualClock, time: Duration) {
    let mut rest = time;
    while !rest.is_zero() {
        let step = rest.min(Duration::from_millis(100));
        clock.advance(step);
        tokio::time::sleep(step).await;
        rest -= step;
    }
}

#[tokio::test(start_paused = true)]
async fn a_view_starts_with_all_revocations_and_learns_of_new_ones_within_half_a_second() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    faulty.store.revoke(token("before")).await.unwrap();
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    assert_revoked(check(&revocations, "before"));
    assert_eq!(check(&revocations, "after"), Ok(()));
    faulty.store.revoke(token("after")).await.unwrap();
    pass(&clock, SECOND / 2).await;
    assert_revoked(check(&revocations, "after"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_announces_a_change_is_polled_at_once() {
    let store = MemoryStore::default();
    let revocations = Revocations::follow(store.clone()).clock(clock()).poll_interval(14 * SECOND).await.unwrap();
    tokio::time::sleep(SECOND).await;
    // The second and the third revocation come just after a poll.
    for (id, millis) in [("a", 1), ("b", 21), ("c", 21)] {
        store.revoke(token(id)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        assert_revoked(check(&revocations, id));
    }
}

#[tokio::test(start_paused = true)]
async fn a_local_revocation_applies_at_once_also_to_tokens_that_were_cleared() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    let cleared = Cleared::default();
    for _ in 0..2 {
        assert_eq!(revocations.check(named("a", NOW), &cleared), Ok(()));
    }
    revocations.revoke_token(&BILLING, "a").await.unwrap();
    assert_revoked(revocations.check(named("a", NOW), &cleared));
    let count = faulty.store.changes(&Cursor::start()).await.unwrap().changes.len();
    revocations.revoke_token(&BILLING, "a").await.unwrap();
    assert_eq!(
        faulty.store.changes(&Cursor::start()).await.unwrap().changes.len(),
        count,
        "the store holds the entry once"
    );

    revocations.revoke_key("k").await.unwrap();
    assert_revoked(check(&revocations, "b"));
}

#[tokio::test(start_paused = true)]
async fn each_revocation_of_a_client_reaches_the_tokens_issued_since_the_former_one() {
    let revocations = Revocations::follow(MemoryStore::default()).clock(clock()).await.unwrap();
    let mut issued_until = Vec::new();
    for _ in 0..5 {
        revocations.revoke_client(&BILLING).await.unwrap();
        issued_until.push(revocations.issued_until(&BILLING).unwrap().second.as_secs() - NOW);
    }
    assert_eq!(issued_until, [5, 6, 7, 8, 8], "no further ahead than tokens are dated");
}

#[tokio::test(start_paused = true)]
async fn a_view_is_used_for_30_seconds_after_its_store_fails_or_stalls_and_recovers_with_it() {
    for stalls in [false, true] {
        let (faulty, clock) = (FaultyStore::default(), clock());
        faulty.store.revoke(token("known")).await.unwrap();
        let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
        let switch = if stalls { &faulty.stalls } else { &faulty.fails };
        switch.store(true, Ordering::SeqCst);
        faulty.store.revoke(token("missed")).await.unwrap();

        pass(&clock, 30 * SECOND).await;
        assert_eq!(revocations.age(), 30 * SECOND, "a poll that stalls does not make the view younger");
        assert_eq!(check(&revocations, "missed"), Ok(()));
        pass(&clock, SECOND).await;
        assert_unknown(check(&revocations, "missed"));
        assert_revoked(check(&revocations, "known"));
        assert!(!revocations.is_ready());
        assert!(revocations.revoke_token(&BILLING, "another").await.is_err());

        let polls = faulty.polls.load(Ordering::SeqCst);
        pass(&clock, 60 * SECOND).await;
        let polls = faulty.polls.load(Ordering::SeqCst) - polls;
        // Each poll of a store that stalls takes the 2 seconds of the timeout.
        let expected = if stalls { 20..=26 } else { 70..=150 };
        assert!(expected.contains(&polls), "the polls back off to at most 0.8 seconds: {polls}");

        switch.store(false, Ordering::SeqCst);
        pass(&clock, if stalls { 3 * SECOND } else { SECOND }).await;
        assert_revoked(check(&revocations, "missed"));
        assert_eq!(check(&revocations, "good"), Ok(()));
        assert!(revocations.is_ready() && revocations.age() < SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn announcements_do_not_make_polls_of_a_failing_store_more_frequent() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let _revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    faulty.announces_changes.store(true, Ordering::SeqCst);
    faulty.fails.store(true, Ordering::SeqCst);
    pass(&clock, 10 * SECOND).await;
    let polls = faulty.polls.load(Ordering::SeqCst);
    pass(&clock, 60 * SECOND).await;
    let polls = faulty.polls.load(Ordering::SeqCst) - polls;
    assert!((70..=150).contains(&polls), "{polls}");
}

#[tokio::test]
async fn the_debug_output_shows_no_entry() {
    let store = MemoryStore::default();
    store.revoke(token("secret-id")).await.unwrap();
    let shown = format!("{:?}", Revocations::follow(store).clock(clock()).await.unwrap());
    assert!(shown.starts_with("Revocations") && !shown.contains("secret-id"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_view_counts_from_the_request_and_not_from_a_slow_answer() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    faulty.delay.store(1_900, Ordering::SeqCst);
    let follow = Revocations::follow(faulty.clone()).clock(clock.clone()).max_age(2 * SECOND);
    let revocations = follow.await.unwrap();
    assert_eq!(revocations.age(), Duration::from_millis(1_900), "the store reads the feed at the request");
    tokio::time::sleep(Duration::from_millis(101)).await;
    assert_unknown(check(&revocations, "a"));
    // The same by the wall clock.
    faulty.delay.store(0, Ordering::SeqCst);
    pass(&clock, 3 * SECOND).await;
    assert!(revocations.is_ready());
    faulty.delay.store(1_900, Ordering::SeqCst);
    pass(&clock, 5 * SECOND).await;
    assert!(revocations.age() >= Duration::from_millis(1_900), "{:?}", revocations.age());
}

#[tokio::test(start_paused = true)]
async fn a_client_beyond_its_limit_causes_one_write_to_the_store_per_second() {
    let (store, clock) = (MemoryStore::default(), clock());
    let revocations = Revocations::follow(store.clone()).clock(clock.clone()).tokens_per_client(2).await.unwrap();
    let written = async || store.changes(&Cursor::start()).await.unwrap().changes.len();
    let expires_at = clock.now() + 600 * SECOND;
    for (second, expected) in [(0, 3), (1, 4), (2, 5)] {
        for number in 0..50 {
            let id = format!("{second}-{number}");
            let token = Revocation::token(&id, BILLING.clone(), clock.now(), expires_at);
            revocations.revoke(token).await.unwrap();
            assert_revoked(revocations.check(named(&id, NOW + second), &Cleared::default()));
        }
        assert_eq!(written().await, expected, "two tokens, and one entry for each second");
        clock.advance(SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_store_counts_as_a_failed_poll() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    faulty.panics.store(true, Ordering::SeqCst);
    faulty.store.revoke(token("a")).await.unwrap();
    pass(&clock, 10 * SECOND).await;
    assert_eq!(check(&revocations, "a"), Ok(()));
    faulty.panics.store(false, Ordering::SeqCst);
    pass(&clock, SECOND).await;
    assert_revoked(check(&revocations, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_view_accepts_tokens_only_with_the_dangerous_option() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations =
        Revocations::follow(faulty.clone()).clock(clock.clone()).dangerous_pass_when_stale().await.unwrap();
    revocations.revoke_token(&BILLING, "known").await.unwrap();
    faulty.fails.store(true, Ordering::SeqCst);
    pass(&clock, 60 * SECOND).await;
    assert_eq!(check(&revocations, "a"), Ok(()));
    assert_revoked(check(&revocations, "known"));
}

#[tokio::test(start_paused = true)]
async fn a_full_view_clears_no_token_until_entries_expire_and_then_reads_the_missing_ones() {
    let faulty = FaultyStore::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(faulty.clone()).max_entries(2)).await;
    for id in ["a", "b", "c"] {
        faulty.store.revoke(token(id)).await.unwrap();
    }
    pass(&clock, SECOND).await;
    assert_unknown(check(&revocations, "c"));
    assert_unknown(check(&revocations, "good"));
    assert_revoked(check(&revocations, "a"));
    assert_eq!(revocations.entries(), 2);
    faulty.fails.store(true, Ordering::SeqCst);
    pass(&clock, 6 * SECOND).await;
    assert_unknown(check(&revocations, "c"));
    faulty.fails.store(false, Ordering::SeqCst);
    assert!(matches!(
        Revocations::follow(faulty.clone()).clock(clock.clone()).max_entries(2).await,
        Err(FollowError::Full)
    ));

    let expiry = UNIX_EPOCH + Duration::from_secs(token("a").expires_at());
    pass(&clock, expiry.duration_since(clock.now()).unwrap()).await;
    pass(&clock, 6 * SECOND).await;
    assert_eq!(check(&revocations, "good"), Ok(()));
    let now = clock.now();
    faulty.store.revoke(Revocation::token("d", BILLING.clone(), now, now + SECOND)).await.unwrap();
    pass(&clock, SECOND).await;
    assert_revoked(check(&revocations, "d"));
    assert_eq!(revocations.entries(), 1, "the expired entries were removed");

    revocations.revoke(Revocation::token("e", BILLING.clone(), now, now + SECOND)).await.unwrap();
    assert_eq!(check(&revocations, "good"), Ok(()));
    revocations.revoke(Revocation::token("f", BILLING.clone(), now, now + SECOND)).await.unwrap();
    assert_unknown(check(&revocations, "f"));
}

#[tokio::test(start_paused = true)]
async fn an_entry_fits_at_once_if_others_have_expired_since_the_last_purge() {
    let follow = Revocations::follow(MemoryStore::default()).max_entries(2).random(NoJitter);
    let (revocations, clock) = follow_for_an_hour(follow).await;
    let now = clock.now();
    for id in ["a", "b"] {
        revocations.revoke(expiring(id, now + SECOND)).await.unwrap();
    }
    pass(&clock, 2 * SECOND).await;
    assert_eq!(revocations.entries(), 2, "the next purge is due 40 seconds after the last one");
    revocations.revoke(token("c")).await.unwrap();
    assert_eq!(check(&revocations, "good"), Ok(()));
    assert_eq!(revocations.entries(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_expired_entry_of_the_store_is_not_added_to_the_view() {
    let faulty = FaultyStore::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(faulty.clone()).random(NoJitter)).await;
    // The last purge is over, and the next one is due in more than 30 seconds.
    pass(&clock, 5 * SECOND).await;
    faulty.store.revoke(expiring("a", clock.now() - SECOND)).await.unwrap();
    faulty.store.revoke(token("b")).await.unwrap();
    pass(&clock, SECOND).await;
    assert_revoked(check(&revocations, "b"));
    assert_eq!(revocations.entries(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_revocation_is_removed_when_the_clock_jumps_ahead_for_some_minutes() {
    let faulty = FaultyStore::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(faulty.clone())).await;
    revocations.revoke(token("a")).await.unwrap();
    // The clock is read at each purge.
    pass(&clock, 60 * SECOND).await;
    clock.advance(24 * 60 * 60 * SECOND);
    let purges = faulty.purges.load(Ordering::SeqCst);
    pass(&clock, 300 * SECOND).await;
    assert!(faulty.purges.load(Ordering::SeqCst) > purges);
    clock.set(clock.now() - 24 * 60 * 60 * SECOND);
    pass(&clock, 2 * SECOND).await;
    assert_eq!(revocations.entries(), 1);
    assert_revoked(check(&revocations, "a"));
    assert_eq!(faulty.store.changes(&Cursor::start()).await.unwrap().changes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_revocation_is_removed_when_a_process_starts_with_its_clock_ahead() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    faulty.store.revoke(token("a")).await.unwrap();
    clock.advance(24 * 60 * 60 * SECOND);
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    assert_eq!(revocations.entries(), 1);
    pass(&clock, 300 * SECOND).await;
    clock.set(clock.now() - 24 * 60 * 60 * SECOND);
    pass(&clock, 2 * SECOND).await;
    assert_revoked(check(&revocations, "a"));
    assert_eq!(faulty.store.changes(&Cursor::start()).await.unwrap().changes.len(), 1);
    let other = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    assert_revoked(check(&other, "a"));
}

#[tokio::test(start_paused = true)]
async fn expired_entries_are_removed_from_the_view_and_the_store_about_once_a_minute() {
    let faulty = FaultyStore::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(faulty.clone())).await;
    revocations.revoke(token("a")).await.unwrap();
    faulty.purges.store(0, Ordering::SeqCst);
    pass(&clock, 300 * SECOND).await;
    let purges = faulty.purges.load(Ordering::SeqCst);
    assert!((3..=8).contains(&purges), "{purges}");
    assert_eq!(revocations.entries(), 1);
    pass(&clock, 700 * SECOND).await;
    assert_eq!(revocations.entries(), 0);
    assert!(faulty.store.changes(&Cursor::start()).await.unwrap().changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_listener_is_called_with_each_changed_client_until_it_returns_false() {
    let (store, clock) = (MemoryStore::default(), clock());
    let revocations = Revocations::follow(store.clone()).clock(clock.clone()).await.unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = heard.clone();
    revocations.on_client_change(move |client| {
        listener.lock().unwrap().push(client.clone());
        listener.lock().unwrap().len() < 2
    });
    let create = async |id: &str| {
        let client = Client::new(id, crate::ClientSecret::generate().unwrap());
        store.create(client.register().unwrap()).await.unwrap();
        pass(&clock, SECOND).await;
    };
    create("a").await;
    create("b").await;
    create("c").await;
    assert_eq!(*heard.lock().unwrap(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_listener_is_called_with_revoked_clients_and_with_changes_after_an_entry_that_did_not_fit() {
    let (store, clock) = (MemoryStore::default().clock(clock()), clock());
    let revocations = Revocations::follow(store.clone()).clock(clock.clone()).max_entries(1).await.unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = heard.clone();
    revocations.on_client_change(move |client| {
        listener.lock().unwrap().push(client.clone());
        true
    });
    store.revoke(token("a")).await.unwrap();
    store.revoke(token("b")).await.unwrap();
    let revoked = Revocation::client(ClientId::from_static("revoked"), clock.now(), SECOND);
    store.revoke(revoked).await.unwrap();
    let created = Client::new("created", crate::ClientSecret::generate().unwrap()).register().unwrap();
    store.create(created).await.unwrap();
    pass(&clock, SECOND).await;
    assert!(!revocations.is_ready(), "the view is full");
    let heard = heard.lock().unwrap();
    for id in ["revoked", "created"] {
        assert!(heard.iter().any(|client| client.as_str() == id), "{id}: {heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_is_followed_until_the_last_handle_is_dropped() {
    let faulty = FaultyStore::default();
    let revocations = Revocations::follow(faulty.clone()).await.unwrap();
    let other = revocations.clone();
    drop(revocations);
    let polls = || faulty.polls.load(Ordering::SeqCst);
    let before = polls();
    tokio::time::sleep(10 * SECOND).await;
    assert!((20..=40).contains(&(polls() - before)), "two to four times a second");
    drop(other);
    tokio::task::yield_now().await;
    let before = polls();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(polls(), before);
}

#[tokio::test(start_paused = true)]
async fn a_view_does_not_start_without_its_store_or_with_invalid_settings() {
    let faulty = FaultyStore::default();
    faulty.fails.store(true, Ordering::SeqCst);
    assert!(matches!(Revocations::follow(faulty.clone()).await, Err(FollowError::Store(_))));
    faulty.stalls.store(true, Ordering::SeqCst);
    assert!(matches!(Revocations::follow(faulty).await, Err(FollowError::Store(_))));

    let follow = || Revocations::follow(MemoryStore::default());
    for wrong in [
        follow().poll_interval(Duration::ZERO),
        follow().store_timeout(Duration::ZERO),
        follow().max_age(Duration::from_millis(500)),
        follow().max_entries(0),
        follow().tokens_per_client(0),
    ] {
        assert!(matches!(wrong.await, Err(FollowError::Settings(_))));
    }
}

#[tokio::test(start_paused = true)]
async fn revoke_always_writes_to_the_store_and_revoke_once_only_when_the_view_lacks_the_entry() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    let held = async || faulty.store.changes(&Cursor::start()).await.unwrap().changes.len();
    for _ in 0..3 {
        revocations.revoke_once(token("t")).await.unwrap();
    }
    assert_eq!(held().await, 1);
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    revocations.revoke_once(token("t")).await.unwrap();
    assert_eq!(held().await, 0, "the view has the entry, so nothing is written");
    revocations.revoke(token("t")).await.unwrap();
    assert_eq!(held().await, 1);
    assert_revoked(check(&revocations, "t"));
}

/// A client revokes 30 tokens a minute, each of which is valid for 10 more minutes.
#[tokio::test(start_paused = true)]
async fn a_client_that_revokes_tokens_in_the_first_hour_keeps_its_others() {
    let clock = clock();
    let store = MemoryStore::default().clock(clock.clone());
    let revocations = Revocations::follow(store).clock(clock.clone()).await.unwrap();
    for number in 0..1_100_u64 {
        pass(&clock, 2 * SECOND).await;
        let issued = clock.now() - SECOND;
        let revoked = Revocation::token(format!("t{number}"), BILLING.clone(), issued, issued + 600 * SECOND);
        revocations.revoke_once(revoked).await.unwrap();
        // Issued in the second before the revoked one, and valid for ten minutes.
        let live = format!("live-{number}");
        let named = named(&live, UnixTime::at(issued).as_secs() - 1);
        assert_eq!(revocations.check(named, &Cleared::default()), Ok(()), "after {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_revoked_too_many_tokens_once_keeps_its_others_later() {
    let store = MemoryStore::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(store).tokens_per_client(20)).await;
    let revoke = async |name: String| {
        let issued = clock.now() - SECOND;
        let revoked = Revocation::token(name, BILLING.clone(), issued, issued + 60 * SECOND);
        revocations.revoke_once(revoked).await.unwrap();
        let named = named("live", UnixTime::at(issued).as_secs() - 1);
        revocations.check(named, &Cleared::default())
    };
    for number in 0..21 {
        revoke(format!("burst-{number}")).await.ok();
    }
    assert_revoked(revoke("burst-21".to_owned()).await);
    for number in 0..10 {
        pass(&clock, 30 * SECOND).await;
        let checked = revoke(format!("later-{number}")).await;
        assert!(number < 4 || checked == Ok(()), "{number}: {checked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_cannot_fill_the_view_with_expired_tokens_when_the_clock_is_far_ahead() {
    let clock = clock();
    let revocations =
        Revocations::follow(MemoryStore::default()).clock(clock.clone()).tokens_per_client(10).await.unwrap();
    clock.advance(24 * 60 * 60 * SECOND);
    for number in 0..1_000 {
        revocations.revoke(token(&number.to_string())).await.unwrap();
        assert!(revocations.entries() <= 101);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_starts_although_the_store_has_more_expired_entries_than_the_view_may_hold() {
    let store = MemoryStore::default();
    for number in 0..100 {
        store.revoke(token(&number.to_string())).await.unwrap();
    }
    let clock = ManualClock::at(clock().now() + 48 * 3_600 * SECOND);
    let revocations = Revocations::follow(store.clone()).clock(clock).max_entries(10).await.unwrap();
    assert!(revocations.is_ready());
    assert_eq!(store.changes(&Cursor::start()).await.unwrap().changes.len(), 100, "the store keeps them");
}
