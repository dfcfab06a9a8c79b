//! [`FileStore`]: clients in a watched TOML file.

mod builder;
mod client_file;
mod fault;
mod journal;
mod keys;
mod lines;
mod shared;
mod stamp;
mod state;
mod system;
#[cfg(test)]
mod tests;
mod turns;
#[cfg(test)]
mod turns_tests;
mod used;
#[cfg(test)]
mod used_tests;
mod write;

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::builder::{FileSettings, FileStoreBuilder};
pub use self::fault::FileFault;
pub use self::keys::FileKeyStore;
use self::shared::{LOCK_TIMEOUT, Shared};
use self::turns::Turns;
use super::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientStore, ClientWrite, Cursor, DynFuture,
    MemoryStore, Replay, ReplayId, ReplayLog, Revision, Revocation, RevocationStore, StoreError, StoreFuture,
};
use crate::client_id::ClientId;
use crate::registration::{RegisteredClient, WorkloadKey};

/// Stores clients in a TOML file, for one server whose clients are administered by hand, with `git` or with a Kubernetes
/// `ConfigMap` (feature `file`). Clones share the same state.
///
/// ```toml
/// [[clients]]
/// client_id = "billing"
/// scope = "invoices:read invoices:write"
/// audiences = ["https://api.example.com"]
/// client_secrets = [{ label = "2026", hash = "$sha256$…" }]
/// ```
///
/// 1. The members are those of the record of a [`RegisteredClient`]. An unknown member is an error, unless the record has
///    `version = 2` and does not list the member in `must_understand`: then the member is kept when the file is written.
/// 2. A change takes effect within a second, and completely: no request sees a part of it. It is written to the
///    [feed](crate::store::ChangeFeed::changes). The tokens of a client that it disables or removes are revoked.
/// 3. An invalid file is refused, with line and reason in the log and in [`fault`](Self::fault), and the clients that were
///    read before stay in use. An empty file is invalid, since an unfinished write looks like that.
/// 4. [`ClientAdmin`] rewrites the file in one atomic step, and keeps its owner and permissions. **Comments are lost.**
/// 5. Revocations are appended to the file `NAME.revoked` in the same folder before they are acknowledged. A line that cannot
///    be read is kept, and the feed fails until the line is corrected, since it may be a revocation. Entries that disappear
///    from the file while a process runs, for example after a restore from an older copy, stay revoked, are written again and
///    are [reported](crate::event::Outcome::StoreLostData). The file is read four times a second. While it was last read more than 5
///    seconds ago, as on a slow disk or in a runtime without a free thread for blocking calls, the feed fails as well.
/// 6. Used credentials ([`ReplayLog`]) are appended to the file `NAME.used` (in the folder of the revocations, see
///    [`used_credentials_at`](FileStoreBuilder::used_credentials_at)) and synced before they are accepted, each under the lock
///    of that file, and the file is rewritten when most of its entries have expired. Entries that disappear while a process runs are
///    written again. Each use waits for the disk and for the uses before it, which limits how many assertions a second are accepted. A store that cannot write the file returns an error, and the caller gets a 503. A line that
///    cannot be read is an error as well, since it may be a used credential.
/// 7. A writer holds the operating system's lock on `NAME.lock`, a file that is never removed.
///
///    **Change the file by replacing it**: write another file in the same folder, and rename it, as `mv`, `git` and Kubernetes
///    do, or hold the lock (`flock clients.toml.lock cp new.toml clients.toml`). Many editors and a plain `cp` write into the
///    file itself, and a part of it can be valid. So a file that changed less than 3 seconds ago is used only after it has
///    been the same for 250 milliseconds, and a change by [`ClientAdmin`] fails if the file changes at the same time.
/// 8. The time of a change is proportional to the number of clients, and so is the time to read a changed file. Lookups, the
///    feed, revocations and [`fault`](Self::fault) do not wait for it.
///
/// # Caveat
///
/// The store is for one server process; a tool such as `examples/clients.rs` may write to the files at the same time. If the folder
/// is read-only, nothing can be revoked and no assertion can be accepted unless [another path](FileStoreBuilder::revocations_at) is
/// set. If a client is removed from the file while no server runs, its tokens are valid until they expire; if it is set to
/// `enabled = false`, they are not. Replacing the file of clients by an older copy counts as a change like any other: a warning names
/// the clients that it enables again.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("clients.toml");
/// # std::fs::write(&path, "clients = []\n")?;
/// use tower_client_credentials::store::{ClientAdmin as _, FileStore};
/// use tower_client_credentials::{Client, ClientSecret};
///
/// let store = FileStore::open(&path).await?;
/// store.create(Client::new("billing", ClientSecret::generate()?).register()?).await?;
/// assert!(std::fs::read_to_string(&path)?.contains("client_id = \"billing\""));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FileStore {
    shared: Arc<Shared>,
}

