//! [`Trust`]: whether a ring still trusts a key, as a flag that everything that remembers the key shares.
//!
//! Reading it costs less than reading the ring, and it is read for each use of a verified token.

use std::sync::atomic::{AtomicU8, Ordering};

/// Whether a ring still trusts a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrustLevel {
    Trusted,
    /// The key was removed or distrusted. It never becomes trusted again under the same flag.
    Gone,
    /// The process does not know whether the key is trusted.
    CutOff,
}

/// The flag of one key.
#[derive(Debug, Default)]
pub(crate) struct Trust(AtomicU8);

impl Trust {
    #[inline]
    pub(crate) fn get(&self) -> TrustLevel {
        match self.0.load(Ordering::Acquire) {
            0 => TrustLevel::Trusted,
            1 => TrustLevel::CutOff,
            _ => TrustLevel::Gone,
        }
    }

    pub(super) fn set(&self, level: TrustLevel) {
        let number = match level {
            TrustLevel::Trusted => 0,
            TrustLevel::CutOff => 1,
            TrustLevel::Gone => 2,
        };
        self.0.store(number, Ordering::Release);
    }
}
