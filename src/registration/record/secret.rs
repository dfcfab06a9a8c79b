//! The record of a secret, an element of `client_secrets` in the record of a client.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::unshown::Unshown;
use crate::clock::UnixTime;
use crate::registration::RegisteredSecret;
use crate::registration::error_path::at;
use crate::secret::{ClientSecret, StoredSecret};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretRecord {
    label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<Unshown>,
    /// A secret in plain text. It is hashed when the record is read, and never written.
    #[serde(default, skip_serializing)]
    dangerous_plain: Option<Unshown>,
    /// Whether the secret in plain text is random, and stored as a digest. Only read: a written record contains the
    /// digest, which means the same.
    #[serde(default, skip_serializing)]
    random: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

impl From<&RegisteredSecret> for SecretRecord {
    fn from(secret: &RegisteredSecret) -> Self {
        let seconds = |time: Option<SystemTime>| time.map(|time| UnixTime::at(time).as_secs());
        Self {
            label: secret.label().to_owned(),
            hash: Some(Unshown(Zeroizing::new(secret.stored().to_phc_string()))),
            dangerous_plain: None,
            random: false,
            created_at: seconds(secret.created()),
            expires_at: seconds(secret.expires()),
        }
    }
}

impl SecretRecord {
    /// Creates the secret. An error begins with the rest of its path.
    pub(super) fn checked(self) -> Result<RegisteredSecret, String> {
        let stored = match (self.hash, self.dangerous_plain) {
            (Some(_), None) if self.random => {
                    Err(".random: only valid with `dangerous_plain`; use the digest `$sha256$…` as the `hash` of a random secret"
                    .to_owned())
            }
            (Some(hash), None) => at(".hash", hash.0.parse::<StoredSecret>()),
            (None, Some(plain)) => {
                let plain = plain.0.as_str();
                let secret = if self.random { ClientSecret::assume_random(plain) } else { ClientSecret::new(plain) };
                at(".dangerous_plain", secret.and_then(StoredSecret::try_from))
            }
                _ => Err(": a secret must have either `hash` or `dangerous_plain`".to_owned()),
        };
        let secret = at(".label", RegisteredSecret::new(self.label, stored?))?;
        let secret = secret.with_times(self.created_at, self.expires_at);
        secret.ok_or_else(|| ": times must be seconds since 1970".to_owned())
    }
}
