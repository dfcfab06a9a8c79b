//! The unavoidable work: one signature per token, and one verification per token that was not seen before. The keys are parsed
//! in advance.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use tower_client_credentials::Algorithm;

/// A key of aws-lc-rs, without any of our code.
pub enum Bare {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(Box<RsaKeyPair>),
}

/// An RSA key of 2,048 bits, for tests only.
pub const RSA: &[u8] = include_bytes!("../../tests/keys/rsa2048.pem");

impl Bare {
    /// # Panics
    ///
    /// If the algorithm is not measured.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::ES256 => Self::Es256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            Algorithm::EdDSA => Self::EdDsa(Ed25519KeyPair::generate().unwrap()),
            Algorithm::RS256 => Self::Rs256(Box::new(RsaKeyPair::from_pkcs8(&rsa_der()).unwrap())),
            other => panic!("{other} is not measured"),
        }
    }

    pub fn sign(&self, message: &[u8]) -> [u8; 256] {
        let mut signature = [0; 256];
        match self {
            Self::Es256(pair) => copy(&mut signature, pair.sign(&SystemRandom::new(), message).unwrap().as_ref()),
            Self::EdDsa(pair) => copy(&mut signature, pair.sign(message).as_ref()),
            Self::Rs256(pair) => {
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).unwrap();
            }
        }
        signature
    }

    pub fn signature_len(&self) -> usize {
        if matches!(self, Self::Rs256(_)) { 256 } else { 64 }
    }

    pub fn public(&self) -> ParsedPublicKey {
        match self {
            Self::Es256(pair) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()),
            Self::EdDsa(pair) => ParsedPublicKey::new(&ED25519, pair.public_key().as_ref()),
            Self::Rs256(pair) => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()),
        }
        .unwrap()
    }
}

fn copy(to: &mut [u8; 256], from: &[u8]) {
    to[..from.len()].copy_from_slice(from);
}

fn rsa_der() -> Vec<u8> {
    use base64::Engine as _;
    let pem = std::str::from_utf8(RSA).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    base64::engine::general_purpose::STANDARD.decode(body).unwrap()
}
