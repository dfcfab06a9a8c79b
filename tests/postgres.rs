//! `PostgresStore` on a real Postgres: the conformance suite, concurrent starts, commits out of order, and secrets that it does
//! not show.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::follower::{Follower, is_woken_by_each_change_of_a_client};
use common::servers::Postgres;
use common::{at, chain, client, used_credentials};
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _};
use tower_client_credentials::store::conformance::{self, Violation};
use tower_client_credentials::store::{
    Change, ChangeFeed, ClientAdmin, Cursor, PostgresStore, Revocation, RevocationStore,
};
use tower_client_credentials::{ClientId, ClientStore};

const BILLING: ClientId = ClientId::from_static("billing");

/// Creates schemas for single tests, which is cheaper than a database.
struct Databases {
    server: Postgres,
    made: AtomicUsize,
}

impl Databases {
    fn start() -> Self {
        Self { server: Postgres::with(&["fsync=off"]), made: AtomicUsize::new(0) }
    }

    async fn fresh(&self) -> String {
        let name = format!("fresh_{}", self.made.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.server.url()).await.unwrap();
        let create = format!("CREATE SCHEMA {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        format!("{}&options=-csearch_path%3D{name}", self.server.url())
    }

    async fn store(&self) -> PostgresStore {
        PostgresStore::builder(self.fresh().await).call_timeout(Duration::from_secs(20)).connect().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() -> Result<(), Violation> {
    let databases = Databases::start();
    conformance::clients(|| databases.store()).await?;
    conformance::revocations(|| databases.store()).await?;
    conformance::client_changes(|| databases.store()).await?;
    conformance::replay_log(|| databases.store()).await?;
    let url = databases.fresh().await;
    conformance::durability(async || PostgresStore::connect(&url).await.unwrap()).await
}

#[tokio::test]
async fn unlimited_lifetimes_and_timeouts_are_treated_as_very_long_ones() {
    let server = Postgres::start();
    let store = PostgresStore::builder(server.url()).longest_token_lifetime(Duration::MAX).call_timeout(Duration::MAX);
    common::endless::revokes_and_disables(store.connect().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_replicas_can_start_at_once_on_an_empty_database() {
    let databases = Databases::start();
    for _ in 0..3 {
        let url = databases.fresh().await;
        let replicas: Vec<_> = (0..10).map(|_| tokio::spawn(PostgresStore::connect(url.clone()))).collect();
        for replica in replicas {
            replica.await.unwrap().unwrap();
        }
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let versions = "SELECT count(*) FROM tcc_schema";
        assert_eq!(sqlx::query_scalar::<_, i64>(versions).fetch_one(&mut connection).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_late_commit_is_reported_though_later_ones_were_reported_before() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let store = PostgresStore::connect(&url).await.unwrap();
    let mut cursor = Cursor::start();
    let mut held = Vec::new();
    for name in ["first", "second"] {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
        insert(&mut connection, &token(name)).await;
        held.push((name, connection));
        // It neither waits for the open transaction, nor is it delayed by it.
        let later = format!("after {name}");
        store.revoke(token(&later)).await.unwrap();
        assert_eq!(told(&store, &mut cursor).await, [later]);
        assert_eq!(told(&store, &mut cursor).await, [""; 0]);
    }
    // By a replica that starts now, too.
    let mut another = Cursor::start();
    assert_eq!(told(&store, &mut another).await.len(), 2);
    while let Some((name, mut connection)) = held.pop() {
        sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap();
        assert_eq!(told(&store, &mut cursor).await, [name]);
        assert_eq!(told(&store, &mut another).await, [name]);
    }
    assert_eq!(told(&store, &mut cursor).await, [""; 0]);
}

#[tokio::test]
async fn a_rolled_back_transaction_is_never_reported() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let store = PostgresStore::connect(&url).await.unwrap();
    let mut cursor = Cursor::start();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut connection).await.unwrap();
    insert(&mut connection, &token("never")).await;
    store.revoke(token("told")).await.unwrap();
    assert_eq!(told(&store, &mut cursor).await, ["told"]);
    sqlx::raw_sql("ROLLBACK").execute(&mut connection).await.unwrap();
    assert_eq!(told(&store, &mut cursor).await, [""; 0]);
}

#[tokio::test]
async fn a_feed_without_its_history_starts_over() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let store = PostgresStore::connect(&url).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut cursor = Cursor::start();
    store.revoke(token("kept")).await.unwrap();
    store.revoke(token("lost")).await.unwrap();
    assert_eq!(told(&store, &mut cursor).await, ["kept", "lost"]);
    // Like an asynchronous replica that was promoted without the last write.
    let lost = "DELETE FROM tcc_feed WHERE change LIKE '%lost%'";
    sqlx::raw_sql(lost).execute(&mut connection).await.unwrap();
    assert_eq!(told(&store, &mut cursor).await, ["kept"]);
    // Like a dump that was restored into a younger server.
    let ahead = "UPDATE tcc_feed SET xid = '1000000'";
    sqlx::raw_sql(ahead).execute(&mut connection).await.unwrap();
    let replica = PostgresStore::connect(&url).await.unwrap();
    store.revoke(token("new")).await.unwrap();
    let mut again = told(&replica, &mut cursor).await;
    again.sort();
    assert_eq!(again, ["kept", "new"]);
    assert_eq!(told(&replica, &mut cursor).await, [""; 0]);
}

#[tokio::test]
async fn another_replica_sees_a_write_at_once_and_sees_missed_writes_after_a_disconnection() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let writer = PostgresStore::connect(&url).await.unwrap();
    let mut follower = Follower::of(PostgresStore::connect(&url).await.unwrap()).await;
    follower.hears_at_once(&writer).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    // Without a notification, like a write while no one listens.
    insert(&mut connection, &token("missed")).await;
    follower.written += 1;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'LISTEN \"tcc_feed\"'
        AND datname = current_database()";
    sqlx::raw_sql(cut).execute(&mut connection).await.unwrap();
    let heard = follower.has(follower.written, Duration::from_secs(30)).await;
    assert!(heard.is_some(), "it does not see what it missed");
    follower.hears_at_once(&writer).await;
}

#[tokio::test]
async fn another_replica_is_woken_by_each_change_of_a_client() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let writer = PostgresStore::connect(&url).await.unwrap();
    let replica = PostgresStore::connect(&url).await.unwrap();
    let listens = async || {
        let listening = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN \"tcc_feed\"'
            AND datname = current_database()";
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::query_scalar::<_, i64>(listening).fetch_one(&mut connection).await.unwrap() > 0
    };
    is_woken_by_each_change_of_a_client(&writer, &replica, listens).await;
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_regardless_of_the_defaults_of_the_role() {
    let databases = Databases::start();
    for (default, in_force) in [("off", "on"), ("on", "on"), ("local", "local"), ("remote_apply", "remote_apply")] {
        let url = databases.fresh().await;
        PostgresStore::connect(&url).await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let watch = format!(
            "ALTER ROLE postgres SET synchronous_commit = {default};
            CREATE TABLE settings (synchronous_commit TEXT);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO settings VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;
            CREATE TRIGGER note BEFORE INSERT ON tcc_feed FOR EACH ROW EXECUTE FUNCTION note();"
        );
        sqlx::raw_sql(AssertSqlSafe(watch)).execute(&mut connection).await.unwrap();
        PostgresStore::connect(&url).await.unwrap().revoke(token("a")).await.unwrap();
        let noted = sqlx::query_scalar::<_, String>("SELECT synchronous_commit FROM settings");
        assert_eq!(noted.fetch_all(&mut connection).await.unwrap(), [in_force], "{default}");
    }
}

#[tokio::test]
async fn an_error_of_the_database_shows_no_part_of_a_row() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let store = PostgresStore::connect(&url).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let constraint = "ALTER TABLE tcc_clients ADD CONSTRAINT not_billing CHECK (id <> 'billing')";
    sqlx::raw_sql(constraint).execute(&mut connection).await.unwrap();
    // The details of Postgres' own error quote the whole row, including the hash of the secret.
    let error = store.create(client("billing").register().unwrap()).await.unwrap_err();
    let said = format!("{} {error:?}", chain(&error));
    assert!(said.contains("not_billing") && said.contains("23514"), "{said}");
    assert!(!said.contains("Failing row") && !said.contains("$sha256$") && !said.contains("client_id"), "{said}");
}

#[tokio::test]
async fn a_purge_alone_adopts_the_rows_of_a_restored_dump() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let store = PostgresStore::connect(&url).await.unwrap();
    store.revoke(token("kept")).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let ahead = "UPDATE tcc_feed SET xid = '1000000'";
    sqlx::raw_sql(ahead).execute(&mut connection).await.unwrap();
    assert_eq!(store.purge(at(0)).await.unwrap(), 0);
    let ahead = "SELECT count(*) FROM tcc_feed WHERE xid >= pg_snapshot_xmax(pg_current_snapshot())";
    assert_eq!(sqlx::query_scalar::<_, i64>(ahead).fetch_one(&mut connection).await.unwrap(), 0);
    assert_eq!(told(&store, &mut Cursor::start()).await, ["kept"]);
}

#[tokio::test]
async fn a_used_credential_is_kept_for_a_minute_beyond_its_end() {
    let databases = Databases::start();
    let store = databases.store().await;
    used_credentials::are_kept_for_a_minute_beyond_their_end(&store).await;
    used_credentials::of_a_client_are_kept_for_a_minute_beyond_their_end(&store).await;
}

#[tokio::test]
async fn each_use_removes_some_expired_ones_so_that_the_table_is_bounded_without_a_purge() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let store = PostgresStore::builder(&url).call_timeout(Duration::from_secs(20)).connect().await.unwrap();
    let number = async |query: &'static str| {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await.unwrap()
    };
    used_credentials::that_expired_are_removed_by_each_use(&store, number).await;
}

