//! Tests of a store that lost writes which it had acknowledged.

use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use super::Revocations;
use super::tests::{
    FaultyStore, NOW, NoJitter, SECOND, assert_revoked, check, clock, expiring, follow_for_an_hour, pass, token,
};
use crate::clock::Clock as _;
use crate::log_capture::LogCapture;
use crate::store::{Change, ChangeFeed as _, Cursor, RevocationStore as _};

#[tokio::test(start_paused = true)]
async fn revocations_that_the_store_lost_are_reported_written_again_and_stay_in_force() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let (events, mut listener) = crate::event::channel();
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).events(events.clone());
    let revocations = revocations.tokens_per_client(10_000).await.unwrap();
    let (other_events, mut other_listener) = crate::event::channel();
    revocations.report_losses_to(&other_events);
    revocations.report_losses_to(&events);
    let count = 3_500_u64;
    for number in 0..count {
        revocations.revoke(token(&number.to_string())).await.unwrap();
    }
    revocations.revoke_key("k").await.unwrap();
    let held = async || {
        let mut cursor = Cursor::start();
        let mut all = std::collections::HashSet::new();
        loop {
            let page = faulty.store.changes(&cursor).await.unwrap();
            all.extend(page.changes);
            cursor = page.cursor;
            if !page.more {
                return all.len() as u64;
            }
        }
    };
    // The store loses all of them, and another process writes one of them again.
    let entries = revocations.entries() as u64;
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    assert_eq!(held().await, 0);
    faulty.store.revoke(token("7")).await.unwrap();
    faulty.lost.store(true, Ordering::SeqCst);
    faulty.written.store(0, Ordering::SeqCst);
    // One poll at least and three at most, each of which writes 1,024 entries.
    tokio::time::sleep(Duration::from_millis(510)).await;
    let written = faulty.written.load(Ordering::SeqCst);
    assert!([1, 2, 3].map(|polls| polls * 1_024).contains(&written), "{written} entries are written");
    assert_revoked(check(&revocations, "7"));
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(held().await, entries);
    assert_revoked(check(&revocations, "2499"));

    let event = listener.try_recv().unwrap();
    let crate::event::Outcome::StoreLostData { reason } = &event.outcome else { panic!("{event:?}") };
    assert_eq!((reason.as_str(), event.client_id.is_some()), ("on purpose", false));
    assert!(listener.try_recv().is_none(), "a listener that was added twice gets one event");
    assert!(other_listener.try_recv().is_some() && other_listener.try_recv().is_none());
    // At most one event per minute.
    for (after, events) in [(10 * SECOND, 0), (60 * SECOND, 1)] {
        tokio::time::sleep(after).await;
        clock.advance(after);
        faulty.lost.store(true, Ordering::SeqCst);
        tokio::time::sleep(SECOND).await;
        assert_eq!(std::iter::from_fn(|| listener.try_recv()).count(), events);
    }
}

#[tokio::test(start_paused = true)]
async fn lost_revocations_are_written_again_once_the_store_accepts_writes() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    revocations.revoke(token("a")).await.unwrap();
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    faulty.refuses_writes.store(true, Ordering::SeqCst);
    faulty.lost.store(true, Ordering::SeqCst);
    tokio::time::sleep(5 * SECOND).await;
    let held = async || faulty.store.changes(&Cursor::start()).await.unwrap().changes.len();
    assert!(held().await == 0 && revocations.is_ready());
    faulty.refuses_writes.store(false, Ordering::SeqCst);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(held().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_may_not_write_retries_the_repair_less_and_less_often_and_ends_it_once_others_have_written() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    for id in ["a", "b"] {
        revocations.revoke(token(id)).await.unwrap();
    }
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    faulty.refuses_writes.store(true, Ordering::SeqCst);
    faulty.lost.store(true, Ordering::SeqCst);
    let refused = || faulty.refused.swap(0, Ordering::SeqCst);
    tokio::time::sleep(60 * SECOND).await;
    let first_minute = refused();
    assert!((5..=14).contains(&first_minute), "two entries, after 1, 2, 4, … seconds: {first_minute}");
    tokio::time::sleep(600 * SECOND).await;
    let next_minutes = refused();
    assert!((16..=22).contains(&next_minutes), "two entries, once a minute: {next_minutes}");
    for id in ["a", "b"] {
        faulty.store.revoke(token(id)).await.unwrap();
    }
    tokio::time::sleep(600 * SECOND).await;
    assert_eq!(refused(), 0, "the feed has returned them");
}

