//! Private keys under a passphrase (RFC 8018, PBES2): `EncryptedPrivateKeyInfo` and passphrase → DER.

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::{Kdf, Pbkdf2Params, ScryptParams};
use zeroize::Zeroizing;

use super::KeyError;

/// About 5 s of work; OpenSSL asks for 2,048, and OWASP for 600,000.
const PBKDF2_ITERATIONS: u32 = 10_000_000;
/// OpenSSL asks for 16 MiB.
const SCRYPT_BYTES: u64 = 256 * 1024 * 1024;
const SCRYPT_PARALLELIZATION: u16 = 16;

pub(super) fn decrypt(der: &[u8], passphrase: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| unsupported())?;
    let scheme = &encrypted.encryption_algorithm;
    let kdf = &scheme.pbes2().ok_or_else(unsupported)?.kdf;
    if !is_affordable(kdf) {
        return Err(KeyError::new(
            "the private key asks for more work on its passphrase than is done here (10,000,000 rounds of PBKDF2, or \
             256 MiB of scrypt): encrypt it anew with `openssl pkcs8 -topk8 -in KEY -out NEW_KEY`",
        ));
    }
    let mut buffer = Zeroizing::new(encrypted.encrypted_data.as_bytes().to_vec());
    let length = scheme.decrypt_in_place(passphrase, &mut buffer).map(<[u8]>::len).map_err(refuse)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Whoever can make us read a key must not be able to make us work, or allocate, without end.
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
    KeyError::new("the private key does not open: the passphrase is another (is there a line break behind it?)")
}

fn unsupported() -> KeyError {
    KeyError::new(
        "the private key is encrypted in a way that is not read here: encrypt it anew, as PBES2 with AES and SHA-256, \
         with `openssl pkcs8 -topk8 -v2 aes256 -v2prf hmacWithSHA256 -in KEY -out NEW_KEY`",
    )
}
