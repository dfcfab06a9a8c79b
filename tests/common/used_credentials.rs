//! The used credentials in a table of SQL: how long they are kept, and how the table stays bounded.

use tower_client_credentials::store::{Replay, ReplayBounds, ReplayId, ReplayLog, RevocationStore};

use super::at;

pub async fn are_kept_for_a_minute_beyond_their_end(store: &(impl ReplayLog + RevocationStore)) {
    let id = ReplayId::new("issuer", "jti");
    assert_eq!(store.check_and_insert(&id, at(1_000), at(940)).await.unwrap(), Replay::Fresh);
    // The clock of the purging process is ahead of the clock of the other.
    store.purge(at(1_059)).await.unwrap();
    assert_eq!(store.check_and_insert(&id, at(1_000), at(999)).await.unwrap(), Replay::Seen);
    assert_eq!(store.purge(at(1_060)).await.unwrap(), 1);
    assert_eq!(store.check_and_insert(&id, at(1_000), at(999)).await.unwrap(), Replay::Fresh);
}

/// Each use by a client removes some that have expired, too.
pub async fn of_a_client_are_kept_for_a_minute_beyond_their_end(store: &impl ReplayLog) {
    for (name, end, now, expected) in [
        ("one", 1_000, 940, Replay::Fresh),
        ("clock ahead", 2_000, 1_059, Replay::Fresh),
        ("one", 1_000, 999, Replay::Seen),
        ("later", 2_000, 1_060, Replay::Fresh),
        ("one", 1_000, 999, Replay::Fresh),
    ] {
        let (id, bounds) = (ReplayId::new("client", name), ReplayBounds::new("client", 10, 10_000));
        let used = store.check_and_insert_within(&id, bounds, at(end), at(now)).await.unwrap();
        assert_eq!(used, expected, "{name} at {now}");
    }
}

/// `number` returns the result of a query.
pub async fn that_expired_are_removed_by_each_use(store: &impl ReplayLog, number: impl AsyncFn(&'static str) -> i64) {
    const COUNT: &str = "SELECT count(*) FROM tcc_replays";
    let use_one = async |name: &str, end: u64, now: u64| {
        let id = ReplayId::new("issuer", name);
        assert_eq!(store.check_and_insert(&id, at(end), at(now)).await.unwrap(), Replay::Fresh, "{name}");
    };
    for old in 0..30 {
        use_one(&format!("old {old}"), 1_000, 900).await;
    }
    use_one("too early", 2_000, 1_059).await;
    assert_eq!(number(COUNT).await, 31);
    for (name, expected) in [("a", 22), ("b", 13), ("c", 4), ("d", 5)] {
        use_one(name, 2_000, 1_060).await;
        assert_eq!(number(COUNT).await, expected, "{name}");
    }
    // Also if a credential is used again after its expiry.
    use_one("a", 4_000, 3_000).await;
    assert_eq!(number(COUNT).await, 1);
    assert_eq!(number("SELECT max(expires_at) FROM tcc_replays").await, 4_000);
}
