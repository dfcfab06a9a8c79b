//! Settings, and the key-encryption key.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_key_encryption_key_is_replaced_without_a_pause_and_a_wrong_one_fails_at_the_start() {
    let site = Site::new();
    let one = site.replica().await;
    let start = |key| KeyManager::builder(site.store.clone(), key).clock(site.clock.clone()).connect();
    let error = start(by(100)).await.unwrap_err().to_string();
    assert!(error.contains(by(100).name()) && error.contains(by(1).name()), "{error}");
    drop(one);
    let both = start(by(100).also(by(1))).await.unwrap();
    let signs = signing(&both);
    both.reseal().await.unwrap();
    let version = both.status().version;
    both.reseal().await.unwrap();
    assert_eq!(both.status().version, version, "once is enough");
    drop(both);
    assert!(start(by(1)).await.is_err());
    assert_eq!(signing(&start(by(100)).await.unwrap()), signs);
}

#[tokio::test(start_paused = true)]
async fn settings_that_cannot_work_are_an_error() {
    let site = Site::new();
    let builder = || site.builder(&Link::to(&site.store));
    for builder in [
        builder().algorithm(Algorithm::HS256),
        builder().poll_interval(Duration::ZERO),
        builder().store_timeout(Duration::ZERO),
        builder().every(Duration::ZERO),
        builder().longest_token(Duration::from_millis(999)),
        builder().lease(Duration::from_millis(999)),
    ] {
        assert!(matches!(builder.connect().await, Err(KeyRingError::Settings(_))));
    }
    for (builder, why) in [
        (builder().lease(Duration::MAX), "`lease` is 18446744073709551615.999999999s, and at most 86400s is possible"),
        (builder().lease(DAY + SECOND), "`lease` is 86401s, and at most 86400s is possible"),
        (builder().max_age(8 * DAY), "`max_age` is 691200s, and at most 604800s is possible"),
        (builder().longest_token(366 * DAY), "`longest_token` is 31622400s, and at most 31536000s is possible"),
        (builder().leeway(3_601 * SECOND), "`leeway` is 3601s, and at most 3600s is possible"),
        (builder().margin(DAY + SECOND), "`margin` is 86401s, and at most 86400s is possible"),
        (
            builder().lease(9 * SECOND),
            "`store_timeout` is 2s, and two thirds of `lease` are 6s, in which 3 calls of the store must end; use a `store_timeout` \
             below 2s, or a longer `lease`",
        ),
        (builder().store_timeout(Duration::MAX), "two thirds of `lease` are 20s"),
    ] {
        let error = builder.connect().await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let longest = builder().lease(DAY).max_age(7 * DAY).longest_token(365 * DAY).leeway(3_600 * SECOND).margin(DAY);
    longest.connect().await.unwrap();
    Site::new().builder(&Link::to(&Site::new().store)).lease(10 * SECOND).connect().await.unwrap();
    let times = SystemTime::UNIX_EPOCH + SECOND;
    let error = KeyRingError::TooEarly { until: times }.to_string();
    assert!(error.ends_with("until 1970-01-01T00:00:01Z"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_key_encryption_key_is_replaced_in_four_rounds_while_every_replica_stays_ready() {
    let site = Site::new();
    let start = |key| site.builder_with(&Link::to(&site.store), key).connect();
    let mut replicas = [start(by(1)).await.unwrap(), start(by(1)).await.unwrap()];
    for round in [by(1).also(by(100)), by(100).also(by(1)), by(100)] {
        for place in 0..replicas.len() {
            replicas[place] = start(round.clone()).await.unwrap();
            // A step at this time is written with the key of the replica that takes it.
            replicas[place].publish(SigningKey::generate(Algorithm::ES256).unwrap()).await.unwrap();
            site.pass(40 * SECOND).await;
            for replica in &replicas {
                assert!(
                    replica.is_ready() && replica.status().problems.is_empty(),
                    "{round:?}: {:?}",
                    replica.status()
                );
                assert_eq!(replica.status().version, replicas[0].status().version);
            }
        }
        if round.names().starts_with(by(100).name()) {
            replicas[0].reseal().await.unwrap();
            site.pass(SECOND).await;
        }
    }
}
