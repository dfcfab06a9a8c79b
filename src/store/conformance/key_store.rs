//! Checks the contract of [`KeyStore`].

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Outcome, Violation, ensure, race, step};
use crate::keys::rotation::{KeyStore, Replica};

const MINUTE: Duration = Duration::from_secs(60);

/// Checks that a store keeps the contract of [`KeyStore`].
///
/// # Errors
///
/// The first step that fails.
pub async fn key_store<S: KeyStore, F: Future<Output = S>>(fresh: impl Fn() -> F) -> Result<(), Violation> {
    step("a ring that was never saved has version 0", fresh().await, never_saved).await?;
    step("a ring is saved over the stored version, and over no other", fresh().await, saved_over).await?;
    step("of several that save over one version, exactly one succeeds", fresh().await, saved_concurrently).await?;
    step("a document is read as it was written", fresh().await, unusual_documents).await?;
    step("a replica counts until its lease ends, with its last version and proof", fresh().await, leases).await
}

async fn never_saved<S: KeyStore>(store: Arc<S>) -> Outcome {
    let before = SystemTime::now();
    let stored = store.load_ring("ring").await?;
    ensure(stored.version == 0 && stored.document.is_empty(), "it has a version or a document")?;
    ensure(stored.replicas.is_empty(), "it has replicas")?;
    let differs = stored.now.duration_since(before).unwrap_or_else(|error| error.duration());
    ensure(differs < 60 * MINUTE, "the clock of the store differs by an hour or more from the local one")
}

async fn saved_over<S: KeyStore>(store: Arc<S>) -> Outcome {
    ensure(!store.save_ring("ring", 1, 2, "never").await?, "version 1 was replaced, and it does not exist")?;
    ensure(store.load_ring("ring").await?.version == 0, "a refused save changed the version")?;
    ensure(store.save_ring("ring", 0, 1, "first").await?, "the first save was refused")?;
    ensure(!store.save_ring("ring", 0, 1, "again").await?, "a second first save was accepted")?;
    ensure(store.save_ring("ring", 1, 2, "second").await?, "the second save was refused")?;
    ensure(!store.save_ring("ring", 1, 2, "late").await?, "a save over an old version was accepted")?;
    ensure(store.save_ring("ring", 2, 70, "far").await?, "a save of a much higher version was refused")?;
    let stored = store.load_ring("ring").await?;
    let found = (stored.version, stored.document.as_str());
    ensure(found == (70, "far"), format!("the store has {found:?}, not the last save"))?;
    for other in ["Ring", "ring ", "", "ring'", "ré🦀", "%"] {
        ensure(store.load_ring(other).await?.version == 0, format!("the ring `{other}` is not empty"))?;
        ensure(store.save_ring(other, 0, 1, other).await?, format!("the ring `{other}` cannot be saved"))?;
        ensure(store.load_ring(other).await?.document == other, format!("the ring `{other}` has another document"))?;
    }
    ensure(store.load_ring("ring").await?.document == "far", "a save of another ring changed this ring")
}

async fn saved_concurrently<S: KeyStore>(store: Arc<S>) -> Outcome {
    for version in 0..5 {
        let saved = race(30, |caller| {
            let store = store.clone();
            async move {
                store
                    .save_ring("ring", version, version + 1, &format!("{version} by {caller}"))
                    .await
                    .map(|saved| (saved, caller))
            }
        });
        let saved = saved.await?.into_iter().collect::<Result<Vec<_>, _>>()?;
        let winners: Vec<usize> = saved.into_iter().filter(|(saved, _)| *saved).map(|(_, caller)| caller).collect();
        let [winner] = winners.as_slice() else {
            return Err(format!("{} of 30 saves succeeded", winners.len()).into());
        };
        let stored = store.load_ring("ring").await?;
        let expected = format!("{version} by {winner}");
        ensure(stored.version == version + 1 && stored.document == expected, "the store does not have the winner's")?;
    }
    Ok(())
}

async fn unusual_documents<S: KeyStore>(store: Arc<S>) -> Outcome {
    let long = "0123456789abcdef".repeat(8 * 1024);
    for (version, document) in (0..).zip(["é🦀\"\\\n'", long.as_str(), "{}"]) {
        ensure(store.save_ring("ring", version, version + 1, document).await?, "it is refused")?;
        ensure(store.load_ring("ring").await?.document == document, "it is read as another one")?;
    }
    Ok(())
}

async fn leases<S: KeyStore>(store: Arc<S>) -> Outcome {
    let proof = |name: &str, version| format!("{name}.{version}.{}/+=", "proof-".repeat(20));
    let replica = |name: &str, version| Replica { name: name.to_owned(), version, proof: proof(name, version) };
    store.renew_lease("ring", &replica("a", 1), MINUTE).await?;
    store.renew_lease("ring", &replica("b", 2), MINUTE).await?;
    store.renew_lease("ring", &replica("a", 3), MINUTE).await?;
    store.renew_lease("other", &replica("c", 4), MINUTE).await?;
    let mut found = store.load_ring("ring").await?.replicas;
    found.sort_by(|one, other| one.name.cmp(&other.name));
    ensure(found == [replica("a", 3), replica("b", 2)], format!("the replicas are {found:?}"))?;
    store.renew_lease("ring", &replica("b", 2), Duration::from_millis(1)).await?;
    // However slow the machine is, the lease ends at some time.
    let patience = Instant::now() + MINUTE;
    loop {
        let found = store.load_ring("ring").await?.replicas;
        if found == [replica("a", 3)] {
            return Ok(());
        }
        ensure(Instant::now() < patience, format!("the replicas are {found:?} long after a lease of 1 ms"))?;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
