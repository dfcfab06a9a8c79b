//! The storage traits, one for each kind of state, and the backends that implement them.
//!
//! 1. A store that fails returns a [`StoreError`]. The caller then gets a 503 with `Retry-After`: the request is neither
//!    refused nor admitted.
//! 2. Issuing a token writes nothing.
//!
//! | kind | trait | called by |
//! |---|---|---|
//! | clients | [`ClientStore`] | the token endpoint, for a client that is not in its cache |
//! | client administration | [`ClientAdmin`] | the operator of the service |
//! | what changed | [`ChangeFeed`] | one poll per replica |
//! | revocations | [`RevocationStore`] | the revocation endpoint |
//! | used credentials | [`ReplayLog`] | the token endpoint, once per assertion |
//! | keys | [`KeyStore`](crate::keys::rotation::KeyStore) | each replica with a [managed ring](crate::keys::rotation), a few times a second |
//!
//! # Caveat
//!
//! [`MemoryStore`] is for one process. Its state is lost when the process ends.
//!
//! # Example
//!
//! Your own registry. All traits are object-safe, so a store can also be an `Arc<dyn ClientStore>`:
//!
//! ```
//! use std::sync::Arc;
//! use tower_client_credentials::registration::RegisteredClient;
//! use tower_client_credentials::secret::StoredSecret;
//! use tower_client_credentials::store::{StoreError, StoreFuture};
//! use tower_client_credentials::{AuthorizationServer, Client, ClientId, ClientStore, KeyRing};
//!
//! #[derive(Debug)]
//! struct Database;
//!
//! impl ClientStore for Database {
//!     fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
//!         StoreFuture::new(async move {
//!             let Some(row) = fetch(id).await.map_err(StoreError::new)? else { return Ok(None) };
//!             let secret: StoredSecret = row.secret.parse().map_err(StoreError::new)?;
//!             let client = Client::new(id.as_str(), secret).audience(row.audience).register();
//!             Ok(Some(Arc::new(client.map_err(StoreError::new)?)))
//!         })
//!     }
//! }
//! # struct Row { secret: String, audience: String }
//! # async fn fetch(_: &ClientId) -> Result<Option<Row>, std::io::Error> { Ok(None) }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clients: Arc<dyn ClientStore> = Arc::new(Database);
//! let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, clients)?;
//! # Ok(()) }
//! ```
//!
//! Your own store of revocations. A revocation is one JSON record, and the feed is a table with a growing number. The example is
//! for a database with one writer at a time; see [`ChangeFeed`] for what must hold with several:
//!
//! ```
//! use std::time::{Duration, SystemTime, UNIX_EPOCH};
//! use tower_client_credentials::Revocations;
//! use tower_client_credentials::store::{
//!     Change, ChangeFeed, Changes, Cursor, Revocation, RevocationStore, StoreError, StoreFuture,
//! };
//!
//! #[derive(Debug, Default)]
//! struct Database {
//!     table: Table,
//! }
//!
//! impl ChangeFeed for Database {
//!     fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
//!         StoreFuture::new(async move {
//!             let seen = match cursor.as_str() {
//!                 "" => 0,
//!                 number => number.parse().map_err(StoreError::new)?,
//!             };
//!             // SELECT number, record FROM revocations WHERE number > $1 ORDER BY number LIMIT 1000
//!             let rows = self.table.after(seen, 1_000).await?;
//!             let last = rows.last().map_or(seen, |row| row.number);
//!             let more = rows.len() == 1_000;
//!             let read = |row: Row| serde_json::from_str(&row.record).map(Change::Revoked);
//!             let changes = rows.into_iter().map(read).collect::<Result<_, _>>().map_err(StoreError::new)?;
//!             Ok(Changes::new(changes, Cursor::new(last.to_string())).more(more))
//!         })
//!     }
//! }
//!
//! impl RevocationStore for Database {
//!     fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
//!         StoreFuture::new(async move {
//!             let record = serde_json::to_string(&revocation).map_err(StoreError::new)?;
//!             // INSERT INTO revocations (record, expires_at) VALUES ($1, $2) ON CONFLICT (record) DO NOTHING
//!             self.table.insert(record, revocation.expires_at()).await
//!         })
//!     }
//!
//!     fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
//!         StoreFuture::new(async move {
//!             let now = now.duration_since(UNIX_EPOCH).map_err(StoreError::new)?.as_secs();
//!             // DELETE FROM revocations WHERE expires_at <= $1
//!             self.table.delete_until(now).await
//!         })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let revocations = Revocations::follow(Database::default()).await?;
//! # let id = tower_client_credentials::ClientId::from_static("billing");
//! # revocations.revoke_token(&id, "a").await?;
//! # assert_eq!(revocations.entries(), 1);
//! # let again = Database::default();
//! # again.revoke(Revocation::key("k", SystemTime::now(), Duration::from_secs(60))).await?;
//! # assert_eq!(again.changes(&Cursor::start()).await?.changes.len(), 1);
//! # Ok(()) }
//! # #[derive(Clone, Debug)]
//! # struct Row { number: u64, record: String, expires_at: u64 }
//! # #[derive(Debug, Default)]
//! # struct Table(std::sync::Mutex<Vec<Row>>);
//! # impl Table {
//! #     async fn after(&self, seen: u64, limit: usize) -> Result<Vec<Row>, StoreError> {
//! #         let rows = self.0.lock().unwrap();
//! #         Ok(rows.iter().filter(|row| row.number > seen).take(limit).cloned().collect())
//! #     }
//! #     async fn insert(&self, record: String, expires_at: u64) -> Result<(), StoreError> {
//! #         let mut rows = self.0.lock().unwrap();
//! #         let number = rows.last().map_or(0, |row| row.number) + 1;
//! #         rows.push(Row { number, record, expires_at });
//! #         Ok(())
//! #     }
//! #     async fn delete_until(&self, now: u64) -> Result<u64, StoreError> {
//! #         let mut rows = self.0.lock().unwrap();
//! #         let before = rows.len();
//! #         rows.retain(|row| row.expires_at > now);
//! #         Ok((before - rows.len()) as u64)
//! #     }
//! # }
//! ```

