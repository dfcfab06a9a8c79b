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
//! | a file that may be replaced while the process runs | [`KeyFile`](rotation::KeyFile) |
//! | a store that replicas share, in which keys rotate by a schedule | [`KeyManager`](rotation::KeyManager) |
//! | a KMS, an HSM or a PKCS#11 token, which it never leaves | [`SigningKey::from_signer`] |
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
mod external_key;
mod file;
mod hmac;
mod hs256_secret;
mod jwk;
mod key_error;
mod key_set;
mod key_type;
mod parsed_jwk;
mod pem;
mod pkcs8;
#[cfg(feature = "remote")]
pub mod remote;
mod ring;
mod roca;
pub mod rotation;
mod saved;
mod signer;
mod signing_key;
mod spki;
mod structure;
mod thumbprint;
mod trusted;
mod verifying_key;

pub use self::algorithm::Algorithm;
pub use self::hmac::HmacAlgorithm;
pub(crate) use self::hmac::check_secret as check_hmac_secret;
pub use self::key_error::{KeyError, KeyErrorKind};
pub use self::key_set::KeySet;
pub use self::ring::KeyRing;
pub(crate) use self::ring::{KeySnapshot, Lease, NoSigningKey, SharedKeys, Trust, TrustLevel};
pub use self::saved::PrivateKeyPem;
pub use self::signer::{SignError, SignFuture, Signature, Signer, SignerLimits};
pub(crate) use self::signing_key::Signing;
pub use self::signing_key::SigningKey;
pub(crate) use self::trusted::{FoundKey, NoKey, TrustedKeys};
pub use self::verifying_key::VerifyingKey;
