//! [`FileStore`]: clients in a TOML file that is watched.

mod builder;
mod document;
mod fault;
mod journal;
mod shared;
mod stamp;
mod system;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::builder::FileStoreBuilder;
pub use self::fault::FileFault;
use self::shared::Shared;
use super::{
    AdminError, Changes, ClientAdmin, ClientStore, Cursor, Replay, ReplayId, ReplayLog, Revision, Revocation,
    RevocationStore, StoreError,
};
use crate::client_id::ClientId;
use crate::registration::{ClientError, ClientRules, RegisteredClient};

/// Clients in a TOML file, for one server that people administer by hand, by `git` or by a Kubernetes `ConfigMap` (feature
/// `file`). A clone shares it.
///
/// ```toml
/// [[clients]]
/// client_id = "billing"
/// scope = "invoices:read invoices:write"
/// audiences = ["https://api.example.com"]
/// client_secrets = [{ label = "2026", hash = "$sha256$…" }]
/// ```
///
/// 1. Members are those of the record of a [`RegisteredClient`]; one that is not known is an error.
/// 2. A change is live within a second, and whole: no request sees one half of it. It is told to the
///    [feed](RevocationStore::changes), and a client that is disabled by it, or gone, has its tokens revoked.
/// 3. A file that is wrong is refused with line and reason, in the log and by [`fault`](Self::fault), while what was read
///    before stays. A file without anything in it is wrong: that is what a write that is not done looks like.
/// 4. [`ClientAdmin`] writes the file anew, at once or not at all, and keeps its owner and permissions. **Comments are
///    lost.**
/// 5. Revocations are appended to a file beside it, `NAME.revoked`, before they are acknowledged. When a line of that cannot
///    be read, it is kept, and the feed fails until the line is corrected, since it may be a revocation. Entries that are gone
///    from it while a process runs, such as after a restore from an older copy, stay revoked, are written again and are
///    [reported](crate::event::Outcome::StoreLostData).
/// 6. Whoever writes holds the system's lock on `NAME.lock`, which stays there.
///
///    **Change the file by replacing it**: write another file in the same folder, and rename that to its name, as `mv`, `git`
///    and Kubernetes do, or hold the lock (`flock clients.toml.lock cp new.toml clients.toml`). Many editors and a plain `cp`
///    write into the file itself, and a half of it can be valid. So a file that changed less than 3 seconds ago counts only
///    once it was the same for 250 milliseconds, and a change by [`ClientAdmin`] fails if the file changed meanwhile.
/// 7. A change takes time in proportion to the number of clients, and so does a look at a file that changed. Look-ups, the
///    feed, revocations and [`fault`](Self::fault) do not wait for it.
///
/// # Caveat
///
/// It is for one server process; a tool such as `examples/clients.rs` may write beside it. Used credentials
/// ([`ReplayLog`]) are in its memory alone, and forgotten with it. Where the folder cannot be written to, nothing can be
/// revoked but by [another path](FileStoreBuilder::revocations_at). A client that is taken out of the file while no
/// server runs leaves tokens that are good until they expire; one that is `enabled = false` leaves none. A file of clients that is
/// replaced by an older copy counts like any other change: a client that it enables again is named in a warning.
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
    /// Reads the file, and watches it from then on.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or is wrong.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, FileFault> {
        Self::builder(path).open().await
    }

    /// The settings of a store, each with its default.
    pub fn builder(path: impl AsRef<Path>) -> FileStoreBuilder {
        FileStoreBuilder::new(path.as_ref())
    }

    /// What is wrong with the file as it is now, if anything is; the clients are then those of before.
    #[must_use]
    pub fn fault(&self) -> Option<FileFault> {
        self.shared.fault()
    }

    /// Files are read and written where nobody waits for a runtime's thread.
    async fn blocking<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || work(&shared)).await.map_err(StoreError::new)?
    }
}

const LOST: &str =
    "revocations are gone from the file that keeps them: it was removed, emptied or restored from an older copy";

