//! Where state lives: a trait for each kind of it, and the backends.
//!
//! 1. A store that fails says so with a [`StoreError`]; the caller then gets a 503 with `Retry-After`, never a
//!    refusal, and never a pass.
//! 2. Issuing a token writes nothing.
//!
//! | kind | trait | who calls it |
//! |---|---|---|
//! | clients | [`ClientStore`] | the token endpoint, for a client that it does not have in its cache |
//! | their administration | [`ClientAdmin`] | whoever runs the service |
//! | revocations | [`RevocationStore`] | the revocation endpoint, and one poll per replica |
//! | used credentials | [`ReplayLog`] | the token endpoint, once per assertion |
//!
//! # Caveat
//!
//! [`MemoryStore`] is for one process, and forgets all when it ends.
//!
//! # Example
//!
//! A registry of one's own:
//!
//! ```
//! use std::sync::Arc;
//! use tower_client_credentials::{Client, ClientId, ClientStore, RegisteredClient, StoreError, StoredSecret};
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
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod last_write;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
mod replay;
mod revocation;
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
pub use self::file::{FileFault, FileStore, FileStoreBuilder};
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
use crate::registration::{ClientError, ClientRules, RegisteredClient};

/// The registry of clients, as the token endpoint sees it.
///
/// # Contract
///
/// - `Ok(None)` means that no such client is registered; the caller is then refused. Whatever keeps the store
///   from knowing is an `Err`, which the caller sees as a 503.
/// - An answer may be stale for as long as a disabled client or an old secret may go on working, and no longer. It is
///   kept for [some time](crate::ClientCacheLimits) on top of that. Once the
///   [feed](RevocationStore::changes) has told of a change, answers are from after it.
/// - The id comes from an unauthenticated caller: look it up by equality, and let no unknown id leave a trace
///   that is kept. A client with another id than the one that was asked for counts as not found.
/// - The future is dropped when it takes longer than the server's
///   [store timeout](crate::AuthorizationServerBuilder::store_timeout).
pub trait ClientStore: fmt::Debug + Send + Sync + 'static {
    /// The client of this id, disabled or not.
    fn find(&self, id: &ClientId) -> impl Future<Output = Result<Option<Arc<RegisteredClient>>, StoreError>> + Send;

    /// Whether an answer comes out of the memory of this process, so that keeping it for longer is of no use; by default
    /// it does not.
    fn is_in_memory(&self) -> bool {
        false
    }

    /// Returns whether clients can be changed, disabled or deleted while a server runs; by default they cannot.
    ///
    /// A server with such a store and without [revocations](crate::AuthorizationServerBuilder::revocations) logs a warning when
    /// it is built: for as long as its [cache](crate::ClientCacheLimits) has a client that was disabled it issues tokens to it,
    /// and these work until they expire.
    fn is_administered(&self) -> bool {
        false
    }

    /// Reports what is wrong with clients that the store already holds; asked once, when a server is built.
    ///
    /// `rules` are those of the server; check each client with [`ClientRules::check`]. A store whose clients come later
    /// keeps the default, which finds nothing. Unless it is [in memory](Self::is_in_memory), the server checks each client
    /// that it reads from it.
    ///
    /// # Errors
    ///
    /// The first client at fault, named.
    fn validate(&self, rules: &ClientRules) -> Result<(), ClientError> {
        let _ = rules;
        Ok(())
    }
}

/// A store could not answer; what it says is for the operator, and no caller sees it.
#[derive(Debug, thiserror::Error)]
#[error("the store could not answer")]
pub struct StoreError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl StoreError {
    /// Wraps what went wrong. Another `StoreError` is returned unchanged.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        match source.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(source) => Self(source),
        }
    }

    /// Wraps the error of a database client as one text: those put some of their sources into their texts, and others not. It
    /// is cut off after 1,024 bytes, since it may quote what the server sent, and each request that fails logs it.
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

/// [`ClientStore`] behind a pointer, so that no public type carries the store as a parameter.
pub(crate) trait DynClientStore: fmt::Debug + Send + Sync {
    fn find<'a>(&'a self, id: &'a ClientId) -> Found<'a>;

    fn is_in_memory(&self) -> bool;

    fn is_administered(&self) -> bool;

    fn validate(&self, rules: &ClientRules) -> Result<(), ClientError>;
}

pub(crate) type Found<'a> =
    Pin<Box<dyn Future<Output = Result<Option<Arc<RegisteredClient>>, StoreError>> + Send + 'a>>;

impl<T: ClientStore> DynClientStore for T {
    fn find<'a>(&'a self, id: &'a ClientId) -> Found<'a> {
        Box::pin(ClientStore::find(self, id))
    }

    fn is_in_memory(&self) -> bool {
        ClientStore::is_in_memory(self)
    }

    fn is_administered(&self) -> bool {
        ClientStore::is_administered(self)
    }

    fn validate(&self, rules: &ClientRules) -> Result<(), ClientError> {
        ClientStore::validate(self, rules)
    }
}

/// [`RevocationStore`] behind a pointer.
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
