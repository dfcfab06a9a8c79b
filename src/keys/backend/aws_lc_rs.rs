//! The backend of aws-lc-rs.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RsaEncoding, RsaKeyPair, RsaParameters, RsaPublicKeyComponents,
};

use zeroize::Zeroizing;

use super::{KeyError, KeyType, Pkcs8, PublicNumbers, key_error, uncompressed};
use crate::keys::{Algorithm, HmacAlgorithm};

pub(crate) enum KeyPair {
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl KeyPair {
    pub(crate) fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let pair = match algorithm {
            Algorithm::ES256 => EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Self::Ecdsa),
            Algorithm::ES384 => EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).map(Self::Ecdsa),
            Algorithm::EdDSA => Ed25519KeyPair::generate().map(Self::Ed25519),
            _ => return Err(key_error::rsa_is_not_generated()),
        };
        pair.map_err(|_| KeyError::backend("aws-lc-rs cannot generate a key"))
    }

    pub(crate) fn from_pkcs8(key: &Pkcs8) -> Result<Self, KeyError> {
        match key.key_type {
            KeyType::P256 => EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.der).map(Self::Ecdsa),
            KeyType::P384 => EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &key.der).map(Self::Ecdsa),
            KeyType::Ed25519 => Ed25519KeyPair::from_pkcs8(&key.der).map(Self::Ed25519),
            KeyType::Rsa => RsaKeyPair::from_pkcs8(&key.der).map(Self::Rsa),
        }
        .map_err(|_| key_error::unknown_private_key())
    }

    /// Returns the private key as PKCS#8, version 1, which every reader supports.
    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let wiped = |der: &[u8]| Zeroizing::new(der.to_vec());
        match self {
            Self::Ecdsa(pair) => pair.to_pkcs8v1().map(|der| wiped(der.as_ref())),
            Self::Ed25519(pair) => pair.to_pkcs8v1().map(|der| wiped(der.as_ref())),
            Self::Rsa(pair) => pair.as_der().map(|der: Pkcs8V1Der<'_>| wiped(der.as_ref())),
        }
        .map_err(|_| KeyError::backend("aws-lc-rs cannot encode the private key"))
    }

    pub(crate) fn public_numbers(&self) -> PublicNumbers {
        match self {
            Self::Ecdsa(pair) => PublicNumbers::of_key(pair.public_key().as_ref()),
            Self::Ed25519(pair) => PublicNumbers::Ed25519 { x: pair.public_key().as_ref().into() },
            Self::Rsa(pair) => PublicNumbers::Rsa {
                n: pair.public_key().modulus().big_endian_without_leading_zero().into(),
                e: pair.public_key().exponent().big_endian_without_leading_zero().into(),
            },
        }
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Ecdsa(pair) => {
                let signature = match digest(algorithm, message) {
                    Some(digest) => pair.sign_digest(&digest),
                    None => pair.sign(&SystemRandom::new(), message),
                };
                Some(signature.ok()?.as_ref().into())
            }
            Self::Ed25519(pair) => Some(pair.try_sign(message).ok()?.as_ref().into()),
            Self::Rsa(pair) => {
                let encoding = rsa_encoding(algorithm)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                match digest(algorithm, message) {
                    Some(digest) => pair.sign_digest(encoding, &digest, &mut signature),
                    None => pair.sign(encoding, &SystemRandom::new(), message, &mut signature),
                }
                .ok()?;
                Some(signature)
            }
        }
    }
}

fn rsa_encoding(algorithm: Algorithm) -> Option<&'static dyn RsaEncoding> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_SHA256),
        _ => None,
    }
}

pub(crate) struct PublicKey(ParsedPublicKey);

impl PublicKey {
    /// Returns `None` if the numbers are not a valid key of the algorithm's type.
    pub(crate) fn parse(numbers: &PublicNumbers, algorithm: Algorithm) -> Option<Self> {
        let parsed = match (numbers, algorithm) {
            (PublicNumbers::P256 { x, y }, Algorithm::ES256) => {
                ParsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, uncompressed(x, y))
            }
            (PublicNumbers::P384 { x, y }, Algorithm::ES384) => {
                ParsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, uncompressed(x, y))
            }
            (PublicNumbers::Ed25519 { x }, Algorithm::EdDSA) => ParsedPublicKey::new(&signature::ED25519, x),
            (PublicNumbers::Rsa { n, e }, _) => {
                RsaPublicKeyComponents { n, e }.to_parsed_public_key(rsa_parameters(algorithm)?)
            }
            _ => return None,
        };
        parsed.ok().map(Self)
    }

    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match digest(algorithm, message) {
            Some(digest) => self.0.verify_digest_sig(&digest, signature),
            None => self.0.verify_sig(message, signature),
        };
        verified.is_ok()
    }
}

/// Hashes a message, since aws-lc takes longer for a signature if it hashes the message itself. `None` where it must: for Ed25519,
/// and in FIPS mode, in which only the whole operation is approved.
fn digest(algorithm: Algorithm, message: &[u8]) -> Option<Digest> {
    let hash = match algorithm {
        Algorithm::ES256 | Algorithm::RS256 | Algorithm::PS256 => &digest::SHA256,
        Algorithm::ES384 | Algorithm::RS384 => &digest::SHA384,
        Algorithm::RS512 => &digest::SHA512,
        _ => return None,
    };
    aws_lc_rs::try_fips_mode().is_err().then(|| digest::digest(hash, message))
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        _ => None,
    }
}

/// HMAC with a shared secret.
pub(crate) struct HmacKey(hmac::Key);

impl HmacKey {
    /// Creates it with a secret of any length (RFC 2104 §2).
    pub(crate) fn new(algorithm: HmacAlgorithm, secret: &[u8]) -> Self {
        let hash = match algorithm {
            HmacAlgorithm::HS256 => hmac::HMAC_SHA256,
            HmacAlgorithm::HS384 => hmac::HMAC_SHA384,
            HmacAlgorithm::HS512 => hmac::HMAC_SHA512,
        };
        Self(hmac::Key::new(hash, secret))
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.0, message).as_ref().into()
    }

    /// Verifies in constant time.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.0, message, signature).is_ok()
    }
}
