//! Checks the contracts of [`ClientStore`](crate::ClientStore) and [`ClientAdmin`].

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::concurrent_clients::{
    conditions_concurrently, creates_concurrently, deletes_concurrently, replaces_concurrently, updates_concurrently,
};
use super::workloads::by_workload;
use super::{Outcome, Violation, blank, client, ensure, listed, revision, step};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::keys::rotation::KeyEncryptionKey;
use crate::registration::{ClientAuthMethod, Credential, MayGrant, RegisteredSecret};
use crate::scope::Scope;
use crate::secret::ClientSecret;
use crate::store::{AdminError, ClientAdmin, ClientChange};

/// Checks that a store keeps the contracts of [`ClientStore`](crate::ClientStore) and [`ClientAdmin`].
///
/// # Errors
///
/// The first step that fails.
pub async fn clients<S: ClientAdmin, F: Future<Output = S>>(fresh: impl Fn() -> F) -> Result<(), Violation> {
    step("a created client is found unchanged", fresh().await, found_unchanged).await?;
    step("ids are compared byte by byte", fresh().await, odd_ids).await?;
    step("a registration may be long", fresh().await, a_long_one).await?;
    step("a second client with the same id is refused", fresh().await, created_twice).await?;
    step("one of several concurrent creates of one id succeeds", fresh().await, creates_concurrently).await?;
    step("only the current revision is replaced", fresh().await, stale_revisions).await?;
    step("a client that was deleted and created again has another revision", fresh().await, created_again).await?;
    step("one of several concurrent replaces of one revision succeeds", fresh().await, replaces_concurrently).await?;
    step("concurrent updates are all kept", fresh().await, updates_concurrently).await?;
    step("a change is made only if all its conditions hold", fresh().await, conditions).await?;
    step("two clients that condition each other are not both deleted", fresh().await, conditions_concurrently).await?;
    step("a deleted client is not found", fresh().await, deleted).await?;
    step("one of several concurrent deletes succeeds", fresh().await, deletes_concurrently).await?;
    step("clients are listed by page, sorted by the bytes of their ids", fresh().await, by_page).await?;
    step("`create_all` creates many clients and skips those that exist", fresh().await, many).await?;
    step("clients are found by their workloads, if the store has an index", fresh().await, by_workload).await?;
    step("a client is disabled and enabled, and the expiry of a secret is set", fresh().await, disabled_and_enabled)
        .await
}

async fn found_unchanged<S: ClientAdmin>(store: Arc<S>) -> Outcome {
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
        .name("Abrechnung – \u{1F9FE}")
        .metadata([("team", "a \"b\""), ("note", "")])
        .issued_at(UNIX_EPOCH)
        .may_grant(MayGrant::new().scope(&Scope::from_static("invoices:read")))
        .register()?;
    let key = KeyEncryptionKey::from_bytes((0..32).collect::<Vec<u8>>())?;
    let secret = Credential::client_secret_jwt(&ClientSecret::generate()?)?.with_label("hmac")?;
    let written = written.edit().credential(secret).encrypt_secrets(&key);
    let used = UnixTime::at(UNIX_EPOCH + Duration::from_secs(3));
    let written = written.legacy_assertions_until(UNIX_EPOCH + Duration::from_secs(9)).legacy_audience_used(used);
    let written = written.register()?;
    store.create(written.clone()).await?;
    let found = store.find(written.id()).await?.ok_or("`find` does not find the client")?;
    ensure(*found == written, format!("`find` returns {found:?} for {written:?}"))?;
    let (loaded, _) = store.load(written.id()).await?.ok_or("`load` does not find the client")?;
    ensure(*loaded == written, format!("`load` returns {loaded:?} for {written:?}"))?;
    let other = ClientId::from_static("billing2");
    ensure(store.find(&other).await?.is_none(), "`find` returns a client that was not created")?;
    ensure(store.load(&other).await?.is_none(), "`load` returns a client that was not created")
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
        ensure(found.id() == id, format!("`find` of `{id}` returns `{}`", found.id()))?;
    }
    ids.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    ensure(
        listed(&*store, None, 1_000).await? == ids,
        "`list` does not return all clients sorted by the bytes of their ids",
    )?;
    while let Some(id) = ids.pop() {
        store.delete(&id).await?;
        ensure(listed(&*store, None, 1_000).await? == ids, format!("deleting `{id}` deletes another client"))?;
    }
    Ok(())
}

