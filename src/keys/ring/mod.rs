//! [`KeyRing`]: the keys of an authorization server, which can change while it runs.

mod lease;
mod snapshot;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

pub(crate) use self::lease::Lease;
pub(crate) use self::snapshot::{KeySnapshot, NoSigningKey, SharedKeys};
use super::{Algorithm, KeyError, SigningKey, VerifyingKey};

/// The keys of an [`AuthorizationServer`](crate::AuthorizationServer). Clones share them.
///
/// The keys can change while servers and verifiers use the ring. Each of them reads one consistent snapshot per step: the key
/// set, the metadata, the verifiers of the server and their caches follow every change at once.
///
/// See the [module page](super) for the rules and an example.
#[derive(Clone)]
pub struct KeyRing(Arc<Shared>);

struct Shared {
    current: ArcSwap<KeySnapshot>,
    /// The longest lifetime of a token that its keys may sign, if the ring limits it.
    longest_token: Option<Duration>,
    /// What keeps the ring up to date, for as long as the ring is used.
    keeper: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl KeyRing {
    /// Creates a ring in which `signing` signs, and is trusted.
    #[must_use]
    pub fn new(signing: SigningKey) -> Self {
        Self::of(KeySnapshot::new(signing))
    }

    fn of(snapshot: KeySnapshot) -> Self {
        Self::limited(snapshot, None)
    }

    /// Creates a ring that limits the lifetime of the tokens that its keys sign.
    pub(crate) fn limited(snapshot: KeySnapshot, longest_token: Option<Duration>) -> Self {
        let (current, keeper) = (ArcSwap::from_pointee(snapshot), OnceLock::new());
        Self(Arc::new(Shared { current, longest_token, keeper }))
    }

    /// Keeps a value until the last clone of the ring is dropped.
    pub(crate) fn keep(&self, keeper: impl Any + Send + Sync) {
        // A ring has one keeper; a second one would be a mistake without consequence.
        let _ = self.0.keeper.set(Box::new(keeper));
    }

    /// Returns a handle that does not keep the ring.
    pub(crate) fn downgrade(&self) -> WeakKeyRing {
        WeakKeyRing(Arc::downgrade(&self.0))
    }

    /// Returns the longest lifetime of a token that its keys may sign, if the ring limits it: no token outlives the publication
    /// of its key.
    pub(crate) fn longest_token(&self) -> Option<Duration> {
        self.0.longest_token
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

    /// Returns a ring of its own that trusts one more key, which does not sign. It is published in the key set, so that resource
    /// servers trust it, too; a secret for HS256 is never published. A key that is already in the ring stays unchanged. An RSA
    /// key with another algorithm counts as another key, so that tokens stay valid when the algorithm changes.
    #[must_use]
    pub fn also_trust(self, key: VerifyingKey) -> Self {
        Self::of(self.0.current.load().also_trusting(key))
    }

    /// Returns the `kid` of every trusted key, beginning with the one that signs.
    pub fn key_ids(&self) -> impl Iterator<Item = String> {
        let keys = self.0.current.load();
        let signing = keys.signing_key().ok().map(|key| key.key_id().to_owned());
        let mut ids: Vec<String> = keys.trusted().map(|key| key.key_id().to_owned()).collect();
        ids.sort_by_key(|key_id| Some(key_id) != signing.as_ref());
        ids.into_iter()
    }

    /// Returns the current keys, for one step that does not wait.
    #[inline]
    pub(crate) fn current(&self) -> Guard<Arc<KeySnapshot>> {
        self.0.current.load()
    }

    /// Returns the current keys, to be kept.
    pub(crate) fn snapshot(&self) -> Arc<KeySnapshot> {
        self.0.current.load_full()
    }

    /// Returns whether both are the same ring.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    #[cfg(test)]
    #[expect(clippy::expect_used, reason = "only tests of rings with a key call it")]
    pub(crate) fn signing_key(&self) -> Arc<SigningKey> {
        self.current().signing_key().expect("a signing key").clone()
    }

    /// Replaces the keys. Every step that begins from now on uses the new ones.
    pub(crate) fn replace(&self, snapshot: KeySnapshot) {
        self.0.current.store(Arc::new(snapshot));
    }

    /// Returns the JSON Web Key Set (RFC 7517 §5).
    #[cfg(test)]
    pub(crate) fn to_jwk_set(&self) -> jsonwebtoken::jwk::JwkSet {
        self.current().to_jwk_set()
    }
}

/// A handle of a ring that does not keep it.
pub(crate) struct WeakKeyRing(Weak<Shared>);

impl WeakKeyRing {
    pub(crate) fn upgrade(&self) -> Option<KeyRing> {
        self.0.upgrade().map(KeyRing)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.current.load().debug("KeyRing", f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, KeyRing, KeySnapshot, SigningKey, VerifyingKey};

    #[test]
    fn the_signing_key_comes_first_and_no_key_twice() {
        let next = SigningKey::generate(Algorithm::ES256).unwrap().verifying_key();
        let ring = KeyRing::generate().unwrap();
        let first = ring.signing_key().key_id().to_owned();
        let ring = ring.also_trust(next.clone()).also_trust(next.clone());
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str(), next.key_id()]);
        assert_eq!(ring.to_jwk_set().keys.len(), 2);
    }

    #[cfg(feature = "aws_lc_rs")]
    #[test]
    fn an_rsa_key_is_trusted_under_each_of_its_algorithms() {
        let rsa = || SigningKey::from_pem(include_str!("../../../tests/keys/rsa2048.pem")).unwrap();
        let old = rsa().verifying_key();
        let ring =
            KeyRing::new(rsa().with_algorithm(Algorithm::PS256).unwrap()).also_trust(old.clone()).also_trust(old);
        let key_id = ring.signing_key().key_id().to_owned();
        let algorithms: Vec<_> = ring.current().named(&key_id).map(VerifyingKey::algorithm).collect();
        assert_eq!(algorithms, [Algorithm::PS256, Algorithm::RS256]);
    }

    #[test]
    fn debug_shows_names_and_no_key() {
        let ring = KeyRing::from_pem(include_str!("../../../tests/keys/p256.pem")).unwrap();
        let shown = format!("{ring:?}");
        assert!(shown.contains(ring.signing_key().key_id()) && shown.len() < 400, "{shown}");
    }

    #[test]
    fn a_clone_follows_a_change_and_a_ring_with_one_more_key_does_not() {
        let ring = KeyRing::generate().unwrap();
        let clone = ring.clone();
        let other = ring.clone().also_trust(SigningKey::generate(Algorithm::EdDSA).unwrap().verifying_key());
        let new = SigningKey::generate(Algorithm::ES256).unwrap();
        let new_id = new.key_id().to_owned();
        ring.replace(KeySnapshot::new(new));
        assert_eq!(clone.key_ids().collect::<Vec<_>>(), [new_id.as_str()]);
        assert!(clone.ptr_eq(&ring) && !other.ptr_eq(&ring));
        assert!(other.key_ids().all(|key_id| key_id != new_id));
    }
}
