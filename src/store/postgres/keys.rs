//! Rings of keys in Postgres. The tables are created at the first use, so that a database without a ring does not change.

use std::time::Duration;

use sqlx::PgConnection;

use super::PostgresStore;
use super::feed::STANDBY;
use super::schema::{lacks_table, locked, run};
use crate::clock::at_unix_millis;
use crate::keys::rotation::{Replica, StoredRing};
use crate::store::StoreError;
use crate::store::sql::{live_replicas, version_of};

const TABLES: &str = r#"
    CREATE TABLE IF NOT EXISTS tcc_key_rings (
        ring TEXT COLLATE "C" PRIMARY KEY,
        version BIGINT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS tcc_key_leases (
        ring TEXT COLLATE "C" NOT NULL,
        replica TEXT COLLATE "C" NOT NULL,
        version BIGINT NOT NULL,
        ends_at TIMESTAMPTZ NOT NULL,
        proof TEXT COLLATE "C" NOT NULL,
        PRIMARY KEY (ring, replica)
    );
"#;

/// One statement, so that the ring, its replicas and the clock are those of one time.
const LOAD: &str = "SELECT pg_is_in_recovery(), (extract(epoch FROM statement_timestamp()) * 1000)::bigint,
    coalesce(version, 0), coalesce(document, ''),
    coalesce((SELECT json_agg(json_build_array(replica, version, proof))::text FROM tcc_key_leases
        WHERE ring = $1 AND ends_at > statement_timestamp()), '[]')
    FROM (SELECT) AS always LEFT JOIN tcc_key_rings ON ring = $1";

const SAVE: &str = "INSERT INTO tcc_key_rings AS own (ring, version, document)
    SELECT $1, $3, $4 WHERE $2 = 0 OR EXISTS (SELECT FROM tcc_key_rings WHERE ring = $1)
    ON CONFLICT (ring) DO UPDATE SET version = excluded.version, document = excluded.document WHERE own.version = $2";

/// The lease begins when the statement runs, which is not before the caller's clock began to count. It does not wait for the lease
/// of another replica: two that renew at once, after both leases ended, would wait for each other.
const RENEW: &str = "WITH ended AS (
        DELETE FROM tcc_key_leases WHERE (ring, replica) IN (
            SELECT ring, replica FROM tcc_key_leases WHERE ends_at < statement_timestamp() AND (ring, replica) <> ($1, $2)
            FOR UPDATE SKIP LOCKED)
    )
    INSERT INTO tcc_key_leases (ring, replica, version, ends_at, proof)
    VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 millisecond', $5)
    ON CONFLICT (ring, replica)
    DO UPDATE SET version = excluded.version, ends_at = excluded.ends_at, proof = excluded.proof";

impl PostgresStore {
    pub(super) async fn read_ring(&self, ring: &str) -> Result<StoredRing, StoreError> {
        let load = async move |connection: &mut PgConnection| {
            sqlx::query_as::<_, (bool, i64, i64, String, String)>(LOAD).bind(ring).fetch_one(connection).await
        };
        let loaded = self.with_tables(|| self.reader.call(load));
        let (is_standby, now, version, document, replicas) = loaded.await?;
        if is_standby {
            return Err(StoreError::new(STANDBY));
        }
        let now = at_unix_millis(version_of(now));
        Ok(StoredRing { version: version_of(version), document, replicas: live_replicas(&replicas)?, now })
    }

    pub(super) async fn write_ring(
        &self,
        ring: &str,
        over: u64,
        version: u64,
        document: &str,
    ) -> Result<bool, StoreError> {
        let save = async move |connection: &mut PgConnection| {
            let save = sqlx::query(SAVE).bind(ring).bind(over.cast_signed()).bind(version.cast_signed());
            Ok(save.bind(document).execute(connection).await?.rows_affected() == 1)
        };
        self.with_tables(|| self.reader.call(save)).await
    }

    pub(super) async fn write_lease(&self, ring: &str, replica: &Replica, lease: Duration) -> Result<(), StoreError> {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        let renew = async move |connection: &mut PgConnection| {
            let renew = sqlx::query(RENEW).bind(ring).bind(&replica.name).bind(replica.version.cast_signed());
            renew.bind(lease).bind(&replica.proof).execute(connection).await.map(drop)
        };
        self.with_tables(|| self.reader.call(renew)).await
    }

    /// Makes a call, which uses the connection of the feed, since look-ups of clients never delay that. Creates the tables if they do
    /// not exist.
    async fn with_tables<T, F>(&self, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        match call().await {
            Err(error) if lacks_table(&error) => {
                self.reader.call(create_tables).await?;
                call().await
            }
            done => done,
        }
    }
}

async fn create_tables(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    locked(connection, None, async |connection| run(connection, TABLES).await).await
}
