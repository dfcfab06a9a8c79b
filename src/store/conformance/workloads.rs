//! Checks the index of workloads of a store that has one.

use std::sync::Arc;

use super::{BoxError, Outcome, blank, ensure, race};
use crate::client_id::ClientId;
use crate::registration::{Client, Credential, WorkloadKey};
use crate::store::ClientAdmin;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const ACCOUNT: &str = "system:serviceaccount:prod:billing";

fn account() -> Result<Credential, BoxError> {
    Ok(Credential::service_account(ISSUER, "prod", "billing")?)
}

fn svid(id: &str) -> Result<Credential, BoxError> {
    Ok(Credential::spiffe_id(id.parse()?))
}

fn with(id: &str, credentials: impl IntoIterator<Item = Result<Credential, BoxError>>) -> Result<Client, BoxError> {
    credentials.into_iter().try_fold(blank(id)?, |client, credential| Ok(client.credential(credential?)))
}

async fn found<S: ClientAdmin>(store: &S, keys: &[WorkloadKey]) -> Result<Option<Vec<String>>, BoxError> {
    let Some(found) = store.find_by_workload(keys).await? else { return Ok(None) };
    let mut found: Vec<String> = found.iter().map(|id| id.as_str().to_owned()).collect();
    found.sort_unstable();
    Ok(Some(found))
}

/// Checks which clients have an account and an SVID.
async fn expect<S: ClientAdmin>(store: &S, when: &str, account: &[&str], svid: &[&str]) -> Outcome {
    let id = "spiffe://example.org/ns/prod/billing".parse()?;
    let of_svid = WorkloadKey::matching(&id).ok_or("the SPIFFE ID is short")?;
    for (keys, expected) in [(vec![WorkloadKey::platform(ISSUER, ACCOUNT)], account), (of_svid, svid)] {
        let ids = found(store, &keys).await?.unwrap_or_default();
        ensure(ids == expected, format!("{when}, `find_by_workload` returns {ids:?}, not {expected:?}"))?;
    }
    Ok(())
}

pub(super) async fn by_workload<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let exact = || svid("spiffe://example.org/ns/prod/billing");
    if found(&*store, &[WorkloadKey::platform(ISSUER, ACCOUNT)]).await?.is_none() {
        return Ok(());
    }
    expect(&*store, "in an empty store", &[], &[]).await?;
    let odd = "a:b c/\"";
    store.create(blank("none")?.register()?).await?;
    store.create(with(odd, [account(), exact()])?.register()?).await?;
    expect(&*store, "after a create", &[odd], &[odd]).await?;
    let other =
        [svid("spiffe://example.org/ns/prod"), svid("spiffe://example.org/ns/pro/*"), svid("spiffe://other.org/*")];
    store.create(with("other", other)?.register()?).await?;
    expect(&*store, "with credentials for other workloads", &[odd], &[odd]).await?;

    let of_other_issuer = Credential::service_account("https://other.example", "prod", "billing")?;
    store.create(with("pattern", [svid("spiffe://example.org/ns/*"), Ok(of_other_issuer)])?.register()?).await?;
    expect(&*store, "with a pattern", &[odd], &[odd, "pattern"]).await?;
    store.create(with("again", [account()])?.disabled().register()?).await?;
    expect(&*store, "with a second, disabled client", &[odd, "again"], &[odd, "pattern"]).await?;

    let id: ClientId = odd.parse()?;
    store.update(&id, |client| client.edit().subject("changed")).await?;
    expect(&*store, "after another change", &[odd, "again"], &[odd, "pattern"]).await?;
    store.update(&id, |client| client.edit().without_credential("2")).await?;
    expect(&*store, "after a credential was removed", &["again"], &[odd, "pattern"]).await?;
    store.delete(&id).await?;
    expect(&*store, "after a delete", &["again"], &["pattern"]).await?;
    store.create(blank(odd)?.register()?).await?;
    expect(&*store, "after it was created again without them", &["again"], &["pattern"]).await?;
    store.delete(&id).await?;

    let many = [with("again", [exact()])?, with("many", [account(), exact()])?, with("many", [])?];
    store.create_all(many.into_iter().map(Client::register).collect::<Result<_, _>>()?).await?;
    expect(&*store, "after `create_all`, which skips clients", &["again", "many"], &["many", "pattern"]).await?;

    let created = race(20, |number| {
        let store = store.clone();
        async move { Ok::<_, BoxError>(store.create(with(&format!("c{number}"), [account()])?.register()?).await?) }
    });
    created.await?.into_iter().collect::<Result<(), BoxError>>()?;
    let several = found(&*store, &[WorkloadKey::platform(ISSUER, ACCOUNT)]).await?.unwrap_or_default();
    ensure(several.len() >= 2, format!("of 22 clients with one account, `find_by_workload` returns {several:?}"))
}
