//! Compares both backends on the same altered keys and tokens: they must accept the same. First with values on which
//! implementations are known to differ, then with random alterations.

mod altered;
mod ecdsa;
mod ed25519;
mod numbers;
mod private_keys;
mod rsa_forms;

use std::sync::LazyLock;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use rsa::BigUint;
use serde_json::{Value, json};

use super::{PublicNumbers, aws_lc_rs, rust_crypto};
use crate::keys::Algorithm;
use crate::keys::parsed_jwk::{ParsedJwk, Purpose};

const MESSAGE: &[u8] = b"header.payload";

/// One public key, parsed by both backends.
struct Both {
    aws_lc: aws_lc_rs::PublicKey,
    rust_crypto: Option<rust_crypto::PublicKey>,
    algorithm: Algorithm,
}

impl Both {
    /// Parses a key as `VerifyingKey` does. Returns `None` if both backends refuse it.
    ///
    /// There is one documented difference: aws-lc does not check whether an Ed25519 key is a point before it verifies. Such a
    /// key has no `rust_crypto` half here, and must not verify anything.
    fn parse(numbers: &PublicNumbers, algorithm: Algorithm) -> Option<Self> {
        numbers.check().ok()?;
        let rust_crypto = rust_crypto::PublicKey::parse(numbers, algorithm);
        match aws_lc_rs::PublicKey::parse(numbers, algorithm) {
            None if rust_crypto.is_none() => None,
            Some(aws_lc) if rust_crypto.is_some() || algorithm == Algorithm::EdDSA => {
                Some(Self { aws_lc, rust_crypto, algorithm })
            }
            aws_lc => panic!("only one backend ({}) accepts {numbers:?}", aws_lc.map_or("rust_crypto", |_| "aws-lc")),
        }
    }

    fn is_point(&self) -> bool {
        self.rust_crypto.is_some()
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let accepted = self.aws_lc.verifies(self.algorithm, message, signature);
        let other = self.rust_crypto.as_ref().is_some_and(|key| key.verifies(self.algorithm, message, signature));
        assert_eq!(accepted, other, "aws-lc, then rust_crypto: {} of {message:02x?}: {signature:02x?}", self.algorithm);
        accepted
    }
}

fn number(text: &str) -> BigUint {
    BigUint::parse_bytes(text.as_bytes(), 16).unwrap()
}

fn small(number: u64) -> BigUint {
    BigUint::from(number)
}

