//! The Redis store, tested with a real server: the conformance suite, Redis-specific failures, and a server that is killed
//! under load.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)] // helpers of tests, which may

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::follower::{Follower, is_woken_by_each_change_of_a_client};
use common::proxy::Proxy;
use common::servers::Redis;
use common::{NOW, at, client, clock};
use tower_client_credentials::store::conformance::{self, Violation};
use tower_client_credentials::store::{
    AdminError, Change, ChangeFeed, ClientAdmin, Cursor, RedisStore, Replay, ReplayBounds, ReplayId, ReplayLog,
    Revocation, RevocationStore,
};
use tower_client_credentials::{ClientId, ClientStore};

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() -> Result<(), Violation> {
    let server = Redis::start();
    let prefixes = AtomicU64::new(0);
    let empty = || {
        let prefix = format!("p{}", prefixes.fetch_add(1, Ordering::Relaxed));
        let builder = RedisStore::builder(&server.url()).prefix(prefix);
        async move { builder.connect().await.unwrap() }
    };
    conformance::clients(empty).await?;
    conformance::revocations(empty).await?;
    conformance::client_changes(empty).await?;
    conformance::replay_log(empty).await?;
    conformance::durability(|| async { RedisStore::connect(&server.url()).await.unwrap() }).await
}

#[tokio::test]
async fn unlimited_lifetimes_and_timeouts_are_treated_as_very_long_ones() {
    let server = Redis::start();
    let store = RedisStore::builder(&server.url()).longest_token_lifetime(Duration::MAX).call_timeout(Duration::MAX);
    common::endless::revokes_and_disables(store.connect().await.unwrap()).await;
}

async fn store(server: &Redis) -> RedisStore {
    RedisStore::builder(&server.url()).clock(clock()).connect().await.unwrap()
}

fn token(name: &str) -> Revocation {
    Revocation::token(name, ClientId::from_static("billing"), at(NOW), at(NOW + 600))
}

/// Returns all changes after a cursor, and the cursor after them.
async fn follow(store: &RedisStore, mut cursor: Cursor) -> (Vec<Change>, Cursor) {
    let mut told = Vec::new();
    loop {
        let page = store.changes(&cursor).await.unwrap();
        told.extend(page.changes);
        cursor = page.cursor;
        if !page.more {
            return (told, cursor);
        }
    }
}

#[tokio::test]
async fn a_feed_is_read_once_and_then_only_its_changes() {
    let server = Redis::start();
    let store = store(&server).await;
    let (told, start) = follow(&store, Cursor::start()).await;
    assert!(told.is_empty());
    store.revoke(token("a")).await.unwrap();
    let (told, cursor) = follow(&store, start).await;
    assert_eq!(told, [Change::Revoked(token("a"))]);
    assert!(follow(&store, cursor.clone()).await.0.is_empty());
    store.revoke(token("b")).await.unwrap();
    assert_eq!(follow(&store, cursor).await.0, [Change::Revoked(token("b"))]);
}

#[tokio::test]
async fn repeated_revocations_are_stored_once() {
    let server = Redis::start();
    let store = store(&server).await;
    for _ in 0..100 {
        store.revoke(token("a")).await.unwrap();
    }
    assert_eq!(follow(&store, Cursor::start()).await.0, [Change::Revoked(token("a"))]);
    assert_eq!(store.purge(at(NOW + 3_600)).await.unwrap(), 1);
}

#[tokio::test]
async fn more_than_a_page_is_read_page_by_page_while_more_is_written() {
    let server = Redis::start();
    let store = store(&server).await;
    let clients = (0..7_000).map(|number| client(&format!("c{number}")).register().unwrap()).collect();
    assert_eq!(store.create_all(clients).await.unwrap(), 7_000);
    let first = store.changes(&Cursor::start()).await.unwrap();
    assert!(first.more);
    store.revoke(token("late")).await.unwrap();
    let (rest, _) = follow(&store, first.cursor).await;
    let told: HashSet<_> = first.changes.into_iter().chain(rest).collect();
    assert_eq!(told.len(), 7_001);
}

