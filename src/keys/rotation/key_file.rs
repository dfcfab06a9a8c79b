//! [`KeyFile`]: the keys of a single process in a file or a folder, which can change while the process runs.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use super::KeyRingError;
use super::document::PrivateKeys;
use super::key_folder::{self, Found};
use super::lifecycle::{KeyState, RingState, Step, Waits};
use super::settings::waits;
use super::status::RingStatus;
use crate::clock::{Clock, SystemClock, unix_millis};
use crate::event::{EventSender, Outcome};
use crate::keys::{
    Algorithm, KeyError, KeyRing, KeySnapshot, NoSigningKey, SharedKeys, SigningKey, VerifyingKey, saved,
};
use crate::metrics;
use crate::sync::lock;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// The key ring of a single process, whose key is in a file. To rotate, replace the file and [reload](Self::reload) it: the new
/// key is published at once and signs as soon as every cache can have it, and the old key stays published as long as its tokens
/// may be valid. Clones share it.
///
/// The process remembers the old key. After a restart, only the key in the file is known: tokens of the old key are refused, and
/// the new key signs at once. To keep old keys over restarts, use a folder; to rotate by a schedule, use a
/// [`KeyManager`](super::KeyManager) with a `FileKeyStore` (feature `file`).
///
/// # A folder
///
/// If the path is that of a folder, each file in it whose name ends in `.pem` contains a key, except for hidden ones. An empty
/// folder gets a key in `signing.pem`. To rotate, put one more file there: its key takes the same steps. Remove the file of a
/// key only when the key is gone from the key set: after a restart, its tokens would be refused. If a file is malformed, for example half
/// written, nothing changes. [`watch`](Self::watch) reads the folder again and again.
///
/// After a restart, all keys in the folder are trusted, and no others. The file that was written last signs, unless it was written or came
/// into the folder so recently that a cache may lack its key. If all files came there recently (a mounted Secret, a copy of the folder,
/// `chown -R`), only the times at which they were written count. So the files must keep their times, in the order of the keys, and the
/// running process must have loaded a new file before a restart. Otherwise use a [`KeyManager`](super::KeyManager), which stores what
/// was published.
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
pub struct KeyFile {
    ring: KeyRing,
    inner: Arc<Inner>,
}

struct Inner {
    settings: KeyFileBuilder,
    state: Mutex<Loaded>,
}

pub(super) struct Loaded {
    pub(super) state: RingState,
    pub(super) private: PrivateKeys,
    /// The names of the keys of a folder that this process has seen.
    pub(super) seen: HashSet<String>,
    /// The last reason why the file or folder was refused, so that it is reported once.
    refused: Option<String>,
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
    events: Option<EventSender>,
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

    /// Sends an [event](crate::event) to this sender when the file or folder cannot be read. None by default.
    pub fn events(mut self, events: EventSender) -> Self {
        self.events = Some(events);
        self
    }

    /// Loads the key, or creates the file with a new one; see [`SigningKey::load_or_create`] for the guarantees.
    ///
    /// # Errors
    ///
    /// If the file can be neither loaded nor created.
    pub fn open(self) -> Result<KeyFile, KeyError> {
        let mut loaded = Loaded {
            state: RingState::new(self.algorithm.unwrap_or(Algorithm::ES256), self.waits()),
            private: PrivateKeys::new(),
            seen: HashSet::new(),
            refused: None,
        };
        let now = unix_millis(self.clock.now());
        if self.path.is_dir() {
            loaded.start_with_all(self.folder()?, now);
        } else {
            loaded.start_with(self.create(&self.path)?, now);
        }
        let ring = KeyRing::limited(loaded.snapshot(&self), Some(self.longest_token));
        Ok(KeyFile { ring, inner: Arc::new(Inner { settings: self, state: Mutex::new(loaded) }) })
    }

    /// Reads the keys in the folder. If it has no key, creates one.
    fn folder(&self) -> Result<Vec<Found>, KeyError> {
        let found = key_folder::read(&self.path, self.algorithm)?;
        if !found.is_empty() {
            return Ok(found);
        }
        self.create(&self.path.join("signing.pem"))?;
        key_folder::read(&self.path, self.algorithm)
    }

