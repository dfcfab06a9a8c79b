//! Saves keys: [`SigningKey`] → PKCS#8 in PEM, and a file that is created once.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{Algorithm, KeyError, KeyRing, SigningKey, file, pem};

/// A private key as PEM text, from [`SigningKey::to_pkcs8_pem`]. It is wiped on drop, and its `Debug` does not show it.
pub struct PrivateKeyPem(Zeroizing<String>);

impl PrivateKeyPem {
    /// Returns the text. Anyone with it can sign tokens.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(…)")
    }
}

impl SigningKey {
    /// Returns the private key as unencrypted PKCS#8 in PEM (`PRIVATE KEY`, RFC 5958 and RFC 7468 §10): for a secret manager,
    /// or for a file that [`from_file`](Self::from_file) reads. It does not contain the algorithm of an RSA key.
    ///
    /// To keep a key in a file, [`load_or_create`](Self::load_or_create) is safer than writing this text.
    ///
    /// # Errors
    ///
    /// If the key is a secret for HS256, which has no such form.
    ///
    /// ```
    /// use tower_client_credentials::{Algorithm, SigningKey};
    ///
    /// let key = SigningKey::generate(Algorithm::ES256)?;
    /// let again = SigningKey::from_pem(key.to_pkcs8_pem()?.expose())?;
    /// assert_eq!(again.key_id(), key.key_id());
    /// # Ok::<(), tower_client_credentials::keys::KeyError>(())
    /// ```
    pub fn to_pkcs8_pem(&self) -> Result<PrivateKeyPem, KeyError> {
        Ok(PrivateKeyPem(pem::private(&self.to_pkcs8()?)))
    }

    /// Loads the private key in a file, as [`from_file`](Self::from_file) does, or creates the file with a new key.
    ///
    /// - A new file is readable only by its owner (mode 0600 on Unix). It is complete and synced to disk before it gets its
    ///   name. If several processes or threads start at once, one creates it, and all return its key. A process that is killed
    ///   while it writes leaves at most a file named like it with `.….tmp` added, which is never read.
    /// - An existing file is never changed. If its mode lets its group or others read or write it, or another user owns it, a
    ///   warning is logged, as by [`from_file`](Self::from_file).
    /// - An existing key must support `algorithm`, which it then signs with; otherwise it is refused.
    ///
    /// Without a shared folder, each replica would create a key of its own: use a key from elsewhere. The call waits for the
    /// disk, so use it at the start, or off the async threads.
    ///
    /// # Errors
    ///
    /// If an existing file cannot be read or contains no private key for `algorithm`, or if the file cannot be created: its
    /// folder must exist, be writable, and be on a file system with hard links. The message names the path. An RSA key is
    /// loaded but not [generated](Self::generate).
    pub fn load_or_create(path: impl AsRef<Path>, algorithm: Algorithm) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let key = load_or_create(path, algorithm)?;
        key.with_algorithm(algorithm).map_err(|error| error.in_file(path))
    }
}

impl KeyRing {
    /// Creates a ring with the private key in a file, which is created with a new ES256 key if it does not exist. An existing
    /// file may contain a key of any type. See [`SigningKey::load_or_create`] for the guarantees.
    ///
    /// # Errors
    ///
    /// If the file can be neither loaded nor created. The message names the path.
    ///
    /// ```
    /// use tower_client_credentials::KeyRing;
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("signing.pem");
    /// let keys = KeyRing::load_or_create(&path)?;
    /// let after_a_restart = KeyRing::load_or_create(&path)?;
    /// assert!(keys.key_ids().eq(after_a_restart.key_ids()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyError> {
        load_or_create(path.as_ref(), Algorithm::ES256).map(Self::new)
    }
}

/// Loads an existing key with its saved algorithm. `generated` is the algorithm of a new key.
pub(super) fn load_or_create(path: &Path, generated: Algorithm) -> Result<SigningKey, KeyError> {
    if let Some(content) = file::read_existing(path)? {
        return load(path, &content);
    }
    let new = SigningKey::generate(generated).map_err(|error| error.in_file(path))?;
    if file::create(path, new.to_pkcs8_pem()?.expose().as_bytes())? {
        tracing::info!(path = %path.display(), key_id = new.key_id(), algorithm = %generated, "created a signing key");
    }
    // Also read by the process that created it: a restart will find the same key.
    load(path, &file::read(path)?)
}

fn load(path: &Path, content: &[u8]) -> Result<SigningKey, KeyError> {
    SigningKey::from_content(content).map_err(|error| {
        error.with_advice("; the file exists and is not replaced; delete it to create a new key").in_file(path)
    })
}
