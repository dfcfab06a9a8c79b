//! [`VerifyingKey`]: a public key, parsed, under its name.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::jwk::Jwk;

use super::backend::PublicKey;
use super::jwk::PublicNumbers;
use super::{Algorithm, KeyError};

/// A public key that verifies tokens of one algorithm, parsed once; a clone shares it.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Parsed>);

struct Parsed {
    key_id: String,
    algorithm: Algorithm,
    key: PublicKey,
    numbers: PublicNumbers,
}

impl VerifyingKey {
    pub(super) fn new(numbers: PublicNumbers, algorithm: Algorithm) -> Result<Self, KeyError> {
        let key = PublicKey::parse(&numbers, algorithm)
            .ok_or_else(|| KeyError::new(format!("the public key is not a valid key for {algorithm}")))?;
        Ok(Self(Arc::new(Parsed { key_id: numbers.thumbprint(), algorithm, key, numbers })))
    }

    /// The name of the key: its RFC 7638 thumbprint, by SHA-256.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.0.key_id
    }

    /// The one algorithm whose signatures it verifies (RFC 8725 §3.1).
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.0.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.key.verifies(self.0.algorithm, message, signature)
    }

    pub(super) fn to_jwk(&self) -> Jwk {
        self.0.numbers.to_jwk(&self.0.key_id, self.0.algorithm)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key_id, algorithm) = (self.key_id(), self.algorithm());
        f.debug_struct("VerifyingKey").field("key_id", &key_id).field("algorithm", &algorithm).finish_non_exhaustive()
    }
}
