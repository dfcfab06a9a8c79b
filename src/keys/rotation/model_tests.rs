//! A model of replicas, verifiers and caches around [`RingState`]: whatever happens in whatever order, a valid token is never
//! refused, and a distrusted key is accepted no longer than its bound. Without any one of the rules, the model fails.
//!
//! Replicas reach the store in ticks, unless they are cut off or messages are lost. For tokens, their clocks differ by 5 seconds from
//! the right time. For everything else, they differ by 30 seconds, and can be set at any time: steps of the ring go by the clock of
//! the store alone, and a lease by the time that passes.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::history::Relation;
use super::lifecycle::{KeyState, RingState, Waits};
use crate::keys::{Algorithm, SigningKey, VerifyingKey};

const TICK: u64 = 500;
const MAX_AGE: u64 = 5_000;
const MARGIN: u64 = 1_000;
const LONGEST_TOKEN: u64 = 20_000;
const LEEWAY: u64 = 5_000;
/// Two clocks that differ by 5 seconds each from the right time, and a token that is dated 3 seconds ahead.
const CLOCKS: u64 = 13_000;
const LEASE: u64 = 30_000;
const USABLE: u64 = 20_000;
const EVERY: u64 = 40_000;
const REPLICAS: usize = 3;
const CACHES: usize = 3;

/// The rules of rotation, each of which can be removed.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each rule is removed on its own")]
struct Removed {
    wait_before_signing: bool,
    wait_before_removal: bool,
    wait_for_clocks: bool,
    wait_for_replicas: bool,
    stop_when_cut_off: bool,
    catch_up: bool,
    distrust_follows: bool,
    clock_of_the_store: bool,
}

/// Which message of an exchange with the store is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    /// The ring is not read.
    Everything,
    /// The ring is read, and the lease is not renewed.
    Renewal,
    /// The store takes a step, and the replica does not learn that it did.
    Answer,
}

#[derive(Clone, Debug)]
enum Action {
    /// Time passes, and the replicas in the mask lose messages.
    Tick {
        ticks: u8,
        losing: u8,
        loss: Loss,
    },
    SetClock {
        replica: usize,
        offset: i64,
    },
    Issue {
        replica: usize,
        skew: i64,
        life: u64,
    },
    Verify {
        cache: usize,
        from: usize,
        token: usize,
        skew: i64,
    },
    VerifyLocally {
        replica: usize,
        token: usize,
        skew: i64,
    },
    Cut(usize),
    Heal(usize),
    Kill(usize),
    Start(usize),
    Rotate(usize),
    Distrust {
        replica: usize,
        key: usize,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let skew = || -5_000..=5_000_i64;
    let loss = prop_oneof![Just(Loss::Everything), Just(Loss::Renewal), Just(Loss::Answer)];
    prop_oneof![
        8 => (1..=12_u8, 0..8_u8, loss).prop_map(|(ticks, losing, loss)| Action::Tick { ticks, losing, loss }),
        4 => Just(Action::Tick { ticks: 4, losing: 0, loss: Loss::Nothing }),
        2 => (0..REPLICAS, -30_000..=30_000_i64).prop_map(|(replica, offset)| Action::SetClock { replica, offset }),
        8 => (0..REPLICAS, skew(), prop_oneof![Just(LONGEST_TOKEN), 1_000..=LONGEST_TOKEN])
            .prop_map(|(replica, skew, life)| Action::Issue { replica, skew, life }),
        12 => (0..CACHES, 0..REPLICAS, 0..8_usize, skew())
            .prop_map(|(cache, from, token, skew)| Action::Verify { cache, from, token, skew }),
        6 => (0..REPLICAS, 0..8_usize, skew())
            .prop_map(|(replica, token, skew)| Action::VerifyLocally { replica, token, skew }),
        1 => (0..REPLICAS).prop_map(Action::Cut),
        2 => (0..REPLICAS).prop_map(Action::Heal),
        1 => (0..REPLICAS).prop_map(Action::Kill),
        2 => (0..REPLICAS).prop_map(Action::Start),
        3 => (0..REPLICAS).prop_map(Action::Rotate),
        1 => (0..REPLICAS, 0..4_usize).prop_map(|(replica, key)| Action::Distrust { replica, key }),
    ]
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec(action(), 1..250)
}

/// Keys are expensive to create in a debug build, so all runs share these.
static KEYS: LazyLock<Vec<VerifyingKey>> =
    LazyLock::new(|| (0..120).map(|_| SigningKey::generate(Algorithm::EdDSA).unwrap().verifying_key()).collect());

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
}

