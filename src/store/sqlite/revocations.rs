//! The feed, the revocations and the used credentials in SQLite.

use std::time::{Duration, SystemTime};

use sqlx::SqliteConnection;

use super::{SqliteStore, feed, write};
use crate::store::sql::{self, PURGED_AT_ONCE, PURGED_PER_USE, Row, failed, in_time, seconds};
use crate::store::{
    ChangeFeed, Changes, Cursor, DynFuture, Replay, ReplayId, ReplayLog, Revocation, RevocationStore, StoreError,
    StoreFuture,
};

impl ChangeFeed for SqliteStore {
    /// There is one writer at a time, so the rows are numbered in the order of their commits.
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move {
            in_time(self.timeout, async {
                let open = self.files.open().await?;
                feed::read(&open.feed, &self.last_writes, cursor).await
            })
            .await
        })
    }

    /// Does not notice the writes of other processes.
    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(async move {
            self.changed.notified().await;
        })
    }
}

impl RevocationStore for SqliteStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            let row = Row::revoked(revocation)?;
            self.write(async |connection| insert(connection, row).await).await
        })
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            let feed = "DELETE FROM tcc_feed WHERE seq IN (
            SELECT seq FROM tcc_feed WHERE forget_at <= ?1 ORDER BY forget_at LIMIT ?2)";
            let replays = "DELETE FROM tcc_replays WHERE id IN (
            SELECT id FROM tcc_replays WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
            let purged = self.purge_all(feed, seconds(now)).await?;
            Ok(purged + self.purge_all(replays, sql::replays_until(now)).await?)
        })
    }

    fn longest_token_lifetime(&self) -> Duration {
        self.longest_token_lifetime
    }
}

impl ReplayLog for SqliteStore {
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        StoreFuture::new(async move {
            let open = in_time(self.timeout, self.files.open()).await?;
            // In a transaction: if the call is cancelled while another process holds the lock,
            // nothing is recorded, and the caller may try again with the same credential.
            let written = write(&open.writer, self.timeout, async |connection| {
                let expired = "DELETE FROM tcc_replays WHERE id IN (
                SELECT id FROM tcc_replays WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)";
                let expired = sqlx::query(expired).bind(sql::replays_until(now)).bind(PURGED_PER_USE);
                expired.execute(&mut *connection).await.map_err(failed)?;
                let used = "INSERT INTO tcc_replays (id, expires_at) VALUES (?1, ?2)
                ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE expires_at <= ?3";
                let used = sqlx::query(used).bind(&id.as_bytes()[..]).bind(seconds(expires_at)).bind(seconds(now));
                Ok::<_, StoreError>(used.execute(connection).await.map_err(failed)?.rows_affected())
            });
            let written = written.await?;
            self.files.check(&open)?;
            Ok(if written == 0 { Replay::Seen } else { Replay::Fresh })
        })
    }
}

impl SqliteStore {
    async fn purge_some(&self, statement: &'static str, until: i64) -> Result<u64, StoreError> {
        let purge = async {
            let open = self.files.open().await?;
            let purged = sqlx::query(statement).bind(until).bind(PURGED_AT_ONCE).execute(&open.writer);
            Ok::<_, StoreError>(purged.await.map_err(failed)?.rows_affected())
        };
        in_time(self.timeout, purge).await
    }

    async fn purge_all(&self, statement: &'static str, until: i64) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let some = self.purge_some(statement, until).await?;
            purged += some;
            if some < PURGED_AT_ONCE.unsigned_abs() {
                return Ok(purged);
            }
        }
    }
}

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
