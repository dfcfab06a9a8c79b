//! The tables, and their creation.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::time::Instant;

use super::{feed, replays, workloads};
use crate::clock::Clock;
use crate::store::StoreError;
use crate::store::clock_check::ClockCheck;
use crate::store::sql::{failed, in_time, newer};

/// The version of the tables below. A later version adds a further step, and never changes an old one.
const VERSION: i64 = 1;

/// The tables. `xid` is the transaction that wrote a row: it tells the feed which rows it could not see before. `change` is
/// JSON as text, since `JSONB` does not accept every character that a name may have.
const TABLES: &str = r#"
    CREATE TABLE tcc_schema (version BIGINT PRIMARY KEY, created_at TIMESTAMPTZ NOT NULL DEFAULT now());
    CREATE SEQUENCE tcc_revision;
    CREATE TABLE tcc_clients (
        id TEXT COLLATE "C" PRIMARY KEY,
        revision BIGINT NOT NULL,
        record TEXT NOT NULL
    );
    CREATE TABLE tcc_feed (
        xid XID8 NOT NULL DEFAULT pg_current_xact_id(),
        seq BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY,
        digest BYTEA UNIQUE,
        change TEXT NOT NULL,
        forget_at BIGINT NOT NULL,
        PRIMARY KEY (xid, seq)
    );
    CREATE INDEX tcc_feed_forget_at ON tcc_feed (forget_at);
    CREATE TABLE tcc_replays (id BYTEA PRIMARY KEY, expires_at BIGINT NOT NULL);
    CREATE INDEX tcc_replays_expires_at ON tcc_replays (expires_at);
    INSERT INTO tcc_schema (version) VALUES (1);
"#;

/// How long to retry while the server starts or has no connection left; and how long to wait while other replicas may be
/// creating the tables.
const CONNECTING: Duration = Duration::from_secs(30);

const RETRY: Duration = Duration::from_millis(250);

/// The advisory lock for creating tables, so that one replica at a time does so. Its value is arbitrary but must not change.
const LOCK: i64 = 0x7463_635f_7461_6273; // "tcc_tabs"

/// Creates or updates the tables, and compares the clocks.
pub(super) async fn migrate(
    options: &PgConnectOptions,
    clock: &dyn Clock,
    clock_check: &ClockCheck,
) -> Result<(), StoreError> {
    let deadline = Instant::now() + CONNECTING;
    let version = in_time(2 * CONNECTING, async {
        let mut connection = connect(options, deadline).await.map_err(failed)?;
        let before = clock.now();
        let server = "SELECT pg_is_in_recovery(), (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        let (is_standby, shown) = sqlx::query_as(server).fetch_one(&mut connection).await.map_err(failed)?;
        if is_standby {
            return Err(StoreError::new(feed::STANDBY));
        }
        clock_check.compare(before, clock.now(), shown);
        let version = bring_up_to_date(&mut connection).await.map_err(not_brought_up_to_date)?;
        if version <= VERSION {
            prepare_shares(&mut connection).await?;
            workloads::prepare(&mut connection).await?;
        }
        connection.close().await.map_err(failed)?;
        Ok::<_, StoreError>(version)
    });
    match version.await? {
        found if found > VERSION => Err(newer(found, VERSION)),
        _ => Ok(()),
    }
}

/// Connects, and retries while the server cannot accept connections yet.
async fn connect(options: &PgConnectOptions, deadline: Instant) -> Result<PgConnection, sqlx::Error> {
    loop {
        match options.connect().await {
            Err(sqlx::Error::Database(said)) if said.is_transient_in_connect_phase() && Instant::now() < deadline => {
                tokio::time::sleep(RETRY).await;
            }
            done => return done,
        }
    }
}

/// Returns an error that names the missing permissions of the role.
fn not_brought_up_to_date(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let is_lacking = code.is_some_and(|code| code == "42501");
    let error = failed(error);
    if !is_lacking {
        return error;
    }
    let why = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    StoreError::new(format!("{why}; if there are no tables yet, first connect once with a role that may create tables"))
}

async fn bring_up_to_date(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    if !have_tables(connection).await? {
        locked(connection, Some(WITHOUT_TIMEOUT), async |connection| {
            if have_tables(connection).await? { Ok(()) } else { run(connection, TABLES).await }
        })
        .await?;
    }
    let version = sqlx::query_scalar("SELECT max(version) FROM tcc_schema").fetch_one(&mut *connection).await?;
    // The tables of a newer version are not changed.
    if version <= VERSION {
        feed::adopt(connection).await?;
    }
    Ok(version)
}

/// Returns whether the tables exist. Does not use `to_regclass`, which caches a negative result within a transaction.
async fn have_tables(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let table = "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'tcc_schema' AND pg_table_is_visible(oid))";
    sqlx::query_scalar(table).fetch_one(connection).await
}

/// Creates the table of the counts of assertions, which tables of an earlier version of this crate lack. A role that records no
/// assertions does not need it.
async fn prepare_shares(connection: &mut PgConnection) -> Result<(), StoreError> {
    let uses = "SELECT EXISTS (SELECT FROM pg_class WHERE relname = 'tcc_replays' AND pg_table_is_visible(oid)
        AND has_table_privilege(oid, 'INSERT')), quote_ident(current_user)";
    let (records, role): (bool, String) = sqlx::query_as(uses).fetch_one(&mut *connection).await.map_err(failed)?;
    if !records {
        return Ok(());
    }
    let mut may_count = shares(connection).await.map_err(failed)?;
    let mut why = String::new();
    if may_count.is_none() {
        if let Err(error) = replays::create_shares(connection).await {
            why = format!(": {error}");
        }
        may_count = shares(connection).await.map_err(failed)?;
    }
    if may_count == Some(true) {
        return Ok(());
    }
    let table = replays::SHARES.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(StoreError::new(format!(
        "the role {role} may record assertions, but cannot use the table `tcc_replay_shares`, which counts them{why}; run this once as \
         the owner of the tables: {table} GRANT SELECT, INSERT, UPDATE, DELETE ON tcc_replay_shares TO {role};"
    )))
}

/// Returns whether the role may use the table of the counts. `None` if there is no such table.
async fn shares(connection: &mut PgConnection) -> Result<Option<bool>, sqlx::Error> {
    let table = "SELECT has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
        AND has_table_privilege(oid, 'UPDATE') FROM pg_class WHERE relname = 'tcc_replay_shares' AND pg_table_is_visible(oid)";
    sqlx::query_scalar(table).fetch_optional(connection).await
}

/// Returns whether the error says that a table does not exist.
pub(super) fn lacks_table(error: &StoreError) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.to_string().ends_with("(42P01)"))
}

/// A setting for a transaction that waits for other processes: the role may have a `statement_timeout` that is too short for that.
pub(super) const WITHOUT_TIMEOUT: &str = "SET LOCAL statement_timeout = 0";

/// Runs statements that change the tables, one process at a time, in a transaction with this setting.
pub(super) async fn locked(
    connection: &mut PgConnection,
    setting: Option<&'static str>,
    work: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error>,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if let Some(setting) = setting {
        sqlx::raw_sql(setting).execute(&mut *transaction).await?;
    }
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    work(&mut transaction).await?;
    transaction.commit().await
}

/// Runs these statements, which change the tables.
pub(super) async fn run(connection: &mut PgConnection, statements: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(statements).execute(connection).await.map(drop)
}
