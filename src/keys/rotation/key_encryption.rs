//! [`KeyEncryptionKey`]: encrypts private keys at rest and authenticates the rows of a ring, with AES-256-GCM.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use super::gcm::{Cipher, NONCE};
use crate::crypto::{fill_random, sha256};
use crate::keys::KeyError;

/// The number of bytes of a key for AES-256.
const LENGTH: usize = 32;

/// Encrypts the private keys of a ring where they are stored, and authenticates everything else about them (AES-256-GCM). It also
/// encrypts the secrets of clients that authenticate by `client_secret_jwt`; see
/// [`Client::encrypt_secrets`](crate::registration::Client::encrypt_secrets).
///
/// Give every replica the same one, from a place other than the store: a secret manager, or a file. Create it for example with
/// `openssl rand -base64 32`.
///
/// To replace it, start every replica with the old one and [`also`](Self::also) the new one, so that each of them can read what the others
/// write. Only then start them with the new one and `also` the old one: each step of the ring encrypts it with the new one from then on,
/// and so does [`KeyManager::reseal`](super::KeyManager::reseal). Call it, and then remove the old one. A replica that lacks the key that
/// encrypted the ring answers 503 when its lease ends.
///
/// ```
/// use tower_client_credentials::keys::rotation::KeyEncryptionKey;
///
/// # let (new, old) = ((0..32).collect::<Vec<u8>>(), (1..33).collect::<Vec<u8>>());
/// let key = KeyEncryptionKey::from_bytes(&new)?.also(KeyEncryptionKey::from_bytes(&old)?);
/// # Ok::<(), tower_client_credentials::keys::KeyError>(())
/// ```
#[derive(Clone)]
pub struct KeyEncryptionKey(Arc<[Named]>);

#[derive(Clone)]
struct Named {
    name: String,
    cipher: Arc<Cipher>,
}

/// A sealed text: the ciphertext with its nonce, in base64, and the name of the key.
pub(crate) struct Sealed {
    pub(crate) by: String,
    pub(crate) text: String,
}

