//! An operator accepts a stored ring, and the call does not come to its end.

use futures_util::FutureExt as _;

use super::*;

/// A site whose store was restored to a backup that lacks the last key of its replica.
struct Backup {
    site: Site,
    link: Link,
    one: KeyManager,
    backup: StoredRing,
    /// The key that the backup lacks.
    lost: String,
}

impl Backup {
    async fn new() -> Self {
        let site = Site::new();
        let link = Link::to(&site.store);
        let one = site.builder(&link).connect().await.unwrap();
        site.pass(2 * SECOND).await;
        let backup = site.store.load_ring("default").await.unwrap();
        let lost = SigningKey::generate(Algorithm::ES256).unwrap();
        let lost_id = lost.key_id().to_owned();
        one.publish(lost).await.unwrap();
        Self { site, link, one, backup, lost: lost_id }
    }

    fn restore(&self) {
        self.site.store.overwrite("default", self.backup.version, &self.backup.document);
    }

    /// The replica refuses the backup, whatever time passes, and uses the ring that it knows.
    async fn assert_refused(&self, why: &str) {
        let known = self.one.status().version;
        for _ in 0..3 {
            assert!(self.one.is_ready() && known > self.backup.version, "{why}");
            assert!(self.one.ring().key_ids().any(|key_id| key_id == self.lost), "{why}");
            assert_eq!(self.one.status().version, known, "{why}");
            assert!(matches!(self.one.rotate().await, Err(KeyRingError::Refused(_))), "{why}");
            let stored = self.site.store.load_ring("default").await.unwrap();
            assert_eq!(stored.version, self.backup.version, "{why}");
            assert_eq!(stored.replicas.iter().map(|replica| replica.version).collect::<Vec<_>>(), [known], "{why}");
            self.site.pass(30 * SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_acceptance_leaves_nothing_behind_and_a_backup_is_refused_afterwards() {
    let case = Backup::new().await;
    case.link.stalls.store(true, Ordering::SeqCst);
    assert!(case.one.accept_stored().now_or_never().is_none(), "the store does not answer, and the caller gives up");
    case.link.stalls.store(false, Ordering::SeqCst);
    case.site.pass(2 * SECOND).await;
    let version = case.one.status().version;
    case.restore();
    case.site.pass(2 * SECOND).await;
    assert_eq!(case.one.status().version, version);
    case.assert_refused("after a cancelled acceptance").await;
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_that_the_store_does_not_save_changes_nothing_on_the_replica() {
    for refused in [RefusedSave::Fails, RefusedSave::Conflicts] {
        let case = Backup::new().await;
        case.restore();
        *case.link.refused_save.lock().unwrap() = Some(refused);
        case.one.accept_stored().await.unwrap_err();
        *case.link.refused_save.lock().unwrap() = None;
        case.assert_refused(&format!("{refused:?}")).await;
        case.one.accept_stored().await.unwrap();
        case.site.pass(2 * SECOND).await;
        assert!(case.one.is_ready() && case.one.status().problems.is_empty());
        assert!(case.one.ring().key_ids().all(|key_id| key_id != case.lost), "it follows the accepted backup");
        case.one.publish(SigningKey::generate(Algorithm::ES256).unwrap()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_cut_off_is_ready_as_soon_as_it_has_accepted_the_stored_ring() {
    let case = Backup::new().await;
    case.link.is_cut.store(true, Ordering::SeqCst);
    case.restore();
    case.site.pass(30 * SECOND).await;
    assert!(!case.one.is_ready());
    case.link.is_cut.store(false, Ordering::SeqCst);
    case.one.accept_stored().await.unwrap();
    assert!(case.one.is_ready() && case.one.status().problems.is_empty());
    let stored = case.site.store.load_ring("default").await.unwrap();
    let versions: Vec<_> = stored.replicas.iter().map(|replica| replica.version).collect();
    assert_eq!((stored.version, versions), (case.one.status().version, vec![case.one.status().version]));
}
