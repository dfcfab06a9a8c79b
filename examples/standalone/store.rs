//! Opens the store that a URL names. The example `clients` uses the same module.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_client_credentials::registration::RegisteredClient;
use tower_client_credentials::store::{
    AdminError, Changes, ClientAdmin, Cursor, Replay, ReplayId, ReplayLog, Revision, Revocation, RevocationStore,
    StoreError,
};
use tower_client_credentials::{ClientId, ClientStore, MemoryStore};

/// Any store of this crate.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Memory(MemoryStore),
    #[cfg(feature = "file")]
    File(tower_client_credentials::store::FileStore),
    #[cfg(feature = "sqlite")]
    Sqlite(tower_client_credentials::store::SqliteStore),
    #[cfg(feature = "postgres")]
    Postgres(tower_client_credentials::store::PostgresStore),
    #[cfg(feature = "redis")]
    Redis(tower_client_credentials::store::RedisStore),
}

/// The supported URLs.
const URLS: &str = "sqlite://FILE, postgres://…, redis://…, file:FILE or memory:";

impl Store {
    /// Opens the store that the URL names. Relative paths are relative to `folder`. An error message says how to fix the
    /// problem, and does not contain the password.
    pub(crate) async fn open(url: &str, folder: &Path) -> Result<Self, String> {
        let (scheme, rest) = url.split_once(':').ok_or_else(|| format!("invalid store URL; use one of {URLS}"))?;
        match scheme {
            "memory" => Ok(Self::Memory(MemoryStore::default())),
            #[cfg(feature = "file")]
            "file" => {
                let path = folder.join(rest.strip_prefix("//").unwrap_or(rest));
                let opened = tower_client_credentials::store::FileStore::open(path).await;
                opened.map(Self::File).map_err(|error| printable(&error.to_string()))
            }
            #[cfg(feature = "sqlite")]
            "sqlite" => {
                let path = folder.join(rest.strip_prefix("//").unwrap_or(rest));
                let opened = tower_client_credentials::store::SqliteStore::open(format!("sqlite://{}", path.display()));
                opened.await.map(Self::Sqlite).map_err(|error| chain(&error))
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                let opened = tower_client_credentials::store::PostgresStore::connect(url).await;
                opened.map(Self::Postgres).map_err(|error| chain(&error))
            }
            #[cfg(feature = "redis")]
            "redis" | "rediss" => {
                let opened = tower_client_credentials::store::RedisStore::connect(url).await;
                opened.map(Self::Redis).map_err(|error| chain(&error))
            }
            #[allow(unreachable_patterns)] // those whose feature is on were above
            "file" | "sqlite" | "postgres" | "postgresql" | "redis" | "rediss" => {
                let _ = (folder, rest); // if no such feature is enabled
                let feature = match scheme {
                    "postgresql" => "postgres",
                    "rediss" => "redis",
                    other => other,
                };
                Err(format!("this program was built without `{feature}`: build it with --features {feature}"))
            }
            _ => Err(format!("unknown store `{scheme}:`; use one of {URLS}")),
        }
    }
}

impl Store {
    /// Returns whether the URL names an SQLite file that does not exist yet, in a folder that exists.
    #[allow(dead_code)] // the example `clients` does not check
    pub(crate) fn is_missing_file(url: &str, folder: &Path) -> bool {
        let path = url.strip_prefix("sqlite:").map(|rest| folder.join(rest.strip_prefix("//").unwrap_or(rest)));
        cfg!(feature = "sqlite") && path.is_some_and(|path| is_missing_in_a_folder(&path))
    }
}

/// Returns whether a file does not exist, although its folder does.
#[allow(dead_code)]
pub(crate) fn is_missing_in_a_folder(path: &Path) -> bool {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    folder.is_dir() && !path.exists()
}

/// The clients listed in the configuration file, and the clients of the store. Listed clients take precedence and can be
/// changed only in the file. The service does not start if a client is in both, because a client that is disabled or deleted in
/// the store would still get tokens.
#[allow(dead_code)] // the example `clients` has the store alone
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    pub(crate) listed: MemoryStore,
    pub(crate) store: Store,
}

impl ClientStore for Registry {
    async fn find(&self, id: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
        match self.listed.find(id).await? {
            Some(client) => Ok(Some(client)),
            None => self.store.find(id).await,
        }
    }

    fn in_memory(&self) -> Option<&MemoryStore> {
        self.store.in_memory()
    }

    fn is_administered(&self) -> bool {
        self.store.is_administered()
    }
}

