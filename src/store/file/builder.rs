//! [`FileStoreBuilder`]: the settings of a [`FileStore`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fault::FileFault;
use super::shared::{PATIENCE, Shared};
use super::{FileStore, document, write};
use crate::clock::Clock;
use crate::store::MemoryStore;

/// The settings of a [`FileStore`], each with its default.
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

    /// Where revocations are kept: by default beside the file, as `NAME.revoked`. For a file in a folder that cannot be
    /// written to, such as a `ConfigMap`.
    pub fn revocations_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.revocations = Some(path.into());
        self
    }

    /// Writes a file without clients where there is none. By default that is an error, since it is more often a slip in
    /// the path.
    pub fn create_missing(mut self) -> Self {
        self.create = true;
        self
    }

    /// The clock by which the tokens of a disabled client are revoked; the system's by default.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.memory = self.memory.clock(clock);
        self
    }

    /// Reads the file, and watches it from then on.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or is wrong.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn open(self) -> Result<FileStore, FileFault> {
        let path = self.path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let Self { path, revocations, create, memory } = self;
            if create {
                create_empty(&path)?;
            }
            let revocations = revocations.unwrap_or_else(|| write::beside(&path, ".revoked"));
            Shared::open(path, revocations, memory)
        });
        let shared = Arc::new(opened.await.map_err(|error| FileFault::new(&path, None, error))??);
        shared.follow();
        Ok(FileStore { shared })
    }
}

/// Creates a file without clients unless it exists. It does so under the lock, since another process may create the file with
/// clients in it.
fn create_empty(path: &Path) -> Result<(), FileFault> {
    if path.exists() {
        return Ok(());
    }
    let _lock = write::Lock::take(path, PATIENCE).map_err(|error| FileFault::new(path, None, error))?;
    if path.exists() {
        return Ok(());
    }
    let text = document::render(&[]).map_err(|error| FileFault::new(path, None, error))?;
    write::replace(path, text.as_bytes(), || Ok(())).map_err(|error| FileFault::new(path, None, error))
}
