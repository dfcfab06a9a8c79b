//! Waiting for a store that is being made to fail, and what a view of it reports.

use std::time::{Duration, Instant};

use tower_client_credentials::Revocations;
use tower_client_credentials::event::{self, EventReceiver, Outcome};
use tower_client_credentials::store::{Change, Changes, Cursor, RevocationStore, StoreError};

/// How long a call may take: a disk that is busy with other tests must not fail one of these.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for real processes, servers and files, which cannot be controlled by a simulated clock. Returns how long it took.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "timed out waiting for: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// A view of the store, and the events that it reports.
pub async fn follow(store: impl RevocationStore) -> (Revocations, EventReceiver) {
    let (events, listener) = event::channel();
    (Revocations::follow(store).events(events).store_timeout(PATIENCE).await.unwrap(), listener)
}

/// Waits for a poll that began after this call, and succeeded.
pub async fn still_polls(view: &Revocations) {
    let begun = Instant::now();
    until("a poll succeeds", async || view.age() < begun.elapsed()).await;
    assert!(view.is_ready());
}

/// Waits for the event that reports a loss, and returns the reason.
pub async fn loss(listener: &mut EventReceiver) -> String {
    let event =
        tokio::time::timeout(Duration::from_secs(30), listener.recv()).await.expect("no event reports the loss");
    match event.unwrap().outcome {
        Outcome::StoreLostData { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

/// Reads the feed to its end. Returns the changes, the cursor, and the signs of a loss.
pub async fn read(
    store: &impl RevocationStore,
    mut cursor: Cursor,
) -> Result<(Vec<Change>, Cursor, Vec<String>), StoreError> {
    let (mut all, mut signs) = (Vec::new(), Vec::new());
    loop {
        let Changes { changes, cursor: next, more, lost, .. } = store.changes(&cursor).await?;
        all.extend(changes);
        signs.extend(lost);
        cursor = next;
        if !more {
            return Ok((all, cursor, signs));
        }
    }
}
