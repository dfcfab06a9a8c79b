//! [`Peer`]: a replica that is alive, as far as its lease is authentic.

use super::history::{Head, Known, Rank};
use super::key_encryption::{KeyEncryptionKey, Sealed, unambiguous};
use super::store::{Replica, StoredRing};
use crate::keys::KeyError;

/// A live replica. One whose lease is not authentic is waited for, and is no evidence of anything else.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    /// The version that it publishes, by its own account.
    pub(super) version: u64,
    /// What it has. `None` if the lease is not authentic.
    pub(super) known: Option<Known>,
}

/// What the store returned, with the leases checked.
pub(super) struct Loaded {
    pub(super) stored: StoredRing,
    pub(super) peers: Vec<Peer>,
}

impl Loaded {
    pub(super) fn new(ring: &str, mut stored: StoredRing, by: &KeyEncryptionKey) -> Self {
        let check = |Replica { name, version, proof }: Replica| {
            let known = known(ring, &name, version, &proof, by);
            Peer { name, version, known }
        };
        let peers = std::mem::take(&mut stored.replicas).into_iter().map(check).collect();
        Self { stored, peers }
    }

    /// Returns what the replicas have whose leases are authentic, with their names.
    pub(super) fn known(&self) -> impl Iterator<Item = (&str, &Known)> {
        self.peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.known.as_ref()?)))
    }

    /// Returns the highest rank of a replica whose lease is authentic.
    pub(super) fn highest_rank(&self) -> Rank {
        self.known().map(|(_, known)| known.rank()).max().unwrap_or_default()
    }

    /// Returns the highest version of a replica whose lease is authentic, or 0.
    pub(super) fn highest_version(&self) -> u64 {
        self.known().map(|(_, known)| known.head.version).max().unwrap_or(0)
    }

    /// Returns the name of a replica whose lease is not authentic.
    pub(super) fn unauthentic(&self) -> Option<&str> {
        self.peers.iter().find(|peer| peer.known.is_none()).map(|peer| peer.name.as_str())
    }
}

/// Returns the lease of a replica that publishes this version, authenticated with the key-encryption key of that name.
pub(super) fn lease(
    ring: &str,
    name: &str,
    known: &Known,
    by: &KeyEncryptionKey,
    encrypted_by: &str,
) -> Result<Replica, KeyError> {
    let Known { head, accepted_at } = known;
    let sealed = by.seal_as(encrypted_by, &context(ring, name, known), b"")?;
    let mut proof = format!("{}.{}.{}", sealed.by, head.mark, sealed.text);
    // A ring that was never accepted is proved as by versions of this crate that do not know this part.
    if *accepted_at > 0 {
        proof = format!("{proof}.{accepted_at}");
    }
    Ok(Replica { name: name.to_owned(), version: head.version, proof })
}

/// Returns what a replica has, if its proof is authentic.
fn known(ring: &str, name: &str, version: u64, proof: &str, by: &KeyEncryptionKey) -> Option<Known> {
    let mut parts = proof.split('.');
    let (key, mark, text) = (parts.next()?, parts.next()?, parts.next()?);
    let accepted_at = parts.next().map_or(Some(0), |accepted_at| accepted_at.parse().ok())?;
    let known = Known { head: Head { version, mark: mark.to_owned() }, accepted_at };
    by.open(&context(ring, name, &known), &Sealed { by: key.to_owned(), text: text.to_owned() })?;
    Some(known)
}

fn context(ring: &str, name: &str, Known { head, accepted_at }: &Known) -> Vec<u8> {
    let (version, accepted) = (head.version.to_string(), accepted_at.to_string());
    let parts = [ring, name, &version, &head.mark, &accepted];
    if *accepted_at > 0 {
        unambiguous(&[&["tcc key lease v1 accepted at"], &parts[..]].concat())
    } else {
        unambiguous(&[&["tcc key lease v1"], &parts[..4]].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::{Head, KeyEncryptionKey, Known, Loaded, Replica, StoredRing, lease};

    fn by(first: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_bytes((first..first + 32).collect::<Vec<u8>>()).unwrap()
    }

    fn proved(replica: &Replica, ring: &str, by: &KeyEncryptionKey) -> Vec<Known> {
        let stored =
            StoredRing { version: 1, document: String::new(), replicas: vec![replica.clone()], now: UNIX_EPOCH };
        let loaded = Loaded::new(ring, stored, by);
        assert_eq!(loaded.peers.len(), 1, "it is waited for in any case");
        loaded.known().map(|(_, known)| known.clone()).collect()
    }

    #[test]
    fn a_lease_is_authentic_only_as_it_was_written_and_for_its_ring() {
        let head = Head { version: 7, mark: "mark".to_owned() };
        let never = Known { head: head.clone(), accepted_at: 0 };
        let never_accepted = lease("ring", "one", &never, &by(1), by(1).name()).unwrap();
        assert_eq!(proved(&never_accepted, "ring", &by(1)), [never]);
        let known = Known { head, accepted_at: 5 };
        let own = lease("ring", "one", &known, &by(1), by(1).name()).unwrap();
        assert_eq!(proved(&own, "ring", &by(1)), [known]);
        let altered = [
            Replica { proof: own.proof.replace(".5", ".6"), ..own.clone() },
            Replica { proof: own.proof.replace(".5", ""), ..own.clone() },
            Replica { proof: format!("{}.5", never_accepted.proof), ..own.clone() },
            Replica { version: 8, ..own.clone() },
            Replica { name: "other".to_owned(), ..own.clone() },
            Replica { proof: own.proof.replace("mark", "made"), ..own.clone() },
            Replica { proof: String::new(), ..own.clone() },
        ];
        for altered in altered {
            assert!(proved(&altered, "ring", &by(1)).is_empty(), "{altered:?}");
        }
        assert!(proved(&own, "another", &by(1)).is_empty() && proved(&own, "ring", &by(2)).is_empty());
    }

    #[test]
    fn a_replica_with_a_new_key_encryption_key_proves_its_lease_with_that_of_the_ring() {
        let known = Known { head: Head { version: 7, mark: "mark".to_owned() }, accepted_at: 0 };
        let both = by(2).also(by(1));
        let own = lease("ring", "one", &known, &both, by(1).name()).unwrap();
        assert_eq!(proved(&own, "ring", &by(1)), [known]);
    }
}