#[tokio::test(start_paused = true)]
async fn a_repair_of_a_store_that_writes_slowly_delays_each_poll_by_at_most_200_milliseconds_and_is_completed() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    for number in 0..100 {
        revocations.revoke(token(&number.to_string())).await.unwrap();
    }
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    faulty.write_time.store(1_900, Ordering::SeqCst);
    faulty.lost.store(true, Ordering::SeqCst);
    faulty.polls.store(0, Ordering::SeqCst);
    tokio::time::sleep(7 * SECOND).await;
    assert_eq!(faulty.most_writing.load(Ordering::SeqCst), 32, "writes at once");
    let polls = faulty.polls.load(Ordering::SeqCst);
    assert!(polls >= 7 * 1_000 / (500 + 200), "{polls} polls");
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(faulty.store.changes(&Cursor::start()).await.unwrap().changes.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn entries_whose_write_failed_during_a_repair_are_written_with_the_next_attempt() {
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).store_timeout(SECOND).await.unwrap();
    for number in 0..100 {
        revocations.revoke(token(&number.to_string())).await.unwrap();
    }
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    // Longer than a call may take.
    faulty.write_time.store(1_500, Ordering::SeqCst);
    faulty.lost.store(true, Ordering::SeqCst);
    tokio::time::sleep(10 * SECOND).await;
    assert!(faulty.store.changes(&Cursor::start()).await.unwrap().changes.is_empty() && revocations.is_ready());
    faulty.write_time.store(0, Ordering::SeqCst);
    tokio::time::sleep(90 * SECOND).await;
    assert_eq!(faulty.store.changes(&Cursor::start()).await.unwrap().changes.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_repair_writes_no_entry_that_has_expired() {
    let faulty = FaultyStore::default();
    let (revocations, clock) = follow_for_an_hour(Revocations::follow(faulty.clone()).random(NoJitter)).await;
    revocations.revoke(token("live")).await.unwrap();
    revocations.revoke(expiring("expired", clock.now() + SECOND)).await.unwrap();
    pass(&clock, 2 * SECOND).await;
    assert_eq!(revocations.entries(), 2, "the next purge is due 40 seconds after the last one");
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    faulty.lost.store(true, Ordering::SeqCst);
    pass(&clock, 5 * SECOND).await;
    let held = faulty.store.changes(&Cursor::start()).await.unwrap().changes;
    assert_eq!(held, [Change::Revoked(token("live"))]);
}

#[tokio::test(start_paused = true)]
async fn a_repair_writes_no_entry_that_the_store_has_even_after_a_failure() {
    let faulty = FaultyStore::default();
    let follow = Revocations::follow(faulty.clone()).tokens_per_client(10_000);
    let (revocations, clock) = follow_for_an_hour(follow).await;
    for number in 0..1_000 {
        revocations.revoke(token(&number.to_string())).await.unwrap();
    }
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    for number in 0..500 {
        faulty.store.revoke(token(&(2 * number).to_string())).await.unwrap();
    }
    faulty.written.store(0, Ordering::SeqCst);
    faulty.refuses_writes.store(true, Ordering::SeqCst);
    faulty.lost.store(true, Ordering::SeqCst);
    pass(&clock, 5 * SECOND).await;
    assert_ne!(faulty.refused.load(Ordering::SeqCst), 0);
    faulty.refuses_writes.store(false, Ordering::SeqCst);
    pass(&clock, 30 * SECOND).await;
    assert_eq!(faulty.written.load(Ordering::SeqCst), 500);
}

#[tokio::test(start_paused = true)]
async fn a_repair_logs_each_error_once_up_to_sixteen_of_them_and_its_end() {
    let (log, _guard) = LogCapture::start();
    let (faulty, clock) = (FaultyStore::default(), clock());
    let revocations = Revocations::follow(faulty.clone()).clock(clock.clone()).await.unwrap();
    for id in ["a", "b", "c"] {
        revocations.revoke(token(id)).await.unwrap();
    }
    faulty.store.purge(UNIX_EPOCH + Duration::from_secs(2 * NOW)).await.unwrap();
    faulty.refuses_writes.store(true, Ordering::SeqCst);
    faulty.lost.store(true, Ordering::SeqCst);
    let lines = || log.take().matches("cannot write the revocations that the store lost yet").count();
    tokio::time::sleep(300 * SECOND).await;
    assert_eq!(lines(), 1, "of one error");
    faulty.names_refusals.store(true, Ordering::SeqCst);
    tokio::time::sleep(3_600 * SECOND).await;
    assert_eq!(lines(), 15, "of other errors");
    faulty.refuses_writes.store(false, Ordering::SeqCst);
    tokio::time::sleep(120 * SECOND).await;
    let text = log.take();
    assert!(text.contains("wrote the revocations that the store had lost to it again entries=3"), "{text}");
}
