//! [`KeyFile`]: the key of a single process in a file, which can be replaced while the process runs.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::KeyRingError;
use super::document::PrivateKeys;
use super::lifecycle::{KeyState, RingState, Step, Waits};
use super::settings::waits;
use super::status::{RingStatus, millis_of};
use crate::clock::{Clock, SystemClock};
use crate::keys::{
    Algorithm, KeyError, KeyRing, KeySnapshot, NoSigningKey, SharedKeys, SigningKey, VerifyingKey, file, saved,
};
use crate::metrics;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// The key ring of a single process, whose key is in a file. To rotate, replace the file and [reload](Self::reload) it: the new
/// key is published at once and signs as soon as every cache can have it, and the old key stays published as long as its tokens
/// may be valid. Clones share it.
///
/// The process remembers the old key. After a restart, only the key in the file is known: tokens of the old key are refused, and
/// the new key signs at once. To keep old keys over restarts, or to rotate by a schedule, use a
/// [`KeyManager`](super::KeyManager) with a `FileKeyStore` (feature `file`).
///
/// ```
/// use tower_client_credentials::keys::rotation::KeyFile;
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("signing.pem");
/// let file = KeyFile::builder(&path).open()?;
/// let keys = file.ring();
/// // On SIGHUP, and once in a while:
/// let status = file.reload()?;
/// assert_eq!(status.keys.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KeyFile(Arc<Inner>);

struct Inner {
    settings: KeyFileBuilder,
    ring: KeyRing,
    state: Mutex<Loaded>,
}

struct Loaded {
    state: RingState,
    private: PrivateKeys,
}

/// Builds a [`KeyFile`]. Each setting has a safe default.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `open` is called"]
pub struct KeyFileBuilder {
    path: PathBuf,
    algorithm: Option<Algorithm>,
    trusted: Vec<VerifyingKey>,
    max_age: Duration,
    longest_token: Duration,
    leeway: Duration,
    margin: Duration,
    clock: Arc<dyn Clock>,
}

impl KeyFileBuilder {
    /// Sets the algorithm of the key. By default a new file gets an ES256 key, and an existing key signs with its own algorithm.
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = Some(algorithm);
        self
    }

    /// Also trusts and publishes a key that is elsewhere. None by default.
    pub fn also_trust(mut self, key: VerifyingKey) -> Self {
        self.trusted.push(key);
        self
    }

    /// Sets how long caches may keep the key set. The default is 5 minutes; see
    /// [`KeyManagerBuilder::max_age`](super::KeyManagerBuilder::max_age).
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    /// Sets the longest lifetime of a token. The default is 24 hours; see
    /// [`KeyManagerBuilder::longest_token`](super::KeyManagerBuilder::longest_token).
    pub fn longest_token(mut self, lifetime: Duration) -> Self {
        self.longest_token = lifetime;
        self
    }

    /// Sets the greatest leeway of the verifiers, local and remote ones. The default is 5 seconds.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// Sets how much longer than necessary each step waits. The default is 60 seconds.
    pub fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// Sets the source of the time. The default is the operating system's clock.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Loads the key, or creates the file with a new one; see [`SigningKey::load_or_create`] for the guarantees.
    ///
    /// # Errors
    ///
    /// If the file can be neither loaded nor created.
    pub fn open(self) -> Result<KeyFile, KeyError> {
        let key = match self.algorithm {
            Some(algorithm) => SigningKey::load_or_create(&self.path, algorithm)?,
            None => saved::load_or_create(&self.path, Algorithm::ES256)?,
        };
        let mut loaded = Loaded { state: RingState::new(key.algorithm(), self.waits()), private: PrivateKeys::new() };
        loaded.start_with(key, millis_of(self.clock.now()));
        let ring = KeyRing::limited(loaded.snapshot(&self), Some(self.longest_token));
        Ok(KeyFile(Arc::new(Inner { settings: self, ring, state: Mutex::new(loaded) })))
    }

    fn waits(&self) -> Waits {
        waits(self.max_age, self.longest_token, self.leeway, self.margin)
    }

    /// Reads the key, which must exist.
    fn read(&self) -> Result<SigningKey, KeyError> {
        let key = file::read(&self.path).and_then(|bytes| SigningKey::from_content(&bytes));
        let key = key.and_then(|key| match self.algorithm {
            Some(algorithm) => key.with_algorithm(algorithm),
            None => Ok(key),
        });
        key.map_err(|error| KeyError::new(format!("{}: {error}", self.path.display())))
    }
}

