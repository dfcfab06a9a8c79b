//! [`TrustedKeys`]: the keys that verify an issuer's signatures, independent of where they come from.

use std::sync::Arc;

#[cfg(feature = "remote")]
use super::remote::RemoteKeys;
use super::{Algorithm, KeyRing, KeySet, Trust, TrustLevel, VerifyingKey};
#[cfg(feature = "remote")]
use crate::clock::UnixTime;
#[cfg(feature = "remote")]
use crate::transport::FetchError;

/// The keys of one issuer. Clones share them.
#[derive(Clone, Debug)]
pub(crate) enum TrustedKeys {
    /// The keys of an authorization server in this process.
    Ring(KeyRing),
    /// The fixed keys of another issuer.
    Set(KeySet),
    /// The keys that another issuer publishes.
    #[cfg(feature = "remote")]
    Remote(RemoteKeys),
}

/// A trusted key, and the name in the token by which it was found. The same name may mean another key later.
#[derive(Clone, Debug)]
pub(crate) struct FoundKey {
    pub(crate) key: VerifyingKey,
    /// `None` if a key is found independently of names: by its thumbprint in a key ring, or as the only key of an algorithm.
    pub(super) name: Option<Arc<str>>,
    /// Whether the ring that it is from still trusts it, if that can change.
    pub(super) trust: Option<Arc<Trust>>,
}

impl FoundKey {
    /// Returns whether both are the same key, found by the same name.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.name == other.name && self.key.is_same_key(&other.key)
    }
}

/// The reason why there is no key to verify with.
#[derive(Clone, Debug)]
pub(crate) enum NoKey {
    /// No trusted key has this name.
    Unknown,
    /// The key with this name is for another algorithm, which is given. Without one, no key of the issuer supports the
    /// algorithm.
    Algorithm(Option<Algorithm>),
    /// This process was cut off from the store of its keys for too long to know which ones are trusted.
    CutOff,
    /// The key may be available at the issuer: call [`ask`](TrustedKeys::ask), and look again.
    #[cfg(feature = "remote")]
    NotAsked,
    /// There are no keys, or they are too old, and it is too early to fetch them (again).
    #[cfg(feature = "remote")]
    Unavailable { error: Option<Arc<FetchError>>, retry_after: std::time::Duration },
    /// No key has this name, and it is too early to fetch (again) whether there is a new one.
    #[cfg(feature = "remote")]
    TooEarly { error: Option<Arc<FetchError>>, retry_after: std::time::Duration },
    /// A set that was requested `at` this time had no key with this name, and it is too early to fetch again. The key may have
    /// been published since, so only a token that was issued before can be refused.
    #[cfg(feature = "remote")]
    Lacked { at: UnixTime, retry_after: std::time::Duration },
}

impl TrustedKeys {
    /// Returns the key with this name. The key determines the algorithm, not the token (RFC 8725 §3.1).
    pub(crate) fn find(&self, key_id: &str, alg: &str) -> Result<FoundKey, NoKey> {
        match self {
            Self::Ring(ring) => {
                let keys = ring.current();
                if keys.is_cut_off() {
                    return Err(NoKey::CutOff);
                }
                let key = choose(keys.named(key_id), alg)?;
                let trust = keys.trust_in(&key);
                Ok(FoundKey { key, name: None, trust })
            }
            Self::Set(set) => set.find(key_id, alg),
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.find(key_id, alg),
        }
    }

    /// Returns how long a request that arrives now waits for keys.
    #[cfg(feature = "remote")]
    pub(crate) fn deadline(&self) -> tokio::time::Instant {
        match self {
            Self::Ring(_) | Self::Set(_) => tokio::time::Instant::now(),
            Self::Remote(remote) => remote.deadline(),
        }
    }

    /// Counts a token that gets 503 because of [`NoKey::Lacked`].
    #[cfg(feature = "remote")]
    pub(crate) fn count_lacked(&self) {
        if let Self::Remote(remote) = self {
            remote.count_too_early();
        }
    }

    /// Fetches keys and waits for them, if that may provide the one with this name.
    #[cfg(feature = "remote")]
    pub(crate) async fn ask(&self, key_id: &str, alg: &str, deadline: tokio::time::Instant) -> Result<(), NoKey> {
        match self {
            Self::Ring(_) | Self::Set(_) => Ok(()),
            Self::Remote(remote) => remote.ask(key_id, alg, deadline).await,
        }
    }

    /// Returns whether [`ask_for_replacement`](Self::ask_for_replacement) may help for a signature that does not match this
    /// key.
    #[cfg(feature = "remote")]
    pub(crate) fn may_be_replaced(&self, found: &FoundKey) -> bool {
        match self {
            // Their names never change their meaning.
            Self::Ring(_) | Self::Set(_) => false,
            Self::Remote(remote) => remote.may_be_replaced(found),
        }
    }

    /// Fetches keys and waits for them, if the name by which this key was found may mean another key now.
    #[cfg(feature = "remote")]
    pub(crate) async fn ask_for_replacement(&self, found: &FoundKey, deadline: tokio::time::Instant) {
        if let Self::Remote(remote) = self {
            remote.ask_for_replacement(found, deadline).await;
        }
    }

    /// Returns `Ok` if the name by which this key was found still means this key.
    pub(crate) fn still_trust(&self, found: &FoundKey) -> Result<(), NoKey> {
        let trusted = match self {
            // One read of memory that changes with the ring: this is on the path of every request.
            Self::Ring(ring) => match &found.trust {
                None => ring.current().trusts(&found.key),
                Some(trust) => match trust.get() {
                    TrustLevel::Trusted => true,
                    TrustLevel::Gone => false,
                    TrustLevel::CutOff => return Err(NoKey::CutOff),
                },
            },
            Self::Set(set) => set.still_names(found),
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.still_names(found)?,
        };
        if trusted { Ok(()) } else { Err(NoKey::Unknown) }
    }

    /// Returns whether keys are available.
    pub(crate) fn are_there(&self) -> bool {
        match self {
            Self::Ring(ring) => !ring.current().is_cut_off(),
            Self::Set(set) => !set.is_empty(),
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.are_there(),
        }
    }

    /// Waits until keys are available.
    #[cfg_attr(not(feature = "remote"), expect(clippy::unused_async, reason = "only remote keys are fetched"))]
    pub(crate) async fn ready(&self) {
        match self {
            Self::Ring(_) | Self::Set(_) => {}
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.ready().await,
        }
    }

    /// Returns whether both are the same object.
    pub(crate) fn ptr_eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ring(one), Self::Ring(other)) => one.ptr_eq(other),
            (Self::Set(one), Self::Set(other)) => one.ptr_eq(other),
            #[cfg(feature = "remote")]
            (Self::Remote(one), Self::Remote(other)) => one.ptr_eq(other),
            _ => false,
        }
    }
}

fn choose<'a>(keys: impl Iterator<Item = &'a VerifyingKey>, alg: &str) -> Result<VerifyingKey, NoKey> {
    let mut keys = keys.peekable();
    let own = keys.peek().ok_or(NoKey::Unknown)?.algorithm();
    keys.find(|key| key.algorithm().is_named(alg)).cloned().ok_or(NoKey::Algorithm(Some(own)))
}
