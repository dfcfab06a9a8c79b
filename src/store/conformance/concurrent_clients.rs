//! Checks concurrent calls of [`ClientAdmin`]: each change is one atomic step.

use std::sync::Arc;

use super::{Outcome, blank, client, ensure, listed, race, revision};
use crate::client_id::ClientId;
use crate::registration::RegisteredSecret;
use crate::secret::ClientSecret;
use crate::store::{AdminError, ClientAdmin, ClientChange};

pub(super) async fn creates_concurrently<S: ClientAdmin>(store: Arc<S>) -> Outcome {
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
    let [winner] = *winners else { return Err(format!("{} of 20 calls returned `Ok`, not one", winners.len()).into()) };
    let found = store.find(&ClientId::from_static("billing")).await?.ok_or("the client is not found")?;
    ensure(found.subject() == subject(winner), "the stored client is not that of the `create` that succeeded")
}

pub(super) async fn replaces_concurrently<S: ClientAdmin>(store: Arc<S>) -> Outcome {
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
    let [winner] = *winners else { return Err(format!("{} of 20 calls returned `Ok`, not one", winners.len()).into()) };
    let found = store.find(&id).await?.ok_or("the client is not found")?;
    ensure(found.subject() == subject(winner), "the stored client is not that of the `replace` that succeeded")
}

pub(super) async fn updates_concurrently<S: ClientAdmin>(store: Arc<S>) -> Outcome {
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
    let kept = store.find(&id).await?.ok_or("the client is not found")?.secrets().len();
    ensure(kept == 9, format!("{} of 8 concurrently added secrets were kept", kept - 1))
}

pub(super) async fn deletes_concurrently<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let id = ClientId::from_static("billing");
    store.create(client(&id)?).await?;
    let deleted = race(10, |_| {
        let (store, id) = (store.clone(), id.clone());
        async move { store.delete(&id).await }
    });
    let deleted = deleted.await?;
    let winners = deleted.iter().filter(|result| result.is_ok()).count();
    ensure(winners == 1, format!("{winners} of 10 calls returned `Ok`, not one"))?;
    let others = deleted.iter().all(|result| matches!(result, Ok(()) | Err(AdminError::NotFound)));
    ensure(others, format!("the other calls did not all return `NotFound`: {deleted:?}"))
}

pub(super) async fn conditions_concurrently<S: ClientAdmin>(store: Arc<S>) -> Outcome {
    let ids = [ClientId::from_static("a"), ClientId::from_static("b")];
    for round in 0..10 {
        let mut revisions = Vec::new();
        for id in &ids {
            store.create(client(id)?).await?;
            revisions.push((id.clone(), revision(&*store, id).await?));
        }
        let deleted = race(2, |number| {
            let (store, revisions) = (store.clone(), revisions.clone());
            async move {
                let (Some(own), Some(other)) = (revisions.get(number), revisions.get(1 - number)) else {
                    return Err(super::BoxError::from("there are two clients"));
                };
                let delete = ClientChange::delete(own.0.clone()).provided(other.0.clone(), other.1);
                match store.apply(delete).await {
                    Ok(()) => Ok(true),
                    Err(AdminError::Conflict | AdminError::NotFound) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        });
        let deleted = deleted.await?.into_iter().collect::<Result<Vec<bool>, super::BoxError>>()?;
        let count = deleted.iter().filter(|deleted| **deleted).count();
        let left = listed(&*store, None, 10).await?;
        ensure(
            count == 1 && left.len() == 1,
            format!("in round {round}, {count} of two deletes succeeded, and {left:?} is left; one must remain"),
        )?;
        for id in &left {
            store.delete(id).await?;
        }
    }
    Ok(())
}
