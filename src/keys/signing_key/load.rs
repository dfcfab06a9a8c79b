//! Loads a [`SigningKey`] from PEM, DER, a JWK or a file.

use std::path::Path;

use zeroize::Zeroizing;

use super::SigningKey;
use crate::keys::backend::KeyPair;
use crate::keys::parsed_jwk::{ParsedJwk, Purpose};
use crate::keys::pkcs8::Pkcs8;
use crate::keys::structure::Structure;
use crate::keys::{KeyError, file, key_error, pem};

impl SigningKey {
    /// Loads the only private key of a PEM text (RFC 7468), unencrypted: PKCS#8 (`PRIVATE KEY`), SEC1 (`EC PRIVATE KEY`) or
    /// PKCS#1 (`RSA PRIVATE KEY`). Certificates, parameters and public keys are ignored.
    ///
    /// # Errors
    ///
    /// If the text contains no private key or several, an encrypted one, or one that cannot sign. The message says how to
    /// create or convert one.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let section = pem::private_section(pem.as_ref())?;
        if section.has_headers() {
            return Err(key_error::encrypted_by_old_tools());
        }
        Self::from_structure(section.structure, section.der()?)
    }

    /// Loads the only private key of a PEM text, encrypted with `passphrase`: `ENCRYPTED PRIVATE KEY`, as PBES2 (RFC 8018 §6.2)
    /// with AES and PBKDF2 over SHA-2, or scrypt, as OpenSSL 1.1 and later write it.
    ///
    /// The key sets how much work this takes, up to some seconds: at most 10,000,000 rounds of PBKDF2, or 256 MiB of scrypt.
    /// Call it at the start, and off the async threads.
    ///
    /// # Errors
    ///
    /// If the passphrase is wrong, the key is unencrypted, its encryption is unsupported, or it requires more work; and as for
    /// [`SigningKey::from_pem`].
    #[cfg(feature = "encrypted_pem")]
    #[cfg_attr(docsrs, doc(cfg(feature = "encrypted_pem")))]
    pub fn from_encrypted_pem(pem: impl AsRef<[u8]>, passphrase: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        use crate::keys::encrypted_pem;

        let section = pem::private_section(pem.as_ref())?;
        if section.has_headers() {
            return Err(key_error::encrypted_by_old_tools());
        }
        if section.structure != Structure::Encrypted {
            return Err(KeyError::mismatch("the private key is not encrypted: load it with `SigningKey::from_pem`"));
        }
        let der = encrypted_pem::decrypt(&section.der()?, passphrase.as_ref())?;
        match Structure::detect(&der) {
            // One in 256 wrong passphrases decrypts to something.
            Structure::Pkcs8 => Self::from_structure(Structure::Pkcs8, der),
            _ => Err(encrypted_pem::wrong_passphrase()),
        }
    }

    /// Loads an unencrypted private key in DER: PKCS#8, SEC1 or PKCS#1, which is detected.
    ///
    /// # Errors
    ///
    /// If it has another format, is encrypted, or cannot sign.
    pub fn from_der(der: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let der = Zeroizing::new(der.as_ref().to_vec());
        Self::from_structure(Structure::detect(&der), der)
    }

    /// Loads a private JWK (RFC 7517) from JSON: `EC` with P-256 or P-384 (RFC 7518 §6.2), `RSA` with its primes (§6.3), or
    /// `OKP`
    /// with Ed25519 (RFC 8037 §2).
    ///
    /// The algorithm is that of its `alg`. Its `kid` is not kept: the id of a key is always its [thumbprint](Self::key_id).
    ///
    /// # Errors
    ///
    /// If it is malformed, its halves are of different keys, `use` or `key_ops` is for another purpose, `alg` does not fit its
    /// type, or it cannot sign. Shared secrets (`oct`) are refused.
    pub fn from_jwk(json: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let jwk = ParsedJwk::new(json.as_ref(), Purpose::Sign)?;
        let pair = KeyPair::from_pkcs8(&jwk.to_pkcs8()?)?;
        if pair.public_numbers() != jwk.public_numbers()? {
            return Err(KeyError::mismatch(
                "the JWK's private half (`d`) does not belong to its public half: export the key again",
            ));
        }
        Self::from_pair(pair, jwk.algorithm)
    }

    /// Loads the private key in a file of up to 64 KiB: PEM, JWK or DER, which is detected by its content.
    ///
    /// If the file's mode lets its group or others read or write it, a warning event (`tracing`, Unix only) names the path
    /// and the mode. The key is loaded anyway, since some systems mount secrets this way. On Linux, another warning names
    /// the owner of the file if it is neither root nor the user of this process.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not a regular file (for example a named pipe), and as for [`SigningKey::from_pem`],
    /// [`SigningKey::from_jwk`] and [`SigningKey::from_der`]. The message names the path.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let bytes = file::read(path)?;
        Self::from_content(&bytes).map_err(|error| error.in_file(path))
    }

    pub(crate) fn from_content(bytes: &[u8]) -> Result<Self, KeyError> {
        match bytes.trim_ascii_start() {
            [b'{', ..] => Self::from_jwk(bytes),
            _ if Structure::detect(bytes) != Structure::Other => Self::from_der(bytes),
            _ => Self::from_pem(bytes),
        }
    }

    fn from_structure(structure: Structure, der: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let key = Pkcs8::from_der(structure, der)?;
        Self::from_pair(KeyPair::from_pkcs8(&key)?, key.key_type.default_algorithm())
    }
}
