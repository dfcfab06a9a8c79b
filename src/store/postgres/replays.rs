//! The used credentials in Postgres.
//!
//! Rows of `tcc_replays` are never updated. A statement that removes expired rows skips locked ones, but Postgres waits all the
//! same for a row that was updated since the statement began, and two such statements could wait for each other.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::PostgresStore;
use super::schema::{lacks_table, locked, run};
use crate::store::database::Use;
use crate::store::replay::count_end;
use crate::store::sql::{self, PURGED_PER_USE, seconds};
use crate::store::{Replay, ReplayBounds, StoreError};

/// How many of the client's credentials, and of all in one part, are recorded and have not expired. `counts` has their number by
/// the time of their expiry, and `total` is the sum, which is right until the first of them expires, at `next_end`.
pub(super) const SHARES: &str = r#"
    CREATE TABLE IF NOT EXISTS tcc_replay_shares (
        owner TEXT COLLATE "C" PRIMARY KEY,
        total BIGINT NOT NULL,
        next_end BIGINT NOT NULL,
        last_end BIGINT NOT NULL,
        counts JSONB NOT NULL
    ) WITH (fillfactor = 50);
"#;

/// The number of parts in which all credentials are counted, since each count is one row, which one statement at a time changes.
const PARTS: u8 = 16;

/// The first steps of each statement: they replace a row of the same id that has expired.
macro_rules! removed {
    () => {
        "former AS (DELETE FROM tcc_replays WHERE id = $1 AND expires_at <= $3 RETURNING 1),
        expired AS (DELETE FROM tcc_replays WHERE id IN (
            SELECT id FROM tcc_replays WHERE expires_at <= $4 AND id <> $1 ORDER BY expires_at LIMIT $5
            FOR UPDATE SKIP LOCKED))"
    };
}

/// `removed` makes the insertion wait for the removal of the former row.
const RECORD: &str = concat!(
    "WITH ",
    removed!(),
    "INSERT INTO tcc_replays (id, expires_at) SELECT $1, $2 FROM (SELECT count(*) FROM former) AS removed
    ON CONFLICT (id) DO NOTHING"
);

/// The number of live credentials of a row `own`.
macro_rules! live {
    () => {
        "CASE WHEN own.next_end > $3 THEN own.total ELSE (
            SELECT coalesce(sum(value::bigint), 0) FROM jsonb_each_text(own.counts) WHERE key::bigint > $3) END"
    };
}

/// Counts a credential in the row of this owner, if that is below this bound when the row is locked.
macro_rules! counted {
    ($after:literal, $owner:literal, $bound:literal) => {
        concat!(
            "(INSERT INTO tcc_replay_shares AS own (owner, total, next_end, last_end, counts)
            SELECT ",
            $owner,
            ", 1, $8, $8, jsonb_build_object($8::text, 1) FROM ",
            $after,
            " ON CONFLICT (owner) DO UPDATE SET total = 1 + ",
            live!(),
            ", next_end = CASE WHEN own.next_end > $3 THEN least(own.next_end, $8) ELSE (
                SELECT least(min(key::bigint), $8) FROM jsonb_object_keys(own.counts) AS key WHERE key::bigint > $3) END,
            last_end = greatest(own.last_end, $8),
            counts = CASE WHEN own.next_end > $3 THEN own.counts ELSE (
                SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(own.counts) WHERE key::bigint > $3) END
                || jsonb_build_object($8::text, coalesce((own.counts ->> $8::text)::bigint, 0) + 1)
            WHERE ",
            live!(),
            " < ",
            $bound,
            " RETURNING 1)"
        )
    };
}

