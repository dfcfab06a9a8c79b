//! Tests of [`MemoryStore`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::replays::Replays;
use super::{MAX_ENTRIES, MemoryStore, PURGED_AT_ONCE};
use crate::client_id::ClientId;
use crate::clock::{ManualClock, UnixTime};
use crate::registration::Client;
use crate::secret::ClientSecret;
use crate::store::{Change, ChangeFeed, ClientAdmin as _, Cursor, Replay, ReplayId, Revocation, RevocationStore as _};
use crate::sync::{read, write};

const NOW: SystemTime = UNIX_EPOCH;
const BILLING: ClientId = ClientId::from_static("billing");

async fn reported(store: &MemoryStore, cursor: &Cursor) -> (Vec<Change>, Cursor) {
    let changes = store.changes(cursor).await.unwrap();
    (changes.changes, changes.cursor)
}

/// Returns the numbers of all changes, of revocations, and of clients in the feed.
fn lengths(store: &MemoryStore) -> (usize, usize, usize) {
    let feed = read(&store.shared.feed);
    (feed.entries.len(), feed.revoked.len(), feed.latest.len())
}

#[test]
fn a_full_replay_log_refuses_a_new_credential_until_another_has_expired() {
    let id = |number: usize| ReplayId::new("issuer", &number.to_string());
    let second = |seconds| UnixTime::from_secs(seconds).unwrap();
    let seen = (1..MAX_ENTRIES).map(|number| (id(number), second(60))).collect();
    let mut replays = Replays { seen, ..Replays::default() };
    assert_eq!(replays.check_and_insert(id(0), second(60), second(0)).unwrap(), Replay::Fresh);
    let late = id(MAX_ENTRIES);
    for now in [0, 59] {
        replays.check_and_insert(late, second(90), second(now)).unwrap_err();
        assert_eq!(replays.check_and_insert(id(0), second(90), second(now)).unwrap(), Replay::Seen);
    }
    assert_eq!(replays.check_and_insert(late, second(90), second(60)).unwrap(), Replay::Fresh);
}

#[test]
fn expired_credentials_are_removed_in_parts_and_count_no_more_at_once() {
    let id = |number: usize| ReplayId::new("issuer", &number.to_string());
    let second = |seconds| UnixTime::from_secs(seconds).unwrap();
    let mut replays = Replays::default();
    let count = 2 * PURGED_AT_ONCE + 500;
    for number in 0..count {
        assert_eq!(replays.check_and_insert(id(number), second(60), second(0)).unwrap(), Replay::Fresh);
    }
    for left in [count - PURGED_AT_ONCE, 500] {
        let (_, last) = replays.by_end.iter().rfind(|(end, _)| *end == second(60)).copied().unwrap();
        assert_eq!(replays.check_and_insert(last, second(190), second(120)).unwrap(), Replay::Fresh);
        assert_eq!((replays.seen.len(), replays.by_end.len()), (left, left), "one of them is recorded again");
        assert_eq!(replays.check_and_insert(last, second(191), second(0)).unwrap(), Replay::Seen);
    }
}

#[test]
fn a_credential_is_not_fresh_again_after_the_clock_was_set_back_by_a_minute() {
    let id = |name| ReplayId::new("issuer", name);
    let second = |seconds| UnixTime::from_secs(seconds).unwrap();
    let mut replays = Replays::default();
    for (name, now, expected) in [
        ("a", 0, Replay::Fresh),
        // Each use of another credential removes what has expired.
        ("b", 119, Replay::Fresh),
        ("a", 59, Replay::Seen),
        ("c", 120, Replay::Fresh),
        ("a", 59, Replay::Fresh),
    ] {
        let end = if name == "a" { 60 } else { 500 };
        assert_eq!(replays.check_and_insert(id(name), second(end), second(now)).unwrap(), expected, "{name} at {now}");
    }
}

#[tokio::test]
async fn a_purge_removes_everything_that_has_expired_but_only_a_part_at_once() {
    let store = MemoryStore::default().clock(ManualClock::at(NOW));
    let ends = |seconds| NOW + Duration::from_secs(seconds);
    for number in 0..2_500 {
        store.revoke(Revocation::token(format!("t{number}"), BILLING, NOW, ends(60))).await.unwrap();
    }
    store.revoke(Revocation::token("kept", BILLING, NOW, ends(10_000))).await.unwrap();
    let late = UnixTime::at(ends(5_000));
    assert_eq!(write(&store.shared.feed).purge_some(late), PURGED_AT_ONCE);
    assert_eq!(lengths(&store), (1_501, 1_501, 0));
    assert_eq!(store.purge(ends(5_000)).await.unwrap(), 1_500);
    assert_eq!(lengths(&store), (1, 1, 0));
    assert_eq!(store.purge(ends(5_000)).await.unwrap(), 0);
}

#[tokio::test]
async fn an_equal_revocation_is_stored_once_and_reported_to_every_reader() {
    let store = MemoryStore::default().clock(ManualClock::at(NOW));
    let revocation = Revocation::token("t", BILLING, NOW, NOW + Duration::from_secs(600));
    let change = Change::Revoked(revocation.clone());
    for _ in 0..3 {
        store.revoke(revocation.clone()).await.unwrap();
    }
    let (changes, cursor) = reported(&store, &Cursor::start()).await;
    assert_eq!(changes, std::slice::from_ref(&change));
    assert_eq!(store.purge(NOW + Duration::from_secs(901)).await.unwrap(), 1);
    store.revoke(revocation).await.unwrap();
    assert_eq!(reported(&store, &cursor).await.0, [change], "a purged revocation can be added again");
}

#[tokio::test]
async fn only_the_latest_change_of_a_client_is_kept_and_it_uses_no_revocation_slot() {
    let store = MemoryStore::try_from([Client::new(BILLING.as_str(), ClientSecret::generate().unwrap())]).unwrap();
    let store = store.clock(ManualClock::at(NOW));
    let mut cursor = Cursor::start();
    for _ in 0..3 {
        let (client, revision) = store.load(&BILLING).await.unwrap().unwrap();
        store.replace((*client).clone(), revision).await.unwrap();
        let (changes, next) = reported(&store, &cursor).await;
        assert_eq!(changes, [Change::Client(BILLING)], "each change is reported to a reader");
        cursor = next;
    }
    assert_eq!(reported(&store, &Cursor::start()).await.0, [Change::Client(BILLING)]);
    assert_eq!(lengths(&store), (1, 0, 1));
    store.purge(NOW + Duration::from_secs(601)).await.unwrap();
    assert_eq!(lengths(&store), (0, 0, 0));
}
