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
//! | revocations | [`RevocationStore`] | the revocation endpoint, and one poll per replica |
//! | used credentials | [`ReplayLog`] | the token endpoint, once per assertion |
//! | keys | [`KeyStore`](crate::keys::rotation::KeyStore) | each replica with a [managed ring](crate::keys::rotation), a few times a second |
//!
//! # Caveat
//!
//! [`MemoryStore`] is for one process. Its state is lost when the process ends.
//!
//! # Example
//!
//! Your own registry:
//!
//! ```
//! use std::sync::Arc;
//! use tower_client_credentials::registration::RegisteredClient;
//! use tower_client_credentials::secret::StoredSecret;
//! use tower_client_credentials::store::StoreError;
//! use tower_client_credentials::{Client, ClientId, ClientStore};
//!
//! #[derive(Debug)]
//! struct Database;
//!
//! impl ClientStore for Database {
//!     async fn find(&self, id: &ClientId) -> Result<Option<Arc<RegisteredClient>>, StoreError> {
//!         let Some(row) = fetch(id).await.map_err(StoreError::new)? else { return Ok(None) };
//!         let secret: StoredSecret = row.secret.parse().map_err(StoreError::new)?;
//!         let client = Client::new(id.as_str(), secret).audience(row.audience).register();
//!         Ok(Some(Arc::new(client.map_err(StoreError::new)?)))
//!     }
//! }
//! # struct Row { secret: String, audience: String }
//! # async fn fetch(_: &ClientId) -> Result<Option<Row>, std::io::Error> { Ok(None) }
//! ```

mod admin;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod clock_check;
#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
#[cfg(feature = "file")]
mod file;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod last_write;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod replay;
mod revocation;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod silence;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use self::admin::{AdminError, ClientAdmin, Revision, RotatedSecret, SecretRotation};
#[cfg(feature = "file")]
pub use self::file::{FileFault, FileKeyStore, FileStore, FileStoreBuilder};
pub use self::memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use self::postgres::{PostgresStore, PostgresStoreBuilder};
#[cfg(feature = "redis")]
pub use self::redis::{RedisStore, RedisStoreBuilder};
pub use self::replay::{Replay, ReplayId, ReplayLog};
pub use self::revocation::{Change, Changes, Cursor, Revocation, RevocationStore};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteStore, SqliteStoreBuilder};
use crate::client_id::ClientId;
use crate::registration::RegisteredClient;

/// The registry of clients, as the token endpoint uses it.
///
/// # Contract
///
/// - `Ok(None)` means that no such client is registered. The caller is then refused. If the store cannot determine this, it
///   returns an `Err`, which the caller sees as a 503.
/// - An answer may be stale, but only for as long as a disabled client or an old secret may keep working. The server caches it
///   for [some time](crate::authorization_server::ClientCacheLimits) on top of that. Once the
///   [feed](RevocationStore::changes) has reported a change, answers must include that change.
/// - The id comes from an unauthenticated caller. Look it up by equality, and store nothing about unknown ids. A returned
///   client whose id differs from the requested one counts as not found.
/// - The future is dropped when it takes longer than the
///   [store timeout](crate::authorization_server::AuthorizationServerBuilder::store_timeout).
pub trait ClientStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the client with this id, whether it is enabled or disabled.
    fn find(&self, id: &ClientId) -> impl Future<Output = Result<Option<Arc<RegisteredClient>>, StoreError>> + Send;

    /// Returns the store in memory behind this one, if all answers come from the memory of this process. The default is
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
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let why = error.to_string();
            if !text.contains(&why) {
                text.extend([": ", &why]);
            }
            source = error.source();
        }
        let (start, rest) = crate::quoted::cut(&text, 1_024);
        Self::new(format!("{start}{rest}"))
    }
}

/// A [`ClientStore`] behind a pointer, so that no public type has the store as a type parameter.
pub(crate) trait DynClientStore: fmt::Debug + Send + Sync {
    fn find<'a>(&'a self, id: &'a ClientId) -> Found<'a>;

    fn in_memory(&self) -> Option<&MemoryStore>;

    fn is_administered(&self) -> bool;
}

pub(crate) type Found<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Arc<RegisteredClient>>, StoreError>> + Send + 'a>>;

impl<T: ClientStore> DynClientStore for T {
    fn find<'a>(&'a self, id: &'a ClientId) -> Found<'a> {
        Box::pin(ClientStore::find(self, id))
    }

    fn in_memory(&self) -> Option<&MemoryStore> {
        ClientStore::in_memory(self)
    }

    fn is_administered(&self) -> bool {
        ClientStore::is_administered(self)
    }
}

/// A [`RevocationStore`] behind a pointer.
pub(crate) trait DynRevocationStore: fmt::Debug + Send + Sync {
    fn revoke(&self, revocation: Revocation) -> Answered<'_, Result<(), StoreError>>;

    fn changes<'a>(&'a self, cursor: &'a Cursor) -> Answered<'a, Result<Changes, StoreError>>;

    fn changed(&self) -> Answered<'_, ()>;

    fn purge(&self, now: SystemTime) -> Answered<'_, Result<u64, StoreError>>;

    fn longest_token_lifetime(&self) -> Duration;
}

type Answered<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl<T: RevocationStore> DynRevocationStore for T {
    fn revoke(&self, revocation: Revocation) -> Answered<'_, Result<(), StoreError>> {
        Box::pin(RevocationStore::revoke(self, revocation))
    }

    fn changes<'a>(&'a self, cursor: &'a Cursor) -> Answered<'a, Result<Changes, StoreError>> {
        Box::pin(RevocationStore::changes(self, cursor))
    }

    fn changed(&self) -> Answered<'_, ()> {
        Box::pin(RevocationStore::changed(self))
    }

    fn purge(&self, now: SystemTime) -> Answered<'_, Result<u64, StoreError>> {
        Box::pin(RevocationStore::purge(self, now))
    }

    fn longest_token_lifetime(&self) -> Duration {
        RevocationStore::longest_token_lifetime(self)
    }
}

#[cfg(all(test, any(feature = "postgres", feature = "redis", feature = "sqlite")))]
mod tests {
    use std::error::Error as _;

    use super::StoreError;

    #[test]
    fn the_error_of_a_database_client_is_cut_off() {
        let sent = crate::keys::KeyError::new("x".repeat(100_000));
        let text = StoreError::of_client(&sent).source().unwrap().to_string();
        assert!(text.len() < 1_100 && text.ends_with('…'), "{} bytes", text.len());
    }
}
