//! Many calls wait for a file at once, and a poll is late.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::shared::{LOCK_TIMEOUT, Shared};
use super::{FileKeyStore, FileStore, write};
use crate::clock::Clock;
use crate::keys::rotation::KeyStore as _;
use crate::registration::Client;
use crate::secret::ClientSecret;
use crate::store::{
    Change, ChangeFeed as _, ClientAdmin as _, Cursor, MemoryStore, Replay, ReplayId, ReplayLog as _, Revocation,
    RevocationStore as _,
};

/// Returns a store that does not poll.
fn store(folder: &Path) -> FileStore {
    let [path, revoked, used] = ["clients.toml", "revoked", "used"].map(|name| folder.join(name));
    std::fs::write(&path, "clients = []\n").unwrap();
    let shared = Shared::open(path, revoked, used, MemoryStore::default(), LOCK_TIMEOUT);
    FileStore { shared: Arc::new(shared.unwrap()) }
}

/// Returns a runtime with two threads for blocking calls.
fn two_threads() -> Runtime {
    Builder::new_current_thread().enable_all().max_blocking_threads(2).build().unwrap()
}

type Call<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Starts a thousand calls while another process holds the lock of this file, sees that a thread is left, and gives the calls up.
/// Returns how many lines the file has after one more call.
fn lines_after_a_burst(file: &str, call: for<'a> fn(&'a FileStore, usize) -> Call<'a>) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(file);
    two_threads().block_on(async {
        let store = store(folder.path());
        let held = write::Lock::take(&path, Duration::ZERO).unwrap();
        let mut burst = join_all((0..1_000).map(|number| call(&store, number)));
        assert!((&mut burst).now_or_never().is_none());
        let another = tokio::task::spawn_blocking(|| ());
        tokio::time::timeout(Duration::from_secs(60), another).await.expect("no thread is left").unwrap();
        // The time limit of the callers has passed.
        drop(burst);
        drop(held);
        call(&store, 1_000).await;
    });
    std::fs::read_to_string(&path).unwrap().lines().count()
}

#[test]
fn a_burst_of_uses_occupies_one_thread_and_a_caller_that_gives_up_leaves_nothing_behind() {
    let lines = lines_after_a_burst("used", |store, number| {
        Box::pin(async move {
            let id = ReplayId::new("issuer", &number.to_string());
            let replay = store.check_and_insert(&id, UNIX_EPOCH + Duration::from_secs(1_000), UNIX_EPOCH).await;
            assert_eq!(replay.unwrap(), Replay::Fresh);
        })
    });
    assert_eq!(lines, 2, "the use that had begun, and the last one");
}

#[test]
fn a_burst_of_revocations_occupies_one_thread_and_a_caller_that_gives_up_leaves_nothing_behind() {
    let lines = lines_after_a_burst("revoked", |store, number| {
        Box::pin(async move {
            let lasting = Duration::from_secs(100_000);
            store.revoke(Revocation::key(number.to_string(), UNIX_EPOCH, lasting)).await.unwrap();
        })
    });
    assert_eq!(lines, 2, "the revocation that had begun, and the last one");
}

#[test]
fn a_burst_of_changes_of_clients_occupies_one_thread() {
    let lines = lines_after_a_burst("clients.toml", |store, number| {
        Box::pin(async move {
            let client = Client::new(format!("c{number}"), ClientSecret::generate().unwrap());
            store.create(client.register().unwrap()).await.unwrap();
        })
    });
    assert!(lines < 50, "two clients: {lines} lines");
}

/// A clock that does not answer until its sender is dropped, as a disk that hangs, and counts the calls.
#[derive(Debug)]
struct Hung(Mutex<mpsc::Receiver<()>>, Arc<AtomicUsize>);

impl Clock for Hung {
    fn now(&self) -> SystemTime {
        self.1.fetch_add(1, Ordering::SeqCst);
        // An error, since nothing is sent.
        let _ = self.0.lock().unwrap().recv();
        UNIX_EPOCH
    }
}

#[test]
fn polls_of_a_key_ring_on_a_disk_that_hangs_occupy_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let (answer, waits) = mpsc::channel();
    let looks = Arc::new(AtomicUsize::new(0));
    let store = FileKeyStore::new(folder.path().join("keys")).clock(Hung(Mutex::new(waits), looks.clone()));
    two_threads().block_on(async {
        // The keeper gives each poll up after a while.
        let mut polls = join_all((0..1_000).map(|_| store.load_ring("ring")));
        assert!((&mut polls).now_or_never().is_none());
        let another = tokio::task::spawn_blocking(|| ());
        tokio::time::timeout(Duration::from_secs(60), another).await.expect("no thread is left").unwrap();
        drop(polls);
        drop(answer);
        assert_eq!(store.load_ring("ring").await.unwrap().version, 0);
    });
    assert_eq!(looks.load(Ordering::SeqCst), 2, "the poll that had begun, and the last one");
}

#[tokio::test(start_paused = true)]
async fn the_feed_is_an_error_while_the_last_read_of_the_revocations_is_more_than_5_seconds_ago() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let revocation = Revocation::key("k", UNIX_EPOCH, Duration::from_secs(100_000));
    let another = self::store(folder.path());
    another.revoke(revocation.clone()).await.unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    store.changes(&Cursor::start()).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let error = store.changes(&Cursor::start()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("last read 6 seconds ago"), "{cause}");
    store.shared.poll();
    let reported = store.changes(&Cursor::start()).await.unwrap().changes;
    assert!(reported.contains(&Change::Revoked(revocation)), "{reported:?}");
    // A read that fails does not count.
    tokio::time::advance(Duration::from_secs(6)).await;
    std::fs::write(folder.path().join("revoked"), "?\n").unwrap();
    store.shared.poll();
    std::fs::remove_file(folder.path().join("revoked")).unwrap();
    store.changes(&Cursor::start()).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_does_not_wait_for_a_revocation_that_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (begin, has_begun) = oneshot::channel();
    let (end, may_end) = mpsc::channel::<()>();
    let writing = store.shared.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let _held = writing.hold_journal();
        begin.send(()).unwrap();
        // Receives an error if the test has failed.
        let _ = may_end.recv();
    });
    has_begun.await.unwrap();
    let answer = tokio::spawn(async move { store.changes(&Cursor::start()).await.map(drop) });
    tokio::time::timeout(Duration::from_secs(60), answer).await.expect("the feed waits").unwrap().unwrap();
    end.send(()).unwrap();
    writer.await.unwrap();
}
