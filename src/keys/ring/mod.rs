//! [`KeyRing`]: the keys of an authorization server, which can change while it runs.

mod lease;
mod remembered;
mod snapshot;
mod trust;

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, Guard};

pub(crate) use self::lease::Lease;
use self::remembered::Remembered;
pub(crate) use self::remembered::SigningKeyAt;
pub(crate) use self::snapshot::{KeySnapshot, NoSigningKey, SharedKeys};
pub(crate) use self::trust::{Trust, TrustLevel};
use super::{Algorithm, KeyError, SigningKey, VerifyingKey};
use crate::sync::lock;

/// The keys of an [`AuthorizationServer`](crate::AuthorizationServer). Clones share them.
///
/// The keys of a ring from a [`KeyManager`](super::rotation::KeyManager) or a [`KeyFile`](super::rotation::KeyFile) can change while
/// servers and verifiers use it. Each of them reads one consistent snapshot per step: the key
/// set, the metadata, the verifiers of the server and their caches follow every change at once.
///
/// See the [module page](super) for the rules and an example.
#[derive(Clone)]
pub struct KeyRing(Keys);

#[derive(Clone)]
enum Keys {
    /// They never change, so that reading them costs nothing.
    Fixed(Arc<KeySnapshot>),
    Changing(Arc<Shared>),
}

struct Shared {
    /// A number that no other ring of the process has.
    id: u64,
    /// Grows after each replacement of the keys. It follows the number above in memory, since both are read for each token.
    version: AtomicU64,
    current: ArcSwap<KeySnapshot>,
    /// The longest lifetime of a token that its keys may sign, if the ring limits it.
    longest_token: Option<Duration>,
    /// What keeps the ring up to date, for as long as the ring is used.
    keeper: OnceLock<Box<dyn Any + Send + Sync>>,
    /// The keys that are trusted in addition. Held while the keys are replaced, so that two replacements do not overlap.
    additional: Mutex<Vec<VerifyingKey>>,
}

impl KeyRing {
    /// Creates a ring in which `signing` signs, and is trusted.
    #[must_use]
    pub fn new(signing: SigningKey) -> Self {
        Self::of(KeySnapshot::new(signing))
    }

    fn of(snapshot: KeySnapshot) -> Self {
        Self(Keys::Fixed(Arc::new(snapshot)))
    }

    /// Creates a ring whose keys can change, and that limits the lifetime of the tokens that its keys sign.
    pub(crate) fn limited(snapshot: KeySnapshot, longest_token: Option<Duration>) -> Self {
        let current = ArcSwap::from_pointee(snapshot.with_trust());
        let (keeper, additional) = (OnceLock::new(), Mutex::default());
        let (id, version) = (RINGS.fetch_add(1, Ordering::Relaxed), AtomicU64::new(0));
        Self(Keys::Changing(Arc::new(Shared { id, version, current, longest_token, keeper, additional })))
    }

    fn changing(&self) -> Option<&Arc<Shared>> {
        match &self.0 {
            Keys::Fixed(_) => None,
            Keys::Changing(shared) => Some(shared),
        }
    }

    /// Keeps a value until the last clone of the ring is dropped.
    pub(crate) fn keep(&self, keeper: impl Any + Send + Sync) {
        // A ring has one keeper; a second one would be a mistake without consequence.
        let _ = self.changing().map(|shared| shared.keeper.set(Box::new(keeper)));
    }

    /// Returns a handle that does not keep the ring.
    pub(crate) fn downgrade(&self) -> WeakKeyRing {
        WeakKeyRing(self.changing().map(Arc::downgrade).unwrap_or_default())
    }

    /// Returns the longest lifetime of a token that its keys may sign, if the ring limits it: no token outlives the publication
    /// of its key.
    pub(crate) fn longest_token(&self) -> Option<Duration> {
        self.changing()?.longest_token
    }

    /// Creates a ring with a new ES256 key that exists only while the process runs: for tests and first steps.
    /// [`load_or_create`](Self::load_or_create) keeps the key in a file.
    ///
    /// # Errors
    ///
    /// If the backend cannot generate a key.
    pub fn generate() -> Result<Self, KeyError> {
        SigningKey::generate(Algorithm::ES256).map(Self::new)
    }

