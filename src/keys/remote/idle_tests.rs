//! Sets that are refreshed only while they are used, in simulated time.

use http::Uri;
use tokio::sync::watch;

use super::tests::*;
use super::{KeySource, Place, Policy, RemoteKeys};
use crate::crypto::SystemRandom;
use crate::transport::Limits;
use crate::uri::PlainHttp;

fn set(site: &Site) -> RemoteKeys {
    let keys = new_set(site, Some(HOUR));
    keys.keep_fresh();
    keys
}

fn new_set(site: &Site, refreshed_after_use: Option<Duration>) -> RemoteKeys {
    let source = KeySource {
        client: Arc::new(site.clone()),
        place: Place::OfClient(Uri::from_static(KEYS)),
        algorithms: None,
        limits: Limits::default(),
        plain_http: PlainHttp::Loopback,
        known: Mutex::default(),
    };
    let policy = Policy { most_fresh: 10 * MINUTE, oldest: HOUR, refreshed_after_use, ..Policy::default() };
    RemoteKeys::new(source, policy, Arc::new(Wall(Instant::now())), Arc::new(SystemRandom))
}

/// Does what a request with an assertion does, and returns whether the key was found.
async fn request(keys: &RemoteKeys, ring: &KeyRing) -> bool {
    let key_id = ring.signing_key().key_id().to_owned();
    keys.catch_up(keys.deadline()).await;
    if keys.find(&key_id, "ES256").is_ok() {
        return true;
    }
    let _ = keys.ask(&key_id, "ES256", keys.deadline()).await;
    keys.find(&key_id, "ES256").is_ok()
}

#[test]
fn a_set_that_is_named_and_never_used_is_fetched_once() {
    in_time(async {
        let ring = ring();
        let site = Site::of(&ring);
        let keys = set(&site);
        assert!(request(&keys, &ring).await);
        sleep(10 * HOUR).await;
        assert_eq!(site.fetches(), 1);
    });
}

#[test]
fn a_set_that_is_fresh_is_used_without_another_fetch() {
    in_time(async {
        let ring = ring();
        let site = Site::of(&ring);
        let keys = set(&site);
        for _ in 0..3 {
            assert!(request(&keys, &ring).await);
        }
        assert_eq!(site.fetches(), 1);
    });
}

#[test]
fn a_set_that_is_told_of_a_change_is_fetched_before_it_is_due() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let keys = new_set(&site, None);
        let (change, changes) = watch::channel(());
        keys.follow(changes);
        assert!(request(&keys, &old).await);
        site.publish(&new);
        change.send(()).unwrap();
        sleep(SECOND).await;
        assert_eq!(site.fetches(), 2);
        assert!(keys.find(new.signing_key().key_id(), "ES256").is_ok());
    });
}

#[test]
fn a_set_that_is_used_is_kept_fresh_for_an_hour_after_that() {
    in_time(async {
        let ring = ring();
        let site = Site::of(&ring);
        let keys = set(&site);
        assert!(request(&keys, &ring).await);
        keys.used();
        sleep(HOUR).await;
        let fetches = site.fetches();
        assert!((7..=10).contains(&fetches), "{fetches}");
        sleep(10 * HOUR).await;
        assert!(site.fetches() <= fetches + 1, "{fetches} + {}", site.fetches() - fetches);
    });
}

#[test]
fn a_set_that_was_not_refreshed_is_fetched_before_it_is_used_again() {
    in_time(async {
        let (old, new) = (ring(), ring());
        let site = Site::of(&old);
        let keys = set(&site);
        assert!(request(&keys, &old).await);
        site.publish(&new);
        sleep(20 * MINUTE).await;
        assert!(!request(&keys, &old).await, "the key was removed 20 minutes ago");
        assert!(request(&keys, &new).await);
        // If the fetch fails, the last set is used for up to an hour after it was fetched.
        site.is_down(true);
        sleep(30 * MINUTE).await;
        assert!(request(&keys, &new).await);
        sleep(HOUR).await;
        assert!(!request(&keys, &new).await);
    });
}

#[test]
fn a_set_at_a_dead_url_is_fetched_only_for_requests() {
    in_time(async {
        let ring = ring();
        let site = Site::of(&ring);
        site.is_down(true);
        let keys = set(&site);
        assert!(!request(&keys, &ring).await);
        let fetches = site.fetches();
        sleep(10 * HOUR).await;
        assert_eq!(site.fetches(), fetches);
        site.is_down(false);
        assert!(request(&keys, &ring).await);
    });
}

#[test]
fn many_requests_that_need_an_old_set_cause_one_fetch() {
    in_time(async {
        let ring = ring();
        let site = Site::of(&ring);
        let keys = set(&site);
        assert!(request(&keys, &ring).await);
        sleep(20 * MINUTE).await;
        site.takes(SECOND);
        let requests = (0..100).map(|_| request(&keys, &ring));
        assert!(futures_util::future::join_all(requests).await.into_iter().all(|found| found));
        assert_eq!(site.fetches(), 2);
    });
}