impl KeyEncryptionKey {
    /// Creates it from 32 random bytes.
    ///
    /// # Errors
    ///
    /// If there are more or fewer bytes, or all are the same.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let bytes = bytes.as_ref();
        let cipher = <&[u8; LENGTH]>::try_from(bytes).ok().and_then(Cipher::new);
        let cipher = cipher.ok_or_else(|| {
            KeyError::malformed(format!(
                "the key-encryption key has {} bytes, and needs {LENGTH} random ones; create it with `openssl rand -base64 32`",
                bytes.len()
            ))
        })?;
        if bytes.iter().all(|byte| Some(byte) == bytes.first()) {
            return Err(KeyError::too_weak(
                "all bytes of the key-encryption key are the same; create it with `openssl rand -base64 32`",
            ));
        }
        // A digest under a label of its own reveals nothing about random bytes.
        let labelled = Zeroizing::new([b"tcc key-encryption key name v1\0", bytes].concat());
        let digest = sha256(&labelled);
        let name = URL_SAFE_NO_PAD.encode(digest.first_chunk::<6>().unwrap_or(&[0; 6]));
        Ok(Self(Arc::new([Named { name, cipher: Arc::new(cipher) }])))
    }

    /// Creates it from 32 bytes in base64, with white space around it ignored.
    ///
    /// # Errors
    ///
    /// If the text is not base64, or as for [`from_bytes`](Self::from_bytes). The message does not contain the text.
    pub fn from_base64(text: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.as_ref().trim_ascii()).map(Zeroizing::new);
        let bytes = bytes.map_err(|_| {
            KeyError::malformed("the key-encryption key is not in base64; create it with `openssl rand -base64 32`")
        })?;
        Self::from_bytes(&*bytes)
    }

    /// Reads it from an environment variable, in base64.
    ///
    /// # Errors
    ///
    /// If the variable is not set, or as for [`from_base64`](Self::from_base64). The message names the variable.
    pub fn from_env(variable: &str) -> Result<Self, KeyError> {
        let text = std::env::var(variable).map(Zeroizing::new);
        let text = text
            .map_err(|_| KeyError::unreadable(format!("{variable} is not set; set it to `openssl rand -base64 32`")))?;
        Self::from_base64(text.as_bytes()).map_err(|error| error.within(variable))
    }

    /// Reads it from a file, in base64. A file that others can read is warned about, as by
    /// [`SigningKey::from_file`](crate::keys::SigningKey::from_file).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or as for [`from_base64`](Self::from_base64). The message names the path.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let text = crate::keys::file::read(path)?;
        Self::from_base64(&*text).map_err(|error| error.in_file(path))
    }

    /// Reads it with a function of your own, for example from a secret manager. It returns 32 bytes.
    ///
    /// # Errors
    ///
    /// If the function fails, or as for [`from_bytes`](Self::from_bytes).
    pub fn from_fn<E: fmt::Display>(read: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Self, KeyError> {
        let bytes = read().map(Zeroizing::new);
        let bytes =
            bytes.map_err(|error| KeyError::unreadable(format!("cannot read the key-encryption key: {error}")))?;
        Self::from_bytes(&*bytes)
    }

    /// Also decrypts what an earlier key-encryption key has encrypted.
    #[must_use]
    pub fn also(self, earlier: Self) -> Self {
        Self(self.0.iter().chain(&*earlier.0).cloned().collect())
    }

    /// Returns the name of the one that encrypts: the start of a digest.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.first().map_or("", |own| &own.name)
    }

    /// Returns whether one of them has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|own| own.name == name)
    }

    /// Returns the names of all.
    pub(crate) fn names(&self) -> String {
        self.0.iter().map(|own| own.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Encrypts `plain`, and authenticates it together with `context`.
    pub(crate) fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Sealed, KeyError> {
        self.seal_as(self.name(), context, plain)
    }

    /// Encrypts with the key of this name.
    pub(super) fn seal_as(&self, name: &str, context: &[u8], plain: &[u8]) -> Result<Sealed, KeyError> {
        let own = self.0.iter().find(|own| own.name == name);
        let own = own.ok_or_else(|| KeyError::mismatch("there is no key-encryption key of this name"))?;
        let mut nonce = [0; NONCE];
        fill_random(&mut nonce).ok_or_else(|| KeyError::backend("the system has no random bytes for a nonce"))?;
        let mut text = Zeroizing::new(Vec::with_capacity(plain.len() + 16));
        text.extend_from_slice(plain);
        own.cipher.seal(nonce, context, &mut text).ok_or_else(|| KeyError::backend("the text cannot be encrypted"))?;
        Ok(Sealed { by: own.name.clone(), text: STANDARD.encode([&nonce[..], &text].concat()) })
    }

    /// Returns the text that was sealed with this context, or `None` if anything was changed.
    pub(crate) fn open(&self, context: &[u8], sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        let own = self.0.iter().find(|own| own.name == sealed.by)?;
        let bytes = STANDARD.decode(&sealed.text).ok()?;
        let (nonce, text) = bytes.split_first_chunk::<NONCE>()?;
        let mut text = Zeroizing::new(text.to_vec());
        own.cipher.open(*nonce, context, &mut text)?;
        Some(text)
    }
}

/// Joins texts so that no other texts give the same bytes: each follows its length.
pub(super) fn unambiguous(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyEncryptionKey").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::{KeyEncryptionKey, Sealed};

    fn key(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_bytes([&[byte; 31][..], &[0]].concat()).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_only_with_its_key_and_its_context_and_unchanged() {
        let sealed = key(1).seal(b"context", b"secret").unwrap();
        assert_eq!(key(1).open(b"context", &sealed).unwrap().as_slice(), b"secret");
        assert!(key(1).open(b"another", &sealed).is_none());
        let by_another = Sealed { by: key(2).name().to_owned(), text: sealed.text.clone() };
        assert!(key(2).open(b"context", &sealed).is_none() && key(2).open(b"context", &by_another).is_none());
        for position in 0..sealed.text.len() {
            let mut changed = sealed.text.clone().into_bytes();
            changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
            let changed = Sealed { by: sealed.by.clone(), text: String::from_utf8(changed).unwrap() };
            assert!(key(1).open(b"context", &changed).is_none(), "{position}");
        }
        let again = key(1).seal(b"context", b"secret").unwrap();
        assert_ne!(again.text, sealed.text, "each has a nonce of its own");
    }

    #[test]
    fn an_earlier_key_opens_but_does_not_seal() {
        let earlier = key(1).seal(b"", b"secret").unwrap();
        let both = key(2).also(key(1));
        assert_eq!(both.open(b"", &earlier).unwrap().as_slice(), b"secret");
        assert_eq!(both.seal(b"", b"secret").unwrap().by, key(2).name());
        assert!(both.has(key(1).name()));
    }

    #[test]
    fn a_bad_key_is_refused_and_no_message_or_debug_output_shows_it() {
        let secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw==";
        for error in [
            KeyEncryptionKey::from_base64(secret).unwrap_err(),
            KeyEncryptionKey::from_base64("not base64!").unwrap_err(),
            KeyEncryptionKey::from_bytes([0; 32]).unwrap_err(),
            KeyEncryptionKey::from_env("TCC_TEST_NO_SUCH_VARIABLE").unwrap_err(),
            KeyEncryptionKey::from_file("/no/such/file").unwrap_err(),
            KeyEncryptionKey::from_fn(|| Err::<Vec<u8>, _>("the vault is sealed")).unwrap_err(),
        ] {
            assert!(!error.to_string().contains("secret-secret") && !error.to_string().contains(secret), "{error}");
        }
        let good = super::STANDARD.encode((0..32).collect::<Vec<u8>>());
        let key = KeyEncryptionKey::from_base64(format!(" {good}\n")).unwrap();
        assert!(!format!("{key:?}").contains(&good));
    }
}
