//! [`ClientStore`](crate::ClientStore) and [`ClientAdmin`], held to their contracts.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::{Outcome, Violation, blank, client, ensure, race, step};
use crate::client_id::ClientId;
use crate::registration::{ClientAuthMethod, RegisteredSecret};
use crate::scope::Scope;
use crate::secret::ClientSecret;
use crate::store::{AdminError, ClientAdmin, Revision};

/// Holds a store to the contracts of [`ClientStore`](crate::ClientStore) and [`ClientAdmin`].
///
/// # Errors
///
/// The first step that does not hold.
pub async fn clients<S: ClientAdmin, F: Future<Output = S>>(fresh: impl Fn() -> F) -> Result<(), Violation> {
    step("what was created is found as it was written", fresh().await, found_as_written).await?;
    step("an id is compared byte by byte, whatever it looks like", fresh().await, odd_ids).await?;
    step("a registration may be long", fresh().await, a_long_one).await?;
    step("an id is given once", fresh().await, created_twice).await?;
    step("of creates of one id at once, one wins", fresh().await, creates_at_once).await?;
    step("only the revision that was seen is replaced", fresh().await, stale_revisions).await?;
    step("a client that was created anew is not the old one", fresh().await, created_anew).await?;
    step("of replaces of one revision at once, one wins", fresh().await, replaces_at_once).await?;
    step("updates at once are all kept", fresh().await, updates_at_once).await?;
    step("what was deleted is gone", fresh().await, deleted).await?;
    step("of deletes at once, one wins", fresh().await, deletes_at_once).await?;
    step("clients are listed by page, in the order of their ids' bytes", fresh().await, by_page).await?;
    step("many are created at once, but for those that exist", fresh().await, many).await?;
    step("a client is disabled and enabled, and a secret ends", fresh().await, disabled_and_enabled).await
}

async fn found_as_written<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let secret = RegisteredSecret::new("zweites", ClientSecret::generate()?)?;
    let written = blank("billing")?
        .registered_secret(secret.created_at(UNIX_EPOCH).expires_at(UNIX_EPOCH + Duration::from_secs(4_000_000_000)))
        .authentication(ClientAuthMethod::ClientSecretPost)
        .scopes([Scope::from_static("invoices:read"), Scope::from_static("!#[]~'")])
        .default_scopes(Scope::from_static("invoices:read"))
        .default_audience("https://two.example/?a=%27b%27&c")
        .subject("svc:\"billing\" – \u{1F9FE}\\")
        .token_lifetime(Duration::from_secs(61))
        .introspects("https://api.example.com")
        .without_grant()
        .disabled()
        .register()?;
    store.create(written.clone()).await?;
    let found = store.find(written.id()).await?.ok_or("`find` does not find it")?;
    ensure(*found == written, format!("`find` gives {found:?} for {written:?}"))?;
    let (loaded, _) = store.load(written.id()).await?.ok_or("`load` does not find it")?;
    ensure(*loaded == written, format!("`load` gives {loaded:?} for {written:?}"))?;
    let other = ClientId::from_static("billing2");
    ensure(store.find(&other).await?.is_none(), "`find` gives a client that nobody created")?;
    ensure(store.load(&other).await?.is_none(), "`load` gives a client that nobody created")
}

async fn odd_ids<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let longest = "x".repeat(255);
    let mut ids = [
        "a",
        "A",
        "a ",
        " a",
        " ",
        "%",
        "a%",
        "_",
        "a_",
        "*",
        "a*",
        "?",
        "[a-z]",
        "{a}",
        "{",
        "'",
        "a'b",
        "\"",
        "a\"b",
        "\\",
        "a\\",
        "\\0",
        "--",
        "; DROP TABLE clients",
        "$1",
        "${a}",
        "%00",
        "%61",
        "a/b",
        "../a",
        ".",
        "a:b",
        ":",
        "null",
        "0",
        "00",
        "a\tb",
        "~",
        "a.b",
        "\u{7f}",
        &longest,
    ]
    .into_iter()
    .filter_map(|id| id.parse::<ClientId>().ok())
    .collect::<Vec<_>>();
    for id in &ids {
        let neighbour = store.find(id).await?;
        ensure(neighbour.is_none(), format!("`{id}` is found before it was created: {neighbour:?}"))?;
        store.create(client(id)?).await?;
    }
    for id in &ids {
        let found = store.find(id).await?.ok_or_else(|| format!("`{id}` is not found"))?;
        ensure(found.id() == id, format!("`{id}` finds `{}`", found.id()))?;
    }
    ids.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    ensure(listed(&*store, None, 1_000).await? == ids, "`list` does not have them all in the order of their bytes")?;
    while let Some(id) = ids.pop() {
        store.delete(&id).await?;
        ensure(listed(&*store, None, 1_000).await? == ids, format!("deleting `{id}` deletes another one"))?;
    }
    Ok(())
}

