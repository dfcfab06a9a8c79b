//! The cryptographic backend: one of two modules with the same interface.
//!
//! `aws_lc_rs` is used if both features are on, so that a feature enabled elsewhere in a dependency tree changes nothing. Tests
//! compile all enabled backends, and compare their decisions.
//!
//! Both accept the same keys and the same signatures, with one exception: `aws_lc_rs` accepts an Ed25519 key that is not a
//! point of the curve, but then no signature with it. `rust_crypto` refuses such a key when it is loaded.

#[cfg(feature = "aws_lc_rs")]
mod aws_lc_rs;
#[cfg(all(feature = "rust_crypto", any(test, not(feature = "aws_lc_rs"))))]
#[cfg_attr(feature = "aws_lc_rs", allow(dead_code))]
mod rust_crypto;

#[cfg(feature = "aws_lc_rs")]
pub(super) use self::aws_lc_rs::{HmacKey, KeyPair, PublicKey};
#[cfg(all(feature = "rust_crypto", not(feature = "aws_lc_rs")))]
pub(super) use self::rust_crypto::{HmacKey, KeyPair, PublicKey};

use super::jwk::PublicNumbers;
use super::key_type::KeyType;
use super::pkcs8::Pkcs8;
use super::{KeyError, key_error};

/// Returns the uncompressed point of two coordinates (SEC 1 §2.3.3).
fn uncompressed(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

#[cfg(all(test, feature = "aws_lc_rs", feature = "rust_crypto"))]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)] // helpers of tests
mod differential;

#[cfg(all(test, feature = "aws_lc_rs", feature = "rust_crypto"))]
#[allow(clippy::unwrap_used)] // also in the macro and the helper below
mod tests {
    //! Tests each backend against the other; they are independent implementations.

    use base64ct::Encoding as _;

    use super::{aws_lc_rs, rust_crypto};
    use crate::keys::parsed_jwk::{ParsedJwk, Purpose};
    use crate::keys::{Algorithm, HmacAlgorithm};

    const MESSAGE: &[u8] = b"header.payload";

    macro_rules! assert_signed_by_one_verified_by_the_other {
        ($signer:ident, $verifier:ident) => {
            for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
                let pair = $signer::KeyPair::generate(algorithm).unwrap();
                let public = $verifier::PublicKey::parse(&pair.public_numbers(), algorithm).unwrap();
                let signature = pair.sign(algorithm, MESSAGE).unwrap();
                assert!(public.verifies(algorithm, MESSAGE, &signature), "{algorithm}");
                assert!(!public.verifies(algorithm, b"another", &signature), "{algorithm}");
            }
        };
    }

    #[test]
    fn rust_crypto_verifies_signatures_of_aws_lc() {
        assert_signed_by_one_verified_by_the_other!(aws_lc_rs, rust_crypto);
    }

    #[test]
    fn aws_lc_verifies_signatures_of_rust_crypto() {
        assert_signed_by_one_verified_by_the_other!(rust_crypto, aws_lc_rs);
    }

    #[test]
    fn rust_crypto_verifies_rsa_but_does_not_sign_it() {
        let key = key(include_str!("../../../tests/keys/rsa2048.pem"));
        let pair = aws_lc_rs::KeyPair::from_pkcs8(&key).unwrap();
        for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
            let public = rust_crypto::PublicKey::parse(&pair.public_numbers(), algorithm).unwrap();
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
            assert_eq!(one.public_numbers(), other.public_numbers());
        }
    }

    #[test]
    fn both_load_a_key_written_by_either() {
        for algorithm in [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            let one = aws_lc_rs::KeyPair::generate(algorithm).unwrap();
            let other = rust_crypto::KeyPair::generate(algorithm).unwrap();
            for (der, numbers) in [(one.to_pkcs8(), one.public_numbers()), (other.to_pkcs8(), other.public_numbers())] {
                let key = super::Pkcs8::from_der(crate::keys::structure::Structure::Pkcs8, der.unwrap()).unwrap();
                let (one, other) = (aws_lc_rs::KeyPair::from_pkcs8(&key), rust_crypto::KeyPair::from_pkcs8(&key));
                assert_eq!(one.unwrap().public_numbers(), numbers, "{algorithm}");
                assert_eq!(other.unwrap().public_numbers(), numbers, "{algorithm}");
                assert_eq!(key.der.get(..1), Some(&[0x30][..]));
            }
        }
    }

    #[test]
    fn a_private_key_with_the_public_key_of_another_is_refused_by_both() {
        let mut key = key(include_str!("../../../tests/keys/p256.pem"));
        let other = ParsedJwk::new(include_bytes!("../../../tests/keys/rfc7515-a3.jwk"), Purpose::Sign).unwrap();
        let super::PublicNumbers::P256 { x, y } = other.public_numbers().unwrap() else { panic!("P-256") };
        let point = key.der.len() - 65;
        key.der.splice(point.., super::uncompressed(&x, &y));
        assert!(aws_lc_rs::KeyPair::from_pkcs8(&key).is_err());
        assert!(rust_crypto::KeyPair::from_pkcs8(&key).is_err());
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

    /// RFC 7515 A.2 and A.3, RFC 8037 A.4.
    #[test]
    fn both_verify_the_signatures_of_the_rfcs_and_no_others() {
        let rsa = include_str!("../../../tests/keys/rfc7515-a2.public.jwk");
        let ec = include_str!("../../../tests/keys/rfc7515-a3.jwk");
        let okp = include_str!("../../../tests/keys/rfc8037-a1.jwk");
        for (jwk, token) in [
            (
                rsa,
                "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
            ),
            (
                ec,
                "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
            ),
            (
                okp,
                "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
            ),
        ] {
            let (signed, signature) = token.rsplit_once('.').unwrap();
            let signature = base64ct::Base64UrlUnpadded::decode_vec(signature).unwrap();
            let changed = [&signature[..signature.len() - 1], &[!signature[signature.len() - 1]]].concat();
            let jwk = ParsedJwk::new(jwk.as_bytes(), Purpose::Verify).unwrap();
            let numbers = jwk.public_numbers().unwrap();
            let one = aws_lc_rs::PublicKey::parse(&numbers, jwk.algorithm).unwrap();
            let other = rust_crypto::PublicKey::parse(&numbers, jwk.algorithm).unwrap();
            assert!(one.verifies(jwk.algorithm, signed.as_bytes(), &signature));
            assert!(other.verifies(jwk.algorithm, signed.as_bytes(), &signature));
            for (message, signature) in [(&b"another"[..], &signature), (signed.as_bytes(), &changed)] {
                assert!(!one.verifies(jwk.algorithm, message, signature));
                assert!(!other.verifies(jwk.algorithm, message, signature));
            }
        }
    }

    /// RFC 8037 A.4: Ed25519 is deterministic.
    #[test]
    fn both_create_the_signature_of_rfc_8037() {
        let jwk = include_str!("../../../tests/keys/rfc8037-a1.jwk");
        let key = ParsedJwk::new(jwk.as_bytes(), Purpose::Sign).unwrap().to_pkcs8().unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let expected = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        let one = aws_lc_rs::KeyPair::from_pkcs8(&key).unwrap().sign(Algorithm::EdDSA, message).unwrap();
        let other = rust_crypto::KeyPair::from_pkcs8(&key).unwrap().sign(Algorithm::EdDSA, message).unwrap();
        assert_eq!(base64ct::Base64UrlUnpadded::encode_string(&one), expected);
        assert_eq!(one, other);
    }

    #[test]
    fn both_load_every_rsa_key_that_passes_the_check_before_them() {
        let n = |bytes: usize| [vec![0xC1; bytes - 1], vec![1]].concat();
        for (n, e) in
            [(n(256), &[3][..]), (n(256), &[1, 0, 1]), (n(256), &[1, 0xFF, 0xFF, 0xFF, 0xFF]), (n(1024), &[1, 0, 1])]
        {
            let numbers = super::PublicNumbers::Rsa { n, e: e.into() };
            assert!(numbers.check().is_ok());
            for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
                assert!(aws_lc_rs::PublicKey::parse(&numbers, algorithm).is_some(), "{algorithm} {e:?}");
                assert!(rust_crypto::PublicKey::parse(&numbers, algorithm).is_some(), "{algorithm} {e:?}");
            }
        }
    }

    #[test]
    fn both_compute_and_check_the_same_hmac() {
        for algorithm in HmacAlgorithm::ALL {
            let one = aws_lc_rs::HmacKey::new(algorithm, &[7; 64]);
            let other = rust_crypto::HmacKey::new(algorithm, &[7; 64]);
            assert_eq!(one.sign(MESSAGE), other.sign(MESSAGE));
            assert!(one.verifies(MESSAGE, &other.sign(MESSAGE)) && other.verifies(MESSAGE, &one.sign(MESSAGE)));
            for wrong in [&[][..], &one.sign(b"another"), &one.sign(MESSAGE)[..16]] {
                assert!(!one.verifies(MESSAGE, wrong) && !other.verifies(MESSAGE, wrong));
            }
        }
    }

    fn key(text: &str) -> super::Pkcs8 {
        let section = crate::keys::pem::private_section(text.as_bytes()).unwrap();
        super::Pkcs8::from_der(section.structure, section.der().unwrap()).unwrap()
    }
}
