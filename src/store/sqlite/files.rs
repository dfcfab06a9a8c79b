//! [`Files`]: the connections to a file, and their replacement when another file takes its name.
//!
//! An open file stays open when another file takes its name. Later writes to it are lost when the last connection closes,
//! although they were acknowledged. So each call first checks that the name still belongs to the open file, and each write
//! checks that again before it is acknowledged.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Connection as _};

use super::schema::{bring_up_to_date, check_version};
use super::write;
use crate::store::StoreError;
use crate::store::sql::{failed, in_time};
use crate::sync::lock;

pub(super) const READERS: u32 = 4;

pub(super) struct Files {
    path: PathBuf,
    options: SqliteConnectOptions,
    /// The same options without the settings that are written into a file.
    examining: SqliteConnectOptions,
    timeout: Duration,
    current: Mutex<Arc<Open>>,
    reopening: tokio::sync::Mutex<()>,
}

/// The connections to one file.
pub(super) struct Open {
    /// One connection: SQLite has one writer at a time, and waiting here is cheaper than in SQLite's busy loop.
    pub(super) writer: SqlitePool,
    pub(super) readers: SqlitePool,
    /// A separate connection that reads the feed, so that any number of lookups of nonexistent clients never delays the feed.
    pub(super) feed: SqlitePool,
    file: Option<FileId>,
    /// The path of the file without symbolic links. SQLite derives the names of its log files from it.
    real: PathBuf,
    /// The write-ahead log and its index, at the last call.
    log_files: Mutex<[Option<FileId>; 2]>,
}

/// The suffixes of the write-ahead log and of its index.
const LOG_FILES: [&str; 2] = ["-wal", "-shm"];

/// The device, and the number of the file on it. The number is 0 where files have no numbers.
type FileId = (u64, u64);

impl Files {
    /// Creates the connections. The file must exist.
    pub(super) fn new(options: SqliteConnectOptions, examining: SqliteConnectOptions, timeout: Duration) -> Self {
        let path = options.get_filename().to_owned();
        let options = options.create_if_missing(false);
        let current = Mutex::new(Arc::new(Open::new(&path, &options, timeout)));
        Self { path, options, examining, timeout, current, reopening: tokio::sync::Mutex::default() }
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    pub(super) fn current(&self) -> Arc<Open> {
        lock(&self.current).clone()
    }

    /// Returns the connections to the file that has the name now.
    pub(super) async fn open(self: &Arc<Self>) -> Result<Arc<Open>, StoreError> {
        let current = self.current();
        if self.is_current(&current) {
            *lock(&current.log_files) = current.log_files_now();
            return Ok(current);
        }
        // In its own task, since examining a large file may take longer than the caller waits.
        let files = self.clone();
        tokio::spawn(async move { files.reopen().await }).await.map_err(StoreError::new)?
    }

    /// Returns an error if the name belongs to another file now: the write may be lost.
    pub(super) fn check(&self, open: &Open) -> Result<(), StoreError> {
        if open.file == file_id(&self.path) {
            return Ok(());
        }
        let path = self.path.display();
        Err(StoreError::new(format!(
            "{path} was replaced or removed during the write: the write may be lost; try again"
        )))
    }

    fn is_current(&self, open: &Open) -> bool {
        open.file == file_id(&self.path) && !open.writer.is_closed()
    }

    async fn reopen(&self) -> Result<Arc<Open>, StoreError> {
        let path = self.path.display();
        let Ok(_guard) = self.reopening.try_lock() else {
            return Err(StoreError::new(format!("{path} was replaced and is being opened again; try again")));
        };
        let former = self.current();
        if self.is_current(&former) {
            return Ok(former);
        }
        if file_id(&self.path).is_none() {
            return Err(StoreError::new(format!(
                "{path} does not exist: it was moved or deleted while the process runs; restore it"
            )));
        }
        in_time(REOPENING, self.close(&former)).await?;
        in_time(REOPENING, examine(&self.examining)).await?;
        let open = Open::new(&self.path, &self.options, self.timeout);
        let version = write(&open.writer, REOPENING, bring_up_to_date).await?;
        check_version(version)?;
        tracing::warn!(%path, "the SQLite file was replaced while the process runs; using the new file");
        let open = Arc::new(open);
        *lock(&self.current) = open.clone();
        Ok(open)
    }
}

impl Files {
    /// Closes a file that has lost its name. SQLite keeps recent writes in a log, which it finds by the name of the file. They
    /// must go into the file that they belong to, wherever it is now, and must not become part of the new file.
    async fn close(&self, former: &Open) -> Result<(), StoreError> {
        if !former.writer.is_closed() {
            let log = sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&former.writer);
            let is_busy = match log.await {
                Ok((is_busy, ..)) => is_busy != 0,
                // Nothing can be saved from a damaged file.
                Err(error) if is_damaged(&error) => false,
                Err(error) => return Err(failed(error)),
            };
            if is_busy {
                let path = self.path.display();
                return Err(StoreError::new(format!(
                    "{path} was replaced, but another process still uses the former file; restart that process"
                )));
            }
        }
        former.writer.close().await;
        former.readers.close().await;
        former.feed.close().await;
        let known = *lock(&former.log_files);
        // If only a symbolic link changed, the log still belongs to the former file.
        if file_id(&former.real) == former.file {
            return Ok(());
        }
        for ((suffix, now), known) in LOG_FILES.into_iter().zip(former.log_files_now()).zip(known) {
            if now.is_some() && now == known {
                std::fs::remove_file(former.log_path(suffix)).map_err(StoreError::new)?;
            }
        }
        Ok(())
    }
}

