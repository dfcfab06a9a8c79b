//! [`SqliteStoreBuilder`]: the settings of a [`SqliteStore`], and its start.

use std::fmt;
use std::path::Path;
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

use super::SqliteStore;
use super::files::Files;
use super::schema::{OPENING, has_log, migrate};
use crate::store::StoreError;
use crate::store::builder::StoreBuilder;
use crate::store::sql::in_time;

/// The settings of a [`SqliteStore`], each with a default.
pub type SqliteStoreBuilder = StoreBuilder<SqliteSettings>;

/// The settings that only SQLite has.
#[derive(Clone)]
pub struct SqliteSettings {
    pub(super) url: String,
    pub(super) most_bytes: Option<u64>,
}

/// Without the URL, which may be that of another database, with a password.
impl fmt::Debug for SqliteSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteSettings").field("most_bytes", &self.most_bytes).finish_non_exhaustive()
    }
}

impl SqliteStoreBuilder {
    /// Sets the maximum size of the file, in bytes. A write that needs more fails. By default only the disk limits the size.
    pub fn most_bytes(mut self, bytes: u64) -> Self {
        self.backend.most_bytes = Some(bytes);
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
        let files = Arc::new(Files::new(options, plain, self.call_timeout));
        let open = files.current();
        in_time(OPENING, migrate(&open.writer)).await?;
        in_time(OPENING, has_log(&open.writer)).await?;
        let Self { clock, longest_token_lifetime, call_timeout: timeout, .. } = self;
        let (last_writes, changed) = (Arc::default(), Arc::default());
        Ok(SqliteStore { files, last_writes, changed, clock, longest_token_lifetime, timeout })
    }

    /// Returns the options without the settings that are written into the file.
    fn plain_options(&self) -> Result<SqliteConnectOptions, StoreError> {
        let options = self
            .backend
            .url
            .strip_prefix("sqlite:")
            .and_then(|_| SqliteConnectOptions::from_str(&self.backend.url).ok());
        let options = options.ok_or_else(|| {
            // Not quoted: it may be the URL of another database, with a password.
            StoreError::new("invalid SQLite URL; use for example sqlite:///path/to/file.db")
        })?;
        if self.backend.url.contains(":memory:") || self.backend.url.contains("mode=memory") {
            return Err(StoreError::new("an SQLite database in memory is not supported; use `MemoryStore`"));
        }
        Ok(options.busy_timeout(self.call_timeout).disable_statement_logging())
    }

    fn options(&self, plain: SqliteConnectOptions) -> SqliteConnectOptions {
        let options =
            plain.create_if_missing(true).journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        match self.backend.most_bytes {
            Some(bytes) => {
                options.page_size(PAGE_SIZE).pragma("max_page_count", (bytes / u64::from(PAGE_SIZE)).to_string())
            }
            None => options,
        }
    }
}

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
