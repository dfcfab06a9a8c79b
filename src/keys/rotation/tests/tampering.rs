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
        assert!(replica.is_ready() && replica.status().problems.is_empty());
        assert!(replica.ring().key_ids().all(|key_id| key_id != leaked), "the replicas know of the distrust");
    }
    assert!(states(&one).contains(&KeyState::Distrusted));
    assert!(site.replica().await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_starts_accepts_a_restored_ring_which_then_counts_on_every_replica() {
    let site = Site::new();
    let one = site.replica().await;
    site.pass(2 * SECOND).await;
    let backup = site.store.load_ring("default").await.unwrap();
    let first = signing(&one);
    let lost = SigningKey::generate(Algorithm::ES256).unwrap();
    let lost_id = lost.key_id().to_owned();
    one.publish(lost).await.unwrap();
    let known = one.status().version;
    site.store.overwrite("default", backup.version, &backup.document);
    assert!(site.builder(&Link::to(&site.store)).connect().await.is_err());
    let tool = site.builder(&Link::to(&site.store)).accept_stored().connect().await.unwrap();
    assert!(tool.status().version > known, "{:?}", tool.status());
    site.pass(2 * SECOND).await;
    assert_eq!(signing(&one), first);
    assert!(one.ring().key_ids().all(|key_id| key_id != lost_id));
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
    let keys = [(signs.clone(), KeyState::Signing), (altered.clone(), KeyState::Published)];
    let known = || one.status().keys.iter().map(|key| (key.key_id.clone(), key.state)).collect::<Vec<_>>();
    assert_eq!(known(), keys, "the replica has its own copy of this version, which is authentic");
    assert!(one.status().problems[0].contains(&altered), "{:?}", one.status());
    let refused = std::iter::from_fn(|| received.try_recv())
        .find(|event| matches!(&event.outcome, Outcome::KeyRingRefused { reason } if reason.contains("not authentic")));
    assert!(refused.is_some());
    site.pass(2 * SECOND).await;
    assert_eq!(site.store.load_ring("default").await.unwrap().document, document, "nothing is written over it");
    assert!(matches!(one.distrust(&signs).await, Err(KeyRingError::Refused(_))));
    one.accept_stored().await.unwrap();
    assert_eq!(known(), keys, "the row of the replica replaces the altered one");
    assert!(one.status().problems.is_empty());
}

#[tokio::test(start_paused = true)]
async fn altering_the_store_takes_no_key_from_a_replica_that_has_it_and_its_copy_repairs_the_store() {
    for altered in ["a row", "no row", "a setting"] {
        let site = Site::new();
        let (one, other) = (site.replica().await, site.replica().await);
        site.pass(2 * SECOND).await;
        let (signs, keys) = (signing(&one), one.ring().key_ids().collect::<Vec<_>>());
        let stored = site.store.load_ring("default").await.unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&stored.document).unwrap();
        match altered {
            "a row" => json["keys"][0]["since"] = 1.into(),
            "no row" => drop(json["keys"].as_array_mut().unwrap().remove(0)),
            _ => json["before_signing"] = 0.into(),
        }
        site.store.overwrite("default", stored.version, &json.to_string());
        site.pass(60 * SECOND).await;
        for replica in [&one, &other] {
            assert_eq!(replica.ring().current().signing_key().unwrap().key_id(), signs, "{altered}");
            assert_eq!(replica.ring().key_ids().collect::<Vec<_>>(), keys, "{altered}");
            assert_eq!(replica.status().problems.len(), 1, "{altered}: {:?}", replica.status());
            assert!(matches!(replica.rotate().await, Err(KeyRingError::Refused(_))), "{altered}");
        }
        one.accept_stored().await.unwrap();
        site.pass(2 * SECOND).await;
        let started = site.replica().await;
        for replica in [&one, &other, &started] {
            assert!(replica.is_ready() && replica.status().problems.is_empty(), "{altered}");
            assert_eq!(replica.ring().key_ids().collect::<Vec<_>>(), keys, "{altered}");
            assert_eq!(signing(replica), signs, "{altered}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_ring_that_cannot_be_read_for_a_moment_does_not_prevent_a_distrust_afterwards() {
    let site = Site::new();
    let one = site.replica().await;
    let signs = signing(&one);
    let stored = site.store.load_ring("default").await.unwrap();
    for (version, document, problem) in [
        (stored.version, "{}", "not readable"),
        (stored.version + 1, stored.document.as_str(), "but is stored as version"),
    ] {
        site.store.overwrite("default", version, document);
        site.pass(2 * SECOND).await;
        assert!(one.status().problems[0].contains(problem), "{:?}", one.status());
        assert!(matches!(one.distrust(&signs).await, Err(KeyRingError::Refused(_))), "nothing is written over it");
    }
    site.store.overwrite("default", stored.version, &stored.document);
    site.pass(2 * SECOND).await;
    assert!(one.status().problems.is_empty(), "{:?}", one.status());
    one.distrust(&signs).await.unwrap();
    assert!(one.ring().key_ids().all(|key_id| key_id != signs));
}

/// A site on which a backup was restored, and another process changed the restored ring while two replicas that know of a distrust
/// could not reach the store. The version in the store is then not lower than theirs.
struct Restored {
    site: Site,
    one: KeyManager,
    other: KeyManager,
    stranger: KeyManager,
    leaked: String,
    received: event::EventReceiver,
}

impl Restored {
    async fn new(versions_ahead: i64) -> Self {
        let site = Site::new();
        let (events, received) = event::channel();
        let links = [Link::to(&site.store), Link::to(&site.store)];
        let one = site.builder(&links[0]).events(events).connect().await.unwrap();
        let other = site.builder(&links[1]).connect().await.unwrap();
        site.pass(2 * SECOND).await;
        let backup = site.store.load_ring("default").await.unwrap();
        let leaked = signing(&one);
        one.distrust(&leaked).await.unwrap();
        site.pass(SECOND).await;
        let known = one.status().version;

        let cut = |is_cut| links.each_ref().map(|link| link.is_cut.store(is_cut, Ordering::SeqCst));
        cut(true);
        site.store.overwrite("default", backup.version, &backup.document);
        site.store.forget_replicas("default");
        let stranger = site.replica().await;
        stranger.publish(SigningKey::generate(Algorithm::ES256).unwrap()).await.unwrap();
        change_until(&stranger, known.cast_signed().saturating_add(versions_ahead).cast_unsigned()).await;
        cut(false);
        site.pass(2 * SECOND).await;
        Self { site, one, other, stranger, leaked, received }
    }

    fn refusals(&mut self) -> usize {
        std::iter::from_fn(|| self.received.try_recv())
            .filter(|event| {
                matches!(&event.outcome, Outcome::KeyRingRefused { reason } if reason.contains("does not descend"))
            })
            .count()
    }
}

/// Changes a ring until it has this version: it publishes a key, removes it, and so on.
async fn change_until(replica: &KeyManager, version: u64) {
    let mut published: Option<String> = None;
    while replica.status().version < version {
        if let Some(key_id) = published.take() {
            replica.remove(&key_id).await.unwrap();
        } else {
            let key = SigningKey::generate(Algorithm::EdDSA).unwrap();
            published = Some(key.key_id().to_owned());
            replica.publish(key).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restored_ring_that_another_process_changed_is_refused_although_its_version_is_not_lower() {
    for versions_ahead in [0, 1, 40] {
        let mut restored = Restored::new(versions_ahead).await;
        let Restored { site, one, other, stranger, leaked, .. } = &restored;
        assert!(stranger.ring().key_ids().any(|key_id| key_id == *leaked), "it cannot know of the distrust");
        for replica in [one, other] {
            assert!(replica.is_ready(), "it uses the keys that it knows");
            assert!(replica.ring().key_ids().all(|key_id| key_id != *leaked));
            assert!(replica.status().problems[0].contains("does not descend"), "{:?}", replica.status());
            assert!(matches!(replica.rotate().await, Err(KeyRingError::Refused(_))));
        }
        assert!(matches!(stranger.rotate().await, Err(KeyRingError::Refused(_))), "it knows of the other history");
        let starting = site.builder(&Link::to(&site.store)).connect().await;
        assert!(matches!(starting, Err(KeyRingError::Refused(_))));
        // Each side may have distrusted a key that the other one uses.
        site.pass(30 * SECOND).await;
        for replica in [one, other, stranger] {
            assert!(!replica.is_ready());
        }
        assert_eq!(restored.refusals(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_away_for_too_many_versions_refuses_a_ring_that_lost_a_distrust() {
    let restored = Restored::new(100).await;
    let Restored { one, other, leaked, .. } = &restored;
    for replica in [one, other] {
        assert!(replica.ring().key_ids().all(|key_id| key_id != *leaked));
        assert!(replica.status().problems[0].contains("does not descend"), "{:?}", replica.status());
    }
    one.accept_stored().await.unwrap();
    restored.site.pass(2 * SECOND).await;
    for replica in [one, other, &restored.stranger] {
        assert!(replica.is_ready() && replica.ring().key_ids().all(|key_id| key_id != *leaked));
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_away_for_many_versions_follows_the_ring_when_it_is_back() {
    for versions in [10, 100] {
        let site = Site::new();
        let link = Link::to(&site.store);
        let (one, away) = (site.replica().await, site.builder(&link).connect().await.unwrap());
        site.pass(2 * SECOND).await;
        link.is_cut.store(true, Ordering::SeqCst);
        change_until(&one, one.status().version + versions).await;
        site.pass(60 * SECOND).await;
        link.is_cut.store(false, Ordering::SeqCst);
        site.pass(2 * SECOND).await;
        assert!(away.is_ready() && away.status().version == one.status().version, "{versions}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_replica_accepts_a_changed_restored_ring_and_all_follow_without_an_undone_distrust() {
    let restored = Restored::new(3).await;
    let Restored { site, one, other, stranger, leaked, .. } = &restored;
    let known: Vec<_> = one.ring().key_ids().collect();
    let published = stranger.ring().key_ids().find(|key_id| !known.contains(key_id) && key_id != leaked).unwrap();
    site.pass(30 * SECOND).await;
    one.accept_stored().await.unwrap();
    site.pass(2 * SECOND).await;
    for replica in [one, other, stranger] {
        assert!(replica.is_ready() && replica.status().problems.is_empty(), "{:?}", replica.status());
        assert_eq!(replica.status().version, one.status().version);
        let key_ids: Vec<_> = replica.ring().key_ids().collect();
        assert!(!key_ids.contains(leaked) && key_ids.contains(&published), "{key_ids:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tool_accepts_a_changed_restored_ring_and_the_replicas_repeat_the_distrust_that_it_lacks() {
    let restored = Restored::new(3).await;
    let Restored { site, one, other, stranger, leaked, .. } = &restored;
    let tool = site.builder(&Link::to(&site.store)).accept_stored().connect().await.unwrap();
    site.pass(2 * SECOND).await;
    for replica in [one, other, stranger, &tool] {
        assert!(replica.is_ready() && replica.status().problems.is_empty(), "{:?}", replica.status());
        assert!(replica.ring().key_ids().all(|key_id| key_id != *leaked));
        assert_ne!(signing(replica), *leaked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_distrusted_key_cannot_be_published_again_even_after_the_ring_has_removed_it() {
    let site = Site::new();
    let one = site.replica().await;
    let key = || SigningKey::from_pem(include_str!("../../../../tests/keys/p256.pem")).unwrap();
    let key_id = key().key_id().to_owned();
    one.publish(key()).await.unwrap();
    one.distrust(&key_id).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(one.publish(key()).await, Err(KeyRingError::Distrusted(name)) if name == key_id));
        site.jump(2 * DAY, &[&one]).await;
        assert!(one.status().keys.iter().all(|key| key.key_id != key_id));
    }
}

#[tokio::test(start_paused = true)]
async fn accept_stored_takes_no_setting_from_a_list_that_is_not_authentic() {
    let site = Site::new();
    let one = site.builder(&Link::to(&site.store)).every(None).connect().await.unwrap();
    site.look(&[&one]).await;
    let signs = signing(&one);
    let stored = site.store.load_ring("default").await.unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&stored.document).unwrap();
    json["before_signing"] = 0.into();
    json["before_removal"] = 0.into();
    json["algorithm"] = "EdDSA".into();
    json["rotate"] = true.into();
    for tool in [false, true] {
        let stored = site.store.load_ring("default").await.unwrap();
        let mut now: serde_json::Value = serde_json::from_str(&stored.document).unwrap();
        for member in ["before_signing", "before_removal", "algorithm", "rotate"] {
            now[member] = json[member].clone();
        }
        site.store.overwrite("default", stored.version, &now.to_string());
        site.pass(SECOND).await;
        if tool {
            drop(site.builder(&Link::to(&site.store)).every(None).accept_stored().connect().await.unwrap());
        } else {
            one.accept_stored().await.unwrap();
        }
        site.pass(SECOND).await;
        assert!(one.status().problems.is_empty());
        assert_eq!(signing(&one), signs);
        assert!(matches!(one.rotate().await, Err(KeyRingError::TooEarly { .. } | KeyRingError::NotEverywhere { .. })));
    }
    site.pass(400 * SECOND).await;
    assert_eq!(signing(&one), signs, "the altered list wanted a rotation");
    one.rotate().await.unwrap();
    assert!(one.status().keys.iter().all(|key| key.algorithm == Algorithm::ES256));
    assert!(one.status().keys.iter().any(|key| key.key_id == signs), "its tokens are valid");
}

#[tokio::test(start_paused = true)]
async fn a_forged_lease_is_no_evidence_of_a_restore_and_raises_no_version() {
    let site = Site::new();
    let (events, mut received) = event::channel();
    let one = site.builder(&Link::to(&site.store)).events(events).connect().await.unwrap();
    let version = one.status().version;
    let forged = Replica { name: "forged".to_owned(), version: u64::MAX, proof: String::new() };
    site.store.renew_lease("default", &forged, DAY).await.unwrap();
    site.pass(30 * SECOND).await;
    assert!(one.is_ready());
    one.publish(SigningKey::generate(Algorithm::ES256).unwrap()).await.unwrap();
    assert!(one.status().version < version + 5, "{}", one.status().version);
    assert!(site.replica().await.is_ready());
    let reports = std::iter::from_fn(|| received.try_recv())
        .filter(|event| matches!(&event.outcome, Outcome::KeyRingRefused { reason } if reason.contains("forged")));
    assert_eq!(reports.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn accept_stored_writes_nothing_over_a_ring_that_this_replica_cannot_read() {
    let site = Site::new();
    let (one, other) = (site.replica().await, site.replica().await);
    site.pass(2 * SECOND).await;
    let leaked = signing(&one);
    // A distrust under a newer key-encryption key, which `one` does not have.
    let both = by(3).also(by(1));
    let newer = KeyManager::builder(Link::to(&site.store), both).clock(site.clock.clone()).connect().await.unwrap();
    drop(other);
    newer.distrust(&leaked).await.unwrap();
    let stored = site.store.load_ring("default").await.unwrap();
    site.pass(2 * SECOND).await;
    for _ in 0..2 {
        one.accept_stored().await.unwrap_err();
        let now = site.store.load_ring("default").await.unwrap();
        assert_eq!((now.version, &now.document), (stored.version, &stored.document));
    }
    assert!(newer.is_ready() && newer.ring().key_ids().all(|key_id| key_id != leaked));

    // The same for a document of another format.
    site.store.overwrite("default", stored.version, "{}");
    one.accept_stored().await.unwrap_err();
    assert_eq!(site.store.load_ring("default").await.unwrap().document, "{}");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_returns_after_a_restored_ring_was_accepted_follows_it_and_stops_no_other() {
    for versions_ahead in [1, 3] {
        let site = Site::new();
        let link = Link::to(&site.store);
        let away = site.builder(&link).connect().await.unwrap();
        site.pass(2 * SECOND).await;
        let backup = site.store.load_ring("default").await.unwrap();
        let leaked = signing(&away);
        away.distrust(&leaked).await.unwrap();
        site.pass(SECOND).await;
        let known = away.status().version;
        // It is cut off while the store is restored, another process changes the ring, and an operator accepts it.
        link.is_cut.store(true, Ordering::SeqCst);
        site.store.overwrite("default", backup.version, &backup.document);
        site.store.forget_replicas("default");
        let stranger = site.replica().await;
        change_until(&stranger, known + versions_ahead).await;
        let tool = site.builder(&Link::to(&site.store)).accept_stored().connect().await.unwrap();
        site.pass(SECOND).await;
        change_until(&stranger, tool.status().version + 2).await;
        tool.leave().await.unwrap();
        site.pass(60 * SECOND).await;
        assert!(!away.is_ready());

        link.is_cut.store(false, Ordering::SeqCst);
        for _ in 0..60 {
            site.pass(SECOND).await;
            assert!(stranger.is_ready() && stranger.status().problems.is_empty(), "{:?}", stranger.status());
        }
        assert!(away.is_ready() && away.status().problems.is_empty(), "{:?}", away.status());
        assert_eq!(away.status().version, stranger.status().version);
        for replica in [&away, &stranger] {
            assert!(replica.ring().key_ids().all(|key_id| key_id != leaked), "the distrust was repeated");
        }
        assert!(site.replica().await.is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn an_accepted_ring_does_not_count_as_a_descendant_of_what_was_changed_after_it() {
    let site = Site::new();
    let link = Link::to(&site.store);
    let one = site.builder(&link).connect().await.unwrap();
    one.accept_stored().await.unwrap();
    site.pass(2 * SECOND).await;
    let backup = site.store.load_ring("default").await.unwrap();
    let leaked = signing(&one);
    one.distrust(&leaked).await.unwrap();
    link.is_cut.store(true, Ordering::SeqCst);
    site.store.overwrite("default", backup.version, &backup.document);
    site.store.forget_replicas("default");
    let stranger = site.replica().await;
    change_until(&stranger, one.status().version + 1).await;
    link.is_cut.store(false, Ordering::SeqCst);
    site.pass(2 * SECOND).await;
    assert!(one.status().problems[0].contains("does not descend"), "{:?}", one.status());
    assert!(matches!(stranger.rotate().await, Err(KeyRingError::Refused(_))));
}

/// A site whose store was restored and whose ring was then accepted by a tool, while a replica with a much higher version was away, and
/// no other one was running.
async fn accepted_while_away(site: &Site, link: &Link, away: &KeyManager) -> (StoredRing, StoredRing) {
    site.pass(2 * SECOND).await;
    let backup = site.store.load_ring("default").await.unwrap();
    let leaked = signing(away);
    away.distrust(&leaked).await.unwrap();
    change_until(away, away.status().version + 40).await;
    let latest = site.store.load_ring("default").await.unwrap();
    link.is_cut.store(true, Ordering::SeqCst);
    accept_by_a_tool(site, &backup).await;
    (backup, latest)
}

async fn accept_by_a_tool(site: &Site, backup: &StoredRing) {
    site.store.overwrite("default", backup.version, &backup.document);
    site.store.forget_replicas("default");
    let tool = site.builder(&Link::to(&site.store)).accept_stored().connect().await.unwrap();
    tool.leave().await.unwrap();
    assert!(tool.status().version < backup.version + 5);
}

#[tokio::test(start_paused = true)]
async fn a_returning_replica_follows_a_ring_that_was_accepted_meanwhile_although_its_own_version_is_higher() {
    let site = Site::new();
    let link = Link::to(&site.store);
    let away = site.builder(&link).connect().await.unwrap();
    let leaked = signing(&away);
    let (backup, _) = accepted_while_away(&site, &link, &away).await;
    for _ in 0..2 {
        let other = site.replica().await;
        assert!(other.status().version < away.status().version);
        site.pass(60 * SECOND).await;
        assert!(!away.is_ready());
        link.is_cut.store(false, Ordering::SeqCst);
        for _ in 0..60 {
            site.pass(SECOND).await;
            assert!(other.is_ready() && other.status().problems.is_empty(), "{:?}", other.status());
        }
        assert!(away.is_ready() && away.status().problems.is_empty(), "{:?}", away.status());
        assert_eq!(away.status().version, other.status().version);
        assert_eq!(signing(&away), signing(&other));
        for replica in [&away, &other] {
            assert!(replica.ring().key_ids().all(|key_id| key_id != leaked), "the distrust was repeated");
        }
        assert!(site.replica().await.is_ready());
        // Again, while it knows of the first acceptance, which the backup lacks.
        change_until(&away, away.status().version + 40).await;
        link.is_cut.store(true, Ordering::SeqCst);
        other.leave().await.unwrap();
        accept_by_a_tool(&site, &backup).await;
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_later_acceptance_lets_a_replica_follow_a_ring_that_lacks_its_changes() {
    let site = Site::new();
    let link = Link::to(&site.store);
    let away = site.builder(&link).connect().await.unwrap();
    let (backup, never_accepted) = accepted_while_away(&site, &link, &away).await;
    let one = site.replica().await;
    let earlier = site.store.load_ring("default").await.unwrap();
    site.pass(2 * SECOND).await;
    change_until(&one, one.status().version + 3).await;
    let accepted_first = site.store.load_ring("default").await.unwrap();
    one.accept_stored().await.unwrap();
    let current = site.store.load_ring("default").await.unwrap();
    for (old, why) in [
        (&backup, "an older version"),
        (&earlier, "an older version after an acceptance"),
        (&accepted_first, "the version before the last acceptance"),
        (&never_accepted, "a higher version that was never accepted"),
    ] {
        site.store.overwrite("default", old.version, &old.document);
        site.pass(40 * SECOND).await;
        assert!(one.is_ready() && one.status().version == current.version, "{why}");
        assert!(one.status().problems.is_empty() || one.status().problems[0].contains("restored"), "{why}");
        assert!(matches!(one.rotate().await, Err(KeyRingError::Refused(_))), "{why}");
        let starting = site.builder(&Link::to(&site.store)).connect().await;
        assert!(starting.unwrap_err().to_string().contains("restored from an older copy"), "{why}");
    }
    site.store.overwrite("default", current.version, &current.document);
    site.pass(2 * SECOND).await;
    assert!(one.is_ready() && site.replica().await.is_ready());
}

#[tokio::test(start_paused = true)]
async fn after_an_acceptance_each_wait_begins_again_since_other_replicas_were_seen_at_another_time() {
    let site = Site::new();
    let one = site.builder(&Link::to(&site.store)).every(None).connect().await.unwrap();
    site.pass(400 * SECOND).await;
    let backup = site.store.load_ring("default").await.unwrap();
    let next_key = next(&one.status());
    for tool in [false, true] {
        // Caches may have got key sets without this key since.
        one.remove(&next_key).await.unwrap();
        site.pass(SECOND).await;
        site.store.overwrite("default", backup.version, &backup.document);
        if tool {
            drop(site.builder(&Link::to(&site.store)).every(None).accept_stored().connect().await.unwrap());
        } else {
            one.accept_stored().await.unwrap();
        }
        site.pass(2 * SECOND).await;
        assert_eq!(next(&one.status()), next_key);
        let early = one.rotate().await;
        assert!(matches!(early, Err(KeyRingError::TooEarly { .. } | KeyRingError::NotEverywhere { .. })), "{early:?}");
    }
    site.pass(400 * SECOND).await;
    assert_eq!(one.rotate().await.unwrap(), next_key);
}
