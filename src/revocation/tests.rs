//! A view and its store: what is late, full, stalled or gone.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Cleared, FollowError, Named, NotCleared, Revocations};
use crate::client_id::ClientId;
use crate::clock::{Clock as _, ManualClock, UnixTime};
use crate::registration::Client;
use crate::store::{Changes, ClientAdmin as _, Cursor, MemoryStore, Revocation, RevocationStore, StoreError};
use crate::watchdog::Watchdog;

static BILLING: ClientId = ClientId::from_static("billing");
const SECOND: Duration = Duration::from_secs(1);
const NOW: u64 = 1_700_000_000;

/// A store that can fail, stall and stay silent.
#[derive(Clone, Debug, Default)]
struct Trouble {
    store: MemoryStore,
    fails: Arc<AtomicBool>,
    stalls: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    /// How long it takes to answer, in milliseconds.
    delay: Arc<AtomicU64>,
    /// It lost what it had acknowledged, and tells with its next answer.
    lost: Arc<AtomicBool>,
    refuses_writes: Arc<AtomicBool>,
    polls: Arc<AtomicUsize>,
    purges: Arc<AtomicUsize>,
    /// It says all the time that it has news.
    has_news: Arc<AtomicBool>,
    _watchdog: Arc<Watchdog>,
}

impl Trouble {
    async fn struck(&self) -> Result<(), StoreError> {
        if self.stalls.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        assert!(!self.panics.load(Ordering::SeqCst), "on purpose");
        if self.fails.load(Ordering::SeqCst) { Err(StoreError::new("the store is gone")) } else { Ok(()) }
    }
}

impl RevocationStore for Trouble {
    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.struck().await?;
        if self.refuses_writes.load(Ordering::SeqCst) {
            return Err(StoreError::new("read-only"));
        }
        self.store.revoke(revocation).await
    }

    async fn changes(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        self.struck().await?;
        let told = if self.lost.swap(false, Ordering::SeqCst) {
            self.store.changes(&Cursor::start()).await.map(|all| all.lost("on purpose"))
        } else {
            self.store.changes(cursor).await
        };
        tokio::time::sleep(Duration::from_millis(self.delay.load(Ordering::SeqCst))).await;
        told
    }

    async fn purge(&self, now: SystemTime) -> Result<u64, StoreError> {
        self.purges.fetch_add(1, Ordering::SeqCst);
        self.store.purge(now).await
    }

    async fn changed(&self) {
        if !self.has_news.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    fn longest_token_lifetime(&self) -> Duration {
        Duration::from_secs(3_600)
    }
}

fn clock() -> ManualClock {
    ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW))
}

fn named(token_id: &str, issued_at: u64) -> Named<'_> {
    Named { client_id: &BILLING, token_id, issued_at: UnixTime::from_secs(issued_at).unwrap(), key_id: "k" }
}

fn check(revocations: &Revocations, token_id: &str) -> Result<(), NotCleared> {
    revocations.check(named(token_id, NOW), &Cleared::default())
}

fn token(id: &str) -> Revocation {
    let now = clock().now();
    Revocation::token(id, BILLING.clone(), now, now + Duration::from_secs(600))
}

/// Follows the store for an hour, after which the clock is believed and shows the usual time.
async fn follow_for_an_hour(follow: super::Follow) -> (Revocations, ManualClock) {
    const HOUR: Duration = Duration::from_secs(3_600);
    let clock = ManualClock::at(clock().now() - HOUR);
    let revocations = follow.clock(clock.clone()).await.unwrap();
    pass(&clock, HOUR).await;
    (revocations, clock)
}

#[track_caller]
fn assert_revoked(checked: Result<(), NotCleared>) {
    assert_eq!(checked, Err(NotCleared::Revoked));
}

#[track_caller]
fn assert_undecided(checked: Result<(), NotCleared>) {
    assert!(matches!(checked, Err(NotCleared::Unknown(_))), "{checked:?}");
}

/// Moves the clocks of the runtime and of the wall on together, and lets the task work.
async fn pass(clock: &ManualClock, time: Duration) {
    let mut rest = time;
    while !rest.is_zero() {
        let step = rest.min(Duration::from_millis(100));
        clock.advance(step);
        tokio::time::sleep(step).await;
        rest -= step;
    }
}