#[tokio::test]
async fn a_follower_of_a_server_that_lost_its_data_reads_everything_from_the_start() {
    let mut server = Redis::start();
    let store = store(&server).await;
    for name in ["a", "b", "c"] {
        store.revoke(token(name)).await.unwrap();
    }
    let (_, ahead) = follow(&store, Cursor::start()).await;
    server.kill();
    server.restart_empty();
    // The feed has the same length as before, so that only the name of its end differs.
    for name in ["d", "e", "f"] {
        until(|| async { store.revoke(token(name)).await.is_ok() }).await;
    }
    let (told, cursor) = follow(&store, ahead).await;
    assert_eq!(told, ["d", "e", "f"].map(|name| Change::Revoked(token(name))));
    assert!(follow(&store, cursor).await.0.is_empty(), "it starts over once");
}

#[tokio::test]
async fn a_replica_is_rejected_because_its_revocations_may_be_outdated() {
    let (primary, replica) = (Redis::start(), Redis::start());
    let store = store(&replica).await;
    store.changes(&Cursor::start()).await.unwrap();
    assert!(replica.ask(&format!("REPLICAOF 127.0.0.1 {}", primary.port())).starts_with("+OK"));
    let error = store.changes(&Cursor::start()).await.unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("READONLY") || why.contains("read only"), "{why}");
    assert!(replica.ask("REPLICAOF NO ONE").starts_with("+OK"));
    store.changes(&Cursor::start()).await.unwrap();
}

#[tokio::test]
async fn a_page_may_end_where_the_server_was_replaced() {
    let mut server = Redis::start();
    let store = store(&server).await;
    let clients = |from: u32| (from..from + 6_000).map(|n| client(&format!("c{n}")).register().unwrap()).collect();
    store.create_all(clients(0)).await.unwrap();
    let first = store.changes(&Cursor::start()).await.unwrap();
    server.kill();
    server.restart_empty();
    until(|| async { store.changes(&Cursor::start()).await.is_ok() }).await;
    store.create_all(clients(10_000)).await.unwrap();
    let (told, _) = follow(&store, first.cursor).await;
    assert_eq!(told.len(), 6_000, "it reads all entries of the new server");
}

#[tokio::test]
async fn another_replica_sees_a_write_at_once_and_also_after_its_subscription_was_cut() {
    let server = Redis::start();
    let writer = RedisStore::connect(&server.url()).await.unwrap();
    let mut follower = Follower::of(RedisStore::connect(&server.url()).await.unwrap()).await;
    follower.hears_at_once(&writer).await;
    assert_eq!(server.ask("CLIENT KILL TYPE pubsub"), ":1\r\n");
    follower.hears_at_once(&writer).await;
}

#[tokio::test]
async fn another_replica_is_woken_by_each_change_of_a_client() {
    let server = Redis::start();
    let (writer, replica) = (store(&server).await, store(&server).await);
    let listens = async || server.ask("PUBSUB NUMSUB {tcc}:changed").ends_with(":1\r\n");
    is_woken_by_each_change_of_a_client(&writer, &replica, listens).await;
}

#[tokio::test]
async fn a_follower_is_woken_when_it_has_subscribed_again() {
    let mut server = Redis::start();
    let store = store(&server).await;
    let woken = |store: &RedisStore| {
        let store = store.clone();
        tokio::time::timeout(Duration::from_secs(20), tokio::spawn(async move { store.changed().await }))
    };
    woken(&store).await.expect("it is not woken when it is subscribed").unwrap();
    server.kill();
    server.restart();
    woken(&store).await.expect("it is not woken when it is subscribed again").unwrap();
}

#[tokio::test]
async fn ten_thousand_ends_of_the_feed_are_kept() {
    let server = Redis::start();
    let store = store(&server).await;
    let many =
        "\"for i = 1, 20000 do redis.call('ZADD', KEYS[1], i, i .. '-x') end redis.call('SET', KEYS[2], 20000)\"";
    assert!(!server.ask(&format!("EVAL {many} 2 {{tcc}}:tips {{tcc}}:counter")).starts_with('-'));
    assert_eq!(server.ask("ZCARD {tcc}:tips"), ":20000\r\n");
    store.revoke(token("a")).await.unwrap();
    assert_eq!(server.ask("ZCARD {tcc}:tips"), ":10000\r\n");
    // The last ones.
    let (told, cursor) = follow(&store, Cursor::start()).await;
    assert_eq!(told, [Change::Revoked(token("a"))]);
    assert!(follow(&store, cursor).await.0.is_empty());
}

