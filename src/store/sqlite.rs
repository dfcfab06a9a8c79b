//! [`SqliteStore`]: state in one file.

mod feed;
mod files;
mod keys;

use std::error::Error as _;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Row as _, SqliteConnection};
use tokio::sync::Notify;

use self::files::Files;
use super::last_write::LastWrites;
use super::sql::{self, CREATED_AT_ONCE, Lease, PURGED_AT_ONCE, Row, failed, in_time, seconds};
use super::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientStore, ClientWrite, Cursor, DynFuture, Replay,
    ReplayId, ReplayLog, Revision, Revocation, RevocationStore, StoreError, StoreFuture,
};
use crate::client_id::ClientId;
use crate::clock::{Clock, SystemClock};
use crate::deadline::LONGEST_WAIT;
use crate::registration::RegisteredClient;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// Stores clients, revocations and used credentials in an SQLite file (feature `sqlite`), for the processes of one machine.
/// Clones share the connections.
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

/// The settings of a [`SqliteStore`], each with a default.
#[derive(Clone, Debug)]
pub struct SqliteStoreBuilder {
    url: String,
    most_bytes: Option<u64>,
    clock: Arc<dyn Clock>,
    longest_token_lifetime: Duration,
    timeout: Duration,
}

impl SqliteStoreBuilder {
    /// Sets the maximum size of the file, in bytes. A write that needs more fails. By default only the disk limits the size.
    #[must_use]
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.most_bytes = Some(bytes);
        self
    }

    /// Sets the clock that dates the revocations of disabled clients. The default is the clock of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the [longest token lifetime](RevocationStore::longest_token_lifetime). The default is 24 hours.
    #[must_use]
    pub fn longest_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.longest_token_lifetime = lifetime;
        self
    }

    /// Sets the time limit of a call. The default is 2 seconds. The maximum is 24 days; a longer time counts as 24 days.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_WAIT);
        self
    }

    /// Opens the file, creates it if it does not exist, and updates its tables to the current version.
    ///
    /// # Errors
    ///
    /// When the URL is invalid, the file cannot be opened, or a newer version of this crate wrote it.
    pub async fn open(self) -> Result<SqliteStore, StoreError> {
        let plain = self.plain_options()?;
        let options = self.options(plain.clone());
        create_for_owner(options.get_filename())?;
        let files = Arc::new(Files::new(options, plain, self.timeout));
        let open = files.current();
        in_time(OPENING, migrate(&open.writer)).await?;
        in_time(OPENING, has_log(&open.writer)).await?;
        let Self { clock, longest_token_lifetime, timeout, .. } = self;
        let (last_writes, changed) = (Arc::default(), Arc::default());
        Ok(SqliteStore { files, last_writes, changed, clock, longest_token_lifetime, timeout })
    }

    /// Returns the options without the settings that are written into the file.
    fn plain_options(&self) -> Result<SqliteConnectOptions, StoreError> {
        let options = self.url.strip_prefix("sqlite:").and_then(|_| SqliteConnectOptions::from_str(&self.url).ok());
        let options = options.ok_or_else(|| {
            // Not quoted: it may be the URL of another database, with a password.
            StoreError::new("invalid SQLite URL; use for example sqlite:///path/to/file.db")
        })?;
        if self.url.contains(":memory:") || self.url.contains("mode=memory") {
            return Err(StoreError::new("an SQLite database in memory is not supported; use `MemoryStore`"));
        }
        Ok(options.busy_timeout(self.timeout).disable_statement_logging())
    }

    fn options(&self, plain: SqliteConnectOptions) -> SqliteConnectOptions {
        let options =
            plain.create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        match self.most_bytes {
            Some(bytes) => {
                options.page_size(PAGE_SIZE).pragma("max_page_count", (bytes / u64::from(PAGE_SIZE)).to_string())
            }
            None => options,
        }
    }
}

/// The time limit of opening, since another process may be creating the tables.
const OPENING: Duration = Duration::from_secs(30);

const READERS: u32 = 4;

/// The default of SQLite.
const PAGE_SIZE: u32 = 4096;

