//! [`KeySnapshot`]: the keys of a ring at one time.

use std::fmt;
use std::sync::Arc;

use crate::keys::{SigningKey, VerifyingKey};

/// The keys of a ring at one time. It never changes, so a key that was selected from it stays usable until its signature is done.
pub(crate) struct KeySnapshot {
    signing: Result<Arc<SigningKey>, NoSigningKey>,
    trusted: Box<[VerifyingKey]>,
}

/// The reason why a ring cannot sign now. Its text is for the operator.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoSigningKey(Arc<str>);

impl KeySnapshot {
    /// Creates a snapshot in which `signing` signs, and is trusted.
    pub(crate) fn new(signing: SigningKey) -> Self {
        let trusted = Box::new([signing.verifying_key()]);
        Self { signing: Ok(Arc::new(signing)), trusted }
    }

    /// Returns a snapshot that trusts one more key, unless it is there already.
    pub(crate) fn also_trusting(&self, key: VerifyingKey) -> Self {
        let is_new = !self.trusts(&key);
        let trusted = self.trusted.iter().cloned().chain(Some(key).filter(|_| is_new)).collect();
        Self { signing: self.signing.clone(), trusted }
    }

    /// Returns the key that signs.
    pub(crate) fn signing_key(&self) -> Result<&Arc<SigningKey>, NoSigningKey> {
        self.signing.as_ref().map_err(Clone::clone)
    }

    /// Returns all trusted keys, beginning with the one that signs.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.trusted.iter()
    }

    /// Returns the keys with this name. There are several only if an RSA key is trusted with several algorithms.
    pub(crate) fn named(&self, key_id: &str) -> impl Iterator<Item = &VerifyingKey> {
        self.trusted.iter().filter(move |key| key.key_id() == key_id)
    }

    #[inline]
    pub(crate) fn trusts(&self, key: &VerifyingKey) -> bool {
        self.trusted.iter().any(|own| own.is_same_key(key))
    }

    /// Returns the names of the algorithms that sign now, or will sign next. It is stable while the keys are.
    pub(crate) fn signing_algorithms(&self) -> Vec<&'static str> {
        self.signing.iter().map(|key| key.algorithm().name()).collect()
    }

    /// Returns the JSON Web Key Set (RFC 7517 §5). It contains public keys only, and no secret for HS256.
    pub(crate) fn to_jwk_set(&self) -> jsonwebtoken::jwk::JwkSet {
        jsonwebtoken::jwk::JwkSet { keys: self.trusted.iter().filter_map(VerifyingKey::to_jwk).collect() }
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("signing", &self.signing).field("trusted", &self.trusted).finish()
    }
}

impl fmt::Debug for KeySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug("KeySnapshot", f)
    }
}
