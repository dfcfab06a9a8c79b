//! [`KeyType`]: the mathematical type of a key, independent of the names in each format.

use super::Algorithm;

/// The types of asymmetric keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// The names of the supported types, for messages.
pub(super) const SUPPORTED: &str = "P-256, P-384, Ed25519 or RSA (2,048 to 8,192 bits)";

// The DER inside an `AlgorithmIdentifier`: RFC 5480 §2.1.1, RFC 8410 §3, RFC 3279 §2.3.1.
const P256: &[u8] = b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x08\x2A\x86\x48\xCE\x3D\x03\x01\x07";
const P384: &[u8] = b"\x06\x07\x2A\x86\x48\xCE\x3D\x02\x01\x06\x05\x2B\x81\x04\x00\x22";
const ED25519: &[u8] = b"\x06\x03\x2B\x65\x70";
const RSA: &[u8] = b"\x06\x09\x2A\x86\x48\x86\xF7\x0D\x01\x01\x01\x05\x00";
/// The length of the object identifier that precedes the one of the curve.
const EC: usize = 9;

impl KeyType {
    const ALL: [Self; 4] = [Self::P256, Self::P384, Self::Ed25519, Self::Rsa];

    pub(super) const fn identifier(self) -> &'static [u8] {
        match self {
            Self::P256 => P256,
            Self::P384 => P384,
            Self::Ed25519 => ED25519,
            Self::Rsa => RSA,
        }
    }

    pub(super) fn from_identifier(identifier: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|key_type| key_type.identifier() == identifier)
    }

    /// Returns the type for the DER of a curve's object identifier, as SEC1 has it.
    pub(super) fn from_curve(curve: &[u8]) -> Option<Self> {
        [Self::P256, Self::P384].into_iter().find(|key_type| key_type.identifier().get(EC..) == Some(curve))
    }

    /// Returns the type for `kty` and `crv` of a JWK (RFC 7518 §6.1, RFC 8037 §2).
    pub(super) fn from_jwk(kty: &str, crv: Option<&str>) -> Option<Self> {
        match (kty, crv) {
            ("EC", Some("P-256")) => Some(Self::P256),
            ("EC", Some("P-384")) => Some(Self::P384),
            ("OKP", Some("Ed25519")) => Some(Self::Ed25519),
            ("RSA", None) => Some(Self::Rsa),
            _ => None,
        }
    }

    /// Returns the algorithm of a key without any further information.
    pub(super) const fn default_algorithm(self) -> Algorithm {
        match self {
            Self::P256 => Algorithm::ES256,
            Self::P384 => Algorithm::ES384,
            Self::Ed25519 => Algorithm::EdDSA,
            Self::Rsa => Algorithm::RS256,
        }
    }

    /// Returns whether keys of this type can use the algorithm.
    pub(super) fn has(self, algorithm: Algorithm) -> bool {
        algorithm == self.default_algorithm() || (self == Self::Rsa && algorithm.is_rsa())
    }

    /// Returns the width of a coordinate, a seed or a private number, in bytes, or `None` for RSA.
    pub(super) const fn width(self) -> Option<usize> {
        match self {
            Self::P256 | Self::Ed25519 => Some(32),
            Self::P384 => Some(48),
            Self::Rsa => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::KeyType;

    #[test]
    fn each_type_is_found_by_its_identifier_and_its_curve() {
        for key_type in KeyType::ALL {
            assert_eq!(KeyType::from_identifier(key_type.identifier()), Some(key_type));
            assert!(key_type.has(key_type.default_algorithm()));
        }
        assert_eq!(KeyType::from_curve(b"\x06\x05\x2B\x81\x04\x00\x22"), Some(KeyType::P384));
        assert_eq!(KeyType::from_curve(b""), None);
    }
}