fn operators_text(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

impl ClientStore for FileStore {
    async fn find(&self, id: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
        self.shared.memory.find(id).await
    }

    fn is_in_memory(&self) -> bool {
        true
    }

    fn validate(&self, rules: &ClientRules) -> Result<(), ClientError> {
        self.shared.keep_to(rules)
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl ClientAdmin for FileStore {
    async fn create(&self, client: RegisteredClient) -> Result<(), AdminError> {
        self.blocking(|shared| {
            shared.edit(|clients, _| {
                if clients.iter().any(|other| other.id() == client.id()) {
                    return Err(AdminError::Exists);
                }
                clients.push(Arc::new(client));
                Ok(())
            })
        })
        .await
    }

    async fn create_all(&self, new: Vec<RegisteredClient>) -> Result<usize, StoreError> {
        self.blocking(|shared| {
            shared.edit(|clients, _| {
                let before = clients.len();
                let mut ids: HashSet<_> = clients.iter().map(|client| client.id().clone()).collect();
                let new = new.into_iter().filter(|client| ids.insert(client.id().clone()));
                clients.extend(new.map(Arc::new));
                Ok(clients.len() - before)
            })
        })
        .await
        .map_err(|error| match error {
            AdminError::Store(error) => error,
            other => StoreError::new(other),
        })
    }

    async fn load(&self, id: &ClientId) -> Result<Option<(Arc<RegisteredClient>, Revision)>, StoreError> {
        // What somebody else wrote a moment ago is there as well.
        self.blocking(Shared::read_now).await?;
        self.shared.memory.load(id).await
    }

    async fn replace(&self, client: RegisteredClient, revision: Revision) -> Result<(), AdminError> {
        self.blocking(move |shared| {
            shared.edit(|clients, revision_of| {
                if revision_of(client.id()).ok_or(AdminError::NotFound)? != revision {
                    return Err(AdminError::Conflict);
                }
                let old = clients.iter_mut().find(|other| other.id() == client.id());
                *old.ok_or(AdminError::NotFound)? = Arc::new(client);
                Ok(())
            })
        })
        .await
    }

    async fn delete(&self, id: &ClientId) -> Result<(), AdminError> {
        let id = id.clone();
        self.blocking(move |shared| {
            shared.edit(|clients, _| {
                let before = clients.len();
                clients.retain(|client| *client.id() != id);
                if clients.len() == before { Err(AdminError::NotFound) } else { Ok(()) }
            })
        })
        .await
    }

    async fn list(
        &self,
        after: Option<&ClientId>,
        limit: NonZeroUsize,
    ) -> Result<Vec<Arc<RegisteredClient>>, StoreError> {
        // Only the first page reads the file: the further ones come from memory.
        if after.is_none() {
            self.blocking(Shared::read_now).await?;
        }
        self.shared.memory.list(after, limit).await
    }
}

impl RevocationStore for FileStore {
    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.blocking(|shared| shared.revoke(revocation)).await
    }

    async fn changes(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        self.shared.knows_what_is_revoked()?;
        if self.shared.take_loss() {
            return Ok(self.shared.memory.changes(&Cursor::start()).await?.lost(LOST));
        }
        self.shared.memory.changes(cursor).await
    }

    async fn changed(&self) {
        self.shared.memory.changed().await;
    }

    async fn purge(&self, now: SystemTime) -> Result<u64, StoreError> {
        let purged = self.shared.memory.purge(now).await?;
        self.blocking(move |shared| shared.compact(now)).await?;
        Ok(purged)
    }

    fn longest_token_lifetime(&self) -> Duration {
        self.shared.memory.longest_token_lifetime()
    }
}

impl ReplayLog for FileStore {
    async fn check_and_insert(
        &self,
        id: &ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> Result<Replay, StoreError> {
        self.shared.memory.check_and_insert(id, expires_at, now).await
    }
}

impl fmt::Debug for FileStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}
