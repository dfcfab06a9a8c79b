//! [`Model`]: replicas, a store that is restored, key sets, verifiers and tokens.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::super::history::{Head, Known, Rank};
use super::super::lifecycle::{KeyState, RingState, Waits};
use super::super::stored_ring::{is_contested_by, is_foreign, is_lived_on, reached};
use super::{
    Action, CACHES, CLOCKS, EVERY, LEASE, LEEWAY, LONGEST_TOKEN, Loss, MARGIN, MAX_AGE, REPLICAS, Removed, TICK, USABLE,
};
use crate::keys::{Algorithm, SigningKey, VerifyingKey};

/// Keys are expensive to create in a debug build, so all runs share these.
static KEYS: LazyLock<Vec<VerifyingKey>> =
    LazyLock::new(|| (0..160).map(|_| SigningKey::generate(Algorithm::EdDSA).unwrap().verifying_key()).collect());

#[derive(Default)]
struct Replica {
    runs: bool,
    is_cut: bool,
    has: Option<RingState>,
    /// How much its clock is ahead.
    offset: i64,
    /// The time of the last renewal that was requested, and that of its clock.
    renewed: Option<(u64, i64)>,
    looked_at: u64,
    /// Whether the stored ring is refused, so that the replica takes no step.
    refuses: bool,
    /// The line of its ring.
    line: usize,
    /// The keys that it has accepted, since it followed a ring that an operator accepted.
    accepted: HashSet<String>,
    /// The keys that it has known to be distrusted.
    distrusted: HashSet<String>,
    /// The refused ring that others live on.
    divided_by: Option<Head>,
}

struct Token {
    key_id: String,
    expires: i64,
    line: usize,
}

/// What a verifier fetched.
struct Cache {
    at: u64,
    line: usize,
    keys: Vec<String>,
}

struct Lease {
    known: Known,
    end: u64,
    /// What its replica knows to be distrusted, and since when the lease says so.
    distrusted: Vec<String>,
    since: u64,
}

pub(super) struct Model {
    removed: Removed,
    now: u64,
    pub(super) stored: RingState,
    /// By replica.
    leases: HashMap<usize, Lease>,
    backups: Vec<RingState>,
    /// The number of restores.
    line: usize,
    restored_at: u64,
    /// The last line that an operator accepted. The first one needs no acceptance.
    accepted_line: usize,
    replicas: Vec<Replica>,
    caches: Vec<Option<Cache>>,
    tokens: Vec<Token>,
    distrusted: HashMap<String, u64>,
    /// The keys that replaced a distrusted one before every verifier could have them.
    early: HashSet<String>,
    /// The last time at which a replica served a key set without this key.
    missing: HashMap<String, u64>,
    /// The first step that was too early.
    pub(super) violation: Option<String>,
    created: usize,
    pub(super) rotations: usize,
}

impl Model {
    pub(super) fn new(removed: Removed) -> Self {
        let clocks = if removed.wait_for_clocks { 0 } else { CLOCKS + LEEWAY };
        let waits = Waits {
            before_signing: if removed.wait_before_signing { 0 } else { MAX_AGE + MARGIN },
            before_removal: if removed.wait_before_removal { 0 } else { LONGEST_TOKEN + clocks + MARGIN },
        };
        let mut model = Self {
            removed,
            now: 1_000_000,
            stored: RingState::new(Algorithm::EdDSA, waits),
            leases: HashMap::new(),
            backups: Vec::new(),
            line: 0,
            restored_at: 0,
            accepted_line: 0,
            replicas: (0..REPLICAS).map(|_| Replica::default()).collect(),
            caches: (0..CACHES).map(|_| None).collect(),
            tokens: Vec::new(),
            distrusted: HashMap::new(),
            early: HashSet::new(),
            missing: HashMap::new(),
            violation: None,
            created: 0,
            rotations: 0,
        };
        (0..REPLICAS).for_each(|replica| model.start(replica));
        model
    }

