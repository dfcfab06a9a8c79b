//! SHA-256.

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
