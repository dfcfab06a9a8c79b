//! Checks the contract of [`RevocationStore`].

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Outcome, Violation, ensure, follow, race, step};
use crate::client_id::ClientId;
use crate::store::{Change, Cursor, Revocation, RevocationStore};

const CLIENT: ClientId = ClientId::from_static("billing");
const HOUR: Duration = Duration::from_secs(60 * 60);

/// Checks that a store keeps the contract of [`RevocationStore`].
///
/// # Errors
///
/// The first step that fails.
pub async fn revocations<S: RevocationStore, F: Future<Output = S>>(fresh: impl Fn() -> F) -> Result<(), Violation> {
    step("a revocation is reported unchanged", fresh().await, reported_unchanged).await?;
    step("a cursor continues after the changes that were read", fresh().await, from_a_cursor).await?;
    step("a repeated revocation is accepted and reported", fresh().await, revoked_again).await?;
    step("a reader misses no concurrent revocation", fresh().await, concurrent_reader).await?;
    step("a purge removes exactly the expired entries", fresh().await, purged).await?;
    step("a cursor is valid after the purge of its entry", fresh().await, a_cursor_is_purged).await
}

fn token(name: &str, life: Duration) -> Revocation {
    let now = SystemTime::now();
    Revocation::token(name, CLIENT, now, now + life)
}

async fn reported_unchanged<S: RevocationStore>(store: Arc<S>) -> Outcome {
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
        let reported = follow(&*store, &mut Cursor::start()).await?;
        for revocation in &revoked {
            ensure(reported.contains(&Change::Revoked(revocation.clone())), format!("not reported: {revocation:?}"))?;
        }
        ensure(
            reported.len() == revoked.len(),
            format!("{} changes are reported, not {}", reported.len(), revoked.len()),
        )?;
    }
    Ok(())
}

async fn from_a_cursor<S: RevocationStore>(store: Arc<S>) -> Outcome {
    let mut cursor = Cursor::start();
    ensure(follow(&*store, &mut cursor).await?.is_empty(), "an empty store reports entries")?;
    let mut another = cursor.clone();
    for number in 0..20 {
        let revocation = token(&number.to_string(), HOUR);
        store.revoke(revocation.clone()).await?;
        let reported = follow(&*store, &mut cursor).await?;
        ensure(reported.contains(&Change::Revoked(revocation)), format!("entry {number} is not reported"))?;
    }
    ensure(follow(&*store, &mut another).await?.len() >= 20, "a second reader receives fewer changes than the first")?;
    for _ in 0..3 {
        follow(&*store, &mut cursor).await?;
    }
    let reported = follow(&*store, &mut cursor).await?;
    ensure(reported.is_empty(), format!("changes are reported again although nothing changed: {}", reported.len()))
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
    let reported = follow(&*store, &mut cursor).await?;
    ensure(reported.contains(&Change::Revoked(longer)), "the same token with a later expiry is not reported")?;
    let reported = follow(&*store, &mut Cursor::start()).await?;
    ensure(reported.contains(&Change::Revoked(revocation)), "the entry is not reported from the start of the feed")
}

async fn concurrent_reader<S: RevocationStore>(store: Arc<S>) -> Outcome {
    let name = |task: usize, number: usize| format!("{task}.{number}");
    let mut reported = HashSet::new();
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
        reported.extend(follow(&*store, &mut cursor).await?.iter().filter_map(token_id));
        if let Ok(written) = polled {
            break written;
        }
    };
    written?.into_iter().collect::<Result<(), super::BoxError>>()?;
    reported.extend(follow(&*store, &mut cursor).await?.iter().filter_map(token_id));
    let missed: Vec<String> = (0..8)
        .flat_map(|task| (0..25).map(move |number| name(task, number)))
        .filter(|id| !reported.contains(id))
        .collect();
    ensure(missed.is_empty(), format!("{} of 200 entries were never reported: {missed:?}", missed.len()))
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
    ensure(early == 0, format!("`purge` removed {early} entries that have not expired"))?;
    let reported = follow(&*store, &mut Cursor::start()).await?;
    ensure(
        reported.len() == 2,
        format!("{} of two entries that have not expired are reported after a purge", reported.len()),
    )?;
    let purged = store.purge(now + 2 * HOUR).await?;
    ensure(
        purged == 1,
        format!("`purge` returns {purged}, not 1, for one expired entry and one that has not expired"),
    )?;
    let reported = follow(&*store, &mut Cursor::start()).await?;
    ensure(reported == [Change::Revoked(long)], format!("the wrong changes are reported after the purge: {reported:?}"))
}

async fn a_cursor_is_purged<S: RevocationStore>(store: Arc<S>) -> Outcome {
    store.revoke(token("short", HOUR)).await?;
    let mut cursor = Cursor::start();
    follow(&*store, &mut cursor).await?;
    store.purge(SystemTime::now() + 2 * HOUR).await?;
    for name in ["one", "two"] {
        let revocation = token(name, HOUR);
        store.revoke(revocation.clone()).await?;
        let reported = follow(&*store, &mut cursor).await?;
        ensure(reported.contains(&Change::Revoked(revocation)), format!("`{name}` is not reported after the purge"))?;
    }
    Ok(())
}
