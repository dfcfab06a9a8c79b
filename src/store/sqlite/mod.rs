//! [`SqliteStore`]: state in one file.

mod builder;
mod clients;
mod feed;
mod files;
mod keys;
mod revocations;
mod schema;
mod workloads;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::SqliteConnection;
use sqlx::sqlite::SqlitePool;
use tokio::sync::Notify;

pub use self::builder::{SqliteSettings, SqliteStoreBuilder};
use self::files::{Files, Open};
use super::StoreError;
use super::builder::CALL_TIMEOUT;
use super::database::database;
use super::last_write::LastWrites;
use super::sql::{self, CREATED_AT_ONCE, PooledConnection, failed, in_time};
use crate::clock::Clock;

/// Stores clients, revocations and used credentials in an SQLite file (feature `sqlite`), for the processes of one machine.
/// Clones share the connections. The feed does not announce the writes of other processes, which the next poll finds.
///
/// An acknowledged write is on the disk: the file has a write-ahead log, and each commit waits for the disk
/// (`journal_mode=WAL`, `synchronous=FULL`). With the common setting `NORMAL`, a power failure could undo the last commits,
/// and a revoked token would be valid again. Readers do not wait for the one writer.
///
/// The file must be on a local disk, not on a network share. It is created with read and write access for its owner only.
///
/// # Restore a copy
///
/// While a process runs, restore with `sqlite3 clients.db ".restore copy.db"`. Alternatively, stop all processes, remove
/// `clients.db-wal` and `clients.db-shm`, and replace the file. A running process
/// [reports](crate::event::Outcome::StoreLostData) the restore, and writes the revocations that it knows again. A file that
/// was replaced by a rename is opened again if it is intact; a write to the old file fails. Do not copy over the file
/// (`cp copy.db clients.db`) while a process runs: SQLite cannot notice that, and the file may be damaged.
///
/// ```
/// use tower_client_credentials::store::{ClientAdmin as _, ClientStore as _, SqliteStore};
/// use tower_client_credentials::{Client, ClientId, ClientSecret};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let url = format!("sqlite://{}/clients.db", folder.path().display());
/// let store = SqliteStore::open(&url).await?; // sqlite:///var/lib/auth/clients.db
/// store.create(Client::new("billing", ClientSecret::generate()?).register()?).await?;
/// assert!(store.find(&ClientId::from_static("billing")).await?.is_some());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteStore {
    files: Arc<Files>,
    last_writes: Arc<LastWrites<String>>,
    changed: Arc<Notify>,
    clock: Arc<dyn Clock>,
    longest_token_lifetime: Duration,
    timeout: Duration,
}

database!(SqliteStore, parse: sql::client, at_once: CREATED_AT_ONCE, longest: longest_token_lifetime);

/// Runs a transaction. It takes the lock at the start, so that nothing it read is stale when it writes.
///
/// It does not use the transactions of sqlx: after SQLite rolls one back itself, for example when the disk is full, the
/// connection of an sqlx transaction cannot start another one.
async fn write<T, E: From<StoreError>>(
    writer: &SqlitePool,
    timeout: Duration,
    work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, E>,
) -> Result<T, E> {
    in_time(timeout, async {
        let mut lease = PooledConnection::of(writer).await.map_err(failed)?;
        let connection = lease.connection().map_err(failed)?;
        execute(connection, "BEGIN IMMEDIATE").await?;
        match work(connection).await {
            Ok(done) => {
                execute(connection, "COMMIT").await?;
                lease.end(timeout);
                Ok(done)
            }
            Err(error) => {
                if execute(connection, "ROLLBACK").await.is_ok() {
                    lease.end(timeout);
                }
                Err(error)
            }
        }
    })
    .await
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), StoreError> {
    sqlx::query(statement).execute(connection).await.map(drop).map_err(failed)
}

impl SqliteStore {
    /// Opens `sqlite:///path/to/file.db`, and creates the file if it does not exist.
    ///
    /// # Errors
    ///
    /// The errors of [`SqliteStoreBuilder::open`].
    pub async fn open(url: impl Into<String>) -> Result<Self, StoreError> {
        Self::builder(url).open().await
    }

    /// Returns a builder with the default settings.
    pub fn builder(url: impl Into<String>) -> SqliteStoreBuilder {
        SqliteStoreBuilder::new(SqliteSettings { url: url.into(), most_bytes: None }, CALL_TIMEOUT)
    }

    fn time_of_change(&self) -> SystemTime {
        self.clock.now()
    }

    /// Reads with the connections to the current file.
    async fn read<T>(&self, work: impl AsyncFnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
        in_time(self.timeout, async { work(&*self.files.open().await?).await }).await
    }

    async fn write<T, E: From<StoreError>>(
        &self,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let open = in_time(self.timeout, self.files.open()).await?;
        let (written, tip) = write(&open.writer, self.timeout, async |connection| {
            let written = work(&mut *connection).await?;
            let tip = sqlx::query_scalar::<_, String>(feed::LAST_TIP).fetch_one(connection).await.map_err(failed)?;
            Ok::<_, E>((written, tip))
        })
        .await?;
        self.files.check(&open)?;
        self.last_writes.acknowledged(tip);
        self.changed.notify_waiters();
        Ok(written)
    }
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("file", &self.files.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::SqliteStore;
    use super::files::READERS;
    use crate::client_id::ClientId;
    use crate::store::{ChangeFeed as _, ClientStore as _, Cursor};

    #[tokio::test]
    async fn the_feed_is_read_while_lookups_use_every_other_connection() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/a.db", folder.path().display());
        let store = SqliteStore::builder(url).call_timeout(Duration::from_secs(2)).open().await.unwrap();
        let open = store.files.current();
        let mut lookups = Vec::new();
        for _ in 0..READERS {
            lookups.push(open.readers.acquire().await.unwrap());
        }
        assert!(store.find(&ClientId::from_static("stranger")).await.is_err());
        store.changes(&Cursor::start()).await.unwrap();
        drop(lookups);
    }

    #[tokio::test]
    async fn a_commit_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(format!("sqlite://{}/a.db", folder.path().display())).await.unwrap();
        let open = store.files.current();
        let synchronous = sqlx::query_scalar::<_, i64>("PRAGMA synchronous").fetch_one(&open.writer);
        // 2 is FULL. With NORMAL, a power failure can undo commits.
        assert_eq!(synchronous.await.unwrap(), 2);
        let journal = sqlx::query_scalar::<_, String>("PRAGMA journal_mode").fetch_one(&open.writer);
        assert_eq!(journal.await.unwrap(), "wal");
    }
}
