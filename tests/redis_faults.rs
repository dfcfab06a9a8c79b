//! A Redis server that loses data, refuses calls, or is replaced by another one. No acknowledged write is lost without a
//! report, no request is refused wrongly, and each process recovers without a restart.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)] // helpers of tests, which may

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::faults::{self, PATIENCE, loss, still_polls, until};
use common::proxy::{Line, Proxy};
use common::request::{GRANT, billing_asks, post};
use common::servers::Redis;
use common::stack::Answer;
use common::{API, WRONG_SECRET, chain, client};
use tower::ServiceExt as _;
use tower_client_credentials::authorization_server::ClientCacheLimits;
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::event::EventReceiver;
use tower_client_credentials::store::conformance::{self, Violation};
use tower_client_credentials::store::{
    AdminError, Change, ChangeFeed, ClientAdmin, Cursor, RedisStore, Replay, ReplayId, ReplayLog, Revocation,
    RevocationStore, StoreError,
};
use tower_client_credentials::verification::{InvalidToken, VerifyError};
use tower_client_credentials::{AuthorizationServer, ClientId, ClientStore, KeyRing, Revocations, VerifiedToken};

const BILLING: ClientId = ClientId::from_static("billing");
const HOUR: Duration = Duration::from_secs(3_600);

fn token(name: impl Into<String>) -> Revocation {
    let now = SystemTime::now();
    Revocation::token(name, BILLING, now, now + HOUR)
}

async fn connect(server: &Redis) -> RedisStore {
    RedisStore::builder(&server.url()).call_timeout(PATIENCE).connect().await.unwrap()
}

async fn follow(store: &RedisStore) -> (Revocations, EventReceiver) {
    faults::follow(store.clone()).await
}

async fn read(store: &RedisStore, cursor: Cursor) -> (Vec<Change>, Cursor, Vec<String>) {
    faults::read(store, cursor).await.unwrap()
}

async fn held(store: &RedisStore) -> usize {
    let told = read(store, Cursor::start()).await.0;
    told.iter().filter(|change| matches!(change, Change::Revoked(_))).count()
}

fn source(error: &StoreError) -> String {
    chain(error)
}

/// `:5\r\n` → 5
fn number(answer: &str) -> u64 {
    answer.trim_start_matches(':').trim_end().parse().unwrap_or_else(|_| panic!("{answer}"))
}

#[track_caller]
fn assert_revoked(verified: Result<VerifiedToken, VerifyError>) {
    assert_eq!(verified.map(|_| ()).unwrap_err(), InvalidToken::Revoked.into());
}

/// A token endpoint that asks the store for each request.
fn server(store: &RedisStore, revocations: Revocations) -> AuthorizationServer {
    let limits = ClientCacheLimits::default().found(Duration::ZERO).absent(Duration::ZERO);
    AuthorizationServer::builder(common::ISSUER, KeyRing::from_pem(common::KEY).unwrap(), store.clone())
        .revocations(revocations)
        .client_cache(limits)
        .build()
        .unwrap()
}

