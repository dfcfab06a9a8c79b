//! Several processes write the two files of a store.

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::FileStore;
use super::shared::{LOCK_TIMEOUT, Shared};
use super::system;
use crate::client_id::ClientId;
use crate::registration::{Client, ClientErrorKind, RegisteredClient};
use crate::revocation::Revocations;
use crate::secret::ClientSecret;
use crate::store::{
    AdminError, Change, ChangeFeed, ClientAdmin as _, ClientStore as _, Cursor, MemoryStore, Revocation,
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

/// Returns a client that was read from a record with this claim, so that the checks of a new registration do not apply.
fn with_claim(id: &str, claim: &serde_json::Value) -> RegisteredClient {
    let credential = serde_json::json!({
        "label": "1", "method": "platform_jwt", "issuer": "https://i.example", "subject": "s", "claims": {"a": claim},
    });
    let record = serde_json::json!({"client_id": id, "client_secrets": [], "credentials": [credential]});
    serde_json::from_value(record).unwrap()
}

fn nested(levels: usize) -> serde_json::Value {
    (0..levels).fold("x".into(), |inner, _| serde_json::json!([inner]))
}

/// Returns two stores with the same files, as in two processes. Neither polls.
fn two_processes(folder: &TempDir) -> [Shared; 2] {
    let path = folder.path().join("clients.toml");
    std::fs::write(&path, "clients = []\n").unwrap();
    two_processes_of(folder)
}

/// Returns two stores with the existing files.
fn two_processes_of(folder: &TempDir) -> [Shared; 2] {
    let path = folder.path().join("clients.toml");
    let beside = |extension| path.with_extension(extension);
    let open = |()| {
        let (revoked, used) = (beside("revoked"), beside("used"));
        Shared::open(path.clone(), revoked, used, MemoryStore::default(), LOCK_TIMEOUT).unwrap()
    };
    [(), ()].map(open).map(|mut shared| {
        shared.system.sleep = Box::new(|_| ());
        shared
    })
}

/// Returns a text of ten clients, `c0` to `c9`, and its prefixes, each of which is valid, too.
fn ten_clients(folder: &TempDir) -> Vec<String> {
    let [tool, _] = two_processes(folder);
    for number in 0..10 {
        create(&tool, &format!("c{number}")).unwrap();
    }
    let whole = std::fs::read_to_string(folder.path().join("clients.toml")).unwrap();
    let ends = whole.match_indices("\n[[clients]]\n").map(|(end, _)| end).skip(1).chain([whole.len()]);
    ends.map(|end| whole[..end].to_owned()).collect()
}

/// Returns a function that writes the next text into the file with each call, as a copying program does.
fn copy_in_place(folder: &TempDir, texts: Vec<String>) -> impl Fn() + Send + Sync + use<> {
    let (path, texts) = (folder.path().join("clients.toml"), Mutex::new(texts.into_iter()));
    move || {
        if let Some(text) = texts.lock().unwrap().next() {
            std::fs::write(&path, text).unwrap();
        }
    }
}

fn key(name: &str, lifetime: u64) -> Revocation {
    Revocation::key(name, UNIX_EPOCH, Duration::from_secs(lifetime))
}

/// Returns a time at which the entry [`key`] without lifetime has expired.
fn later() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(10_000)
}