    /// Creates a ring with the private key in a PEM text; see [`SigningKey::from_pem`].
    ///
    /// # Errors
    ///
    /// If the text contains no key that can sign.
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        SigningKey::from_pem(pem).map(Self::new)
    }

    /// Returns a ring that trusts one more key, which does not sign. It is published in the key set, so that resource
    /// servers trust it, too; a secret for HS256 is never published. A key that is already in the ring stays unchanged. An RSA
    /// key with another algorithm counts as another key, so that tokens stay valid when the algorithm changes.
    ///
    /// The result is a ring of its own, unless the keys of this one can change: then its clones trust the key as well, for as
    /// long as the process runs, independent of the steps of the other keys. A key that the ring distrusts is not trusted, whether it
    /// is added before or after that.
    #[must_use]
    pub fn also_trust(self, key: VerifyingKey) -> Self {
        let Some(shared) = self.changing() else { return Self::of(self.current().also_trusting(key)) };
        let mut additional = lock(&shared.additional);
        let snapshot = shared.current.load_full().also_trusting(key.clone());
        additional.push(key);
        shared.install(snapshot);
        drop(additional);
        self
    }

    /// Returns the `kid` of every trusted key, beginning with the one that signs.
    pub fn key_ids(&self) -> impl Iterator<Item = String> {
        let keys = self.current();
        let signing = keys.signing_key().ok().map(|key| key.key_id().to_owned());
        let mut ids: Vec<String> = keys.trusted().map(|key| key.key_id().to_owned()).collect();
        ids.sort_by_key(|key_id| Some(key_id) != signing.as_ref());
        ids.into_iter()
    }

    /// Returns the current keys, for one step that does not wait.
    #[inline]
    pub(crate) fn current(&self) -> Current<'_> {
        match &self.0 {
            Keys::Fixed(keys) => Current::Fixed(keys),
            Keys::Changing(shared) => Current::Loaded(shared.load()),
        }
    }

    /// Returns the key that signs, at a time by the clock of the ring, for one step that does not wait. In a thread that signed with it
    /// before, this costs a few loads and comparisons; see [`remembered`].
    #[inline]
    pub(crate) fn signing_key_at(&self, now: SystemTime) -> Result<SigningKeyAt<'_>, NoSigningKey> {
        match &self.0 {
            Keys::Fixed(keys) => keys.signing_key_at(now).map(SigningKeyAt::Fixed),
            Keys::Changing(shared) => {
                // Read first: a key that is newer than its version is read again the next time.
                let version = shared.version.load(Ordering::Acquire);
                match Remembered::find(shared.id, version, now) {
                    Some(last) => Ok(SigningKeyAt::Remembered(last)),
                    None => shared.signing_key_at(version, now),
                }
            }
        }
    }

    /// Returns the current keys, to be kept.
    pub(crate) fn snapshot(&self) -> Arc<KeySnapshot> {
        match &self.0 {
            Keys::Fixed(keys) => keys.clone(),
            Keys::Changing(shared) => shared.current.load_full(),
        }
    }

    /// Returns whether both are the same ring.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Keys::Fixed(one), Keys::Fixed(other)) => Arc::ptr_eq(one, other),
            (Keys::Changing(one), Keys::Changing(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    #[cfg(test)]
    pub(crate) fn signing_key(&self) -> Arc<SigningKey> {
        self.current().signing_key().expect("a signing key").clone()
    }

    /// Replaces the keys of a ring that can [change](Self::limited). Every step that begins from now on uses the new ones.
    pub(crate) fn replace(&self, snapshot: KeySnapshot) {
        let Some(shared) = self.changing() else { return };
        let additional = lock(&shared.additional);
        shared.install(additional.iter().cloned().fold(snapshot, |keys, key| keys.also_trusting(key)));
    }

    /// Reads the ring as the signature of a token does, for benchmarks (feature `test-util`).
    #[cfg(any(test, feature = "test-util"))]
    #[doc(hidden)]
    #[must_use]
    pub fn has_signing_key_at(&self, now: SystemTime) -> bool {
        self.signing_key_at(now).is_ok()
    }

    /// Returns the JSON Web Key Set (RFC 7517 §5).
    #[cfg(test)]
    pub(crate) fn to_jwk_set(&self) -> jsonwebtoken::jwk::JwkSet {
        self.current().to_jwk_set()
    }
}

/// How many rings that can change there were.
static RINGS: AtomicU64 = AtomicU64::new(0);

impl Shared {
    /// Reads the keys for a step that does not sign. The thread does not remember them, and forgets a key of an earlier version.
    #[inline]
    fn load(&self) -> Guard<Arc<KeySnapshot>> {
        Remembered::forget_other_versions(self.id, self.version.load(Ordering::Acquire));
        self.current.load()
    }

    #[cold]
    fn signing_key_at(&self, version: u64, now: SystemTime) -> Result<SigningKeyAt<'_>, NoSigningKey> {
        let keys = self.load();
        let key = keys.signing_key_at(now)?;
        Ok(SigningKeyAt::Remembered(Remembered::new(self.id, version, key, &keys)))
    }

    /// Replaces the keys. The caller holds the lock.
    fn install(&self, snapshot: KeySnapshot) {
        let before = self.current.load_full();
        let now = Arc::new(snapshot.after(&before));
        self.current.store(now.clone());
        self.version.fetch_add(1, Ordering::Release);
        // Afterwards, so that a key that is found to be gone is looked up in the new keys.
        now.tell_trust(&before);
    }
}

/// The current keys of a ring.
pub(crate) enum Current<'a> {
    Fixed(&'a KeySnapshot),
    Loaded(Guard<Arc<KeySnapshot>>),
}

impl Deref for Current<'_> {
    type Target = KeySnapshot;

    #[inline]
    fn deref(&self) -> &KeySnapshot {
        match self {
            Self::Fixed(keys) => keys,
            Self::Loaded(keys) => keys,
        }
    }
}

/// A handle of a ring that does not keep it.
pub(crate) struct WeakKeyRing(Weak<Shared>);

impl WeakKeyRing {
    pub(crate) fn upgrade(&self) -> Option<KeyRing> {
        self.0.upgrade().map(|shared| KeyRing(Keys::Changing(shared)))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.current().debug("KeyRing", f)
    }
}

#[cfg(test)]
mod tests;
