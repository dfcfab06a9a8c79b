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
    let times = SystemTime::UNIX_EPOCH + SECOND;
    let error = KeyRingError::TooEarly { until: times }.to_string();
    assert!(error.ends_with("until 1970-01-01T00:00:01Z"), "{error}");
}
