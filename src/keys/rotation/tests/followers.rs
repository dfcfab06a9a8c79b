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
async fn no_command_brings_a_ring_back_that_nothing_follows_any_more_and_each_reaches_the_store() {
    let site = Site::new();
    let link = Link::to(&site.store);
    let (one, other) = (site.builder(&link).connect().await.unwrap(), site.replica().await);
    site.pass(400 * SECOND).await;
    let before = states(&one);
    link.panics.store(true, Ordering::SeqCst);
    site.pass(2 * SECOND).await;
    link.panics.store(false, Ordering::SeqCst);
    let assert_unused = |after: &str| {
        assert!(one.ring().current().is_cut_off() && !one.is_ready(), "after {after}");
        assert!(one.ring().current().signing_key().is_err(), "after {after}");
    };
    one.refresh().await.unwrap();
    assert_unused("a refresh");
    let first = one.rotate().await.unwrap();
    assert_unused("a rotation");
    one.distrust(&first).await.unwrap();
    assert_unused("a distrust");
    assert_ne!(states(&one), before);
    site.pass(SECOND).await;
    assert!(other.is_ready() && states(&other) == states(&one));
    assert!(other.ring().key_ids().all(|key_id| key_id != first));
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

#[tokio::test(start_paused = true)]
async fn a_distrusted_key_stays_gone_although_the_ring_also_trusts_it() {
    let site = Site::new();
    let (one, other) = (site.replica().await, site.replica().await);
    site.pass(2 * SECOND).await;
    let leaked = one.ring().signing_key();
    let rings = [&one, &other].map(|replica| replica.ring().also_trust(leaked.verifying_key()));
    let flags = rings.each_ref().map(|ring| ring.current().trust_in(&leaked.verifying_key()).unwrap());
    one.distrust(leaked.key_id()).await.unwrap();
    site.pass(SECOND).await;
    for (ring, flag) in rings.iter().zip(&flags) {
        assert!(ring.key_ids().all(|key_id| key_id != leaked.key_id()), "it is not published");
        assert!(!ring.current().accepts(&leaked.verifying_key()));
        assert_eq!(flag.get(), TrustLevel::Gone, "tokens that are cached are refused");
        let again = ring.clone().also_trust(leaked.verifying_key());
        assert!(again.key_ids().all(|key_id| key_id != leaked.key_id()), "nor is it trusted again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_distrust_that_the_ring_learns_without_the_key_holds_for_a_key_that_is_trusted_in_addition() {
    let site = Site::new();
    let (one, link) = (site.replica().await, Link::to(&site.store));
    let other = site.builder(&link).connect().await.unwrap();
    site.pass(2 * SECOND).await;
    link.is_cut.store(true, Ordering::SeqCst);
    let leaked = SigningKey::generate(Algorithm::EdDSA).unwrap();
    let (key_id, public) = (leaked.key_id().to_owned(), leaked.verifying_key());
    let ring = other.ring().also_trust(public.clone());
    one.publish(leaked).await.unwrap();
    one.distrust(&key_id).await.unwrap();
    // Its entry goes, and only its name is remembered.
    site.jump(2 * DAY, &[&one]).await;
    assert!(one.status().keys.iter().all(|key| key.key_id != key_id));
    let keys = ring.key_ids().filter(|known| *known != key_id).collect::<Vec<_>>();
    link.is_cut.store(false, Ordering::SeqCst);
    other.refresh().await.unwrap();
    assert_eq!(ring.key_ids().collect::<Vec<_>>(), keys);
    assert!(!ring.current().accepts(&public));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_before_each_answer_of_the_store_is_an_error_and_no_endless_loop() {
    let site = Site::new();
    let link = Link::to(&site.store);
    let one = site.builder(&link).connect().await.unwrap();
    *link.suspended.lock().unwrap() = Some(site.clock.clone());
    let refreshed = timeout(10 * SECOND, one.refresh()).await.expect("the loop has an end");
    assert!(matches!(refreshed, Err(KeyRingError::Store(_))), "{refreshed:?}");
    assert!(!one.is_ready());
    let starting = timeout(10 * SECOND, site.builder(&link).connect()).await.expect("the loop has an end");
    assert!(matches!(starting, Err(KeyRingError::Store(_))));
    *link.suspended.lock().unwrap() = None;
    site.pass(2 * SECOND).await;
    assert!(one.is_ready());
}
