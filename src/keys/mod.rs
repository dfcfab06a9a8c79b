//! The keys of an authorization server: the one that signs, and all that are trusted.
//!
//! 1. A key is parsed once, when it is loaded. Requests parse no keys.
//! 2. Its `kid` is its thumbprint (RFC 7638), so replicas that share a key use the same name without coordination.
//! 3. One key signs. Any number of others only verify: the next one, published before it signs, and the previous one, as long
//!    as its tokens are valid.
//! 4. All are asymmetric, so a verifier cannot forge. The one exception says so in its name:
//!    [`SigningKey::dangerous_hs256_verifiers_can_forge`].
//!
//! | a private key in | is loaded by |
//! |---|---|
//! | PEM: PKCS#8, SEC1, PKCS#1 | [`SigningKey::from_pem`] |
//! | PEM, under a passphrase | `SigningKey::from_encrypted_pem`, feature `encrypted_pem` |
//! | DER: PKCS#8, SEC1, PKCS#1 | [`SigningKey::from_der`] |
//! | a JWK | [`SigningKey::from_jwk`] |
//! | a file of any of these, unencrypted | [`SigningKey::from_file`] |
//! | such a file, created if it does not exist | [`SigningKey::load_or_create`], [`KeyRing::load_or_create`] |
//!
//! [`SigningKey::to_pkcs8_pem`] exports a key. A public key, which only verifies, comes from
//! [`SigningKey::verifying_key`], [`VerifyingKey::from_pem`] or [`VerifyingKey::from_jwk`].
//!
//! # Deployment caveat
//!
//! [`KeyRing::generate`] creates a key that exists only while the process runs: after a restart, earlier tokens are refused,
//! and a second replica refuses the tokens of the first. For production, load a key with [`SigningKey::from_file`], and give
//! every replica the same one. [`KeyRing::load_or_create`] keeps the key of one replica, or of several that share a folder.
//!
//! # Example
//!
//! ```
//! use tower_client_credentials::{KeyRing, SigningKey};
//!
//! # let pem = include_str!("../../tests/keys/p256.pem");
//! # let old = include_str!("../../tests/keys/ed25519.pem");
//! let keys = KeyRing::new(SigningKey::from_pem(pem)?)
//!     .also_trust(SigningKey::from_pem(old)?.verifying_key());
//! assert_eq!(keys.key_ids().count(), 2);
//! # Ok::<(), tower_client_credentials::keys::KeyError>(())
//! ```

mod algorithm;
pub(crate) mod backend;
mod ed25519;
#[cfg(feature = "encrypted_pem")]
mod encrypted_pem;
mod file;
mod form;
mod jwk;
mod key_set;
mod key_type;
mod parsed_jwk;
mod pem;
mod pkcs8;
mod refusal;
#[cfg(feature = "remote")]
pub mod remote;
mod roca;
mod saved;
mod shared_secret;
mod signing_key;
mod spki;
mod trusted;
mod verifying_key;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use self::algorithm::Algorithm;
pub use self::key_set::KeySet;
pub use self::saved::PrivateKeyPem;
pub use self::signing_key::SigningKey;
pub(crate) use self::trusted::{FoundKey, NoKey, TrustedKeys};
pub use self::verifying_key::VerifyingKey;

/// The keys of an [`AuthorizationServer`](crate::AuthorizationServer). Clones share them.
///
/// See the [module page](self) for the rules and an example.
#[derive(Clone)]
pub struct KeyRing {
    signing: Arc<SigningKey>,
    trusted: Arc<[VerifyingKey]>,
}

impl KeyRing {
    /// Creates a ring in which `signing` signs, and is trusted.
    #[must_use]
    pub fn new(signing: SigningKey) -> Self {
        let trusted = Arc::new([signing.verifying_key()]);
        Self { signing: Arc::new(signing), trusted }
    }

