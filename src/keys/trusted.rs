//! [`TrustedKeys`]: wherever they come from, the keys that somebody's signatures are verified by.

use std::sync::Arc;

#[cfg(feature = "remote")]
use super::remote::RemoteKeys;
use super::{Algorithm, KeyRing, KeySet, VerifyingKey};
#[cfg(feature = "remote")]
use crate::clock::UnixTime;
#[cfg(feature = "remote")]
use crate::transport::FetchError;

/// The keys of one signer; a clone shares them.
#[derive(Clone, Debug)]
pub(crate) enum TrustedKeys {
    /// Those of an authorization server in this process.
    Ring(KeyRing),
    /// Those of somebody else, fixed.
    Set(KeySet),
    /// Those of somebody else, as he publishes them.
    #[cfg(feature = "remote")]
    Remote(RemoteKeys),
}

/// A trusted key, and the name that a token called it by. The same name may mean another key later.
#[derive(Clone, Debug)]
pub(crate) struct FoundKey {
    pub(crate) key: VerifyingKey,
    /// `None` where a key is found by what it is: the thumbprint in a key ring, or the only key of an algorithm.
    pub(super) name: Option<Arc<str>>,
}

impl FoundKey {
    /// Returns whether both are the same key, found by the same name.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.key.is(&other.key)
    }
}

/// Why there is no key to verify by.
#[derive(Clone, Debug)]
pub(crate) enum NoKey {
    /// No trusted key has this name.
    Unknown,
    /// The key of this name is for another algorithm, which is given; without one, no key of the issuer can be for it.
    Algorithm(Option<Algorithm>),
    /// It may be elsewhere: [ask](TrustedKeys::ask), and look again.
    #[cfg(feature = "remote")]
    NotAsked,
    /// There are no keys, or they are too old, and it is too early to ask (again).
    #[cfg(feature = "remote")]
    Unavailable { error: Option<Arc<FetchError>>, retry_after: std::time::Duration },
    /// No key has this name, and it is too early to ask (again) whether there is a new one.
    #[cfg(feature = "remote")]
    TooEarly { error: Option<Arc<FetchError>>, retry_after: std::time::Duration },
    /// A set that was requested `at` this time had no key of this name, and it is too early to ask again. The key may have been
    /// published since: only a token that was issued before can be refused.
    #[cfg(feature = "remote")]
    Lacked { at: UnixTime, retry_after: std::time::Duration },
}

impl TrustedKeys {
    /// The key of this name. The algorithm is the key's, and not the token's to choose (RFC 8725 §3.1).
    pub(crate) fn find(&self, key_id: &str, alg: &str) -> Result<FoundKey, NoKey> {
        match self {
            Self::Ring(ring) => choose(ring.named(key_id), alg).map(|key| FoundKey { key, name: None }),
            Self::Set(set) => set.find(key_id, alg),
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.find(key_id, alg),
        }
    }

    /// Returns until when a request that comes now waits for keys.
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

    /// Fetches keys if that may bring the one of this name, and waits for them.
    #[cfg(feature = "remote")]
    pub(crate) async fn ask(&self, key_id: &str, alg: &str, deadline: tokio::time::Instant) -> Result<(), NoKey> {
        match self {
            Self::Ring(_) | Self::Set(_) => Ok(()),
            Self::Remote(remote) => remote.ask(key_id, alg, deadline).await,
        }
    }

    /// Returns whether it may help to [ask](Self::ask_for_replacement) about a signature that is not this key's.
    #[cfg(feature = "remote")]
    pub(crate) fn may_be_replaced(&self, found: &FoundKey) -> bool {
        match self {
            // Their names never change their meaning.
            Self::Ring(_) | Self::Set(_) => false,
            Self::Remote(remote) => remote.may_be_replaced(found),
        }
    }

    /// Fetches keys if the name that this key was found by may mean another key by now, and waits for them.
    #[cfg(feature = "remote")]
    pub(crate) async fn ask_for_replacement(&self, found: &FoundKey, deadline: tokio::time::Instant) {
        if let Self::Remote(remote) = self {
            remote.ask_for_replacement(found, deadline).await;
        }
    }

    /// Returns `Ok` if the name that this key was found by still means this key.
    pub(crate) fn still_trust(&self, found: &FoundKey) -> Result<(), NoKey> {
        let trusted = match self {
            Self::Ring(ring) => ring.trusts(&found.key),
            Self::Set(set) => set.still_names(found),
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.still_names(found)?,
        };
        if trusted { Ok(()) } else { Err(NoKey::Unknown) }
    }

    /// Whether there are keys at all.
    pub(crate) fn are_there(&self) -> bool {
        match self {
            Self::Ring(_) => true,
            Self::Set(set) => !set.is_empty(),
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.are_there(),
        }
    }

    /// Waits until there are.
    #[cfg_attr(not(feature = "remote"), expect(clippy::unused_async, reason = "nothing is elsewhere"))]
    pub(crate) async fn ready(&self) {
        match self {
            Self::Ring(_) | Self::Set(_) => {}
            #[cfg(feature = "remote")]
            Self::Remote(remote) => remote.ready().await,
        }
    }

    /// Whether both are the same keys, because they are the same object.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ring(one), Self::Ring(other)) => one.is(other),
            (Self::Set(one), Self::Set(other)) => one.is(other),
            #[cfg(feature = "remote")]
            (Self::Remote(one), Self::Remote(other)) => one.is(other),
            _ => false,
        }
    }
}

fn choose<'a>(keys: impl Iterator<Item = &'a VerifyingKey>, alg: &str) -> Result<VerifyingKey, NoKey> {
    let mut keys = keys.peekable();
    let own = keys.peek().ok_or(NoKey::Unknown)?.algorithm();
    keys.find(|key| key.algorithm().is_named(alg)).cloned().ok_or(NoKey::Algorithm(Some(own)))
}