impl FileStore {
    /// Reads the file, and starts to watch it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is invalid.
    ///
    /// # Panics
    ///
    /// If called outside of a Tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, FileFault> {
        Self::builder(path).open().await
    }

    /// Returns a builder with the default settings.
    pub fn builder(path: impl AsRef<Path>) -> FileStoreBuilder {
        FileStoreBuilder::new(FileSettings::new(path.as_ref()), LOCK_TIMEOUT)
    }

    /// Returns the error in the current file, if there is one. The clients that were read before then stay in use.
    #[must_use]
    pub fn fault(&self) -> Option<FileFault> {
        self.shared.fault()
    }

    /// Runs file access on a thread for blocking calls, after the other calls of its kind.
    async fn blocking<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        kind: fn(&Calls) -> &Turns,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let shared = self.shared.clone();
        kind(&self.shared.calls).run(move || work(&shared)).await?
    }
}

/// The kinds of file access. Each has a file or a lock that its calls wait for, so calls of one kind do not wait for another.
#[derive(Default)]
struct Calls {
    changes: Turns,
    reads: Turns,
    revocations: Turns,
    uses: Turns,
}

const LOST: &str = "revocations are missing in their file: it was removed, emptied or restored from an older copy";

fn operators_text(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl ClientStore for FileStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        self.shared.memory.find(id)
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        self.shared.memory.find_by_workload(keys)
    }

    fn in_memory(&self) -> Option<&MemoryStore> {
        Some(&self.shared.memory)
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl ClientAdmin for FileStore {
    /// The feed is in memory, and follows from what has changed in the file.
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(self.blocking(
            |calls| &calls.changes,
            move |shared| {
                let (write, conditions, _) =
                    change.into_parts(shared.memory.now(), shared.memory.longest_token_lifetime());
                let holds = |revision_of: &dyn Fn(&ClientId) -> Option<Revision>| {
                    conditions.iter().all(|(id, revision)| revision_of(id) == Some(*revision))
                };
                shared.edit(|clients, revision_of| match write {
                    _ if !holds(revision_of) => Err(AdminError::Conflict),
                    ClientWrite::Create(client) => {
                        if clients.iter().any(|other| other.id() == client.id()) {
                            return Err(AdminError::Exists);
                        }
                        clients.push(Arc::new(client));
                        Ok(())
                    }
                    ClientWrite::Replace(client, revision) => {
                        if revision_of(client.id()).ok_or(AdminError::NotFound)? != revision {
                            return Err(AdminError::Conflict);
                        }
                        let old = clients.iter_mut().find(|other| other.id() == client.id());
                        *old.ok_or(AdminError::NotFound)? = Arc::new(client);
                        Ok(())
                    }
                    ClientWrite::Delete(id) => {
                        let before = clients.len();
                        clients.retain(|client| *client.id() != id);
                        if clients.len() == before { Err(AdminError::NotFound) } else { Ok(()) }
                    }
                })
            },
        ))
    }

    fn create_all(&self, new: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            self.blocking(
                |calls| &calls.changes,
                |shared| {
                    shared.edit(|clients, _| {
                        let before = clients.len();
                        let mut ids: HashSet<_> = clients.iter().map(|client| client.id().clone()).collect();
                        let new = new.into_iter().filter(|client| ids.insert(client.id().clone()));
                        clients.extend(new.map(Arc::new));
                        Ok(clients.len() - before)
                    })
                },
            )
            .await
            .map_err(AdminError::into_store_error)
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            // Includes the changes that another process has just written.
            self.blocking(|calls| &calls.reads, Shared::read_now).await?;
            self.shared.memory.load(id).await
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            // Only the first page reads the file. The others come from memory.
            if after.is_none() {
                self.blocking(|calls| &calls.reads, Shared::read_now).await?;
            }
            self.shared.memory.list(after, limit).await
        })
    }
}

impl ChangeFeed for FileStore {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move {
            self.shared.check_journal()?;
            if self.shared.take_loss() {
                return Ok(self.shared.memory.changes(&Cursor::start()).await?.lost(LOST));
            }
            self.shared.memory.changes(cursor).await
        })
    }

    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(async move {
            self.shared.memory.changed().await;
        })
    }
}

impl RevocationStore for FileStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(
            async move { self.blocking(|calls| &calls.revocations, |shared| shared.revoke(revocation)).await },
        )
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            let purged = self.shared.memory.purge(now).await?;
            let revoked = self.blocking(|calls| &calls.revocations, move |shared| shared.compact(now)).await;
            let used = self.blocking(|calls| &calls.uses, move |shared| shared.compact_used(now)).await;
            revoked.and(used)?;
            Ok(purged)
        })
    }

    fn longest_token_lifetime(&self) -> Duration {
        self.shared.memory.longest_token_lifetime()
    }
}

impl ReplayLog for FileStore {
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        let id = *id;
        StoreFuture::new(async move {
            self.blocking(|calls| &calls.uses, move |shared| shared.use_once(id, expires_at, now)).await
        })
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
