//! The backend of the `RustCrypto` crates.
//!
//! RSA keys only verify here: signing with the `rsa` crate leaks the key through its timing (RUSTSEC-2023-0071). Verification
//! uses no secret.

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use hmac::{Hmac, Mac as _};
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use rand_core::OsRng;
use rsa::traits::PublicKeyParts as _;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::{KeyError, KeyType, Pkcs8, PublicNumbers, key_error, uncompressed};
use crate::keys::jwk::RSA_BITS;
use crate::keys::pkcs8::encode_octets;
use crate::keys::{Algorithm, HmacAlgorithm};

pub(crate) enum KeyPair {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl KeyPair {
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        match algorithm {
            Algorithm::ES256 => Ok(Self::P256(p256::ecdsa::SigningKey::random(&mut OsRng))),
            Algorithm::ES384 => Ok(Self::P384(p384::ecdsa::SigningKey::random(&mut OsRng))),
            Algorithm::EdDSA => Ok(Self::Ed25519(ed25519_dalek::SigningKey::generate(&mut OsRng))),
            _ => Err(key_error::rsa_is_not_generated()),
        }
    }

    pub(crate) fn from_pkcs8(key: &Pkcs8) -> Result<Self, KeyError> {
        match key.key_type {
            KeyType::P256 => p256::ecdsa::SigningKey::from_pkcs8_der(&key.der).map(Self::P256),
            KeyType::P384 => p384::ecdsa::SigningKey::from_pkcs8_der(&key.der).map(Self::P384),
            KeyType::Ed25519 => ed25519_dalek::SigningKey::from_pkcs8_der(&key.der).map(Self::Ed25519),
            KeyType::Rsa => return Err(rsa_does_not_sign()),
        }
        .map_err(|_| key_error::unknown_private_key())
    }

    /// Returns the private key as PKCS#8, version 1, which every reader supports.
    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        match self {
            Self::P256(key) => key.to_pkcs8_der(),
            Self::P384(key) => key.to_pkcs8_der(),
            // The crate itself writes version 2, which OpenSSL 1.1 does not read.
            Self::Ed25519(key) => {
                return Pkcs8::wrap(KeyType::Ed25519, &encode_octets(key.as_bytes())?).map(|key| key.der);
            }
        }
        .map(|document| document.to_bytes())
        .map_err(|_| KeyError::backend("cannot encode the private key"))
    }

    pub(crate) fn public_numbers(&self) -> PublicNumbers {
        match self {
            Self::P256(key) => PublicNumbers::of_key(key.verifying_key().to_encoded_point(false).as_bytes()),
            Self::P384(key) => PublicNumbers::of_key(key.verifying_key().to_encoded_point(false).as_bytes()),
            Self::Ed25519(key) => PublicNumbers::Ed25519 { x: key.verifying_key().as_bytes().into() },
        }
    }

    pub(crate) fn sign(&self, _: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.try_sign(message).ok()?;
                signature.to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.try_sign(message).ok()?;
                signature.to_vec()
            }
            Self::Ed25519(key) => key.try_sign(message).ok()?.to_vec(),
        })
    }
}

pub(crate) enum PublicKey {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
    Rsa(rsa::RsaPublicKey),
}

impl PublicKey {
    /// Returns `None` if the numbers are not a valid key of the algorithm's type.
    pub(crate) fn parse(numbers: &PublicNumbers, algorithm: Algorithm) -> Option<Self> {
        match (numbers, algorithm) {
            (PublicNumbers::P256 { x, y }, Algorithm::ES256) => {
                p256::ecdsa::VerifyingKey::from_sec1_bytes(&uncompressed(x, y)).ok().map(Self::P256)
            }
            (PublicNumbers::P384 { x, y }, Algorithm::ES384) => {
                p384::ecdsa::VerifyingKey::from_sec1_bytes(&uncompressed(x, y)).ok().map(Self::P384)
            }
            (PublicNumbers::Ed25519 { x }, Algorithm::EdDSA) => {
                ed25519_dalek::VerifyingKey::try_from(x.as_slice()).ok().map(Self::Ed25519)
            }
            (PublicNumbers::Rsa { n, e }, _) if algorithm.is_rsa() => rsa_key(n, e),
            _ => None,
        }
    }

    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => p256::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::P384(key) => p384::ecdsa::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            // Not `verify_strict`, which additionally refuses keys of small order and an R of small order. Such keys were
            // refused before. Only the owner of the key can sign with such an R, and RFC 8032 §5.1.7 accepts it.
            Self::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Self::Rsa(key) => rsa_verifies(key, algorithm, message, signature),
        }
    }
}