async fn knows(shared: &Shared, revocation: &Revocation) -> bool {
    let reported = shared.memory.changes(&Cursor::start()).await.unwrap().changes;
    reported.contains(&Change::Revoked(revocation.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_another_writer_waits_while_a_client_is_written() {
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
            // Receives an error if the test has failed.
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
        let reported = store.changes(&Cursor::start()).await.unwrap().changes;
        assert!(reported.contains(&Change::Revoked(key("another", 100_000))), "{reported:?}");
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

#[test]
fn a_client_that_could_not_be_read_back_is_refused_and_the_file_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let [service, _] = two_processes(&folder);
    for (id, claim) in [("one", nested(20)), ("other", serde_json::json!({"b": [1.5, true]}))] {
        let put = service.edit(|clients, _| {
            clients.push(Arc::new(with_claim(id, &claim)));
            Ok(())
        });
        put.unwrap();
    }
    let path = folder.path().join("clients.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    for claim in [nested(100), serde_json::json!([null]), serde_json::Value::Null] {
        for is_new in [true, false] {
            let refused = service.edit(|clients, _| {
                if !is_new {
                    clients.remove(0);
                }
                clients.insert(0, Arc::new(with_claim(if is_new { "new" } else { "one" }, &claim)));
                Ok(())
            });
            let Err(AdminError::Invalid(error)) = refused else { panic!("{claim}: {refused:?}") };
            assert_eq!(error.kind(), ClientErrorKind::Registration);
            assert!(error.to_string().contains("the file of clients cannot have it: "), "{error}");
            assert!(error.to_string().ends_with("remove them"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        }
    }
    // The content that is in use did not change, either.
    create(&service, "billing").unwrap();
    two_processes_of(&folder);
}

#[tokio::test]
async fn a_client_is_not_deleted_if_its_revocation_cannot_be_written() {
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
async fn a_file_is_read_again_only_while_two_writes_could_share_its_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let [mut service, _] = two_processes(&folder);
    let reads = count_reads(&mut service);
    create(&service, "one").unwrap();
    let path = folder.path().join("clients.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let write = |name: &str, modified: SystemTime| {
        std::fs::write(&path, text.replace("one", name)).unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    };
    let now = SystemTime::now() + Duration::from_secs(3_600);
    for name in ["two", "six"] {
        write(name, now);
        assert!(has(&service, name).await && has(&service, name).await, "{name} has the stamp of the write before it");
    }
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    for name in ["ten", "one"] {
        write(name, long_ago);
        assert!(has(&service, name).await && has(&service, name).await, "{name} has an old time of modification");
    }
    service.system.now = || SystemTime::now() + Duration::from_secs(60);
    assert!(has(&service, "one").await);
    let before = reads.load(Ordering::SeqCst);
    assert!(has(&service, "one").await);
    service.poll();
    assert_eq!(reads.load(Ordering::SeqCst), before, "a file that has not changed for a minute is not read again");
}

async fn has(service: &Shared, id: &'static str) -> bool {
    service.read_now().unwrap();
    service.memory.find(&ClientId::from_static(id)).await.unwrap().is_some()
}

fn count_reads(shared: &mut Shared) -> Arc<AtomicUsize> {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = reads.clone();
    shared.system.read = Box::new(move |path| {
        count.fetch_add(1, Ordering::SeqCst);
        system::read(path)
    });
    reads
}

#[test]
fn a_file_that_becomes_readable_is_read_even_with_an_unchanged_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let [mut service, _] = two_processes(&folder);
    create(&service, "billing").unwrap();
    // Long after the last change, the read permission is removed and restored, for example by an access control list.
    service.system.now = || SystemTime::now() + Duration::from_secs(3_600);
    let is_denied = Arc::new(AtomicBool::new(true));
    let denied = is_denied.clone();
    service.system.read = Box::new(move |path| {
        if denied.load(Ordering::SeqCst) {
            Err(std::io::ErrorKind::PermissionDenied.into())
        } else {
            system::read(path)
        }
    });
    for _ in 0..4 {
        service.poll();
    }
    assert!(service.fault().unwrap().reason().contains("permission denied"));
    service.read_now().unwrap();
    is_denied.store(false, Ordering::SeqCst);
    service.poll();
    service.poll();
    assert_eq!(service.fault(), None);
    create(&service, "new").unwrap();
}

#[tokio::test]
async fn creating_a_client_does_not_write_back_a_partially_copied_file() {
    let folder = tempfile::tempdir().unwrap();
    let texts = ten_clients(&folder);
    let ids = async |shared: &Shared| {
        let clients = shared.memory.list(None, NonZeroUsize::MAX).await.unwrap();
        clients.iter().map(|client| client.id().to_string()).collect::<Vec<_>>()
    };
    // Tests both an older process, and one that started in the middle of the copy.
    for is_new in [false, true] {
        let path = folder.path().join("clients.toml");
        std::fs::write(&path, &texts[9]).unwrap();
        let [before, _] = two_processes_of(&folder);
        create(&before, "old").unwrap();
        std::fs::write(&path, &texts[2]).unwrap();
        let [since, _] = two_processes_of(&folder);
        let mut service = if is_new { since } else { before };
        let copy = copy_in_place(&folder, texts[3..].to_vec());
        service.system.sleep = Box::new(move |_| copy());
        create(&service, "new").unwrap();
        let all: Vec<_> = (0..10).map(|number| format!("c{number}")).chain(["new".to_owned()]).collect();
        assert_eq!(ids(&service).await, all, "{is_new}");
        let [again, _] = two_processes_of(&folder);
        assert_eq!(ids(&again).await, all, "{is_new}");
    }
}

#[tokio::test]
async fn reading_a_partially_copied_file_revokes_no_client_of_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let mut texts = ten_clients(&folder);
    let [mut service, _] = two_processes_of(&folder);
    let cursor = service.memory.changes(&Cursor::start()).await.unwrap().cursor;
    std::fs::write(folder.path().join("clients.toml"), &texts[2]).unwrap();
    texts.drain(..3);
    let copy = copy_in_place(&folder, texts);
    service.system.sleep = Box::new(move |_| copy());
    service.read_now().unwrap();
    assert_eq!(service.memory.changes(&cursor).await.unwrap().changes, []);
    assert!(!folder.path().join("clients.revoked").exists());
}

#[test]
fn a_file_that_changes_all_the_time_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let [mut service, _] = two_processes(&folder);
    let copy = copy_in_place(&folder, (0..1_000).map(|number| format!("clients = [] # {number}\n")).collect());
    copy();
    service.system.sleep = Box::new(move |_| copy());
    for done in
        [create(&service, "new").map_err(|error| chain(&error)), service.read_now().map_err(|error| chain(&error))]
    {
        let error = done.unwrap_err();
        assert!(error.contains("it changes with each read; replace it by a rename"), "{error}");
    }
    let text = std::fs::read_to_string(folder.path().join("clients.toml")).unwrap();
    assert!(text.starts_with("clients = [] # "), "{text}");
}

#[test]
fn a_file_that_changes_while_a_client_is_written_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let [service, _] = two_processes(&folder);
    let path = folder.path().join("clients.toml");
    let others = "clients = [] # of another program\n";
    let done = service.edit(|clients, _| {
        clients.push(Arc::new(client("new")));
        std::fs::write(&path, others).unwrap();
        Ok(())
    });
    let error = chain(&done.unwrap_err());
    assert!(error.contains("another program changed it at the same time") && error.contains("try again"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), others);
    create(&service, "new").unwrap();
}

fn chain(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(unix)]
#[test]
fn a_named_pipe_as_journal_is_a_fault_and_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let [service, _] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    assert!(std::process::Command::new("mkfifo").arg(&journal).status().unwrap().success());
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        service.poll();
        // Receives an error if the test has failed.
        let _ = done.send(service.fault());
    });
    let fault = is_done.recv_timeout(Duration::from_secs(30)).expect("it waits for a writer").unwrap();
    assert!(fault.reason().contains("not a regular file") && fault.path() == journal, "{fault}");
}

