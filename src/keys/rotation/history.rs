//! [`History`]: which versions a ring descends from, so that a restored copy that was changed is not taken for a newer ring.

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

/// The mark of a version of a ring, and the versions that it descends from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    pub(super) mark: String,
    /// The latest ones, with those first that this version replaced.
    pub(super) earlier: Vec<Head>,
    /// The version in which an operator last accepted a stored ring, or 0. It takes the place of all up to it, whatever they are.
    pub(super) accepted_in: u64,
}

/// How a ring relates to a version that a replica has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It is this version.
    Same,
    /// It descends from this version, so it has each of its changes.
    Descends,
    /// It does not descend from this version, but an operator accepted it, or one before it, in the place of this version.
    Superseded,
    /// It does not descend from this version.
    Foreign,
    /// The version is so old that the ring does not name it any more.
    Unknown,
}

impl History {
    /// Returns how the ring with this history and this version relates to `known`.
    pub(super) fn relation(&self, version: u64, known: &Head) -> Relation {
        if known.version == version && known.mark == self.mark {
            return Relation::Same;
        }
        if self.earlier.contains(known) {
            return Relation::Descends;
        }
        if known.version <= self.accepted_in {
            return Relation::Superseded;
        }
        let oldest = self.earlier.iter().map(|head| head.version).min().unwrap_or(0);
        if self.earlier.len() >= MAX_EARLIER && known.version <= oldest {
            return Relation::Unknown;
        }
        Relation::Foreign
    }

    /// Returns the history of a version that replaces `version`, which has this history.
    pub(super) fn next(&self, version: u64) -> Result<Self, KeyError> {
        let mut next = Self { mark: random_mark()?, ..self.clone() };
        next.adopt(Some(Head { version, mark: self.mark.clone() }), &[]);
        Ok(next)
    }

    /// Lets the ring count as a descendant of these versions as well: `heads`, and then `earlier` ones.
    pub(super) fn adopt(&mut self, heads: impl IntoIterator<Item = Head>, earlier: &[Head]) {
        let mut rest = [earlier, &self.earlier].concat();
        rest.sort_by_key(|head| std::cmp::Reverse(head.version));
        self.earlier.clear();
        for head in heads.into_iter().chain(rest) {
            // A ring that was never saved has no mark.
            if !head.mark.is_empty() && !self.earlier.contains(&head) {
                self.earlier.push(head);
            }
        }
        self.earlier.truncate(MAX_EARLIER);
    }

    /// Returns the highest version that it names, or 0.
    pub(super) fn highest(&self) -> u64 {
        self.earlier.iter().map(|head| head.version).max().unwrap_or(0)
    }
}

fn random_mark() -> Result<String, KeyError> {
    let mut bits = [0; 12];
    fill_random(&mut bits)
        .ok_or_else(|| KeyError::backend("the system has no random bytes for the mark of a version"))?;
    Ok(URL_SAFE_NO_PAD.encode(bits))
}

#[cfg(test)]
mod tests {
    use super::{Head, History, MAX_EARLIER, Relation};

    /// The history and the head of each version from 1 to `last`.
    fn chain(last: u64) -> Vec<(History, Head)> {
        let mut versions: Vec<(History, Head)> = Vec::new();
        for version in 1..=last {
            let before = versions.last().map(|(history, _)| history.clone()).unwrap_or_default();
            let history = before.next(version - 1).unwrap();
            let head = Head { version, mark: history.mark.clone() };
            versions.push((history, head));
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
    fn a_version_that_an_operator_accepted_supersedes_all_up_to_it_and_none_after_it() {
        let (own, other) = (chain(20), chain(20));
        let mut accepted = own[9].0.next(10).unwrap();
        accepted.accepted_in = 11;
        let later = accepted.next(11).unwrap().next(12).unwrap();
        for (_, head) in &other[..11] {
            assert_eq!(later.relation(13, head), Relation::Superseded);
        }
        for (_, head) in &other[11..] {
            assert_eq!(later.relation(13, head), Relation::Foreign);
        }
        assert_eq!(later.relation(13, &own[9].1), Relation::Descends);
        assert_eq!(own[12].0.relation(13, &Head { version: 11, mark: accepted.mark }), Relation::Foreign);
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

    #[test]
    fn a_version_that_adopts_another_history_descends_from_both_however_long_they_are() {
        let (own, other) = (chain(200), chain(30));
        let (foreign, head) = other.last().unwrap();
        let mut merged = foreign.clone();
        let (before, before_head) = own.last().unwrap();
        merged.adopt(Some(before_head.clone()), &before.earlier);
        let next = merged.next(30).unwrap();
        for known in [head, before_head, &own[190].1] {
            assert_eq!(next.relation(201, known), Relation::Descends);
        }
        assert_eq!(next.highest(), 200);
        assert_eq!(next.earlier.len(), MAX_EARLIER);
    }
}
