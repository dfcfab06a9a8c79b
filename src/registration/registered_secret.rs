//! [`RegisteredSecret`]: a secret with its label and its times.

use std::time::SystemTime;

use crate::clock::UnixTime;
use crate::debug_fields::debug_fields;
use crate::secret::{SecretError, StoredSecret};
use crate::text::Text;

/// One secret of a client in stored form, with a label, a creation time and an expiry.
///
/// A client may have several secrets at a time, so it can change its secret without an outage: add the new one, deploy
/// it, and let the old one expire.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_client_credentials::registration::RegisteredSecret;
/// use tower_client_credentials::{Client, ClientSecret};
///
/// let now = SystemTime::now();
/// let old = RegisteredSecret::new("2025", ClientSecret::generate()?)?.expires_at(now + Duration::from_secs(86_400));
/// let new = RegisteredSecret::new("2026", ClientSecret::generate()?)?.created_at(now);
/// let client = Client::new("billing", ClientSecret::generate()?).registered_secret(old).registered_secret(new);
/// # Ok::<(), tower_client_credentials::secret::SecretError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "it has no effect until a client has it"]
pub struct RegisteredSecret {
    label: Text,
    stored: StoredSecret,
    created_at: Option<UnixTime>,
    expires_at: Option<UnixTime>,
}

/// Returns whether a label has 1 to 64 bytes and no control characters. Labels appear in lists and events.
pub(super) fn is_label(label: &str) -> bool {
    (1..=64).contains(&label.len()) && !label.contains(char::is_control)
}

impl RegisteredSecret {
    /// Creates a secret that never expires. The label distinguishes the secrets of one client, in lists and events. It
    /// has 1 to 64 bytes and no control characters.
    ///
    /// # Errors
    ///
    /// Returns an error if the label is malformed, or the secret cannot be stored.
    pub fn new<S>(label: impl Into<String>, secret: S) -> Result<Self, SecretError>
    where
        S: TryInto<StoredSecret, Error: Into<SecretError>>,
    {
        let label = label.into();
        if !is_label(&label) {
            return Err(SecretError::malformed(
                "invalid label of a secret: use 1 to 64 bytes without control characters",
            ));
        }
        let stored = secret.try_into().map_err(Into::into)?;
        Ok(Self { label: label.into(), stored, created_at: None, expires_at: None })
    }

    /// Sets when the secret was created, in whole seconds. It is used to find the newer of two secrets; it does not
    /// affect whether a secret is valid.
    pub fn created_at(self, at: SystemTime) -> Self {
        Self { created_at: Some(UnixTime::at(at)), ..self }
    }

    /// Sets when the secret expires, in whole seconds. From that time on it is refused. By default it never expires.
    pub fn expires_at(self, at: SystemTime) -> Self {
        Self { expires_at: Some(UnixTime::at(at)), ..self }
    }

    /// Returns this secret in another stored form.
    #[cfg(feature = "legacy_hashes")]
    pub(crate) fn stored_as(self, stored: StoredSecret) -> Self {
        Self { stored, ..self }
    }

    pub(crate) fn with_times(self, created_at: Option<u64>, expires_at: Option<u64>) -> Option<Self> {
        let time = |seconds: Option<u64>| seconds.map_or(Some(None), |seconds| UnixTime::from_secs(seconds).map(Some));
        Some(Self { created_at: time(created_at)?, expires_at: time(expires_at)?, ..self })
    }

    /// Returns the label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Returns the label, to share its memory.
    pub(crate) fn label_text(&self) -> &Text {
        &self.label
    }

    /// Returns the stored form of the secret.
    #[must_use]
    pub fn stored(&self) -> &StoredSecret {
        &self.stored
    }

    /// Returns the creation time, if it is known.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        self.created_at.map(UnixTime::to_system)
    }

    /// Returns the time from which the secret is refused, or `None` if it never expires.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires_at.map(UnixTime::to_system)
    }

    pub(super) fn is_slow(&self) -> bool {
        self.stored.is_slow()
    }

    pub(crate) fn is_live(&self, now: UnixTime) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

debug_fields!(RegisteredSecret, |this| { label: this.label, expires_at: this.expires() });

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::RegisteredSecret;
    use crate::clock::UnixTime;
    use crate::secret::ClientSecret;

    #[test]
    fn a_secret_is_valid_until_the_second_of_its_expiry() {
        let secret = RegisteredSecret::new("a", ClientSecret::generate().unwrap()).unwrap();
        let at = |seconds| UnixTime::from_secs(seconds).unwrap();
        assert!(secret.is_live(at(u64::from(u32::MAX))));
        let secret = secret.expires_at(UNIX_EPOCH + Duration::from_millis(10_900));
        assert!(secret.is_live(at(9)) && !secret.is_live(at(10)));
    }

    #[test]
    fn a_label_without_text_or_with_control_characters_or_too_long_is_refused() {
        for label in ["", "a\nb", &"a".repeat(65)] {
            assert!(RegisteredSecret::new(label, ClientSecret::generate().unwrap()).is_err(), "{label:?}");
        }
    }
}
