//! Replicas that follow a ring, are cut off from it, or leave it.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_cut_off_stops_before_it_is_no_longer_waited_for_and_catches_up_before_it_signs() {
    let site = Site::new();
    let link = Link::to(&site.store);
    let (one, other) = (site.replica().await, site.builder(&link).connect().await.unwrap());
    site.pass(2 * SECOND).await;
    let published = next(&one.status());
    link.is_cut.store(true, Ordering::SeqCst);
    // A key is published that the replica does not have.
    one.publish(SigningKey::generate(Algorithm::EdDSA).unwrap()).await.unwrap();
    site.pass(12 * SECOND).await;
    assert!(other.is_ready(), "it uses the keys that it knows");
    assert_eq!(one.status().lagging.len(), 1);
    assert!(one.status().keys.last().unwrap().may_step_at.is_none(), "it is waited for");
    site.pass(10 * SECOND).await;
    assert!(!other.is_ready() && other.ring().current().is_cut_off(), "it stops before the lease ends");
    assert_eq!(one.status().lagging.len(), 1, "and others wait longer than that");
    site.pass(10 * SECOND).await;
    assert!(one.status().lagging.is_empty() && one.is_ready());
    assert!(one.status().keys.last().unwrap().may_step_at.is_some());

    site.pass(400 * SECOND).await;
    assert_eq!(one.rotate().await.unwrap(), published);
    link.is_cut.store(false, Ordering::SeqCst);
    site.pass(2 * SECOND).await;
    assert!(other.is_ready());
    assert_eq!(signing(&other), published);
    assert_eq!(other.ring().current().signing_key().unwrap().key_id(), published);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_suspended_signs_with_no_old_key_when_it_wakes_up() {
    let site = Site::new();
    let one = site.replica().await;
    let ring = one.ring();
    assert!(ring.current().signing_key().is_ok());
    // The monotonic clock stands still, and no task ran in the meantime.
    site.clock.advance(60 * SECOND);
    let error = ring.current().signing_key().map(drop).unwrap_err().to_string();
    assert!(error.contains("has not reached the key store"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_distrusted_key_is_gone_on_every_replica_within_a_second_and_the_next_one_signs() {
    let site = Site::new();
    let (one, other) = (site.replica().await, site.replica().await);
    site.pass(2 * SECOND).await;
    let (leaked, next_key) = (signing(&one), next(&one.status()));
    one.distrust(&leaked).await.unwrap();
    site.pass(SECOND).await;
    for replica in [&one, &other] {
        assert_eq!(signing(replica), next_key);
        assert!(replica.ring().key_ids().all(|key_id| key_id != leaked));
        assert_eq!(replica.ring().current().signing_key().unwrap().key_id(), next_key);
        assert_eq!(states(replica), [KeyState::Distrusted, KeyState::Signing, KeyState::Published]);
    }
    assert!(matches!(one.distrust("another").await, Err(KeyRingError::NoSuchKey(name)) if name == "another"));
    one.distrust(&leaked).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_ring_that_nothing_follows_any_more_is_not_used() {
    let site = Site::new();
    let link = Link::to(&site.store);
    let one = site.builder(&link).connect().await.unwrap();
    site.pass(2 * SECOND).await;
    assert!(!one.ring().current().is_cut_off());
    link.panics.store(true, Ordering::SeqCst);
    site.pass(2 * SECOND).await;
    assert!(one.ring().current().is_cut_off() && one.ring().current().signing_key().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_read_a_newer_ring_stops_before_its_lease_ends() {
    let site = Site::new();
    let one = site.replica().await;
    let stored = site.store.load_ring("default").await.unwrap();
    site.store.overwrite("default", stored.version + 1, "{}");
    site.pass(2 * SECOND).await;
    assert!(one.is_ready() && one.status().problems[0].contains("not readable"), "{:?}", one.status());
    // Another replica may have distrusted a key.
    site.pass(30 * SECOND).await;
    assert!(!one.is_ready() && one.ring().current().is_cut_off());
    let starting = site.builder(&Link::to(&site.store)).connect().await;
    assert!(matches!(starting, Err(KeyRingError::Key(_))));
}

#[tokio::test(start_paused = true)]
async fn a_ring_is_not_followed_after_its_last_clone_is_dropped() {
    let site = Site::new();
    let one = site.replica().await;
    let ring = one.ring();
    drop(one);
    site.pass(60 * SECOND).await;
    assert!(ring.current().signing_key().is_ok(), "a clone of the ring is enough");
    assert_eq!(site.store.load_ring("default").await.unwrap().replicas.len(), 1);
    drop(ring);
    site.pass(60 * SECOND).await;
    assert!(site.store.load_ring("default").await.unwrap().replicas.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_is_not_waited_for() {
    let site = Site::new();
    let (one, other) = (site.replica().await, site.replica().await);
    site.pass(2 * SECOND).await;
    assert_eq!(site.store.load_ring("default").await.unwrap().replicas.len(), 2);
    other.leave().await.unwrap();
    assert!(!other.is_ready() && one.is_ready());
    assert!(matches!(other.rotate().await, Err(KeyRingError::Left)) && !other.is_ready());
    assert!(matches!(other.refresh().await, Err(KeyRingError::Left)));
    site.pass(20 * SECOND).await;
    assert_eq!(site.store.load_ring("default").await.unwrap().replicas.len(), 1);
}
