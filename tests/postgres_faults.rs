//! A Postgres server that fails over, is restored, is full, slow or partly unreachable: what the store detects, and that it
//! never loses a write unnoticed.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::indexing_slicing)]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::faults::{read, until};
use common::follower::Follower;
use common::proxy::{End, Line, Proxy};
use common::servers::Postgres;
use common::{at, chain, client, clock};
use futures_util::future::join_all;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use tokio::time::sleep;
use tower_client_credentials::clock::ManualClock;
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::store::conformance::{self, Violation};
use tower_client_credentials::store::{
    Change, ChangeFeed, ClientAdmin, Cursor, PostgresStore, PostgresStoreBuilder, Replay, ReplayBounds, ReplayId,
    ReplayLog, Revocation, RevocationStore,
};
use tower_client_credentials::{ClientId, ClientStore, Revocations};

const BILLING: ClientId = ClientId::from_static("billing");
const REPORTS: ClientId = ClientId::from_static("reports");
const HOUR: Duration = Duration::from_secs(3_600);
const MILLI: Duration = Duration::from_millis(1);

/// How long recovery may take: a hanging call ends within two seconds, and the machine may be busy.
const RECOVERY: Duration = Duration::from_secs(40);

/// How long a view may take to see a revocation.
const HEARD: Duration = Duration::from_secs(1);

/// The process is killed, not the machine, so no test has to wait for a disk.
fn postgres(settings: &[&str]) -> Postgres {
    Postgres::with(&[&["fsync=off"], settings].concat())
}

fn patient(url: &str) -> PostgresStoreBuilder {
    PostgresStore::builder(url).call_timeout(Duration::from_secs(30))
}

