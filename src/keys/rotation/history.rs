//! [`History`]: which versions a ring descends from, so that a restored copy that was changed is not taken for a newer ring.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::crypto::fill_random;
use crate::keys::KeyError;

/// How many earlier versions a ring names. A rotation takes three or four versions.
pub(super) const MAX_EARLIER: usize = 64;

/// One version of a ring. Versions of two histories can have the same number, and never have the same mark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) version: u64,
    /// A random name of this version.
    pub(super) mark: String,
}

/// The place of a ring in the order of all rings with its name: the last acceptance by an operator counts more than any number of
/// versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) accepted_at: u64,
    pub(super) version: u64,
}

/// What a replica has, as it proves with its lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) head: Head,
    /// The [`accepted_at`](History::accepted_at) of its ring.
    pub(super) accepted_at: u64,
}

impl Known {
    pub(super) fn rank(&self) -> Rank {
        Rank { accepted_at: self.accepted_at, version: self.head.version }
    }
}

/// The mark of a version of a ring, and the versions that it descends from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) mark: String,
    /// The latest ones, with those first that this version replaced.
    pub(super) earlier: Vec<Head>,
    /// When an operator last accepted a stored ring, or 0: later than each acceptance before. The ring takes the place of all that were not
    /// accepted, or earlier, whatever their versions are.
    pub(super) accepted_at: u64,
}

/// How a ring relates to a version that a replica has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is this version.
    Same,
    /// It descends from this version, so it has each of its changes.
    Descends,
    /// It does not descend from this version, but an operator accepted it, or one before it, since.
    Superseded,
    /// It does not descend from this version.
    Foreign,
    /// The version is so old that the ring does not name it any more.
    Unknown,
}

impl History {
    /// Returns how the ring with this history and this version relates to what a replica has.
    pub(super) fn relation(&self, version: u64, known: &Known) -> Relation {
        let Known { head: known, accepted_at } = known;
        if known.version == version && known.mark == self.mark {
            return Relation::Same;
        }
        if self.earlier.contains(known) {
            return Relation::Descends;
        }
        match accepted_at.cmp(&self.accepted_at) {
            Ordering::Less => return Relation::Superseded,
            Ordering::Equal => {}
            Ordering::Greater => return Relation::Foreign,
        }
        let oldest = self.earlier.iter().map(|head| head.version).min().unwrap_or(0);
        if self.earlier.len() >= MAX_EARLIER && known.version <= oldest {
            return Relation::Unknown;
        }
        Relation::Foreign
    }

    /// Returns the history of a version that replaces `version`, which has this history.
    pub(super) fn next(&self, version: u64) -> Result<Self, KeyError> {
        let mut next = Self { mark: random_text()?, ..self.clone() };
        // A ring that was never saved has no mark.
        if !self.mark.is_empty() {
            next.earlier.insert(0, Head { version, mark: self.mark.clone() });
            next.earlier.truncate(MAX_EARLIER);
        }
        Ok(next)
    }
}

/// Returns a random text that no one guesses or repeats: the mark of a version, or the name of a replica.
pub(super) fn random_text() -> Result<String, KeyError> {
    let mut bits = [0; 12];
    fill_random(&mut bits).ok_or_else(|| {
        KeyError::backend("the system has no random bytes for a version or a replica of the key ring")
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bits))
}

#[cfg(test)]
mod tests {
    use super::{Head, History, Known, MAX_EARLIER, Relation};

    /// The history of each version from 1 to `last`, and what a replica with it has.
    fn chain(last: u64) -> Vec<(History, Known)> {
        continued(&History::default(), 1..=last)
    }

    fn continued(from: &History, numbers: impl Iterator<Item = u64>) -> Vec<(History, Known)> {
        let mut versions: Vec<(History, Known)> = Vec::new();
        for version in numbers {
            let before = versions.last().map_or(from, |(history, _)| history);
            let history = before.next(version - 1).unwrap();
            let head = Head { version, mark: history.mark.clone() };
            let known = Known { head, accepted_at: history.accepted_at };
            versions.push((history, known));
        }
        versions
    }

    #[test]
    fn a_version_descends_from_all_before_it_and_from_none_of_another_history() {
        let (own, other) = (chain(20), chain(20));
        let (last, head) = own.last().unwrap();
        assert_eq!(last.relation(20, head), Relation::Same);
        for (_, earlier) in &own[..19] {
            assert_eq!(last.relation(20, earlier), Relation::Descends);
        }
        for (_, foreign) in &other {
            assert_eq!(last.relation(20, foreign), Relation::Foreign);
        }
        let (middle, _) = &own[10];
        assert_eq!(middle.relation(11, head), Relation::Foreign, "it lacks the later changes");
    }

    #[test]
    fn a_ring_that_an_operator_accepted_supersedes_all_that_were_not_accepted_or_earlier_and_no_other() {
        let (own, other) = (chain(20), chain(20));
        let accepted = History { accepted_at: 7, ..own[9].0.clone() };
        let (here, elsewhere) = (continued(&accepted, 11..=14), continued(&accepted, 11..=14));
        let (last, _) = &here[3];
        for (_, known) in other.iter().chain(&own[10..]) {
            assert_eq!(last.relation(14, known), Relation::Superseded, "whatever its version is");
        }
        assert_eq!(last.relation(14, &own[9].1), Relation::Descends);
        for (_, known) in &elsewhere {
            assert_eq!(last.relation(14, known), Relation::Foreign, "it was changed after the same acceptance");
        }
        for (history, known) in [(&own[19].0, &here[0].1), (&here[3].0, &Known { accepted_at: 8, ..own[19].1.clone() })]
        {
            assert_eq!(history.relation(20, known), Relation::Foreign, "it was accepted later");
        }
    }

    #[test]
    fn a_history_is_bounded_and_does_not_guess_about_versions_that_it_no_longer_names() {
        let (own, other) = (chain(200), chain(200));
        let (last, _) = own.last().unwrap();
        assert_eq!(last.earlier.len(), MAX_EARLIER);
        assert_eq!(last.relation(200, &own[198].1), Relation::Descends);
        assert_eq!(last.relation(200, &own[10].1), Relation::Unknown);
        assert_eq!(last.relation(200, &other[10].1), Relation::Unknown);
        assert_eq!(last.relation(200, &other[190].1), Relation::Foreign);
    }
}
