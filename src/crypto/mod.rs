//! Randomness and digests of the cryptographic backend, without imports from other modules.
//!
//! Signatures have a separate backend in [`keys`](crate::keys).

mod digest;
mod random;

pub(crate) use self::digest::sha256;
pub(crate) use self::random::{DrawnAhead, fill_random};
pub use self::random::{Random, RandomError, SystemRandom};

#[cfg(not(any(feature = "aws_lc_rs", feature = "rust_crypto")))]
compile_error!("tower-client-credentials needs one of its features `aws_lc_rs` (the default) and `rust_crypto`");
