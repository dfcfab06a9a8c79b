//! A model of replicas, verifiers and caches around [`RingState`]: whatever happens in whatever order, a valid token is never
//! refused, and a distrusted key is accepted no longer than its bound. Without any one of the rules, the model fails.
//!
//! Replicas reach the store in ticks, unless they are cut off or messages are lost. For tokens, their clocks differ by 5 seconds from
//! the right time. For everything else, they differ by 30 seconds, and can be set at any time: steps of the ring go by the clock of
//! the store alone, and a lease by the time that passes.
//!
//! In half of the runs, the store is restored to earlier versions, without its leases, and an operator accepts the ring or does not.
//! Each restore begins a line of versions. Tokens and key sets of two lines say nothing about each other, since a process that starts
//! with a restored ring cannot know what it lacks. But no replica refuses the tokens that it accepted, or accepts a key that it knew to be
//! distrusted, until an operator accepted another ring, or at all. Afterwards all replicas agree.

mod model;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use self::model::Model;
use super::lifecycle::KeyState;

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
    /// A ring of a lower rank is refused.
    refuse_lower: bool,
    /// A ring that does not descend from that of a replica is refused by the replica.
    refuse_foreign: bool,
    /// The others stop when a replica refuses their ring.
    contest: bool,
    /// A replica that follows an accepted ring repeats the distrusts that it knows.
    repeat_distrusts: bool,
    /// Each wait begins again when a ring is accepted.
    wait_again: bool,
    /// An acceptance counts more than a higher version.
    acceptance_first: bool,
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
    BackUp,
    /// One of the last backups takes the place of the ring.
    Restore(usize),
    /// An operator accepts the ring, on a replica or with a tool.
    Accept(Option<usize>),
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

fn restoring_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        40 => action(),
        2 => Just(Action::BackUp),
        1 => (0..3_usize).prop_map(Action::Restore),
        2 => prop::option::of(0..REPLICAS).prop_map(Action::Accept),
    ]
}

/// A replica takes steps that a restore undoes while it is cut off, and another one, which was started again, changes the restored ring until
/// its version is not lower.
fn divided() -> impl Strategy<Value = Vec<Action>> {
    let before = prop::collection::vec(action(), 1..40);
    // Either a key of the replica is lost, or the other one accepts a distrusted key for as long as it may.
    let lengths = prop_oneof![(0..3_usize, 2..5_usize, Just(0)), (Just(0), 1..3_usize, Just(4))];
    let numbers = (0..REPLICAS, 1..REPLICAS, 0..5_usize, lengths);
    let after = prop::collection::vec(restoring_action(), 1..80);
    (before, numbers, prop::option::of(0..REPLICAS), after).prop_map(|(mut all, numbers, accept, after)| {
        let (away, more, key, (lost, steps, ticks)) = numbers;
        let other = (away + more) % REPLICAS;
        let tick = |ticks| Action::Tick { ticks, losing: 0, loss: Loss::Nothing };
        let issue = |replica| Action::Issue { replica, skew: 5_000, life: LONGEST_TOKEN };
        let step = |replica| [tick(13), Action::Rotate(replica), issue(replica)];
        let verify = |replica| (0..8).map(move |token| Action::VerifyLocally { replica, token, skew: -5_000 });
        all.extend([Action::Heal(away), Action::Start(away), Action::Heal(other), tick(4), Action::BackUp]);
        all.extend((0..lost).flat_map(|_| step(away)));
        all.extend([Action::Distrust { replica: away, key }, Action::Cut(away), Action::Restore(0)]);
        all.extend((0..REPLICAS).filter(|number| *number != away).map(Action::Kill));
        all.push(Action::Start(other));
        all.extend((0..steps).flat_map(|_| step(other)));
        all.extend([Action::Heal(away), tick(2)]);
        all.extend(verify(away));
        all.extend((0..ticks).map(|_| tick(12)));
        all.extend(verify(other));
        all.extend([Action::Accept(accept), tick(2)]);
        all.extend(verify(away));
        all.extend(after);
        all
    })
}

/// A backup is so old that its keys have left the ring, and all replicas run when an operator accepts it.
fn outdated() -> impl Strategy<Value = Vec<Action>> {
    let before = prop::collection::vec(action(), 1..40);
    let after = prop::collection::vec(restoring_action(), 1..40);
    (before, 8..12_usize, prop::option::of(0..REPLICAS), after).prop_map(|(mut all, steps, accept, after)| {
        let tick = |ticks| Action::Tick { ticks, losing: 0, loss: Loss::Nothing };
        all.extend((0..REPLICAS).flat_map(|number| [Action::Heal(number), Action::Start(number)]));
        all.extend([tick(4), Action::BackUp]);
        all.extend((0..steps).flat_map(|_| [tick(13), Action::Rotate(0)]));
        all.push(Action::Restore(0));
        all.extend((0..6).map(|_| tick(12)));
        all.extend([Action::Accept(accept), tick(2)]);
        all.extend(after);
        all
    })
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop_oneof![
        3 => prop::collection::vec(action(), 1..250),
        1 => prop::collection::vec(restoring_action(), 1..250),
        1 => divided(),
        1 => outdated(),
    ]
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
    model.settle()?;
    match model.violation.take() {
        Some(violation) => Err(violation),
        None => Ok(model),
    }
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
        (0..800).map(move |_| actions().new_tree(&mut runner).unwrap().current())
    };
    let rotations = runs().enumerate().map(|(number, actions)| {
        run(&actions, Removed::default()).unwrap_or_else(|error| panic!("run {number}: {error}")).rotations
    });
    let rotations: usize = rotations.sum();
    assert!(rotations > 1_500, "{rotations}");
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
        Removed { refuse_lower: true, ..none },
        Removed { refuse_foreign: true, ..none },
        Removed { contest: true, ..none },
        Removed { repeat_distrusts: true, ..none },
        Removed { wait_again: true, ..none },
        Removed { acceptance_first: true, ..none },
    ] {
        let found = runs().position(|actions| run(&actions, removed).is_err());
        println!("{removed:?}: found by run {found:?}");
        assert!(found.is_some(), "the model does not need the rule: {removed:?}");
    }
}
