//! [`AuthenticatedClient`]: the proof that a client was authenticated, and by which of its credentials.

use std::ops::Deref;
use std::sync::Arc;
use std::time::SystemTime;

use crate::event;
use crate::registration::{ClientAuthMethod, Credential, RegisteredClient};
use crate::text::Text;

/// A client that was authenticated. Only an authenticator in this folder creates one.
#[derive(Clone, Debug)]
pub(crate) struct AuthenticatedClient {
    client: Arc<RegisteredClient>,
    /// The time at which the client store had the client in this state.
    as_of: SystemTime,
    used: UsedCredential,
}

/// The credential that a client used, as its position in the registration. A position costs no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsedCredential {
    /// The position among [`RegisteredClient::secrets`].
    Secret(u32),
    /// The position among [`RegisteredClient::credentials`].
    Other(u32),
}

impl UsedCredential {
    /// Creates it from a position. A registration is far smaller than 4 billion credentials.
    pub(super) fn secret(at: usize) -> Self {
        Self::Secret(u32::try_from(at).unwrap_or(u32::MAX))
    }

    /// Like [`secret`](Self::secret), for a credential other than a secret.
    pub(super) fn other(at: usize) -> Self {
        Self::Other(u32::try_from(at).unwrap_or(u32::MAX))
    }
}

impl AuthenticatedClient {
    /// Creates the proof. The caller has checked the credential.
    pub(super) fn new(client: Arc<RegisteredClient>, as_of: SystemTime, used: UsedCredential) -> Self {
        Self { client, as_of, used }
    }

    pub(crate) fn as_of(&self) -> SystemTime {
        self.as_of
    }

    /// Returns the method by which the client authenticated.
    pub(crate) fn method(&self) -> ClientAuthMethod {
        match self.used {
            UsedCredential::Secret(_) => self.client.authentication(),
            UsedCredential::Other(at) => {
                let used = self.client.credentials().get(at as usize);
                used.map_or_else(|| self.client.authentication(), Credential::method)
            }
        }
    }

    /// Returns the label of the credential by which the client authenticated.
    pub(crate) fn credential(&self) -> &str {
        self.label().map_or("", |label| label)
    }

    fn label(&self) -> Option<&Text> {
        match self.used {
            UsedCredential::Secret(at) => Some(self.client.secrets().get(at as usize)?.label_text()),
            UsedCredential::Other(at) => Some(self.client.credentials().get(at as usize)?.label_text()),
        }
    }

    /// Returns method and label for an event.
    pub(crate) fn used(&self) -> event::UsedCredential {
        event::UsedCredential::new(self.method().name(), self.label().cloned().unwrap_or(Text::Literal("")))
    }
}

impl Deref for AuthenticatedClient {
    type Target = RegisteredClient;

    fn deref(&self) -> &RegisteredClient {
        &self.client
    }
}
