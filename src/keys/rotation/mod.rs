//! Rotation of keys over time, on one replica or on several that share a store, without a refused request.
//!
//! 1. A ring has a key that signs and the next one, which is published already. Old keys stay published as long as a token of
//!    them may be valid.
//! 2. A key signs only after every live replica has published it, and every cache has had time to see it.
//! 3. However many replicas wake up at once, one of them takes each step. The others follow within a second.
//! 4. A replica that cannot reach the store stops signing, verifying and publishing before the others stop waiting for it.
//! 5. Private keys are encrypted in the store, and everything else about them is authenticated.
//! 6. A stored ring that does not descend from that of a running replica is refused until an operator accepts it. No restore undoes
//!    a distrust that a running replica knows.
//!
//! | state | in the key set | accepted | signs | ends |
//! |---|---|---|---|---|
//! | [published](KeyState::Published) | yes | yes | no | when the schedule says so, but at least `max_age` + margin after all replicas publish it |
//! | [signing](KeyState::Signing) | yes | yes | yes | when the next key signs |
//! | [retired](KeyState::Retired) | yes | yes | no | longest token lifetime + leeway + margin after no replica signs with it |
//! | [distrusted](KeyState::Distrusted) | no | no | no | – |
//!
//! # Deployment caveat
//!
//! Keep the key-encryption key apart from the store. A copy of the store alone contains no usable key; without the
//! key-encryption key the ring is lost, and a new one refuses all earlier tokens.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use tower_client_credentials::keys::rotation::{KeyEncryptionKey, KeyManager, MemoryKeyStore};
//! use tower_client_credentials::{AuthorizationServer, MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let bytes: Vec<u8> = (0..32).collect();
//! let keys = KeyManager::builder(MemoryKeyStore::default(), KeyEncryptionKey::from_bytes(bytes)?)
//!     .every(Duration::from_secs(30 * 24 * 60 * 60))
//!     .connect()
//!     .await?;
//! let server = AuthorizationServer::new("https://auth.example.com", keys.ring(), MemoryStore::default())?;
//! assert_eq!(keys.status().keys.len(), 2);
//! # Ok(()) }
//! ```

mod change;
mod document;
#[cfg(test)]
mod document_tests;
mod exchange;
mod gcm;
mod history;
mod keeper;
mod key_encryption;
mod key_file;
#[cfg(test)]
mod key_file_tests;
mod key_folder;
mod key_ring_error;
mod lifecycle;
mod manager;
#[cfg(test)]
mod model_tests;
mod peers;
mod settings;
mod status;
mod store;
mod stored_ring;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

pub use self::key_encryption::KeyEncryptionKey;
pub(crate) use self::key_encryption::Sealed;
pub use self::key_file::{KeyFile, KeyFileBuilder};
pub use self::key_ring_error::KeyRingErrorKind;
pub use self::lifecycle::KeyState;
pub use self::manager::KeyManager;
pub use self::settings::KeyManagerBuilder;
pub use self::status::{KeyStatus, RingStatus};
pub use self::store::{KeyStore, KeyStoreError, KeyStoreFuture, MemoryKeyStore, Replica, StoredRing};
use super::KeyError;
use crate::clock::Rfc3339;

/// A ring could not be opened, or did not take a step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// A setting is invalid.
    #[error("{0}")]
    Settings(String),
    /// The store failed or did not answer in time.
    #[error(transparent)]
    Store(#[from] KeyStoreError),
    /// A key cannot be created, or the stored ring cannot be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The step would refuse valid tokens. It is possible from this time on, by the clock of the store.
    #[error("too early: the step would make verifiers refuse valid tokens until {}", Rfc3339(*.until))]
    #[non_exhaustive]
    TooEarly {
        /// The earliest time.
        until: SystemTime,
    },
    /// The step would refuse valid tokens, since these live replicas do not have the last change of the key yet. Once they have
    /// it or their leases end, the step is possible after this time.
    #[error("too early: {} live replicas do not have the last change of the key yet; the step is possible {then:?} after they have it", .replicas.len())]
    #[non_exhaustive]
    NotEverywhere {
        /// The names of the replicas.
        replicas: Vec<String>,
        /// The wait afterwards.
        then: std::time::Duration,
    },
    /// The ring has no such key.
    #[error("the ring has no key `{0}`; `KeyManager::status` lists its keys")]
    NoSuchKey(String),
    /// The key signs. Rotate first, or distrust it if it leaked.
    #[error("the key `{0}` signs; call `KeyManager::rotate` first, or `KeyManager::distrust` if it leaked")]
    Signs(String),
    /// The key was distrusted, which is final. Create another key.
    #[error("the key `{0}` was distrusted, which is final; publish another key")]
    Distrusted(String),
    /// The replica has left the ring.
    #[error("this replica has left the ring with `KeyManager::leave`; connect again")]
    Left,
    /// Other replicas changed the ring at the same time, again and again.
    #[error("other replicas changed the ring at the same time; try again")]
    Busy,
    /// The stored ring was altered or restored, so nothing is written over it.
    #[error("the stored ring is refused: {0}; see the log and `KeyManager::accept_stored`")]
    Refused(String),
}
