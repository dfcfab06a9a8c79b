//! The feed, the revocations and the used credentials in SQLite.

use std::time::SystemTime;

use sqlx::SqliteConnection;

use super::{SqliteStore, feed, write};
use crate::store::database::{Use, purged};
use crate::store::sql::{self, PURGED_AT_ONCE, PURGED_PER_USE, Row, failed, in_time, seconds};
use crate::store::{Changes, Cursor, Replay, ReplayBounds, Revocation, StoreError};

impl SqliteStore {
    /// There is one writer at a time, so the rows are numbered in the order of their commits.
    pub(super) async fn read_feed(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        self.read(async |open| feed::read(&open.feed, &self.last_writes, cursor).await).await
    }

    /// Does not notice the writes of other processes.
    pub(super) async fn woken(&self) {
        self.changed.notified().await;
    }

    pub(super) async fn add_revocation(&self, revocation: Revocation) -> Result<(), StoreError> {
        let row = Row::revoked(revocation)?;
        self.write(async |connection| insert(connection, row).await).await
    }

    pub(super) async fn purge_until(&self, now: SystemTime) -> Result<u64, StoreError> {
        let feed = "DELETE FROM tcc_feed WHERE seq IN (
            SELECT seq FROM tcc_feed WHERE forget_at <= ?1 ORDER BY forget_at LIMIT ?2)";
        let purged = self.purge_all(feed, seconds(now)).await?;
        Ok(purged + self.purge_all(EXPIRED_REPLAYS, sql::replays_until(now)).await?)
    }

    async fn purge_all(&self, statement: &'static str, until: i64) -> Result<u64, StoreError> {
        purged(PURGED_AT_ONCE.unsigned_abs(), || {
            let some = sqlx::query(statement).bind(until).bind(PURGED_AT_ONCE);
            self.read(async |open| Ok(some.execute(&open.writer).await.map_err(failed)?.rows_affected()))
        })
        .await
    }

    pub(super) async fn use_once(&self, used: Use<'_>) -> Result<Replay, StoreError> {
        let Use { id, expires_at, now } = used;
        let open = in_time(self.timeout, self.files.open()).await?;
        // In a transaction: if the call is cancelled while another process holds the lock, nothing is recorded, and the caller may
        // try again with the same credential.
        let written = write(&open.writer, self.timeout, async |connection| {
            let expired = sqlx::query(EXPIRED_REPLAYS).bind(sql::replays_until(now)).bind(PURGED_PER_USE);
            expired.execute(&mut *connection).await.map_err(failed)?;
            let used = "INSERT INTO tcc_replays (id, expires_at) VALUES (?1, ?2)
                ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE expires_at <= ?3";
            let used = sqlx::query(used).bind(&id.as_bytes()[..]).bind(seconds(expires_at)).bind(seconds(now));
            Ok::<_, StoreError>(used.execute(connection).await.map_err(failed)?.rows_affected())
        });
        let written = written.await?;
        self.files.check(&open)?;
        Ok(if written == 0 { Replay::Seen } else { Replay::Fresh })
    }

    /// Each process counts for itself.
    pub(super) async fn use_within(&self, used: Use<'_>, _: ReplayBounds<'_>) -> Result<Replay, StoreError> {
        self.use_once(used).await
    }
}

/// Removes some of the credentials that have expired.
const EXPIRED_REPLAYS: &str = "DELETE FROM tcc_replays WHERE id IN (
    SELECT id FROM tcc_replays WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";

pub(super) async fn insert_all(connection: &mut SqliteConnection, rows: Vec<Row>) -> Result<(), StoreError> {
    for row in rows {
        insert(connection, row).await?;
    }
    Ok(())
}

async fn insert(connection: &mut SqliteConnection, row: Row) -> Result<(), StoreError> {
    let told = "INSERT INTO tcc_feed (digest, change, forget_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    let told = sqlx::query(told).bind(row.digest).bind(row.change).bind(row.forget_at).execute(connection);
    told.await.map(drop).map_err(failed)
}
