//! The two files of a store, as several processes write them.

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::FileStore;
use super::shared::Shared;
use crate::client_id::ClientId;
use crate::revocation::Revocations;
use crate::secret::ClientSecret;
use crate::store::{
    AdminError, Change, Client, ClientAdmin as _, ClientStore as _, Cursor, MemoryStore, RegisteredClient, Revocation,
    RevocationStore as _,
};

const BILLING: ClientId = ClientId::from_static("billing");

fn client(id: &str) -> RegisteredClient {
    Client::new(id, ClientSecret::generate().unwrap()).register().unwrap()
}

fn create(shared: &Shared, id: &str) -> Result<(), AdminError> {
    shared.edit(|clients, _| {
        clients.push(Arc::new(client(id)));
        Ok(())
    })
}

/// One process each; neither polls.
fn two_processes(folder: &TempDir) -> [Shared; 2] {
    let path = folder.path().join("clients.toml");
    std::fs::write(&path, "clients = []\n").unwrap();
    two_processes_of(folder)
}

/// The same on the files that are there.
fn two_processes_of(folder: &TempDir) -> [Shared; 2] {
    let path = folder.path().join("clients.toml");
    let open = |()| Shared::open(path.clone(), path.with_extension("revoked"), MemoryStore::default()).unwrap();
    [(), ()].map(open)
}

fn key(name: &str, lifetime: u64) -> Revocation {
    Revocation::key(name, UNIX_EPOCH, Duration::from_secs(lifetime))
}

/// After what [`key`] of no lifetime is good for.
fn later() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(10_000)
}

async fn knows(shared: &Shared, revocation: &Revocation) -> bool {
    let told = shared.memory.changes(&Cursor::start()).await.unwrap().changes;
    told.contains(&Change::Revoked(revocation.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_client_is_written_only_another_writer_waits() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    create(&service, "billing").unwrap();
    let store = FileStore { shared: Arc::new(service) };
    let revocations = Revocations::follow(store.clone()).await.unwrap();
    let (begin, has_begun) = oneshot::channel();
    let (end, may_end) = mpsc::channel::<()>();
    let writing = store.clone();
    let writer = tokio::task::spawn_blocking(move || {
        writing.shared.edit(|clients, _| {
            clients.push(Arc::new(client("slow")));
            begin.send(()).unwrap();
            // An error when the test has failed.
            let _ = may_end.recv();
            Ok(())
        })
    });
    has_begun.await.unwrap();
    let others = async {
        let polled = store.clone();
        let poll = tokio::task::spawn_blocking(move || {
            polled.shared.poll();
            polled.fault()
        });
        assert_eq!(poll.await.unwrap(), None);
        assert!(store.find(&BILLING).await.unwrap().is_some());
        assert!(store.load(&BILLING).await.unwrap().is_some());
        assert_eq!(store.list(None, NonZeroUsize::MAX).await.unwrap().len(), 1);
        revocations.revoke_key("k").await.unwrap();
        tool.revoke(key("another", 100_000)).unwrap();
        store.purge(UNIX_EPOCH).await.unwrap();
        let polled = store.clone();
        tokio::task::spawn_blocking(move || polled.shared.poll()).await.unwrap();
        let told = store.changes(&Cursor::start()).await.unwrap().changes;
        assert!(told.contains(&Change::Revoked(key("another", 100_000))), "{told:?}");
    };
    tokio::time::timeout(Duration::from_secs(30), others).await.expect("something waits for the writer");
    end.send(()).unwrap();
    writer.await.unwrap().unwrap();
    assert!(store.find(&ClientId::from_static("slow")).await.unwrap().is_some());
}

#[tokio::test]
async fn writers_of_one_process_wait_for_each_other_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let shared = if writer % 2 == 0 { &service } else { &tool };
            scope.spawn(move || (0..5).for_each(|number| create(shared, &format!("c{writer}-{number}")).unwrap()));
        }
    });
    let [again, _] = two_processes_of(&folder);
    for shared in [&service, &tool, &again] {
        shared.read_now().unwrap();
        assert_eq!(shared.memory.list(None, NonZeroUsize::MAX).await.unwrap().len(), 20);
    }
}

