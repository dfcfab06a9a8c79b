//! [`KeyStore`] for Postgres. Its tables are created at the first use, so that a database without a ring does not change.

use std::time::{Duration, UNIX_EPOCH};

use sqlx::{Connection as _, PgConnection};

use super::PostgresStore;
use super::feed::STANDBY;
use super::schema::{LOCK, lacks_table};
use crate::clock::later;
use crate::keys::rotation::{KeyStore, KeyStoreError, KeyStoreFuture, Replica, StoredRing};
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

type Loaded = (bool, i64, i64, String, String);

impl PostgresStore {
    /// Runs a statement on the connection of the feed, which look-ups of clients never delay.
    async fn read_ring(&self, ring: &str) -> Result<Loaded, StoreError> {
        self.reader
            .call(async |connection| sqlx::query_as::<_, Loaded>(LOAD).bind(ring).fetch_one(connection).await)
            .await
    }

    async fn write_ring(&self, ring: &str, over: u64, version: u64, document: &str) -> Result<bool, StoreError> {
        self.reader
            .call(async |connection| {
                let save = sqlx::query(SAVE).bind(ring).bind(over.cast_signed()).bind(version.cast_signed());
                Ok(save.bind(document).execute(connection).await?.rows_affected() == 1)
            })
            .await
    }

    async fn write_lease(&self, ring: &str, replica: &Replica, lease: Duration) -> Result<(), StoreError> {
        let lease = i64::try_from(lease.as_millis()).unwrap_or(i64::MAX);
        self.reader
            .call(async |connection| {
                let renew = sqlx::query(RENEW).bind(ring).bind(&replica.name).bind(replica.version.cast_signed());
                renew.bind(lease).bind(&replica.proof).execute(connection).await.map(drop)
            })
            .await
    }

    /// Creates the tables, unless the error has another cause than that they do not exist.
    async fn create_key_tables(&self, error: StoreError) -> Result<(), StoreError> {
        if lacks_table(&error) {
            self.reader.call(async |connection| create_tables(connection).await).await
        } else {
            Err(error)
        }
    }
}

async fn create_tables(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    sqlx::raw_sql(TABLES).execute(&mut *transaction).await?;
    transaction.commit().await
}

impl KeyStore for PostgresStore {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
        Box::pin(async move {
            let loaded = match self.read_ring(ring).await {
                Err(error) => {
                    self.create_key_tables(error).await.map_err(KeyStoreError::new)?;
                    self.read_ring(ring).await
                }
                loaded => loaded,
            };
            let (is_standby, now, version, document, replicas) = loaded.map_err(KeyStoreError::new)?;
            if is_standby {
                return Err(KeyStoreError::new(StoreError::new(STANDBY)));
            }
            let now = later(UNIX_EPOCH, Duration::from_millis(version_of(now)));
            let replicas = live_replicas(&replicas).map_err(KeyStoreError::new)?;
            Ok(StoredRing { version: version_of(version), document, replicas, now })
        })
    }

    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool> {
        Box::pin(async move {
            let saved = match self.write_ring(ring, over, version, document).await {
                Err(error) => {
                    self.create_key_tables(error).await.map_err(KeyStoreError::new)?;
                    self.write_ring(ring, over, version, document).await
                }
                saved => saved,
            };
            saved.map_err(KeyStoreError::new)
        })
    }

    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Replica, lease: Duration) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            let renewed = match self.write_lease(ring, replica, lease).await {
                Err(error) => {
                    self.create_key_tables(error).await.map_err(KeyStoreError::new)?;
                    self.write_lease(ring, replica, lease).await
                }
                renewed => renewed,
            };
            renewed.map_err(KeyStoreError::new)
        })
    }
}
