//! Randomness, digests and comparison in constant time, without imports from other modules.
//!
//! Signatures have a separate backend in [`keys`](crate::keys).

mod constant_time;
mod random;

pub(crate) use self::constant_time::constant_time_eq;
pub(crate) use self::random::{DrawnAhead, fill_random};
pub use self::random::{Random, RandomError, SystemRandom};

#[cfg(not(any(feature = "aws_lc_rs", feature = "rust_crypto")))]
compile_error!("tower-client-credentials needs one of its features `aws_lc_rs` (the default) and `rust_crypto`");

/// Returns the SHA-256 digest of `data`.
#[cfg(feature = "aws_lc_rs")]
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data).as_ref());
    digest
}

/// Returns the SHA-256 digest of `data`.
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;

    sha2::Sha256::digest(data).into()
}
