//! [`KeyError`], and the errors that the readers share. Each says how to fix it.

use std::fmt;
use std::path::Path;

use super::key_type::SUPPORTED;
use super::structure::Structure;

/// A key could not be created or loaded. The text says how to fix it, and never contains the key.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct KeyError {
    kind: KeyErrorKind,
    message: String,
    path: Option<Box<Path>>,
}

/// The kind of a [`KeyError`], which says what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyErrorKind {
    /// A file, a folder or an environment variable cannot be read or written. Correct its name or its rights.
    Unreadable,
    /// The text is not a key, or it is damaged. Create it again.
    Malformed,
    /// The key has a type, a format or an encryption that this crate or this backend does not support. Convert it, or use another key.
    Unsupported,
    /// The key can be guessed or computed. Create another one, and remove this key from all verifiers.
    TooWeak,
    /// It is a valid key, but not the right one: a public key instead of a private one, the other half of another key, a key for
    /// another algorithm or purpose, or one that needs another passphrase.
    Mismatch,
    /// The cryptographic backend or the source of random bytes failed.
    Backend,
}

impl KeyError {
    fn new(kind: KeyErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), path: None }
    }

    pub(crate) fn unreadable(message: impl Into<String>) -> Self {
        Self::new(KeyErrorKind::Unreadable, message)
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(KeyErrorKind::Malformed, message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(KeyErrorKind::Unsupported, message)
    }

    pub(super) fn too_weak(message: impl Into<String>) -> Self {
        Self::new(KeyErrorKind::TooWeak, message)
    }

    pub(super) fn mismatch(message: impl Into<String>) -> Self {
        Self::new(KeyErrorKind::Mismatch, message)
    }

    pub(super) fn backend(message: impl Into<String>) -> Self {
        Self::new(KeyErrorKind::Backend, message)
    }

    /// Sets the path, which the text contains already.
    pub(super) fn at(self, path: &Path) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// Adds the path, also to the text.
    pub(super) fn in_file(self, path: &Path) -> Self {
        self.within(path.display()).at(path)
    }

    /// Begins the text with the place where the key is from.
    pub(super) fn within(self, place: impl fmt::Display) -> Self {
        Self { message: format!("{place}: {}", self.message), ..self }
    }

    /// Adds how to fix it.
    pub(super) fn with_advice(self, advice: &str) -> Self {
        Self { message: self.message + advice, ..self }
    }

    /// Returns the kind, which says what to do about the error.
    #[must_use]
    pub fn kind(&self) -> KeyErrorKind {
        self.kind
    }

    /// Returns the file or folder that the key was to be read from or written to, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

const MAKE_ONE: &str = "create one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";

pub(super) fn no_private_key(found: &[Structure]) -> KeyError {
    let text = |what| format!("not a private key: {what}; {MAKE_ONE}");
    if found.iter().any(|structure| structure.is_public()) {
        KeyError::mismatch(text(
            "it contains a public key; load the matching private key, or, to verify only, call `VerifyingKey::from_pem`",
        ))
    } else if found.contains(&Structure::Certificate) {
        KeyError::mismatch(text("it contains a certificate; load the matching private key"))
    } else {
        KeyError::malformed(text(
            "load PEM (`-----BEGIN PRIVATE KEY-----` on a line of its own) or DER, as PKCS#8, SEC1 or PKCS#1",
        ))
    }
}

pub(super) fn no_public_key(found: &[Structure]) -> KeyError {
    if found.contains(&Structure::Certificate) {
        KeyError::mismatch(
            "not a public key: it contains a certificate; extract its key with `openssl x509 -in CERTIFICATE -noout -pubkey`",
        )
    } else {
        KeyError::malformed(
            "not a public key: load PEM (`-----BEGIN PUBLIC KEY-----` on a line of its own), as from `openssl pkey -in KEY \
             -pubout`",
        )
    }
}

pub(super) fn several(kind: &str) -> KeyError {
    KeyError::malformed(format!("the text contains more than one {kind} key: pass only one"))
}

pub(super) fn private_for_public() -> KeyError {
    KeyError::mismatch(
        "this is a private key, which a verifier must not have: use its public half \
         (`openssl pkey -in KEY -pubout`, or `SigningKey::verifying_key`)",
    )
}

pub(super) fn encrypted() -> KeyError {
    KeyError::mismatch(
        "the private key is encrypted: load it with `SigningKey::from_encrypted_pem` (feature `encrypted_pem`), or \
         decrypt it with `openssl pkey -in KEY -out PLAIN_KEY`",
    )
}

/// Returns the error for the old PEM encryption, which derives its key with MD5.
pub(super) fn encrypted_by_old_tools() -> KeyError {
    KeyError::unsupported(
        "the private key has the old encryption with a `Proc-Type` header, which is weak and unsupported: \
         convert it with `openssl pkcs8 -topk8 -in KEY -out NEW_KEY`",
    )
}

pub(super) fn foreign_private() -> KeyError {
    KeyError::unsupported(
        "the private key has an unsupported format: convert it with \
         `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW_KEY`, or an OpenSSH key with `ssh-keygen -p -m PKCS8 -f KEY`",
    )
}

pub(super) fn unknown_private_key() -> KeyError {
    KeyError::malformed(format!("the private key is damaged, or of an unsupported type: use {SUPPORTED}"))
}

pub(super) fn unknown_public_key() -> KeyError {
    KeyError::malformed(format!("the public key is damaged, or of an unsupported type: use {SUPPORTED}"))
}

pub(super) fn rsa_bits(bits: usize) -> KeyError {
    KeyError::too_weak(format!(
        "the RSA key has {bits} bits: use one with 2,048 to 8,192 bits (RFC 7518 §3.3), for example 3,072"
    ))
}

pub(super) fn rsa_numbers() -> KeyError {
    KeyError::too_weak(
        "the RSA key's modulus and public exponent must be odd, and the exponent from 3 to 2^33 - 1 (RFC 8017 §3.1): \
         create a key with the exponent 65537, the default of OpenSSL",
    )
}

pub(super) fn rsa_can_be_factored() -> KeyError {
    KeyError::too_weak(
        "the RSA key comes from a chip whose keys can be computed from their public half (CVE-2017-15361): replace \
         it, and no longer trust it",
    )
}

pub(super) fn ed25519_point() -> KeyError {
    KeyError::too_weak(
        "the Ed25519 key is a point of small order, under which anyone can sign, or is encoded with a number beyond the field \
         (RFC 8032 §5.1.3): use a key from a key generator, such as `openssl genpkey -algorithm ed25519`",
    )
}

pub(super) fn rsa_is_not_generated() -> KeyError {
    KeyError::unsupported(
        "generating RSA keys is not supported: create one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072`",
    )
}

pub(super) fn secrets_are_not_generated() -> KeyError {
    KeyError::unsupported(
        "generating a secret for HS256 is not supported, since every verifier needs it, too: sign with ES256, or \
         see `SigningKey::dangerous_hs256_verifiers_can_forge`",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::KeyErrorKind;
    use crate::keys::{Algorithm, KeySet, SigningKey, VerifyingKey};

    const P256: &str = include_str!("../../tests/keys/p256.pem");

    #[test]
    fn the_kind_says_what_to_do_about_a_key() {
        let p256 = || SigningKey::from_pem(P256).unwrap();
        for (error, kind) in [
            (SigningKey::from_file("no/such/file").unwrap_err(), KeyErrorKind::Unreadable),
            (SigningKey::from_pem("hello").unwrap_err(), KeyErrorKind::Malformed),
            (SigningKey::from_pem(&P256[..100]).unwrap_err(), KeyErrorKind::Malformed),
            (SigningKey::from_pem(P256.repeat(2)).unwrap_err(), KeyErrorKind::Malformed),
            (SigningKey::from_jwk("[]").unwrap_err(), KeyErrorKind::Malformed),
            (KeySet::from_jwks("[]").unwrap_err(), KeyErrorKind::Malformed),
            (KeySet::from_jwks(r#"{"keys":[]}"#).unwrap_err(), KeyErrorKind::Unsupported),
            (
                SigningKey::from_pem(include_str!("../../tests/keys/openssh.pem")).unwrap_err(),
                KeyErrorKind::Unsupported,
            ),
            (
                VerifyingKey::from_jwk(r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#).unwrap_err(),
                KeyErrorKind::Unsupported,
            ),
            (SigningKey::generate(Algorithm::HS256).unwrap_err(), KeyErrorKind::Unsupported),
            (SigningKey::dangerous_hs256_verifiers_can_forge(b"short").unwrap_err(), KeyErrorKind::TooWeak),
            (SigningKey::dangerous_hs256_verifiers_can_forge(P256).unwrap_err(), KeyErrorKind::Mismatch),
            (p256().with_algorithm(Algorithm::ES384).unwrap_err(), KeyErrorKind::Mismatch),
            (VerifyingKey::from_pem(P256).unwrap_err(), KeyErrorKind::Mismatch),
            (SigningKey::from_pem(include_str!("../../tests/keys/p256.pub.pem")).unwrap_err(), KeyErrorKind::Mismatch),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
        }
    }

    #[test]
    fn the_error_of_a_file_keeps_its_kind_and_has_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, include_str!("../../tests/keys/p256.pub.pem")).unwrap();
        for (path, kind) in [(&*path, KeyErrorKind::Mismatch), (Path::new("no/such/file"), KeyErrorKind::Unreadable)] {
            let error = SigningKey::from_file(path).unwrap_err();
            assert_eq!((error.kind(), error.path()), (kind, Some(path)), "{error}");
            assert_eq!(error.to_string().matches(path.to_str().unwrap()).count(), 1, "{error}");
        }
        assert_eq!(SigningKey::from_pem("hello").unwrap_err().path(), None);
    }
}
