//! [`FileStoreBuilder`]: the settings of a [`FileStore`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::fault::FileFault;
use super::shared::Shared;
use super::{FileStore, client_file, write};
use crate::store::MemoryStore;
use crate::store::builder::StoreBuilder;

/// The settings of a [`FileStore`], each with a default.
pub type FileStoreBuilder = StoreBuilder<FileSettings>;

/// The settings that only a file has.
#[derive(Clone, Debug)]
pub struct FileSettings {
    path: PathBuf,
    revocations: Option<PathBuf>,
    used: Option<PathBuf>,
    create: bool,
}

impl FileSettings {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), revocations: None, used: None, create: false }
    }
}

impl FileStoreBuilder {
    /// Sets the path of the file of revocations. The default is `NAME.revoked` in the same folder. Use this if that folder is
    /// read-only, such as a `ConfigMap`.
    pub fn revocations_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.backend.revocations = Some(path.into());
        self
    }

    /// Sets the path of the file of used credentials ([`ReplayLog`](crate::store::ReplayLog)). The default is the path of
    /// the file of revocations with the extension `.used` instead of `.revoked`, which is `NAME.used` unless
    /// [`revocations_at`](Self::revocations_at) is set; if it has another extension or none, `.used` is added. The file is created with
    /// the first use.
    pub fn used_credentials_at(mut self, path: impl Into<PathBuf>) -> Self {
        self.backend.used = Some(path.into());
        self
    }

    /// Creates a file without clients if the file does not exist. By default a missing file is an error, since the path is
    /// probably wrong.
    pub fn create_missing(mut self) -> Self {
        self.backend.create = true;
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
        let Self { backend, clock, longest_token_lifetime, call_timeout } = self;
        let FileSettings { path, revocations, used, create } = backend;
        let named = path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            if create {
                create_empty(&path, call_timeout)?;
            }
            let memory = MemoryStore::with(clock, longest_token_lifetime);
            let revocations = revocations.unwrap_or_else(|| write::sibling(&path, ".revoked"));
            let used = used.unwrap_or_else(|| used_of(&revocations));
            Shared::open(path, revocations, used, memory, call_timeout)
        });
        let shared = Arc::new(opened.await.map_err(|error| FileFault::new(&named, None, error))??);
        shared.follow();
        Ok(FileStore { shared })
    }
}

/// Returns the path of the file of used credentials of a store with this file of revocations. It depends on nothing else, so that two
/// stores have the same file only if they share their revocations.
fn used_of(revocations: &Path) -> PathBuf {
    match revocations.extension() {
        Some(extension) if extension == "revoked" => revocations.with_extension("used"),
        _ => write::sibling(revocations, ".used"),
    }
}

/// Creates a file without clients unless the file exists. Takes the lock first, since another process may be creating the file
/// with clients in it.
fn create_empty(path: &Path, timeout: Duration) -> Result<(), FileFault> {
    if path.exists() {
        return Ok(());
    }
    let _lock = write::Lock::take(path, timeout).map_err(|error| FileFault::new(path, None, error))?;
    if path.exists() {
        return Ok(());
    }
    let text = client_file::render(&[]).map_err(|error| FileFault::new(path, None, error))?;
    write::replace(path, text.as_bytes(), || Ok(())).map_err(|error| FileFault::new(path, None, error))
}
