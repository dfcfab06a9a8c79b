//! A view that polls once a minute, so that only its store can wake it earlier.

use std::time::{Duration, Instant, SystemTime};

use tower_client_credentials::Revocations;
use tower_client_credentials::store::{ClientAdmin, Revocation, RevocationStore};

const MINUTE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Follower {
    pub revocations: Revocations,
    /// The number of revocations in the store.
    pub written: usize,
}

impl Follower {
    pub async fn of(replica: impl RevocationStore) -> Self {
        let revocations = Revocations::follow(replica).poll_interval(MINUTE).max_age(3 * MINUTE).await.unwrap();
        Self { revocations, written: 0 }
    }

    /// Asserts that each of a few writes is seen long before the next poll, which is a minute later, and at least one of them within
    /// 100 ms: a busy machine may delay the others. Before that, it writes until the store listens (again).
    pub async fn hears_at_once(&mut self, writer: &impl RevocationStore) {
        let begun = Instant::now();
        while self.hears(writer, Duration::from_secs(2)).await.is_none() {
            assert!(begun.elapsed() < MINUTE / 2, "the store does not listen");
        }
        let mut times = Vec::new();
        for number in 0..11 {
            let heard = self.hears(writer, MINUTE / 2).await;
            times.push(heard.unwrap_or_else(|| panic!("write {number} is not seen")));
        }
        times.sort_unstable();
        println!("a follower sees a write within {:?} to {:?}", times[0], times[10]);
        assert!(times[0] < Duration::from_millis(100), "{times:?}");
        assert!(times[5] < Duration::from_secs(1), "{times:?}");
    }

    /// Writes, and returns how long it takes until the write is known, or `None` beyond `limit`.
    async fn hears(&mut self, writer: &impl RevocationStore, limit: Duration) -> Option<Duration> {
        self.written += 1;
        let revocation = Revocation::key(format!("key-{}", self.written), SystemTime::now(), MINUTE);
        writer.revoke(revocation).await.unwrap();
        self.has(self.written, limit).await
    }

    /// Waits for this number of entries, and returns how long it took, or `None` beyond `limit`.
    pub async fn has(&self, entries: usize, limit: Duration) -> Option<Duration> {
        let begun = Instant::now();
        while self.revocations.entries() < entries {
            if begun.elapsed() > limit {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Some(begun.elapsed())
    }
}

/// Asserts that a store, once it listens, completes `changed` after each kind of change of a client.
pub async fn is_woken_by_each_change_of_a_client(
    writer: &impl ClientAdmin,
    replica: &(impl RevocationStore + Clone),
    listens: impl AsyncFn() -> bool,
) {
    let client = super::client("woken").register().unwrap();
    let listen = || {
        let replica = replica.clone();
        tokio::spawn(async move { replica.changed().await })
    };
    // The first wait makes the store connect, which may wake it.
    let connecting = listen();
    let begun = Instant::now();
    while !listens().await {
        assert!(begun.elapsed() < MINUTE / 2, "the store does not listen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), connecting).await;
    for change in ["create", "disable", "delete"] {
        let woken = listen();
        tokio::task::yield_now().await;
        match change {
            "create" => writer.create(client.clone()).await.unwrap(),
            "disable" => writer.disable(client.id()).await.unwrap(),
            _ => writer.delete(client.id()).await.unwrap(),
        }
        tokio::time::timeout(MINUTE / 2, woken).await.expect(change).unwrap();
    }
}
