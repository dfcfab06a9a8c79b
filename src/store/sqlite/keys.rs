//! Rings of keys in SQLite. The tables are created at the first write, so that a file without a ring does not change.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{SqliteStore, execute};
use crate::clock::later;
use crate::keys::rotation::{Replica, StoredRing};
use crate::store::StoreError;
use crate::store::sql::{failed, live_replicas, millis, version_of};

const RINGS: &str = "CREATE TABLE IF NOT EXISTS tcc_key_rings
    (ring TEXT PRIMARY KEY, version INTEGER NOT NULL, document TEXT NOT NULL) STRICT";

const LEASES: &str = "CREATE TABLE IF NOT EXISTS tcc_key_leases
    (ring TEXT NOT NULL, replica TEXT NOT NULL, version INTEGER NOT NULL, ends_at INTEGER NOT NULL,
    proof TEXT NOT NULL, PRIMARY KEY (ring, replica)) STRICT";

/// One statement, so that the ring and its replicas are those of one time.
const LOAD: &str = "SELECT coalesce((SELECT version FROM tcc_key_rings WHERE ring = ?1), 0),
    coalesce((SELECT document FROM tcc_key_rings WHERE ring = ?1), ''),
    (SELECT json_group_array(json_array(replica, version, proof)) FROM tcc_key_leases WHERE ring = ?1 AND ends_at > ?2)";

const SAVE: &str = "INSERT INTO tcc_key_rings (ring, version, document)
    SELECT ?1, ?3, ?4 WHERE ?2 = 0 OR EXISTS (SELECT 1 FROM tcc_key_rings WHERE ring = ?1)
    ON CONFLICT (ring) DO UPDATE SET version = excluded.version, document = excluded.document WHERE version = ?2";

const RENEW: &str = "INSERT INTO tcc_key_leases (ring, replica, version, ends_at, proof) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (ring, replica)
    DO UPDATE SET version = excluded.version, ends_at = excluded.ends_at, proof = excluded.proof";

impl SqliteStore {
    pub(super) async fn read_ring(&self, ring: &str) -> Result<StoredRing, StoreError> {
        self.read(async |open| {
            let now = self.clock.now();
            let row = sqlx::query_as::<_, (i64, String, String)>(LOAD).bind(ring).bind(millis(now));
            let (version, document, replicas) = match row.fetch_one(&open.readers).await {
                Err(sqlx::Error::Database(said)) if said.message().starts_with("no such table: tcc_key_") => {
                    (0, String::new(), "[]".to_owned())
                }
                row => row.map_err(failed)?,
            };
            Ok(StoredRing { version: version_of(version), document, replicas: live_replicas(&replicas)?, now })
        })
        .await
    }

    pub(super) async fn write_ring(
        &self,
        ring: &str,
        over: u64,
        version: u64,
        document: &str,
    ) -> Result<bool, StoreError> {
        self.write_keys(async |connection| {
            let save = sqlx::query(SAVE).bind(ring).bind(over.cast_signed()).bind(version.cast_signed());
            Ok(save.bind(document).execute(connection).await?.rows_affected() == 1)
        })
        .await
    }

    pub(super) async fn write_lease(&self, ring: &str, replica: &Replica, lease: Duration) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.write_keys(async |connection| {
            let ended = sqlx::query("DELETE FROM tcc_key_leases WHERE ends_at < ?1").bind(millis(now));
            ended.execute(&mut *connection).await?;
            let renew = sqlx::query(RENEW).bind(ring).bind(&replica.name).bind(replica.version.cast_signed());
            renew.bind(millis(later(now, lease))).bind(&replica.proof).execute(connection).await.map(drop)
        })
        .await
    }

    async fn write_keys<T>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        self.write(async |connection| {
            execute(connection, RINGS).await?;
            execute(connection, LEASES).await?;
            work(connection).await.map_err(failed)
        })
        .await
    }
}