async fn status(server: &AuthorizationServer, secret: Option<&str>) -> u16 {
    let request = match secret {
        None => billing_asks(GRANT),
        Some(secret) => post(GRANT).basic("billing", secret),
    };
    Answer::read(server.token_service().oneshot(request.into()).await.unwrap()).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite_over_resp3_and_reports_the_same_problems_as_over_resp2()
-> Result<(), Violation> {
    let server = Redis::start();
    let url = format!("{}/?protocol=resp3", server.url());
    let prefixes = AtomicU64::new(0);
    let empty = || {
        let builder = RedisStore::builder(&url).prefix(format!("p{}", prefixes.fetch_add(1, Ordering::Relaxed)));
        async move { builder.connect().await.unwrap() }
    };
    conformance::clients(empty).await?;
    conformance::revocations(empty).await?;
    conformance::client_changes(empty).await?;
    conformance::replay_log(empty).await?;
    for (hides, settings) in [
        (false, ["--appendonly", "yes", "--maxmemory-policy", "noeviction"]),
        (false, ["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]),
        (true, ["--appendonly", "no", "--rename-command", "CONFIG"]),
        (true, ["--appendonly", "yes", "--rename-command", "CONFIG"]),
    ] {
        let settings: Vec<&str> = settings.into_iter().chain(hides.then_some("")).collect();
        let server = Redis::with(&settings);
        let problems = async |protocol: &str| {
            let url = format!("{}/?protocol={protocol}", server.url());
            RedisStore::connect(&url).await.unwrap().durability_problems().to_vec()
        };
        let (resp2, resp3) = (problems("resp2").await, problems("resp3").await);
        assert_eq!(resp2, resp3, "{settings:?}");
        assert_eq!(
            resp2.is_empty(),
            settings == ["--appendonly", "yes", "--maxmemory-policy", "noeviction"],
            "{resp2:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn an_emptied_server_is_reported_and_gets_the_revocations_again_and_no_client_is_refused_because_of_it() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let other = connect(&redis).await;
    let billing = || client("billing").scope(common::READ).audience(API).register().unwrap();
    store.create(billing()).await.unwrap();
    let (revocations, mut listener) = follow(&store).await;
    for name in 0..500 {
        revocations.revoke(token(name.to_string())).await.unwrap();
    }
    revocations.revoke_key("k").await.unwrap();
    let server = server(&store, revocations.clone());
    assert_eq!((status(&server, None).await, status(&server, Some(&WRONG_SECRET)).await), (200, 401));
    assert!(other.find(&BILLING).await.unwrap().is_some());
    let token = Answer::read(server.token_service().oneshot(billing_asks(GRANT).into()).await.unwrap()).await;
    let (token, verifier) = (token.assert_token(), server.verifier(API).unwrap());
    let token_id = verifier.verify(&token).await.unwrap().token_id().to_owned();
    revocations.revoke_token(&BILLING, &token_id).await.unwrap();
    assert_revoked(verifier.verify(&token).await);

    assert_eq!(redis.ask("FLUSHALL"), "+OK\r\n");
    assert_revoked(verifier.verify(&token).await);
    // Neither process concludes from this server that the client does not exist.
    assert!(source(&other.find(&BILLING).await.unwrap_err()).contains("no clients any more"));
    for _ in 0..5 {
        assert_eq!((status(&server, None).await, status(&server, Some(&WRONG_SECRET)).await), (503, 503));
    }
    assert!(loss(&mut listener).await.contains("FLUSHALL"));
    until("the revocations are written again", || async { held(&other).await == 502 }).await;
    assert_eq!(revocations.entries(), 502);
    assert_revoked(verifier.verify(&token).await);
    assert!(revocations.is_ready());
    assert_eq!(status(&server, None).await, 503, "until a client is created");

    store.create(billing()).await.unwrap();
    assert_eq!((status(&server, None).await, status(&server, Some(&WRONG_SECRET)).await), (200, 401));
    // A process that starts now knows all revocations.
    let (late, _) = follow(&other).await;
    assert_eq!(late.entries(), 502);
    let late = self::server(&other, late).verifier(API).unwrap();
    assert_revoked(late.verify(&token).await);
    assert!(listener.try_recv().is_none(), "one event for one loss");
}

#[tokio::test]
async fn a_failover_to_a_replica_without_the_last_writes_is_reported_by_each_process_that_read_or_wrote_them() {
    let (primary, replica) = (Redis::start(), Redis::start());
    let proxy = Proxy::before(primary.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let store = async || RedisStore::connect(&url).await.unwrap();
    let (reader, writer, idle) = (store().await, store().await, store().await);
    writer.create(client("billing").register().unwrap()).await.unwrap();
    assert!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())).starts_with("+OK"));
    until("the replica is in step", || async { number(&replica.ask("ZCARD {tcc}:feed")) == 2 }).await;
    let (_, idle_at, _) = read(&idle, Cursor::start()).await;
    let (_, writer_at, _) = read(&writer, Cursor::start()).await;

    // The replica is disconnected and receives no more writes of the primary.
    assert!(replica.ask("REPLICAOF NO ONE").starts_with("+OK"));
    writer.revoke(token("lost")).await.unwrap();
    let (_, reader_at, _) = read(&reader, Cursor::start()).await;
    proxy.point_to(replica.port());
    proxy.strand();
    let (view, mut listener) = {
        // The state before the failover.
        let direct = connect(&primary).await;
        let view = follow(&direct).await;
        drop(direct);
        view
    };
    assert_eq!(view.entries(), 1);
    drop((view, listener.try_recv()));

    for (name, store, cursor, loses) in
        [("reader", &reader, reader_at, true), ("writer", &writer, writer_at, true), ("idle", &idle, idle_at, false)]
    {
        until("it connects to the new primary", || async { store.changes(&cursor).await.is_ok() || loses }).await;
        let mut signs = Vec::new();
        until("it answers", || async { store.find(&BILLING).await.is_ok() }).await;
        signs.extend(read(store, cursor.clone()).await.2);
        assert_eq!(signs.len(), usize::from(loses), "{name}: {signs:?}");
        assert!(signs.iter().all(|sign| sign.contains("failed over")), "{signs:?}");
        assert!(read(store, read(store, Cursor::start()).await.1).await.2.is_empty(), "it is reported once");
    }
}

#[tokio::test]
async fn a_lost_write_is_reported_even_if_the_process_wrote_again_or_cancelled_polls_before() {
    let (primary, replica) = (Redis::start(), Redis::start());
    let proxy = Proxy::before(primary.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let connected = async || RedisStore::builder(&url).call_timeout(Duration::from_secs(30)).connect().await.unwrap();
    let (wrote_again, cancelled) = (connected().await, connected().await);
    wrote_again.create(client("billing").register().unwrap()).await.unwrap();
    let (_, cursor, _) = read(&wrote_again, Cursor::start()).await;
    wrote_again.revoke(token("survived")).await.unwrap();
    assert!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())).starts_with("+OK"));
    until("the replica is in step", || async { number(&replica.ask("ZCARD {tcc}:feed")) == 3 }).await;
    assert!(replica.ask("REPLICAOF NO ONE").starts_with("+OK"));
    wrote_again.revoke(token("lost")).await.unwrap();
    cancelled.revoke(token("lost, too")).await.unwrap();
    proxy.point_to(replica.port());
    proxy.set(Line::Cut);
    for store in [&wrote_again, &cancelled] {
        until("the connection is cut", || async { store.find(&BILLING).await.is_err() }).await;
    }
    proxy.set(Line::Up);
    until("the new primary accepts writes", || async { wrote_again.revoke(token("new")).await.is_ok() }).await;
    wrote_again.revoke(token("newer")).await.unwrap();
    let (changes, after, signs) = read(&wrote_again, cursor.clone()).await;
    assert_eq!((changes.len(), signs.len()), (4, 1), "{signs:?}");
    assert!(read(&wrote_again, after).await.2.is_empty(), "it is reported once");

    until("it connects to the new primary", || async { cancelled.find(&BILLING).await.is_ok() }).await;
    proxy.set(Line::Slow(Duration::from_millis(50)));
    for millis in (25..).step_by(25) {
        let polled = tokio::time::timeout(Duration::from_millis(millis), cancelled.changes(&cursor)).await;
        if let Ok(changes) = polled {
            assert!(changes.unwrap().lost.is_some(), "after {millis} ms");
            break;
        }
    }
}

#[tokio::test]
async fn a_replica_is_refused_when_connecting_and_for_lookups() {
    let (primary, replica) = (Redis::start(), Redis::start());
    let store = connect(&replica).await;
    store.create(client("billing").register().unwrap()).await.unwrap();
    assert!(store.find(&BILLING).await.unwrap().is_some());
    assert!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())).starts_with("+OK"));
    let connecting = RedisStore::builder(&replica.url()).call_timeout(PATIENCE).connect().await;
    for error in [
        connecting.unwrap_err(),
        store.find(&BILLING).await.unwrap_err(),
        store.list(None, 10.try_into().unwrap()).await.unwrap_err(),
        store.changes(&Cursor::start()).await.unwrap_err(),
    ] {
        assert!(source(&error).contains("is a replica, which may be far behind"), "{}", source(&error));
    }
}

