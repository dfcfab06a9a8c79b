//! [`ClientError`]: the reason why a registration is invalid.

use crate::client_id::ClientId;
use crate::quoted::OneLine;

/// The maximum length of a shown id, in bytes. A valid one is not longer.
const LONGEST_ID: usize = 255;

/// A client's registration is invalid. The text names the client, and says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client `{}`: {mistake}", OneLine(client, LONGEST_ID))]
pub struct ClientError {
    client: String,
    mistake: String,
}

impl ClientError {
    /// Creates an error for this client. The text must say how to fix it, and must not contain a secret.
    #[must_use]
    pub fn new(client: &ClientId, mistake: impl Into<String>) -> Self {
        Self { client: client.to_string(), mistake: mistake.into() }
    }

    /// Creates an error for a record, whose client id may be invalid.
    pub(crate) fn of_record(client: String, mistake: String) -> Self {
        Self { client, mistake }
    }

    /// Returns the text without the client's id.
    pub(crate) fn mistake(&self) -> &str {
        &self.mistake
    }

    /// Returns the client id as it was given.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }
}