    fn start(&mut self, number: usize) {
        if !self.replicas[number].runs {
            let Replica { is_cut, offset, .. } = self.replicas[number];
            self.replicas[number] = Replica { runs: true, is_cut, offset, ..Replica::default() };
            self.look(number, Loss::Nothing);
        }
    }

    fn is_usable(&self, number: usize) -> bool {
        let replica = &self.replicas[number];
        // By the clock that shows more, as `Moment::since`.
        let wall = self.now.cast_signed() + replica.offset;
        let in_time = replica
            .renewed
            .is_some_and(|(at, wall_at)| self.now - at < USABLE && wall - wall_at < USABLE.cast_signed());
        replica.runs && replica.has.is_some() && (in_time || self.removed.stop_when_cut_off)
    }

    /// One exchange with the store, as `Keeper::refresh` does it.
    fn look(&mut self, number: usize, loss: Loss) {
        if !self.replicas[number].runs || self.replicas[number].is_cut || loss == Loss::Everything {
            return;
        }
        let (stored, own) = (self.stored.clone(), self.replicas[number].has.clone());
        self.leases.retain(|_, lease| lease.end > self.now);
        let own_rank = own.as_ref().map(RingState::rank).unwrap_or_default();
        let highest = self.leases.values().map(|lease| lease.known.rank()).max().unwrap_or_default();
        let is_lower = stored.rank() < own_rank.max(highest) && !self.removed.refuse_lower;
        let is_lower_and_followed = self.removed.refuse_lower && stored.rank() < own_rank;
        let may_be_foreign = !is_lower && !self.removed.refuse_foreign && !is_lower_and_followed;
        let is_foreign = may_be_foreign && own.as_ref().is_some_and(|own| is_foreign(own, &stored));
        // What the replica has then, and which others lack changes of it.
        let (mine, contests) = if is_lower { (own.as_ref(), Some(stored.known())) } else { (Some(&stored), None) };
        let others = self.leases.iter().filter(|(other, _)| **other != number).map(|(_, lease)| lease.known.clone());
        let is_divided = is_lower
            && own.as_ref().is_some_and(|own| {
                let others = self.leases.iter().filter(|(other, _)| **other != number).map(|(_, lease)| &lease.known);
                self.replicas[number].divided_by.as_ref() == Some(&stored.head()) || is_lived_on(own, &stored, others)
            });
        self.replicas[number].divided_by = is_divided.then(|| stored.head());
        let mut others = others.chain(contests);
        let is_contested = !is_foreign
            && !self.removed.refuse_foreign
            && !self.removed.contest
            && (is_divided || mine.is_some_and(|mine| others.any(|other| is_contested_by(mine, &other))));
        let refuses = is_lower || is_foreign || is_contested;
        if refuses && self.accepted_line == self.line {
            self.violation = Some(format!("replica {number} refuses version {} of its own ring", stored.version));
        }
        if refuses && own.is_none() {
            // It does not start.
            self.replicas[number].runs = false;
            return;
        }
        let was_usable = self.is_usable(number);
        let stays = self.removed.catch_up && !was_usable && own.is_some();
        if !is_lower && !is_foreign && !stays {
            self.follow(number, &stored);
        }
        if (is_lower || is_foreign)
            && let Some(has) = &mut self.replicas[number].has
        {
            has.repeat_distrusts(&has.lost_distrusts(&stored.distrusted), self.now);
        }
        self.replicas[number].distrusted.extend(stored.distrusted.iter().cloned());
        self.replicas[number].looked_at = self.now;
        self.replicas[number].refuses = refuses;
        if loss == Loss::Renewal {
            return;
        }
        let has = self.replicas[number].has.clone().unwrap();
        let is_behind = !self.removed.refuse_lower && (stored.rank() > has.rank() || highest > has.rank());
        if is_foreign || is_contested || (is_behind && !self.removed.catch_up) {
            if is_foreign || is_contested {
                self.renew_lease(number);
            }
            return;
        }
        self.renew_lease(number);
        self.replicas[number].renewed = Some((self.now, self.now.cast_signed() + self.replicas[number].offset));
        if !refuses {
            self.save(number, loss, |_, _| {});
        }
    }

