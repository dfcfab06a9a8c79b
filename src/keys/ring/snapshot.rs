//! [`KeySnapshot`]: the keys of a ring at one time.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::lease::Lease;
use super::trust::{Trust, TrustLevel};
use crate::keys::{Algorithm, SigningKey, VerifyingKey};

/// The keys of a ring at one time. It never changes, so a key that was selected from it stays usable until its signature is done.
#[derive(Clone)]
pub(crate) struct KeySnapshot {
    signing: Result<Arc<SigningKey>, NoSigningKey>,
    /// In the order of the key set.
    trusted: Box<[VerifyingKey]>,
    /// A flag for each trusted key, or nothing if the ring cannot change.
    trust: Box<[Arc<Trust>]>,
    /// The algorithms of the keys that sign next.
    next_algorithms: Vec<Algorithm>,
    /// The names of the keys that are never trusted again, also not in addition.
    distrusted: Arc<[String]>,
    max_age: Option<Duration>,
    lease: Option<Arc<Lease>>,
    /// Whether the process was cut off from the key store for too long: other replicas may have changed the ring.
    is_cut_off: bool,
}

/// The reason why a ring cannot sign now. Its text is for the operator.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoSigningKey(pub(crate) Cow<'static, str>);

/// The contents of a ring whose keys take steps.
pub(crate) struct SharedKeys {
    pub(crate) signing: Result<Arc<SigningKey>, NoSigningKey>,
    pub(crate) trusted: Vec<VerifyingKey>,
    pub(crate) next_algorithms: Vec<Algorithm>,
    /// The names of the keys that must not be trusted in addition.
    pub(crate) distrusted: Vec<String>,
    pub(crate) max_age: Duration,
    /// `None` if no store can be lost.
    pub(crate) lease: Option<Arc<Lease>>,
}

const CUT_OFF: NoSigningKey = NoSigningKey(Cow::Borrowed(
    "this process has not reached the key store for too long to know which key signs; check the store and the network",
));

impl KeySnapshot {
    /// Creates a snapshot in which `signing` signs, and is trusted.
    pub(crate) fn new(signing: SigningKey) -> Self {
        Self {
            trusted: Box::new([signing.verifying_key()]),
            signing: Ok(Arc::new(signing)),
            trust: Box::default(),
            next_algorithms: Vec::new(),
            distrusted: Arc::default(),
            max_age: None,
            lease: None,
            is_cut_off: false,
        }
    }

    pub(crate) fn shared(keys: SharedKeys) -> Self {
        let SharedKeys { signing, trusted, next_algorithms, distrusted, max_age, lease } = keys;
        let (trusted, trust, max_age) = (trusted.into(), Box::default(), Some(max_age));
        let distrusted = distrusted.into();
        Self { signing, trusted, trust, next_algorithms, distrusted, max_age, lease, is_cut_off: false }
    }

    /// Returns the same keys, which can be neither used nor published until the key store answers again.
    pub(crate) fn cut_off(&self) -> Self {
        Self { signing: Err(CUT_OFF), trust: Box::default(), is_cut_off: true, ..self.clone() }
    }

    /// Returns the same keys with new flags.
    pub(super) fn with_trust(mut self) -> Self {
        self.trust = self.trusted.iter().map(|_| Arc::default()).collect();
        self
    }

    /// Returns the same keys with the flags that they had in the snapshot before.
    pub(super) fn after(mut self, before: &Self) -> Self {
        let flag = |key: &VerifyingKey| before.trust_in(key).unwrap_or_default();
        self.trust = self.trusted.iter().map(flag).collect();
        self
    }

    /// Tells all that remember a key of these or of the snapshot before whether it is trusted now.
    pub(super) fn tell_trust(&self, before: &Self) {
        let now = if self.is_cut_off { TrustLevel::CutOff } else { TrustLevel::Trusted };
        self.trust.iter().for_each(|trust| trust.set(now));
        let is_here = |trust: &Arc<Trust>| self.trust.iter().any(|own| Arc::ptr_eq(own, trust));
        before.trust.iter().filter(|trust| !is_here(trust)).for_each(|trust| trust.set(TrustLevel::Gone));
    }

