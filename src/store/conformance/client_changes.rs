//! Checks the changes that [`ClientAdmin`] writes to the feed of a [`RevocationStore`].

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Outcome, Violation, blank, client, ensure, follow, race, step};
use crate::client_id::ClientId;
use crate::store::{Change, ClientAdmin, Cursor, Revocation, RevocationStore};

const CLIENT: ClientId = ClientId::from_static("billing");

/// Checks that a store of both kinds writes the changes of [`ClientAdmin`] to the feed.
///
/// # Errors
///
/// The first step that fails.
pub async fn client_changes<S, F>(fresh: impl Fn() -> F) -> Result<(), Violation>
where
    S: ClientAdmin + RevocationStore,
    F: Future<Output = S>,
{
    step("each change of a client is reported", fresh().await, each_is_reported).await?;
    step("more changes than fit in one answer are all reported", fresh().await, more_than_one_page).await?;
    step("disabling a client revokes its tokens in the same step", fresh().await, disabling_revokes).await?;
    step("deleting a client revokes its tokens in the same step", fresh().await, deleting_revokes).await?;
    step("other changes revoke nothing", fresh().await, others_revoke_nothing).await?;
    step("a refused change is not reported", fresh().await, refused_is_not_reported).await
}

fn is_of(id: &ClientId) -> impl Fn(&Change) -> bool + use<> {
    let expected = Change::Client(id.clone());
    move |change| *change == expected
}

/// Returns the revocation of all tokens of the client.
fn revoked<'a>(reported: &'a [Change], id: &ClientId) -> Option<&'a Revocation> {
    reported.iter().find_map(|change| match change {
        Change::Revoked(revocation @ Revocation::Client { client_id, .. }) if client_id == id => Some(revocation),
        _ => None,
    })
}

async fn each_is_reported<S: ClientAdmin + RevocationStore>(store: Arc<S>) -> Outcome {
    let mut cursor = Cursor::start();
    let mut reported = async |what: &str| {
        let reported = follow(&*store, &mut cursor).await?;
        ensure(reported.iter().any(is_of(&CLIENT)), format!("the change is not reported: {what}"))
    };
    store.create(client(&CLIENT)?).await?;
    reported("`create`").await?;
    let (_, revision) = store.load(&CLIENT).await?.ok_or("`load` does not find the client")?;
    store.replace(blank(&CLIENT)?.subject("b").register()?, revision).await?;
    reported("`replace`").await?;
    store.delete(&CLIENT).await?;
    reported("`delete`").await?;
    store.create_all(vec![client(&CLIENT)?]).await?;
    reported("`create_all`").await
}

async fn more_than_one_page<S: ClientAdmin + RevocationStore>(store: Arc<S>) -> Outcome {
    let one = client("one")?;
    let of = |number: usize| {
        let secret = one.secrets().first().cloned().ok_or("the client has no secret")?;
        Ok::<_, super::BoxError>(
            crate::registration::Client::blank(number.to_string()).registered_secret(secret).register()?,
        )
    };
    let all = 0..25_000;
    store.create_all(all.clone().map(of).collect::<Result<_, _>>()?).await?;
    let mut cursor = Cursor::start();
    let reported: HashSet<String> = follow(&*store, &mut cursor)
        .await?
        .into_iter()
        .filter_map(|change| match change {
            Change::Client(id) => Some(id.to_string()),
            Change::Revoked(_) => None,
        })
        .collect();
    let missed = all.filter(|number| !reported.contains(&number.to_string())).count();
    ensure(missed == 0, format!("{missed} of 25,000 changes are not reported"))?;
    store.create(client(&CLIENT)?).await?;
    ensure(
        follow(&*store, &mut cursor).await?.iter().any(is_of(&CLIENT)),
        "a change after 25,000 others is not reported",
    )
}

async fn disabling_revokes<S: ClientAdmin + RevocationStore>(store: Arc<S>) -> Outcome {
    for number in 0..10 {
        let id: ClientId = number.to_string().parse()?;
        store.create(client(&id)?).await?;
        revokes(&store, &id, async |store| Ok(store.disable(&id).await?)).await?;
    }
    Ok(())
}

