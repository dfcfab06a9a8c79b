//! What a replica concludes from the stored ring: whether it was restored, whether this replica is behind, and which replicas are
//! waited for.

use super::KeyRingError;
use super::history::{Known, Relation};
use super::keeper::Local;
use super::lifecycle::RingState;
use super::peers::{Loaded, Peer};

/// Returns how it is known that the store was restored from an older copy: this replica or another live one has a ring of a higher
/// rank.
pub(super) fn why_restored(local: &Local, loaded: &Loaded) -> Option<String> {
    let own = local.applied.as_ref().map(|applied| applied.state.rank()).unwrap_or_default();
    let known = own.max(loaded.highest_rank());
    let version = loaded.stored.version;
    let has = match known.version {
        known if known > version => format!("has {known}"),
        known => format!("has {known}, which descends from a ring that an operator accepted later"),
    };
    (local.stored < known).then(|| {
        format!(
            "the stored ring has version {version}, and a live replica {has}, so the store was restored from an older copy; the \
             known ring is used until `KeyManager::accept_stored` is called, and no replica can start"
        )
    })
}

/// Returns whether a stored ring lacks changes that a replica has, although its rank is not lower: the store was restored, and another
/// process changed the restored ring.
pub(super) fn is_foreign(own: &RingState, stored: &RingState) -> bool {
    match stored.history.relation(stored.version, &own.known()) {
        // Of one that supersedes it, the operator decided. This replica repeats its distrusts.
        Relation::Same | Relation::Descends | Relation::Superseded => false,
        Relation::Foreign => true,
        // The replica was away for long. A ring without its distrusts is certainly another one.
        Relation::Unknown => !stored.lost_distrusts(&own.distrusted).is_empty(),
    }
}

/// Returns the text for a stored ring that lacks changes that this replica has.
pub(super) fn foreign(own: &RingState, stored: &RingState) -> String {
    format!(
        "the stored ring of version {} does not descend from version {} of this replica, so the store was restored from an older \
         copy and changed; the known ring is used until the lease ends, and no step is taken until \
         `KeyManager::accept_stored` is called on one replica",
        stored.version, own.version
    )
}

/// Returns whether the ring of this replica lacks changes of another one that is not higher.
pub(super) fn is_contested_by(own: &RingState, other: &Known) -> bool {
    let is_ring = other.head.version > 0 && other.rank() <= own.rank();
    is_ring && own.history.relation(own.version, other) == Relation::Foreign
}

/// Returns whether other replicas live on the line of a refused ring: none of them knows the last acceptance that this replica knows. They
/// may have changes that it lacks.
pub(super) fn is_lived_on<'a>(own: &RingState, stored: &RingState, others: impl Iterator<Item = &'a Known>) -> bool {
    let lives = |other: &Known| {
        let is_superseded = own.history.relation(own.version, other) == Relation::Superseded;
        is_superseded && other.head.version > 0 && other.accepted_at == stored.history.accepted_at
    };
    others.into_iter().any(lives)
}

/// Returns how it is known that the ring of this replica lacks changes that another live replica has.
pub(super) fn why_contested(own: &RingState, loaded: &Loaded, name: &str) -> Option<String> {
    let (other, known) = loaded.known().find(|(other, known)| *other != name && is_contested_by(own, known))?;
    Some(format!(
        "the key ring of version {} does not descend from version {} of the live replica `{}`, so the store was restored from \
         an older copy and changed; it is used until the lease ends, and no step is taken until \
         `KeyManager::accept_stored` is called on one replica",
        own.version,
        known.head.version,
        shown(other)
    ))
}

/// Returns whether another replica may have made a change that this replica lacks.
pub(super) fn is_behind(local: &Local, loaded: &Loaded) -> bool {
    let own = local.applied.as_ref().map(|applied| applied.state.rank()).unwrap_or_default();
    local.is_divided() || local.stored > own || loaded.highest_rank() > own
}

/// Returns an error if the stored ring is altered or restored, so that nothing may be written over it.
pub(super) fn refuse_altered(local: &Local, loaded: &Loaded) -> Result<(), KeyRingError> {
    let altered = local.applied.as_ref().filter(|applied| !applied.problems.is_empty());
    let altered = altered.map(|applied| applied.problems.join("; "));
    let not_applied = local.not_applied.as_ref().map(|ring| ring.reason.clone());
    let reason = why_restored(local, loaded).or(local.contested.clone()).or(altered).or(not_applied);
    reason.map_or(Ok(()), |reason| Err(KeyRingError::Refused(reason)))
}

/// Returns the last version of `ring` whose changes a replica is known to have. One with another ring has none of them, however high its
/// version is.
pub(super) fn reached(ring: &RingState, known: &Known) -> u64 {
    match ring.history.relation(ring.version, known) {
        Relation::Same | Relation::Descends => known.head.version,
        Relation::Superseded | Relation::Foreign | Relation::Unknown => 0,
    }
}

/// Returns the lowest version of the live replicas. Nothing is known to be everywhere if this replica is not among them.
pub(super) fn lowest_version(ring: &RingState, peers: &[Peer], own: &str, reported: u64) -> u64 {
    let others = peers.iter().filter(|peer| peer.name != own).map(|peer| peer.reached(ring));
    others.chain([reported]).min().unwrap_or(0)
}

pub(super) fn lagging(ring: &RingState, peers: &[Peer], own: &str) -> Vec<String> {
    let behind = peers.iter().filter(|peer| peer.name != own && peer.reached(ring) < ring.version);
    behind.map(|peer| peer.name.clone()).collect()
}

impl Peer {
    /// Returns the last version of `ring` that the replica has, by its own account if its lease is not authentic.
    fn reached(&self, ring: &RingState) -> u64 {
        self.known.as_ref().map_or(self.version, |known| reached(ring, known))
    }
}

/// Returns the name of a replica in a form that is safe in a log.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(64).collect::<String>().escape_debug().to_string()
}