#[tokio::test]
async fn a_deleted_client_stays_where_its_revocation_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let [service, _] = two_processes(&folder);
    create(&service, "billing").unwrap();
    let path = folder.path().join("clients.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::create_dir(folder.path().join("clients.revoked")).unwrap();
    let deleted = service.edit(|clients, _| {
        clients.clear();
        Ok(())
    });
    assert!(matches!(deleted, Err(AdminError::Store(_))), "{deleted:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    assert!(service.memory.find(&BILLING).await.unwrap().is_some());
}

#[tokio::test]
async fn a_file_is_read_for_as_long_as_its_stamp_may_be_that_of_two_writes_and_not_after_that() {
    let folder = tempfile::tempdir().unwrap();
    let [service, _] = two_processes(&folder);
    create(&service, "one").unwrap();
    let path = folder.path().join("clients.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let write = |name: &str, modified: SystemTime| {
        std::fs::write(&path, text.replace("one", name)).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    };
    let has = async |id: &'static str| {
        service.read_now().unwrap();
        service.memory.find(&ClientId::from_static(id)).await.unwrap().is_some()
    };
    let now = SystemTime::now() + Duration::from_secs(3_600);
    for name in ["two", "six"] {
        write(name, now);
        assert!(has(name).await && has(name).await, "{name} has the stamp of the write before it, and is read");
    }
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    write("ten", long_ago);
    assert!(has("ten").await && has("ten").await);
    write("one", long_ago);
    assert!(has("ten").await, "a file that has not changed for a minute is not read again");
}

#[tokio::test]
async fn a_file_that_is_written_bit_by_bit_is_taken_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    for number in 0..10 {
        create(&tool, &format!("c{number}")).unwrap();
    }
    service.read_now().unwrap();
    let cursor = service.memory.changes(&Cursor::start()).await.unwrap().cursor;
    create(&tool, "late").unwrap();
    let path = folder.path().join("clients.toml");
    let whole = std::fs::read_to_string(&path).unwrap();
    let ends = whole.match_indices("\n[[clients]]\n").map(|(end, _)| end).skip(1).chain([whole.len()]);
    // Each beginning is valid TOML, with fewer clients than before.
    for end in ends {
        std::fs::write(&path, &whole[..end]).unwrap();
        service.poll();
        assert!(service.memory.find(&ClientId::from_static("late")).await.unwrap().is_none());
    }
    service.poll();
    let told = service.memory.changes(&cursor).await.unwrap().changes;
    assert_eq!(told, [Change::Client(ClientId::from_static("late"))], "no other client was ever missing");
}

#[tokio::test]
async fn a_journal_that_was_truncated_in_place_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    for name in ["one", "two", "three"] {
        service.revoke(key(name, 100_000)).unwrap();
    }
    tool.poll();
    let line = std::fs::read_to_string(&journal).unwrap().lines().next().unwrap().replace("one", "new");
    std::fs::write(&journal, line + "\n").unwrap();
    tool.poll();
    assert!(knows(&tool, &key("new", 100_000)).await);
}

#[tokio::test]
async fn what_another_process_revoked_is_not_lost_to_who_compacts_before_its_next_poll() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    service.revoke(key("old", 0)).unwrap();
    tool.revoke(key("new", 100_000)).unwrap();
    service.compact(later()).unwrap();
    assert!(knows(&service, &key("new", 100_000)).await);
    service.poll();
    assert!(knows(&service, &key("new", 100_000)).await);
    let [again, _] = two_processes(&folder);
    assert!(knows(&again, &key("new", 100_000)).await && !knows(&again, &key("old", 0)).await);
}

#[tokio::test]
async fn a_last_line_that_lacks_its_end_alone_is_a_callback_too_and_blank_lines_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("old", 100_000)).unwrap();
    let edited = std::fs::read_to_string(&journal).unwrap().replace("old", "by hand");
    std::fs::write(&journal, format!("\n{}", edited.trim_end())).unwrap();
    tool.poll();
    assert!(knows(&tool, &key("by hand", 100_000)).await, "before anybody writes behind it");
    service.revoke(key("next", 100_000)).unwrap();
    tool.poll();
    assert!(knows(&tool, &key("next", 100_000)).await && tool.fault().is_none());
    let [again, _] = two_processes(&folder);
    assert!(knows(&again, &key("by hand", 100_000)).await && knows(&again, &key("next", 100_000)).await);
}