/// Creates the file for its owner only. SQLite would make it readable for all, and gives its log files the same permissions.
fn create_for_owner(file: &Path) -> Result<(), StoreError> {
    let mut options = std::fs::File::options();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let opened = options.open(file).map(drop);
    opened.map_err(|error| StoreError::new(format!("{} cannot be opened: {error}", file.display())))
}

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
async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    loop {
        match write(writer, OPENING, bring_up_to_date).await {
            Err(error) if is_busy(&error) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => return Err(error),
            Ok(version) => return check_version(version),
        }
    }
}

fn check_version(version: i64) -> Result<(), StoreError> {
    if version > VERSION { Err(sql::newer(version, VERSION)) } else { Ok(()) }
}

/// Checks that the file has a write-ahead log. Where SQLite cannot have one, it works without it, and readers and the writer
/// wait for each other.
async fn has_log(writer: &SqlitePool) -> Result<(), StoreError> {
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

async fn bring_up_to_date(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name = 'tcc_schema'";
    if sqlx::query_scalar::<_, i64>(tables).fetch_one(&mut *connection).await.map_err(failed)? == 0 {
        sqlx::raw_sql(TABLES).execute(&mut *connection).await.map_err(failed)?;
    }
    let version = "SELECT max(version) FROM tcc_schema";
    if sqlx::query_scalar::<_, i64>(version).fetch_one(&mut *connection).await.map_err(failed)? == 1 {
        sqlx::raw_sql(feed::TIPS).execute(&mut *connection).await.map_err(failed)?;
    }
    sqlx::query_scalar(version).fetch_one(connection).await.map_err(failed)
}

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
        let mut lease = Lease::of(writer).await.map_err(failed)?;
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
    #[must_use]
    pub fn builder(url: impl Into<String>) -> SqliteStoreBuilder {
        SqliteStoreBuilder {
            url: url.into(),
            most_bytes: None,
            clock: Arc::new(SystemClock),
            longest_token_lifetime: DEFAULT_LONGEST_TOKEN_LIFETIME,
            timeout: sql::CALL_TIMEOUT,
        }
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

    async fn create_some(&self, clients: &[RegisteredClient]) -> Result<usize, StoreError> {
        let mut rows = Vec::with_capacity(clients.len());
        for client in clients {
            rows.push((client.id().as_str(), sql::record(client)?));
        }
        let rows = serde_json::to_string(&rows).map_err(StoreError::new)?;
        self.write(async |connection| self.insert_some(connection, rows).await).await
    }

    async fn insert_some(&self, connection: &mut SqliteConnection, rows: String) -> Result<usize, StoreError> {
        let revision = next_revision(connection).await?;
        let created = "INSERT INTO tcc_clients (id, revision, record)
            SELECT value ->> 0, ?2, value ->> 1 FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING RETURNING id";
        let created = sqlx::query_scalar::<_, String>(created).bind(rows).bind(revision);
        let created = created.fetch_all(&mut *connection).await.map_err(failed)?;
        let mut changes = Vec::with_capacity(created.len());
        let now = self.clock.now();
        for id in &created {
            changes.push(Row::client(&id.parse().map_err(StoreError::new)?, now)?);
        }
        let forget_at = changes.first().map(|row| row.forget_at);
        let changes = serde_json::to_string(&changes.iter().map(|row| &row.change).collect::<Vec<_>>());
        let told = sqlx::query("INSERT INTO tcc_feed (change, forget_at) SELECT value, ?2 FROM json_each(?1)")
            .bind(changes.map_err(StoreError::new)?)
            .bind(forget_at);
        told.execute(connection).await.map_err(failed)?;
        Ok(created.len())
    }

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

async fn insert_all(connection: &mut SqliteConnection, rows: Vec<Row>) -> Result<(), StoreError> {
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

/// Returns the next revision. Each change of a client adds a row to the feed, so its number is higher, even after a purge.
async fn next_revision(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    let last = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'tcc_feed'), 0) + 1";
    sqlx::query_scalar(last).fetch_one(connection).await.map_err(failed)
}

async fn revision(connection: &mut SqliteConnection, id: &ClientId) -> Result<Option<Revision>, StoreError> {
    let revision = sqlx::query_scalar::<_, i64>("SELECT revision FROM tcc_clients WHERE id = ?1").bind(id.as_str());
    let revision = revision.fetch_optional(connection).await.map_err(failed)?;
    Ok(revision.map(i64::cast_unsigned).map(Revision::new))
}

impl ClientStore for SqliteStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { Ok(self.load(id).await?.map(|(client, _)| client)) })
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl SqliteStore {
    async fn create_with(&self, client: &RegisteredClient, told: Vec<Row>) -> Result<(), AdminError> {
        let record = sql::record(client)?;
        self.write(async |connection| {
            let next = next_revision(connection).await?;
            let created = "INSERT INTO tcc_clients (id, revision, record) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
            let created = sqlx::query(created).bind(client.id().as_str()).bind(next).bind(record);
            if created.execute(&mut *connection).await.map_err(failed)?.rows_affected() == 0 {
                return Err(AdminError::Exists);
            }
            Ok(insert_all(connection, told).await?)
        })
        .await
    }

    async fn replace_with(
        &self,
        client: &RegisteredClient,
        revision: Revision,
        told: Vec<Row>,
    ) -> Result<(), AdminError> {
        let record = sql::record(client)?;
        self.write(async |connection| {
            if self::revision(connection, client.id()).await?.ok_or(AdminError::NotFound)? != revision {
                return Err(AdminError::Conflict);
            }
            let next = next_revision(connection).await?;
            let replaced = sqlx::query("UPDATE tcc_clients SET record = ?2, revision = ?3 WHERE id = ?1");
            let replaced = replaced.bind(client.id().as_str()).bind(record).bind(next);
            replaced.execute(&mut *connection).await.map_err(failed)?;
            Ok(insert_all(connection, told).await?)
        })
        .await
    }

    async fn delete_with(&self, id: &ClientId, told: Vec<Row>) -> Result<(), AdminError> {
        self.write(async |connection| {
            let deleted = sqlx::query("DELETE FROM tcc_clients WHERE id = ?1").bind(id.as_str());
            if deleted.execute(&mut *connection).await.map_err(failed)?.rows_affected() == 0 {
                return Err(AdminError::NotFound);
            }
            Ok(insert_all(connection, told).await?)
        })
        .await
    }
}