fn rsa_does_not_sign() -> KeyError {
    KeyError::unsupported(
        "RSA keys only verify with the feature `rust_crypto`, since signing with the `rsa` crate leaks the key through its \
         timing (RUSTSEC-2023-0071): enable the feature `aws_lc_rs`, or sign with a key of P-256, P-384 or Ed25519",
    )
}

fn rsa_key(n: &[u8], e: &[u8]) -> Option<PublicKey> {
    let (n, e) = (rsa::BigUint::from_bytes_be(n), rsa::BigUint::from_bytes_be(e));
    rsa::RsaPublicKey::new_with_max_size(n, e, *RSA_BITS.end()).ok().map(PublicKey::Rsa)
}

fn rsa_verifies(key: &rsa::RsaPublicKey, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let pkcs1 = |scheme: rsa::Pkcs1v15Sign, digest: &[u8]| key.verify(scheme, digest, signature).is_ok();
    match algorithm {
        Algorithm::RS256 => pkcs1(rsa::Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(message)),
        Algorithm::RS384 => pkcs1(rsa::Pkcs1v15Sign::new::<Sha384>(), &Sha384::digest(message)),
        Algorithm::RS512 => pkcs1(rsa::Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(message)),
        Algorithm::PS256 => rsa::pss::Signature::try_from(signature).is_ok_and(|parsed| {
            rsa::pss::VerifyingKey::<Sha256>::new(key.clone()).verify(message, &parsed).is_ok()
                && fits_encoded_message(key, signature)
        }),
        _ => false,
    }
}

/// Returns whether no bit is set above the encoded message of PSS (RFC 8017 §9.1.2, step 6). The `rsa` crate checks this except
/// for a modulus whose first byte has a single bit, where these bits are a separate byte.
fn fits_encoded_message(key: &rsa::RsaPublicKey, signature: &[u8]) -> bool {
    let bits = key.n().bits();
    bits % 8 != 1 || rsa::BigUint::from_bytes_be(signature).modpow(key.e(), key.n()).bits() < bits
}

/// HMAC with a shared secret.
pub(crate) enum HmacKey {
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl HmacKey {
    /// Creates it with a secret of any length (RFC 2104 §2).
    #[expect(clippy::expect_used, reason = "the error is for algorithms with a fixed length")]
    pub(crate) fn new(algorithm: HmacAlgorithm, secret: &[u8]) -> Self {
        const ANY: &str = "HMAC accepts a secret of any length";
        match algorithm {
            HmacAlgorithm::HS256 => Self::Sha256(Hmac::new_from_slice(secret).expect(ANY)),
            HmacAlgorithm::HS384 => Self::Sha384(Hmac::new_from_slice(secret).expect(ANY)),
            HmacAlgorithm::HS512 => Self::Sha512(Hmac::new_from_slice(secret).expect(ANY)),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256(key) => key.clone().chain_update(message).finalize().into_bytes().to_vec(),
            Self::Sha384(key) => key.clone().chain_update(message).finalize().into_bytes().to_vec(),
            Self::Sha512(key) => key.clone().chain_update(message).finalize().into_bytes().to_vec(),
        }
    }

    /// Verifies in constant time.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Sha256(key) => key.clone().chain_update(message).verify_slice(signature).is_ok(),
            Self::Sha384(key) => key.clone().chain_update(message).verify_slice(signature).is_ok(),
            Self::Sha512(key) => key.clone().chain_update(message).verify_slice(signature).is_ok(),
        }
    }
}