#[tokio::test]
async fn a_last_line_without_an_end_that_is_no_revocation_is_named_and_kept_like_any_other() {
    let unknown = r#"{"account":{"name":"of a later version"}}"#;
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("old", 100_000)).unwrap();
    let good = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, format!("{good}{unknown}")).unwrap();
    tool.poll();
    assert_eq!(tool.fault().unwrap().line(), Some(2));
    assert!(tool.knows_what_is_revoked().is_err());
    service.revoke(key("next", 100_000)).unwrap();
    let text = std::fs::read_to_string(&journal).unwrap();
    assert!(text.starts_with(&format!("{good}{unknown}\n")) && text.lines().count() == 3, "{text}");
    tool.poll();
    assert_eq!(tool.fault().unwrap().line(), Some(2));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_took_the_place_of_the_one_that_was_read_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("one", 100_000)).unwrap();
    tool.poll();
    // As often as it takes for the number of a file to be used again, when no process has the file open.
    for number in 0..10 {
        let name = format!("k{number}");
        let line = std::fs::read_to_string(&journal).unwrap().lines().next().unwrap().to_owned();
        let former = if number == 0 { "one".to_owned() } else { format!("k{}", number - 1) };
        let line = line.replace(&former, &name) + "\n";
        std::fs::remove_file(&journal).unwrap();
        std::fs::write(&journal, line.clone() + &line).unwrap();
        tool.poll();
        assert!(knows(&tool, &key(&name, 100_000)).await, "{name}");
    }
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_named_and_kept_and_what_a_crash_cut_off_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("old", 0)).unwrap();
    let mut text = std::fs::read_to_string(&journal).unwrap();
    text.push_str(r#"{"key":{"key_id":"cut of"#);
    std::fs::write(&journal, &text).unwrap();
    service.revoke(key("next", 100_000)).unwrap();
    tool.poll();
    assert!(knows(&tool, &key("next", 100_000)).await && tool.knows_what_is_revoked().is_ok());

    let good = std::fs::read_to_string(&journal).unwrap();
    assert!(!good.contains("cut of"), "it was never acknowledged");
    let bad = format!("{good}{}", r#"{"account":{"name":"of a later version"}}"#) + "\n";
    std::fs::write(&journal, &bad).unwrap();
    service.revoke(key("behind", 100_000)).unwrap();
    let bad = std::fs::read_to_string(&journal).unwrap();
    tool.poll();
    let fault = tool.fault().unwrap();
    assert_eq!((fault.path(), fault.line()), (journal.as_path(), Some(3)), "{fault}");
    assert!(tool.knows_what_is_revoked().is_err(), "a reader of the feed is not told that all is well");
    assert!(service.compact(later()).is_err());
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), bad, "nothing is lost");
    let open = Shared::open(folder.path().join("clients.toml"), journal.clone(), MemoryStore::default());
    assert_eq!(open.err().unwrap().line(), Some(3));

    std::fs::write(
        &journal,
        bad.replace("account", "key")
            .replace("name\":", "key_id\":\"k\",\"expires_at\":9,\"x\":")
            .replace(",\"x\":\"of a later version\"", ""),
    )
    .unwrap();
    tool.poll();
    assert!(tool.knows_what_is_revoked().is_ok() && tool.fault().is_none());
    assert!(knows(&tool, &key("behind", 100_000)).await);
}

#[tokio::test]
async fn the_tokens_of_a_client_that_was_taken_out_by_hand_stay_revoked_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let [service, _] = two_processes(&folder);
    create(&service, "billing").unwrap();
    std::fs::write(folder.path().join("clients.toml"), "clients = []\n").unwrap();
    service.poll();
    service.poll();
    let told = service.memory.changes(&Cursor::start()).await.unwrap().changes;
    let revoked = told.into_iter().find_map(|change| match change {
        Change::Revoked(revocation @ Revocation::Client { .. }) => Some(revocation),
        _ => None,
    });
    let [again, _] = two_processes_of(&folder);
    assert!(knows(&again, &revoked.unwrap()).await);
}