#[tokio::test]
async fn a_used_credential_is_kept_for_five_minutes_beyond_its_end() {
    let server = Redis::start();
    let store = store(&server).await;
    let [one, other] = ["one", "other"].map(|name| ReplayId::new("issuer", name));
    assert_eq!(store.check_and_insert(&one, at(NOW + 60), at(NOW)).await.unwrap(), Replay::Fresh);
    let bounds = ReplayBounds::new("issuer", 10, 10);
    let used = store.check_and_insert_within(&other, bounds, at(NOW + 60), at(NOW)).await;
    assert_eq!(used.unwrap(), Replay::Fresh);
    for key in 1..=2 {
        // By the clock of the server, which may be wrong.
        let left = server.ask(&format!("EVAL \"return redis.call('TTL', redis.call('KEYS', '*replay*')[{key}])\" 0"));
        let left: u64 = left.trim_start_matches(':').trim_end().parse().unwrap();
        assert!((330..=360).contains(&left), "{left} seconds");
    }
}

#[tokio::test]
async fn a_used_credential_is_fresh_for_one_of_many_replicas() {
    let server = Redis::start();
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(store(&server).await);
    }
    let id = ReplayId::new("issuer", "jti");
    let tries = (0..64).map(|n| {
        let store = replicas[n % 4].clone();
        tokio::spawn(async move { store.check_and_insert(&id, at(NOW + 60), at(NOW)).await.unwrap() })
    });
    let mut fresh = 0;
    for attempt in tries.collect::<Vec<_>>() {
        fresh += u32::from(attempt.await.unwrap() == Replay::Fresh);
    }
    assert_eq!(fresh, 1);
    assert_eq!(replicas[0].check_and_insert(&id, at(NOW + 90), at(NOW + 60)).await.unwrap(), Replay::Fresh);
}

#[tokio::test]
async fn a_server_that_may_lose_data_causes_a_warning_and_on_request_an_error() {
    let forgetful =
        Redis::with(&["--appendonly", "no", "--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru"]);
    let problems = store(&forgetful).await.durability_problems().to_vec();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].contains("`appendonly yes`") && problems[2].contains("`maxmemory-policy noeviction`"));
    let error = RedisStore::builder(&forgetful.url()).require_durable().connect().await.unwrap_err();
    assert!(source(&error).contains("`appendfsync always`"), "{error:?}");

    let durable = Redis::start();
    let store = RedisStore::builder(&durable.url()).require_durable().connect().await.unwrap();
    assert!(store.durability_problems().is_empty());
}

#[tokio::test]
async fn a_server_that_does_not_show_its_settings_is_not_assumed_to_be_durable() {
    let server = Redis::with(&["--rename-command", "CONFIG", ""]);
    let problems = store(&server).await.durability_problems().to_vec();
    assert_eq!(problems.len(), 1, "INFO reports the two other settings: {problems:?}");
    assert!(problems[0].contains("appendfsync cannot be read"));
    assert!(RedisStore::builder(&server.url()).require_durable().connect().await.is_err());
}

