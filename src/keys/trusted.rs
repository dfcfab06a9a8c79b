//! [`TrustedKeys`]: wherever they come from, the keys that somebody's signatures are verified by.

use super::{KeyRing, VerifyingKey};

/// The keys of one signer; a clone shares them.
#[derive(Clone, Debug)]
pub(crate) enum TrustedKeys {
    /// Those of an authorization server in this process.
    Ring(KeyRing),
}

/// Why there is no key to verify by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// No trusted key has this name.
    Unknown,
    /// The key of this name is for another algorithm.
    Algorithm,
}

impl TrustedKeys {
    /// The key of this name. The algorithm is the key's, and not the token's to choose (RFC 8725 §3.1).
    pub(crate) fn find(&self, key_id: &str, alg: &str) -> Result<VerifyingKey, NoKey> {
        match self {
            Self::Ring(ring) => choose(ring.named(key_id), alg),
        }
    }

    /// Whether a key that was found here is here still.
    pub(crate) fn trust(&self, key: &VerifyingKey) -> bool {
        match self {
            Self::Ring(ring) => ring.named(key.key_id()).any(|own| own.algorithm() == key.algorithm()),
        }
    }

    /// Whether both are the same keys, because they are the same object.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ring(one), Self::Ring(other)) => one.is(other),
        }
    }
}

fn choose<'a>(keys: impl Iterator<Item = &'a VerifyingKey>, alg: &str) -> Result<VerifyingKey, NoKey> {
    let mut keys = keys.peekable();
    keys.peek().ok_or(NoKey::Unknown)?;
    keys.find(|key| key.algorithm().is_named(alg)).cloned().ok_or(NoKey::Algorithm)
}
