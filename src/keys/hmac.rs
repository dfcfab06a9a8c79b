//! [`HmacAlgorithm`]: the algorithms of `client_secret_jwt`, which are kept apart from those of keys.

use std::fmt;

use super::KeyError;
use super::backend::HmacKey;
use super::hs256_secret::is_key;

/// An HMAC algorithm of JWS (RFC 7518 §3.2), for assertions that a shared secret authenticates.
///
/// It is a type of its own, so that no secret is ever used for an [`Algorithm`](super::Algorithm) of public keys, and no public
/// key for one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HmacAlgorithm {
    /// HMAC with SHA-256. The secret needs at least 32 bytes.
    HS256,
    /// HMAC with SHA-384. The secret needs at least 48 bytes.
    HS384,
    /// HMAC with SHA-512. The secret needs at least 64 bytes.
    HS512,
}

impl HmacAlgorithm {
    pub(crate) const ALL: [Self; 3] = [Self::HS256, Self::HS384, Self::HS512];

    /// Returns the name in the `alg` header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
        }
    }

    /// Returns the algorithm with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Returns the minimum length of the secret in bytes: that of the hash (RFC 7518 §3.2).
    #[must_use]
    pub const fn min_secret_len(self) -> usize {
        match self {
            Self::HS256 => 32,
            Self::HS384 => 48,
            Self::HS512 => 64,
        }
    }

    /// Returns whether `signature` is the HMAC of `message`, in constant time. A secret that is too short verifies nothing.
    pub(crate) fn verifies(self, secret: &[u8], message: &[u8], signature: &[u8]) -> bool {
        #[cfg(test)]
        CHECKS.set(CHECKS.get() + 1);
        HmacKey::new(self, secret).verifies(message, signature) && secret.len() >= self.min_secret_len()
    }

    /// Returns how many signatures this thread has checked.
    #[cfg(test)]
    pub(crate) fn checks_of_this_thread() -> usize {
        CHECKS.get()
    }
}

#[cfg(test)]
thread_local! {
    static CHECKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Checks that the secret is long enough, and no key of another kind: a public key as a secret is the classic forgery.
pub(crate) fn check_secret(secret: &[u8], algorithm: HmacAlgorithm) -> Result<(), KeyError> {
    if secret.len() < algorithm.min_secret_len() {
        let (least, found) = (algorithm.min_secret_len(), secret.len());
        return Err(KeyError::too_weak(format!(
            "a secret for {algorithm} needs at least {least} bytes (RFC 7518 §3.2), found {found}; generate a longer one, for \
             example with `openssl rand -base64 {least}`"
        )));
    }
    if is_key(secret) {
        return Err(KeyError::mismatch(
            "a key in PEM, DER or JWK cannot be a secret for client_secret_jwt; register the public key for private_key_jwt",
        ));
    }
    Ok(())
}

impl fmt::Display for HmacAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::{HmacAlgorithm, HmacKey, check_secret};

    #[test]
    fn each_algorithm_computes_the_test_vector_of_rfc_4231() {
        let hex = |text: &str| -> Vec<u8> {
            text.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        // Test case 6, whose key is long enough for all.
        let (key, message) = ([0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        for (algorithm, mac) in [
            (HmacAlgorithm::HS256, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
            (
                HmacAlgorithm::HS384,
                "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe8296248df163f44952",
            ),
            (
                HmacAlgorithm::HS512,
                "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
            ),
        ] {
            let mac = hex(mac);
            assert_eq!(HmacKey::new(algorithm, &key).sign(message), mac);
            assert!(algorithm.verifies(&key, message, &mac));
            for wrong in [&mac[..mac.len() - 1], &[], &[mac.as_slice(), &[0]].concat()] {
                assert!(!algorithm.verifies(&key, message, wrong), "{algorithm}");
            }
        }
    }

    #[test]
    fn a_secret_that_is_shorter_than_the_hash_verifies_nothing() {
        for algorithm in HmacAlgorithm::ALL {
            let secret = vec![7; algorithm.min_secret_len()];
            let short = &secret[1..];
            let signature = HmacKey::new(algorithm, short).sign(b"text");
            assert!(!algorithm.verifies(short, b"text", &signature), "{algorithm}");
            assert!(check_secret(short, algorithm).unwrap_err().to_string().contains(algorithm.name()));
            assert!(check_secret(&secret, algorithm).is_ok());
        }
        let pem = include_bytes!("../../tests/keys/p256.pub.pem");
        assert!(check_secret(pem, HmacAlgorithm::HS256).unwrap_err().to_string().contains("private_key_jwt"));
    }
}
