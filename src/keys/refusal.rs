//! Why a key is not taken, and what to do about it: texts that more than one reader needs.

use super::KeyError;
use super::form::Form;
use super::key_type::SUPPORTED;

const MAKE_ONE: &str = "make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`";

pub(super) fn no_private_key(found: &[Form]) -> KeyError {
    let what = if found.iter().any(|form| form.is_public()) {
        "it holds a public key; load the private key that belongs to it, or, to verify only, call \
         `VerifyingKey::from_pem`"
    } else if found.contains(&Form::Certificate) {
        "it holds a certificate; load the private key that belongs to it"
    } else {
        "load PEM (`-----BEGIN PRIVATE KEY-----` on a line of its own) or DER, as PKCS#8, SEC1 or PKCS#1"
    };
    KeyError::new(format!("this is no private key: {what}; {MAKE_ONE}"))
}

pub(super) fn no_public_key(found: &[Form]) -> KeyError {
    let what = if found.contains(&Form::Certificate) {
        "it holds a certificate, from which `openssl x509 -in CERTIFICATE -noout -pubkey` takes the key"
    } else {
        "load PEM (`-----BEGIN PUBLIC KEY-----` on a line of its own), which `openssl pkey -in KEY -pubout` makes"
    };
    KeyError::new(format!("this is no public key: {what}"))
}

pub(super) fn several(kind: &str) -> KeyError {
    KeyError::new(format!("the text holds more than one {kind} key, and one has to be chosen: give each its own text"))
}

pub(super) fn private_for_public() -> KeyError {
    KeyError::new(
        "this is a private key, which whoever only verifies must not hold: take its public half \
         (`openssl pkey -in KEY -pubout`, or `SigningKey::verifying_key`)",
    )
}

pub(super) fn encrypted() -> KeyError {
    KeyError::new(
        "the private key is encrypted: load it with `SigningKey::from_encrypted_pem` (feature `encrypted_pem`), or \
         decrypt it with `openssl pkey -in KEY -out PLAIN_KEY`",
    )
}

/// Encryption that rests on MD5.
pub(super) fn encrypted_by_old_tools() -> KeyError {
    KeyError::new(
        "the private key is encrypted in the old way, with `Proc-Type` in its head, which is weak and not read here: \
         convert it with `openssl pkcs8 -topk8 -in KEY -out NEW_KEY`",
    )
}

pub(super) fn foreign_private() -> KeyError {
    KeyError::new(
        "the private key is in a format that is not read here: convert it with \
         `openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW_KEY`, one of OpenSSH with `ssh-keygen -p -m PKCS8 -f KEY`",
    )
}

pub(super) fn unknown_private_key() -> KeyError {
    KeyError::new(format!("the private key is damaged, or of a type that cannot sign here: load one of {SUPPORTED}"))
}

pub(super) fn unknown_public_key() -> KeyError {
    KeyError::new(format!("the public key is damaged, or of a type that cannot verify here: load one of {SUPPORTED}"))
}

pub(super) fn rsa_bits(bits: usize) -> KeyError {
    KeyError::new(format!(
        "the RSA key has {bits} bits: make one of 2,048 to 8,192 (RFC 7518 §3.3), 3,072 for instance"
    ))
}

pub(super) fn rsa_numbers() -> KeyError {
    KeyError::new(
        "the RSA key's modulus and public exponent have to be odd, and the exponent from 3 to 2^33 - 1 (RFC 8017 §3.1): \
         make a key with 65537, as OpenSSL does by itself",
    )
}

pub(super) fn rsa_can_be_factored() -> KeyError {
    KeyError::new(
        "the RSA key comes from a chip whose keys can be computed from their public half (CVE-2017-15361): make one \
         elsewhere, and trust this one no longer",
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
        "RSA keys are not generated here: make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072`",
    )
}

pub(super) fn secrets_are_not_generated() -> KeyError {
    KeyError::new(
        "a secret for HS256 is not generated here, since whoever verifies has to get it as well: sign with ES256, or \
         see `SigningKey::dangerous_hs256_verifiers_can_forge`",
    )
}
