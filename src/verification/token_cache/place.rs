//! [`Place`]: the key of a token in the cache, a keyed hash of the end of its text.

use std::hash::{BuildHasher as _, Hasher, RandomState};

/// The number of bytes at the end that form the key of a token: the last 96 bits of the signature, which differ per token.
const TAIL: usize = 16;

/// The hash of a token's tail. Two tokens with equal hashes evict each other, but are never confused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place(pub(super) u64);

/// Random hash keys, so that callers cannot choose colliding tokens.
pub(super) struct Keys(pub(super) u64, pub(super) u64);

impl Keys {
    pub(super) fn random() -> Self {
        // The only source of randomness that is always available and cannot fail.
        let state = RandomState::new();
        Self(state.hash_one(0), state.hash_one(1))
    }

    /// Returns `None` for a text that is too short to be signed.
    #[inline]
    pub(super) fn place(&self, text: &[u8]) -> Option<Place> {
        Some(Place(self.hash(u128::from_ne_bytes(*text.last_chunk::<TAIL>()?))))
    }

    /// Multiplies two keyed halves, so that all bits of the hash depend on all bits of the tail. Signatures are nearly random
    /// already; the keys only prevent deliberate collisions.
    #[allow(clippy::cast_possible_truncation)] // into halves
    #[inline]
    pub(super) fn hash(&self, tail: u128) -> u64 {
        let product = u128::from(tail as u64 ^ self.0) * u128::from((tail >> 64) as u64 ^ self.1);
        (product ^ product >> 64) as u64
    }
}

/// A hasher that returns the [`Place`] itself, which is already a hash.
#[derive(Default)]
pub(super) struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Never called: every key is a `u64`.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