#[tokio::test]
async fn a_host_whose_clock_is_a_day_ahead_purges_nothing_that_the_others_still_need() {
    let redis = Redis::start();
    let (store, now) = (connect(&redis).await, SystemTime::now());
    let ahead = RedisStore::builder(&redis.url()).call_timeout(PATIENCE).clock(ManualClock::at(now + 24 * HOUR));
    let ahead = ahead.connect().await.unwrap();
    store.revoke(token("a")).await.unwrap();
    assert_eq!(ahead.purge(now + 24 * HOUR).await.unwrap(), 0);
    assert_eq!(held(&store).await, 1);
    assert_eq!(ahead.purge(now + 26 * HOUR).await.unwrap(), 1, "it has expired by the clock of the server");
}

#[tokio::test]
async fn a_clock_that_is_wrong_later_is_noticed_by_the_next_poll() {
    let redis = Redis::start();
    let clock = ManualClock::at(SystemTime::now());
    let store = RedisStore::builder(&redis.url()).call_timeout(PATIENCE).clock(clock.clone()).connect().await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    // A clock that is behind by at most a minute is compensated when the tokens of a client are revoked.
    clock.set(SystemTime::now() - Duration::from_secs(50));
    store.changes(&Cursor::start()).await.unwrap();
    store.disable(&BILLING).await.unwrap();
    let told = read(&store, Cursor::start()).await.0;
    let until = told.iter().find_map(|change| match change {
        Change::Revoked(Revocation::Client { issued_until, .. }) => Some(*issued_until),
        _ => None,
    });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let until = until.expect("all tokens of the client are revoked");
    assert!(until + 40 > now, "{until} at {now}");
}