async fn listed<S: ClientAdmin>(
    store: &S,
    after: Option<&ClientId>,
    limit: usize,
) -> Result<Vec<ClientId>, crate::store::StoreError> {
    let page = store.list(after, NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN)).await?;
    Ok(page.iter().map(|client| client.id().clone()).collect())
}

async fn a_long_one<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let path = "a".repeat(400);
    let audiences = (0..500).map(|number| format!("https://api.example.com/{path}/{number}"));
    let long = audiences.fold(blank("long")?, crate::registration::Client::audience).register()?;
    store.create(long.clone()).await?;
    let found = store.find(long.id()).await?.ok_or("it is not found")?;
    ensure(*found == long, "200 KB come back changed")
}

async fn created_twice<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let first = client("billing")?;
    store.create(first.clone()).await?;
    let second = store.create(client("billing")?).await;
    ensure(matches!(second, Err(AdminError::Exists)), format!("the second `create` gives {second:?}, not `Exists`"))?;
    let kept = store.find(first.id()).await?;
    ensure(kept.as_deref() == Some(&first), "the second `create` changed the first one's client")
}

async fn creates_at_once<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let subject = |number: usize| format!("subject {number}");
    let created = race(20, |number| {
        let store = store.clone();
        async move {
            let registered = blank("billing")?.subject(subject(number)).register()?;
            match store.create(registered).await {
                Ok(()) => Ok(Some(number)),
                Err(AdminError::Exists) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
    });
    let created: Vec<Option<usize>> = created.await?.into_iter().collect::<Result<_, super::BoxError>>()?;
    let winners: Vec<usize> = created.into_iter().flatten().collect();
    let [winner] = *winners else { return Err(format!("{} of 20 were told `Ok`, not one", winners.len()).into()) };
    let found = store.find(&ClientId::from_static("billing")).await?.ok_or("it is not found")?;
    ensure(found.subject() == subject(winner), "the client is not the one of the `create` that won")
}

async fn stale_revisions<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let first = client("billing")?;
    store.create(first.clone()).await?;
    let seen = revision(&*store, first.id()).await?;
    let second = blank("billing")?.subject("second").register()?;
    store.replace(second.clone(), seen).await?;
    ensure(revision(&*store, first.id()).await? != seen, "a change does not change the revision")?;
    let third = store.replace(blank("billing")?.subject("third").disabled().register()?, seen).await;
    ensure(matches!(third, Err(AdminError::Conflict)), format!("a stale `replace` gives {third:?}, not `Conflict`"))?;
    ensure(store.find(first.id()).await?.as_deref() == Some(&second), "a stale `replace` changed the client")?;
    let unknown = store.replace(client("unknown")?, seen).await;
    ensure(
        matches!(unknown, Err(AdminError::NotFound)),
        format!("a `replace` of nothing gives {unknown:?}, not `NotFound`"),
    )?;
    ensure(store.find(&ClientId::from_static("unknown")).await?.is_none(), "a `replace` of nothing creates a client")
}

async fn revision<S: ClientAdmin>(store: &S, id: &ClientId) -> Result<Revision, super::BoxError> {
    Ok(store.load(id).await?.ok_or("`load` does not find the client")?.1)
}

async fn created_anew<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let first = client("billing")?;
    store.create(first.clone()).await?;
    let seen = revision(&*store, first.id()).await?;
    store.delete(first.id()).await?;
    store.create(client("billing")?).await?;
    let stale = store.replace(first, seen).await;
    ensure(
        matches!(stale, Err(AdminError::Conflict)),
        format!("a `replace` of the deleted one's revision gives {stale:?}, not `Conflict`"),
    )
}

async fn replaces_at_once<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    let seen = revision(&*store, &id).await?;
    let subject = |number: usize| format!("subject {number}");
    let replaced = race(20, |number| {
        let store = store.clone();
        async move {
            match store.replace(blank("billing")?.subject(subject(number)).register()?, seen).await {
                Ok(()) => Ok(Some(number)),
                Err(AdminError::Conflict) => Ok(None),
                Err(error) => Err(error.into()),
            }
        }
    });
    let replaced: Vec<Option<usize>> = replaced.await?.into_iter().collect::<Result<_, super::BoxError>>()?;
    let winners: Vec<usize> = replaced.into_iter().flatten().collect();
    let [winner] = *winners else { return Err(format!("{} of 20 were told `Ok`, not one", winners.len()).into()) };
    let found = store.find(&id).await?.ok_or("it is not found")?;
    ensure(found.subject() == subject(winner), "the client is not the one of the `replace` that won")
}

