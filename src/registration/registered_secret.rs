//! [`RegisteredSecret`]: a secret with its label and its times.

use std::fmt;
use std::time::SystemTime;

use crate::clock::UnixTime;
use crate::secret::{SecretError, StoredSecret};

/// One of a client's secrets: what is kept of it, under a label, with the times at which it was made and ends.
///
/// A client may have several at a time, so that it moves from one to the next without an outage: add the new one,
/// roll it out, let the old one expire.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_client_credentials::{Client, ClientSecret, RegisteredSecret};
///
/// let now = SystemTime::now();
/// let old = RegisteredSecret::new("2025", ClientSecret::generate()?)?.expires_at(now + Duration::from_secs(86_400));
/// let new = RegisteredSecret::new("2026", ClientSecret::generate()?)?.created_at(now);
/// let client = Client::new("billing", ClientSecret::generate()?).registered_secret(old).registered_secret(new);
/// # Ok::<(), tower_client_credentials::SecretError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RegisteredSecret {
    label: String,
    stored: StoredSecret,
    created_at: Option<UnixTime>,
    expires_at: Option<UnixTime>,
}

/// The longest label, in bytes: a label is shown in lists and events.
const LONGEST_LABEL: usize = 64;

impl RegisteredSecret {
    /// A secret that never expires. The label is 1 to 64 characters without control characters, and tells the secrets
    /// of one client apart, in lists and in events.
    ///
    /// # Errors
    ///
    /// When the label is malformed, or the secret cannot be kept.
    pub fn new<S>(label: impl Into<String>, secret: S) -> Result<Self, SecretError>
    where
        S: TryInto<StoredSecret, Error: Into<SecretError>>,
    {
        let label = label.into();
        if !(1..=LONGEST_LABEL).contains(&label.len()) || label.contains(char::is_control) {
            return Err(SecretError::new("a secret's label has 1 to 64 bytes and no control characters"));
        }
        let stored = secret.try_into().map_err(Into::into)?;
        Ok(Self { label, stored, created_at: None, expires_at: None })
    }

    /// When it was made, in whole seconds. For people; nothing is decided by it.
    #[must_use]
    pub fn created_at(mut self, at: SystemTime) -> Self {
        self.created_at = Some(UnixTime::at(at));
        self
    }

    /// When it ends, in whole seconds: from then on it is refused. Never by default.
    #[must_use]
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(UnixTime::at(at));
        self
    }

    /// The same secret, kept in another form.
    #[cfg(feature = "legacy_hashes")]
    pub(crate) fn stored_as(self, stored: StoredSecret) -> Self {
        Self { stored, ..self }
    }

    pub(crate) fn with_times(self, created_at: Option<u64>, expires_at: Option<u64>) -> Option<Self> {
        let time = |seconds: Option<u64>| seconds.map_or(Some(None), |seconds| UnixTime::from_secs(seconds).map(Some));
        Some(Self { created_at: time(created_at)?, expires_at: time(expires_at)?, ..self })
    }

    /// Its name among the secrets of its client.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What is kept of the secret.
    #[must_use]
    pub fn stored(&self) -> &StoredSecret {
        &self.stored
    }

    /// When it was made, where that is known.
    #[must_use]
    pub fn created(&self) -> Option<SystemTime> {
        self.created_at.map(UnixTime::to_system)
    }

    /// When it ends, if it does.
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

impl fmt::Debug for RegisteredSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredSecret")
            .field("label", &self.label)
            .field("expires_at", &self.expires())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::RegisteredSecret;
    use crate::clock::UnixTime;
    use crate::secret::ClientSecret;

    #[test]
    fn a_secret_is_live_up_to_the_second_of_its_end() {
        let secret = RegisteredSecret::new("a", ClientSecret::generate().unwrap()).unwrap();
        let at = |seconds| UnixTime::from_secs(seconds).unwrap();
        assert!(secret.is_live(at(u64::from(u32::MAX))));
        let secret = secret.expires_at(UNIX_EPOCH + Duration::from_millis(10_900));
        assert!(secret.is_live(at(9)) && !secret.is_live(at(10)));
    }

    #[test]
    fn a_label_can_be_shown_in_a_list() {
        for label in ["", "a\nb", &"a".repeat(65)] {
            assert!(RegisteredSecret::new(label, ClientSecret::generate().unwrap()).is_err(), "{label:?}");
        }
    }
}