async fn a_long_one<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let path = "a".repeat(400);
    let audiences = (0..500).map(|number| format!("https://api.example.com/{path}/{number}"));
    let long = audiences.fold(blank("long")?, crate::registration::Client::audience).register()?;
    store.create(long.clone()).await?;
    let found = store.find(long.id()).await?.ok_or("the client is not found")?;
    ensure(*found == long, "a client of 200 KB is returned changed")
}

async fn created_twice<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let first = client("billing")?;
    store.create(first.clone()).await?;
    let second = store.create(client("billing")?).await;
    ensure(matches!(second, Err(AdminError::Exists)), format!("the second `create` returns {second:?}, not `Exists`"))?;
    let kept = store.find(first.id()).await?;
    ensure(kept.as_deref() == Some(&first), "the second `create` changed the client of the first")
}

async fn stale_revisions<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let first = client("billing")?;
    store.create(first.clone()).await?;
    let seen = revision(&*store, first.id()).await?;
    let second = blank("billing")?.subject("second").register()?;
    store.replace(second.clone(), seen).await?;
    ensure(revision(&*store, first.id()).await? != seen, "a change does not change the revision")?;
    let third = store.replace(blank("billing")?.subject("third").disabled().register()?, seen).await;
    ensure(matches!(third, Err(AdminError::Conflict)), format!("a stale `replace` returns {third:?}, not `Conflict`"))?;
    ensure(store.find(first.id()).await?.as_deref() == Some(&second), "a stale `replace` changed the client")?;
    let unknown = store.replace(client("unknown")?, seen).await;
    ensure(
        matches!(unknown, Err(AdminError::NotFound)),
        format!("a `replace` of an unknown client returns {unknown:?}, not `NotFound`"),
    )?;
    ensure(
        store.find(&ClientId::from_static("unknown")).await?.is_none(),
        "a `replace` of an unknown client creates it",
    )
}

async fn conditions<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let (changed, other) = (client("billing")?, client("admin")?);
    store.create(other.clone()).await?;
    let stale = revision(&*store, other.id()).await?;
    store.update(other.id(), |client| client.edit().subject("b")).await?;
    let current = revision(&*store, other.id()).await?;
    let unknown = ClientId::from_static("unknown");
    let create = || ClientChange::create(changed.clone());
    let refused = |result: Result<(), AdminError>, what: &str| match result {
        Err(AdminError::Conflict) => Ok(()),
        result => Err(super::BoxError::from(format!("{what} returns {result:?}, not `Conflict`"))),
    };
    refused(store.apply(create().provided(other.id().clone(), stale)).await, "a create with a stale condition")?;
    refused(store.apply(create().provided(unknown.clone(), current)).await, "a create with an unknown client")?;
    let both = create().provided(other.id().clone(), current).provided(unknown.clone(), current);
    refused(store.apply(both).await, "a create of which one of two conditions holds")?;
    ensure(store.find(changed.id()).await?.is_none(), "a refused create added the client")?;
    store.apply(create().provided(other.id().clone(), current)).await?;

    let seen = revision(&*store, changed.id()).await?;
    let next = blank("billing")?.subject("next").register()?;
    let replace = || ClientChange::replace(next.clone(), seen);
    refused(store.apply(replace().provided(other.id().clone(), stale)).await, "a replace with a stale condition")?;
    ensure(store.find(changed.id()).await?.as_deref() == Some(&changed), "a refused replace changed the client")?;
    store.apply(replace().provided(other.id().clone(), current)).await?;
    ensure(
        store.find(changed.id()).await?.as_deref() == Some(&next),
        "a replace whose condition holds changed nothing",
    )?;

    let delete = || ClientChange::delete(changed.id().clone());
    refused(store.apply(delete().provided(changed.id().clone(), seen)).await, "a delete of a stale revision")?;
    let seen = revision(&*store, changed.id()).await?;
    let stale_other = delete().provided(changed.id().clone(), seen).provided(other.id().clone(), stale);
    refused(store.apply(stale_other).await, "a delete with a stale condition")?;
    ensure(store.find(changed.id()).await?.is_some(), "a refused delete removed the client")?;
    store.apply(delete().provided(changed.id().clone(), seen).provided(other.id().clone(), current)).await?;
    ensure(store.find(changed.id()).await?.is_none(), "a delete whose conditions hold removed nothing")
}

