//! `SqliteStore`: the conformance suite, concurrent starts, a full disk, and invalid files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::follower::{Follower, is_woken_by_each_change_of_a_client};
use common::request::{GRANT, billing_asks};
use common::stack::Stack;
use common::{API, READ, at, chain, client, settings, used_credentials};
use futures_util::FutureExt as _;
use sqlx::Connection as _;
use tempfile::TempDir;
use tower_client_credentials::event::{self, Outcome};
use tower_client_credentials::store::conformance::{self, Violation};
use tower_client_credentials::store::{
    AdminError, Change, ChangeFeed, ClientAdmin, Cursor, Revocation, RevocationStore, SqliteStore,
};
use tower_client_credentials::{ClientId, ClientStore};

const BILLING: ClientId = ClientId::from_static("billing");

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_passes_the_conformance_suite() -> Result<(), Violation> {
    let folder = TempDir::new().unwrap();
    let made = AtomicUsize::new(0);
    let fresh = async || {
        let file = folder.path().join(format!("{}.db", made.fetch_add(1, Ordering::Relaxed)));
        // A disk that is busy with other tests must not fail this test.
        SqliteStore::builder(url(&file)).call_timeout(std::time::Duration::from_secs(20)).open().await.unwrap()
    };
    conformance::clients(fresh).await?;
    conformance::revocations(fresh).await?;
    conformance::client_changes(fresh).await?;
    conformance::replay_log(fresh).await?;
    let same = url(&folder.path().join("same.db"));
    conformance::durability(async || SqliteStore::open(&same).await.unwrap()).await
}

#[tokio::test]
async fn unlimited_lifetimes_and_timeouts_are_treated_as_very_long_ones() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::builder(url(&folder.path().join("endless.db")))
        .longest_token_lifetime(std::time::Duration::MAX)
        .call_timeout(std::time::Duration::MAX);
    common::endless::revokes_and_disables(store.open().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_can_start_at_once_without_a_file() {
    let folder = TempDir::new().unwrap();
    for round in 0..3 {
        let url = url(&folder.path().join(format!("{round}.db")));
        let opening: Vec<_> = (0..10).map(|_| tokio::spawn(SqliteStore::open(url.clone()))).collect();
        for opened in opening {
            opened.await.unwrap().unwrap();
        }
    }
}

/// A reader of the feed starts over if the file is not the one of its cursor.
#[tokio::test]
async fn a_feed_without_its_history_starts_over() {
    let folder = TempDir::new().unwrap();
    let old = SqliteStore::open(url(&folder.path().join("old.db"))).await.unwrap();
    for name in ["a", "b"] {
        old.revoke(token(name)).await.unwrap();
    }
    let cursor = old.changes(&Cursor::start()).await.unwrap().cursor;
    let new = SqliteStore::open(url(&folder.path().join("new.db"))).await.unwrap();
    new.revoke(token("c")).await.unwrap();
    assert_eq!(new.changes(&cursor).await.unwrap().changes, [Change::Revoked(token("c"))]);
}

#[tokio::test]
async fn a_full_disk_fails_writes_and_loses_no_acknowledged_one() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder.path().join("full.db"));
    let small = || SqliteStore::builder(&url).most_bytes(200 * 1024).open();
    let store = small().await.unwrap();
    let (mut acknowledged, mut failed) = (Vec::new(), 0);
    for number in 0..2_000 {
        let id = format!("client-{number}");
        match store.create(client(&id).register().unwrap()).await {
            Ok(()) => acknowledged.push(id),
            Err(AdminError::Store(error)) => {
                assert!(chain(&error).contains("full"), "{}", chain(&error));
                failed += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    println!("full disk: {} writes acknowledged, {failed} failed", acknowledged.len());
    assert!(!acknowledged.is_empty() && failed > 0);
    drop(store);
    let again = small().await.unwrap();
    assert!(again.revoke(Revocation::token("x".repeat(100_000), BILLING, at(0), at(9))).await.is_err());
    for id in &acknowledged {
        assert!(again.find(&id.parse().unwrap()).await.unwrap().is_some(), "{id} is lost");
    }
    assert_eq!(again.list(None, 5_000.try_into().unwrap()).await.unwrap().len(), acknowledged.len());
    // Once there is room again, nothing has to be restarted.
    assert!(again.purge(at(u64::from(u32::MAX))).await.unwrap() > 0);
    again.revoke(token("a")).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_fit_the_server_is_reported_when_it_is_read() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(url(&folder.path().join("a.db"))).await.unwrap();
    let unknown = "https://unknown.example.com";
    store.create(client("billing").scope(READ).audience(API).audience(unknown).register().unwrap()).await.unwrap();
    let (events, mut listener) = event::channel();
    let server = settings(store).resource(API).events(events).build().unwrap();
    let site = Stack::PLAIN.issue(&server).await;
    site.send(billing_asks(GRANT).param("resource", API)).await.assert_token();
    let told = listener.try_recv().unwrap();
    let Outcome::InvalidRegistration { reason, .. } = &told.outcome else { panic!("{told:?}") };
    assert!(reason.starts_with("client `billing`: its `audiences` has `https://unknown.example.com`"), "{reason}");

    let refused = site.send(billing_asks(GRANT).param("resource", unknown)).await;
    refused.assert_refused(400, "invalid_target");
    assert!(refused.reason.unwrap().contains(".resource(\"https://unknown.example.com\")"));
}

#[tokio::test]
async fn a_follower_sees_a_write_of_this_process_at_once() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(url(&folder.path().join("a.db"))).await.unwrap();
    Follower::of(store.clone()).await.hears_at_once(&store).await;
    is_woken_by_each_change_of_a_client(&store, &store, async || true).await;
}

#[tokio::test]
async fn creating_a_client_that_exists_wakes_no_reader() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(url(&folder.path().join("a.db"))).await.unwrap();
    let [billing, other] = ["billing", "other"].map(|id| client(id).register().unwrap());
    store.create(billing.clone()).await.unwrap();
    let mut changed = std::pin::pin!(store.changed());
    assert!(changed.as_mut().now_or_never().is_none());
    assert!(matches!(store.create(billing).await, Err(AdminError::Exists)));
    assert!(changed.as_mut().now_or_never().is_none());
    store.create(other).await.unwrap();
    assert!(changed.now_or_never().is_some());
}