fn token(name: &str) -> Revocation {
    let now = SystemTime::now();
    Revocation::token(name, BILLING, now, now + HOUR)
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

async fn run(url: &str, statements: &str) {
    let mut connection = connect(url).await;
    // A slow machine takes more than the time limit that a test sets for the role.
    sqlx::raw_sql("SET statement_timeout TO 0").execute(&mut connection).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
}

async fn number(url: &str, query: &str) -> i64 {
    let mut connection = connect(url).await;
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.unwrap()
}

fn name(change: Change) -> Option<String> {
    match change {
        Change::Revoked(Revocation::Token { token_id, .. }) => Some(token_id),
        _ => None,
    }
}

/// Reads to the end of the feed. Returns the token ids, and whether anything was lost.
async fn read_on(store: &PostgresStore, cursor: &mut Cursor) -> (Vec<String>, bool) {
    let (changes, next, signs) = read(store, cursor.clone()).await.unwrap();
    *cursor = next;
    (changes.into_iter().filter_map(name).collect(), !signs.is_empty())
}

async fn held(store: &PostgresStore) -> BTreeSet<String> {
    read_on(store, &mut Cursor::start()).await.0.into_iter().collect()
}

async fn following(store: &PostgresStore) -> (Revocations, EventReceiver) {
    let (events, listener) = event::channel();
    (Revocations::follow(store.clone()).events(events).await.unwrap(), listener)
}

fn losses(listener: &mut EventReceiver) -> usize {
    std::iter::from_fn(|| listener.try_recv())
        .filter(|event| matches!(event.outcome, Outcome::StoreLostData { .. }))
        .count()
}

/// The lost row and the first row of the new history get the same transaction and the same number, which happens in one of
/// thirty-three failovers. Only their texts differ.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_promoted_without_the_last_write_is_reported_and_all_its_own_writes_are_reported() {
    let mut primary = postgres(&[]);
    let proxy = Proxy::before(primary.port()).await;
    let store = PostgresStore::connect(Postgres::url_at(proxy.port, "postgres")).await.unwrap();
    let mut standby = primary.standby();
    // The next number is the first one whose assignment the standby does not know.
    let is_next = "SELECT CASE WHEN is_called THEN log_cnt ELSE 1 END FROM tcc_feed_seq_seq";
    let mut kept = BTreeSet::new();
    while kept.is_empty() || number(&primary.url(), is_next).await > 0 {
        let name = format!("kept {}", kept.len());
        store.revoke(token(&name)).await.unwrap();
        kept.insert(name);
    }
    let (revocations, mut listener) = following(&store).await;
    let written = number(&primary.url(), "SELECT (pg_current_wal_lsn() - '0/0')::bigint").await;
    let replayed = "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint";
    until("the standby has it all", async || number(&standby.url(), replayed).await >= written).await;
    tokio::task::block_in_place(|| standby.kill());

    store.revoke(token("lost")).await.unwrap();
    store.create(client("reports").register().unwrap()).await.unwrap();
    store.revoke(token("last")).await.unwrap();
    let all = kept.len() + 2;
    until("the view has it", async || revocations.entries() == all).await;
    let last = async |url: &str| {
        let of = async |what: &str| number(url, &format!("SELECT max({what}) FROM tcc_feed")).await;
        (of("xid::text::bigint").await, of("seq").await)
    };
    let place = last(&primary.url()).await;
    tokio::task::block_in_place(|| {
        primary.kill();
        standby.restart();
    });
    run(&standby.url(), "SELECT pg_promote()").await;
    let operator = patient(&standby.url()).connect().await.unwrap();
    // As many as are lost, so that the last one has the place that was reported last.
    let new = BTreeSet::from(["new 1", "new 2", "new 3"].map(str::to_owned));
    for name in &new {
        operator.revoke(token(name)).await.unwrap();
    }
    assert_eq!(last(&standby.url()).await, place, "transaction and number");
    proxy.point_to(standby.port());
    until("the view has the new ones", async || revocations.entries() == all + new.len()).await;
    assert_eq!(losses(&mut listener), 1, "it is reported once");
    // This process writes what it knew again, so that processes that start later know it as well.
    let revoked = &(&kept | &new) | &BTreeSet::from(["last", "lost"].map(str::to_owned));
    until("the store has it again", async || held(&store).await == revoked).await;
    assert!(store.find(&REPORTS).await.unwrap().is_none(), "that is lost, which is why it is reported");
    sleep(HEARD).await;
    assert_eq!((losses(&mut listener), revocations.is_ready()), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_write_is_reported_even_if_the_process_wrote_again_or_cancelled_a_poll_before() {
    let server = postgres(&[]);
    let proxy = Proxy::before(server.port()).await;
    let store = patient(&Postgres::url_at(proxy.port, "postgres")).connect().await.unwrap();
    let lose_last = "DELETE FROM tcc_feed WHERE (xid, seq) = (SELECT xid, seq FROM tcc_feed ORDER BY seq DESC LIMIT 1)";
    let mut cursor = Cursor::start();
    store.create(client("billing").register().unwrap()).await.unwrap();
    read_on(&store, &mut cursor).await;
    store.revoke(token("survived")).await.unwrap();
    store.revoke(token("lost")).await.unwrap();
    run(&server.url(), lose_last).await;
    store.revoke(token("new")).await.unwrap();
    store.revoke(token("newer")).await.unwrap();
    let kept = ["survived", "new", "newer"].map(str::to_owned).to_vec();
    assert_eq!(read_on(&store, &mut cursor).await, (kept, true));
    assert_eq!(read_on(&store, &mut cursor).await, (Vec::new(), false), "it is reported once");

    store.revoke(token("lost, too")).await.unwrap();
    run(&server.url(), lose_last).await;
    // A poll that is cancelled at any of its waits must not use up the report of the loss.
    proxy.set(Line::Slow(10 * MILLI));
    for time in (1..).map(|step| step * 20 * MILLI) {
        let polled = tokio::time::timeout(time, store.changes(&cursor)).await;
        if let Ok(changes) = polled {
            assert!(changes.unwrap().lost.is_some(), "after {time:?}");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_own_writes_than_the_store_remembers_are_reported_as_possibly_lost_and_all_is_read_again() {
    let server = postgres(&[]);
    let store = patient(&server.url()).connect().await.unwrap();
    let mut cursor = Cursor::start();
    store.revoke(token("first")).await.unwrap();
    read_on(&store, &mut cursor).await;
    let writers = (0..73).map(|writer| {
        let store = store.clone();
        async move {
            for number in 0..137 {
                store.revoke(token(&format!("{writer} {number}"))).await.unwrap();
            }
        }
    });
    join_all(writers).await;
    let (names, is_lost) = read_on(&store, &mut cursor).await;
    assert_eq!((names.len(), is_lost), (10_002, true), "also `first`, which it had read before");
    assert_eq!(read_on(&store, &mut cursor).await, (Vec::new(), false), "it is reported once");
}

/// Both are primaries for a while: the former one was cut off, and not stopped.
#[tokio::test(flavor = "multi_thread")]
async fn every_connection_to_the_former_primary_is_left_once_the_feed_finds_the_new_one() {
    let primary = postgres(&[]);
    let proxy = Proxy::before(primary.port()).await;
    let url = Postgres::url_at(proxy.port, "postgres");
    let store = PostgresStore::builder(&url).connections(3).connect().await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    let (revocations, mut listener) = following(&store).await;
    let standby = primary.standby();
    store.revoke(token("lost")).await.unwrap();
    // So that there are several connections.
    join_all((0..3).map(async |_| store.find(&BILLING).await.unwrap())).await;
    until("the view knows of it", async || revocations.entries() == 1).await;
    run(&standby.url(), "SELECT pg_promote()").await;
    let operator = patient(&standby.url()).connect().await.unwrap();
    // Whatever the standby had received by then.
    run(&standby.url(), "DELETE FROM tcc_feed WHERE change LIKE '%lost%'").await;
    operator.disable(&BILLING).await.unwrap();
    proxy.point_to(standby.port());
    assert!(store.find(&BILLING).await.unwrap().unwrap().is_enabled(), "at the former primary");
    // The connection of the feed is lost, and the others are not.
    let feed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_current_snapshot%'
        AND application_name = 'tower-client-credentials'";
    run(&primary.url(), feed).await;
    until("the operator is told", async || losses(&mut listener) == 1).await;
    for _ in 0..10 {
        assert!(!store.find(&BILLING).await.unwrap().unwrap().is_enabled(), "at the new primary");
    }
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    until("it listens at the new primary", async || number(&standby.url(), listening).await == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_restored_while_a_replica_runs_is_reported_and_followed() {
    let server = postgres(&[]);
    let url = server.url();
    let store = patient(&url).connect().await.unwrap();
    store.revoke(token("old")).await.unwrap();
    let (port, file) = (server.port().to_string(), "backup.sql");
    let of = ["--host=127.0.0.1", "--username=postgres", "--port", &port, "--dbname=postgres"];
    let done =
        |output: std::process::Output| assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    done(server.program("pg_dump", &[&of[..], &["--clean", "--if-exists", "--file", file]].concat()));
    let (revocations, mut listener) = following(&store).await;
    store.revoke(token("lost")).await.unwrap();
    until("the view has it", async || revocations.entries() == 2).await;
    assert_eq!(losses(&mut listener), 0);
    done(server.program("psql", &[&of[..], &["--quiet", "--set=ON_ERROR_STOP=1", "--file", file]].concat()));
    until("it is reported", async || losses(&mut listener) == 1).await;
    let revoked = BTreeSet::from(["old", "lost"].map(str::to_owned));
    until("the store has it again", async || held(&store).await == revoked).await;
    store.revoke(token("new")).await.unwrap();
    until("the view follows", async || revocations.entries() == 3).await;

    // Restored into a server that has assigned fewer ids than the server of the backup.
    let ahead = "UPDATE tcc_feed SET xid = (1000000 + place.number)::text::xid8
            FROM (SELECT ctid, row_number() OVER () AS number FROM tcc_feed) AS place WHERE tcc_feed.ctid = place.ctid;
        INSERT INTO tcc_feed (xid, seq, change, forget_at) OVERRIDING SYSTEM VALUE
            SELECT '2000000', seq, change, forget_at FROM tcc_feed LIMIT 1";
    run(&url, ahead).await;
    let begun = Instant::now();
    until("the rows are adopted", async || {
        let ahead = "SELECT count(*) FROM tcc_feed WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())";
        number(&url, ahead).await == 0
    })
    .await;
    println!("adopted within {:?}", begun.elapsed());
    store.revoke(token("newest")).await.unwrap();
    until("the view follows", async || revocations.entries() == 4).await;
    assert_eq!(losses(&mut listener), 0, "no more often than once a minute");
}

/// No process has read the lost write: only the process that wrote it knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_lost_before_any_replica_read_it_is_reported_by_the_process_that_wrote_it() {
    let server = postgres(&[]);
    let store = patient(&server.url()).connect().await.unwrap();
    let mut cursor = Cursor::start();
    store.revoke(token("kept")).await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    assert_eq!(read_on(&store, &mut cursor).await, (vec!["kept".to_owned()], false));
    for write in ["revoke", "create", "disable", "delete"] {
        match write {
            "revoke" => store.revoke(token("lost")).await.unwrap(),
            "create" => store.create(client("reports").register().unwrap()).await.unwrap(),
            "disable" => store.disable(&REPORTS).await.unwrap(),
            _ => store.delete(&REPORTS).await.unwrap(),
        }
        let lost = "DELETE FROM tcc_feed WHERE (xid, seq) = (SELECT xid, seq FROM tcc_feed ORDER BY seq DESC LIMIT 1)";
        run(&server.url(), lost).await;
        assert_eq!(read_on(&store, &mut cursor).await, (vec!["kept".to_owned()], true), "{write}");
        assert_eq!(read_on(&store, &mut cursor).await, (Vec::new(), false), "{write}");
    }
    store.revoke(token("seen")).await.unwrap();
    assert_eq!(read_on(&store, &mut cursor).await, (vec!["seen".to_owned()], false));
    assert_eq!(read_on(&store, &mut cursor).await, (Vec::new(), false));
}

#[tokio::test]
async fn a_purged_row_is_not_a_loss_and_a_later_row_in_its_place_is_reported() {
    let server = postgres(&[]);
    let store = patient(&server.url()).clock(clock()).connect().await.unwrap();
    let revocation = |name: &str, ends| Revocation::token(name, BILLING, at(0), at(ends));
    let mut cursor = Cursor::start();
    store.revoke(revocation("long", 3_000_000_000)).await.unwrap();
    store.revoke(revocation("short", 1_699_990_000)).await.unwrap();
    assert_eq!(read_on(&store, &mut cursor).await, (vec!["long".to_owned(), "short".to_owned()], false));
    let place = "SELECT xid::text || '|' || seq FROM tcc_feed WHERE change LIKE '%short%'";
    let mut connection = connect(&server.url()).await;
    let place: String = sqlx::query_scalar(place).fetch_one(&mut connection).await.unwrap();
    assert_eq!(store.purge(at(1_700_000_000)).await.unwrap(), 1);
    let (xid, seq) = place.split_once('|').unwrap();
    // Before the replica polls again.
    let change = serde_json::to_string(&Change::Revoked(revocation("another", 3_000_000_000))).unwrap();
    let insert = format!(
        "INSERT INTO tcc_feed (xid, seq, change, forget_at) OVERRIDING SYSTEM VALUE VALUES ('{xid}', {seq}, '{change}', 3000000000)"
    );
    run(&server.url(), &insert).await;
    assert_eq!(read_on(&store, &mut cursor).await, (vec!["long".to_owned(), "another".to_owned()], false));
    assert_eq!(read_on(&store, &mut cursor).await, (Vec::new(), false));
    // The same, before its time.
    run(&server.url(), "DELETE FROM tcc_feed WHERE change LIKE '%another%'").await;
    assert_eq!(read_on(&store, &mut cursor).await, (vec!["long".to_owned()], true));
    assert_eq!(read_on(&store, &mut cursor).await, (Vec::new(), false));
}

#[tokio::test]
async fn a_client_is_not_looked_up_at_a_server_that_became_a_standby() {
    let mut server = postgres(&[]);
    let store = PostgresStore::connect(server.url()).await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    assert!(store.find(&BILLING).await.unwrap().is_some());
    server.kill();
    server.demote();
    server.restart();
    let begun = Instant::now();
    let mut said = String::new();
    while !said.contains("standby") {
        for id in [BILLING, ClientId::from_static("unknown")] {
            said = chain(&store.find(&id).await.expect_err("what it has may be long past"));
        }
        assert!(begun.elapsed() < RECOVERY, "{said}");
    }
    assert!(store.revoke(token("a")).await.is_err());
    let id = ReplayId::new("issuer", "jti");
    assert!(store.check_and_insert(&id, SystemTime::now() + HOUR, SystemTime::now()).await.is_err());
}

/// Each look-up of a client that does not exist is a query to the store, and anyone can cause any number of them.
#[tokio::test(flavor = "multi_thread")]
async fn look_ups_of_unknown_clients_over_a_slow_network_do_not_delay_the_feed() {
    let server = postgres(&[]);
    let proxy = Proxy::before(server.port()).await;
    let store = PostgresStore::connect(Postgres::url_at(proxy.port, "postgres")).await.unwrap();
    let operator = PostgresStore::connect(server.url()).await.unwrap();
    let revocations = Revocations::follow(store.clone()).await.unwrap();
    proxy.set(Line::Slow(25 * MILLI));
    let (is_over, unanswered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let strangers: Vec<_> = (0..2_000)
        .map(|stranger| {
            let (store, is_over, unanswered) = (store.clone(), is_over.clone(), unanswered.clone());
            tokio::spawn(async move {
                let id: ClientId = format!("stranger-{stranger}").parse().unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    unanswered.fetch_add(usize::from(store.find(&id).await.is_err()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    until("strangers find every connection busy", async || unanswered.load(Ordering::Relaxed) > 2_000).await;
    let (mut slowest, mut oldest) = (Duration::ZERO, Duration::ZERO);
    // With a connection that the strangers use, too, each poll would fail.
    for number in 1..=10 {
        operator.revoke(token(&format!("t{number}"))).await.unwrap();
        let heard = until("the view has it", async || {
            oldest = oldest.max(revocations.age());
            revocations.entries() == number
        });
        slowest = slowest.max(heard.await);
    }
    is_over.store(true, Ordering::Relaxed);
    join_all(strangers).await;
    println!(
        "{unanswered:?} look-ups failed; a revocation was seen within {slowest:?}, the maximum age of the view was {oldest:?}"
    );
    assert!(revocations.is_ready(), "{oldest:?}");
}

/// What a poll costs on a slow line. A replica sees a revocation after the poll interval, which is at most 500 ms, and these
/// round trips.
#[tokio::test]
async fn a_poll_takes_one_round_trip_and_five_more_on_a_new_connection() {
    let server = postgres(&[]);
    let proxy = Proxy::before(server.port()).await;
    let store = patient(&Postgres::url_at(proxy.port, "postgres")).connect().await.unwrap();
    let mut cursor = Cursor::start();
    store.revoke(token("a")).await.unwrap();
    read_on(&store, &mut cursor).await;
    let before = proxy.round_trips();
    for _ in 0..20 {
        assert_eq!(read_on(&store, &mut cursor).await, (Vec::new(), false));
    }
    // A connection that was idle for a second, as on a busy machine, is tested first.
    let polls = proxy.round_trips() - before;
    assert!((20..25).contains(&polls), "{polls} round trips for 20 polls");
    proxy.set(Line::Cut);
    until("the connection is cut", async || store.changes(&cursor).await.is_err()).await;
    proxy.set(Line::Up);
    let before = proxy.round_trips();
    read_on(&store, &mut cursor).await;
    // Start, password, settings, preparing the statement, and running it.
    let reconnected = proxy.round_trips() - before;
    assert!((5..=6).contains(&reconnected), "{reconnected} round trips with a new connection");
}

/// Nothing tells the store that the connection broke: it would wait on it for a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_listens_and_broke_unnoticed_is_replaced_after_a_poll_finds_an_unannounced_change() {
    let server = postgres(&[]);
    let proxy = Proxy::before(server.port()).await;
    let url = Postgres::url_at(proxy.port, "postgres");
    let store = PostgresStore::builder(url).call_timeout(Duration::from_secs(1)).connect().await.unwrap();
    let operator = patient(&server.url()).connect().await.unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
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
        let before = woken.load(Ordering::SeqCst);
        let took = until("it is woken", async || {
            written += 1;
            operator.revoke(token(&written.to_string())).await.unwrap();
            if let Ok(page) = store.changes(&cursor).await {
                cursor = page.cursor;
            }
            woken.load(Ordering::SeqCst) > before
        });
        println!("stranded: {fault}; woken within {:?}", took.await);
    }
    listening.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_cut_half_closed_and_stalled_connections_are_recovered_from_and_leave_no_sessions_behind() {
    let server = postgres(&[]);
    let proxy = Proxy::before(server.port()).await;
    let store = PostgresStore::connect(Postgres::url_at(proxy.port, "postgres")).await.unwrap();
    let operator = PostgresStore::connect(server.url()).await.unwrap();
    let (revocations, mut listener) = following(&store).await;
    let is_over = AtomicBool::new(false);
    let acknowledged = AtomicUsize::new(0);
    // A few callers who keep several connections busy.
    let write = async |writer: usize| {
        let mut names = BTreeSet::new();
        for number in 0.. {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("{writer} {number}");
            if store.revoke(token(&name)).await.is_ok() {
                names.insert(name);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            sleep(5 * MILLI).await;
        }
        names
    };
    let faults = async {
        let mut slowest = Duration::ZERO;
        let mut written = 0;
        for round in 0..8 {
            match round % 4 {
                0 => proxy.half_close(End::Client),
                1 => proxy.half_close(End::Server),
                2 => proxy.strand(),
                _ => proxy.set(Line::Cut),
            }
            sleep(300 * MILLI).await;
            proxy.set(if round < 4 { Line::Up } else { Line::Slow(20 * MILLI) });
            let before = acknowledged.load(Ordering::Relaxed);
            let well = until("writes are taken, and read", async || {
                written += 1;
                operator.revoke(Revocation::key(format!("key {written}"), SystemTime::now(), HOUR)).await.unwrap();
                sleep(50 * MILLI).await;
                acknowledged.load(Ordering::Relaxed) > before + 5 && revocations.age() < HEARD
            });
            slowest = slowest.max(well.await);
        }
        is_over.store(true, Ordering::Relaxed);
        slowest
    };
    let (slowest, names) = tokio::join!(faults, join_all((0..4).map(write)));
    let names: BTreeSet<String> = names.into_iter().flatten().collect();
    let held = held(&operator).await;
    assert!(names.is_subset(&held), "lost: {:?}", names.difference(&held).collect::<Vec<_>>());
    println!("{} writes acknowledged, none lost; recovered within {slowest:?}", names.len());
    assert_eq!((losses(&mut listener), revocations.is_ready()), (0, true));
    // Ten for calls, one for the feed, one that listens, and those that are being opened or closed.
    until("sessions are ended", async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tower-client-credentials'";
        number(&server.url(), sessions).await <= 12 + 4 // the operator's
            && proxy.open() <= 12 + 2 // stalled while they listened
    })
    .await;
}

#[tokio::test]
async fn a_session_that_the_network_lost_is_ended_by_the_server_within_five_minutes() {
    let server = postgres(&[]);
    let url = server.url();
    let store = PostgresStore::connect(&url).await.unwrap();
    let watch = "CREATE TABLE settings (name TEXT, value TEXT);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO settings SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp_keepalives_%'
                OR name IN ('idle_session_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout');
            RETURN NEW; END $$;
        CREATE TRIGGER note BEFORE INSERT ON tcc_feed FOR EACH ROW EXECUTE FUNCTION note();";
    run(&url, watch).await;
    store.revoke(token("a")).await.unwrap();
    let mut connection = connect(&url).await;
    let noted = sqlx::query_as("SELECT name, value FROM settings ORDER BY name").fetch_all(&mut connection).await;
    let expected = [
        ("idle_in_transaction_session_timeout", "2000"),
        ("idle_session_timeout", "300000"),
        ("statement_timeout", "2000"),
        ("tcp_keepalives_count", "4"),
        ("tcp_keepalives_idle", "60"),
        ("tcp_keepalives_interval", "15"),
    ];
    let noted: Vec<(String, String)> = noted.unwrap();
    assert_eq!(noted, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_shutdown_under_writes_loses_no_acknowledged_write() {
    let mut server = postgres(&[]);
    let store = PostgresStore::connect(server.url()).await.unwrap();
    let (revocations, mut listener) = following(&store).await;
    let (is_over, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let (store, is_over, count) = (store.clone(), is_over.clone(), count.clone());
            tokio::spawn(async move {
                let mut names = BTreeSet::new();
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("{writer} {number}");
                    match store.revoke(token(&name)).await {
                        Ok(()) => {
                            names.insert(name);
                            // So that the store never has more unread writes than it remembers.
                            sleep(MILLI).await;
                        }
                        Err(_) => sleep(10 * MILLI).await,
                    }
                    count.store(count.load(Ordering::Relaxed).max(names.len()), Ordering::Relaxed);
                }
                names
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let before = count.load(Ordering::Relaxed);
        until("writes are taken", async || count.load(Ordering::Relaxed) > before + 30).await;
        tokio::task::block_in_place(|| {
            server.stop_immediately();
            server.restart();
        });
        let before = count.load(Ordering::Relaxed);
        let well = until("writes are taken again, and read", async || {
            count.load(Ordering::Relaxed) > before + 5 && revocations.age() < HEARD
        });
        slowest = slowest.max(well.await);
    }
    is_over.store(true, Ordering::Relaxed);
    let names = join_all(writers).await.into_iter().flat_map(Result::unwrap).collect::<BTreeSet<_>>();
    let held = held(&patient(&server.url()).connect().await.unwrap()).await;
    assert!(names.is_subset(&held), "lost: {:?}", names.difference(&held).collect::<Vec<_>>());
    println!("{} writes acknowledged, none lost; recovered within {slowest:?}", names.len());
    assert_eq!(losses(&mut listener), 0, "a crash is no loss");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_free_connections_fails_calls_within_the_deadline_and_is_used_again_later() {
    let server = postgres(&["max_connections=15", "superuser_reserved_connections=0"]);
    let url = server.url();
    let store = PostgresStore::builder(&url).call_timeout(Duration::from_secs(1)).connect().await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    let (revocations, _listener) = following(&store).await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE application_name = 'tower-client-credentials'";
    let mut others = vec![connect(&url).await];
    // The store reconnects meanwhile, so it may take several attempts until the others have all connections.
    let begun = Instant::now();
    while others.len() < 15 {
        sqlx::query(cut).execute(&mut others[0]).await.unwrap();
        while let Ok(connection) = PgConnection::connect(&url).await {
            others.push(connection);
        }
        assert!(begun.elapsed() < RECOVERY, "{}", others.len());
    }
    let (mut failed, mut said, begun) = (0, String::new(), Instant::now());
    while !said.contains("max_connections") {
        // The time limit of a call is 1 second.
        let found = tokio::time::timeout(RECOVERY, store.find(&BILLING)).await.expect("it ends within its time limit");
        said = chain(&found.expect_err("the other clients have all connections"));
        failed += 1;
        assert!(begun.elapsed() < RECOVERY, "{said}");
    }
    // A store that starts meanwhile waits for a connection.
    let starting = tokio::spawn(PostgresStore::connect(url.clone()));
    sleep(500 * MILLI).await;
    assert!(!starting.is_finished());
    drop(others);
    starting.await.unwrap().unwrap();
    let well = until("it is found again", async || {
        store.find(&BILLING).await.is_ok() && store.revoke(token("a")).await.is_ok() && revocations.age() < HEARD
    });
    println!("{failed} calls failed; recovered within {:?}", well.await);
}

#[tokio::test]
async fn writes_of_fifty_long_transactions_are_reported_when_they_end_and_delay_nothing() {
    let server = postgres(&["max_prepared_transactions=10"]);
    let store = patient(&server.url()).connect().await.unwrap();
    let mut cursors = [Cursor::start(), Cursor::start()];
    let insert = |name: &str| {
        let change = serde_json::to_string(&Change::Revoked(token(name))).unwrap();
        format!("INSERT INTO tcc_feed (change, forget_at) VALUES ('{change}', 3000000000)")
    };
    let (mut open, mut expected) = (Vec::new(), BTreeSet::new());
    let mut told = [BTreeSet::new(), BTreeSet::new()];
    for number in 0..50 {
        let mut connection = connect(&server.url()).await;
        let begun = format!("BEGIN; {}", insert(&format!("long {number}")));
        sqlx::raw_sql(AssertSqlSafe(begun)).execute(&mut connection).await.unwrap();
        open.push((number, connection));
        let name = format!("short {number}");
        store.revoke(token(&name)).await.unwrap();
        if number % 3 == 0 {
            let (names, is_lost) = read_on(&store, &mut cursors[0]).await;
            assert!(names.contains(&name) && !is_lost, "{name} waits for another transaction");
            told[0].extend(names);
        }
        expected.insert(name);
    }
    // Some commit, some roll back, and some are two-phase and end on another connection.
    while !open.is_empty() {
        let (number, mut connection) = open.swap_remove(open.len() * 7 / 11 % open.len());
        let end = match number % 5 {
            0 => "ROLLBACK".to_owned(),
            1 => format!("PREPARE TRANSACTION 'p{number}'"),
            _ => "COMMIT".to_owned(),
        };
        sqlx::raw_sql(AssertSqlSafe(end)).execute(&mut connection).await.unwrap();
        if number % 5 > 1 {
            expected.insert(format!("long {number}"));
        }
        for (cursor, told) in cursors.iter_mut().zip(&mut told) {
            told.extend(read_on(&store, cursor).await.0);
        }
        assert_eq!(told[0], expected);
    }
    for number in (1..50).step_by(5) {
        run(&server.url(), &format!("COMMIT PREPARED 'p{number}'")).await;
        expected.insert(format!("long {number}"));
        for (cursor, told) in cursors.iter_mut().zip(&mut told) {
            let (names, is_lost) = read_on(&store, cursor).await;
            assert!(!is_lost);
            told.extend(names);
            assert_eq!(*told, expected);
        }
    }
    assert_eq!(told[0].len(), 50 + 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_concurrent_with_writes_and_polls_hide_nothing_and_are_not_reported_as_losses() {
    const WRITERS: usize = 4;
    const WRITES: usize = 150;
    let server = postgres(&[]);
    let store = patient(&server.url()).clock(clock()).connect().await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    // The clock of the replica stands still. Entries that end before it may be purged as soon as they are written.
    let now = at(common::NOW);
    let write = |writer: usize| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..WRITES {
                let ends = if number % 3 == 0 { now + HOUR } else { now - HOUR };
                store.revoke(Revocation::token(format!("{writer} {number}"), BILLING, now, ends)).await.unwrap();
            }
        })
    };
    let purge = || {
        let (store, is_over) = (store.clone(), is_over.clone());
        tokio::spawn(async move {
            let mut purged = 0;
            while !is_over.load(Ordering::Relaxed) {
                purged += store.purge(now).await.unwrap();
            }
            purged
        })
    };
    let poll = || {
        let (store, is_over) = (store.clone(), is_over.clone());
        tokio::spawn(async move {
            let (mut cursor, mut all, mut polls) = (Cursor::start(), BTreeSet::new(), 0);
            loop {
                let is_end = is_over.load(Ordering::Relaxed);
                let (names, is_lost) = read_on(&store, &mut cursor).await;
                assert!(!is_lost, "a purge is no loss");
                all.extend(names);
                polls += 1;
                if is_end {
                    return (all, polls);
                }
            }
        })
    };
    let (writers, purgers): (Vec<_>, Vec<_>) = ((0..WRITERS).map(write).collect(), (0..3).map(|_| purge()).collect());
    let pollers: Vec<_> = (0..3).map(|_| poll()).collect();
    join_all(writers).await.into_iter().for_each(Result::unwrap);
    is_over.store(true, Ordering::Relaxed);
    let purged: u64 = join_all(purgers).await.into_iter().map(Result::unwrap).sum();
    let long: BTreeSet<String> = (0..WRITERS)
        .flat_map(|writer| (0..WRITES).step_by(3).map(move |number| format!("{writer} {number}")))
        .collect();
    for poller in pollers {
        let (told, polls) = poller.await.unwrap();
        println!("{polls} polls");
        assert!(told.is_superset(&long), "not reported: {:?}", long.difference(&told).collect::<Vec<_>>());
    }
    let rest = store.purge(now).await.unwrap();
    assert_eq!(purged + rest, u64::try_from(WRITERS * WRITES - long.len()).unwrap());
    assert_eq!(held(&store).await, long);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_used_on_fifty_connections_at_once_is_fresh_for_exactly_one_even_if_it_is_purged_meanwhile() {
    const ROUNDS: u64 = 20;
    let server = postgres(&[]);
    let store = patient(&server.url()).connections(50).connect().await.unwrap();
    let (now, cleaner) = (Arc::new(AtomicU64::new(1_000)), store.clone());
    let clock = now.clone();
    let purging = tokio::spawn(async move {
        let mut purged = 0;
        loop {
            let time = clock.load(Ordering::SeqCst);
            purged += cleaner.purge(at(time)).await.unwrap();
            if time == u64::from(u32::MAX) {
                return purged;
            }
        }
    });
    for round in 0..ROUNDS {
        // Each time, the credential of the last round has expired and may be purged.
        let time = now.fetch_add(200, Ordering::SeqCst) + 200;
        for name in ["one", "other"] {
            let id = ReplayId::new("issuer", name);
            let use_it = |_| {
                let store = store.clone();
                tokio::spawn(async move { store.check_and_insert(&id, at(time + 100), at(time)).await.unwrap() })
            };
            let uses = join_all((0..50).map(use_it)).await;
            let fresh = uses.into_iter().filter(|used| *used.as_ref().unwrap() == Replay::Fresh).count();
            assert_eq!(fresh, 1, "{name}, round {round}");
        }
    }
    now.store(u32::MAX.into(), Ordering::SeqCst);
    let purged = purging.await.unwrap();
    println!("{purged} of {} uses were purged, the others overwritten", 2 * ROUNDS);
    assert_eq!(number(&server.url(), "SELECT count(*) FROM tcc_replays").await, 0);
}

/// Texts that databases, formats and terminals may misinterpret.
const UNUSUAL: [&str; 16] = [
    "'; DROP TABLE tcc_feed; --",
    "\\",
    "\\u0000",
    "a\0b",
    "\0",
    "%_%",
    "\"quoted\"",
    "{\"revoked\":{}}",
    " leading and trailing ",
    "line\nbreak\r\ttab",
    "\u{1b}[31m",
    "e\u{301}",
    "é",
    "\u{202e}ltr",
    "\u{10ffff}",
    "🦀",
];

#[tokio::test]
async fn names_with_unusual_text_are_kept_unchanged_in_every_encoding_of_the_database() {
    let server = postgres(&[]);
    for encoding in ["UTF8", "LATIN1", "SQL_ASCII"] {
        let database = encoding.to_lowercase();
        let create = format!("CREATE DATABASE {database} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        run(&server.url(), &create).await;
        let store = patient(&server.url_of(&database)).connect().await.unwrap();
        let long = "x".repeat(10_000);
        let names: BTreeSet<String> = UNUSUAL.iter().copied().chain([long.as_str(), ""]).map(str::to_owned).collect();
        let mut cursor = Cursor::start();
        for name in &names {
            for _ in 0..2 {
                store.revoke(Revocation::token(name, BILLING, at(0), at(3_000_000_000))).await.unwrap();
            }
            assert_eq!(read_on(&store, &mut cursor).await, (vec![name.clone()], false), "{encoding}: {name:?}");
            store.revoke(Revocation::key(name, SystemTime::now(), HOUR)).await.unwrap();
            let id = ReplayId::new(name, name);
            assert_eq!(store.check_and_insert(&id, at(200), at(100)).await.unwrap(), Replay::Fresh, "{name:?}");
            assert_eq!(store.check_and_insert(&id, at(200), at(100)).await.unwrap(), Replay::Seen, "{name:?}");
        }
        let all = store.changes(&Cursor::start()).await.unwrap().changes;
        let keys: BTreeSet<String> = all
            .into_iter()
            .filter_map(|change| match change {
                Change::Revoked(Revocation::Key { key_id, .. }) => Some(key_id),
                _ => None,
            })
            .collect();
        assert_eq!((held(&store).await, keys), (names.clone(), names), "{encoding}");

        let ids: BTreeSet<&str> =
            BTreeSet::from(["';--", "%_", "\\", "\"", " a", "a ", "A", "a", "$1", "{}", "null", "~"]);
        for id in &ids {
            store.create(client(id).subject("é 🦀").register().unwrap()).await.unwrap();
            store.disable(&id.parse().unwrap()).await.unwrap();
        }
        let listed = store.list(None, std::num::NonZeroUsize::MAX).await.unwrap();
        assert!(listed.iter().map(|client| client.id().as_str()).eq(ids.iter().copied()), "{listed:?}");
        for id in &ids {
            let found = store.find(&id.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((found.id().as_str(), found.is_enabled(), found.subject()), (*id, false, "é 🦀"));
            store.delete(&id.parse().unwrap()).await.unwrap();
        }
        assert!(store.list(None, std::num::NonZeroUsize::MIN).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_host_whose_clock_is_a_day_ahead_purges_nothing_that_the_others_still_need() {
    let server = postgres(&[]);
    let (store, now) = (patient(&server.url()).connect().await.unwrap(), SystemTime::now());
    let ahead = patient(&server.url()).clock(ManualClock::at(now + 24 * HOUR)).connect().await.unwrap();
    let id = ReplayId::new("issuer", "jti");
    store.revoke(token("a")).await.unwrap();
    assert_eq!(store.check_and_insert(&id, now + HOUR, now).await.unwrap(), Replay::Fresh);
    assert_eq!(ahead.purge(now + 24 * HOUR).await.unwrap(), 0);
    assert_eq!(held(&store).await.len(), 1);
    assert_eq!(store.check_and_insert(&id, now + HOUR, now).await.unwrap(), Replay::Seen);
    assert_eq!(ahead.purge(now + 26 * HOUR).await.unwrap(), 2, "they have expired by the clock of the database");
}

/// Only the replicas' own clocks matter; that of the database may show any time. If it is behind, nothing is purged.
#[tokio::test]
async fn a_database_clock_that_is_decades_off_changes_nothing() {
    let server = postgres(&[]);
    for (schema, time) in [("past", "1990-01-01"), ("future", "2099-12-31")] {
        // Objects that Postgres finds before its own by unqualified names.
        let clocks = ["now", "clock_timestamp", "statement_timestamp", "transaction_timestamp"].map(|name| {
            format!("CREATE FUNCTION {schema}.{name}() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '{time}'::timestamptz $$;")
        });
        run(&server.url(), &format!("CREATE SCHEMA {schema}; {}", clocks.concat())).await;
        let url = format!("{}&options=-csearch_path%3D{schema},pg_catalog", server.url());
        let mut connection = connect(&url).await;
        let shown = sqlx::query_scalar::<_, String>("SELECT now()::date::text").fetch_one(&mut connection);
        assert_eq!(shown.await.unwrap(), time);

        let store = patient(&url).connect().await.unwrap();
        let (revocations, mut listener) = following(&store).await;
        store.create(client("reports").register().unwrap()).await.unwrap();
        store.revoke(token("a")).await.unwrap();
        store.disable(&REPORTS).await.unwrap();
        until("the view has it", async || revocations.entries() == 2).await;
        let (id, now) = (ReplayId::new("issuer", "jti"), SystemTime::now());
        assert_eq!(store.check_and_insert(&id, now + HOUR, now).await.unwrap(), Replay::Fresh);
        assert_eq!(store.purge(now).await.unwrap(), 0);
        assert_eq!(store.check_and_insert(&id, now + HOUR, now).await.unwrap(), Replay::Seen);
        assert_eq!(held(&store).await.len(), 1);
        sleep(HEARD).await;
        assert_eq!((losses(&mut listener), revocations.entries()), (0, 2));
        drop(revocations);
        let expected = if schema == "past" { 0 } else { 5 };
        assert_eq!(store.purge(now + 48 * HOUR).await.unwrap(), expected, "two changes, two revocations and a use");
    }
}

#[tokio::test]
async fn a_release_that_starts_while_a_newer_one_migrates_waits_and_is_then_refused_or_goes_first() {
    const LOCK: &str = "BEGIN; SELECT pg_advisory_xact_lock(8386656192719577715)";
    let server = postgres(&[]);
    for ends_well in [true, false] {
        let schema = format!("migrated_{ends_well}");
        run(&server.url(), &format!("CREATE SCHEMA {schema}")).await;
        let url = format!("{}&options=-csearch_path%3D{schema}", server.url());
        let mut newer = connect(&url).await;
        sqlx::raw_sql(LOCK).execute(&mut newer).await.unwrap();
        let tables = "CREATE TABLE tcc_schema (version BIGINT PRIMARY KEY); CREATE TABLE tcc_clients (id TEXT);
            INSERT INTO tcc_schema VALUES (1), (2)";
        sqlx::raw_sql(tables).execute(&mut newer).await.unwrap();
        let older: Vec<_> = (0..5).map(|_| tokio::spawn(PostgresStore::connect(url.clone()))).collect();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
        until("they wait", async || number(&server.url(), waiting).await == 5).await;
        assert!(older.iter().all(|older| !older.is_finished()));
        let end = if ends_well { "COMMIT" } else { "ROLLBACK" };
        sqlx::raw_sql(end).execute(&mut newer).await.unwrap();
        for older in older {
            match older.await.unwrap() {
                Ok(store) if !ends_well => store.revoke(token("a")).await.unwrap(),
                Err(error) if ends_well => assert!(chain(&error).contains("of version 2"), "{}", chain(&error)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_role_that_may_not_create_or_use_the_tables_is_told_which_permission_is_missing() {
    let server = postgres(&[]);
    run(&server.url(), "CREATE ROLE lowly LOGIN PASSWORD 'lowly'; CREATE ROLE reader LOGIN PASSWORD 'reader'").await;
    let of = |role: &str| format!("postgres://{role}:{role}@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let said = chain(&PostgresStore::connect(of("lowly")).await.unwrap_err());
    for what in ["permission denied", "tcc_", "connect once with a role that may create tables", "GRANT"] {
        assert!(said.contains(what), "{what}: {said}");
    }
    let owner = PostgresStore::connect(server.url()).await.unwrap();
    run(&server.url(), "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader").await;
    owner.create(client("billing").register().unwrap()).await.unwrap();

    // A role that can read and not write still follows.
    let reader = PostgresStore::connect(of("reader")).await.unwrap();
    let (revocations, _listener) = following(&reader).await;
    owner.revoke(token("a")).await.unwrap();
    until("the view has it", async || revocations.entries() == 1).await;
    assert!(reader.find(&BILLING).await.unwrap().is_some());
    let id = ReplayId::new("issuer", "jti");
    let used = reader.check_and_insert(&id, SystemTime::now() + HOUR, SystemTime::now()).await;
    let refused = [
        reader.revoke(token("b")).await.unwrap_err(),
        used.unwrap_err(),
        reader.purge(SystemTime::now()).await.unwrap_err(),
    ];
    for error in refused {
        assert!(chain(&error).contains("permission denied for table tcc_"), "{}", chain(&error));
    }
    assert!(revocations.is_ready());
    // A role that may use none of them.
    let lowly = PostgresStore::connect(of("lowly")).await.unwrap_err();
    assert!(chain(&lowly).contains("permission denied for table tcc_"), "{}", chain(&lowly));
}

#[tokio::test]
async fn a_role_that_may_not_create_the_table_of_a_newer_version_is_told_at_its_start_what_the_owner_must_run() {
    let server = postgres(&[]);
    PostgresStore::connect(server.url()).await.unwrap();
    let role = "CREATE ROLE runtime LOGIN PASSWORD 'runtime'; CREATE ROLE reader LOGIN PASSWORD 'reader';
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO runtime;
        GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO runtime;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader";
    run(&server.url(), role).await;
    let of = |role: &str| format!("postgres://{role}:{role}@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    PostgresStore::connect(of("runtime")).await.unwrap();
    // As after an upgrade from a version without this table, and after the owner has started as well, which creates it.
    for has_owner_started in [false, true] {
        run(&server.url(), "DROP TABLE tcc_replay_shares").await;
        if has_owner_started {
            PostgresStore::connect(server.url()).await.unwrap();
        }
        let said = chain(&PostgresStore::connect(of("runtime")).await.unwrap_err());
        assert!(said.contains("role runtime") && said.contains("tcc_replay_shares"), "{said}");
        assert_eq!(said.contains("permission denied for schema"), !has_owner_started, "{said}");
        PostgresStore::connect(of("reader")).await.unwrap();
        let (_, statements) = said.split_once("owner of the tables: ").unwrap();
        run(&server.url(), statements).await;
        let runtime = PostgresStore::connect(of("runtime")).await.unwrap();
        let id = ReplayId::new("issuer", &has_owner_started.to_string());
        let (now, bounds) = (SystemTime::now(), ReplayBounds::new("billing", 10, 100));
        let used = runtime.check_and_insert_within(&id, bounds, now + HOUR, now).await;
        assert_eq!(used.unwrap(), Replay::Fresh);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_assertions_of_one_client_that_wait_for_its_row_leave_connections_for_other_clients() {
    const MANY: usize = 40;
    let server = postgres(&[]);
    let store = patient(&server.url()).call_timeout(Duration::from_secs(120)).connections(5).connect().await.unwrap();
    let record = async |client: &str, number: usize| {
        let id = ReplayId::new(client, &number.to_string());
        let (now, bounds) = (SystemTime::now(), ReplayBounds::new(client, 1_000, 10_000));
        store.check_and_insert_within(&id, bounds, now + HOUR, now).await
    };
    assert_eq!(record("busy", MANY).await.unwrap(), Replay::Fresh);
    let mut connection = connect(&server.url()).await;
    let mut lock = connection.begin().await.unwrap();
    let row = "SELECT total FROM tcc_replay_shares WHERE owner = 'client:busy' FOR UPDATE";
    sqlx::query(row).execute(&mut *lock).await.unwrap();
    let waiting = async || {
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%tcc_replay_shares%'";
        number(&server.url(), waits).await
    };
    let others = async {
        until("the calls wait for the row", async || waiting().await >= 3).await;
        for number in 0..10 {
            assert_eq!(record("other", number).await.unwrap(), Replay::Fresh);
        }
        assert_eq!(waiting().await, 3);
        lock.commit().await.unwrap();
    };
    let (recorded, ()) = tokio::join!(join_all((0..MANY).map(|number| record("busy", number))), others);
    assert!(recorded.into_iter().all(|recorded| recorded.unwrap() == Replay::Fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_defaults_of_a_role_change_nothing() -> Result<(), Violation> {
    let server = postgres(&["default_transaction_deferrable=on", "array_nulls=off"]);
    let defaults = [
        "default_transaction_isolation TO 'serializable'",
        "statement_timeout TO '1s'",
        "lock_timeout TO '1s'",
        "idle_session_timeout TO '1s'",
        "synchronous_commit TO 'off'",
        "standard_conforming_strings TO off",
        "bytea_output TO 'escape'",
        "DateStyle TO 'SQL, DMY'",
        "TimeZone TO 'Pacific/Kiritimati'",
        "client_encoding TO 'LATIN1'",
        "plan_cache_mode TO 'force_generic_plan'",
        "enable_indexscan TO off",
        "row_security TO off",
        "search_path TO 'odd \"schema', public",
    ];
    let defaults = defaults.map(|default| format!("ALTER ROLE postgres SET {default};")).concat();
    run(&server.url(), &format!("CREATE SCHEMA \"odd \"\"schema\"; {defaults}")).await;
    let made = AtomicUsize::new(0);
    let fresh = async || {
        let database = format!("fresh_{}", made.fetch_add(1, Ordering::Relaxed));
        run(&server.url(), &format!("CREATE DATABASE {database}")).await;
        patient(&server.url_of(&database)).connect().await.unwrap()
    };
    conformance::clients(fresh).await?;
    conformance::revocations(fresh).await?;
    conformance::client_changes(fresh).await?;
    conformance::replay_log(fresh).await
}

/// Run by `scripts/attack`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: run by scripts/attack"]
async fn attack_a_listening_connection_that_was_lost_silently_is_replaced_within_a_minute() {
    let server = postgres(&[]);
    let proxy = Proxy::before(server.port()).await;
    let writer = PostgresStore::connect(server.url()).await.unwrap();
    let replica = PostgresStore::connect(Postgres::url_at(proxy.port, "postgres")).await.unwrap();
    let mut follower = Follower::of(replica).await;
    follower.hears_at_once(&writer).await;
    proxy.strand();
    sleep(Duration::from_secs(62)).await;
    follower.hears_at_once(&writer).await;
}

/// Run by `scripts/attack`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: run by scripts/attack"]
async fn attack_a_feed_of_a_million_rows_is_read_at_the_start_and_followed() {
    const ROWS: usize = 1_000_000;
    let server = postgres(&["synchronous_commit=off", "max_wal_size=8GB"]);
    let url = server.url();
    let store = PostgresStore::connect(&url).await.unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let fill = format!(
        r#"INSERT INTO tcc_feed (change, digest, forget_at) SELECT
            format('{{"revoked":{{"token":{{"token_id":"%s","client_id":"c%s","issued_at":{now},"expires_at":%s}}}}}}',
                n, n / 500, {now} + 3600 + n % 7200), sha256(n::text::bytea), {now} + 3600 + n % 7200
            FROM generate_series(1, {ROWS}) AS n; ANALYZE"#
    );
    run(&url, &fill).await;
    let begun = Instant::now();
    let (events, mut listener) = event::channel();
    let revocations = Revocations::follow(store.clone()).max_entries(2 * ROWS).events(events).await.unwrap();
    let loaded = begun.elapsed();
    assert_eq!(revocations.entries(), ROWS);
    assert!(revocations.is_ready());

    let (mut slowest, mut oldest, mut written) = (Duration::ZERO, Duration::ZERO, 0);
    let mut hear = async |rounds: usize, what: &str| {
        for _ in 0..rounds {
            written += 1;
            store.revoke(Revocation::key(format!("key {written}"), SystemTime::now(), 24 * HOUR)).await.unwrap();
            let heard = until(what, async || {
                oldest = oldest.max(revocations.age());
                revocations.is_ready() && revocations.entries() == ROWS + written
            });
            slowest = slowest.max(heard.await);
            sleep(50 * MILLI).await;
        }
    };
    hear(20, "while nothing else happens").await;
    // A replica that reads all of it, and a purge of half of it.
    let another = PostgresStore::connect(&url).await.unwrap();
    let reading =
        tokio::spawn(async move { Revocations::follow(another).max_entries(2 * ROWS).await.unwrap().entries() });
    hear(10, "while another replica starts").await;
    assert!(reading.await.unwrap() >= ROWS - 500);
    let cleaner = store.clone();
    let half = SystemTime::UNIX_EPOCH + Duration::from_secs(now + 3600 + 3600);
    let purging = tokio::spawn(async move { cleaner.purge(half).await.unwrap() });
    hear(10, "while half of it is purged").await;
    let purged = purging.await.unwrap();
    assert!((490_000..510_000).contains(&purged), "{purged}");
    println!(
        "{ROWS} rows read in {loaded:?}; then each poll succeeded: seen within {slowest:?}, maximum age of the view {oldest:?}; \
         {purged} rows purged meanwhile"
    );
    assert!(revocations.is_ready(), "{slowest:?} {oldest:?}");
    assert_eq!(losses(&mut listener), 0);
}