#[tokio::test]
async fn neither_an_error_nor_debug_shows_the_password() {
    let server = Redis::with(&["--requirepass", "right-password"]);
    let url = |password: &str| format!("redis://:{password}@127.0.0.1:{}/", server.port());
    let builder = RedisStore::builder(&url("right-password"));
    assert!(!format!("{builder:?}").contains("right-password"));
    let store = builder.connect().await.unwrap();
    assert!(!format!("{store:?}").contains("right-password"));
    assert!(store.find(&ClientId::from_static("billing")).await.unwrap().is_none());
    let closed = "redis://:hunter2@127.0.0.1:1/".to_owned();
    let tls = url("hunter2").replace("redis:", "rediss:");
    for url in [url("hunter2"), tls, closed, "redis://:hunter2@[::/".to_owned(), "http://:hunter2@h/".to_owned()] {
        let error = RedisStore::connect(&url).await.unwrap_err();
        let said = format!("{error} {error:?} {}", source(&error));
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_full_server_refuses_writes_and_loses_nothing() {
    let server = Redis::with(&["--maxmemory", "6mb"]);
    let store = store(&server).await;
    let mut kept = 0_u64;
    while kept < 100_000 && store.revoke(token(&format!("{kept:0>200}"))).await.is_ok() {
        kept += 1;
    }
    assert!((1..100_000).contains(&kept), "{kept}");
    let refused = store.create(client("late").register().unwrap()).await;
    assert!(matches!(refused, Err(AdminError::Store(_))), "{refused:?}");
    assert_eq!(follow(&store, Cursor::start()).await.0.len() as u64, kept);
}

#[tokio::test]
async fn a_stalled_server_is_given_up_after_the_timeout_and_used_again_later() {
    let server = Redis::start();
    let timeout = Duration::from_millis(300);
    let store = RedisStore::builder(&server.url()).call_timeout(timeout).connect().await.unwrap();
    server.ask("CLIENT PAUSE 1500 ALL");
    let begun = Instant::now();
    assert!(store.find(&ClientId::from_static("billing")).await.is_err());
    assert!(begun.elapsed() < Duration::from_millis(1_200), "{:?}", begun.elapsed());
    until(|| async { store.find(&ClientId::from_static("billing")).await.is_ok() }).await;
}

#[tokio::test]
async fn a_connection_that_is_silent_for_ever_is_replaced() {
    let server = Redis::start();
    let proxy = Proxy::before(server.port()).await;
    let url = format!("redis://127.0.0.1:{}/", proxy.port);
    let store = RedisStore::builder(&url).call_timeout(Duration::from_millis(500)).connect().await.unwrap();
    proxy.strand();
    let id = ClientId::from_static("billing");
    assert!(store.find(&id).await.is_err(), "the failure was not reported");
    until(|| async { store.find(&id).await.is_ok() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_loses_no_acknowledged_write_and_is_used_again() {
    let mut server = Redis::start();
    let store = store(&server).await;
    let failed = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, failed, stop) = (store.clone(), failed.clone(), stop.clone());
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) == 1 {
                        break;
                    }
                    let id = format!("w{writer}-{number}");
                    let revoked = store.revoke(token(&id)).await.is_ok();
                    let created = store.create(client(&id).register().unwrap()).await.is_ok();
                    let replay = ReplayId::new("load", &id);
                    let used = store.check_and_insert(&replay, at(NOW + 600), at(NOW)).await.is_ok();
                    failed.fetch_add(u64::from(!revoked) + u64::from(!created) + u64::from(!used), Ordering::Relaxed);
                    acknowledged.push((id, revoked, created, used));
                    if !revoked {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                acknowledged
            })
        })
        .collect();
    let written = |server: &Redis| -> u64 {
        server.ask("ZCARD {tcc}:feed").trim_start_matches(':').trim_end().parse().unwrap_or(0)
    };
    until(|| async { written(&server) > 500 }).await;
    server.kill();
    until(|| async { failed.load(Ordering::Relaxed) > 20 }).await;
    server.restart();
    let up = Instant::now();
    let before = failed.load(Ordering::Relaxed);
    until(|| async { store.find(&ClientId::from_static("billing")).await.is_ok() }).await;
    let recovered = up.elapsed();
    let so_far = written(&server);
    until(|| async { written(&server) > so_far + 200 }).await;
    stop.store(1, Ordering::Relaxed);

    let told: HashSet<_> = follow(&store, Cursor::start()).await.0.into_iter().collect();
    let (mut revoked, mut created, mut used) = (0, 0, 0);
    for writer in writers {
        for (id, was_revoked, was_created, was_used) in writer.await.unwrap() {
            if was_revoked {
                revoked += 1;
                assert!(told.contains(&Change::Revoked(token(&id))), "revocation {id} is lost");
            }
            if was_created {
                created += 1;
                assert!(store.find(&id.parse().unwrap()).await.unwrap().is_some(), "client {id} is lost");
            }
            if was_used {
                used += 1;
                let again = store.check_and_insert(&ReplayId::new("load", &id), at(NOW + 600), at(NOW)).await;
                assert_eq!(again.unwrap(), Replay::Seen, "used credential {id} is lost");
            }
        }
    }
    println!(
        "redis-server killed under load: {revoked} revocations, {created} clients and {used} used credentials \
         acknowledged, 0 lost; {} calls failed ({before} before it was back), answers again {recovered:?} after it was back",
        failed.load(Ordering::Relaxed)
    );
    assert!(revoked > 200 && created > 200 && used > 200, "too few writes to show that none is lost");
    assert!(recovered < Duration::from_secs(5), "{recovered:?}");
}

/// The operator's message.
fn source(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// Waits for real processes, which cannot be controlled by a simulated clock.
async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "timed out");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn the_real_clock_is_the_default() {
    let server = Redis::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    store.delete(&ClientId::from_static("billing")).await.unwrap();
    let told = follow(&store, Cursor::start()).await.0;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let end = told.iter().find_map(|change| match change {
        Change::Revoked(revocation) => Some(revocation.expires_at()),
        _ => None,
    });
    assert!(end.unwrap() > now + 86_000, "{told:?}");
}