async fn deleting_revokes<S: ClientAdmin + RevocationStore>(store: Arc<S>) -> Outcome {
    for number in 0..10 {
        let id: ClientId = number.to_string().parse()?;
        store.create(client(&id)?).await?;
        revokes(&store, &id, async |store| Ok(store.delete(&id).await?)).await?;
    }
    Ok(())
}

/// Follows the feed while the change is made. A reader that receives the change must receive the revocation, too.
async fn revokes<S, C>(store: &Arc<S>, id: &ClientId, change: C) -> Outcome
where
    S: ClientAdmin + RevocationStore,
    C: AsyncFnOnce(&S) -> Outcome,
{
    let mut cursor = Cursor::start();
    follow(&**store, &mut cursor).await?;
    let longest = store.longest_token_lifetime();
    let before = seconds(SystemTime::now());
    let (following, mut from, is_it) = (store.clone(), cursor.clone(), is_of(id));
    let follower = tokio::spawn(async move {
        let mut reported = Vec::new();
        while !reported.iter().any(&is_it) {
            reported.extend(follow(&*following, &mut from).await?);
            tokio::task::yield_now().await;
        }
        Ok::<_, super::BoxError>(reported)
    });
    change(store).await?;
    let after = seconds(SystemTime::now());
    let reported = tokio::time::timeout(Duration::from_secs(30), follower).await;
    let reported = reported.map_err(|_| "the change is not reported within 30 s")???;
    let revocation =
        revoked(&reported, id).ok_or("the change is reported without the revocation of the client's tokens")?;
    let mut expected = (before..=after)
        .map(|second| Revocation::former_client(id.clone(), UNIX_EPOCH + Duration::from_secs(second), longest));
    ensure(
        expected.any(|expected| expected == *revocation),
        format!("expected the revocation `former_client` of now, not {revocation:?}"),
    )
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

async fn others_revoke_nothing<S: ClientAdmin + RevocationStore>(store: Arc<S>) -> Outcome {
    store.create(client(&CLIENT)?).await?;
    store.update(&CLIENT, |client| client.edit().subject("b")).await?;
    ensure(
        revoked(&follow(&*store, &mut Cursor::start()).await?, &CLIENT).is_none(),
        "a change of an enabled client revokes its tokens",
    )?;
    store.disable(&CLIENT).await?;
    let mut cursor = Cursor::start();
    let reported = follow(&*store, &mut cursor).await?;
    ensure(revoked(&reported, &CLIENT).is_some(), "disabling the client does not revoke its tokens")?;
    store.enable(&CLIENT).await?;
    ensure(revoked(&follow(&*store, &mut cursor).await?, &CLIENT).is_none(), "enabling the client revokes its tokens")?;
    ensure(
        revoked(&follow(&*store, &mut Cursor::start()).await?, &CLIENT).is_some(),
        "enabling the client removes the revocation",
    )
}

async fn refused_is_not_reported<S: ClientAdmin + RevocationStore>(store: Arc<S>) -> Outcome {
    store.create(client(&CLIENT)?).await?;
    let (_, stale) = store.load(&CLIENT).await?.ok_or("`load` does not find the client")?;
    store.update(&CLIENT, |client| client.edit().subject("b")).await?;
    let mut cursor = Cursor::start();
    follow(&*store, &mut cursor).await?;
    let refused = race(5, |_| {
        let store = store.clone();
        async move {
            let refused = [
                store.create(client(&CLIENT)?).await.is_err(),
                store.replace(blank(&CLIENT)?.disabled().register()?, stale).await.is_err(),
                store.delete(&ClientId::from_static("unknown")).await.is_err(),
                store.create_all(vec![client(&CLIENT)?]).await? == 0,
            ];
            ensure(refused == [true; 4], format!("expected four refused changes, not {refused:?}"))
        }
    });
    refused.await?.into_iter().collect::<Result<(), super::BoxError>>()?;
    let reported = follow(&*store, &mut cursor).await?;
    ensure(reported.is_empty(), format!("refused changes are reported: {reported:?}"))
}
