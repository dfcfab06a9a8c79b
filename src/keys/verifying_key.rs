//! [`VerifyingKey`]: a parsed public key with its id.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::Jwk;

use super::backend::PublicKey;
use super::hs256_secret::Hs256Secret;
use super::jwk::PublicNumbers;
use super::parsed_jwk::{ParsedJwk, Purpose};
use super::{Algorithm, KeyError, key_error, pem, spki};

/// A public key that verifies tokens of one algorithm, parsed once. Clones share it.
///
/// Supported with every backend: P-256, P-384, Ed25519, and RSA with 2,048 to 8,192 bits. An Ed25519 key of small order, with
/// which anyone can sign, is refused. One that is not a point of the curve is refused by `rust_crypto` when it is loaded;
/// `aws_lc_rs` loads it, and then refuses every signature.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Parsed>);

struct Parsed {
    key_id: String,
    algorithm: Algorithm,
    half: Half,
}

enum Half {
    Public { key: Box<PublicKey>, numbers: PublicNumbers },
    Shared(Hs256Secret),
}

#[cfg(test)]
thread_local! {
    static CHECKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

impl VerifyingKey {
    /// Returns how many signatures this thread has checked.
    #[cfg(all(test, feature = "remote"))]
    pub(crate) fn checks_of_this_thread() -> usize {
        CHECKS.get()
    }

    /// Loads the only public key of a PEM text (RFC 7468): `PUBLIC KEY` (RFC 5280 §4.1.2.7) or `RSA PUBLIC KEY` (RFC 8017
    /// §A.1.1). An RSA key verifies `RS256` unless [another algorithm](Self::with_algorithm) is selected.
    ///
    /// # Errors
    ///
    /// If the text contains no public key, several, a private one, or a key of an unsupported type.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let section = pem::public_section(pem.as_ref())?;
        let numbers = spki::public_numbers(section.structure, &section.der()?)?;
        let algorithm = numbers.key_type().default_algorithm();
        Self::new(numbers, algorithm)
    }

    /// Loads a public JWK (RFC 7517) from JSON: `EC` with P-256 or P-384, `OKP` with Ed25519, or `RSA`.
    ///
    /// The algorithm is that of its `alg`. Its `kid` is not kept: the id of a key is always its [thumbprint](Self::key_id).
    ///
    /// # Errors
    ///
    /// If it is malformed or contains a private key, `use` or `key_ops` is for another purpose, or `alg` does not fit its type.
    /// Shared secrets (`oct`) are refused.
    pub fn from_jwk(json: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let jwk = ParsedJwk::new(json.as_ref(), Purpose::Verify)?;
        Self::new(jwk.public_only()?, jwk.algorithm)
    }

    /// Selects another algorithm of the same key type, which only RSA keys have.
    ///
    /// # Errors
    ///
    /// If the key is of another type.
    pub fn with_algorithm(&self, algorithm: Algorithm) -> Result<Self, KeyError> {
        let own = self.algorithm();
        match &self.0.half {
            Half::Public { numbers, .. } if numbers.key_type().has(algorithm) => Self::new(numbers.clone(), algorithm),
            Half::Shared(_) if algorithm == own => Ok(self.clone()),
            _ => {
                Err(KeyError::mismatch(format!("a key for {own} does not support {algorithm}: load a key of its type")))
            }
        }
    }

    pub(super) fn new(numbers: PublicNumbers, algorithm: Algorithm) -> Result<Self, KeyError> {
        numbers.check()?;
        let key = PublicKey::parse(&numbers, algorithm).map(Box::new).ok_or_else(key_error::unknown_public_key)?;
        let key_id = numbers.thumbprint();
        Ok(Self(Arc::new(Parsed { key_id, algorithm, half: Half::Public { key, numbers } })))
    }

    pub(super) fn from_secret(secret: Hs256Secret) -> Self {
        let key_id = secret.key_id();
        Self(Arc::new(Parsed { key_id, algorithm: Algorithm::HS256, half: Half::Shared(secret) }))
    }

    /// Returns the id of the key: its RFC 7638 thumbprint with SHA-256. For HS256 it is an HMAC under the secret.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    /// Returns the one algorithm that the key verifies (RFC 8725 §3.1).
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Returns the length of every signature of this key, in bytes.
    pub(super) fn signature_len(&self) -> usize {
        match &self.0.half {
            Half::Public { numbers, .. } => numbers.signature_len(),
            Half::Shared(_) => 32,
        }
    }

    /// Returns whether both are the same key, for the same algorithm.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.key_id(), self.algorithm()) == (other.key_id(), other.algorithm())
    }

    /// Returns whether `signature` is a valid signature of `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        #[cfg(test)]
        CHECKS.set(CHECKS.get() + 1);
        match &self.0.half {
            Half::Public { key, .. } => key.verifies(self.0.algorithm, message, signature),
            Half::Shared(secret) => secret.verifies(message, signature),
        }
    }

    /// Returns the public JWK, or `None` for a secret, which is never published.
    pub(crate) fn to_jwk(&self) -> Option<Jwk> {
        match &self.0.half {
            Half::Public { numbers, .. } => Some(numbers.to_jwk(&self.0.key_id, self.0.algorithm)),
            Half::Shared(_) => None,
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key_id, algorithm) = (self.key_id(), self.algorithm());
        f.debug_struct("VerifyingKey").field("key_id", &key_id).field("algorithm", &algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::VerifyingKey;
    use crate::keys::{Algorithm, SigningKey};

    fn refusal(pem: &str) -> String {
        VerifyingKey::from_pem(pem).expect_err("a bad key").to_string()
    }

    #[test]
    fn a_public_key_in_pem_equals_that_of_its_private_key() {
        for (public, private) in [
            (include_str!("../../tests/keys/p256.pub.pem"), include_str!("../../tests/keys/p256.pem")),
            (include_str!("../../tests/keys/p384.pub.pem"), include_str!("../../tests/keys/p384.pem")),
            (include_str!("../../tests/keys/ed25519.pub.pem"), include_str!("../../tests/keys/ed25519.pem")),
        ] {
            let (public, private) = (VerifyingKey::from_pem(public).unwrap(), SigningKey::from_pem(private).unwrap());
            assert_eq!((public.key_id(), public.algorithm()), (private.key_id(), private.algorithm()));
        }
    }

    #[test]
    fn an_rsa_key_is_loaded_from_both_formats_and_verifies_the_selected_algorithm() {
        let key = VerifyingKey::from_pem(include_str!("../../tests/keys/rsa2048.pub.pem")).unwrap();
        let same = VerifyingKey::from_pem(include_str!("../../tests/keys/rsa2048.pkcs1.pub.pem")).unwrap();
        assert_eq!((key.key_id(), key.algorithm()), (same.key_id(), Algorithm::RS256));
        assert_eq!(key.with_algorithm(Algorithm::PS256).unwrap().algorithm(), Algorithm::PS256);
        for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::HS256] {
            assert!(key.with_algorithm(algorithm).unwrap_err().to_string().contains("RS256"), "{algorithm}");
        }
    }

    #[test]
    fn the_error_for_an_invalid_public_key_says_how_to_fix_it() {
        for (pem, fix) in [
            ("hello", "-pubout"),
            (include_str!("../../tests/keys/p256.pem"), "-pubout"),
            (include_str!("../../tests/keys/p256.encrypted.pem"), "-pubout"),
            (include_str!("../../tests/keys/p256.crt.pem"), "openssl x509"),
            (include_str!("../../tests/keys/p521.pub.pem"), "P-256"),
            (include_str!("../../tests/keys/rsa1024.pub.pem"), "2,048"),
            (include_str!("../../tests/keys/p256.compressed.pub.pem"), "uncompressed"),
            (&include_str!("../../tests/keys/p256.pub.pem").repeat(2), "more than one public key"),
            (&include_str!("../../tests/keys/p256.pub.pem").replacen("MFkw", "MFow", 1), "damaged"),
        ] {
            let refusal = refusal(pem);
            assert!(refusal.contains(fix), "{refusal}");
        }
    }
}