#[tokio::test(start_paused = true)]
async fn it_begins_with_everything_and_hears_of_the_rest_within_half_a_second() {
    let (trouble, clock) = (Trouble::default(), clock());
    trouble.store.revoke(token("before")).await.unwrap();
    let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    assert_revoked(check(&revocations, "before"));
    assert_eq!(check(&revocations, "after"), Ok(()));
    trouble.store.revoke(token("after")).await.unwrap();
    pass(&clock, SECOND / 2).await;
    assert_revoked(check(&revocations, "after"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_news_is_not_waited_for() {
    let store = MemoryStore::default();
    let revocations = Revocations::follow(store.clone()).clock(clock()).poll_interval(14 * SECOND).await.unwrap();
    tokio::time::sleep(SECOND).await;
    // The second and the third one come when it has just looked.
    for (id, millis) in [("a", 1), ("b", 21), ("c", 21)] {
        store.revoke(token(id)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        assert_revoked(check(&revocations, id));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_here_is_refused_here_at_once_and_a_cleared_token_is_looked_up_again() {
    let (trouble, clock) = (Trouble::default(), clock());
    let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    let cleared = Cleared::default();
    for _ in 0..2 {
        assert_eq!(revocations.check(named("a", NOW), &cleared), Ok(()));
    }
    revocations.revoke_token(&BILLING, "a").await.unwrap();
    assert_revoked(revocations.check(named("a", NOW), &cleared));
    let told = trouble.store.changes(&Cursor::start()).await.unwrap().changes.len();
    revocations.revoke_token(&BILLING, "a").await.unwrap();
    assert_eq!(trouble.store.changes(&Cursor::start()).await.unwrap().changes.len(), told, "it is not written twice");

    revocations.revoke_key("k").await.unwrap();
    assert_revoked(check(&revocations, "b"));
}

#[tokio::test(start_paused = true)]
async fn each_callback_of_a_client_reaches_what_was_issued_since_the_last() {
    let revocations = Revocations::follow(MemoryStore::default()).clock(clock()).await.unwrap();
    let mut issued_until = Vec::new();
    for _ in 0..5 {
        revocations.revoke_client(&BILLING).await.unwrap();
        issued_until.push(revocations.issued_until(&BILLING).unwrap().second.as_secs() - NOW);
    }
    assert_eq!(issued_until, [5, 6, 7, 8, 8], "and never further than anything is dated");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_stalls_leaves_the_view_as_it_is_until_it_is_too_old_and_then_it_heals() {
    for stalls in [false, true] {
        let (trouble, clock) = (Trouble::default(), clock());
        trouble.store.revoke(token("known")).await.unwrap();
        let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
        let switch = if stalls { &trouble.stalls } else { &trouble.fails };
        switch.store(true, Ordering::SeqCst);
        trouble.store.revoke(token("missed")).await.unwrap();

        pass(&clock, 30 * SECOND).await;
        assert_eq!(revocations.age(), 30 * SECOND, "what stalls is not good");
        assert_eq!(check(&revocations, "missed"), Ok(()));
        pass(&clock, SECOND).await;
        assert_undecided(check(&revocations, "missed"));
        assert_revoked(check(&revocations, "known"));
        assert!(!revocations.is_ready());
        assert!(revocations.revoke_token(&BILLING, "another").await.is_err());

        let polls = trouble.polls.load(Ordering::SeqCst);
        pass(&clock, 60 * SECOND).await;
        let polls = trouble.polls.load(Ordering::SeqCst) - polls;
        // One that stalls is given its 2 seconds each time.
        let expected = if stalls { 20..=26 } else { 70..=150 };
        assert!(expected.contains(&polls), "it backs off, and no further than 0.8 seconds: {polls}");

        switch.store(false, Ordering::SeqCst);
        pass(&clock, if stalls { 3 * SECOND } else { SECOND }).await;
        assert_revoked(check(&revocations, "missed"));
        assert_eq!(check(&revocations, "good"), Ok(()));
        assert!(revocations.is_ready() && revocations.age() < SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_not_asked_more_often_because_it_says_that_it_has_news() {
    let (trouble, clock) = (Trouble::default(), clock());
    let _revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    trouble.has_news.store(true, Ordering::SeqCst);
    trouble.fails.store(true, Ordering::SeqCst);
    pass(&clock, 10 * SECOND).await;
    let polls = trouble.polls.load(Ordering::SeqCst);
    pass(&clock, 60 * SECOND).await;
    let polls = trouble.polls.load(Ordering::SeqCst) - polls;
    assert!((70..=150).contains(&polls), "{polls}");
}

#[tokio::test]
async fn its_debug_output_shows_no_entry() {
    let store = MemoryStore::default();
    store.revoke(token("secret-id")).await.unwrap();
    let shown = format!("{:?}", Revocations::follow(store).clock(clock()).await.unwrap());
    assert!(shown.starts_with("Revocations") && !shown.contains("secret-id"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_makes_the_view_as_old_as_its_question() {
    let (trouble, clock) = (Trouble::default(), clock());
    trouble.delay.store(1_900, Ordering::SeqCst);
    let follow = Revocations::follow(trouble.clone()).clock(clock.clone()).max_age(2 * SECOND);
    let revocations = follow.await.unwrap();
    assert_eq!(revocations.age(), Duration::from_millis(1_900), "the store read the feed when it was asked");
    tokio::time::sleep(Duration::from_millis(101)).await;
    assert_undecided(check(&revocations, "a"));
    // By the wall clock, too.
    trouble.delay.store(0, Ordering::SeqCst);
    pass(&clock, 3 * SECOND).await;
    assert!(revocations.is_ready());
    trouble.delay.store(1_900, Ordering::SeqCst);
    pass(&clock, 5 * SECOND).await;
    assert!(revocations.age() >= Duration::from_millis(1_900), "{:?}", revocations.age());
}

#[tokio::test(start_paused = true)]
async fn a_client_beyond_its_bound_makes_the_store_write_one_entry_a_second() {
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
async fn a_store_that_panics_has_failed_and_no_more() {
    let (trouble, clock) = (Trouble::default(), clock());
    let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    trouble.panics.store(true, Ordering::SeqCst);
    trouble.store.revoke(token("a")).await.unwrap();
    pass(&clock, 10 * SECOND).await;
    assert_eq!(check(&revocations, "a"), Ok(()));
    trouble.panics.store(false, Ordering::SeqCst);
    pass(&clock, SECOND).await;
    assert_revoked(check(&revocations, "a"));
}

#[tokio::test(start_paused = true)]
async fn a_stale_view_lets_pass_only_by_the_dangerous_option() {
    let (trouble, clock) = (Trouble::default(), clock());
    let revocations =
        Revocations::follow(trouble.clone()).clock(clock.clone()).dangerous_pass_when_stale().await.unwrap();
    revocations.revoke_token(&BILLING, "known").await.unwrap();
    trouble.fails.store(true, Ordering::SeqCst);
    pass(&clock, 60 * SECOND).await;
    assert_eq!(check(&revocations, "a"), Ok(()));
    assert_revoked(check(&revocations, "known"));
}

#[tokio::test(start_paused = true)]
async fn a_full_view_decides_over_nothing_until_something_expires_and_then_it_has_missed_nothing() {
    let trouble = Trouble::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(trouble.clone()).max_entries(2)).await;
    for id in ["a", "b", "c"] {
        trouble.store.revoke(token(id)).await.unwrap();
    }
    pass(&clock, SECOND).await;
    assert_undecided(check(&revocations, "c"));
    assert_undecided(check(&revocations, "good"));
    assert_revoked(check(&revocations, "a"));
    assert_eq!(revocations.entries(), 2);
    trouble.fails.store(true, Ordering::SeqCst);
    pass(&clock, 6 * SECOND).await;
    assert_undecided(check(&revocations, "c"));
    trouble.fails.store(false, Ordering::SeqCst);
    assert!(matches!(
        Revocations::follow(trouble.clone()).clock(clock.clone()).max_entries(2).await,
        Err(FollowError::Full)
    ));

    let expiry = UNIX_EPOCH + Duration::from_secs(token("a").expires_at());
    pass(&clock, expiry.duration_since(clock.now()).unwrap()).await;
    pass(&clock, 6 * SECOND).await;
    assert_eq!(check(&revocations, "good"), Ok(()));
    let now = clock.now();
    trouble.store.revoke(Revocation::token("d", BILLING.clone(), now, now + SECOND)).await.unwrap();
    pass(&clock, SECOND).await;
    assert_revoked(check(&revocations, "d"));
    assert_eq!(revocations.entries(), 1, "the others made room");

    revocations.revoke(Revocation::token("e", BILLING.clone(), now, now + SECOND)).await.unwrap();
    assert_eq!(check(&revocations, "good"), Ok(()));
    revocations.revoke(Revocation::token("f", BILLING.clone(), now, now + SECOND)).await.unwrap();
    assert_undecided(check(&revocations, "f"));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_for_some_minutes_makes_no_revocation_forgotten() {
    let trouble = Trouble::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(trouble.clone())).await;
    revocations.revoke(token("a")).await.unwrap();
    // The clock is read when a purge is due.
    pass(&clock, 60 * SECOND).await;
    clock.advance(24 * 60 * 60 * SECOND);
    let purges = trouble.purges.load(Ordering::SeqCst);
    pass(&clock, 300 * SECOND).await;
    assert!(trouble.purges.load(Ordering::SeqCst) > purges);
    clock.set(clock.now() - 24 * 60 * 60 * SECOND);
    pass(&clock, 2 * SECOND).await;
    assert_eq!(revocations.entries(), 1);
    assert_revoked(check(&revocations, "a"));
    assert_eq!(trouble.store.changes(&Cursor::start()).await.unwrap().changes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_with_its_clock_ahead_forgets_no_revocation() {
    let (trouble, clock) = (Trouble::default(), clock());
    trouble.store.revoke(token("a")).await.unwrap();
    clock.advance(24 * 60 * 60 * SECOND);
    let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    assert_eq!(revocations.entries(), 1);
    pass(&clock, 300 * SECOND).await;
    clock.set(clock.now() - 24 * 60 * 60 * SECOND);
    pass(&clock, 2 * SECOND).await;
    assert_revoked(check(&revocations, "a"));
    assert_eq!(trouble.store.changes(&Cursor::start()).await.unwrap().changes.len(), 1);
    let other = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    assert_revoked(check(&other, "a"));
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_leaves_the_view_and_the_store_about_once_a_minute() {
    let trouble = Trouble::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(trouble.clone())).await;
    revocations.revoke(token("a")).await.unwrap();
    trouble.purges.store(0, Ordering::SeqCst);
    pass(&clock, 300 * SECOND).await;
    let purges = trouble.purges.load(Ordering::SeqCst);
    assert!((3..=8).contains(&purges), "{purges}");
    assert_eq!(revocations.entries(), 1);
    pass(&clock, 700 * SECOND).await;
    assert_eq!(revocations.entries(), 0);
    assert!(trouble.store.changes(&Cursor::start()).await.unwrap().changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_listens_hears_of_each_client_that_changed_until_it_wants_no_more() {
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
async fn who_listens_hears_of_a_client_that_was_called_back_and_of_what_follows_that_for_which_there_is_no_place() {
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
    let called_back = Revocation::client(ClientId::from_static("called-back"), clock.now(), SECOND);
    store.revoke(called_back).await.unwrap();
    let created = Client::new("created", crate::ClientSecret::generate().unwrap()).register().unwrap();
    store.create(created).await.unwrap();
    pass(&clock, SECOND).await;
    assert!(!revocations.is_ready(), "it is full");
    let heard = heard.lock().unwrap();
    for id in ["called-back", "created"] {
        assert!(heard.iter().any(|client| client.as_str() == id), "{id}: {heard:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_store_is_followed_until_the_last_handle_is_dropped() {
    let trouble = Trouble::default();
    let revocations = Revocations::follow(trouble.clone()).await.unwrap();
    let other = revocations.clone();
    drop(revocations);
    let polls = || trouble.polls.load(Ordering::SeqCst);
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
async fn a_view_that_could_not_know_does_not_start() {
    let trouble = Trouble::default();
    trouble.fails.store(true, Ordering::SeqCst);
    assert!(matches!(Revocations::follow(trouble.clone()).await, Err(FollowError::Store(_))));
    trouble.stalls.store(true, Ordering::SeqCst);
    assert!(matches!(Revocations::follow(trouble).await, Err(FollowError::Store(_))));

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
async fn what_the_store_lost_in_a_failover_an_operator_makes_again_and_a_client_that_insists_writes_once() {
    let (trouble, clock) = (Trouble::default(), clock());
    let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    let held = async || trouble.store.changes(&Cursor::start()).await.unwrap().changes.len();
    for _ in 0..3 {
        revocations.revoke_once(token("t")).await.unwrap();
    }
    assert_eq!(held().await, 1);
    trouble.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    revocations.revoke_once(token("t")).await.unwrap();
    assert_eq!(held().await, 0, "the process knows, and has no reason to doubt the store");
    revocations.revoke(token("t")).await.unwrap();
    assert_eq!(held().await, 1);
    assert_revoked(check(&revocations, "t"));
}

/// A client that gives back 30 tokens a minute, each of which would live for 10 minutes more.
#[tokio::test(start_paused = true)]
async fn a_client_that_gives_back_tokens_in_the_first_hour_keeps_its_others() {
    let clock = clock();
    let store = MemoryStore::default().clock(clock.clone());
    let revocations = Revocations::follow(store).clock(clock.clone()).await.unwrap();
    for number in 0..1_100_u64 {
        pass(&clock, 2 * SECOND).await;
        let issued = clock.now() - SECOND;
        let given_back = Revocation::token(format!("t{number}"), BILLING.clone(), issued, issued + 600 * SECOND);
        revocations.revoke_once(given_back).await.unwrap();
        // Issued in the second before the one that was given back, and good for ten minutes.
        let live = format!("live-{number}");
        let named = named(&live, UnixTime::at(issued).as_secs() - 1);
        assert_eq!(revocations.check(named, &Cleared::default()), Ok(()), "after {number}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_gave_back_too_many_tokens_once_keeps_its_others_afterwards() {
    let store = MemoryStore::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(store).tokens_per_client(20)).await;
    let give_back = async |name: String| {
        let issued = clock.now() - SECOND;
        let given_back = Revocation::token(name, BILLING.clone(), issued, issued + 60 * SECOND);
        revocations.revoke_once(given_back).await.unwrap();
        let named = named("live", UnixTime::at(issued).as_secs() - 1);
        revocations.check(named, &Cleared::default())
    };
    for number in 0..21 {
        give_back(format!("burst-{number}")).await.ok();
    }
    assert_revoked(give_back("burst-21".to_owned()).await);
    for number in 0..10 {
        pass(&clock, 30 * SECOND).await;
        let checked = give_back(format!("later-{number}")).await;
        assert!(number < 4 || checked == Ok(()), "{number}: {checked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_far_ahead_lets_no_client_fill_the_view_with_expired_tokens() {
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
async fn a_process_starts_with_a_store_that_has_more_expired_entries_than_the_view_may_hold() {
    let store = MemoryStore::default();
    for number in 0..100 {
        store.revoke(token(&number.to_string())).await.unwrap();
    }
    let clock = ManualClock::at(clock().now() + 48 * 3_600 * SECOND);
    let revocations = Revocations::follow(store.clone()).clock(clock).max_entries(10).await.unwrap();
    assert!(revocations.is_ready());
    assert_eq!(store.changes(&Cursor::start()).await.unwrap().changes.len(), 100, "the store keeps them");
}

#[tokio::test(start_paused = true)]
async fn what_a_store_lost_is_reported_and_written_again_and_stays_revoked() {
    let (trouble, clock) = (Trouble::default(), clock());
    let (events, mut listener) = crate::event::channel();
    let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).events(events.clone());
    let revocations = revocations.tokens_per_client(10_000).await.unwrap();
    revocations.report_losses_to(&events);
    let count = 2_500_u64;
    for number in 0..count {
        revocations.revoke(token(&number.to_string())).await.unwrap();
    }
    revocations.revoke_key("k").await.unwrap();
    let held = async || {
        let mut cursor = Cursor::start();
        let mut all = std::collections::HashSet::new();
        loop {
            let page = trouble.store.changes(&cursor).await.unwrap();
            all.extend(page.changes);
            cursor = page.cursor;
            if !page.more {
                return all.len() as u64;
            }
        }
    };
    // It has none of them any more. Another process is the first to write one again.
    let entries = revocations.entries() as u64;
    trouble.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    assert_eq!(held().await, 0);
    trouble.store.revoke(token("7")).await.unwrap();
    trouble.lost.store(true, Ordering::SeqCst);
    tokio::time::sleep(SECOND).await;
    assert!((1..entries).contains(&held().await), "not all at once");
    assert_revoked(check(&revocations, "7"));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(held().await, entries);
    assert_revoked(check(&revocations, "2499"));

    let told = listener.try_recv().unwrap();
    let crate::event::Outcome::StoreLostData { reason } = &told.outcome else { panic!("{told:?}") };
    assert_eq!((reason.as_str(), told.client_id.is_some()), ("on purpose", false));
    assert!(listener.try_recv().is_none(), "one listener hears of it once");
    // Once a minute.
    for (after, events) in [(10 * SECOND, 0), (60 * SECOND, 1)] {
        tokio::time::sleep(after).await;
        clock.advance(after);
        trouble.lost.store(true, Ordering::SeqCst);
        tokio::time::sleep(SECOND).await;
        assert_eq!(std::iter::from_fn(|| listener.try_recv()).count(), events);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_writes_yet_gets_what_it_lost_later() {
    let (trouble, clock) = (Trouble::default(), clock());
    let revocations = Revocations::follow(trouble.clone()).clock(clock.clone()).await.unwrap();
    revocations.revoke(token("a")).await.unwrap();
    trouble.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    trouble.refuses_writes.store(true, Ordering::SeqCst);
    trouble.lost.store(true, Ordering::SeqCst);
    tokio::time::sleep(5 * SECOND).await;
    let held = async || trouble.store.changes(&Cursor::start()).await.unwrap().changes.len();
    assert!(held().await == 0 && revocations.is_ready());
    trouble.refuses_writes.store(false, Ordering::SeqCst);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(held().await, 1);
}