    /// Returns the flag of a key. `None` if the key is not trusted, or the ring cannot change.
    pub(crate) fn trust_in(&self, key: &VerifyingKey) -> Option<Arc<Trust>> {
        let place = self.trusted.iter().position(|own| own.is_same_key(key))?;
        self.trust.get(place).cloned()
    }

    /// Returns whether this process may use what the key signed.
    pub(crate) fn accepts(&self, key: &VerifyingKey) -> bool {
        !self.is_cut_off && self.trusts(key)
    }

    #[inline]
    pub(crate) fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Returns how long caches may keep the key set, if the ring says so.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Returns a snapshot that trusts one more key, unless it is there already or was distrusted.
    pub(crate) fn also_trusting(&self, key: VerifyingKey) -> Self {
        // A distrust is of the private half, whatever the algorithm.
        let is_distrusted = self.distrusted.iter().any(|key_id| key_id == key.key_id());
        let is_new = !is_distrusted && !self.trusts(&key);
        let trusted = self.trusted.iter().cloned().chain(Some(key).filter(|_| is_new)).collect();
        Self { trusted, trust: Box::default(), ..self.clone() }
    }

    pub(super) fn lease(&self) -> Option<&Arc<Lease>> {
        self.lease.as_ref()
    }

    /// Returns the key that signs, at a time by the clock of the ring.
    #[inline]
    pub(super) fn signing_key_at(&self, now: SystemTime) -> Result<&Arc<SigningKey>, NoSigningKey> {
        match &self.lease {
            Some(lease) if !lease.is_usable_at(now) => Err(CUT_OFF),
            _ => self.signing.as_ref().map_err(Clone::clone),
        }
    }

    /// Returns the time by the clock of the ring, if it has a lease.
    pub(crate) fn clock_of_lease(&self) -> Option<SystemTime> {
        self.lease.as_ref().map(|lease| lease.now().wall)
    }

    /// Returns the key that signs now.
    pub(crate) fn signing_key(&self) -> Result<&Arc<SigningKey>, NoSigningKey> {
        match &self.lease {
            Some(lease) if !lease.is_usable() => Err(CUT_OFF),
            _ => self.signing.as_ref().map_err(Clone::clone),
        }
    }

    /// Returns all trusted keys, in the order of the key set.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.trusted.iter()
    }

    /// Returns the keys with this name. There are several only if an RSA key is trusted with several algorithms.
    pub(crate) fn named(&self, key_id: &str) -> impl Iterator<Item = &VerifyingKey> {
        self.trusted.iter().filter(move |key| key.key_id() == key_id)
    }

    #[inline]
    pub(crate) fn trusts(&self, key: &VerifyingKey) -> bool {
        self.trusted.iter().any(|own| own.is_same_key(key))
    }

    /// Returns the names of the algorithms that sign now, or will sign next. It is stable while the keys are.
    pub(crate) fn signing_algorithms(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = Vec::new();
        let signing = self.signing.iter().map(|key| key.algorithm());
        for algorithm in signing.chain(self.next_algorithms.iter().copied()) {
            if !names.contains(&algorithm.name()) {
                names.push(algorithm.name());
            }
        }
        names
    }

    /// Returns the JSON Web Key Set (RFC 7517 §5). It contains public keys only, and no secret for HS256.
    pub(crate) fn to_jwk_set(&self) -> jsonwebtoken::jwk::JwkSet {
        jsonwebtoken::jwk::JwkSet { keys: self.trusted.iter().filter_map(VerifyingKey::to_jwk).collect() }
    }

    pub(super) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name).field("signing", &self.signing).field("trusted", &self.trusted).finish()
    }
}

impl fmt::Debug for KeySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug("KeySnapshot", f)
    }
}
