//! [`FileStoreBuilder`]: the settings of a [`FileStore`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::FileFault;
use super::shared::{LOCK_TIMEOUT, Shared};
use super::{FileStore, document, write};
use crate::clock::Clock;
use crate::store::MemoryStore;

/// The settings of a [`FileStore`], each with a default.
#[derive(Debug)]
#[must_use = "nothing is read yet"]
pub struct FileStoreBuilder {
    path: PathBuf,
    revocations: Option<PathBuf>,
    create: bool,
    memory: MemoryStore,
}

impl FileStoreBuilder {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), revocations: None, create: false, memory: MemoryStore::default() }
    }

    /// Sets the path of the file of revocations. The default is `NAME.revoked` in the same folder. Use this if that folder is
    /// read-only, such as a `ConfigMap`.
    pub fn revocations_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.revocations = Some(path.into());
        self
    }

    /// Creates a file without clients if the file does not exist. By default a missing file is an error, since the path is
    /// probably wrong.
    pub fn create_missing(mut self) -> Self {
        self.create = true;
        self
    }

    /// Sets the clock that dates the revocations of disabled clients. The default is the clock of the operating system.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.memory = self.memory.clock(clock);
        self
    }

    /// Reads the file, and starts to watch it.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or is invalid.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub async fn open(self) -> Result<FileStore, FileFault> {
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let Self { path, revocations, create, memory } = self;
            if create {
                create_empty(&path)?;
            }
            let revocations = revocations.unwrap_or_else(|| write::sibling(&path, ".revoked"));
            Shared::open(path, revocations, memory)
        });
        let shared = Arc::new(opened.await.map_err(|error| FileFault::new(&path, None, error))??);
        shared.follow();
        Ok(FileStore { shared })
    }
}

/// Creates a file without clients unless the file exists. Takes the lock first, since another process may be creating the file
/// with clients in it.
fn create_empty(path: &Path) -> Result<(), FileFault> {
    if path.exists() {
        return Ok(());
    }
    let _lock = write::Lock::take(path, LOCK_TIMEOUT).map_err(|error| FileFault::new(path, None, error))?;
    if path.exists() {
        return Ok(());
    }
    let text = document::render(&[]).map_err(|error| FileFault::new(path, None, error))?;
    write::replace(path, text.as_bytes(), || Ok(())).map_err(|error| FileFault::new(path, None, error))
}
