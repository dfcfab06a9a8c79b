//! Checks the contract of [`ReplayLog`].

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Outcome, Violation, ensure, race, step};
use crate::store::{Replay, ReplayBounds, ReplayId, ReplayLog};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Checks that a store keeps the contract of [`ReplayLog`].
///
/// # Errors
///
/// The first step that fails.
pub async fn replay_log<S: ReplayLog, F: Future<Output = S>>(fresh: impl Fn() -> F) -> Result<(), Violation> {
    step("an id is fresh once", fresh().await, fresh_once).await?;
    step("one of several concurrent uses of one id is fresh", fresh().await, uses_concurrently).await?;
    step("an id is fresh again once it has expired, and not before", fresh().await, fresh_after_expiry).await
}

async fn fresh_once<S: ReplayLog>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    let names = ["a", "b", "", "'", "\0", "%", "a b", "é"];
    for (expected, meaning) in [(Replay::Fresh, "first"), (Replay::Seen, "second")] {
        for name in names {
            let answer = store.check_and_insert(&ReplayId::new("issuer", name), now + MINUTE, now).await?;
            ensure(answer == expected, format!("the {meaning} use of `{name}` returns {answer:?}, not {expected:?}"))?;
        }
    }
    let other = store.check_and_insert(&ReplayId::new("another issuer", "a"), now + MINUTE, now).await?;
    ensure(other == Replay::Fresh, "the same name from another issuer is not fresh")
}

async fn uses_concurrently<S: ReplayLog>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    for round in 0..5 {
        // The last rounds replace an entry that has expired.
        let (name, now) = if round < 3 { (round, now) } else { (0, now + round * 2 * MINUTE) };
        let id = ReplayId::new("issuer", &name.to_string());
        let answers = race(50, |_| {
            let store = store.clone();
            async move { store.check_and_insert(&id, now + MINUTE, now).await }
        });
        let answers = answers.await?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let fresh = answers.iter().filter(|replay| **replay == Replay::Fresh).count();
        ensure(fresh == 1, format!("{fresh} of 50 calls returned `Fresh`, not one"))?;
    }
    Ok(())
}

async fn fresh_after_expiry<S: ReplayLog>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    let (id, bounded) = (ReplayId::new("issuer", "a"), ReplayId::new("issuer", "b"));
    for (expires_in, asked_in, expected) in [
        (MINUTE, Duration::ZERO, Replay::Fresh),
        (2 * MINUTE, 59 * SECOND, Replay::Seen), // does not extend the first entry
        (2 * MINUTE, 60 * SECOND, Replay::Fresh),
        (3 * MINUTE, 119 * SECOND, Replay::Seen),
        (3 * MINUTE, 120 * SECOND, Replay::Fresh),
    ] {
        let (expires_at, asked_at) = (now + expires_in, now + asked_in);
        let bounds = ReplayBounds::new("owner", 1_000, 1_000_000);
        let answers = [
            ("a use", store.check_and_insert(&id, expires_at, asked_at).await?),
            ("a use within bounds", store.check_and_insert_within(&bounded, bounds, expires_at, asked_at).await?),
        ];
        for (what, answer) in answers {
            ensure(
                answer == expected,
                format!("{what} {asked_in:?} after the first returns {answer:?}, not {expected:?}"),
            )?;
        }
    }
    Ok(())
}
