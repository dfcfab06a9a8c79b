//! Decisions about the stored ring: whether it was restored, whether this replica is behind, and which replicas are waited for.

use super::KeyRingError;
use super::document::Opened;
use super::history::{Head, Relation};
use super::keeper::Local;
use super::lifecycle::RingState;
use super::peers::{Loaded, Peer};

/// Returns how it is known that the store was restored from an older copy: this replica or another live one has a higher
/// version. `None` if it was not, or if an operator accepts it.
pub(super) fn why_restored(local: &Local, loaded: &Loaded) -> Option<String> {
    let own = local.applied.as_ref().map_or(0, |applied| applied.state.version);
    let known = own.max(loaded.highest_version());
    (loaded.stored.version < known && !local.accepts_stored).then(|| {
        format!(
            "the stored ring has version {}, and a live replica has {known}, so the store was restored from an older copy; the \
             known ring is used until `KeyManager::accept_stored` is called, and no replica can start",
            loaded.stored.version
        )
    })
}

/// Returns how it is known that a stored ring lacks changes that this replica has, although its version is not lower: the store
/// was restored, and another process changed the restored ring.
pub(super) fn why_foreign(own: &RingState, opened: &Opened) -> Option<String> {
    let is_foreign = match opened.state.history.relation(opened.state.version, &own.head()) {
        // Of one that supersedes it, the operator decided. This replica repeats its distrusts.
        Relation::Same | Relation::Descends | Relation::Superseded => false,
        Relation::Foreign => true,
        // The replica was away for long. A ring without its distrusts is certainly another one.
        Relation::Unknown => !opened.state.lost_distrusts(&own.distrusted).is_empty(),
    };
    is_foreign.then(|| {
        format!(
            "the stored ring of version {} does not descend from version {} of this replica, so the store was restored from an older \
             copy and changed; the known ring is used until the lease ends, and no step is taken until \
             `KeyManager::accept_stored` is called on one replica",
            opened.state.version, own.version
        )
    })
}

/// Returns how it is known that the stored ring, which this replica has, lacks changes that another live replica has.
pub(super) fn why_contested(own: &RingState, loaded: &Loaded, name: &str) -> Option<String> {
    let is_foreign = |head: &Head| own.history.relation(own.version, head) == Relation::Foreign;
    let (other, head) = loaded
        .heads()
        .find(|(other, head)| *other != name && (1..=own.version).contains(&head.version) && is_foreign(head))?;
    Some(format!(
        "the stored ring of version {} does not descend from version {} of the live replica `{}`, so the store was restored from \
         an older copy and changed; it is used until the lease ends, and no step is taken until \
         `KeyManager::accept_stored` is called on one replica",
        own.version,
        head.version,
        shown(other)
    ))
}

/// Returns whether another replica may have made a change that this replica lacks.
pub(super) fn is_behind(local: &Local, loaded: &Loaded) -> bool {
    let own = local.applied.as_ref().map_or(0, |applied| applied.state.version);
    local.is_divided() || loaded.stored.version > own || loaded.highest_version() > own
}

/// Returns an error if the stored ring is altered or restored, so that nothing may be written over it.
pub(super) fn refuse_altered(local: &Local, loaded: &Loaded) -> Result<(), KeyRingError> {
    let altered = local.applied.as_ref().filter(|applied| !applied.problems.is_empty());
    let altered = altered.map(|applied| applied.problems.join("; "));
    let not_applied = local.not_applied.as_ref().map(|ring| ring.reason.clone());
    let reason = why_restored(local, loaded).or(local.contested.clone()).or(altered).or(not_applied);
    reason.map_or(Ok(()), |reason| Err(KeyRingError::Refused(reason)))
}

/// Returns the lowest version of the live replicas. Nothing is known to be everywhere if this replica is not among them.
pub(super) fn lowest_version(peers: &[Peer], own: &str, reported: u64) -> u64 {
    let others = peers.iter().filter(|peer| peer.name != own).map(|peer| peer.version);
    others.chain([reported]).min().unwrap_or(0)
}

pub(super) fn lagging(peers: &[Peer], own: &str, version: u64) -> Vec<String> {
    let behind = peers.iter().filter(|peer| peer.name != own && peer.version < version);
    behind.map(|peer| peer.name.clone()).collect()
}

/// Returns the name of a replica in a form that is safe in a log.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(64).collect::<String>().escape_debug().to_string()
}
