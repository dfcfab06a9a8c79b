//! [`Algorithm`]: the signature algorithm of a token.

use std::fmt;

/// A JWS signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1). All except `HS256` are asymmetric, so a verifier cannot forge.
///
/// | | to sign | to verify | choose it if |
/// |---|---|---|---|
/// | `ES256` | 13 µs | 38 µs | in doubt: the default, supported everywhere |
/// | `EdDSA` | 7 µs | 27 µs | every verifier supports Ed25519 |
/// | `RS256` | 231 µs | 13 µs | a verifier supports nothing else (RFC 9068 §2.1 requires all to support it) |
///
/// The times are approximate, measured on one machine with `aws_lc_rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256, the default.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519. Tokens have `alg` `EdDSA`; `Ed25519` (RFC 9864) is accepted, too.
    EdDSA,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// HMAC with SHA-256 and a shared secret: **every verifier can forge**. Only a key from
    /// [`SigningKey::dangerous_hs256_verifiers_can_forge`](super::SigningKey::dangerous_hs256_verifiers_can_forge) uses it.
    HS256,
}

impl Algorithm {
    /// Returns the name in the `alg` header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::HS256 => "HS256",
        }
    }

    /// Returns the asymmetric algorithm with this name in a JWK. `Ed25519` (RFC 9864) is another name of `EdDSA`.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let all = [Self::ES256, Self::ES384, Self::EdDSA, Self::RS256, Self::RS384, Self::RS512, Self::PS256];
        all.into_iter().find(|algorithm| algorithm.is_named(name))
    }

    /// Returns whether a header with this `alg` means this algorithm.
    pub(crate) fn is_named(self, alg: &str) -> bool {
        alg == self.name() || (self == Self::EdDSA && alg == "Ed25519")
    }

    pub(crate) const fn is_rsa(self) -> bool {
        matches!(self, Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Algorithm;

    #[test]
    fn no_asymmetric_algorithm_has_the_name_of_another_or_of_none() {
        let names = ["ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "HS256"];
        for name in names {
            let answering = names.iter().filter_map(|own| Algorithm::from_name(own)).filter(|own| own.is_named(name));
            assert_eq!(answering.count(), usize::from(name != "HS256"), "{name}");
        }
        assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::EdDSA));
        for name in ["HS256", "none", "", "es256", "ES256K", "RSA-OAEP"] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
        assert!(Algorithm::HS256.is_named("HS256") && !Algorithm::HS256.is_named("ES256"));
    }
}
