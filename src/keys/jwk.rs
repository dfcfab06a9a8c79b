//! [`PublicNumbers`]: the numbers of a public key, for a JWK (RFC 7517) and a thumbprint (RFC 7638).

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType, Jwk,
    OctetKeyPairParameters, OctetKeyPairType, PublicKeyUse, RSAKeyParameters, RSAKeyType,
};

use super::key_type::KeyType;
use super::{Algorithm, KeyError, ed25519, key_error, roca};

/// The supported sizes of RSA keys. Smaller ones are refused (RFC 7518 §3.3), and larger ones take too much time.
pub(super) const RSA_BITS: RangeInclusive<usize> = 2048..=8192;

/// The numbers in big-endian form, as in a JWK: coordinates at the curve's full width, RSA numbers without leading zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PublicNumbers {
    P256 { x: Vec<u8>, y: Vec<u8> },
    P384 { x: Vec<u8>, y: Vec<u8> },
    Ed25519 { x: Vec<u8> },
    Rsa { n: Vec<u8>, e: Vec<u8> },
}

impl PublicNumbers {
    /// Returns the numbers of an uncompressed point (SEC 1 §2.3.3), or `None` if the length fits no supported curve.
    pub(super) fn from_point(point: &[u8]) -> Option<Self> {
        let (&4, coordinates) = point.split_first()? else { return None };
        let (x, y) = coordinates.split_at_checked(coordinates.len() / 2)?;
        Self::from_coordinates(x.into(), y.into())
    }

    /// Like [`from_point`](Self::from_point), for the point of a key that a backend has parsed.
    #[expect(clippy::expect_used, reason = "backends parse only keys of these two curves")]
    pub(super) fn of_key(point: &[u8]) -> Self {
        Self::from_point(point).expect("the point of a parsed key is on P-256 or P-384")
    }

    /// Selects the curve by the width of the coordinates.
    pub(super) fn from_coordinates(x: Vec<u8>, y: Vec<u8>) -> Option<Self> {
        match (x.len(), y.len()) {
            (32, 32) => Some(Self::P256 { x, y }),
            (48, 48) => Some(Self::P384 { x, y }),
            _ => None,
        }
    }

    pub(super) const fn key_type(&self) -> KeyType {
        match self {
            Self::P256 { .. } => KeyType::P256,
            Self::P384 { .. } => KeyType::P384,
            Self::Ed25519 { .. } => KeyType::Ed25519,
            Self::Rsa { .. } => KeyType::Rsa,
        }
    }

    /// Returns the length of a signature in bytes (RFC 7518 §3.3 and §3.4, RFC 8032 §5.1.6). With RSA, it is that of the
    /// modulus.
    pub(super) fn signature_len(&self) -> usize {
        match self {
            Self::P256 { .. } | Self::Ed25519 { .. } => 64,
            Self::P384 { .. } => 96,
            Self::Rsa { n, .. } => n.len(),
        }
    }

    /// Checks what the backends decide differently, or only when they verify.
    pub(super) fn check(&self) -> Result<(), KeyError> {
        let (n, e) = match self {
            Self::Ed25519 { x } if ed25519::is_weak(x) => return Err(key_error::ed25519_point()),
            Self::P256 { .. } | Self::P384 { .. } | Self::Ed25519 { .. } => return Ok(()),
            Self::Rsa { n, e } => (n, e),
        };
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(key_error::rsa_bits(bits));
        }
        if roca::is_weak(n) {
            return Err(key_error::rsa_can_be_factored());
        }
        if is_odd(n) && is_sound_exponent(e) { Ok(()) } else { Err(key_error::rsa_numbers()) }
    }

    pub(super) fn to_jwk(&self, key_id: &str, algorithm: Algorithm) -> Jwk {
        Jwk {
            common: CommonParameters {
                public_key_use: Some(PublicKeyUse::Signature),
                key_algorithm: algorithm.name().parse().ok(),
                key_id: Some(key_id.to_owned()),
                ..CommonParameters::default()
            },
            algorithm: self.parameters(),
        }
    }

    fn parameters(&self) -> AlgorithmParameters {
        match self {
            Self::P256 { x, y } => ec_parameters(EllipticCurve::P256, x, y),
            Self::P384 { x, y } => ec_parameters(EllipticCurve::P384, x, y),
            Self::Ed25519 { x } => AlgorithmParameters::OctetKeyPair(OctetKeyPairParameters {
                key_type: OctetKeyPairType::OctetKeyPair,
                curve: EllipticCurve::Ed25519,
                x: encode(x),
            }),
            Self::Rsa { n, e } => {
                AlgorithmParameters::RSA(RSAKeyParameters { key_type: RSAKeyType::RSA, n: encode(n), e: encode(e) })
            }
        }
    }
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last % 2 == 1)
}

/// Returns whether the exponent is from 3 to 2³³ - 1 (RFC 8017 §3.1; the upper bound is that of both backends). With an
/// exponent of 1, every message would be its own signature.
fn is_sound_exponent(e: &[u8]) -> bool {
    let value = e.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    e.len() <= 5 && is_odd(e) && (3..1 << 33).contains(&value)
}

fn ec_parameters(curve: EllipticCurve, x: &[u8], y: &[u8]) -> AlgorithmParameters {
    AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
        key_type: EllipticCurveKeyType::EC,
        curve,
        x: encode(x),
        y: encode(y),
    })
}

pub(super) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