async fn updates_at_once<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    let added = race(8, |number| {
        let (store, id) = (store.clone(), id.clone());
        async move {
            let secret = RegisteredSecret::new(format!("secret {number}"), ClientSecret::generate()?)?;
            Ok(store.add_secret(&id, secret).await?)
        }
    });
    added.await?.into_iter().collect::<Result<(), super::BoxError>>()?;
    let kept = store.find(&id).await?.ok_or("it is not found")?.secrets().len();
    ensure(kept == 9, format!("of 8 secrets that were added at once, {} are there", kept - 1))
}

async fn deleted<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    store.create(client("reports")?).await?;
    store.delete(&id).await?;
    ensure(store.find(&id).await?.is_none(), "`find` still finds it")?;
    ensure(store.load(&id).await?.is_none(), "`load` still finds it")?;
    ensure(listed(&*store, None, 10).await? == ["reports"], "`list` does not list what is left")?;
    let again = store.delete(&id).await;
    ensure(matches!(again, Err(AdminError::NotFound)), format!("the second `delete` gives {again:?}, not `NotFound`"))
}

async fn deletes_at_once<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    let deleted = race(10, |_| {
        let (store, id) = (store.clone(), id.clone());
        async move { store.delete(&id).await }
    });
    let deleted = deleted.await?;
    let winners = deleted.iter().filter(|result| result.is_ok()).count();
    ensure(winners == 1, format!("{winners} of 10 were told `Ok`, not one"))?;
    let others = deleted.iter().all(|result| matches!(result, Ok(()) | Err(AdminError::NotFound)));
    ensure(others, format!("the others were not all told `NotFound`: {deleted:?}"))
}

async fn by_page<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let mut ids: Vec<ClientId> = (0..25).filter_map(|number| format!("client-{number}").parse().ok()).collect();
    for id in &ids {
        store.create(client(id)?).await?;
    }
    ids.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    let mut pages = ids.chunks(10);
    let mut after: Option<ClientId> = None;
    loop {
        let page = listed(&*store, after.as_ref(), 10).await?;
        let expected = pages.next().unwrap_or_default();
        ensure(page == expected, format!("after {after:?} come {page:?}, not {expected:?}"))?;
        match page.last() {
            Some(last) => after = Some(last.clone()),
            None => break,
        }
    }
    let between = ClientId::from_static("client-1!");
    let next = listed(&*store, Some(&between), 1).await?;
    ensure(next == ["client-10"], format!("`after` names no client, and {next:?} comes, not the next one"))?;
    ensure(listed(&*store, None, usize::MAX).await? == ids, "a limit beyond all gives not all")
}

async fn many<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let taken = client("client-7")?;
    store.create(taken.clone()).await?;
    let mut clients = (0..2_500).map(|number| client(&format!("client-{number}"))).collect::<Result<Vec<_>, _>>()?;
    clients.push(client("client-9")?);
    let last = clients.get(2_499).cloned().ok_or("there is none")?;
    let created = store.create_all(clients).await?;
    ensure(created == 2_499, format!("of 2,501, with two whose id was taken, {created} are said to be created"))?;
    ensure(store.find(taken.id()).await?.as_deref() == Some(&taken), "the one that was there is not as it was")?;
    ensure(store.find(last.id()).await?.as_deref() == Some(&last), "the last one is not as it was written")?;
    ensure(listed(&*store, None, 10_000).await?.len() == 2_500, "not all are listed")?;
    ensure(store.create_all(Vec::new()).await? == 0, "of none, some are said to be created")
}

async fn disabled_and_enabled<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    let enabled = async || Ok::<_, super::BoxError>(store.find(&id).await?.ok_or("it is not found")?.is_enabled());
    store.disable(&id).await?;
    ensure(!enabled().await?, "a disabled client is found enabled")?;
    store.enable(&id).await?;
    ensure(enabled().await?, "an enabled client is found disabled")?;
    let end = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    store.expire_secret(&id, "1", end).await?;
    let ends = store.find(&id).await?.and_then(|client| client.secret("1")?.expires());
    ensure(ends == Some(end), format!("the secret ends at {ends:?}"))
}
