//! [`DecoyKeys`]: keys that are used instead of those of a client, so that each refusal costs one verification.

use crate::keys::{Algorithm, KeyError, KeySet, VerifyingKey};

/// One key of each type. The private halves were deleted, and a valid signature would prove nothing.
const KEYS: &str = r#"{"keys":[
    {"kty":"EC","crv":"P-256","x":"nAlB4yTl7qjrisegJs1J6EMkNmJIfpLY9gKw65h5Ujc","y":"OFwgvpqNNXbwrkMy2WZdBqte-BXPBXr-UtaQIPzG4Mo"},
    {"kty":"EC","crv":"P-384","x":"eYId2tPhGVmSZurE-yto-g0inu7V9aJvCLCPlPXv18pT7j2jzIEKAIQTBo-1DMfV","y":"L-6-MaB5YX01JdZn0qj75hlMZ1bMjLaTLWpYe203nFde_ciWE_hBEIiaEKKzk14K"},
    {"kty":"OKP","crv":"Ed25519","x":"6qjwaLlMRU7qDivFTkiYNICa9rkxphG0GIsHen9bx1k"},
    {"kty":"RSA","e":"AQAB","n":"6ajUCJiKSaHklvxQhGxINOdVkeXPFfaYu_pz9EWtaHVH04gRGxgwzqsZoNyy7FYy8FaXB0glx1Hc7HlJqZTttlatV_4qMd1w9lHCfGXy6r0vSIVDuQsEeE6227f_R9app0VI25ww1x5HZlqXSWtqWigr7aIMGsbvMw6X7zOOP7ZTtE9vmPchodQ3C-wFyuAHf0eMA99qC7KxWd2LvefI0YXQ6bthO9li7f2MjseITUXM5uvUC8bRhdNoTc4I43tBIX-NUyoK48GC0LSybWG1KL3IrXCH698F7dqvgTz2YPpSJ5cUakE-1jQZX0bxSdX3zgJjvns59nocammSD7EYIw"}
]}"#;

/// The algorithms of the keys above: every asymmetric one.
pub(super) const ALL: [Algorithm; 7] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
];

#[derive(Debug)]
pub(super) struct DecoyKeys(KeySet);

impl DecoyKeys {
    pub(super) fn new() -> Result<Self, KeyError> {
        KeySet::from_jwks_for(KEYS, ALL).map(Self)
    }

    /// Returns the key for this algorithm.
    pub(super) fn key(&self, alg: &str) -> Option<VerifyingKey> {
        self.0.find("", alg).ok().map(|found| found.key)
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, DecoyKeys};

    #[test]
    fn there_is_a_key_for_each_algorithm() {
        let keys = DecoyKeys::new().unwrap();
        for algorithm in ALL {
            assert_eq!(keys.key(algorithm.name()).unwrap().algorithm(), algorithm);
        }
        assert!(keys.key("Ed25519").is_some() && keys.key("none").is_none());
    }
}
