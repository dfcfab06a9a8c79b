//! [`SecretRotation`]: how the secrets of a client are replaced.

use std::time::{Duration, SystemTime};

use super::admin_error::AdminError;
use crate::registration::{Client, ClientError, RegisteredClient, RegisteredSecret};
use crate::secret::{ClientSecret, StoredSecret};

/// The settings of [`ClientAdmin::rotate_secret`](super::ClientAdmin::rotate_secret), which replaces the secrets of a client.
///
/// ```
/// use std::time::Duration;
/// use tower_client_credentials::store::SecretRotation;
///
/// let in_an_hour = SecretRotation::new().keep_old_for(Duration::from_secs(3_600)).label("2026");
/// let leaked = SecretRotation::new().keep_old_for(Duration::ZERO);
/// ```
#[derive(Clone, Debug)]
pub struct SecretRotation {
    keep: Duration,
    label: Option<String>,
    at: Option<SystemTime>,
}

impl Default for SecretRotation {
    fn default() -> Self {
        Self { keep: Duration::from_secs(24 * 60 * 60), label: None, at: None }
    }
}

impl SecretRotation {
    /// A rotation with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the existing secrets keep working. The default is 24 hours, so that every instance of the client has time
    /// to get the new secret. A secret that expires earlier keeps its expiry.
    ///
    /// With [`Duration::ZERO`] the existing secrets are removed. Use this for a leaked secret: it then works under no clock.
    /// Two effects remain. A server with a [cache](crate::authorization_server::ClientCacheLimits) may accept a removed
    /// secret for up to a minute, or for a second if it follows the [revocations](crate::Revocations) of the store.
    /// Tokens that were issued for the secret are valid until they expire; use
    /// [`Revocations::revoke_client`](crate::Revocations::revoke_client) to revoke them.
    #[must_use]
    pub fn keep_old_for(mut self, time: Duration) -> Self {
        self.keep = time;
        self
    }

    /// Sets the label of the new secret. The default is the lowest unused number.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets the time of the rotation. The default is the time of the operating system.
    #[must_use]
    pub fn at(mut self, now: SystemTime) -> Self {
        self.at = Some(now);
        self
    }

    /// Returns the changed registration, and the label of the new secret.
    pub(crate) fn apply(&self, client: &RegisteredClient, new: &StoredSecret) -> Result<(Client, String), AdminError> {
        let now = self.at.unwrap_or_else(SystemTime::now);
        let label = self.label.clone().unwrap_or_else(|| client.free_label());
        if client.secret(&label).is_some_and(|old| old.expires().is_none_or(|end| end > now)) {
            return Err(ClientError::new(
                client.id(),
                format!("it already has a secret with the label `{label}`; choose another label"),
            )
            .into());
        }
        let mut changed = client.edit();
        // An expiry that overflows `SystemTime` means no expiry.
        let end = now.checked_add(self.keep);
        for old in client.secrets() {
            changed = match (old.expires(), end) {
                // Removed instead of expired now: a server whose clock is behind would still accept an expiry of now.
                _ if self.keep.is_zero() => changed.without_secret(old.label()),
                (Some(expired), _) if expired <= now => changed.without_secret(old.label()),
                (Some(earlier), Some(end)) if earlier <= end => changed,
                (_, Some(end)) => changed.replace_secret(old.clone().expires_at(end)),
                (_, None) => changed,
            };
        }
        let new = RegisteredSecret::new(&label, new.clone())?.created_at(now);
        Ok((changed.registered_secret(new), label))
    }
}

/// A new secret of a client, from [`ClientAdmin::rotate_secret`](super::ClientAdmin::rotate_secret).
#[derive(Debug)]
#[non_exhaustive]
pub struct RotatedSecret {
    /// The label of the secret among the secrets of its client.
    pub label: String,
    /// The secret itself. No other copy of it exists.
    pub secret: ClientSecret,
}
