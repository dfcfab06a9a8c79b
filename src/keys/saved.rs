//! Keys that outlive the process: [`SigningKey`] → PKCS#8 in PEM, and a file that is created once.

use std::fmt;
use std::path::Path;

use zeroize::Zeroizing;

use super::{Algorithm, KeyError, KeyRing, SigningKey, file, pem};

/// A private key as PEM text, from [`SigningKey::to_pkcs8_pem`]. It is wiped when it is dropped, and its `Debug` does not
/// show it.
pub struct PrivateKeyPem(Zeroizing<String>);

impl PrivateKeyPem {
    /// Returns the text, which is all that it takes to sign tokens.
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
    /// Returns the private key as PKCS#8 in PEM (`PRIVATE KEY`, RFC 5958 and RFC 7468 §10), unencrypted: for a secret
    /// manager, or a file that [`from_file`](Self::from_file) reads. The algorithm of an RSA key is not in it.
    ///
    /// To keep a key in a file, [`load_or_create`](Self::load_or_create) is safer than writing this text.
    ///
    /// # Errors
    ///
    /// For a secret of HS256, which has no such form.
    ///
    /// ```
    /// use tower_client_credentials::{Algorithm, SigningKey};
    ///
    /// let key = SigningKey::generate(Algorithm::ES256)?;
    /// let again = SigningKey::from_pem(key.to_pkcs8_pem()?.expose())?;
    /// assert_eq!(again.key_id(), key.key_id());
    /// # Ok::<(), tower_client_credentials::KeyError>(())
    /// ```
    pub fn to_pkcs8_pem(&self) -> Result<PrivateKeyPem, KeyError> {
        Ok(PrivateKeyPem(pem::private(&self.to_pkcs8()?)))
    }

    /// Loads the private key in a file, as [`from_file`](Self::from_file) does, or creates the file with a new key.
    ///
    /// - A new file can be read by its owner alone (mode 0600 on Unix), and is complete and on the disk before it gets its
    ///   name. Of several processes and threads that start at once, one creates it, and all return its key. A process that
    ///   is killed while it writes leaves at most a file of the same name and `.….tmp` behind, which nothing reads.
    /// - An existing file is never changed, whatever is in it. When its mode lets its group or others read or write it, or
    ///   another user owns it, there is a warning event as with [`from_file`](Self::from_file).
    /// - A key that exists signs with `algorithm`, too, or is refused.
    ///
    /// Replicas need a folder that they share, or a key from elsewhere: each would create a key of its own. It waits for
    /// the disk; call it at the start, or off the async threads.
    ///
    /// # Errors
    ///
    /// When an existing file cannot be read or holds no private key for `algorithm`; when the file cannot be created: its
    /// folder must exist, be writable, and be on a file system with hard links. The message names the path. A key for
    /// RSA is loaded but not [generated](Self::generate).
    pub fn load_or_create(path: impl AsRef<Path>, algorithm: Algorithm) -> Result<Self, KeyError> {
        let path = path.as_ref();
        let key = load_or_create(path, algorithm)?;
        key.with_algorithm(algorithm).map_err(|error| error.in_file(path))
    }
}

impl KeyRing {
    /// A ring with the private key in a file, which is created with a new ES256 key if it does not exist; an existing file may
    /// hold a key of any type. See [`SigningKey::load_or_create`] for the guarantees.
    ///
    /// # Errors
    ///
    /// When the file can be neither loaded nor created; the message names the path.
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

/// A key that exists is returned as it was saved; `generated` is the algorithm of a new one.
fn load_or_create(path: &Path, generated: Algorithm) -> Result<SigningKey, KeyError> {
    if let Some(content) = file::read_existing(path)? {
        return load(path, &content);
    }
    let new = SigningKey::generate(generated).map_err(|error| error.in_file(path))?;
    if file::create(path, new.to_pkcs8_pem()?.expose().as_bytes())? {
        tracing::info!(path = %path.display(), key_id = new.key_id(), algorithm = %generated, "created a signing key");
    }
    // The winner reads it as well: it uses the key that a restart will find.
    load(path, &file::read(path)?)
}

fn load(path: &Path, content: &[u8]) -> Result<SigningKey, KeyError> {
    SigningKey::from_content(content).map_err(|error| {
        KeyError::new(format!("{error}; the file exists and is not replaced: delete it to have a new key created"))
            .in_file(path)
    })
}
