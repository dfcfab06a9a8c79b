//! [`ClientKeySets`]: the key sets at the URLs of clients (feature `remote`).

use std::sync::{Arc, Mutex, PoisonError};

use super::key_place::KeyFormat;
use super::remote_keys;
use crate::clock::{Clock, UnixTime};
use crate::crypto::Random;
use crate::debug_fields::debug_fields;
use crate::keys::remote::{Place, RemoteKeys};
use crate::registration::KeysUrl;
use crate::sync::BoundedMap;
use crate::transport::{GuardedClient, HostAccess, HttpClient};
use crate::uri::{self, PlainHttp};

/// The maximum number of key sets in memory.
const MAX_SETS: usize = 10_000;

/// The key sets that were named lately. A set whose client authenticated within an hour is kept fresh; another one is fetched when
/// a request needs it.
pub(super) struct ClientKeySets {
    client: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    sets: Mutex<BoundedMap<Key, Entry>>,
}

/// The URL, and the name of the only algorithm.
type Key = (Arc<str>, Option<&'static str>);

struct Entry {
    keys: RemoteKeys,
    /// The latest refresh in any registration with this URL.
    refreshed_at: Option<UnixTime>,
}

impl ClientKeySets {
    pub(super) fn new(private_addresses: bool, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Result<Self, String> {
        let access = HostAccess { private_addresses, ..HostAccess::default() };
        let client = GuardedClient::new(access).map_err(|error| format!("cannot build the HTTP client: {error}"))?;
        Ok(Self { client: Arc::new(client), clock, random, sets: Mutex::new(BoundedMap::new(MAX_SETS)) })
    }

    /// Returns the keys at this URL. If they have to be refreshed, earlier keys are dropped.
    pub(super) fn at(&self, url: &KeysUrl) -> Option<RemoteKeys> {
        let key = (url.url().clone(), url.algorithm().map(crate::keys::Algorithm::name));
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        // A version and not a time: the clocks of the operator and of replicas differ.
        let is_fresh = |entry: &&Entry| url.refreshed() <= entry.refreshed_at;
        if let Some(entry) = sets.get(&key).filter(is_fresh) {
            return Some(entry.keys.clone());
        }
        let uri = uri::secure(url.url(), PlainHttp::Loopback).ok()?;
        let algorithms = url.algorithm().map(|algorithm| vec![algorithm]);
        let (clock, random) = (self.clock.clone(), self.random.clone());
        let place = Place::OfClient(uri);
        let policy = remote_keys::policy_of_clients(url.refreshed().is_some());
        let keys = remote_keys::open(self.client.clone(), place, KeyFormat::Jwks, policy, algorithms, clock, random);
        keys.keep_fresh();
        sets.insert(key, Entry { keys: keys.clone(), refreshed_at: url.refreshed() });
        Some(keys)
    }
}

debug_fields!(ClientKeySets {});