#[tokio::test]
async fn a_used_credential_is_kept_for_a_minute_beyond_its_end() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(url(&folder.path().join("a.db"))).await.unwrap();
    used_credentials::are_kept_for_a_minute_beyond_their_end(&store).await;
    used_credentials::of_a_client_are_kept_for_a_minute_beyond_their_end(&store).await;
}

#[tokio::test]
async fn each_use_removes_some_expired_ones_so_that_the_table_is_bounded_without_a_purge() {
    let folder = TempDir::new().unwrap();
    let url = url(&folder.path().join("a.db"));
    let store = SqliteStore::open(&url).await.unwrap();
    let number = async |query: &'static str| {
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await.unwrap()
    };
    used_credentials::that_expired_are_removed_by_each_use(&store, number).await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_accessible_only_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(url(&folder.path().join("a.db"))).await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{} {mode:o}", file.path().display());
    }
}

#[tokio::test]
async fn an_invalid_store_is_rejected_with_how_to_fix_it() {
    let folder = TempDir::new().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(&garbage, "x".repeat(10_000)).unwrap();
    for (url, says) in [
        ("postgres://auth:hunter2@db.example/auth".to_owned(), "use for example sqlite:///path/to/file.db"),
        ("clients.db".to_owned(), "use for example sqlite:///path/to/file.db"),
        ("sqlite::memory:".to_owned(), "use `MemoryStore`"),
        ("sqlite://a.db?mode=memory".to_owned(), "use `MemoryStore`"),
        ("sqlite://a.db?colour=red".to_owned(), "use for example sqlite:///path/to/file.db"),
        (url(&garbage), "file is not a database"),
        (url(&folder.path().join("no/such/folder.db")), "cannot be opened"),
    ] {
        let error = SqliteStore::open(&url).await.unwrap_err();
        assert!(chain(&error).contains(says), "{url}: {}", chain(&error));
        assert!(!chain(&error).contains("hunter2"), "{}", chain(&error));
    }
}

#[tokio::test]
async fn the_written_data_contain_no_secret() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(url(&folder.path().join("a.db"))).await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    drop(store);
    for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        let bytes = std::fs::read(file.path()).unwrap();
        let secret = common::SECRET.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", file.path().display());
    }
}

fn token(name: &str) -> Revocation {
    Revocation::token(name, BILLING, at(0), at(3_000_000_000))
}