/// The time limit of closing a replaced file and examining the new one.
const REOPENING: Duration = Duration::from_secs(30);

impl Open {
    fn new(path: &std::path::Path, options: &SqliteConnectOptions, timeout: Duration) -> Self {
        let limits = SqlitePoolOptions::new().acquire_timeout(timeout).idle_timeout(None).max_lifetime(None);
        let writer = limits.clone().max_connections(1).connect_lazy_with(options.clone());
        let readers = |connections| {
            limits.clone().max_connections(connections).connect_lazy_with(options.clone().pragma("query_only", "on"))
        };
        let (readers, feed) = (readers(READERS), readers(1));
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Self { writer, readers, feed, file: file_id(path), real, log_files: Mutex::default() }
    }

    fn log_path(&self, suffix: &str) -> PathBuf {
        let mut path = self.real.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    fn log_files_now(&self) -> [Option<FileId>; 2] {
        LOG_FILES.map(|suffix| file_id(&self.log_path(suffix)))
    }
}

/// Checks that a file that replaced another one is an intact store. Until then, nothing is written to it.
async fn examine(options: &SqliteConnectOptions) -> Result<(), StoreError> {
    let mut connection = options.clone().read_only(true).connect().await.map_err(failed)?;
    let tables = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM sqlite_schema WHERE name = 'tcc_schema'");
    if tables.fetch_one(&mut connection).await.map_err(failed)? == 0 {
        return Err(StoreError::new(
            "the file was replaced by a file that is not a store; restore a copy of the store",
        ));
    }
    let checked = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)").fetch_one(&mut connection);
    let checked = checked.await.map_err(failed)?;
    if checked != "ok" {
        return Err(StoreError::new(format!(
            "the file was replaced while it was in use, and is damaged ({checked}): stop all processes that use it, remove the \
             files of the same name that end in -wal and -shm, and restore a copy"
        )));
    }
    connection.close().await.map_err(failed)
}

/// Returns whether the error is `SQLITE_CORRUPT` or `SQLITE_NOTADB`.
fn is_damaged(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| matches!(code & 0xff, 11 | 26))
}

#[cfg(unix)]
fn file_id(path: &std::path::Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Where files have no numbers, an open file cannot be replaced.
#[cfg(not(unix))]
fn file_id(path: &std::path::Path) -> Option<FileId> {
    path.exists().then_some((0, 0))
}