struct Token {
    key_id: String,
    expires: i64,
}

struct Model {
    removed: Removed,
    now: u64,
    stored: RingState,
    /// By replica: the reported version, and the end of the lease.
    leases: HashMap<usize, (u64, u64)>,
    replicas: Vec<Replica>,
    /// What a verifier fetched: when, and the names of the keys.
    caches: Vec<Option<(u64, Vec<String>)>>,
    tokens: Vec<Token>,
    distrusted: HashMap<String, u64>,
    /// The keys that replaced a distrusted one before every verifier could have them.
    early: HashSet<String>,
    /// The last time at which a replica served a key set without this key.
    missing: HashMap<String, u64>,
    /// The first step that was too early.
    violation: Option<String>,
    created: usize,
    rotations: usize,
}

impl Model {
    fn new(removed: Removed) -> Self {
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
        let stored = &self.stored;
        let relation = |has: &RingState| stored.history.relation(stored.version, &has.head());
        if self.replicas[number].has.as_ref().map(relation) == Some(Relation::Foreign) {
            self.violation = Some(format!("replica {number} would refuse version {} of its own ring", stored.version));
        }
        let was_usable = self.is_usable(number);
        if !(self.removed.catch_up && !was_usable && self.replicas[number].has.is_some()) {
            self.replicas[number].has = Some(self.stored.clone());
        }
        self.replicas[number].looked_at = self.now;
        if loss == Loss::Renewal {
            return;
        }
        self.replicas[number].renewed = Some((self.now, self.now.cast_signed() + self.replicas[number].offset));
        let version = self.replicas[number].has.as_ref().unwrap().version;
        self.leases.insert(number, (version, self.now + LEASE));
        self.save(number, loss, |_, _| {});
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
        let live = self.leases.iter().filter(|(_, (_, end))| *end > self.now);
        let lowest = live.map(|(_, (version, _))| *version).min().unwrap_or(0);
        let lowest = if self.removed.wait_for_replicas { u64::MAX } else { lowest };
        let own_clock = self.now.saturating_add_signed(self.replicas[number].offset);
        let now = if self.removed.clock_of_the_store { own_clock } else { self.now };
        let observed = state.observe(now, lowest);
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
        if !observed && states(&state) == states(&self.stored) {
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
        let replica = &mut self.replicas[number];
        if !(self.removed.catch_up && replica.has.as_ref().is_some_and(|has| has.version + 1 < state.version)) {
            replica.has = Some(state.clone());
            self.leases.insert(number, (state.version, self.now + LEASE));
        }
        self.stored = state;
    }

    fn act(&mut self, action: &Action) -> Result<(), String> {
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
                if self.is_usable(*number) && !self.replicas[*number].is_cut {
                    self.save(*number, Loss::Nothing, |state, now| drop(state.rotate_now(now)));
                }
            }
            Action::Distrust { replica, key } => self.distrust(*replica, *key),
        }
        Ok(())
    }

    fn issue(&mut self, number: usize, skew: i64, life: u64) {
        let Some(has) = self.replicas[number].has.as_ref().filter(|_| self.is_usable(number)) else { return };
        let Some(signing) = has.signing() else { return };
        let dated = self.now.cast_signed() + skew + 3_000;
        self.tokens.push(Token { key_id: signing.key_id().to_owned(), expires: dated + life.cast_signed() });
    }

    /// Returns one of the last tokens, unless it has expired by the clock of the verifier.
    fn valid(&self, token: usize, skew: i64) -> Option<&Token> {
        let token = self.tokens.iter().rev().nth(token)?;
        (self.now.cast_signed() + skew < token.expires + LEEWAY.cast_signed()).then_some(token)
    }

    /// A remote verifier whose cache honours `max-age` to the millisecond.
    fn verify(&mut self, cache: usize, from: usize, token: usize, skew: i64) -> Result<(), String> {
        let is_fresh = self.caches[cache].as_ref().is_some_and(|(at, _)| self.now - at < MAX_AGE);
        if !is_fresh {
            // Without a replica that answers, the verifier answers 503.
            let Some(has) = self.replicas[from].has.as_ref().filter(|_| self.is_usable(from)) else { return Ok(()) };
            self.caches[cache] = Some((self.now, trusted(has)));
        }
        let (Some((_, keys)), Some(token)) = (&self.caches[cache], self.valid(token, skew)) else { return Ok(()) };
        let is_known = keys.contains(&token.key_id);
        if is_known || self.distrusted.contains_key(&token.key_id) || self.early.contains(&token.key_id) {
            Ok(())
        } else {
            Err(format!("a remote verifier refused a valid token of {}", token.key_id))
        }
    }

    fn verify_locally(&mut self, number: usize, token: usize, skew: i64) -> Result<(), String> {
        let Some(has) = self.replicas[number].has.as_ref().filter(|_| self.is_usable(number)) else { return Ok(()) };
        let Some(token) = self.valid(token, skew) else { return Ok(()) };
        let accepts = trusted(has).contains(&token.key_id);
        match self.distrusted.get(&token.key_id) {
            None if !accepts && !self.early.contains(&token.key_id) => {
                Err(format!("a replica refused a valid token of {}", token.key_id))
            }
            Some(at) if accepts && (self.replicas[number].looked_at > *at || self.now - at > LEASE) => {
                Err(format!("a replica accepted the distrusted key {}", token.key_id))
            }
            _ => Ok(()),
        }
    }

    fn distrust(&mut self, number: usize, key: usize) {
        self.look(number, Loss::Nothing);
        if !self.is_usable(number) || self.replicas[number].is_cut {
            return;
        }
        let Some(key_id) = self.stored.keys.get(key).map(|entry| entry.key_id().to_owned()) else { return };
        self.distrusted.entry(key_id.clone()).or_insert(self.now);
        if self.stored.signing().is_some_and(|entry| entry.key_id() == key_id) {
            // Whichever key replaces it, it signs before its time.
            let may_sign = |entry| self.stored.may_sign_at(entry).is_some_and(|at| at <= self.now);
            let early = self.stored.keys.iter().filter(|entry| !may_sign(entry));
            self.early.extend(early.map(|entry| entry.key_id().to_owned()));
            self.early.insert(KEYS[(self.created + 1) % KEYS.len()].key_id().to_owned());
        }
        if !self.removed.distrust_follows {
            self.save(number, Loss::Nothing, |state, now| drop(state.distrust(&key_id, now)));
        }
    }
}

