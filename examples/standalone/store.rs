//! Opens the store that a URL names. The example `clients` uses the same module.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tower_client_credentials::keys::rotation::{KeyStore, MemoryKeyStore};
use tower_client_credentials::registration::{RegisteredClient, WorkloadKey};
use tower_client_credentials::store::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, Cursor, ListedClient, ReplayLog, Revision,
    RevocationStore, StoreFuture,
};
use tower_client_credentials::{ClientId, ClientStore, MemoryStore};

/// A store of clients, revocations and used credentials.
pub(crate) trait Backend: ClientAdmin + RevocationStore + ReplayLog {}

impl<T: ClientAdmin + RevocationStore + ReplayLog> Backend for T {}

/// Any store of this crate.
pub(crate) type Store = Arc<dyn Backend>;

/// The supported URLs.
const URLS: &str = "sqlite://FILE, postgres://…, redis://…, file:FILE or memory:";

/// An example of a store that is kept, which this program supports.
#[allow(dead_code)] // the example `clients` has no default store
pub(crate) const EXAMPLE: &str = if cfg!(feature = "sqlite") {
    "for example store = \"sqlite://tokens.db\""
} else if cfg!(feature = "postgres") {
    "for example store = \"postgres://tokens@db.example.com/tokens\""
} else if cfg!(feature = "redis") {
    "for example store = \"redis://db.example.com/\""
} else if cfg!(feature = "file") {
    "for example store = \"file:clients.toml\""
} else {
    "for example store = \"sqlite://tokens.db\", in a program that was built with --features sqlite"
};

/// Returns a database as the store of clients and as that of keys.
#[allow(dead_code)] // if no feature of a database is enabled
fn both(opened: impl Backend + KeyStore + Clone) -> (Store, Arc<dyn KeyStore>) {
    (Arc::new(opened.clone()), Arc::new(opened))
}

/// Opens the store that the URL names, and its place for keys: the same database, or a file next to it. Relative paths are relative to `folder`. An error message says how to fix the
/// problem, and does not contain the password.
pub(crate) async fn open(url: &str, folder: &Path) -> Result<(Store, Arc<dyn KeyStore>), String> {
    let (scheme, rest) = url.split_once(':').ok_or_else(|| format!("invalid store URL; use one of {URLS}"))?;
    match scheme {
        "memory" => Ok((Arc::new(MemoryStore::default()), Arc::new(MemoryKeyStore::default()))),
        #[cfg(feature = "file")]
        "file" => {
            let path = folder.join(rest.strip_prefix("//").unwrap_or(rest));
            let mut keys = path.clone().into_os_string();
            keys.push(".keys");
            let opened = tower_client_credentials::store::FileStore::open(path).await;
            let opened = opened.map_err(|error| printable(&error.to_string()))?;
            Ok((Arc::new(opened), Arc::new(tower_client_credentials::store::FileKeyStore::new(keys))))
        }
        #[cfg(feature = "sqlite")]
        "sqlite" => {
            let path = folder.join(rest.strip_prefix("//").unwrap_or(rest));
            let opened = tower_client_credentials::store::SqliteStore::open(format!("sqlite://{}", path.display()));
            opened.await.map(both).map_err(|error| cause(&error))
        }
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let opened = tower_client_credentials::store::PostgresStore::connect(url).await;
            opened.map(both).map_err(|error| cause(&error))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" => {
            let opened = tower_client_credentials::store::RedisStore::connect(url).await;
            opened.map(both).map_err(|error| cause(&error))
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

/// Returns the SQLite file that the URL names, if it does not exist: opening the store would create it.
#[allow(dead_code)] // the example `standalone` creates it, except with --check
pub(crate) fn missing_sqlite_file(url: &str, folder: &Path) -> Option<PathBuf> {
    let path = sqlite_file(url, folder).filter(|path| !path.exists())?;
    Some(std::path::absolute(&path).unwrap_or(path))
}

fn sqlite_file(url: &str, folder: &Path) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:").filter(|_| cfg!(feature = "sqlite"))?;
    Some(folder.join(rest.strip_prefix("//").unwrap_or(rest)))
}

/// Returns whether the URL names an SQLite file that does not exist yet, in a folder that exists.
#[allow(dead_code)] // the example `clients` does not check
pub(crate) fn is_missing_file(url: &str, folder: &Path) -> bool {
    sqlite_file(url, folder).is_some_and(|path| is_missing_in_a_folder(&path))
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
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            match self.listed.find(id).await? {
                Some(client) => Ok(Some(client)),
                None => self.store.find(id).await,
            }
        })
    }

    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        StoreFuture::new(async move {
            let listed = self.listed.find_by_workload(keys).await?;
            let of_store = self.store.find_by_workload(keys).await?;
            Ok(of_store.map(|of_store| listed.into_iter().flatten().chain(of_store).collect()))
        })
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
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            match self.listed.find(change.client_id()).await? {
                Some(_) => self.listed.apply(change).await,
                None => self.store.apply(change).await,
            }
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            match self.listed.load(id).await? {
                Some(client) => Ok(Some(client)),
                None => self.store.load(id).await,
            }
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { self.store.list(after, limit).await })
    }

    fn list_entries<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<ListedClient>> {
        self.store.list_entries(after, limit)
    }
}

impl ChangeFeed for Registry {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        self.store.changes(cursor)
    }
}

/// Returns the texts of the causes of an error, without that of the error itself, which says only that the store could not answer.
#[allow(dead_code)] // if no feature of a database is enabled
fn cause(error: &dyn std::error::Error) -> String {
    chain(error.source().unwrap_or(error))
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
