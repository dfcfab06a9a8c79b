//! [`AcceptedCredentials`]: the credentials other than secrets that a server accepts.

use crate::keys::rotation::KeyEncryptionKey;

/// The credentials other than secrets that a server accepts.
#[derive(Clone, Debug, Default)]
pub(crate) struct AcceptedCredentials {
    pub(crate) keys: bool,
    pub(crate) key_urls: bool,
    pub(crate) secrets: Option<AcceptedSecrets>,
    pub(crate) platforms: Vec<String>,
    pub(crate) trust_domains: Vec<String>,
}

/// The secrets for `client_secret_jwt` that a server accepts: those that this key decrypts, and those in memory.
#[derive(Clone, Debug)]
pub(crate) struct AcceptedSecrets {
    pub(crate) key: Option<KeyEncryptionKey>,
}
