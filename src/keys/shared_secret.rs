//! [`SharedSecret`]: the key of HS256, with which whoever verifies could forge.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::KeyError;
use super::backend::HmacKey;

/// The shortest secret, in bytes: as long as the hash (RFC 7518 §3.2).
const SHORTEST: usize = 32;
/// What the secret signs to get its name. No token can begin so: a space is not base64url.
const NAMING: &[u8] = b"tower-client-credentials kid of HS256";

#[derive(Clone)]
pub(super) struct SharedSecret(Arc<HmacKey>);

impl SharedSecret {
    pub(super) fn new(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SHORTEST {
            return Err(KeyError::new(
                "a secret for HS256 has 32 random bytes or more (RFC 7518 §3.2): make one with `openssl rand 32`",
            ));
        }
        // A public key taken for a secret is the classic forgery; a private one would be lent to every verifier.
        if super::pem::is_pem(secret) {
            return Err(KeyError::new(
                "a key in PEM is no secret for HS256: load it with `SigningKey::from_pem` or `VerifyingKey::from_pem`",
            ));
        }
        HmacKey::new(secret)
            .map(|key| Self(Arc::new(key)))
            .ok_or_else(|| KeyError::new("the backend could not take the secret"))
    }

    /// The same wherever the secret is, so that replicas agree on it, and it says no more about the secret than any
    /// signature does: both are outputs of HMAC. (A thumbprint, RFC 7638, would be a plain hash of the secret.)
    pub(super) fn key_id(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.sign(NAMING))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message)
    }

    /// In constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.0.verifies(message, signature)
    }
}