#[tokio::test]
async fn a_role_that_may_not_create_tables_suffices_if_they_exist() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let role = "CREATE ROLE lowly LOGIN PASSWORD 'lowly'; GRANT USAGE ON SCHEMA fresh_0 TO lowly;";
    sqlx::raw_sql(role).execute(&mut connection).await.unwrap();
    let lowly = url.replace(url.split('@').next().unwrap(), "postgres://lowly:lowly");
    let error = PostgresStore::connect(&lowly).await.unwrap_err();
    assert!(chain(&error).contains("permission denied"), "{}", chain(&error));
    PostgresStore::connect(&url).await.unwrap();
    let grant = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fresh_0 TO lowly;
        GRANT USAGE ON ALL SEQUENCES IN SCHEMA fresh_0 TO lowly;";
    sqlx::raw_sql(grant).execute(&mut connection).await.unwrap();
    let store = PostgresStore::connect(&lowly).await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    store.revoke(token("a")).await.unwrap();
    assert_eq!(store.purge(at(u64::from(u32::MAX))).await.unwrap(), 2);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_fails_and_is_cancelled_at_the_server() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let timeout = Duration::from_millis(300);
    let store = PostgresStore::builder(&url).call_timeout(timeout).connections(1).connect().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE tcc_clients, tcc_feed").execute(&mut connection).await.unwrap();
    for _ in 0..5 {
        assert!(store.find(&BILLING).await.is_err(), "find returns although the table is locked");
        assert!(store.revoke(token("a")).await.is_err(), "revoke returns although the table is locked");
        assert!(store.changes(&Cursor::start()).await.is_err(), "changes returns although the table is locked");
    }
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    let ended = async { while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut connection).await.unwrap() > 0 {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("abandoned statements are still running");
    sqlx::raw_sql("COMMIT").execute(&mut connection).await.unwrap();
    assert!(store.find(&BILLING).await.unwrap().is_none());
}

