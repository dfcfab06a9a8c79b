//! Stores that were restored from a backup, or altered.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_restored_backup_is_refused_until_an_operator_accepts_it_and_no_replica_starts_with_it() {
    let site = Site::new();
    let (events, mut received) = event::channel();
    let one = site.builder(&Link::to(&site.store)).events(events).connect().await.unwrap();
    let other = site.replica().await;
    site.pass(2 * SECOND).await;
    let backup = site.store.load_ring("default").await.unwrap();
    let leaked = signing(&one);
    one.distrust(&leaked).await.unwrap();
    site.pass(SECOND).await;
    site.store.overwrite("default", backup.version, &backup.document);
    site.pass(60 * SECOND).await;
    for replica in [&one, &other] {
        assert!(replica.is_ready(), "it uses the keys that it knows");
        assert!(replica.ring().key_ids().all(|key_id| key_id != leaked));
    }
    assert!(matches!(one.rotate().await, Err(KeyRingError::Refused(_))));
    let starting = site.builder(&Link::to(&site.store)).connect().await;
    assert!(starting.unwrap_err().to_string().contains("restored from an older copy"));
    let refusals = std::iter::from_fn(|| received.try_recv())
        .filter(|event| matches!(&event.outcome, Outcome::KeyRingRefused { reason } if reason.contains("restored")));
    assert_eq!(refusals.count(), 1);

    one.accept_stored().await.unwrap();
    site.pass(2 * SECOND).await;
    for replica in [&one, &other] {
        assert_eq!(signing(replica), leaked, "the operator accepted it");
    }
    one.distrust(&leaked).await.unwrap();
    site.pass(SECOND).await;
    assert!(other.ring().key_ids().all(|key_id| key_id != leaked));
    assert!(site.replica().await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_starts_accepts_a_restored_ring_which_then_counts_on_every_replica() {
    let site = Site::new();
    let one = site.replica().await;
    site.pass(2 * SECOND).await;
    let backup = site.store.load_ring("default").await.unwrap();
    let first = signing(&one);
    one.distrust(&first).await.unwrap();
    let known = one.status().version;
    site.store.overwrite("default", backup.version, &backup.document);
    assert!(site.builder(&Link::to(&site.store)).connect().await.is_err());
    let tool = site.builder(&Link::to(&site.store)).accept_stored().connect().await.unwrap();
    assert!(tool.status().version > known, "{:?}", tool.status());
    site.pass(2 * SECOND).await;
    assert_eq!(signing(&one), first);
    // From now on, it is as strict as any other.
    site.store.overwrite("default", backup.version, &backup.document);
    assert!(matches!(tool.rotate().await, Err(KeyRingError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn an_altered_row_is_not_used_raises_an_event_and_stops_all_steps() {
    let site = Site::new();
    let (events, mut received) = event::channel();
    let one = site.builder(&Link::to(&site.store)).events(events).every(DAY).connect().await.unwrap();
    let (signs, altered) = (signing(&one), next(&one.status()));
    let stored = site.store.load_ring("default").await.unwrap();
    let document = stored.document.replace("\"state\":\"published\"", "\"state\":\"signing\"");
    assert_ne!(document, stored.document);
    site.store.overwrite("default", stored.version, &document);
    site.pass(2 * SECOND).await;
    assert_eq!(one.ring().key_ids().collect::<Vec<_>>(), [signs.as_str()]);
    assert!(one.status().problems[0].contains(&altered), "{:?}", one.status());
    let refused = std::iter::from_fn(|| received.try_recv())
        .find(|event| matches!(&event.outcome, Outcome::KeyRingRefused { reason } if reason.contains("not authentic")));
    assert!(refused.is_some());
    site.pass(2 * SECOND).await;
    assert_eq!(site.store.load_ring("default").await.unwrap().document, document, "nothing is written over it");
    assert!(matches!(one.distrust(&signs).await, Err(KeyRingError::Refused(_))));
    one.accept_stored().await.unwrap();
    assert_eq!(states(&one), [KeyState::Signing, KeyState::Published]);
    assert!(one.status().problems.is_empty() && one.ring().key_ids().all(|key_id| key_id != altered));
}

#[tokio::test(start_paused = true)]
async fn a_ring_that_cannot_be_read_for_a_moment_does_not_prevent_a_distrust_afterwards() {
    let site = Site::new();
    let one = site.replica().await;
    let signs = signing(&one);
    let stored = site.store.load_ring("default").await.unwrap();
    site.store.overwrite("default", stored.version, "{}");
    site.pass(2 * SECOND).await;
    assert!(one.status().problems[0].contains("not readable"), "{:?}", one.status());
    assert!(matches!(one.distrust(&signs).await, Err(KeyRingError::Refused(_))), "nothing is written over it");
    site.store.overwrite("default", stored.version, &stored.document);
    site.pass(2 * SECOND).await;
    assert!(one.status().problems.is_empty(), "{:?}", one.status());
    one.distrust(&signs).await.unwrap();
    assert!(one.ring().key_ids().all(|key_id| key_id != signs));
}