mod admin;
mod admin_error;
mod arc;
#[cfg(any(feature = "file", feature = "postgres", feature = "redis", feature = "sqlite"))]
mod builder;
mod change_feed;
mod client_change;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod client_page;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod clock_check;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod database;
#[cfg(feature = "file")]
mod file;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod last_write;
mod listed_client;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod replay;
mod revocation;
mod revocation_store;
mod secret_rotation;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod silence;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod wake;

use std::fmt;
use std::sync::Arc;

pub use self::admin::ClientAdmin;
pub use self::admin_error::AdminError;
#[cfg(any(feature = "file", feature = "postgres", feature = "redis", feature = "sqlite"))]
pub use self::builder::StoreBuilder;
pub use self::change_feed::{Change, ChangeFeed, Changes, Cursor, FeedEntry};
pub use self::client_change::{ClientChange, ClientCondition, ClientWrite, Revision};
#[cfg(feature = "file")]
pub use self::file::{FileFault, FileKeyStore, FileSettings, FileStore, FileStoreBuilder};
pub use self::listed_client::ListedClient;
pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresSettings, PostgresStore, PostgresStoreBuilder};
#[cfg(feature = "redis")]
pub use self::redis::{RedisSettings, RedisStore, RedisStoreBuilder};
pub use self::replay::{Replay, ReplayBounds, ReplayId, ReplayLog};
pub use self::revocation::Revocation;
pub use self::revocation_store::RevocationStore;
pub use self::secret_rotation::{RotatedSecret, SecretRotation};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteSettings, SqliteStore, SqliteStoreBuilder};
use crate::client_id::ClientId;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
use crate::quoted;
use crate::registration::{RegisteredClient, WorkloadKey};
pub use crate::sync::DynFuture;