    /// Lets a replica have the stored ring, with the distrusts that it knows.
    fn follow(&mut self, number: usize, stored: &RingState) {
        let (line, now, replica) = (self.line, self.now, &mut self.replicas[number]);
        let mut has = stored.clone();
        if let Some(own) = &replica.has {
            if own.history.accepted_at < stored.history.accepted_at {
                replica.accepted.clear();
            }
            if !self.removed.repeat_distrusts {
                has.repeat_distrusts(&stored.lost_distrusts(&own.distrusted), now);
            }
        }
        replica.accepted.extend(trusted(&has));
        replica.distrusted.extend(has.distrusted.iter().cloned());
        replica.line = line;
        replica.has = Some(has);
    }

    fn renew_lease(&mut self, number: usize) {
        let Some(has) = &self.replicas[number].has else { return };
        let distrusted = has.distrusted.clone();
        let before = self.leases.get(&number).filter(|lease| lease.end > self.now && lease.distrusted == distrusted);
        let since = before.map_or(self.now, |lease| lease.since);
        self.leases.insert(number, Lease { known: has.known(), end: self.now + LEASE, distrusted, since });
    }

    /// Notes which replicas serve key sets without a trusted key of the ring.
    fn observe_key_sets(&mut self) {
        let keys = trusted(&self.stored);
        for number in 0..REPLICAS {
            let Some(has) = self.replicas[number].has.as_ref().filter(|_| self.is_usable(number)) else { continue };
            let served = trusted(has);
            for key_id in keys.iter().filter(|key_id| !served.contains(key_id)) {
                self.missing.insert(key_id.clone(), self.now);
            }
        }
    }

    /// Checks the steps from the stored ring to the next one against what caches and verifiers can have, whatever the ring knows.
    fn check_steps(&mut self, next: &RingState) {
        if self.accepted_line != self.line {
            // Who changes a restored ring does not know of the others.
            return;
        }
        for before in &self.stored.keys {
            let key_id = before.key_id();
            let after = next.entry(key_id).map(|entry| entry.state);
            let is_signing = before.state == KeyState::Published && after == Some(KeyState::Signing);
            let since = self.missing.get(key_id).copied().unwrap_or(before.since);
            if is_signing && !self.early.contains(key_id) && self.now - since < MAX_AGE {
                self.violation =
                    Some(format!("{key_id} signs {} ms after a cache got a set without it", self.now - since));
            }
            let is_removed = before.state == KeyState::Retired && after.is_none();
            let is_valid = |token: &Token| {
                token.key_id == key_id && self.now.cast_signed() - 5_000 < token.expires + LEEWAY.cast_signed()
            };
            if is_removed && self.tokens.iter().any(is_valid) {
                self.violation = Some(format!("{key_id} is removed while a token of it is valid"));
            }
        }
    }

