//! The cryptographic backend: one of two modules with the same face.
//!
//! `aws_lc_rs` wins when both features are on, so that a feature turned on elsewhere in a dependency tree changes
//! nothing. Tests build all that are on, and hold them against each other.

#[cfg(feature = "aws_lc_rs")]
mod aws_lc_rs;
#[cfg(all(feature = "rust_crypto", any(test, not(feature = "aws_lc_rs"))))]
#[cfg_attr(feature = "aws_lc_rs", allow(dead_code))]
mod rust_crypto;

#[cfg(feature = "aws_lc_rs")]
pub(super) use self::aws_lc_rs::{HmacKey, KeyPair, PublicKey};
#[cfg(feature = "aws_lc_rs")]
pub(crate) use self::aws_lc_rs::{fill_random, sha256};
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
pub(super) use self::rust_crypto::{HmacKey, KeyPair, PublicKey};
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
pub(crate) use self::rust_crypto::{fill_random, sha256};

#[cfg(not(any(feature = "aws_lc_rs", feature = "rust_crypto")))]
compile_error!("tower-client-credentials needs one of its features `aws_lc_rs` (the default) and `rust_crypto`");

use super::jwk::PublicNumbers;
use super::key_type::KeyType;
use super::pkcs8::Pkcs8;
use super::{KeyError, refusal};

/// The uncompressed point of two coordinates (SEC 1 §2.3.3).
fn uncompressed(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

#[cfg(all(test, feature = "aws_lc_rs", feature = "rust_crypto"))]
#[allow(clippy::unwrap_used)] // also in the macro and the helper below
mod tests {
    //! Each backend against the other: the two were written by different people.

    use super::{aws_lc_rs, rust_crypto};
    use crate::keys::Algorithm;

    const MESSAGE: &[u8] = b"header.payload";

    macro_rules! assert_signed_by_one_verified_by_the_other {
        ($signer:ident, $verifier:ident) => {
            for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
                let pair = $signer::KeyPair::generate(algorithm).unwrap();
                let public = $verifier::PublicKey::parse(&pair.public_numbers().unwrap(), algorithm).unwrap();
                let signature = pair.sign(algorithm, MESSAGE).unwrap();
                assert!(public.verifies(algorithm, MESSAGE, &signature), "{algorithm}");
                assert!(!public.verifies(algorithm, b"another", &signature), "{algorithm}");
            }
        };
    }

    #[test]
    fn what_aws_lc_signs_rust_crypto_verifies() {
        assert_signed_by_one_verified_by_the_other!(aws_lc_rs, rust_crypto);
    }

    #[test]
    fn what_rust_crypto_signs_aws_lc_verifies() {
        assert_signed_by_one_verified_by_the_other!(rust_crypto, aws_lc_rs);
    }

    #[test]
    fn rust_crypto_verifies_rsa_and_does_not_sign_it() {
        let key = key(include_str!("../../../tests/keys/rsa2048.pem"));
        let pair = aws_lc_rs::KeyPair::from_pkcs8(&key).unwrap();
        for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
            let public = rust_crypto::PublicKey::parse(&pair.public_numbers().unwrap(), algorithm).unwrap();
            let signature = pair.sign(algorithm, MESSAGE).unwrap();
            assert!(public.verifies(algorithm, MESSAGE, &signature), "{algorithm}");
            assert!(!public.verifies(algorithm, b"another", &signature), "{algorithm}");
        }
        let refusal = rust_crypto::KeyPair::from_pkcs8(&key).err().unwrap().to_string();
        assert!(refusal.contains("RUSTSEC-2023-0071") && refusal.contains("`aws_lc_rs`"), "{refusal}");
    }

    #[test]
    fn both_load_the_same_public_key_from_a_file() {
        for text in [
            include_str!("../../../tests/keys/p256.pem"),
            include_str!("../../../tests/keys/p384.pem"),
            include_str!("../../../tests/keys/ed25519.pem"),
        ] {
            let one = aws_lc_rs::KeyPair::from_pkcs8(&key(text)).unwrap();
            let other = rust_crypto::KeyPair::from_pkcs8(&key(text)).unwrap();
            assert_eq!(one.public_numbers().unwrap(), other.public_numbers().unwrap());
        }
    }

    #[test]
    fn a_short_or_foreign_public_key_is_refused_by_both() {
        let short = crate::keys::jwk::PublicNumbers::Ed25519 { x: vec![1; 31] };
        let off_curve = crate::keys::jwk::PublicNumbers::P256 { x: vec![1; 32], y: vec![1; 32] };
        for (numbers, algorithm) in
            [(&short, Algorithm::EdDSA), (&off_curve, Algorithm::ES256), (&short, Algorithm::ES256)]
        {
            assert!(aws_lc_rs::PublicKey::parse(numbers, algorithm).is_none(), "{algorithm}");
            assert!(rust_crypto::PublicKey::parse(numbers, algorithm).is_none(), "{algorithm}");
        }
    }

    fn key(text: &str) -> super::Pkcs8 {
        let section = crate::keys::pem::private_section(text.as_bytes()).unwrap();
        super::Pkcs8::from_der(section.form, section.der().unwrap()).unwrap()
    }
}