    fn create(&self, path: &Path) -> Result<SigningKey, KeyError> {
        match self.algorithm {
            Some(algorithm) => SigningKey::load_or_create(path, algorithm),
            None => saved::load_or_create(path, Algorithm::ES256),
        }
    }

    fn waits(&self) -> Waits {
        waits(self.max_age, self.longest_token, self.leeway, self.margin)
    }
}

impl KeyFile {
    /// Returns the settings of a key in this file, or of the keys in this folder.
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
            events: None,
        }
    }

    /// Returns the ring, for an [`AuthorizationServer`](crate::authorization_server::AuthorizationServer).
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.ring.clone()
    }

    /// Reads the file or folder, takes the steps that are due, and returns the keys. Call it when a file was replaced or added,
    /// and then once in a while, for example every minute: a new key signs at the first call after it may.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or contains a key that signed before and retires. The ring then does not change. The first
    /// error of each kind is also logged, and an event.
    pub fn reload(&self) -> Result<RingStatus, KeyRingError> {
        self.inner.reload(&self.ring)
    }

    /// Calls [`reload`](Self::reload) every `interval` in the background, until the last clone of the ring is dropped or the task is
    /// aborted. Errors are logged, and sent as [events](KeyFileBuilder::events).
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    #[expect(clippy::must_use_candidate, reason = "the task continues without its handle")]
    pub fn watch(&self, interval: Duration) -> JoinHandle<()> {
        let (inner, ring) = (self.inner.clone(), self.ring.downgrade());
        tokio::spawn(async move {
            loop {
                sleep(interval.max(SHORTEST_INTERVAL)).await;
                let Some(ring) = ring.upgrade() else { return };
                let inner = inner.clone();
                // The result was logged. A panic of the reload would be a mistake of ours; the keys stay as they are.
                let _ = spawn_blocking(move || inner.reload(&ring)).await;
            }
        })
    }
}

/// The shortest time between two looks, so that an interval of 0 does not use a core.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

impl Inner {
    fn reload(&self, ring: &KeyRing) -> Result<RingStatus, KeyRingError> {
        let mut loaded = lock(&self.state);
        match self.take(&mut loaded) {
            Ok(steps) => {
                loaded.refused = None;
                if !steps.is_empty() {
                    ring.replace(loaded.snapshot(&self.settings));
                }
                for Step { key_id, state } in &steps {
                    let step = state.map_or("removed", KeyState::name);
                    tracing::info!(path = %self.settings.path.display(), key_id, step, "a key took a step");
                    metrics::key_step(step);
                }
                Ok(RingStatus::of(&loaded.state, None, Vec::new(), Vec::new()))
            }
            Err(error) => {
                self.report(&mut loaded, error.to_string());
                Err(error.into())
            }
        }
    }

    fn take(&self, loaded: &mut Loaded) -> Result<Vec<Step>, KeyError> {
        let (settings, now) = (&self.settings, unix_millis(self.settings.clock.now()));
        if settings.path.is_dir() {
            loaded.take_all(key_folder::read(&settings.path, settings.algorithm)?, now)
        } else {
            loaded.take(key_folder::read_key(&settings.path, settings.algorithm)?, now)
        }
    }

    fn report(&self, loaded: &mut Loaded, reason: String) {
        if loaded.refused.as_ref() == Some(&reason) {
            return;
        }
        tracing::error!(reason, "cannot read the keys again; they do not change");
        if let Some(events) = &self.settings.events {
            events.report(self.settings.clock.now(), Outcome::KeyRingRefused { reason: reason.clone() });
        }
        loaded.refused = Some(reason);
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
    fn take(&mut self, key: SigningKey, now: u64) -> Result<Vec<Step>, KeyError> {
        let key_id = key.key_id().to_owned();
        let state = self.state.entry(&key_id).map(|entry| entry.state);
        if matches!(state, Some(KeyState::Retired | KeyState::Distrusted)) {
            return Err(KeyError::mismatch(format!(
                "the key `{key_id}` in the file signed before and retires; put a new key there"
            )));
        }
        // A key that was published and never signed is no longer wanted.
        let mut steps = self.state.remove_unsigned(|other| other != key_id);
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
    pub(super) fn saved(&mut self, now: u64) {
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
            distrusted: Vec::new(),
            max_age: settings.max_age,
            lease: None,
        })
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFile")
            .field("path", &self.inner.settings.path)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}