    /// Takes the steps that are due, after a change of the ring.
    fn save(&mut self, number: usize, loss: Loss, change: impl FnOnce(&mut RingState, u64)) {
        let mut state = self.stored.clone();
        let live = self.leases.values().filter(|lease| lease.end > self.now);
        let lowest = live.map(|lease| reached(&self.stored, &lease.known)).min().unwrap_or(0);
        let lowest = if self.removed.wait_for_replicas { u64::MAX } else { lowest };
        let own_clock = self.now.saturating_add_signed(self.replicas[number].offset);
        let now = if self.removed.clock_of_the_store { own_clock } else { self.now };
        let observed = state.observe(now, lowest);
        let known = self.replicas[number].has.as_ref().filter(|_| !self.removed.repeat_distrusts);
        let repeated = known.map(|has| state.lost_distrusts(&has.distrusted)).unwrap_or_default();
        for key_id in &repeated {
            self.note_early(key_id);
        }
        state.repeat_distrusts(&repeated, now);
        change(&mut state, now);
        let mut created = self.created;
        let mut generate = |_| {
            created += 1;
            Ok::<_, ()>(KEYS[created % KEYS.len()].clone())
        };
        state.advance(now, Some(EVERY), &mut generate).unwrap();
        let signing = |state: &RingState| state.signing().map(|entry| entry.key_id().to_owned());
        let states = |state: &RingState| -> Vec<_> {
            state.keys.iter().map(|entry| (entry.key_id().to_owned(), entry.state)).collect()
        };
        if !observed && repeated.is_empty() && states(&state) == states(&self.stored) {
            return;
        }
        self.rotations += usize::from(signing(&state) != signing(&self.stored));
        self.check_steps(&state);
        self.created = created;
        state.history = self.stored.history.next(self.stored.version).unwrap();
        state.version += 1;
        if loss == Loss::Answer {
            self.stored = state;
            return;
        }
        let has = self.replicas[number].has.as_ref();
        if !(self.removed.catch_up && has.is_some_and(|has| has.version + 1 < state.version)) {
            self.follow(number, &state);
            self.renew_lease(number);
        }
        self.stored = state;
    }

    fn back_up(&mut self) {
        self.backups.insert(0, self.stored.clone());
        self.backups.truncate(3);
    }

    fn restore(&mut self, backup: usize) {
        let Some(backup) = self.backups.get(backup).cloned() else { return };
        self.stored = backup;
        self.leases.clear();
        self.line += 1;
        self.restored_at = self.now;
    }

    /// `KeyManager::accept_stored` on a replica, or with a tool, after no replica uses the ring that it had before the restore without being
    /// in the store again.
    fn accept(&mut self, by: Option<usize>) {
        let replica = by.map(|number| &self.replicas[number]);
        if self.now < self.restored_at + LEASE || replica.is_some_and(|replica| !replica.runs || replica.is_cut) {
            return;
        }
        let own = replica.and_then(|replica| replica.has.clone());
        let mut state = self.stored.clone();
        if let Some(own) = own.as_ref().filter(|_| !self.removed.repeat_distrusts) {
            state.repeat_distrusts(&state.lost_distrusts(&own.distrusted), self.now);
        }
        let known = self.leases.values().filter(|lease| lease.end > self.now).map(|lease| lease.known.rank());
        let known: Vec<Rank> = known.chain(own.as_ref().map(RingState::rank)).chain([state.rank()]).collect();
        let (mut earlier, mut version) = (0, 0);
        for rank in known {
            (earlier, version) = (rank.accepted_at.max(earlier), rank.version.max(version));
        }
        let name = |state: &RingState| state.signing().map(|entry| entry.key_id().to_owned());
        let signing = name(&state);
        if !self.removed.wait_again {
            state.wait_again();
        }
        let mut created = self.created;
        let mut generate = |_| {
            created += 1;
            Ok::<_, ()>(KEYS[created % KEYS.len()].clone())
        };
        state.advance(self.now, Some(EVERY), &mut generate).unwrap();
        self.created = created;
        state.history = self.stored.history.next(self.stored.version).unwrap();
        state.version = version + 1;
        self.accepted_line = self.line;
        // The key that signs in the copy signs at once, although caches may not have it.
        let signing = signing.or_else(|| name(&state)).unwrap();
        let served = (0..REPLICAS)
            .filter(|number| self.is_usable(*number))
            .filter_map(|number| self.replicas[number].has.as_ref());
        let served = served.map(trusted).chain(self.caches.iter().flatten().map(|cache| cache.keys.clone()));
        if served.into_iter().any(|keys| !keys.contains(&signing)) {
            self.early.insert(signing);
        }
        self.check_steps(&state);
        match (self.removed.acceptance_first, self.removed.wait_again) {
            (true, _) => {}
            (_, true) => state.history.accepted_at = self.now.max(earlier + 1),
            _ => state.accept(self.now, earlier),
        }
        self.stored = state.clone();
        if let Some(number) = by {
            self.follow(number, &state);
            self.look(number, Loss::Nothing);
        }
    }

