//! Decisions about the stored ring: whether it was restored, whether this replica is behind, and which replicas are waited for.

use super::KeyRingError;
use super::keeper::Local;
use super::store::StoredRing;

/// Returns how it is known that the store was restored from an older copy: this replica or another live one has a higher
/// version. `None` if it was not, or if an operator accepts it.
pub(super) fn why_restored(local: &Local, stored: &StoredRing) -> Option<String> {
    let others = stored.replicas.iter().map(|replica| replica.version);
    let known = local.applied.iter().map(|applied| applied.state.version).chain(others).max()?;
    (stored.version < known && !local.accepts_stored).then(|| {
        format!(
            "the stored ring has version {}, and a live replica has {known}, so the store was restored from an older copy; the \
             known ring is used until `KeyManager::accept_stored` is called, and no replica can start",
            stored.version
        )
    })
}

/// Returns whether the ring has a version that this replica could not apply: one in the store, or that of a live replica.
pub(super) fn is_behind(local: &Local, stored: &StoredRing) -> bool {
    let own = local.applied.as_ref().map_or(0, |applied| applied.state.version);
    let others = stored.replicas.iter().map(|replica| replica.version);
    !local.accepts_stored && others.chain([stored.version]).any(|version| version > own)
}

/// Returns an error if the stored ring is altered or restored, so that nothing may be written over it.
pub(super) fn refuse_altered(local: &Local, stored: &StoredRing) -> Result<(), KeyRingError> {
    let altered = local.applied.as_ref().filter(|applied| !applied.problems.is_empty());
    let altered = altered.map(|applied| applied.problems.join("; ")).or(local.unreadable.clone());
    why_restored(local, stored).or(altered).map_or(Ok(()), |reason| Err(KeyRingError::Refused(reason)))
}

/// Returns the lowest version of the live replicas. Nothing is known to be everywhere if this replica is not among them.
pub(super) fn lowest_version(stored: &StoredRing, own: &str, reported: u64) -> u64 {
    let others = stored.replicas.iter().filter(|replica| replica.name != own).map(|replica| replica.version);
    others.chain([reported]).min().unwrap_or(0)
}

pub(super) fn lagging(stored: &StoredRing, own: &str, version: u64) -> Vec<String> {
    let behind = stored.replicas.iter().filter(|replica| replica.name != own && replica.version < version);
    behind.map(|replica| replica.name.clone()).collect()
}
