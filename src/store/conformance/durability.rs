//! Checks that acknowledged writes survive the handle that wrote them, and that all handles see the same state.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Outcome, Violation, client, ensure, follow, race, step};
use crate::client_id::ClientId;
use crate::store::{AdminError, Change, ClientAdmin, Cursor, Replay, ReplayId, ReplayLog, Revocation, RevocationStore};

const CLIENT: ClientId = ClientId::from_static("billing");
const MINUTE: Duration = Duration::from_secs(60);

/// Checks that the data of a store survives the end of its process, and that several replicas see the same data. `open` opens
/// the same store each time, which is empty at the start.
///
/// # Errors
///
/// The first step that fails.
pub async fn durability<S, F>(open: impl Fn() -> F) -> Result<(), Violation>
where
    S: ClientAdmin + RevocationStore + ReplayLog,
    F: Future<Output = S>,
{
    let mut cursor = Cursor::start();
    step("writes are acknowledged", open().await, async |store| written(&*store, &mut cursor).await).await?;
    step("acknowledged writes survive a restart", open().await, async |store| kept(&*store, &cursor).await).await?;
    let other = open().await;
    step("two replicas see the same state", open().await, async |store| seen_by_both(store, Arc::new(other)).await)
        .await
}

async fn written<S: ClientAdmin + RevocationStore + ReplayLog>(store: &S, cursor: &mut Cursor) -> Outcome {
    follow(store, cursor).await?;
    let now = SystemTime::now();
    store.create(client(&CLIENT)?).await?;
    store.create(client("deleted")?).await?;
    store.delete(&ClientId::from_static("deleted")).await?;
    store.revoke(Revocation::token("a token", CLIENT, now, now + MINUTE)).await?;
    let replay = store.check_and_insert(&ReplayId::new("issuer", "a"), now + MINUTE, now).await?;
    ensure(replay == Replay::Fresh, "an unused id is not fresh")
}

async fn kept<S: ClientAdmin + RevocationStore + ReplayLog>(store: &S, cursor: &Cursor) -> Outcome {
    ensure(store.find(&CLIENT).await?.is_some(), "the client was lost")?;
    ensure(store.find(&ClientId::from_static("deleted")).await?.is_none(), "the deleted client is back")?;
    for mut cursor in [cursor.clone(), Cursor::start()] {
        let reported = follow(store, &mut cursor).await?;
        let is_token = |change: &Change| matches!(change, Change::Revoked(Revocation::Token { .. }));
        ensure(reported.iter().any(is_token), "the revoked token is not reported")?;
        ensure(reported.contains(&Change::Client(CLIENT)), "the new client is not reported")?;
    }
    let now = SystemTime::now();
    let replay = store.check_and_insert(&ReplayId::new("issuer", "a"), now + MINUTE, now).await?;
    ensure(replay == Replay::Seen, "the used id is fresh again")
}

async fn seen_by_both<S>(one: Arc<S>, other: Arc<S>) -> Outcome
where
    S: ClientAdmin + RevocationStore + ReplayLog,
{
    let mut cursor = Cursor::start();
    follow(&*one, &mut cursor).await?;
    let (_, revision) = one.load(&CLIENT).await?.ok_or("`load` does not find the client")?;
    let replaced = race(20, |number| {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        async move { Ok::<_, super::BoxError>(store.replace(client(&CLIENT)?, revision).await) }
    });
    let replaced = replaced.await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let winners = replaced.iter().filter(|result| result.is_ok()).count();
    let refused = replaced.iter().filter(|result| matches!(result, Err(AdminError::Conflict))).count();
    ensure(
        (winners, refused) == (1, 19),
        format!("expected exactly one success of 20 replaces of one revision: {replaced:?}"),
    )?;
    ensure(one.find(&CLIENT).await? == other.find(&CLIENT).await?, "the two replicas find different clients")?;
    let now = SystemTime::now();
    let used = race(50, |number| {
        let store = if number % 2 == 0 { one.clone() } else { other.clone() };
        async move { store.check_and_insert(&ReplayId::new("issuer", "b"), now + MINUTE, now).await }
    });
    let used = used.await?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let fresh = used.iter().filter(|replay| **replay == Replay::Fresh).count();
    ensure(fresh == 1, format!("{fresh} of 50 uses of one id returned `Fresh`, not one"))?;
    other.disable(&CLIENT).await?;
    let reported = follow(&*one, &mut cursor).await?;
    let is_revoked = |change: &Change| matches!(change, Change::Revoked(Revocation::Client { .. }));
    ensure(reported.iter().any(is_revoked), "the revocations of one replica are not reported by the other")
}
