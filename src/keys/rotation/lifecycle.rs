//! [`RingState`]: the states of the keys of a ring, and the times of their steps. It decides, and touches nothing else.
//!
//! All times are in milliseconds since 1970, by the clock of the key store.

use super::history::{Head, History, Known, Rank};
use crate::keys::{Algorithm, VerifyingKey};

/// The state of a key in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    /// It is in the key set and trusted, and does not sign yet.
    Published,
    /// It signs.
    Signing,
    /// It signs no more, and stays in the key set as long as a token of it may be valid.
    Retired,
    /// It leaked or is suspected to have leaked: it is neither published nor accepted. The entry only remembers this.
    Distrusted,
}

impl KeyState {
    /// Returns a short name that never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Signing => "signing",
            Self::Retired => "retired",
            Self::Distrusted => "distrusted",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Published, Self::Signing, Self::Retired, Self::Distrusted].into_iter().find(|state| state.name() == name)
    }

    /// Returns whether a key in this state is published and accepted.
    pub(super) const fn is_trusted(self) -> bool {
        !matches!(self, Self::Distrusted)
    }
}

/// The waiting times from which the times of all steps follow, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waits {
    /// From the time that all replicas publish a key until it may sign: caches then have it.
    pub(super) before_signing: u64,
    /// From the time that no replica signs with a key until it may go: its last token has expired everywhere.
    pub(super) before_removal: u64,
}

impl Waits {
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            before_signing: self.before_signing.max(other.before_signing),
            before_removal: self.before_removal.max(other.before_removal),
        }
    }
}

/// A key of a ring.
#[derive(Clone, Debug)]
pub(super) struct KeyEntry {
    pub(super) public: VerifyingKey,
    pub(super) state: KeyState,
    /// The time at which it got this state.
    pub(super) since: u64,
    /// The version of the ring in which it got this state.
    pub(super) since_version: u64,
    /// The time at which every live replica was seen to have this state.
    pub(super) everywhere_at: Option<u64>,
}

impl KeyEntry {
    pub(super) fn key_id(&self) -> &str {
        self.public.key_id()
    }
}

/// The keys of a ring and their states.
#[derive(Clone, Debug)]
pub(super) struct RingState {
    pub(super) version: u64,
    /// The earlier versions whose changes it has.
    pub(super) history: History,
    pub(super) waits: Waits,
    /// The algorithm of the keys that are generated.
    pub(super) algorithm: Algorithm,
    /// Whether the next key signs as soon as it may, independent of the schedule.
    pub(super) rotate: bool,
    /// The names of all keys that were ever distrusted. They never become trusted again.
    pub(super) distrusted: Vec<String>,
    /// In the order in which they were added.
    pub(super) keys: Vec<KeyEntry>,
}

/// A step of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) key_id: String,
    /// `None` if the key is gone.
    pub(super) state: Option<KeyState>,
}

/// The step is too early, or impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooEarly {
    /// It is possible from this time on.
    Until(u64),
    /// Not all live replicas have the key or its state yet. Afterwards it takes this long.
    NotEverywhere { then: u64 },
    /// There is no such key.
    NoKey,
    /// It would leave the ring without a key that signs.
    Signs,
    /// The key was distrusted.
    Distrusted,
}

/// Returns a new key of an algorithm, and keeps its private half.
pub(super) type Generate<'a, E> = &'a mut dyn FnMut(Algorithm) -> Result<VerifyingKey, E>;

impl RingState {
    /// Creates an empty ring, which [`advance`](Self::advance) fills.
    pub(super) fn new(algorithm: Algorithm, waits: Waits) -> Self {
        let (history, distrusted) = (History::default(), Vec::new());
        Self { version: 0, history, waits, algorithm, rotate: false, distrusted, keys: Vec::new() }
    }

    pub(super) fn head(&self) -> Head {
        Head { version: self.version, mark: self.history.mark.clone() }
    }