fn trusted(state: &RingState) -> Vec<String> {
    let trusted = state.keys.iter().filter(|entry| entry.state.is_trusted());
    trusted.map(|entry| entry.key_id().to_owned()).collect()
}

fn run(actions: &[Action], removed: Removed) -> Result<Model, String> {
    let mut model = Model::new(removed);
    for action in actions {
        model.act(action)?;
        if let Some(violation) = model.violation.take() {
            return Err(violation);
        }
        let signing = model.stored.keys.iter().filter(|entry| entry.state == KeyState::Signing).count();
        if signing != 1 {
            return Err(format!("{signing} keys sign"));
        }
    }
    Ok(model)
}

proptest! {
    #![proptest_config(Config { cases: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn no_valid_token_is_refused_and_no_distrusted_key_is_accepted(actions in actions()) {
        if let Err(error) = run(&actions, Removed::default()) {
            return Err(TestCaseError::fail(error));
        }
    }
}

/// The runs are the same each time.
#[test]
fn the_model_fails_without_any_one_of_the_rules_and_rotates_with_all_of_them() {
    let runs = || {
        let mut runner = TestRunner::deterministic();
        (0..2_000).map(move |_| actions().new_tree(&mut runner).unwrap().current())
    };
    let rotations = runs().take(50).map(|actions| run(&actions, Removed::default()).unwrap().rotations);
    let rotations: usize = rotations.sum();
    assert!(rotations > 150, "{rotations}");
    let none = Removed::default();
    for removed in [
        Removed { wait_before_signing: true, ..none },
        Removed { wait_before_removal: true, ..none },
        Removed { wait_for_clocks: true, ..none },
        Removed { wait_for_replicas: true, ..none },
        Removed { stop_when_cut_off: true, ..none },
        Removed { catch_up: true, ..none },
        Removed { distrust_follows: true, ..none },
        Removed { clock_of_the_store: true, ..none },
    ] {
        let found = runs().position(|actions| run(&actions, removed).is_err());
        println!("{removed:?}: found by run {found:?}");
        assert!(found.is_some(), "the model does not need the rule: {removed:?}");
    }
}