/// Changes a listed client in memory, until the process ends, and any other client in the store. New clients go to the store.
impl ClientAdmin for Registry {
    async fn create(&self, client: RegisteredClient) -> Result<(), AdminError> {
        match self.listed.find(client.id()).await? {
            Some(_) => Err(AdminError::Exists),
            None => self.store.create(client).await,
        }
    }

    async fn load(&self, id: &ClientId) -> Result<Option<(Arc<RegisteredClient>, Revision)>, StoreError> {
        match self.listed.load(id).await? {
            Some(client) => Ok(Some(client)),
            None => self.store.load(id).await,
        }
    }

    async fn replace(&self, client: RegisteredClient, revision: Revision) -> Result<(), AdminError> {
        match self.listed.find(client.id()).await? {
            Some(_) => self.listed.replace(client, revision).await,
            None => self.store.replace(client, revision).await,
        }
    }

    async fn delete(&self, id: &ClientId) -> Result<(), AdminError> {
        match self.listed.find(id).await? {
            Some(_) => self.listed.delete(id).await,
            None => self.store.delete(id).await,
        }
    }

    async fn list(
        &self,
        after: Option<&ClientId>,
        limit: NonZeroUsize,
    ) -> Result<Vec<Arc<RegisteredClient>>, StoreError> {
        self.store.list(after, limit).await
    }
}

/// Returns the texts of an error and of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    printable(&all.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// Escapes characters that would control a terminal or change the reading order. The text may come from a store.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if is_printable(character) {
            printable.push(character);
        } else {
            printable.extend(character.escape_debug());
        }
    }
    printable
}

/// Returns whether a character is printed as itself. `escape_debug` escapes control, format and unassigned characters, and also
/// quotes and backslashes for source code, which are printable here.
pub(crate) fn is_printable(character: char) -> bool {
    matches!(character, '\\' | '\'' | '"') || character.escape_debug().eq([character])
}

/// Calls the same method on any store.
macro_rules! on {
    ($store:expr, $it:ident => $call:expr) => {
        match $store {
            Store::Memory($it) => $call,
            #[cfg(feature = "file")]
            Store::File($it) => $call,
            #[cfg(feature = "sqlite")]
            Store::Sqlite($it) => $call,
            #[cfg(feature = "postgres")]
            Store::Postgres($it) => $call,
            #[cfg(feature = "redis")]
            Store::Redis($it) => $call,
        }
    };
}

impl ClientStore for Store {
    async fn find(&self, id: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
        on!(self, store => store.find(id).await)
    }

    fn in_memory(&self) -> Option<&MemoryStore> {
        on!(self, store => store.in_memory())
    }

    fn is_administered(&self) -> bool {
        on!(self, store => store.is_administered())
    }
}

impl ClientAdmin for Store {
    async fn create(&self, client: RegisteredClient) -> Result<(), AdminError> {
        on!(self, store => store.create(client).await)
    }

    async fn create_all(&self, clients: Vec<RegisteredClient>) -> Result<usize, StoreError> {
        on!(self, store => store.create_all(clients).await)
    }

    async fn load(&self, id: &ClientId) -> Result<Option<(Arc<RegisteredClient>, Revision)>, StoreError> {
        on!(self, store => store.load(id).await)
    }

    async fn replace(&self, client: RegisteredClient, revision: Revision) -> Result<(), AdminError> {
        on!(self, store => store.replace(client, revision).await)
    }

    async fn delete(&self, id: &ClientId) -> Result<(), AdminError> {
        on!(self, store => store.delete(id).await)
    }

    async fn list(
        &self,
        after: Option<&ClientId>,
        limit: NonZeroUsize,
    ) -> Result<Vec<Arc<RegisteredClient>>, StoreError> {
        on!(self, store => store.list(after, limit).await)
    }
}

impl ReplayLog for Store {
    async fn check_and_insert(
        &self,
        id: &ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> Result<Replay, StoreError> {
        on!(self, store => store.check_and_insert(id, expires_at, now).await)
    }
}

impl RevocationStore for Store {
    async fn revoke(&self, revocation: Revocation) -> Result<(), StoreError> {
        on!(self, store => store.revoke(revocation).await)
    }

    async fn changes(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        on!(self, store => store.changes(cursor).await)
    }

    async fn changed(&self) {
        on!(self, store => store.changed().await);
    }

    async fn purge(&self, now: SystemTime) -> Result<u64, StoreError> {
        on!(self, store => store.purge(now).await)
    }

    fn longest_token_lifetime(&self) -> Duration {
        on!(self, store => store.longest_token_lifetime())
    }
}