/// The future of a call of a store.
pub type StoreFuture<'a, T, E = StoreError> = DynFuture<'a, Result<T, E>>;

/// The registry of clients, as the token endpoint uses it.
///
/// # Contract
///
/// - `Ok(None)` means that no such client is registered. The caller is then refused. If the store cannot determine this, it
///   returns an `Err`, which the caller sees as a 503.
/// - An answer may be stale, but only for as long as a disabled client or an old secret may keep working. The server caches it
///   for [some time](crate::authorization_server::ClientCacheLimits) on top of that. Once the
///   [feed](ChangeFeed) has reported a change, answers must include that change.
/// - The id comes from an unauthenticated caller. Look it up by equality, and store nothing about unknown ids. A returned
///   client whose id differs from the requested one counts as not found.
/// - The future is dropped when it takes longer than the
///   [store timeout](crate::authorization_server::AuthorizationServerBuilder::store_timeout).
pub trait ClientStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the client with this id, whether it is enabled or disabled.
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>>;

    /// Returns the ids of the clients that have a credential for a workload with one of these keys: all of them, or at least two
    /// different ones. Disabled clients and expired credentials count. `None` means that the store has no index of workloads, which is
    /// the default; then a request with the token of a workload needs `client_id`.
    ///
    /// The server calls this only after it has verified the token of the workload, and then looks up the client by its id. The index is
    /// made of [`RegisteredClient::workload_keys`]. Several clients can have the same key.
    fn find_by_workload<'a>(&'a self, keys: &'a [WorkloadKey]) -> StoreFuture<'a, Option<Vec<ClientId>>> {
        let _ = keys;
        StoreFuture::ready(Ok(None))
    }

    /// Returns the store in memory behind this store, if all answers come from the memory of this process. The default is
    /// `None`.
    ///
    /// A server does not cache such answers, and [checks](MemoryStore::enforce) the clients when it is built and at each later
    /// change. It checks a client of another store whenever it reads it.
    fn in_memory(&self) -> Option<&MemoryStore> {
        None
    }

    /// Returns whether clients can be changed, disabled or deleted while a server runs. The default is `false`.
    ///
    /// If this returns `true` and the server has no
    /// [revocations](crate::authorization_server::AuthorizationServerBuilder::revocations), the server logs a warning
    /// when it is built. It then issues tokens to a disabled client for as long as the client is in its
    /// [cache](crate::authorization_server::ClientCacheLimits), and these tokens work until they expire.
    fn is_administered(&self) -> bool {
        false
    }
}

/// An error of a store that could not answer. Its text is for the operator and is never sent to a caller.
#[derive(Debug, thiserror::Error)]
#[error("the store could not answer")]
pub struct StoreError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl StoreError {
    /// Wraps the cause. Another `StoreError` is returned unchanged.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        match source.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(source) => Self(source),
        }
    }

    /// Wraps the error of a database client as one text with its sources, since only some of these errors include their
    /// sources in their text. The text is cut off after 1,024 bytes, because it may quote data from the server and is logged
    /// for each request that fails.
    #[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
    fn of_client(error: &dyn std::error::Error) -> Self {
        let text = quoted::chain(error);
        let (start, rest) = quoted::cut(&text, 1_024);
        Self::new(format!("{start}{rest}"))
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "redis", feature = "sqlite")))]
mod tests {
    use std::error::Error as _;

    use super::StoreError;

    #[test]
    fn the_error_of_a_database_client_is_cut_off() {
        let sent = crate::keys::KeyError::malformed("x".repeat(100_000));
        let text = StoreError::of_client(&sent).source().unwrap().to_string();
        assert!(text.len() < 1_100 && text.ends_with('…'), "{} bytes", text.len());
    }
}