    /// Returns what a replica with this ring has.
    pub(super) fn known(&self) -> Known {
        Known { head: self.head(), accepted_at: self.history.accepted_at }
    }

    pub(super) fn rank(&self) -> Rank {
        Rank { accepted_at: self.history.accepted_at, version: self.version }
    }

    /// Lets each wait begin again: what the ring knows of replicas and caches is that of another time.
    pub(super) fn wait_again(&mut self) {
        for entry in &mut self.keys {
            (entry.since_version, entry.everywhere_at) = (self.version, None);
        }
    }

    /// Marks this version of the ring as accepted by an operator at this time, and after `earlier`.
    pub(super) fn accept(&mut self, now: u64, earlier: u64) {
        self.history.accepted_at = now.max(earlier.saturating_add(1));
        self.wait_again();
    }

    pub(super) fn signing(&self) -> Option<&KeyEntry> {
        self.in_state(KeyState::Signing).next()
    }

    /// Returns the key that signs next: the one that was published first.
    pub(super) fn next(&self) -> Option<&KeyEntry> {
        self.in_state(KeyState::Published).next()
    }

    pub(super) fn entry(&self, key_id: &str) -> Option<&KeyEntry> {
        self.keys.iter().find(|entry| entry.key_id() == key_id)
    }

    fn in_state(&self, state: KeyState) -> impl Iterator<Item = &KeyEntry> {
        self.keys.iter().filter(move |entry| entry.state == state)
    }

    /// Returns the time from which a published key may sign. `None` if it is not published everywhere yet.
    pub(super) fn may_sign_at(&self, entry: &KeyEntry) -> Option<u64> {
        entry.everywhere_at.map(|at| at.saturating_add(self.waits.before_signing))
    }

    /// Returns the time from which a retired key may go. `None` if a live replica may still sign with it.
    pub(super) fn may_go_at(&self, entry: &KeyEntry) -> Option<u64> {
        match entry.state {
            KeyState::Retired => entry.everywhere_at.map(|at| at.saturating_add(self.waits.before_removal)),
            // It is not published; only the memory of it is kept for a while.
            KeyState::Distrusted => Some(entry.since.saturating_add(self.waits.before_removal)),
            KeyState::Published | KeyState::Signing => None,
        }
    }

    /// Returns the time of the next step by the schedule, if it is known.
    pub(super) fn next_step_at(&self, every: Option<u64>) -> Option<u64> {
        let goes = self.keys.iter().filter_map(|entry| self.may_go_at(entry)).min();
        let may_sign = self.next().and_then(|next| self.may_sign_at(next));
        let due = if self.rotate { Some(0) } else { self.due_at(every) };
        let signs = may_sign.zip(due).map(|(may_sign, due)| may_sign.max(due));
        goes.into_iter().chain(signs).min()
    }

    /// Returns the time at which the schedule replaces the signing key.
    fn due_at(&self, every: Option<u64>) -> Option<u64> {
        Some(self.signing()?.since.saturating_add(every?))
    }

    /// Records that every live replica has at least this version. Returns whether anything changed.
    pub(super) fn observe(&mut self, now: u64, lowest_version: u64) -> bool {
        let mut changed = false;
        for entry in &mut self.keys {
            if entry.everywhere_at.is_none() && entry.since_version <= lowest_version {
                entry.everywhere_at = Some(now);
                changed = true;
            }
        }
        changed
    }

    /// Takes all steps that are due by the schedule. The caller saves the result under the next version.
    pub(super) fn advance<E>(
        &mut self,
        now: u64,
        every: Option<u64>,
        generate: Generate<'_, E>,
    ) -> Result<Vec<Step>, E> {
        let mut steps = self.remove_old(now);
        if self.signing().is_none() {
            // A new ring: no one has its key set yet, and no token is signed.
            if let Some(next) = self.next().map(|next| next.key_id().to_owned()) {
                self.promote(&next, now, &mut steps);
            } else {
                let key = generate(self.algorithm)?;
                self.add(key, KeyState::Signing, now, &mut steps);
            }
        }
        let is_due = self.rotate || self.due_at(every).is_some_and(|due| due <= now);
        if is_due && let Some(next) = self.next_that_may_sign(now) {
            self.promote(&next, now, &mut steps);
        }
        if self.next().is_none() {
            let key = generate(self.algorithm)?;
            self.add(key, KeyState::Published, now, &mut steps);
        }
        Ok(steps)
    }

