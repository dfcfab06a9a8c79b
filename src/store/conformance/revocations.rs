//! [`RevocationStore`], held to its contract.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Outcome, Violation, ensure, follow, race, step};
use crate::client_id::ClientId;
use crate::store::{Change, Cursor, Revocation, RevocationStore};

const CLIENT: ClientId = ClientId::from_static("billing");
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Holds a store to the contract of [`RevocationStore`].
///
/// # Errors
///
/// The first step that does not hold.
pub async fn revocations<S: RevocationStore, F: Future<Output = S>>(fresh: impl Fn() -> F) -> Result<(), Violation> {
    step("what was revoked is told as it was written", fresh().await, told_as_written).await?;
    step("a cursor goes on where it was", fresh().await, from_a_cursor).await?;
    step("what was revoked again is told, and is no mistake", fresh().await, revoked_again).await?;
    step("a follower misses nothing of what is revoked meanwhile", fresh().await, followed_meanwhile).await?;
    step("what has not expired is kept, and what has expired goes", fresh().await, purged).await?;
    step("a cursor outlives what it stood at", fresh().await, a_cursor_is_purged).await
}

fn token(name: &str, life: Duration) -> Revocation {
    let now = SystemTime::now();
    Revocation::token(name, CLIENT, now, now + life)
}

async fn told_as_written<S: RevocationStore>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    let longest = store.longest_token_lifetime();
    let revoked = [
        token("a", HOUR),
        token("A", HOUR),
        token("'\"\\;--%_*?\u{1F511}é\u{1}\n", HOUR),
        token(&"x".repeat(8_000), HOUR),
        Revocation::client(CLIENT, now, longest),
        Revocation::client(ClientId::from_static(" %'\""), now, longest),
        Revocation::key("key:1", now, longest),
    ];
    for revocation in &revoked {
        store.revoke(revocation.clone()).await?;
    }
    for _ in 0..2 {
        let told = follow(&*store, &mut Cursor::start()).await?;
        for revocation in &revoked {
            ensure(told.contains(&Change::Revoked(revocation.clone())), format!("not told: {revocation:?}"))?;
        }
        ensure(told.len() == revoked.len(), format!("{} are told of {}", told.len(), revoked.len()))?;
    }
    Ok(())
}

async fn from_a_cursor<S: RevocationStore>(store: Arc<S>) -> Outcome {
    let mut cursor = Cursor::start();
    ensure(follow(&*store, &mut cursor).await?.is_empty(), "a store without entries tells of some")?;
    let mut another = cursor.clone();
    for number in 0..20 {
        let revocation = token(&number.to_string(), HOUR);
        store.revoke(revocation.clone()).await?;
        let told = follow(&*store, &mut cursor).await?;
        ensure(told.contains(&Change::Revoked(revocation)), format!("number {number} is not told"))?;
    }
    ensure(follow(&*store, &mut another).await?.len() >= 20, "a second follower is told less than the first")?;
    for _ in 0..3 {
        follow(&*store, &mut cursor).await?;
    }
    let told = follow(&*store, &mut cursor).await?;
    ensure(told.is_empty(), format!("where nothing changes, the same is told again and again: {}", told.len()))
}

async fn revoked_again<S: RevocationStore>(store: Arc<S>) -> Outcome {
    let revocation = token("twice", HOUR);
    store.revoke(revocation.clone()).await?;
    let mut cursor = Cursor::start();
    follow(&*store, &mut cursor).await?;
    store.revoke(revocation.clone()).await?;
    let again = race(10, |_| {
        let (store, revocation) = (store.clone(), revocation.clone());
        async move { store.revoke(revocation).await }
    });
    again.await?.into_iter().collect::<Result<(), _>>()?;
    let longer = token("twice", 2 * HOUR);
    store.revoke(longer.clone()).await?;
    let told = follow(&*store, &mut cursor).await?;
    ensure(told.contains(&Change::Revoked(longer)), "the same token with a later expiry is not told")?;
    let told = follow(&*store, &mut Cursor::start()).await?;
    ensure(told.contains(&Change::Revoked(revocation)), "it is not told from the start")
}

async fn followed_meanwhile<S: RevocationStore>(store: Arc<S>) -> Outcome {
    let name = |task: usize, number: usize| format!("{task}.{number}");
    let mut told = HashSet::new();
    let mut cursor = Cursor::start();
    let writers = race(8, |task| {
        let store = store.clone();
        async move {
            for number in 0..25 {
                store.revoke(token(&name(task, number), HOUR)).await?;
            }
            Ok(())
        }
    });
    let mut writers = std::pin::pin!(writers);
    let written = loop {
        let polled = tokio::time::timeout(Duration::from_millis(1), &mut writers).await;
        told.extend(follow(&*store, &mut cursor).await?.iter().filter_map(token_id));
        if let Ok(written) = polled {
            break written;
        }
    };
    written?.into_iter().collect::<Result<(), super::BoxError>>()?;
    told.extend(follow(&*store, &mut cursor).await?.iter().filter_map(token_id));
    let missed: Vec<String> =
        (0..8).flat_map(|task| (0..25).map(move |number| name(task, number))).filter(|id| !told.contains(id)).collect();
    ensure(missed.is_empty(), format!("{} of 200 were never told: {missed:?}", missed.len()))
}

fn token_id(change: &Change) -> Option<String> {
    match change {
        Change::Revoked(Revocation::Token { token_id, .. }) => Some(token_id.clone()),
        _ => None,
    }
}

async fn purged<S: RevocationStore>(store: Arc<S>) -> Outcome {
    let now = SystemTime::now();
    let [short, long] = [token("short", HOUR), token("long", 4 * HOUR)];
    store.revoke(short.clone()).await?;
    store.revoke(long.clone()).await?;
    let early = store.purge(now).await?;
    ensure(early == 0, format!("{early} are purged that have not expired"))?;
    let told = follow(&*store, &mut Cursor::start()).await?;
    ensure(told.len() == 2, format!("of two that have not expired, {} are told after a purge", told.len()))?;
    let purged = store.purge(now + 2 * HOUR).await?;
    ensure(purged == 1, format!("of one that has expired and one that has not, {purged} are said to be purged"))?;
    let told = follow(&*store, &mut Cursor::start()).await?;
    ensure(told == [Change::Revoked(long)], format!("after the purge, {told:?} are told"))
}

async fn a_cursor_is_purged<S: RevocationStore>(store: Arc<S>) -> Outcome {
    store.revoke(token("short", HOUR)).await?;
    let mut cursor = Cursor::start();
    follow(&*store, &mut cursor).await?;
    store.purge(SystemTime::now() + 2 * HOUR).await?;
    for name in ["one", "two"] {
        let revocation = token(name, HOUR);
        store.revoke(revocation.clone()).await?;
        let told = follow(&*store, &mut cursor).await?;
        ensure(told.contains(&Change::Revoked(revocation)), format!("`{name}`, after the purge, is not told"))?;
    }
    Ok(())
}