#[tokio::test]
async fn a_file_that_is_written_in_parts_is_used_once_it_is_complete() {
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
    // Each prefix is valid TOML, with fewer clients than before.
    for end in ends {
        std::fs::write(&path, &whole[..end]).unwrap();
        service.poll();
        assert!(service.memory.find(&ClientId::from_static("late")).await.unwrap().is_none());
    }
    service.poll();
    let reported = service.memory.changes(&cursor).await.unwrap().changes;
    assert_eq!(reported, [Change::Client(ClientId::from_static("late"))], "no other client was ever missing");
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
async fn a_journal_that_was_rewritten_in_place_with_more_lines_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("old", 100_000)).unwrap();
    tool.poll();
    let line = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, line.replace("old", "one") + &line.replace("old", "two")).unwrap();
    tool.poll();
    assert!(knows(&tool, &key("one", 100_000)).await && knows(&tool, &key("two", 100_000)).await);
}

#[tokio::test]
async fn compacting_keeps_revocations_that_another_process_wrote_since_the_last_poll() {
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
async fn a_last_line_without_line_break_is_a_revocation_and_blank_lines_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("old", 100_000)).unwrap();
    let edited = std::fs::read_to_string(&journal).unwrap().replace("old", "by hand");
    std::fs::write(&journal, format!("\n{}", edited.trim_end())).unwrap();
    tool.poll();
    assert!(knows(&tool, &key("by hand", 100_000)).await, "before another process appends to it");
    service.revoke(key("next", 100_000)).unwrap();
    tool.poll();
    assert!(knows(&tool, &key("next", 100_000)).await && tool.fault().is_none());
    let [again, _] = two_processes(&folder);
    assert!(knows(&again, &key("by hand", 100_000)).await && knows(&again, &key("next", 100_000)).await);
}