    fn next_that_may_sign(&self, now: u64) -> Option<String> {
        let next = self.next()?;
        self.may_sign_at(next).filter(|at| *at <= now).map(|_| next.key_id().to_owned())
    }

    /// Lets the next key sign at once, if it may.
    pub(super) fn rotate_now(&mut self, now: u64) -> Result<Vec<Step>, TooEarly> {
        let next = self.next().ok_or(TooEarly::NoKey)?;
        match self.may_sign_at(next) {
            None => return Err(TooEarly::NotEverywhere { then: self.waits.before_signing }),
            Some(at) if at > now => return Err(TooEarly::Until(at)),
            Some(_) => {}
        }
        let (next, mut steps) = (next.key_id().to_owned(), Vec::new());
        self.promote(&next, now, &mut steps);
        Ok(steps)
    }

    /// Publishes a key that someone else created. It signs after those that were published before it.
    pub(super) fn publish(&mut self, key: VerifyingKey, now: u64) -> Result<Vec<Step>, TooEarly> {
        let mut steps = Vec::new();
        if self.distrusted.iter().any(|key_id| key_id == key.key_id()) {
            return Err(TooEarly::Distrusted);
        }
        if self.entry(key.key_id()).is_none() {
            self.add(key, KeyState::Published, now, &mut steps);
        }
        Ok(steps)
    }

    /// Removes published keys that have not signed, so that a key of another algorithm is generated.
    pub(super) fn set_algorithm(&mut self, algorithm: Algorithm) -> Vec<Step> {
        self.algorithm = algorithm;
        self.rotate = true;
        self.remove_where(|entry| entry.state == KeyState::Published && entry.public.algorithm() != algorithm)
    }

    /// Removes the published keys that have not signed and that `goes` selects by their names.
    pub(super) fn remove_unsigned(&mut self, goes: impl Fn(&str) -> bool) -> Vec<Step> {
        self.remove_where(|entry| entry.state == KeyState::Published && goes(entry.key_id()))
    }

    /// Lets a published key sign without a wait, since an earlier process published it.
    pub(super) fn start_signing(&mut self, key_id: &str, now: u64) {
        if self.entry(key_id).is_some_and(|entry| entry.state == KeyState::Published) {
            self.promote(key_id, now, &mut Vec::new());
        }
    }

    /// Removes a key before the schedule does, if it may go.
    pub(super) fn remove(&mut self, key_id: &str, now: u64) -> Result<Vec<Step>, TooEarly> {
        let entry = self.entry(key_id).ok_or(TooEarly::NoKey)?;
        match entry.state {
            KeyState::Signing => return Err(TooEarly::Signs),
            // It has never signed.
            KeyState::Published => {}
            KeyState::Retired | KeyState::Distrusted => match self.may_go_at(entry) {
                None => return Err(TooEarly::NotEverywhere { then: self.waits.before_removal }),
                Some(at) if at > now => return Err(TooEarly::Until(at)),
                Some(_) => {}
            },
        }
        Ok(self.remove_where(|entry| entry.key_id() == key_id))
    }

    /// Distrusts a key, whatever its state. If it signs, the next key signs at once, even if caches do not have it yet: tokens
    /// that some verifiers cannot check yet are better than a key that someone else has.
    pub(super) fn distrust(&mut self, key_id: &str, now: u64) -> Result<Vec<Step>, TooEarly> {
        let (version, mut steps) = (self.next_version(), Vec::new());
        let entry = self.keys.iter_mut().find(|entry| entry.key_id() == key_id).ok_or(TooEarly::NoKey)?;
        if entry.state == KeyState::Distrusted {
            return Ok(steps);
        }
        entry.set(KeyState::Distrusted, now, version);
        self.remember_distrusted(key_id);
        steps.push(Step { key_id: key_id.to_owned(), state: Some(KeyState::Distrusted) });
        if self.signing().is_none()
            && let Some(next) = self.best_replacement()
        {
            self.promote(&next, now, &mut steps);
        }
        Ok(steps)
    }

