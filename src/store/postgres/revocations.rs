//! The feed and the revocations in Postgres.

use std::time::SystemTime;

use sqlx::Row as _;
use sqlx::postgres::PgConnectOptions;

use super::feed::{FeedPage, Fetched, Place, last_told};
use super::schema::lacks_table;
use super::wake::listen;
use super::{PostgresStore, feed};
use crate::store::database::purged;
use crate::store::last_write::ToCheck;
use crate::store::sql::{self, PURGED_AT_ONCE, Row, seconds};
use crate::store::{Changes, Cursor, Revocation, StoreError};

impl PostgresStore {
    /// The cursor lists the transactions that were still open. Their rows are returned after they have committed, even if later
    /// transactions were returned before. An open transaction does not delay the others.
    pub(super) async fn read_feed(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        let place: Place = cursor.as_str().parse()?;
        let written = self.last_writes.get();
        let sign_of_loss = match self.page(&place, &written).await? {
            FeedPage::Changes(changes) => {
                self.last_writes.checked(&written);
                return Ok(changes);
            }
            FeedPage::StartOver { sign_of_loss } => sign_of_loss,
        };
        if sign_of_loss.is_some() {
            self.renewal.renew();
            // A role that may not write leaves this to a purge by another replica.
            let _ = self.reader.call(async |connection| feed::adopt(connection).await).await;
        }
        // After a loss, these writes are known to be missing. Otherwise another server that answers now must have them, too.
        let to_check = if sign_of_loss.is_some() { ToCheck::default() } else { written.clone() };
        let FeedPage::Changes(changes) = self.page(&Place::default(), &to_check).await? else {
            return Err(StoreError::new("the feed changed while it was read from the start; try again"));
        };
        // No await may follow: a caller that cancels this call there would drop the report of a loss.
        self.last_writes.checked(&written);
        Ok(match sign_of_loss {
            Some(sign) => changes.lost(sign),
            None => changes,
        })
    }

    pub(super) async fn woken(&self) {
        let options = || PgConnectOptions::clone(&self.pool.connect_options());
        self.wake.changed(|signal| listen(options(), self.renewal.clone(), signal)).await;
    }

    pub(super) async fn add_revocation(&self, revocation: Revocation) -> Result<(), StoreError> {
        let row = Row::revoked(revocation.later(self.clock.now(), self.clock_check.delay()))?;
        let told = concat!(
            "WITH told AS (
                INSERT INTO tcc_feed (change, digest, forget_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
                RETURNING xid, seq, forget_at, change
            )
            SELECT ",
            last_told!(),
            ", pg_notify('tcc_feed', '')"
        );
        let told = self.call(async |connection| {
            let told = sqlx::query(told).bind(row.change).bind(row.digest).bind(row.forget_at);
            told.fetch_one(connection).await?.try_get::<Option<String>, _>(0)
        });
        self.wrote(told.await?.as_deref());
        Ok(())
    }

    pub(super) async fn purge_until(&self, now: SystemTime) -> Result<u64, StoreError> {
        self.call(async |connection| feed::adopt(connection).await).await?;
        // Rows that another replica is purging at the same time are skipped.
        let feed = "DELETE FROM tcc_feed WHERE (xid, seq) IN (
            SELECT xid, seq FROM tcc_feed WHERE forget_at <= $1 ORDER BY forget_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let replays = "DELETE FROM tcc_replays WHERE id IN (
            SELECT id FROM tcc_replays WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let now = self.clock_check.purge_time(now);
        let shares = "DELETE FROM tcc_replay_shares WHERE owner IN (
            SELECT owner FROM tcc_replay_shares WHERE last_end <= $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
        let purged = self.purge_all(feed, seconds(now)).await?;
        match self.purge_all(shares, sql::replays_until(now)).await {
            // No credential was counted yet.
            Err(error) if !lacks_table(&error) => return Err(error),
            _ => {}
        }
        Ok(purged + self.purge_all(replays, sql::replays_until(now)).await?)
    }

    async fn purge_all(&self, statement: &'static str, until: i64) -> Result<u64, StoreError> {
        purged(PURGED_AT_ONCE.unsigned_abs(), || {
            let some = sqlx::query(statement).bind(until).bind(PURGED_AT_ONCE);
            self.call(async |connection| Ok(some.execute(connection).await?.rows_affected()))
        })
        .await
    }

    /// Remembers the last row of a write, if it wrote any.
    pub(super) fn wrote(&self, told: Option<&str>) {
        if let Some(place) = told.and_then(Place::parse) {
            self.last_writes.acknowledged(place);
        }
    }

    async fn page(&self, place: &Place, written: &ToCheck<Place>) -> Result<FeedPage, StoreError> {
        let before = self.clock.now();
        let page = self.reader.call(async |connection| place.fetch(&written.writes, connection).await).await;
        if page.as_ref().map_or(true, |rows| rows.iter().any(Fetched::has_change)) {
            self.wake.suspect();
        }
        let page = page?;
        let after = self.clock.now();
        if let Some(row) = page.first() {
            self.clock_check.compare(before, after, row.clock);
        }
        place.read(page, written, seconds(after))
    }
}
