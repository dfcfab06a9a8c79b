//! [`ClientError`]: the reason why a registration is invalid.

use crate::client_id::ClientId;
use crate::quoted::OneLine;

/// The maximum length of a shown id, in bytes. A valid one is not longer.
const LONGEST_ID: usize = 255;

/// A client's registration is invalid. The text names the client, and says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client `{}`: {mistake}", OneLine(client, LONGEST_ID))]
pub struct ClientError {
    kind: ClientErrorKind,
    client: String,
    mistake: String,
}

/// The kind of a [`ClientError`], which says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// The registration is invalid with any server. Correct it.
    Registration,
    /// The registration contradicts the settings of the server, for example with an unknown scope. Correct one of them.
    ServerSettings,
    /// The record in a store or a file cannot be read: it is damaged, or a newer release wrote it. Repair it, or update this process.
    Record,
}

impl ClientError {
    /// Creates an error for this client. The text must say how to fix it, and must not contain a secret.
    #[must_use]
    pub fn new(client: &ClientId, mistake: impl Into<String>) -> Self {
        Self::of(ClientErrorKind::Registration, client.to_string(), mistake)
    }

    /// Creates an error for a client whose id may be invalid.
    pub(super) fn of(kind: ClientErrorKind, client: String, mistake: impl Into<String>) -> Self {
        Self { kind, client, mistake: mistake.into() }
    }

    /// Returns the text without the client's id.
    pub(crate) fn mistake(&self) -> &str {
        &self.mistake
    }

    /// Returns the kind, which says what to do about the error.
    #[must_use]
    pub fn kind(&self) -> ClientErrorKind {
        self.kind
    }

    /// Returns the client id as it was given.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }
}

#[cfg(test)]
mod tests {
    use super::ClientErrorKind;
    use crate::registration::Client;
    use crate::secret::ClientSecret;

    #[test]
    fn the_kind_says_whether_the_registration_or_its_record_is_invalid() {
        let error = Client::new("billing", ClientSecret::generate().unwrap()).audience("api").register().unwrap_err();
        assert_eq!((error.kind(), error.client()), (ClientErrorKind::Registration, "billing"));
        let error = Client::new("\n", ClientSecret::generate().unwrap()).register().unwrap_err();
        assert_eq!((error.kind(), error.client()), (ClientErrorKind::Registration, "\n"));
    }
}