async fn created_again<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let first = client("billing")?;
    store.create(first.clone()).await?;
    let seen = revision(&*store, first.id()).await?;
    store.delete(first.id()).await?;
    store.create(client("billing")?).await?;
    let stale = store.replace(first, seen).await;
    ensure(
        matches!(stale, Err(AdminError::Conflict)),
        format!("a `replace` of a deleted revision returns {stale:?}, not `Conflict`"),
    )
}

async fn deleted<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    store.create(client("reports")?).await?;
    store.delete(&id).await?;
    ensure(store.find(&id).await?.is_none(), "`find` still finds the client")?;
    ensure(store.load(&id).await?.is_none(), "`load` still finds the client")?;
    ensure(listed(&*store, None, 10).await? == ["reports"], "`list` does not return exactly the remaining client")?;
    let again = store.delete(&id).await;
    ensure(matches!(again, Err(AdminError::NotFound)), format!("the second `delete` returns {again:?}, not `NotFound`"))
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
        ensure(page == expected, format!("the page after {after:?} is {page:?}, not {expected:?}"))?;
        match page.last() {
            Some(last) => after = Some(last.clone()),
            None => break,
        }
    }
    let between = ClientId::from_static("client-1!");
    let next = listed(&*store, Some(&between), 1).await?;
    ensure(
        next == ["client-10"],
        format!("after an id without a client, `list` returns {next:?}, not the next client"),
    )?;
    ensure(
        listed(&*store, None, usize::MAX).await? == ids,
        "with the largest limit, `list` does not return all clients",
    )
}

async fn many<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let taken = client("client-7")?;
    store.create(taken.clone()).await?;
    let mut clients = (0..2_500).map(|number| client(&format!("client-{number}"))).collect::<Result<Vec<_>, _>>()?;
    clients.push(client("client-9")?);
    let last = clients.get(2_499).cloned().ok_or("client 2,499 is missing")?;
    let created = store.create_all(clients).await?;
    ensure(
        created == 2_499,
        format!("`create_all` returns {created}, not 2,499, for 2,501 clients of which two exist"),
    )?;
    ensure(store.find(taken.id()).await?.as_deref() == Some(&taken), "`create_all` changed a client that existed")?;
    ensure(store.find(last.id()).await?.as_deref() == Some(&last), "the last client is not found unchanged")?;
    ensure(listed(&*store, None, 10_000).await?.len() == 2_500, "`list` does not return all clients")?;
    ensure(store.create_all(Vec::new()).await? == 0, "`create_all` without clients does not return 0")
}

async fn disabled_and_enabled<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    let enabled =
        async || Ok::<_, super::BoxError>(store.find(&id).await?.ok_or("the client is not found")?.is_enabled());
    store.disable(&id).await?;
    ensure(!enabled().await?, "a disabled client is found enabled")?;
    store.enable(&id).await?;
    ensure(enabled().await?, "an enabled client is found disabled")?;
    let end = UNIX_EPOCH + Duration::from_secs(2_000_000_000);
    store.expire_secret(&id, "1", end).await?;
    let ends = store.find(&id).await?.and_then(|client| client.secret("1")?.expires());
    ensure(ends == Some(end), format!("the secret expires at {ends:?}"))
}
