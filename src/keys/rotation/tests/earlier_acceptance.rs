//! A replica returns that knows an acceptance, to a store that was restored to a time before it.

use super::*;

struct Returned {
    site: Site,
    away: KeyManager,
    /// It started with the restored ring, and distrusted a key of the other replica.
    stranger: KeyManager,
    leaked: String,
}

impl Returned {
    /// `stranger_stays` says whether the other replica is alive when the first one returns.
    async fn new(stranger_stays: bool) -> Self {
        let site = Site::new();
        let link = Link::to(&site.store);
        let away = site.builder(&link).connect().await.unwrap();
        site.pass(2 * SECOND).await;
        let backup = site.store.load_ring("default").await.unwrap();
        away.accept_stored().await.unwrap();
        let leaked = signing(&away);
        link.is_cut.store(true, Ordering::SeqCst);
        site.store.overwrite("default", backup.version, &backup.document);
        site.store.forget_replicas("default");
        let stranger = site.replica().await;
        for _ in 0..4 {
            let key = SigningKey::generate(Algorithm::EdDSA).unwrap();
            stranger.publish(key).await.unwrap();
        }
        stranger.distrust(&leaked).await.unwrap();
        site.pass(SECOND).await;
        if !stranger_stays {
            stranger.leave().await.unwrap();
        }
        link.is_cut.store(false, Ordering::SeqCst);
        site.pass(2 * SECOND).await;
        Self { site, away, stranger, leaked }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_does_not_use_a_key_that_a_refused_ring_distrusts() {
    let case = Returned::new(false).await;
    let known = case.away.status().version;
    for _ in 0..3 {
        assert!(case.away.is_ready() && case.away.status().version == known, "the stored ring is refused");
        assert!(
            case.away.status().keys.iter().any(|key| key.key_id == case.leaked && key.state == KeyState::Distrusted)
        );
        assert!(case.away.ring().key_ids().all(|key_id| key_id != case.leaked));
        assert_ne!(case.away.ring().current().signing_key().unwrap().key_id(), case.leaked);
        assert!(matches!(case.away.rotate().await, Err(KeyRingError::Refused(_))));
        case.site.pass(30 * SECOND).await;
    }
    case.away.accept_stored().await.unwrap();
    let stored = case.site.store.load_ring("default").await.unwrap();
    let stored: serde_json::Value = serde_json::from_str(&stored.document).unwrap();
    assert_eq!(stored["distrusted"], serde_json::json!([case.leaked]));
}

#[tokio::test(start_paused = true)]
async fn a_replica_of_an_earlier_acceptance_stops_while_others_live_on_the_restored_ring() {
    let Returned { site, away, stranger, leaked } = Returned::new(true).await;
    for _ in 0..4 {
        site.pass(30 * SECOND).await;
        assert!(!away.is_ready(), "the others may have changes that it lacks: {:?}", away.status());
    }
    assert!(away.ring().key_ids().all(|key_id| key_id != leaked));
    stranger.accept_stored().await.unwrap();
    site.pass(2 * SECOND).await;
    for replica in [&away, &stranger] {
        assert!(replica.is_ready() && replica.status().problems.is_empty(), "{:?}", replica.status());
        assert_eq!(replica.status().version, stranger.status().version);
        assert!(replica.ring().key_ids().all(|key_id| key_id != leaked));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_says_that_the_document_is_altered_and_not_that_it_is_old() {
    let site = Site::new();
    let one = site.replica().await;
    one.accept_stored().await.unwrap();
    site.pass(2 * SECOND).await;
    let stored = site.store.load_ring("default").await.unwrap();
    let altered = stored.document.replace("\"rotate\":false", "\"rotate\":true");
    assert_ne!(altered, stored.document);
    for (document, why) in [("{}", "not readable"), (altered.as_str(), "were altered")] {
        site.store.overwrite("default", stored.version, document);
        let starting = site.builder(&Link::to(&site.store)).connect().await.unwrap_err().to_string();
        assert!(starting.contains(why), "{starting}");
    }
}