#[tokio::test]
async fn a_standby_is_rejected_because_its_revocations_may_be_outdated() {
    let mut server = Postgres::start();
    let store = PostgresStore::connect(server.url()).await.unwrap();
    store.changes(&Cursor::start()).await.unwrap();
    server.kill();
    server.demote();
    server.restart();
    let says_so = |error: &dyn std::error::Error| error.source().is_some_and(|why| why.to_string().contains("standby"));
    let begun = std::time::Instant::now();
    // Its connections must be reopened first.
    loop {
        let error = store.changes(&Cursor::start()).await.unwrap_err();
        if says_so(&error) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{error:?}");
    }
    assert!(says_so(&PostgresStore::connect(server.url()).await.unwrap_err()));
}

#[tokio::test]
async fn no_message_shows_the_password() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    let store = PostgresStore::builder(&url);
    let mut said = vec![format!("{store:?}")];
    said.push(format!("{:?}", store.connect().await.unwrap()));
    for wrong in [
        url.replace("postgres://", "mysql://"),
        url.replace("sslmode=disable", "sslmode=s3cret"),
        url.replace("//postgres:", "//postgres:s3cret"),
        url.replace("127.0.0.1:", "127.0.0.1:x"),
        url.replace("//postgres:", "//nobody:"),
        url.replace("/postgres?", "/missing?"),
        "postgres://a:s3cret@:::".to_owned(),
    ] {
        let error = PostgresStore::connect(wrong).await.unwrap_err();
        said.push(format!("{} {error:?}", chain(&error)));
    }
    let said = said.join("\n");
    for secret in [Postgres::PASSWORD, "p%40ss", "p@ss", "s3cret"] {
        assert!(!said.contains(secret), "{said}");
    }
    assert!(said.contains("write postgres://user:password@host:5432/database"), "{said}");
}

#[tokio::test]
async fn tables_of_a_newer_version_are_rejected() {
    let databases = Databases::start();
    let url = databases.fresh().await;
    PostgresStore::connect(&url).await.unwrap();
    let pool = PgPoolOptions::new().connect(&url).await.unwrap();
    sqlx::raw_sql("INSERT INTO tcc_schema (version) VALUES (99)").execute(&pool).await.unwrap();
    let error = PostgresStore::connect(&url).await.unwrap_err();
    assert!(chain(&error).contains("version 99"), "{}", chain(&error));
}

fn token(name: &str) -> Revocation {
    Revocation::token(name, BILLING, at(0), at(3_000_000_000))
}

/// Like the store, within a transaction that stays open.
async fn insert(connection: &mut PgConnection, revocation: &Revocation) {
    let change = serde_json::to_string(&Change::Revoked(revocation.clone())).unwrap();
    let insert = sqlx::query("INSERT INTO tcc_feed (change, forget_at) VALUES ($1, 3000000000)").bind(change);
    insert.execute(connection).await.unwrap();
}

/// Returns the ids of the reported tokens.
async fn told(store: &PostgresStore, cursor: &mut Cursor) -> Vec<String> {
    let answer = store.changes(cursor).await.unwrap();
    *cursor = answer.cursor;
    let names = answer.changes.into_iter().filter_map(|change| match change {
        Change::Revoked(Revocation::Token { token_id, .. }) => Some(token_id),
        _ => None,
    });
    names.collect()
}
