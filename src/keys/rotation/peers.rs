//! [`Peer`]: a replica that is alive, as far as its lease is authentic.

use super::history::Head;
use super::key_encryption::{KeyEncryptionKey, Sealed};
use super::store::{Replica, StoredRing};
use super::unambiguous::unambiguous;
use crate::keys::KeyError;

/// A live replica. One whose lease is not authentic is waited for, and is no evidence of anything else.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    /// The version that it publishes, by its own account.
    pub(super) version: u64,
    /// The mark of this version. `None` if the lease is not authentic.
    mark: Option<String>,
}

/// What the store returned, with the leases checked.
pub(super) struct Loaded {
    pub(super) stored: StoredRing,
    pub(super) peers: Vec<Peer>,
}

impl Loaded {
    pub(super) fn new(ring: &str, mut stored: StoredRing, by: &KeyEncryptionKey) -> Self {
        let check = |Replica { name, version, proof }: Replica| {
            let mark = mark_of(ring, &name, version, &proof, by);
            Peer { name, version, mark }
        };
        let peers = std::mem::take(&mut stored.replicas).into_iter().map(check).collect();
        Self { stored, peers }
    }

    /// Returns the versions of the replicas whose leases are authentic, with their names.
    pub(super) fn heads(&self) -> impl Iterator<Item = (&str, Head)> {
        self.peers.iter().filter_map(|peer| {
            let mark = peer.mark.clone()?;
            Some((peer.name.as_str(), Head { version: peer.version, mark }))
        })
    }

    /// Returns the highest version of a replica whose lease is authentic, or 0.
    pub(super) fn highest_version(&self) -> u64 {
        self.peers.iter().filter(|peer| peer.mark.is_some()).map(|peer| peer.version).max().unwrap_or(0)
    }

    /// Returns the name of a replica whose lease is not authentic.
    pub(super) fn unauthentic(&self) -> Option<&str> {
        self.peers.iter().find(|peer| peer.mark.is_none()).map(|peer| peer.name.as_str())
    }
}

/// Returns the lease of a replica that publishes this version, authenticated with the key-encryption key of that name.
pub(super) fn lease(
    ring: &str,
    name: &str,
    head: &Head,
    by: &KeyEncryptionKey,
    encrypted_by: &str,
) -> Result<Replica, KeyError> {
    let sealed = by.seal_as(encrypted_by, &context(ring, name, head.version, &head.mark), b"")?;
    let proof = format!("{}.{}.{}", sealed.by, head.mark, sealed.text);
    Ok(Replica { name: name.to_owned(), version: head.version, proof })
}

/// Returns the mark in an authentic proof.
fn mark_of(ring: &str, name: &str, version: u64, proof: &str, by: &KeyEncryptionKey) -> Option<String> {
    let mut parts = proof.split('.');
    let (key, mark, text) = (parts.next()?, parts.next()?, parts.next()?);
    let sealed = Sealed { by: key.to_owned(), text: text.to_owned() };
    by.open(&context(ring, name, version, mark), &sealed)?;
    Some(mark.to_owned())
}

fn context(ring: &str, name: &str, version: u64, mark: &str) -> Vec<u8> {
    unambiguous(&["tcc key lease v1", ring, name, &version.to_string(), mark])
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{Head, KeyEncryptionKey, Loaded, Replica, StoredRing, lease};

    fn by(first: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_bytes((first..first + 32).collect::<Vec<u8>>()).unwrap()
    }

    fn heads(replica: &Replica, ring: &str, by: &KeyEncryptionKey) -> Vec<Head> {
        let stored =
            StoredRing { version: 1, document: String::new(), replicas: vec![replica.clone()], now: UNIX_EPOCH };
        let loaded = Loaded::new(ring, stored, by);
        assert_eq!(loaded.peers.len(), 1, "it is waited for in any case");
        loaded.heads().map(|(_, head)| head).collect()
    }

    #[test]
    fn a_lease_is_authentic_only_as_it_was_written_and_for_its_ring() {
        let head = Head { version: 7, mark: "mark".to_owned() };
        let own = lease("ring", "one", &head, &by(1), by(1).name()).unwrap();
        assert_eq!(heads(&own, "ring", &by(1)), [head]);
        let altered = [
            Replica { version: 8, ..own.clone() },
            Replica { name: "other".to_owned(), ..own.clone() },
            Replica { proof: own.proof.replace("mark", "made"), ..own.clone() },
            Replica { proof: String::new(), ..own.clone() },
        ];
        for altered in altered {
            assert!(heads(&altered, "ring", &by(1)).is_empty(), "{altered:?}");
        }
        assert!(heads(&own, "another", &by(1)).is_empty() && heads(&own, "ring", &by(2)).is_empty());
    }

    #[test]
    fn a_replica_with_a_new_key_encryption_key_proves_its_lease_with_that_of_the_ring() {
        let head = Head { version: 7, mark: "mark".to_owned() };
        let both = by(2).also(by(1));
        let own = lease("ring", "one", &head, &both, by(1).name()).unwrap();
        assert_eq!(heads(&own, "ring", &by(1)), [head]);
    }
}
