//! Steps of keys: their times, the schedule, and which replica takes them.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_ring_has_a_key_that_signs_and_the_next_one_and_a_restart_keeps_both() {
    let site = Site::new();
    let first = site.replica().await;
    assert_eq!(states(&first), [KeyState::Signing, KeyState::Published]);
    assert!(first.is_ready() && first.ring().key_ids().count() == 2);
    let (signs, keys) = (signing(&first), first.ring().key_ids().collect::<Vec<_>>());
    drop(first);
    let again = site.replica().await;
    assert_eq!((signing(&again), again.ring().key_ids().collect::<Vec<_>>()), (signs, keys));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_too_early_is_refused_with_its_time_and_possible_at_that_time() {
    let site = Site::new();
    let (one, other) = (site.replica().await, site.replica().await);
    site.look(&[&one, &other]).await;
    let (first, next_key) = (signing(&one), next(&one.status()));
    let Err(KeyRingError::TooEarly { until }) = one.rotate().await else { panic!("caches do not have the next key") };
    assert_eq!(until, site.clock.now() + 6 * 60 * SECOND);
    assert!(matches!(one.remove(&first).await, Err(KeyRingError::Signs(_))));
    site.jump((6 * 60 * SECOND).saturating_sub(Duration::from_millis(1)), &[&one, &other]).await;
    assert!(matches!(other.rotate().await, Err(KeyRingError::TooEarly { .. })));
    site.jump(Duration::from_millis(1), &[&one, &other]).await;
    assert_eq!(other.rotate().await.unwrap(), next_key);
    assert_eq!(states(&other), [KeyState::Retired, KeyState::Signing, KeyState::Published]);

    // `one` may still sign with the old key until it has looked at the store.
    let Err(KeyRingError::NotEverywhere { replicas, then }) = other.remove(&first).await else { panic!("too early") };
    assert_eq!((replicas.len(), then), (1, DAY + (5 + 13 + 60) * SECOND));
    site.look(&[&one, &other]).await;
    assert_eq!(signing(&one), next_key);
    let Err(KeyRingError::TooEarly { until }) = one.remove(&first).await else { panic!("its tokens are valid") };
    assert_eq!(until, site.clock.now() + then);
    site.jump(then.saturating_sub(SECOND), &[&one, &other]).await;
    assert!(one.ring().key_ids().any(|key_id| key_id == first));
    site.jump(SECOND, &[&one, &other]).await;
    assert!(one.ring().key_ids().all(|key_id| key_id != first));
    assert_eq!(states(&one), [KeyState::Signing, KeyState::Published]);
}

#[tokio::test(start_paused = true)]
async fn the_schedule_rotates_for_years_and_every_step_has_an_event() {
    let site = Site::new();
    let (events, mut received) = event::channel_with_capacity(1_000);
    let one = site.builder(&Link::to(&site.store)).every(90 * DAY).events(events).connect().await.unwrap();
    let mut signed = vec![signing(&one)];
    for _ in 0..10 * 365 {
        site.jump(DAY, &[&one]).await;
        if signed.last() != Some(&signing(&one)) {
            signed.push(signing(&one));
        }
        assert!(one.status().keys.len() <= 3 && one.is_ready());
    }
    assert_eq!(signed.len(), 1 + 10 * 365 / 90);
    let mut steps = std::collections::HashMap::<_, usize>::new();
    while let Some(event) = received.try_recv() {
        let Outcome::KeyRingChanged { step, .. } = event.outcome else { panic!("{event:?}") };
        *steps.entry(step).or_default() += 1;
    }
    let count = |step: &str| steps.get(step).copied().unwrap_or(0);
    assert_eq!((count("signing"), count("published"), count("retired")), (41, 41, 40));
    assert!((39..=40).contains(&count("removed")), "{steps:?}");
}

#[tokio::test(start_paused = true)]
async fn of_many_replicas_that_start_and_rotate_at_once_exactly_one_creates_each_key() {
    let site = Site::new();
    let links: Vec<_> = (0..32).map(|_| Link::to(&site.store)).collect();
    let replicas = join_all(links.iter().map(|link| site.builder(link).every(DAY).connect())).await;
    let replicas: Vec<_> = replicas.into_iter().map(Result::unwrap).collect();
    let all: Vec<&KeyManager> = replicas.iter().collect();
    site.look(&all).await;
    for _ in 0..3 {
        let created: usize = links.iter().map(|link| link.saves.swap(0, Ordering::SeqCst)).sum();
        assert!(created > 0);
        let first = replicas[0].ring().key_ids().collect::<Vec<_>>();
        for replica in &replicas {
            assert_eq!(replica.ring().key_ids().collect::<Vec<_>>(), first);
        }
        let before = signing(&replicas[0]);
        site.clock.advance(DAY);
        join_all(replicas.iter().map(KeyManager::refresh)).await;
        site.look(&all).await;
        assert_ne!(signing(&replicas[0]), before);
        let trusted = |state| states(&replicas[0]).iter().filter(|own| **own == state).count();
        assert_eq!((trusted(KeyState::Signing), trusted(KeyState::Published)), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_with_a_longer_wait_makes_all_wait_longer() {
    let site = Site::new();
    let one = site.replica().await;
    site.look(&[&one]).await;
    let before = one.status().keys[1].may_step_at.unwrap();
    let other = site.builder(&Link::to(&site.store)).max_age(3_600 * SECOND).connect().await.unwrap();
    site.look(&[&one, &other]).await;
    assert_eq!(one.status().keys[1].may_step_at.unwrap(), before + 3_300 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_private_half_of_a_key_that_never_signs_again_is_in_no_memory() {
    let site = Site::new();
    let (one, other) = (site.replica().await, site.replica().await);
    site.look(&[&one, &other]).await;
    site.jump(6 * 60 * SECOND, &[&one, &other]).await;
    let leaked = next(&one.status());
    let first = signing(&one);
    one.rotate().await.unwrap();
    assert!(!one.private_keys().await.contains(&first), "it is the one that saved the step");
    site.look(&[&one, &other]).await;
    assert!(!other.private_keys().await.contains(&first));
    assert!(one.private_keys().await.contains(&leaked));
    one.distrust(&leaked).await.unwrap();
    site.look(&[&one, &other]).await;
    for replica in [&one, &other] {
        let keys = replica.private_keys().await;
        assert!(keys.len() == 2 && !keys.contains(&leaked), "{keys:?}");
    }
}