    fn remember_distrusted(&mut self, key_id: &str) {
        if !self.distrusted.iter().any(|known| known == key_id) {
            self.distrusted.push(key_id.to_owned());
        }
    }

    /// Returns which of these keys this ring does not know to be distrusted.
    pub(super) fn lost_distrusts(&self, distrusted: &[String]) -> Vec<String> {
        let trusts = |key_id: &str| self.entry(key_id).is_some_and(|entry| entry.state.is_trusted());
        let is_lost = |key_id: &&String| trusts(key_id) || !self.distrusted.contains(key_id);
        distrusted.iter().filter(is_lost).cloned().collect()
    }

    /// Distrusts keys that were distrusted in a version of the ring that was lost.
    pub(super) fn repeat_distrusts(&mut self, key_ids: &[String], now: u64) -> Vec<Step> {
        let mut steps = Vec::new();
        for key_id in key_ids {
            match self.distrust(key_id, now) {
                Ok(more) if !more.is_empty() => steps.extend(more),
                // The ring does not have the key now.
                _ => {
                    self.remember_distrusted(key_id);
                    steps.push(Step { key_id: key_id.clone(), state: Some(KeyState::Distrusted) });
                }
            }
        }
        steps
    }

    /// Returns the published key that most verifiers have: the one that was published everywhere first.
    fn best_replacement(&self) -> Option<String> {
        let published = self.in_state(KeyState::Published);
        let best = published.min_by_key(|entry| (entry.everywhere_at.unwrap_or(u64::MAX), entry.since));
        best.map(|entry| entry.key_id().to_owned())
    }

    fn next_version(&self) -> u64 {
        self.version.saturating_add(1)
    }

    fn add(&mut self, public: VerifyingKey, state: KeyState, now: u64, steps: &mut Vec<Step>) {
        steps.push(Step { key_id: public.key_id().to_owned(), state: Some(state) });
        let since_version = self.next_version();
        self.keys.push(KeyEntry { public, state, since: now, since_version, everywhere_at: None });
    }

    /// Lets a key sign. The one that signed retires.
    fn promote(&mut self, key_id: &str, now: u64, steps: &mut Vec<Step>) {
        let version = self.next_version();
        self.rotate = false;
        for entry in &mut self.keys {
            let state = match entry.state {
                KeyState::Signing => KeyState::Retired,
                KeyState::Published if entry.key_id() == key_id => KeyState::Signing,
                _ => continue,
            };
            entry.set(state, now, version);
            steps.push(Step { key_id: entry.key_id().to_owned(), state: Some(state) });
        }
    }

    pub(super) fn remove_old(&mut self, now: u64) -> Vec<Step> {
        let old: Vec<String> = self
            .keys
            .iter()
            .filter(|entry| self.may_go_at(entry).is_some_and(|at| at <= now))
            .map(|entry| entry.key_id().to_owned())
            .collect();
        self.remove_where(|entry| old.iter().any(|key_id| key_id == entry.key_id()))
    }

    fn remove_where(&mut self, goes: impl Fn(&KeyEntry) -> bool) -> Vec<Step> {
        let mut steps = Vec::new();
        self.keys.retain(|entry| {
            if goes(entry) {
                steps.push(Step { key_id: entry.key_id().to_owned(), state: None });
            }
            !goes(entry)
        });
        steps
    }
}

impl KeyEntry {
    fn set(&mut self, state: KeyState, now: u64, version: u64) {
        self.state = state;
        self.since = now;
        self.since_version = version;
        self.everywhere_at = None;
    }
}