    /// All replicas reach the store again. If the ring is in doubt then, an operator accepts it.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        for number in 0..REPLICAS {
            self.replicas[number].is_cut = false;
            self.replicas[number].offset = 0;
        }
        let wait = Action::Tick { ticks: 90, losing: 0, loss: Loss::Nothing };
        self.act(&wait)?;
        if self.replicas.iter().any(|replica| replica.runs && replica.refuses) && self.accepted_line != self.line {
            self.act(&Action::Accept(None))?;
            self.act(&wait)?;
        }
        for number in 0..REPLICAS {
            self.start(number);
        }
        // The last tick may have taken a step.
        for _ in 0..5 {
            self.act(&Action::Tick { ticks: 1, losing: 0, loss: Loss::Nothing })?;
            let follows = |replica: &Replica| replica.has.as_ref().map(RingState::head) == Some(self.stored.head());
            if self.replicas.iter().enumerate().all(|(number, replica)| follows(replica) && self.is_usable(number)) {
                return Ok(());
            }
        }
        Err("a replica does not follow the ring after all can reach the store".to_owned())
    }

    pub(super) fn act(&mut self, action: &Action) -> Result<(), String> {
        match action {
            Action::Tick { ticks, losing, loss } => {
                for _ in 0..*ticks {
                    self.now += TICK;
                    for number in 0..REPLICAS {
                        self.look(number, if losing >> number & 1 == 0 { Loss::Nothing } else { *loss });
                    }
                    self.observe_key_sets();
                }
            }
            Action::SetClock { replica, offset } => self.replicas[*replica].offset = *offset,
            Action::Issue { replica, skew, life } => self.issue(*replica, *skew, *life),
            Action::Verify { cache, from, token, skew } => return self.verify(*cache, *from, *token, *skew),
            Action::VerifyLocally { replica, token, skew } => return self.verify_locally(*replica, *token, *skew),
            Action::Cut(number) => self.replicas[*number].is_cut = true,
            Action::Heal(number) => self.replicas[*number].is_cut = false,
            Action::Kill(number) => self.replicas[*number].runs = false,
            Action::Start(number) => self.start(*number),
            Action::Rotate(number) => {
                self.look(*number, Loss::Nothing);
                if self.may_change(*number) {
                    self.save(*number, Loss::Nothing, |state, now| drop(state.rotate_now(now)));
                }
            }
            Action::Distrust { replica, key } => self.distrust(*replica, *key),
            Action::BackUp => self.back_up(),
            Action::Restore(backup) => self.restore(*backup),
            Action::Accept(by) => self.accept(*by),
        }
        Ok(())
    }

    /// Returns whether a command of an operator is possible on a replica that has just looked.
    fn may_change(&self, number: usize) -> bool {
        let replica = &self.replicas[number];
        self.is_usable(number) && !replica.is_cut && !replica.refuses
    }

    fn issue(&mut self, number: usize, skew: i64, life: u64) {
        let Some(has) = self.replicas[number].has.as_ref().filter(|_| self.is_usable(number)) else { return };
        let Some(signing) = has.signing() else { return };
        let dated = self.now.cast_signed() + skew + 3_000;
        let (expires, key_id) = (dated + life.cast_signed(), signing.key_id().to_owned());
        self.tokens.push(Token { key_id, expires, line: self.replicas[number].line });
    }

    /// Returns one of the last tokens, unless it has expired by the clock of the verifier.
    fn valid(&self, token: usize, skew: i64) -> Option<&Token> {
        let token = self.tokens.iter().rev().nth(token)?;
        (self.now.cast_signed() + skew < token.expires + LEEWAY.cast_signed()).then_some(token)
    }

    /// A remote verifier whose cache honours `max-age` to the millisecond.
    fn verify(&mut self, cache: usize, from: usize, token: usize, skew: i64) -> Result<(), String> {
        let is_fresh = self.caches[cache].as_ref().is_some_and(|cache| self.now - cache.at < MAX_AGE);
        if !is_fresh {
            // Without a replica that answers, the verifier answers 503.
            let Some(has) = self.replicas[from].has.as_ref().filter(|_| self.is_usable(from)) else { return Ok(()) };
            self.caches[cache] = Some(Cache { at: self.now, line: self.replicas[from].line, keys: trusted(has) });
        }
        let (Some(cache), Some(token)) = (&self.caches[cache], self.valid(token, skew)) else { return Ok(()) };
        let is_known = cache.keys.contains(&token.key_id) || cache.line != token.line;
        if is_known || self.distrusted.contains_key(&token.key_id) || self.early.contains(&token.key_id) {
            Ok(())
        } else {
            Err(format!("a remote verifier refused a valid token of {}", token.key_id))
        }
    }

    fn verify_locally(&mut self, number: usize, token: usize, skew: i64) -> Result<(), String> {
        let Some(has) = self.replicas[number].has.as_ref().filter(|_| self.is_usable(number)) else { return Ok(()) };
        let Some(token) = self.valid(token, skew) else { return Ok(()) };
        let (key_id, replica) = (&token.key_id, &self.replicas[number]);
        let accepts = trusted(has).contains(key_id);
        let Some(at) = self.distrusted.get(key_id) else {
            let is_own = token.line == replica.line || replica.accepted.contains(key_id);
            return if is_own && !accepts && !self.early.contains(key_id) {
                Err(format!("a replica refused a valid token of {key_id}"))
            } else {
                Ok(())
            };
        };
        if !accepts {
            return Ok(());
        }
        // Another replica has said in the store, for as long as a lease is used, that it knows better.
        let says = |lease: &Lease| {
            let is_known = lease.end > self.now && self.now - lease.since > USABLE + 2 * TICK;
            is_known && lease.distrusted.contains(key_id)
        };
        let was_told = self.leases.iter().any(|(other, lease)| *other != number && says(lease));
        let is_undisturbed =
            self.restored_at < *at && replica.line == self.line && (replica.looked_at > *at || self.now - at > LEASE);
        if replica.distrusted.contains(key_id) || was_told || is_undisturbed {
            return Err(format!("a replica accepted the distrusted key {key_id}"));
        }
        Ok(())
    }

    /// Notes which keys may sign before their time when this key is distrusted.
    fn note_early(&mut self, key_id: &str) {
        if self.stored.signing().is_some_and(|entry| entry.key_id() == key_id) {
            let may_sign = |entry| self.stored.may_sign_at(entry).is_some_and(|at| at <= self.now);
            let early = self.stored.keys.iter().filter(|entry| !may_sign(entry));
            self.early.extend(early.map(|entry| entry.key_id().to_owned()));
            self.early.insert(KEYS[(self.created + 1) % KEYS.len()].key_id().to_owned());
        }
    }

    fn distrust(&mut self, number: usize, key: usize) {
        self.look(number, Loss::Nothing);
        if !self.may_change(number) {
            return;
        }
        let Some(key_id) = self.stored.keys.get(key).map(|entry| entry.key_id().to_owned()) else { return };
        self.distrusted.entry(key_id.clone()).or_insert(self.now);
        self.note_early(&key_id);
        if !self.removed.distrust_follows {
            self.save(number, Loss::Nothing, |state, now| drop(state.distrust(&key_id, now)));
        }
    }
}

fn trusted(state: &RingState) -> Vec<String> {
    let trusted = state.keys.iter().filter(|entry| entry.state.is_trusted());
    trusted.map(|entry| entry.key_id().to_owned()).collect()
}
