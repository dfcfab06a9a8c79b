//! Replicas that share a ring, with an injected clock and simulated time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::{
    KeyEncryptionKey, KeyManager, KeyManagerBuilder, KeyRingError, KeyState, KeyStore, KeyStoreError, KeyStoreFuture,
    MemoryKeyStore, Replica, RingStatus, StoredRing,
};
use crate::clock::{Clock as _, ManualClock};
use crate::event::{self, Outcome};
use crate::keys::{Algorithm, SignError, SignFuture, Signer, SignerLimits, SigningKey, VerifyingKey};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3_600);

fn by(first: u8) -> KeyEncryptionKey {
    KeyEncryptionKey::from_bytes((first..first + 32).collect::<Vec<u8>>()).unwrap()
}

/// A store whose connection can fail.
#[derive(Clone, Debug)]
struct Link {
    store: MemoryKeyStore,
    is_cut: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    saves: Arc<AtomicUsize>,
}

impl Link {
    fn to(store: &MemoryKeyStore) -> Self {
        Self { store: store.clone(), is_cut: Arc::default(), panics: Arc::default(), saves: Arc::default() }
    }

    fn check(&self) -> Result<(), KeyStoreError> {
        assert!(!self.panics.load(Ordering::SeqCst), "a mistake in a store");
        if self.is_cut.load(Ordering::SeqCst) { Err(KeyStoreError::new("cut off")) } else { Ok(()) }
    }
}

impl KeyStore for Link {
    fn load_ring<'a>(&'a self, ring: &'a str) -> KeyStoreFuture<'a, StoredRing> {
        Box::pin(async move {
            self.check()?;
            self.store.load_ring(ring).await
        })
    }

    fn save_ring<'a>(&'a self, ring: &'a str, over: u64, version: u64, document: &'a str) -> KeyStoreFuture<'a, bool> {
        Box::pin(async move {
            self.check()?;
            let saved = self.store.save_ring(ring, over, version, document).await?;
            self.saves.fetch_add(saved.into(), Ordering::SeqCst);
            Ok(saved)
        })
    }

    fn renew_lease<'a>(&'a self, ring: &'a str, replica: &'a Replica, lease: Duration) -> KeyStoreFuture<'a, ()> {
        Box::pin(async move {
            self.check()?;
            self.store.renew_lease(ring, replica, lease).await
        })
    }
}

/// A store with its clock, which all replicas have as their wall clock, too.
struct Site {
    clock: ManualClock,
    store: MemoryKeyStore,
}

impl Site {
    fn new() -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        Self { store: MemoryKeyStore::default().clock(clock.clone()), clock }
    }

    /// Waits of 5 minutes and a minute for publication; of a day, 18 seconds and a minute for removal.
    fn builder(&self, link: &Link) -> KeyManagerBuilder {
        KeyManager::builder(link.clone(), by(1)).clock(self.clock.clone())
    }

    async fn replica(&self) -> KeyManager {
        self.builder(&Link::to(&self.store)).connect().await.unwrap()
    }

    /// Lets simulated time pass for the store and the tasks of the replicas alike.
    async fn pass(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(SECOND);
            self.clock.advance(step);
            sleep(step).await;
            left -= step;
        }
    }

    /// Lets more time pass than tasks can poll through, with a look of each replica at its end.
    async fn jump(&self, time: Duration, replicas: &[&KeyManager]) {
        self.clock.advance(time);
        self.look(replicas).await;
    }

    /// Each replica looks twice: the first look may take a step, the second shows it to all.
    async fn look(&self, replicas: &[&KeyManager]) {
        for _ in 0..2 {
            for replica in replicas {
                replica.refresh().await.unwrap();
            }
        }
    }
}

fn states(manager: &KeyManager) -> Vec<KeyState> {
    manager.status().keys.iter().map(|key| key.state).collect()
}

fn signing(manager: &KeyManager) -> String {
    manager.status().signing().unwrap().key_id.clone()
}

fn next(status: &RingStatus) -> String {
    status.keys.iter().find(|key| key.state == KeyState::Published).unwrap().key_id.clone()
}

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
async fn a_change_of_the_algorithm_is_a_rotation() {
    let site = Site::new();
    let one = site.replica().await;
    site.jump(DAY, &[&one]).await;
    let first = signing(&one);
    one.change_algorithm(Algorithm::EdDSA).await.unwrap();
    assert_eq!(signing(&one), first, "caches do not have the new key yet");
    assert_eq!(one.ring().current().signing_algorithms(), ["ES256", "EdDSA"]);
    site.look(&[&one]).await;
    site.jump(6 * 60 * SECOND, &[&one]).await;
    let status = one.status();
    let algorithms: Vec<_> = status.keys.iter().map(|key| (key.algorithm, key.state)).collect();
    let expected = [
        (Algorithm::ES256, KeyState::Retired),
        (Algorithm::EdDSA, KeyState::Signing),
        (Algorithm::EdDSA, KeyState::Published),
    ];
    assert_eq!(algorithms, expected);
    assert!(one.change_algorithm(Algorithm::RS256).await.unwrap_err().to_string().contains("openssl"));
}

/// A key that another process has.
#[derive(Debug)]
struct Elsewhere(VerifyingKey);

impl Signer for Elsewhere {
    fn verifying_key(&self) -> VerifyingKey {
        self.0.clone()
    }

    fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async { Err(SignError::new("never called")) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_behind_a_signer_signs_only_where_it_was_given() {
    let site = Site::new();
    let public = SigningKey::generate(Algorithm::ES256).unwrap().verifying_key();
    let key = || SigningKey::from_signer(Elsewhere(public.clone()), SignerLimits::default()).unwrap();
    let with = async || site.builder(&Link::to(&site.store)).external_key(key()).connect().await.unwrap();
    let (one, without) = (with().await, site.replica().await);
    one.publish(key()).await.unwrap();
    one.remove(&next(&one.status())).await.unwrap();
    site.look(&[&one, &without]).await;
    site.jump(6 * 60 * SECOND, &[&one, &without]).await;
    assert_eq!(one.rotate().await.unwrap(), public.key_id());
    site.look(&[&one, &without]).await;
    assert!(one.is_ready() && !without.is_ready());
    let error = without.ring().current().signing_key().map(drop).unwrap_err().to_string();
    assert!(error.contains("external_key"), "{error}");
    assert!(with().await.is_ready());
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
    site.pass(20 * SECOND).await;
    assert_eq!(site.store.load_ring("default").await.unwrap().replicas.len(), 1);
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
    assert!(error.ends_with("until 1 (seconds since 1970)"), "{error}");
}
