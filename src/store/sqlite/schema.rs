//! The tables, and their creation.

use std::error::Error as _;
use std::time::Duration;

use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;

use super::{feed, workloads, write};
use crate::store::StoreError;
use crate::store::sql::{self, failed};

/// The time limit of opening, since another process may be creating the tables.
pub(super) const OPENING: Duration = Duration::from_secs(30);

/// The version of the tables below. A later version adds a further step, and never changes an old one.
const VERSION: i64 = 2;

/// The tables. `WITHOUT ROWID`: looking up a client searches one tree only.
const TABLES: &str = "
    CREATE TABLE tcc_schema (version INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE tcc_clients (
        id TEXT PRIMARY KEY NOT NULL,
        revision INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tcc_feed (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        digest BLOB UNIQUE,
        change TEXT NOT NULL,
        forget_at INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX tcc_feed_forget_at ON tcc_feed (forget_at);
    CREATE TABLE tcc_replays (
        id BLOB PRIMARY KEY NOT NULL,
        expires_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tcc_replays_expires_at ON tcc_replays (expires_at);
    INSERT INTO tcc_schema VALUES (1);
";

/// Retries while the file is busy: SQLite does not always wait when two processes turn on the write-ahead log at once.
pub(super) async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    loop {
        match write(writer, OPENING, bring_up_to_date).await {
            Err(error) if is_busy(&error) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error),
            Ok(version) => return check_version(version),
        }
    }
}

pub(super) fn check_version(version: i64) -> Result<(), StoreError> {
    if version > VERSION { Err(sql::newer(version, VERSION)) } else { Ok(()) }
}

/// Checks that the file has a write-ahead log. Where SQLite cannot have one, it works without it, and readers and the writer
/// wait for each other.
pub(super) async fn has_log(writer: &SqlitePool) -> Result<(), StoreError> {
    let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode").fetch_one(writer).await.map_err(failed)?;
    if mode == "wal" {
        return Ok(());
    }
    Err(StoreError::new(format!(
        "SQLite cannot keep a write-ahead log there (journal_mode is `{mode}`, and must be `wal`): the file system has no memory \
         that processes share; put the file on a local disk"
    )))
}

fn is_busy(error: &StoreError) -> bool {
    error.source().is_some_and(|cause| cause.to_string().contains("database is locked"))
}

pub(super) async fn bring_up_to_date(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'tcc_schema'";
    if sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut *connection).await.map_err(failed)? == 0 {
        sqlx::raw_sql(TABLES).execute(&mut *connection).await.map_err(failed)?;
    }
    let version = "SELECT max(version) FROM tcc_schema";
    if sqlx::query_scalar::<_, i64>(version).fetch_one(&mut *connection).await.map_err(failed)? == 1 {
        sqlx::raw_sql(feed::TIPS).execute(&mut *connection).await.map_err(failed)?;
    }
    let version = sqlx::query_scalar(version).fetch_one(&mut *connection).await.map_err(failed)?;
    // The tables of a newer version are not changed.
    if version <= VERSION {
        workloads::prepare(connection).await?;
    }
    Ok(version)
}
