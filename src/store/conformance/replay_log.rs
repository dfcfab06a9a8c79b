//! [`ReplayLog`], held to its contract.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Outcome, Violation, ensure, race, step};
use crate::store::{Replay, ReplayId, ReplayLog};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Holds a store to the contract of [`ReplayLog`].
///
/// # Errors
///
/// The first step that does not hold.
pub async fn replay_log<S: ReplayLog, F: Future<Output = S>>(fresh: impl Fn() -> F) -> Result<(), Violation> {
    step("an id is fresh once", fresh().await, fresh_once).await?;
    step("of uses of one id at once, one is fresh", fresh().await, uses_at_once).await?;
    step("an id that has expired may come again, and not before", fresh().await, comes_again).await
}

async fn fresh_once<S: ReplayLog>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    let names = ["a", "b", "", "'", "\0", "%", "a b", "é"];
    for (expected, meaning) in [(Replay::Fresh, "the first time"), (Replay::Seen, "again")] {
        for name in names {
            let told = store.check_and_insert(&ReplayId::new("issuer", name), now + MINUTE, now).await?;
            ensure(told == expected, format!("`{name}` comes {meaning}, and is {told:?}"))?;
        }
    }
    let other = store.check_and_insert(&ReplayId::new("another issuer", "a"), now + MINUTE, now).await?;
    ensure(other == Replay::Fresh, "the same name of another issuer is taken for the same")
}

async fn uses_at_once<S: ReplayLog>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    for round in 0..5 {
        // In the last rounds, over an entry that has expired.
        let (name, now) = if round < 3 { (round, now) } else { (0, now + round * 2 * MINUTE) };
        let id = ReplayId::new("issuer", &name.to_string());
        let told = race(50, |_| {
            let store = store.clone();
            async move { store.check_and_insert(&id, now + MINUTE, now).await }
        });
        let told = told.await?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let fresh = told.iter().filter(|replay| **replay == Replay::Fresh).count();
        ensure(fresh == 1, format!("{fresh} of 50 were told `Fresh`, not one"))?;
    }
    Ok(())
}

async fn comes_again<S: ReplayLog>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    let id = ReplayId::new("issuer", "a");
    for (expires_in, asked_in, expected) in [
        (MINUTE, Duration::ZERO, Replay::Fresh),
        (2 * MINUTE, 59 * SECOND, Replay::Seen), // which does not lengthen the first entry
        (2 * MINUTE, 60 * SECOND, Replay::Fresh),
        (3 * MINUTE, 119 * SECOND, Replay::Seen),
        (3 * MINUTE, 120 * SECOND, Replay::Fresh),
    ] {
        let told = store.check_and_insert(&id, now + expires_in, now + asked_in).await?;
        ensure(told == expected, format!("{asked_in:?} after its first use it is {told:?}, not {expected:?}"))?;
    }
    Ok(())
}
