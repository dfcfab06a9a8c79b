//! [`AdminError`]: why a change of a client failed.

use super::StoreError;
use crate::registration::ClientError;
use crate::secret::SecretError;

/// An error of [`ClientAdmin`](super::ClientAdmin). The change was not made, except that after [`Store`](Self::Store) it may have been
/// made: read the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// A client with this id already exists.
    #[error("a client with this id already exists")]
    Exists,
    /// There is no client with this id, or the client has no secret with this label.
    #[error("client or secret not found")]
    NotFound,
    /// Another caller changed the client at the same time.
    #[error("the client was changed concurrently; try again")]
    Conflict,
    /// The registration is invalid.
    #[error(transparent)]
    Invalid(#[from] ClientError),
    /// A secret could not be generated, or its label is malformed.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store failed, or did not answer in time. It may have made the change nevertheless.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdminError {
    /// Returns the error of a call that can only fail because the store fails.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::Store(error) => error,
            other => StoreError::new(other),
        }
    }
}
