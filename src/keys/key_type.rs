//! [`KeyType`]: the mathematical type of a key, independent of the names in each format.

use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::AnyRef;
use pkcs8::spki::{AlgorithmIdentifier, AlgorithmIdentifierRef};

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

// RFC 5480 §2.1.1, RFC 8410 §3, RFC 3279 §2.3.1.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
static P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
static P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

impl KeyType {
    const ALL: [Self; 4] = [Self::P256, Self::P384, Self::Ed25519, Self::Rsa];

    /// Returns the identifier of the type in PKCS#8 and in a `SubjectPublicKeyInfo`.
    pub(super) fn identifier(self) -> AlgorithmIdentifierRef<'static> {
        let (oid, parameters) = match self {
            Self::P256 => (EC, Some((&P256).into())),
            Self::P384 => (EC, Some((&P384).into())),
            Self::Ed25519 => (ED25519, None),
            Self::Rsa => (RSA, Some(AnyRef::NULL)),
        };
        AlgorithmIdentifier { oid, parameters }
    }

    pub(super) fn from_identifier(identifier: &AlgorithmIdentifierRef<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|key_type| key_type.identifier() == *identifier)
    }

    /// Returns the type of the keys on a curve, which SEC1 names without the rest of the identifier.
    pub(super) fn from_curve(curve: ObjectIdentifier) -> Option<Self> {
        [(P256, Self::P256), (P384, Self::P384)]
            .into_iter()
            .find(|(oid, _)| *oid == curve)
            .map(|(_, key_type)| key_type)
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
            assert_eq!(KeyType::from_identifier(&key_type.identifier()), Some(key_type));
            assert!(key_type.has(key_type.default_algorithm()));
        }
        assert_eq!(KeyType::from_curve(super::P384), Some(KeyType::P384));
        assert_eq!(KeyType::from_curve(super::ED25519), None);
    }
}