    /// Creates a ring with a new ES256 key that exists only while the process runs: for tests and first steps.
    /// [`load_or_create`](Self::load_or_create) keeps the key in a file.
    ///
    /// # Errors
    ///
    /// If the backend cannot generate a key.
    pub fn generate() -> Result<Self, KeyError> {
        SigningKey::generate(Algorithm::ES256).map(Self::new)
    }

    /// Creates a ring with the private key in a PEM text; see [`SigningKey::from_pem`].
    ///
    /// # Errors
    ///
    /// If the text contains no key that can sign.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        SigningKey::from_pem(pem).map(Self::new)
    }

    /// Trusts one more key, which does not sign. It is published in the key set, so that resource servers trust it, too; a
    /// secret
    /// for HS256 is never published. A key that is already in the ring stays unchanged. An RSA key with another algorithm
    /// counts
    /// as another key, so that tokens stay valid when the algorithm changes.
    #[must_use]
    pub fn also_trust(mut self, key: VerifyingKey) -> Self {
        if !self.named(key.key_id()).any(|own| own.algorithm() == key.algorithm()) {
            self.trusted = self.trusted.iter().cloned().chain([key]).collect();
        }
        self
    }

    /// Returns the `kid` of every trusted key, beginning with the one that signs.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.trusted.iter().map(VerifyingKey::key_id)
    }

    pub(crate) fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// Returns whether both are the same ring.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.trusted, &other.trusted)
    }

    /// Returns the keys with this name. There are several only if an RSA key is trusted with several algorithms.
    pub(crate) fn named(&self, key_id: &str) -> impl Iterator<Item = &VerifyingKey> {
        self.trusted.iter().filter(move |key| key.key_id() == key_id)
    }

    pub(crate) fn trusts(&self, key: &VerifyingKey) -> bool {
        self.trusted.iter().any(|own| own.is_same_key(key))
    }

    /// Returns the JSON Web Key Set (RFC 7517 §5). It contains public keys only, and no secret for HS256.
    pub(crate) fn to_jwk_set(&self) -> jsonwebtoken::jwk::JwkSet {
        jsonwebtoken::jwk::JwkSet { keys: self.trusted.iter().filter_map(VerifyingKey::to_jwk).collect() }
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("signing", &self.signing).field("trusted", &self.trusted).finish()
    }
}

/// A key could not be created or loaded. The text says how to fix it, and never contains the key.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct KeyError {
    message: String,
}

impl KeyError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    fn in_file(self, path: &Path) -> Self {
        Self::new(format!("{}: {self}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, KeyRing, SigningKey};

    #[test]
    fn the_signing_key_comes_first_and_no_key_twice() {
        let next = SigningKey::generate(Algorithm::ES256).unwrap().verifying_key();
        let ring = KeyRing::generate().unwrap();
        let first = ring.signing_key().key_id().to_owned();
        let ring = ring.also_trust(next.clone()).also_trust(next.clone());
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str(), next.key_id()]);
        assert_eq!(ring.to_jwk_set().keys.len(), 2);
    }

    #[cfg(feature = "aws_lc_rs")]
    #[test]
    fn an_rsa_key_is_trusted_under_each_of_its_algorithms() {
        let rsa = || SigningKey::from_pem(include_str!("../../tests/keys/rsa2048.pem")).unwrap();
        let old = rsa().verifying_key();
        let ring =
            KeyRing::new(rsa().with_algorithm(Algorithm::PS256).unwrap()).also_trust(old.clone()).also_trust(old);
        let algorithms: Vec<_> = ring.named(ring.signing_key().key_id()).map(super::VerifyingKey::algorithm).collect();
        assert_eq!(algorithms, [Algorithm::PS256, Algorithm::RS256]);
    }

    #[test]
    fn debug_shows_names_and_no_key() {
        let ring = KeyRing::from_pem(include_str!("../../tests/keys/p256.pem")).unwrap();
        let shown = format!("{ring:?}");
        assert!(shown.contains(ring.signing_key().key_id()) && shown.len() < 400, "{shown}");
    }
}
