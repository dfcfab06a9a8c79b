//! Decrypts private keys with a passphrase (RFC 8018, PBES2): `EncryptedPrivateKeyInfo` → DER.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::{Kdf, Pbkdf2Params, ScryptParams};
use zeroize::Zeroizing;

use super::KeyError;

/// About 5 s of work. OpenSSL uses 2,048; OWASP recommends 600,000.
const PBKDF2_ITERATIONS: u32 = 10_000_000;
/// OpenSSL uses 16 MiB.
const SCRYPT_BYTES: u64 = 256 * 1024 * 1024;
const SCRYPT_PARALLELIZATION: u16 = 16;

pub(super) fn decrypt(der: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| unsupported())?;
    let scheme = &encrypted.encryption_algorithm;
    let kdf = &scheme.pbes2().ok_or_else(unsupported)?.kdf;
    if !is_affordable(kdf) {
        return Err(KeyError::unsupported(
            "the private key requires too much work for its passphrase (the limits are 10,000,000 rounds of PBKDF2, or \
             256 MiB of scrypt): encrypt it again with `openssl pkcs8 -topk8 -in KEY -out NEW_KEY`",
        ));
    }
    let mut buffer = Zeroizing::new(encrypted.encrypted_data.as_bytes().to_vec());
    let length = scheme.decrypt_in_place(passphrase, &mut buffer).map(<[u8]>::len).map_err(refuse)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Returns whether the work is within the limits. A key file must not cause endless work or allocations.
fn is_affordable(kdf: &Kdf) -> bool {
    match kdf {
        Kdf::Pbkdf2(Pbkdf2Params { iteration_count, .. }) => *iteration_count <= PBKDF2_ITERATIONS,
        Kdf::Scrypt(ScryptParams { cost_parameter, block_size, parallelization, .. }) => {
            let memory = cost_parameter.saturating_mul(128 * u64::from(*block_size));
            memory <= SCRYPT_BYTES && *parallelization <= SCRYPT_PARALLELIZATION
        }
        _ => false,
    }
}

fn refuse(error: pkcs8::pkcs5::Error) -> KeyError {
    match error {
        pkcs8::pkcs5::Error::DecryptFailed => wrong_passphrase(),
        _ => unsupported(),
    }
}

pub(super) fn wrong_passphrase() -> KeyError {
    KeyError::mismatch("the passphrase of the private key is wrong; check for a line break at its end")
}

fn unsupported() -> KeyError {
    KeyError::unsupported(
        "the private key has an unsupported encryption: encrypt it again, as PBES2 with AES and SHA-256, \
         with `openssl pkcs8 -topk8 -v2 aes256 -v2prf hmacWithSHA256 -in KEY -out NEW_KEY`",
    )
}

#[cfg(test)]
mod tests {
    use crate::keys::{SigningKey, pem};

    const P256: &str = include_str!("../../tests/keys/p256.encrypted.pem");
    const SCRYPT: &str = include_str!("../../tests/keys/ed25519.scrypt.pem");
    const PASSPHRASE: &str = "correct-horse";

    fn refusal(pem: &str, passphrase: &str) -> String {
        SigningKey::from_encrypted_pem(pem, passphrase).expect_err("a bad key").to_string()
    }

    #[test]
    fn a_key_encrypted_by_openssl_is_the_same_key() {
        for (encrypted, plain) in [
            (P256, include_str!("../../tests/keys/p256.pem")),
            (SCRYPT, include_str!("../../tests/keys/ed25519.pem")),
            #[cfg(feature = "aws_lc_rs")]
            (include_str!("../../tests/keys/rsa2048.encrypted.pem"), include_str!("../../tests/keys/rsa2048.pem")),
        ] {
            let key = SigningKey::from_encrypted_pem(encrypted, PASSPHRASE).unwrap();
            assert_eq!(key.key_id(), SigningKey::from_pem(plain).unwrap().key_id());
        }
    }

    #[test]
    fn a_wrong_passphrase_is_refused_and_not_shown() {
        // With the first two, the decrypted text happens to end like padding, as with one in 256.
        for passphrase in ["wrong-70", "wrong-382", "wrong-1", "", "correct-horse\n"] {
            let refusal = refusal(P256, passphrase);
            assert!(refusal.contains("passphrase of the private key is wrong"), "{refusal}");
            assert!(!refusal.contains("wrong-"), "{refusal}");
        }
    }

    #[test]
    fn an_unencrypted_or_unsupported_key_is_refused_and_the_error_says_how_to_fix_it() {
        for (pem, fix) in [
            (include_str!("../../tests/keys/p256.pem"), "`SigningKey::from_pem`"),
            (include_str!("../../tests/keys/p256.proc-type.pem"), "openssl pkcs8 -topk8"),
            (include_str!("../../tests/keys/p256.sha1.encrypted.pem"), "hmacWithSHA256"),
            (include_str!("../../tests/keys/p256.3des.encrypted.pem"), "aes256"),
            (include_str!("../../tests/keys/p256.pbes1.encrypted.pem"), "aes256"),
            (include_str!("../../tests/keys/p256.pub.pem"), "public key"),
            ("", "openssl genpkey"),
        ] {
            let refusal = refusal(pem, PASSPHRASE);
            assert!(refusal.contains(fix), "{refusal}");
        }
    }

    #[test]
    fn too_much_work_is_refused_before_it_starts() {
        assert!(refusal(include_str!("../../tests/keys/p256.dear.encrypted.pem"), PASSPHRASE).contains("10,000,000"));
        let der = pem::private_section(SCRYPT.as_bytes()).unwrap().der().unwrap();
        // N = 16,384, r = 8, p = 1.
        let parameters = b"\x02\x02\x40\x00\x02\x01\x08\x02\x01\x01";
        let at = der.windows(parameters.len()).position(|window| window == parameters).unwrap();
        for (high_byte_of_n, r, p) in [(0x40, 8, 17), (0x7F, 127, 1)] {
            let mut costly = der.to_vec();
            (costly[at + 2], costly[at + 6], costly[at + 9]) = (high_byte_of_n, r, p);
            let refusal = super::decrypt(&costly, PASSPHRASE.as_bytes()).expect_err("too much work").to_string();
            assert!(refusal.contains("256 MiB"), "{refusal}");
        }
    }

    #[test]
    fn damaged_keys_never_panic() {
        let der = pem::private_section(P256.as_bytes()).unwrap().der().unwrap();
        for at in 0..der.len() {
            let _ = super::decrypt(&der[..at], PASSPHRASE.as_bytes());
        }
        for at in 0..110 {
            let mut damaged = der.to_vec();
            damaged[at] ^= 0x55;
            let _ = super::decrypt(&damaged, PASSPHRASE.as_bytes());
        }
    }
}