#[tokio::test]
async fn an_invalid_last_line_without_line_break_is_reported_and_kept() {
    let unknown = r#"{"account":{"name":"of a later version"}}"#;
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("old", 100_000)).unwrap();
    let good = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, format!("{good}{unknown}")).unwrap();
    tool.poll();
    assert_eq!(tool.fault().unwrap().line(), Some(2));
    assert!(tool.check_journal().is_err());
    service.revoke(key("next", 100_000)).unwrap();
    let text = std::fs::read_to_string(&journal).unwrap();
    assert!(text.starts_with(&format!("{good}{unknown}\n")) && text.lines().count() == 3, "{text}");
    tool.poll();
    assert_eq!(tool.fault().unwrap().line(), Some(2));
}

#[cfg(unix)]
#[tokio::test]
async fn a_replaced_journal_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("one", 100_000)).unwrap();
    tool.poll();
    // Repeated until the inode number of a file that no process has open is used again.
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
async fn an_invalid_line_is_reported_and_kept_and_a_line_that_a_crash_cut_off_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let [service, tool] = two_processes(&folder);
    let journal = folder.path().join("clients.revoked");
    service.revoke(key("old", 0)).unwrap();
    let mut text = std::fs::read_to_string(&journal).unwrap();
    text.push_str(r#"{"key":{"key_id":"cut of"#);
    std::fs::write(&journal, &text).unwrap();
    service.revoke(key("next", 100_000)).unwrap();
    tool.poll();
    assert!(knows(&tool, &key("next", 100_000)).await && tool.check_journal().is_ok());

    let good = std::fs::read_to_string(&journal).unwrap();
    assert!(!good.contains("cut of"), "it was never acknowledged");
    let bad = format!("{good}{}", r#"{"account":{"name":"of a later version"}}"#) + "\n";
    std::fs::write(&journal, &bad).unwrap();
    service.revoke(key("behind", 100_000)).unwrap();
    let bad = std::fs::read_to_string(&journal).unwrap();
    tool.poll();
    let fault = tool.fault().unwrap();
    assert_eq!((fault.path(), fault.line()), (journal.as_path(), Some(3)), "{fault}");
    assert!(tool.check_journal().is_err(), "a reader of the feed gets an error");
    assert!(service.compact(later()).is_err());
    assert_eq!(std::fs::read_to_string(&journal).unwrap(), bad, "nothing is lost");
    let (path, used) = (folder.path().join("clients.toml"), folder.path().join("used"));
    let open = Shared::open(path, journal.clone(), used, MemoryStore::default(), LOCK_TIMEOUT);
    assert_eq!(open.err().unwrap().line(), Some(3));

    std::fs::write(
        &journal,
        bad.replace("account", "key")
            .replace("name\":", "key_id\":\"k\",\"expires_at\":9,\"x\":")
            .replace(",\"x\":\"of a later version\"", ""),
    )
    .unwrap();
    tool.poll();
    assert!(tool.check_journal().is_ok() && tool.fault().is_none());
    assert!(knows(&tool, &key("behind", 100_000)).await);
}

#[tokio::test]
async fn the_tokens_of_a_client_that_was_removed_by_hand_stay_revoked_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let [service, _] = two_processes(&folder);
    create(&service, "billing").unwrap();
    std::fs::write(folder.path().join("clients.toml"), "clients = []\n").unwrap();
    service.poll();
    service.poll();
    let reported = service.memory.changes(&Cursor::start()).await.unwrap().changes;
    let revoked = reported.into_iter().find_map(|change| match change {
        Change::Revoked(revocation @ Revocation::Client { .. }) => Some(revocation),
        _ => None,
    });
    let [again, _] = two_processes_of(&folder);
    assert!(knows(&again, &revoked.unwrap()).await);
}
