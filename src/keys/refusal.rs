//! Errors for keys that are refused, shared by the readers. Each says how to fix it.

use super::KeyError;
use super::key_type::SUPPORTED;
use super::structure::Structure;

const MAKE_ONE: &str = "create one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";

pub(super) fn no_private_key(found: &[Structure]) -> KeyError {
    let what = if found.iter().any(|structure| structure.is_public()) {
        "it contains a public key; load the matching private key, or, to verify only, call \
         `VerifyingKey::from_pem`"
    } else if found.contains(&Structure::Certificate) {
        "it contains a certificate; load the matching private key"
    } else {
        "load PEM (`-----BEGIN PRIVATE KEY-----` on a line of its own) or DER, as PKCS#8, SEC1 or PKCS#1"
    };
    KeyError::new(format!("not a private key: {what}; {MAKE_ONE}"))
}

pub(super) fn no_public_key(found: &[Structure]) -> KeyError {
    let what = if found.contains(&Structure::Certificate) {
        "it contains a certificate; extract its key with `openssl x509 -in CERTIFICATE -noout -pubkey`"
    } else {
        "load PEM (`-----BEGIN PUBLIC KEY-----` on a line of its own), as from `openssl pkey -in KEY -pubout`"
    };
    KeyError::new(format!("not a public key: {what}"))
}

pub(super) fn several(kind: &str) -> KeyError {
    KeyError::new(format!("the text contains more than one {kind} key: pass only one"))
}

pub(super) fn private_for_public() -> KeyError {
    KeyError::new(
        "this is a private key, which a verifier must not have: use its public half \
         (`openssl pkey -in KEY -pubout`, or `SigningKey::verifying_key`)",
    )
}

pub(super) fn encrypted() -> KeyError {
    KeyError::new(
        "the private key is encrypted: load it with `SigningKey::from_encrypted_pem` (feature `encrypted_pem`), or \
         decrypt it with `openssl pkey -in KEY -out PLAIN_KEY`",
    )
}

/// Returns the error for the old PEM encryption, which derives its key with MD5.
pub(super) fn encrypted_by_old_tools() -> KeyError {
    KeyError::new(
        "the private key has the old encryption with a `Proc-Type` header, which is weak and unsupported: \
         convert it with `openssl pkcs8 -topk8 -in KEY -out NEW_KEY`",
    )
}

pub(super) fn foreign_private() -> KeyError {
    KeyError::new(
        "the private key has an unsupported format: convert it with \
         `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW_KEY`, or an OpenSSH key with `ssh-keygen -p -m PKCS8 -f KEY`",
    )
}

pub(super) fn unknown_private_key() -> KeyError {
    KeyError::new(format!("the private key is damaged, or of an unsupported type: use {SUPPORTED}"))
}

pub(super) fn unknown_public_key() -> KeyError {
    KeyError::new(format!("the public key is damaged, or of an unsupported type: use {SUPPORTED}"))
}

pub(super) fn rsa_bits(bits: usize) -> KeyError {
    KeyError::new(format!(
        "the RSA key has {bits} bits: use one with 2,048 to 8,192 bits (RFC 7518 §3.3), for example 3,072"
    ))
}

pub(super) fn rsa_numbers() -> KeyError {
    KeyError::new(
        "the RSA key's modulus and public exponent must be odd, and the exponent from 3 to 2^33 - 1 (RFC 8017 §3.1): \
         create a key with the exponent 65537, the default of OpenSSL",
    )
}

pub(super) fn rsa_can_be_factored() -> KeyError {
    KeyError::new(
        "the RSA key comes from a chip whose keys can be computed from their public half (CVE-2017-15361): replace \
         it, and no longer trust it",
    )
}

pub(super) fn ed25519_point() -> KeyError {
    KeyError::new(
        "the Ed25519 key is a point of small order, under which anyone can sign, or is encoded with a number beyond the field \
         (RFC 8032 §5.1.3): use a key from a key generator, such as `openssl genpkey -algorithm ed25519`",
    )
}

pub(super) fn rsa_is_not_generated() -> KeyError {
    KeyError::new(
        "generating RSA keys is not supported: create one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072`",
    )
}

pub(super) fn secrets_are_not_generated() -> KeyError {
    KeyError::new(
        "generating a secret for HS256 is not supported, since every verifier needs it, too: sign with ES256, or \
         see `SigningKey::dangerous_hs256_verifiers_can_forge`",
    )
}