impl KeyFile {
    /// Returns the settings of a key in this file.
    pub fn builder(path: impl AsRef<Path>) -> KeyFileBuilder {
        KeyFileBuilder {
            path: path.as_ref().to_owned(),
            algorithm: None,
            trusted: Vec::new(),
            max_age: Duration::from_secs(300),
            longest_token: DEFAULT_LONGEST_TOKEN_LIFETIME,
            leeway: Duration::from_secs(5),
            margin: Duration::from_secs(60),
            clock: Arc::new(SystemClock),
        }
    }

    /// Returns the ring, for an [`AuthorizationServer`](crate::authorization_server::AuthorizationServer).
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.0.ring.clone()
    }

    /// Reads the file, takes the steps that are due, and returns the keys. Call it when the file was replaced, and then once in
    /// a while, for example every minute: a new key signs at the first call after it may.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or contains a key that signed before and retires. The ring then does not change.
    pub fn reload(&self) -> Result<RingStatus, KeyRingError> {
        let settings = &self.0.settings;
        let key = settings.read()?;
        let mut loaded = self.lock();
        let steps = loaded.take(key, millis_of(settings.clock.now()))?;
        if !steps.is_empty() {
            self.0.ring.replace(loaded.snapshot(settings));
        }
        for Step { key_id, state } in &steps {
            let step = state.map_or("removed", KeyState::name);
            tracing::info!(path = %settings.path.display(), key_id, step, "a key took a step");
            metrics::key_step(step);
        }
        Ok(RingStatus::of(&loaded.state, None, Vec::new(), Vec::new()))
    }

    fn lock(&self) -> MutexGuard<'_, Loaded> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    /// Begins with a key that signs at once: no token is signed yet, and no one has the key set.
    fn start_with(&mut self, key: SigningKey, now: u64) {
        let mut public = Some(key.verifying_key());
        self.private.insert(key.key_id().to_owned(), Arc::new(key));
        let mut given = |_| public.take().ok_or(());
        // The first key signs. There is no next key to publish, so that step fails.
        let _ = self.state.advance(now, None, &mut given);
        self.saved(now);
    }

    /// Takes the steps that are due with this key in the file.
    fn take(&mut self, key: SigningKey, now: u64) -> Result<Vec<Step>, KeyRingError> {
        let key_id = key.key_id().to_owned();
        let state = self.state.entry(&key_id).map(|entry| entry.state);
        if matches!(state, Some(KeyState::Retired | KeyState::Distrusted)) {
            return Err(KeyRingError::Key(KeyError::new(format!(
                "the key `{key_id}` in the file signed before and retires; put a new key there"
            ))));
        }
        // A key that was published and never signed is no longer wanted.
        let mut steps = self.state.remove_unsigned_but(&key_id);
        if state.is_none() {
            // A ring in a file remembers no distrusted key, so this is never refused.
            steps.extend(self.state.publish(key.verifying_key(), now).unwrap_or_default());
            self.private.insert(key_id.clone(), Arc::new(key));
        } else if state == Some(KeyState::Published)
            && let Ok(signs) = self.state.rotate_now(now)
        {
            steps.extend(signs);
        }
        steps.extend(self.state.remove_old(now));
        self.saved(now);
        Ok(steps)
    }

    /// This process is the only one, so it has every change at once.
    fn saved(&mut self, now: u64) {
        self.state.version = self.state.version.saturating_add(1);
        self.state.observe(now, self.state.version);
        let state = &self.state;
        let may_sign = |key_id: &str| {
            state.entry(key_id).is_some_and(|entry| matches!(entry.state, KeyState::Published | KeyState::Signing))
        };
        self.private.retain(|key_id, _| may_sign(key_id));
    }

    fn snapshot(&self, settings: &KeyFileBuilder) -> KeySnapshot {
        let signing = self.state.signing().and_then(|entry| self.private.get(entry.key_id()));
        let trusted = self.state.keys.iter().map(|entry| entry.public.clone()).chain(settings.trusted.iter().cloned());
        KeySnapshot::shared(SharedKeys {
            signing: signing.cloned().ok_or(NoSigningKey("there is no key that signs".into())),
            trusted: trusted.collect(),
            next_algorithms: self.state.next().map(|next| next.public.algorithm()).into_iter().collect(),
            max_age: settings.max_age,
            lease: None,
        })
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.0.settings.path)
            .field("ring", &self.0.ring)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Algorithm, KeyFile, KeyState, SigningKey};
    use crate::clock::ManualClock;

    const SECOND: Duration = Duration::from_secs(1);

    fn put(path: &Path) -> String {
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        std::fs::write(path, key.to_pkcs8_pem().unwrap().expose()).unwrap();
        key.key_id().to_owned()
    }

    #[test]
    fn a_replaced_file_is_published_then_signs_and_the_old_key_goes_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.pem");
        let clock = ManualClock::at(UNIX_EPOCH + 1_000_000 * SECOND);
        let file = KeyFile::builder(&path).clock(clock.clone()).longest_token(3_600 * SECOND).open().unwrap();
        let ring = file.ring();
        let first = ring.signing_key().key_id().to_owned();
        assert_eq!(file.reload().unwrap().keys.len(), 1);
        let second = put(&path);
        let status = file.reload().unwrap();
        assert_eq!(ring.signing_key().key_id(), first, "caches do not have the new key yet");
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str(), &second]);
        assert_eq!(status.keys[1].may_step_at, Some(UNIX_EPOCH + (1_000_000 + 360) * SECOND));
        for (passed, signs) in [(359, &first), (1, &second)] {
            clock.advance(passed * SECOND);
            file.reload().unwrap();
            assert_eq!(ring.signing_key().key_id(), signs);
        }
        for (passed, keys) in [(3_600 + 5 + 13 + 59, 2_usize), (1, 1)] {
            clock.advance(passed * SECOND);
            file.reload().unwrap();
            assert_eq!(ring.key_ids().count(), keys);
        }
        assert_eq!(ring.longest_token(), Some(3_600 * SECOND));
    }

    #[test]
    fn a_file_that_changes_twice_or_back_or_is_broken_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing.pem");
        let clock = ManualClock::at(UNIX_EPOCH + 1_000_000 * SECOND);
        let file = KeyFile::builder(&path).clock(clock.clone()).open().unwrap();
        let original = std::fs::read(&path).unwrap();
        let first = file.ring().signing_key().key_id().to_owned();
        put(&path);
        file.reload().unwrap();
        let third = put(&path);
        file.reload().unwrap();
        assert_eq!(file.ring().key_ids().collect::<Vec<_>>(), [first.as_str(), &third], "the second one never signed");
        std::fs::write(&path, &original).unwrap();
        file.reload().unwrap();
        assert_eq!(file.ring().key_ids().collect::<Vec<_>>(), [first.as_str()]);
        std::fs::write(&path, "no key").unwrap();
        assert!(file.reload().unwrap_err().to_string().contains("signing.pem"));
        assert_eq!(file.ring().signing_key().key_id(), first);

        let second = put(&path);
        file.reload().unwrap();
        clock.advance(360 * SECOND);
        let status = file.reload().unwrap();
        assert_eq!(status.keys.iter().map(|key| key.state).collect::<Vec<_>>(), [KeyState::Retired, KeyState::Signing]);
        std::fs::write(&path, &original).unwrap();
        assert!(file.reload().unwrap_err().to_string().contains("signed before"));
        assert_eq!(file.ring().signing_key().key_id(), second);
    }
}