impl ClientAdmin for SqliteStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            let (write, entries) = change.into_parts(self.clock.now(), self.longest_token_lifetime);
            let told = Row::all(&entries)?;
            match write {
                ClientWrite::Create(client) => self.create_with(&client, told).await,
                ClientWrite::Replace(client, revision) => self.replace_with(&client, revision, told).await,
                ClientWrite::Delete(id) => self.delete_with(&id, told).await,
            }
        })
    }

    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            let mut created = 0;
            for clients in clients.chunks(CREATED_AT_ONCE) {
                created += in_time(self.timeout, self.create_some(clients)).await?;
            }
            Ok(created)
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            in_time(self.timeout, async {
                let open = self.files.open().await?;
                let row = sqlx::query("SELECT record, revision FROM tcc_clients WHERE id = ?1").bind(id.as_str());
                let Some(row) = row.fetch_optional(&open.readers).await.map_err(failed)? else { return Ok(None) };
                let revision: i64 = row.try_get(1).map_err(failed)?;
                Ok(Some((sql::client(row.try_get(0).map_err(failed)?)?, Revision::new(revision.cast_unsigned()))))
            })
            .await
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            in_time(self.timeout, async {
                let open = self.files.open().await?;
                // No id is empty, so all ids come after the empty one.
                let page = "SELECT record FROM tcc_clients WHERE id > ?1 ORDER BY id LIMIT ?2";
                let page = sqlx::query_scalar::<_, String>(page).bind(after.map_or("", ClientId::as_str));
                let page = page.bind(i64::try_from(limit.get()).unwrap_or(i64::MAX)).fetch_all(&open.readers);
                page.await.map_err(failed)?.iter().map(|record| sql::client(record)).collect()
            })
            .await
        })
    }
}

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
            // In a transaction, although it is one statement: if the call is cancelled while another process holds the lock,
            // nothing is recorded, and the caller may try again with the same credential.
            let written = write(&open.writer, self.timeout, async |connection| {
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

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("file", &self.files.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{READERS, SqliteStore};
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