/// Returns the number with this many bytes, big-endian, or `None` if it needs more.
fn fixed(number: &BigUint, width: usize) -> Option<Vec<u8>> {
    let bytes = number.to_bytes_be();
    Some([vec![0; width.checked_sub(bytes.len())?], bytes].concat())
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

/// The orders of the groups of P-256, P-384 and Ed25519.
static ORDER_P256: LazyLock<BigUint> =
    LazyLock::new(|| number("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"));
static ORDER_P384: LazyLock<BigUint> = LazyLock::new(|| {
    number("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973")
});
static ORDER_ED25519: LazyLock<BigUint> =
    LazyLock::new(|| number("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed"));
/// The field of Ed25519 has 2²⁵⁵ - 19 elements.
static FIELD_ED25519: LazyLock<BigUint> =
    LazyLock::new(|| number("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed"));

fn jwk(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn member(jwk: &Value, name: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(jwk[name].as_str().unwrap()).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// A signing key, and both backends' public key for it.
struct Subject {
    algorithm: Algorithm,
    /// The public key as a JWK.
    jwk: Value,
    key: Both,
    message: Vec<u8>,
    signature: Vec<u8>,
    /// The modulus of the numbers in a signature: the order of the group, or the RSA modulus.
    modulus: BigUint,
}

impl Subject {
    fn new(algorithm: Algorithm, pkcs8: &super::Pkcs8) -> Self {
        let pair = aws_lc_rs::KeyPair::from_pkcs8(pkcs8).unwrap();
        let numbers = pair.public_numbers();
        let (kind, modulus) = match &numbers {
            PublicNumbers::P256 { x, y } => {
                (json!({"kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y)}), None)
            }
            PublicNumbers::P384 { x, y } => {
                (json!({"kty": "EC", "crv": "P-384", "x": encode(x), "y": encode(y)}), None)
            }
            PublicNumbers::Ed25519 { x } => (json!({"kty": "OKP", "crv": "Ed25519", "x": encode(x)}), None),
            PublicNumbers::Rsa { n, e } => {
                (json!({"kty": "RSA", "n": encode(n), "e": encode(e)}), Some(BigUint::from_bytes_be(n)))
            }
        };
        let modulus = modulus.unwrap_or_else(|| match algorithm {
            Algorithm::ES256 => ORDER_P256.clone(),
            Algorithm::ES384 => ORDER_P384.clone(),
            _ => ORDER_ED25519.clone(),
        });
        let mut jwk = kind;
        jwk["alg"] = json!(algorithm.name());
        let header = json!({"alg": algorithm.name(), "typ": "at+jwt"}).to_string();
        let claims = json!({"iss": "https://auth.example.com", "sub": "billing", "exp": 1_700_000_600}).to_string();
        let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes())).into_bytes();
        let signature = pair.sign(algorithm, &message).unwrap();
        let key = Both::parse(&numbers, algorithm).unwrap();
        assert!(key.verifies(&message, &signature), "{algorithm}");
        Self { algorithm, jwk, key, message, signature, modulus }
    }

    /// Returns one subject for each asymmetric algorithm, and for RSA also moduli of 2,049 and 2,050 bits, whose top byte is
    /// not full.
    fn all() -> Vec<Self> {
        let pem = |text: &str| {
            let section = crate::keys::pem::private_section(text.as_bytes()).unwrap();
            super::Pkcs8::from_der(section.structure, section.der().unwrap()).unwrap()
        };
        let rsa2049 = include_str!("../../../../tests/keys/rsa2049.jwk");
        let rsa2049 = ParsedJwk::new(rsa2049.as_bytes(), Purpose::Sign).unwrap().to_pkcs8().unwrap();
        let rsa2048 = pem(include_str!("../../../../tests/keys/rsa2048.pem"));
        let rsa2050 = pem(include_str!("../../../../tests/keys/rsa2050.e3.pem"));
        vec![
            Self::new(Algorithm::ES256, &pem(include_str!("../../../../tests/keys/p256.pem"))),
            Self::new(Algorithm::ES384, &pem(include_str!("../../../../tests/keys/p384.pem"))),
            Self::new(Algorithm::EdDSA, &pem(include_str!("../../../../tests/keys/ed25519.pem"))),
            Self::new(Algorithm::RS256, &rsa2048),
            Self::new(Algorithm::RS384, &rsa2048),
            Self::new(Algorithm::RS512, &rsa2048),
            Self::new(Algorithm::PS256, &rsa2048),
            Self::new(Algorithm::RS256, &rsa2049),
            Self::new(Algorithm::PS256, &rsa2049),
            Self::new(Algorithm::RS256, &rsa2050),
            Self::new(Algorithm::PS256, &rsa2050),
        ]
    }

    /// Returns edge values for the numbers of a signature, in `width` bytes.
    fn edges(&self, width: usize) -> Vec<Vec<u8>> {
        let n = &self.modulus;
        let half = n >> 1;
        let edges = [
            small(0),
            small(1),
            small(2),
            half.clone(),
            half + small(1),
            n - small(1),
            n.clone(),
            n + small(1),
            n << 1,
            (small(1) << (8 * width)) - small(1),
            small(1) << (8 * width - 1),
        ];
        let edges = edges.iter().filter_map(|edge| fixed(edge, width));
        if self.algorithm == Algorithm::EdDSA { edges.map(|edge| reversed(&edge)).collect() } else { edges.collect() }
    }

    /// Returns how many numbers of equal width a signature has.
    fn halves(&self) -> usize {
        if self.algorithm.is_rsa() { 1 } else { 2 }
    }
}