/// Each step needs the rows of the one before, so all statements lock in the same order: the credential, the owner, the part. The
/// bounds are checked first without a lock, so that a client beyond its share writes nothing.
const RECORD_WITHIN: &str = concat!(
    "WITH bounds AS (SELECT
        coalesce((SELECT ",
    live!(),
    " FROM tcc_replay_shares AS own WHERE owner = $6), 0) AS of_owner,
        coalesce((SELECT ",
    live!(),
    " FROM tcc_replay_shares AS own WHERE owner = $9), 0) AS in_part,
        EXISTS (SELECT FROM tcc_replays WHERE id = $1 AND expires_at > $3) AS is_used),
    ",
    removed!(),
    ", fresh AS (INSERT INTO tcc_replays (id, expires_at)
        SELECT $1, $2 FROM bounds, (SELECT count(*) FROM former) AS removed WHERE of_owner < $7 AND in_part < $10 AND NOT is_used
        ON CONFLICT (id) DO NOTHING RETURNING 1),
    owned AS ",
    counted!("fresh", "$6", "$7"),
    ", counted AS ",
    counted!("owned", "$9", "$10"),
    "SELECT is_used, of_owner >= $7, in_part >= $10, EXISTS (SELECT FROM fresh), EXISTS (SELECT FROM owned),
        EXISTS (SELECT FROM counted) FROM bounds"
);

impl PostgresStore {
    pub(super) async fn use_once(&self, used: Use<'_>) -> Result<Replay, StoreError> {
        let Use { id, expires_at, now } = used;
        let purge_until = sql::replays_until(self.clock_check.purge_time(now));
        let written = self.call(async |connection| {
            let used = sqlx::query(RECORD).bind(&id.as_bytes()[..]).bind(seconds(expires_at)).bind(seconds(now));
            let used = used.bind(purge_until).bind(PURGED_PER_USE);
            Ok(used.execute(connection).await?.rows_affected())
        });
        Ok(if written.await? == 0 { Replay::Seen } else { Replay::Fresh })
    }

    pub(super) async fn use_within(&self, used: Use<'_>, bounds: ReplayBounds<'_>) -> Result<Replay, StoreError> {
        // Otherwise the calls of one client would wait for its row with all connections of this store.
        let _turn = sql::in_time(self.timeout, async { Ok(self.turns.wait(bounds.owner()).await) }).await?;
        match self.record_within(used, bounds).await {
            Err(error) if lacks_table(&error) => {
                self.call(create_shares).await?;
                self.record_within(used, bounds).await
            }
            recorded => recorded,
        }
    }

    async fn record_within(&self, used: Use<'_>, bounds: ReplayBounds<'_>) -> Result<Replay, StoreError> {
        let Use { id, expires_at, now } = used;
        let purge_until = sql::replays_until(self.clock_check.purge_time(now));
        let [first, ..] = id.as_bytes();
        let part = first % PARTS;
        let used = sqlx::query(RECORD_WITHIN).bind(&id.as_bytes()[..]).bind(seconds(expires_at)).bind(seconds(now));
        let used = used.bind(purge_until).bind(PURGED_PER_USE);
        let used = used.bind(format!("client:{}", bounds.owner())).bind(i64::from(bounds.of_owner()));
        let used = used.bind(seconds(count_end(expires_at)));
        let used = used.bind(format!("part:{part}")).bind(i64::from(bounds.in_all().div_ceil(PARTS.into())));
        self.call(async |connection| answer(&used.fetch_one(connection).await?)).await
    }
}

fn answer(row: &PgRow) -> Result<Replay, sqlx::Error> {
    let is = |column: usize| row.try_get::<bool, _>(column);
    let (is_used, owner_is_full, part_is_full) = (is(0)?, is(1)?, is(2)?);
    let (is_fresh, is_owned, is_counted) = (is(3)?, is(4)?, is(5)?);
    Ok(if is_counted {
        Replay::Fresh
    } else if is_used {
        Replay::Seen
    } else if owner_is_full || is_fresh && !is_owned {
        Replay::OwnerFull
    } else if part_is_full || is_fresh {
        Replay::Full
    } else {
        Replay::Seen
    })
}

/// Creates the table of the counts. They start at zero: what an earlier version recorded expires within an hour.
pub(super) async fn create_shares(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    locked(connection, None, async |connection| run(connection, SHARES).await).await
}