/// Nothing tells the store that the connection broke: it would wait on it for a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_broke_unnoticed_is_replaced_after_a_poll_finds_an_unannounced_change() {
    let redis = Redis::start();
    let proxy = Proxy::before(redis.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let store = RedisStore::builder(&url).call_timeout(Duration::from_secs(1)).connect().await.unwrap();
    let operator = connect(&redis).await;
    let woken = Arc::new(AtomicU64::new(0));
    let listening = tokio::spawn({
        let (store, woken) = (store.clone(), woken.clone());
        async move {
            loop {
                store.changed().await;
                woken.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let (mut cursor, mut written) = (Cursor::start(), 0);
    for fault in [false, true] {
        if fault {
            proxy.strand();
        }
        let (before, begun) = (woken.load(Ordering::SeqCst), Instant::now());
        while woken.load(Ordering::SeqCst) == before {
            assert!(begun.elapsed() < Duration::from_secs(40), "stranded: {fault}");
            written += 1;
            operator.revoke(token(written.to_string())).await.unwrap();
            if let Ok(page) = store.changes(&cursor).await {
                cursor = page.cursor;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        println!("stranded: {fault}; woken within {:?}", begun.elapsed());
    }
    listening.abort();
}

#[tokio::test]
async fn a_running_process_writes_its_revocations_to_a_new_primary_that_lacks_them() {
    let (primary, empty) = (Redis::start(), Redis::start());
    let proxy = Proxy::before(primary.port()).await;
    let store = RedisStore::connect(&format!("redis://127.0.0.1:{}", proxy.port)).await.unwrap();
    let (revocations, mut listener) = follow(&store).await;
    let count = 3_000;
    for name in 0..count {
        revocations.revoke(Revocation::key(name.to_string(), SystemTime::now(), HOUR)).await.unwrap();
    }
    proxy.point_to(empty.port());
    proxy.set(Line::Cut);
    until("the connection is cut", || async { store.find(&BILLING).await.is_err() }).await;
    proxy.set(Line::Up);
    assert!(loss(&mut listener).await.contains("another server without the data"));
    let direct = connect(&empty).await;
    until("everything is written again", || async { held(&direct).await == count }).await;
    assert_eq!(revocations.entries(), count);
    assert!(listener.try_recv().is_none());
}

#[tokio::test]
async fn a_primary_that_became_a_replica_is_replaced_by_the_new_primary_without_a_restart() {
    let (old, new) = (Redis::start(), Redis::start());
    let proxy = Proxy::before(old.port()).await;
    let store = RedisStore::connect(&format!("redis://127.0.0.1:{}", proxy.port)).await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    assert!(new.ask(&format!("REPLICAOF 127.0.0.1 {}", old.port())).starts_with("+OK"));
    until("the replica is in step", || async { number(&new.ask("ZCARD {tcc}:feed")) == 2 }).await;
    let (_, cursor, _) = read(&store, Cursor::start()).await;
    // The connection to the old primary stays open, as after a DNS change.
    assert!(new.ask("REPLICAOF NO ONE").starts_with("+OK"));
    proxy.point_to(new.port());
    assert!(old.ask(&format!("REPLICAOF 127.0.0.1 {}", new.port())).starts_with("+OK"));
    until("it reads from the new one", || async { store.changes(&cursor).await.is_ok() }).await;
    store.revoke(token("after")).await.unwrap();
    assert_eq!(number(&new.ask("ZCARD {tcc}:feed")), 3);
    let (told, _, signs) = read(&store, cursor).await;
    assert_eq!((told.len(), signs.len()), (1, 0), "nothing was lost");
}

#[tokio::test]
async fn a_truncated_append_only_file_is_reported_and_the_remaining_data_is_used() {
    let mut redis = Redis::start();
    let store = connect(&redis).await;
    let (revocations, mut listener) = follow(&store).await;
    for name in 0..50 {
        revocations.revoke(token(name.to_string())).await.unwrap();
    }
    redis.kill();
    redis.cut_off(40);
    redis.restart();
    assert!(loss(&mut listener).await.contains("truncated append-only file"));
    until("it is written again", || async {
        store.changes(&Cursor::start()).await.is_ok() && held(&store).await == 50
    })
    .await;
    assert_eq!(revocations.entries(), 50);
}

#[tokio::test]
async fn each_evicted_key_is_detected_and_no_caller_is_refused_because_of_it() {
    let redis = Redis::start();
    for (key, index) in ["feed", "clients", "ids", "ends", "tips", "counter"].into_iter().zip(0..) {
        let builder = || RedisStore::builder(&redis.url()).prefix(format!("p{index}"));
        let (store, other) = (builder().connect().await.unwrap(), builder().connect().await.unwrap());
        store.create(client("billing").register().unwrap()).await.unwrap();
        store.create(client("reports").register().unwrap()).await.unwrap();
        for name in 0..20 {
            store.revoke(token(name.to_string())).await.unwrap();
        }
        let (_, cursor, signs) = read(&store, Cursor::start()).await;
        assert!(signs.is_empty());
        assert_eq!(redis.ask(&format!("DEL {{p{index}}}:{key}")), ":1\r\n");

        let (told, after, signs) = read(&store, cursor).await;
        let lost = matches!(key, "feed" | "tips");
        assert_eq!(
            (signs.len(), told.len()),
            (usize::from(lost), if key == "tips" { 22 } else { 0 }),
            "{key} {signs:?}"
        );
        let found = store.find(&BILLING).await;
        match key {
            "clients" => assert!(source(&found.unwrap_err()).contains("no clients any more")),
            _ => assert!(found.unwrap().is_some(), "{key}"),
        }
        let listed = store.list(None, 10.try_into().unwrap()).await;
        match key {
            "clients" | "ids" => assert!(source(&listed.unwrap_err()).contains("evicted one of the two keys")),
            _ => assert_eq!(listed.unwrap().len(), 2, "{key}"),
        }
        let purged = store.purge(SystemTime::now() + 2 * HOUR).await;
        match key {
            "ends" => assert!(source(&purged.unwrap_err()).contains("have no expiry")),
            _ => drop(purged.unwrap()),
        }
        // The next revocation reaches a reader that had read everything, whichever key was evicted.
        other.revoke(token("next")).await.unwrap();
        let (told, _, signs) = read(&store, after).await;
        assert!(told.iter().any(|change| *change == Change::Revoked(token_of(&told, "next"))), "{key}: {told:?}");
        assert!(told.len() < 30 && signs.len() <= usize::from(key == "feed"), "{key}: {signs:?}");
    }
}

fn token_of(told: &[Change], name: &str) -> Revocation {
    let found = told.iter().find_map(|change| match change {
        Change::Revoked(revocation @ Revocation::Token { token_id, .. }) if token_id == name => {
            Some(revocation.clone())
        }
        _ => None,
    });
    found.unwrap_or_else(|| panic!("{name} is not reported"))
}

#[tokio::test]
async fn a_server_that_evicts_under_load_reports_every_loss() {
    // Without fsync, which would make the test long.
    let policy = ["--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random", "--appendonly", "no"];
    let redis = Redis::with(&policy);
    let store = connect(&redis).await;
    assert!(store.durability_problems().iter().any(|problem| problem.contains("maxmemory-policy is allkeys-random")));
    assert!(RedisStore::builder(&redis.url()).require_durable().connect().await.is_err());
    store.create(client("billing").scope(common::READ).audience(API).register().unwrap()).await.unwrap();
    let (revocations, mut listener) = follow(&store).await;
    let server = server(&store, revocations.clone());
    let (mut acknowledged, mut statuses) = (0_u64, BTreeMap::new());
    // Until the feed itself was evicted, not only other keys.
    while number(&redis.ask("ZCARD {tcc}:feed")) >= acknowledged {
        let used = ReplayId::new("load", &acknowledged.to_string());
        drop(store.check_and_insert(&used, SystemTime::now() + HOUR, SystemTime::now()).await);
        for _ in 0..20 {
            let revocation = Revocation::key(acknowledged.to_string(), SystemTime::now(), HOUR);
            acknowledged += u64::from(revocations.revoke(revocation).await.is_ok());
        }
        *statuses.entry(status(&server, None).await).or_insert(0_u32) += 1;
    }
    println!("evicted under load: {acknowledged} revocations acknowledged, answers to a right secret {statuses:?}");
    assert!(acknowledged > 1_000 && statuses.keys().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(revocations.entries() as u64 >= acknowledged, "{} of {acknowledged}", revocations.entries());
    println!("{}", loss(&mut listener).await);
    // The setting is corrected while everything runs.
    for setting in ["maxmemory 0", "maxmemory-policy noeviction"] {
        assert!(redis.ask(&format!("CONFIG SET {setting}")).starts_with("+OK"));
    }
    let other = connect(&redis).await;
    until("all that is known is written again", || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        number(&redis.ask("ZCARD {tcc}:feed")) > acknowledged
    })
    .await;
    assert!(revocations.is_ready() && held(&other).await as u64 >= acknowledged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_connections_and_flushed_scripts_lose_no_acknowledged_write() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    let (revocations, mut listener) = follow(&store).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, stop) = (store.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut failed) = (Vec::new(), 0);
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{writer}-{number}");
                    match store.revoke(token(name.as_str())).await {
                        Ok(()) => acknowledged.push(name),
                        Err(_) => failed += 1,
                    }
                }
                (acknowledged, failed)
            })
        })
        .collect();
    let before = Instant::now();
    for kind in ["normal", "pubsub"].into_iter().cycle().take(20) {
        redis.ask(&format!("CLIENT KILL TYPE {kind} SKIPME yes"));
        assert_eq!(redis.ask("SCRIPT FLUSH"), "+OK\r\n");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until("a write is acknowledged", || async { store.revoke(token("last")).await.is_ok() }).await;
    stop.store(true, Ordering::Relaxed);
    let told = read(&store, Cursor::start()).await.0;
    let names: std::collections::HashSet<&str> = told
        .iter()
        .filter_map(|change| match change {
            Change::Revoked(Revocation::Token { token_id, .. }) => Some(token_id.as_str()),
            _ => None,
        })
        .collect();
    let (mut acknowledged, mut failed) = (0, 0);
    for writer in writers {
        let (written, failures) = writer.await.unwrap();
        assert!(written.iter().all(|name| names.contains(name.as_str())), "an acknowledged write is lost");
        acknowledged += written.len();
        failed += failures;
    }
    println!(
        "10 times all connections killed, 20 times all scripts flushed in {:?}: {acknowledged} writes acknowledged, 0 \
              lost; {failed} failed",
        before.elapsed()
    );
    assert!(acknowledged > 100 && failed > 0);
    still_polls(&revocations).await;
    assert!(listener.try_recv().is_none(), "nothing was lost");
}

#[tokio::test]
async fn flushed_scripts_alone_cause_no_failed_call() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    for name in 0..50 {
        assert_eq!(redis.ask("SCRIPT FLUSH"), "+OK\r\n");
        store.revoke(token(name.to_string())).await.unwrap();
        assert_eq!(redis.ask("SCRIPT FLUSH"), "+OK\r\n");
        let id = ReplayId::new("issuer", &name.to_string());
        let used = store.check_and_insert(&id, SystemTime::now() + HOUR, SystemTime::now()).await.unwrap();
        assert_eq!(used, Replay::Fresh);
    }
    assert_eq!(held(&store).await, 50);
}

/// An ACL user with these rules in addition to the required ones.
async fn user(redis: &Redis, rules: &str) -> Result<RedisStore, StoreError> {
    let all = "ON >password RESETKEYS RESETCHANNELS ~{tcc}:* &{tcc}:* -@all +@connection +@scripting +@read +@write +@pubsub +info";
    assert_eq!(redis.ask(&format!("ACL SETUSER tokens RESET {all} {rules}")), "+OK\r\n");
    RedisStore::connect(&format!("redis://tokens:password@127.0.0.1:{}", redis.port())).await
}

#[tokio::test]
async fn a_user_that_lacks_a_single_command_writes_completely_or_not_at_all() {
    let redis = Redis::start();
    let admin = connect(&redis).await;
    admin.create(client("billing").register().unwrap()).await.unwrap();
    let everything = || {
        redis.ask("EVAL \"return redis.sha1hex(redis.call('DUMP','{tcc}:feed')..redis.call('DUMP','{tcc}:clients')..redis.call('DUMP','{tcc}:ids')..redis.call('DUMP','{tcc}:ends')..redis.call('DUMP','{tcc}:tips')..redis.call('GET','{tcc}:counter'))\" 0")
    };
    let mut refused = 0;
    for command in ["incr", "set", "zadd", "zremrangebyrank", "hset", "hdel", "zrem", "hexists"] {
        let store = user(&redis, &format!("-{command}")).await.unwrap();
        let before = everything();
        let (billing, revision) = store.load(&BILLING).await.unwrap().unwrap();
        let billing = (*billing).clone();
        let of_clients = [
            store.create(client("new").register().unwrap()).await.err(),
            store.replace(billing, revision).await.err(),
            store.delete(&BILLING).await.err(),
        ];
        for error in of_clients {
            let Some(AdminError::Store(error)) = error else { panic!("{command}: {error:?}") };
            let said = source(&error).to_lowercase();
            assert!(said.contains("nothing was written") && said.contains(command), "{said}");
            refused += 1;
        }
        if !["hset", "hdel", "zrem", "hexists"].contains(&command) {
            let said = source(&store.revoke(token("t")).await.unwrap_err()).to_lowercase();
            assert!(said.contains("nothing was written") && said.contains(command), "{said}");
            refused += 1;
        }
        assert_eq!(everything(), before, "{command}");
        assert!(Revocations::follow(store).await.unwrap().is_ready(), "{command}: it still verifies");
    }
    assert_eq!(refused, 8 * 3 + 4);
    for command in ["zrangebyscore", "zscore", "zrange", "zcard", "del", "hmget"] {
        let said = source(&user(&redis, &format!("-{command}")).await.unwrap_err()).to_lowercase();
        assert!(said.contains("must allow") && said.contains(command), "{said}");
    }
    for (rules, says) in [
        ("-evalsha -eval", "evalsha"),
        ("-ping", "ping"),
        ("RESETKEYS ~other:*", "no permissions to access one of the keys"),
    ] {
        let said = source(&user(&redis, rules).await.unwrap_err());
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test]
async fn a_user_without_publish_can_write_and_other_processes_see_the_write_at_their_next_poll() {
    let redis = Redis::start();
    let reader = connect(&redis).await;
    for rules in ["-publish", "RESETCHANNELS", "-subscribe"] {
        let store = user(&redis, rules).await.unwrap();
        let (view, _) = follow(&reader).await;
        let own = Revocations::follow(store.clone()).await.unwrap();
        let id = format!("c{}", rules.trim_start_matches('-').to_lowercase());
        store.create(client(&id).register().unwrap()).await.unwrap();
        let before = view.entries();
        own.revoke(token(rules)).await.unwrap();
        until("it is heard of", || async { view.entries() == before + 1 }).await;
        // Exactly once: nothing was done twice or partially.
        assert!(matches!(store.create(client(&id).register().unwrap()).await, Err(AdminError::Exists)));
        store.delete(&id.parse().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_full_server_still_verifies_and_accepts_writes_again_once_there_is_room() {
    let redis = Redis::with(&["--maxmemory", "6mb"]);
    let store = connect(&redis).await;
    store.create(client("billing").scope(common::READ).audience(API).register().unwrap()).await.unwrap();
    let (revocations, mut listener) = follow(&store).await;
    let server = server(&store, revocations.clone());
    let mut acknowledged = 0_usize;
    while acknowledged < 100_000 {
        let key = Revocation::key(format!("{acknowledged:0>200}"), SystemTime::now(), HOUR);
        match revocations.revoke(key).await {
            Ok(()) => acknowledged += 1,
            Err(error) => {
                assert!(source(&error).contains("OOM"), "{}", source(&error));
                break;
            }
        }
    }
    assert!((1_000..100_000).contains(&acknowledged), "{acknowledged}");
    // A credential that could not be recorded is not accepted.
    let (mut recorded, now) = (0, SystemTime::now());
    while store.check_and_insert(&ReplayId::new("issuer", &recorded.to_string()), now + HOUR, now).await.is_ok() {
        recorded += 1;
        assert!(recorded < 10_000, "a full server takes everything");
    }
    still_polls(&revocations).await;
    assert_eq!((status(&server, None).await, status(&server, Some(&WRONG_SECRET)).await), (200, 401));
    assert_eq!((held(&store).await, revocations.entries()), (acknowledged, acknowledged));
    assert!(redis.ask("CONFIG SET maxmemory 0").starts_with("+OK"));
    revocations.revoke_key("after").await.unwrap();
    assert_eq!(held(&store).await, acknowledged + 1);
    assert!(listener.try_recv().is_none());
}

#[tokio::test]
async fn two_installations_are_separated_by_their_prefixes_and_share_data_with_the_same_prefix() {
    let redis = Redis::start();
    let prefixes = ["tcc", "tcc:clients", "tcc:replay", "t", "TCC", "tcc "];
    let mut stores = Vec::new();
    for prefix in prefixes {
        stores.push(RedisStore::builder(&redis.url()).prefix(prefix).connect().await.unwrap());
    }
    stores.push(RedisStore::connect(&format!("{}/1", redis.url())).await.unwrap());
    let id = ReplayId::new("issuer", "jti");
    for store in &stores {
        assert!(store.find(&BILLING).await.unwrap().is_none());
        store.create(client("billing").register().unwrap()).await.unwrap();
        assert_eq!(held(store).await, 0);
        store.revoke(token("t")).await.unwrap();
        let used = store.check_and_insert(&id, SystemTime::now() + HOUR, SystemTime::now()).await.unwrap();
        assert_eq!(used, Replay::Fresh);
    }
    let same = connect(&redis).await;
    assert!(same.find(&BILLING).await.unwrap().is_some());
    assert_eq!(held(&same).await, 1);
    assert!(matches!(same.create(client("billing").register().unwrap()).await, Err(AdminError::Exists)));
    let used = same.check_and_insert(&id, SystemTime::now() + HOUR, SystemTime::now()).await.unwrap();
    assert_eq!(used, Replay::Seen);
}

#[tokio::test]
async fn a_cluster_node_is_rejected_with_the_reason() {
    let redis = Redis::with(&["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]);
    let slot = number(&redis.ask("CLUSTER KEYSLOT {tcc}:x"));
    let refused = async |what: &str, url: &str| {
        let said = source(&RedisStore::connect(url).await.unwrap_err());
        assert!(said.contains("node of a Redis cluster") && said.contains("`cluster-enabled no`"), "{what}: {said}");
    };
    refused("without slots", &redis.url()).await;
    assert_eq!(redis.ask(&format!("CLUSTER ADDSLOTS {slot}")), "+OK\r\n");
    until("it is up", || async { redis.ask("SET {tcc}:x 1").starts_with("+OK") }).await;
    refused("with the slot of the store", &redis.url()).await;
    // Without INFO, the answer shows that the slot belongs to another node.
    assert_eq!(redis.ask("ACL SETUSER tokens ON >password ~* &* +@all -info"), "+OK\r\n");
    assert_eq!(redis.ask(&format!("CLUSTER DELSLOTS {slot}")), "+OK\r\n");
    until("it is down", || async { redis.ask("SET {tcc}:x 1").starts_with('-') }).await;
    refused("without INFO", &format!("redis://tokens:password@127.0.0.1:{}", redis.port())).await;
}

#[tokio::test]
async fn a_reader_that_is_ten_thousand_writes_behind_reads_everything_again_and_reports_no_loss() {
    let redis = Redis::start();
    let store = connect(&redis).await;
    store.revoke(token("first")).await.unwrap();
    let (_, cursor, _) = read(&store, Cursor::start()).await;
    store.revoke(token("own")).await.unwrap();
    let many =
        "\"for i = 3, 20000 do redis.call('ZADD', KEYS[1], i, i .. '-x') end redis.call('SET', KEYS[2], 20000)\"";
    assert!(!redis.ask(&format!("EVAL {many} 2 {{tcc}}:tips {{tcc}}:counter")).starts_with('-'));
    let other = connect(&redis).await;
    other.revoke(token("trims")).await.unwrap();
    let (told, cursor, signs) = read(&store, cursor).await;
    assert_eq!((told.len(), signs.len()), (3, 0), "{signs:?}");
    assert_eq!(read(&store, cursor).await.0.len(), 0);
}

/// In each round, the primary is killed under load and its replica takes over, without some of the acknowledged writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by scripts/attack"]
async fn attack_twenty_failovers_under_load_lose_nothing_that_was_acknowledged_to_a_running_process() {
    let mut primary = Redis::start();
    let proxy = Proxy::before(primary.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let store = RedisStore::connect(&url).await.unwrap();
    let (revocations, mut listener) = follow(&store).await;
    let reader = RedisStore::connect(&url).await.unwrap();
    let (other, _) = follow(&reader).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (revocations, stop) = (revocations.clone(), stop.clone());
        async move {
            let (mut acknowledged, mut failed) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                match revocations.revoke(Revocation::key(acknowledged.to_string(), SystemTime::now(), 4 * HOUR)).await {
                    Ok(()) => acknowledged += 1,
                    Err(_) => failed += 1,
                }
            }
            (acknowledged, failed)
        }
    });
    let mut behind = 0;
    for _ in 0..20 {
        let replica = Redis::start();
        assert!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())).starts_with("+OK"));
        let size = |server: &Redis| {
            server.ask("ZCARD {tcc}:feed").trim_start_matches(':').trim_end().parse::<u64>().unwrap_or(0)
        };
        until("the replica is in step", || async { size(&replica) > 0 && size(&replica) + 50 > size(&primary) }).await;
        assert!(replica.ask("REPLICAOF NO ONE").starts_with("+OK"));
        tokio::time::sleep(Duration::from_millis(200)).await;
        behind += size(&primary).saturating_sub(size(&replica));
        primary.kill();
        proxy.point_to(replica.port());
        primary = replica;
        let at = revocations.entries();
        until("it is written to", || async { revocations.entries() > at + 100 }).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, failed) = writing.await.unwrap();
    let direct = connect(&primary).await;
    until("all of it is there", || async { held(&direct).await >= acknowledged }).await;
    until("the other process has all of them", || async { other.entries() >= acknowledged }).await;
    assert!(revocations.entries() >= acknowledged && revocations.is_ready() && other.is_ready());
    let events = std::iter::from_fn(|| listener.try_recv()).count();
    println!(
        "20 failovers: {acknowledged} revocations acknowledged, {behind} of them unknown to the new primary, 0 lost; {failed} \
         calls failed, {events} events"
    );
    assert!(behind > 20 && events >= 1);
}
