//! The stores in files, SQLite and TOML: two processes, locks, full or read-only disks, and files that are replaced or restored
//! from an older copy while a process runs.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)] // helpers of tests, which may

mod common;

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use common::disk::{Disk, fail_writes, has_own_mounts, may_fail_writes};
use common::faults::{PATIENCE, follow, loss, read, still_polls, until};
use common::{chain, client};
use tempfile::TempDir;
use tower_client_credentials::store::{
    Change, ChangeFeed, ClientAdmin, Cursor, FileStore, Replay, ReplayId, ReplayLog, Revocation, RevocationStore,
    SqliteStore, StoreError,
};
use tower_client_credentials::{ClientId, ClientStore};

const BILLING: ClientId = ClientId::from_static("billing");
const HOUR: Duration = Duration::from_secs(3_600);

fn key(name: impl Into<String>) -> Revocation {
    Revocation::key(name, SystemTime::now(), HOUR)
}

async fn sqlite(file: &Path) -> SqliteStore {
    SqliteStore::builder(url(file)).call_timeout(PATIENCE).open().await.unwrap()
}

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

async fn toml(file: &Path) -> FileStore {
    FileStore::builder(file).create_missing().open().await.unwrap()
}

/// Returns the names of the keys that the store reports as revoked.
async fn held(store: &impl RevocationStore) -> Result<HashSet<String>, StoreError> {
    let keys = read(store, Cursor::start()).await?.0.into_iter().filter_map(|change| match change {
        Change::Revoked(Revocation::Key { key_id, .. }) => Some(key_id),
        _ => None,
    });
    Ok(keys.collect())
}

/// Python's SQLite, a client of the file independent of ours.
fn python(script: &str, arguments: &[&Path]) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(format!("import sqlite3, sys, time\n{script}")).args(arguments);
    command
}

fn run(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Copies like `sqlite3 TO ".restore FROM"`, or like a backup in the other direction.
fn back_up(from: &Path, to: &Path) {
    run(python("sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))", &[from, to]));
}

// --- two processes -------------------------------------------------------------------------------------------------------

/// The store that a separate process works on.
const CHILD: &str = "TCC_CHILD";

/// Runs the same test in a separate process, which finds its role in its environment.
fn child(test: &str, file: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--include-ignored"]).env(CHILD, file).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// Revokes keys and creates clients until the process is killed, and prints each acknowledged name.
async fn write_for_ever(store: &(impl ClientAdmin + RevocationStore), creates_every: u32) {
    let name = std::process::id();
    for number in 0.. {
        let id = format!("{name}-{number}");
        if store.revoke(key(&id)).await.is_ok() {
            println!("\nrevoked {id}");
        }
        if number % creates_every == 0 && store.create(client(&id).register().unwrap()).await.is_ok() {
            println!("\ncreated {id}");
        }
        std::io::stdout().flush().unwrap();
    }
}

/// Lets other processes write to the same store, and kills them during their writes.
async fn nothing_is_lost<S: ClientAdmin + RevocationStore + Clone>(
    store: S,
    processes: usize,
    writes: usize,
    start: impl Fn() -> Child,
) {
    let (view, mut listener) = follow(store.clone()).await;
    let (mut revoked, mut created) = (Vec::new(), Vec::new());
    for process in 0..processes {
        let mut child = start();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reading = std::thread::spawn(move || {
            let mut told = Vec::new();
            for line in output.lines() {
                let line = line.unwrap_or_default();
                if line.starts_with("revoked ") || line.starts_with("created ") {
                    told.push(line);
                }
                if told.len() == writes {
                    child.kill().unwrap();
                }
            }
            child.wait().unwrap();
            told
        });
        let mut number = 0;
        while !reading.is_finished() {
            let id = format!("own-{process}-{number}");
            if store.revoke(key(&id)).await.is_ok() {
                revoked.push(id);
            }
            number += 1;
        }
        for line in reading.join().unwrap() {
            let (what, id) = line.split_once(' ').unwrap();
            if what == "revoked" { &mut revoked } else { &mut created }.push(id.to_owned());
        }
    }
    assert!(revoked.len() >= processes * writes / 2 && !created.is_empty());
    let begun = Instant::now();
    until("the view has all of them", || async { view.entries() >= revoked.len() }).await;
    let heard = begun.elapsed();
    let keys = held(&store).await.unwrap();
    assert!(revoked.iter().all(|id| keys.contains(id)), "an acknowledged revocation is lost");
    for id in &created {
        assert!(store.load(&id.parse().unwrap()).await.unwrap().is_some(), "{id} is lost");
    }
    assert!(listener.try_recv().is_none(), "nothing was lost, and no loss is reported");
    println!(
        "{processes} processes killed while they wrote: {} revocations and {} clients acknowledged, 0 lost; the last is known \
         {heard:?} after it",
        revoked.len(),
        created.len()
    );
}

async fn sqlite_in_processes(test: &str, processes: usize, writes: usize) {
    if let Some(file) = std::env::var_os(CHILD) {
        return write_for_ever(&sqlite(Path::new(&file)).await, 5).await;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.db");
    nothing_is_lost(sqlite(&file).await, processes, writes, || child(test, &file)).await;
}

async fn toml_in_processes(test: &str, processes: usize, writes: usize) {
    if let Some(file) = std::env::var_os(CHILD) {
        return write_for_ever(&toml(Path::new(&file)).await, 50).await;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clients.toml");
    nothing_is_lost(toml(&file).await, processes, writes, || child(test, &file)).await;
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(left.len() <= 4 + processes, "{left:?}");
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_writes_to_sqlite_loses_no_acknowledged_write() {
    sqlite_in_processes("a_process_that_is_killed_while_it_writes_to_sqlite_loses_no_acknowledged_write", 2, 100).await;
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_writes_to_the_file_loses_no_acknowledged_write() {
    toml_in_processes("a_process_that_is_killed_while_it_writes_to_the_file_loses_no_acknowledged_write", 2, 100).await;
}

#[tokio::test]
#[ignore = "long: run by scripts/attack"]
async fn attack_forty_processes_that_are_killed_while_they_write_to_sqlite_lose_nothing() {
    sqlite_in_processes("attack_forty_processes_that_are_killed_while_they_write_to_sqlite_lose_nothing", 40, 200)
        .await;
}

#[tokio::test]
#[ignore = "long: run by scripts/attack"]
async fn attack_forty_processes_that_are_killed_while_they_write_to_the_file_lose_nothing() {
    toml_in_processes("attack_forty_processes_that_are_killed_while_they_write_to_the_file_lose_nothing", 40, 200)
        .await;
}

// --- locks ---------------------------------------------------------------------------------------------------------------

/// Another process that holds a lock until it is killed.
struct Holder(Child);

impl Holder {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n");
        Self(child)
    }

    fn of_lock(file: &Path) -> Self {
        let script = "import fcntl\nfile = open(sys.argv[1], 'a')\nfcntl.flock(file, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(600)";
        Self::start(python(script, &[file]))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test]
async fn an_sqlite_file_locked_by_another_process_is_read_and_written_once_the_lock_is_released() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.db");
    let timeout = Duration::from_millis(500);
    let store = SqliteStore::builder(url(&file)).call_timeout(timeout).open().await.unwrap();
    store.create(client("billing").register().unwrap()).await.unwrap();
    let (view, mut listener) = follow(store.clone()).await;
    let script = "db = sqlite3.connect(sys.argv[1], isolation_level=None)\ndb.execute('BEGIN EXCLUSIVE')\nprint('held', flush=True)\ntime.sleep(600)";
    let holder = Holder::start(python(script, &[&file]));
    let begun = Instant::now();
    let (id, now) = (ReplayId::new("issuer", "jti"), SystemTime::now());
    for said in [
        chain(&store.revoke(key("a")).await.unwrap_err()),
        chain(&store.check_and_insert(&id, now + HOUR, now).await.unwrap_err()),
    ] {
        assert!(said.contains("database is locked") || said.contains("no answer within"), "{said}");
    }
    assert!(begun.elapsed() < 60 * timeout, "{:?}", begun.elapsed());
    assert!(store.find(&BILLING).await.unwrap().is_some());
    still_polls(&view).await;
    drop(holder);
    until("it is written", || async { store.revoke(key("b")).await.is_ok() }).await;
    assert_eq!(store.check_and_insert(&id, now + HOUR, now).await.unwrap(), Replay::Fresh);
    until("the view has it", || async { view.entries() == 1 }).await;
    assert!(listener.try_recv().is_none());
}

#[tokio::test]
async fn a_revocation_file_locked_by_another_process_is_read_and_written_once_the_lock_is_released() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clients.toml");
    let store = toml(&file).await;
    store.create(client("billing").register().unwrap()).await.unwrap();
    let (view, _) = follow(store.clone()).await;
    let holder = Holder::of_lock(&folder.path().join("clients.toml.revoked.lock"));
    let begun = Instant::now();
    let said = chain(&store.revoke(key("a")).await.unwrap_err());
    assert!(said.contains(".revoked.lock") && said.contains("holds the write lock"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(store.find(&BILLING).await.unwrap().is_some() && view.is_ready());
    drop(holder);
    store.revoke(key("b")).await.unwrap();
    until("the view has it", || async { view.entries() == 1 }).await;
}

#[tokio::test]
#[ignore = "long: run by scripts/attack"]
async fn attack_a_client_file_locked_by_another_process_is_given_up_after_ten_seconds() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clients.toml");
    let store = toml(&file).await;
    let holder = Holder::of_lock(&folder.path().join("clients.toml.lock"));
    let begun = Instant::now();
    let said = chain(&store.create(client("billing").register().unwrap()).await.unwrap_err());
    assert!(said.contains("clients.toml.lock"), "{said}");
    assert!((9..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    store.revoke(key("a")).await.unwrap();
    drop(holder);
    store.create(client("billing").register().unwrap()).await.unwrap();
}

// --- disks ---------------------------------------------------------------------------------------------------------------

/// Fills the disk under a store, and frees space again.
async fn fills_and_recovers<S: ClientAdmin + ClientStore + RevocationStore + Clone>(
    disk: &Disk,
    store: S,
) -> HashSet<String> {
    store.create(client("billing").register().unwrap()).await.unwrap();
    let (view, mut listener) = follow(store.clone()).await;
    let mut acknowledged = HashSet::new();
    for round in 0..3 {
        disk.fill();
        let mut failed = 0;
        for number in 0..2_000 {
            let id = format!("{round}-{number}-{:0>300}", 0);
            match store.revoke(key(&id)).await {
                Ok(()) => drop(acknowledged.insert(id)),
                Err(error) => {
                    failed += 1;
                    let said = chain(&error);
                    assert!(said.contains("full") || said.contains("No space left"), "{said}");
                }
            }
            if failed == 5 {
                break;
            }
        }
        assert_eq!(failed, 5, "the disk is not full");
        let refused = store.create(client(&format!("c{round}")).register().unwrap()).await;
        assert!(store.find(&BILLING).await.unwrap().is_some(), "after {refused:?}");
        still_polls(&view).await;
        disk.make_room();
        let id = format!("room {round}");
        until("it is written again", || async { store.revoke(key(&id)).await.is_ok() }).await;
        acknowledged.insert(id);
        if refused.is_err() {
            store.create(client(&format!("c{round}")).register().unwrap()).await.unwrap();
        }
    }
    let keys = held(&store).await.unwrap();
    assert!(acknowledged.is_subset(&keys), "an acknowledged revocation is lost");
    until("the view has all of them", || async { view.entries() >= acknowledged.len() }).await;
    assert!(listener.try_recv().is_none(), "nothing was lost, and no loss is reported");
    println!("disk full three times: {} revocations acknowledged, 0 lost", acknowledged.len());
    acknowledged
}

#[tokio::test]
async fn sqlite_on_a_full_disk_refuses_writes_loses_nothing_and_recovers() {
    if !has_own_mounts("sqlite_on_a_full_disk_refuses_writes_loses_nothing_and_recovers") {
        return;
    }
    let disk = Disk::of(2 << 20);
    let file = disk.path().join("a.db");
    let acknowledged = fills_and_recovers(&disk, sqlite(&file).await).await;
    let again = sqlite(&file).await;
    assert!(acknowledged.is_subset(&held(&again).await.unwrap()), "after a restart");
}

#[tokio::test]
async fn files_on_a_full_disk_refuse_writes_lose_nothing_and_recover() {
    if !has_own_mounts("files_on_a_full_disk_refuse_writes_lose_nothing_and_recover") {
        return;
    }
    let disk = Disk::of(1 << 20);
    let file = disk.path().join("clients.toml");
    let acknowledged = fills_and_recovers(&disk, toml(&file).await).await;
    let again = toml(&file).await;
    assert!(acknowledged.is_subset(&held(&again).await.unwrap()), "after a restart");
    assert_eq!(again.list(None, 10.try_into().unwrap()).await.unwrap().len(), 4);
    let left = fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(left, 4, "the two files and their locks, and no temporary one");
}

#[tokio::test]
async fn a_full_disk_refuses_credentials_that_it_cannot_record_and_forgets_none() {
    if !has_own_mounts("a_full_disk_refuses_credentials_that_it_cannot_record_and_forgets_none") {
        return;
    }
    let disk = Disk::of(1 << 20);
    let file = disk.path().join("clients.toml");
    let store = toml(&file).await;
    let (now, mut accepted, mut number) = (SystemTime::now(), Vec::new(), 0);
    let use_once = async |store: &FileStore, number: u32| {
        let id = ReplayId::new("billing", &number.to_string());
        store.check_and_insert(&id, now + Duration::from_secs(300), now).await
    };
    for _ in 0..3 {
        disk.fill();
        let refused = loop {
            number += 1;
            match use_once(&store, number).await {
                Ok(replay) => {
                    assert_eq!(replay, Replay::Fresh);
                    accepted.push(number);
                }
                Err(error) => break error,
            }
        };
        assert!(chain(&refused).contains("No space left"), "{}", chain(&refused));
        use_once(&store, number).await.unwrap_err();
        disk.make_room();
        assert_eq!(use_once(&store, number).await.unwrap(), Replay::Fresh, "nothing was recorded");
        accepted.push(number);
    }
    for store in [store, toml(&file).await] {
        for number in &accepted {
            assert_eq!(use_once(&store, *number).await.unwrap(), Replay::Seen, "{number}");
        }
    }
    println!("{} used credentials, on a disk that was full three times", accepted.len());
}

#[tokio::test]
async fn a_read_only_file_system_refuses_writes_still_verifies_and_is_written_once_writable() {
    if !has_own_mounts("a_read_only_file_system_refuses_writes_still_verifies_and_is_written_once_writable") {
        return;
    }
    let disk = Disk::of(4 << 20);
    let (db, file) = (disk.path().join("a.db"), disk.path().join("clients.toml"));
    let store = toml(&file).await;
    store.create(client("billing").register().unwrap()).await.unwrap();
    store.revoke(key("a")).await.unwrap();
    let (view, mut listener) = follow(store.clone()).await;
    disk.read_only(true);
    let said = chain(&SqliteStore::open(url(&db)).await.unwrap_err());
    assert!(said.contains("a.db cannot be opened") && said.contains("Read-only file system"), "{said}");
    for said in [
        chain(&store.revoke(key("b")).await.unwrap_err()),
        chain(&store.create(client("reports").register().unwrap()).await.unwrap_err()),
        chain(&store.delete(&BILLING).await.unwrap_err()),
    ] {
        assert!(said.contains("Read-only file system"), "{said}");
    }
    still_polls(&view).await;
    assert!(store.find(&BILLING).await.unwrap().is_some(), "the deletion was refused, and so it was not done");
    assert!(store.fault().is_none());
    // A process that starts there can read.
    let reader = FileStore::open(&file).await.unwrap();
    assert!(reader.find(&BILLING).await.unwrap().is_some() && held(&reader).await.unwrap().len() == 1);
    disk.read_only(false);
    store.revoke(key("b")).await.unwrap();
    store.delete(&BILLING).await.unwrap();
    until("the view has it", || async { view.entries() == 3 }).await;
    assert!(sqlite(&db).await.find(&BILLING).await.unwrap().is_none());
    assert!(listener.try_recv().is_none());
}

/// A disk with errors becomes read-only: SQLite gets the same error for each write to its open files, and reports the same.
#[tokio::test]
async fn sqlite_whose_open_files_become_read_only_refuses_writes_still_verifies_and_is_written_once_writable() {
    if !may_fail_writes(
        "sqlite_whose_open_files_become_read_only_refuses_writes_still_verifies_and_is_written_once_writable",
    ) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.db");
    let store = sqlite(&file).await;
    store.create(client("billing").register().unwrap()).await.unwrap();
    store.revoke(key("before")).await.unwrap();
    let (view, mut listener) = follow(store.clone()).await;
    let (id, now) = (ReplayId::new("issuer", "jti"), SystemTime::now());
    for round in 0..2 {
        fail_writes(true);
        for number in 0..5 {
            for said in [
                chain(&store.revoke(key(format!("{round} {number}"))).await.unwrap_err()),
                chain(&store.create(client("reports").register().unwrap()).await.unwrap_err()),
                chain(&store.delete(&BILLING).await.unwrap_err()),
                chain(&store.check_and_insert(&id, now + HOUR, now).await.unwrap_err()),
            ] {
                assert!(said.contains("disk I/O error"), "{said}");
            }
        }
        still_polls(&view).await;
        assert!(store.find(&BILLING).await.unwrap().is_some(), "the deletion was refused, and so it was not done");
        fail_writes(false);
        store.revoke(key(format!("after {round}"))).await.unwrap();
        until("the view has it", async || view.entries() == round + 2).await;
    }
    assert_eq!(store.check_and_insert(&id, now + HOUR, now).await.unwrap(), Replay::Fresh);
    let expected = ["before", "after 0", "after 1"].map(str::to_owned);
    assert_eq!(held(&sqlite(&file).await).await.unwrap(), HashSet::from(expected));
    assert!(listener.try_recv().is_none(), "nothing was lost");
    run(python(
        "assert sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone() == ('ok',)",
        &[&file],
    ));
}

#[tokio::test]
async fn a_file_system_without_shared_memory_is_rejected_with_the_reason() {
    let folder = TempDir::new().unwrap();
    // SQLite's VFS for file systems without locks and shared memory.
    let url = format!("{}?vfs=unix-dotfile", url(&folder.path().join("a.db")));
    let said = chain(&SqliteStore::open(url).await.unwrap_err());
    assert!(said.contains("write-ahead log") && said.contains("local disk"), "{said}");
}

// --- files that are replaced ---------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// `mv copy.db a.db`
    Rename,
    /// The same, where the processes know the file by a symbolic link.
    BehindLink,
    /// The link points to the copy.
    Link,
    /// `sqlite3 a.db ".restore copy.db"`
    Restore,
    /// `cp copy.db a.db`, which the documentation warns of.
    Copy,
}

#[tokio::test]
async fn restoring_sqlite_from_an_older_copy_while_it_runs_is_reported_and_admits_no_revoked_token() {
    for way in [Way::Rename, Way::BehindLink, Way::Link, Way::Restore, Way::Copy] {
        let folder = TempDir::new().unwrap();
        let (file, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
        if matches!(way, Way::BehindLink | Way::Link) {
            fs::write(folder.path().join("real.db"), "").unwrap();
            symlink("real.db", &file).unwrap();
        }
        let store = sqlite(&file).await;
        store.create(client("billing").register().unwrap()).await.unwrap();
        store.revoke(key("before")).await.unwrap();
        let (view, mut listener) = follow(store.clone()).await;
        let other = folder.path().join("other.db");
        back_up(&file, &copy);
        if way == Way::Copy {
            fs::copy(&copy, &other).unwrap();
        }
        let count = 300;
        for number in 0..count {
            store.revoke(key(number.to_string())).await.unwrap();
        }
        store.disable(&BILLING).await.unwrap();
        until("it is known", || async { view.entries() == count + 2 }).await;
        // As a rule no process has read the last entry before it is lost.
        let last = key("last");
        store.revoke(last.clone()).await.unwrap();
        match way {
            Way::Rename => fs::rename(&copy, &file).unwrap(),
            Way::BehindLink => fs::rename(&copy, folder.path().join("real.db")).unwrap(),
            Way::Link => {
                symlink(&copy, &other).unwrap();
                fs::rename(&other, &file).unwrap();
            }
            Way::Restore => back_up(&copy, &file),
            Way::Copy => assert!(fs::copy(&copy, &file).unwrap() > 0),
        }
        if way == Way::Copy {
            // SQLite decides what happens to the file. The tokens that this process knows as revoked stay revoked.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(view.entries() >= count + 2, "{}", view.entries());
            println!(
                "{way:?}: {:?}, the file has {:?}",
                listener.try_recv(),
                held(&store).await.map(|keys| keys.len())
            );
            // It recovers once a complete copy is there.
            back_up(&other, &copy);
            fs::rename(&copy, &file).unwrap();
            until("it is found", || async { store.find(&BILLING).await.is_ok_and(|found| found.is_some()) }).await;
            until("it is written again", || async { held(&store).await.is_ok_and(|keys| keys.len() > count) }).await;
            continue;
        }
        let reason = loss(&mut listener).await;
        assert!(reason.contains("older copy") || reason.contains("another SQLite file"), "{reason}");
        until("it is written again", || async { held(&store).await.is_ok_and(|keys| keys.len() > count) }).await;
        // The last entry is lost, unless a poll came just in time.
        assert!([count + 2, count + 3].contains(&view.entries()), "{}", view.entries());
        let again = follow(sqlite(&file).await).await.0;
        assert_eq!(again.entries(), view.entries(), "after a restart");
        assert!(store.find(&BILLING).await.unwrap().unwrap().is_enabled(), "the loss was reported");
        store.revoke(last).await.unwrap();
        until("each follows on", || async { again.entries() == count + 3 && view.entries() == count + 3 }).await;
        assert!(listener.try_recv().is_none(), "one event for one loss");
    }
}

#[tokio::test]
async fn a_write_that_a_restored_sqlite_copy_lacks_is_reported_even_if_the_process_wrote_again_before_its_next_poll() {
    let folder = TempDir::new().unwrap();
    let (file, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
    let store = sqlite(&file).await;
    store.create(client("billing").register().unwrap()).await.unwrap();
    let cursor = store.changes(&Cursor::start()).await.unwrap().cursor;
    store.revoke(key("survived")).await.unwrap();
    back_up(&file, &copy);
    store.revoke(key("lost")).await.unwrap();
    back_up(&copy, &file);
    store.revoke(key("new")).await.unwrap();
    store.revoke(key("newer")).await.unwrap();
    let page = store.changes(&cursor).await.unwrap();
    assert!(page.lost.as_ref().is_some_and(|sign| sign.contains("older copy")), "{page:?}");
    assert_eq!(page.changes.len(), 4);
    assert_eq!(store.changes(&page.cursor).await.unwrap().lost, None, "it is reported once");
}

#[tokio::test]
async fn a_missing_or_foreign_sqlite_file_fails_and_the_store_recovers_when_it_is_back() {
    let folder = TempDir::new().unwrap();
    let (file, aside) = (folder.path().join("a.db"), folder.path().join("aside.db"));
    let store = sqlite(&file).await;
    store.create(client("billing").register().unwrap()).await.unwrap();
    let (view, mut listener) = follow(store.clone()).await;
    let foreign = folder.path().join("foreign.db");
    run(python(
        "sqlite3.connect(sys.argv[1]).executescript('CREATE TABLE t (a); INSERT INTO t VALUES (1)')",
        &[&foreign],
    ));
    let foreign = fs::read(foreign).unwrap();
    let garbage = vec![b'x'; 100_000];
    for (round, content, says) in [
        (0, None, "does not exist"),
        (1, Some(Vec::new()), "not a store"),
        (2, Some(garbage), "not a database"),
        (3, Some(foreign), "not a store"),
    ] {
        fs::rename(&file, &aside).unwrap();
        if let Some(content) = &content {
            fs::write(&file, content).unwrap();
        }
        let (id, now) = (ReplayId::new("issuer", says), SystemTime::now());
        for _ in 0..2 {
            for said in [
                chain(&store.find(&BILLING).await.unwrap_err()),
                chain(&store.revoke(key("a")).await.unwrap_err()),
                chain(&store.check_and_insert(&id, now + HOUR, now).await.unwrap_err()),
                chain(&store.changes(&Cursor::start()).await.unwrap_err()),
            ] {
                assert!(said.contains(says) || said.contains("being opened again"), "{said}");
            }
        }
        if let Some(content) = content {
            assert!(fs::read(&file).unwrap() == content, "a foreign file was written");
        }
        fs::rename(&aside, &file).unwrap();
        until("it is found again", || async { store.find(&BILLING).await.is_ok_and(|found| found.is_some()) }).await;
        store.revoke(key(format!("round {round}"))).await.unwrap();
    }
    until("the view has it", || async { view.entries() == 4 }).await;
    assert!(listener.try_recv().is_none(), "nothing was lost");
}

#[tokio::test]
async fn a_write_to_sqlite_is_not_acknowledged_from_a_file_that_was_replaced() {
    let folder = TempDir::new().unwrap();
    let (file, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
    let store = sqlite(&file).await;
    let (view, mut listener) = follow(store.clone()).await;
    back_up(&file, &copy);
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            let (mut acknowledged, mut failed) = (HashSet::new(), 0);
            for number in 0..400 {
                match store.revoke(key(number.to_string())).await {
                    Ok(()) => drop(acknowledged.insert(number.to_string())),
                    Err(_) => failed += 1,
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (acknowledged, failed)
        }
    });
    tokio::time::sleep(Duration::from_millis(400)).await;
    fs::rename(&copy, &file).unwrap();
    let (acknowledged, failed) = writing.await.unwrap();
    println!(
        "file replaced under load: {} writes acknowledged, {failed} failed; {}",
        acknowledged.len(),
        loss(&mut listener).await
    );
    // The event is about writes that were acknowledged just before, and that no process had read.
    let known = async || held(&store).await.unwrap();
    until("all that was read is written again", || async { known().await.len() >= view.entries() }).await;
    let missing = acknowledged.difference(&known().await).count();
    assert!(missing <= 200 && acknowledged.len() > 200, "{missing} of {}", acknowledged.len());
    let again = sqlite(&file).await;
    assert_eq!(held(&again).await.unwrap(), known().await);
}

#[tokio::test]
async fn two_processes_whose_sqlite_file_is_replaced_under_load_keep_it_intact_and_agree() {
    const NAME: &str = "two_processes_whose_sqlite_file_is_replaced_under_load_keep_it_intact_and_agree";
    if let Some(file) = std::env::var_os(CHILD) {
        let store = sqlite(Path::new(&file)).await;
        // A separate view, which writes again what it knows.
        let (view, _listener) = follow(store.clone()).await;
        write_for_ever(&store, 5).await;
        drop(view);
        return;
    }
    for round in 0..3 {
        let folder = TempDir::new().unwrap();
        let (file, copy) = (folder.path().join("a.db"), folder.path().join("copy.db"));
        let store = sqlite(&file).await;
        store.revoke(key("first")).await.unwrap();
        let (view, mut listener) = follow(store.clone()).await;
        let mut other = child(NAME, &file);
        let output = BufReader::new(other.stdout.take().unwrap());
        let reading = std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
        until("the other process writes", || async { view.entries() > 50 }).await;
        back_up(&file, &copy);
        let at = view.entries();
        until("it writes more", || async { view.entries() > at + 20 }).await;
        fs::rename(&copy, &file).unwrap();
        println!("round {round}: {}", loss(&mut listener).await);
        let known = view.entries();
        until("the other process writes to the new file", || async { view.entries() > known + 50 }).await;
        other.kill().unwrap();
        other.wait().unwrap();
        let lines = reading.join().unwrap();
        let acknowledged: HashSet<&str> = lines.iter().filter_map(|line| line.strip_prefix("revoked ")).collect();
        until("everything that this process knows is written", || async {
            held(&store).await.is_ok_and(|keys| keys.len() >= view.entries())
        })
        .await;
        let keys = held(&store).await.unwrap();
        let lost = acknowledged.iter().filter(|name| !keys.contains(**name)).count();
        println!(
            "round {round}: {} acknowledged by the other process, {lost} of them unknown here",
            acknowledged.len()
        );
        // Those between the last poll and the replacement of the file.
        assert!(lost < 200 && acknowledged.len() > 100, "{lost} of {}", acknowledged.len());
        drop((view, store));
        let check = "assert sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchone()[0] == 'ok'";
        run(python(check, &[&file]));
    }
}

/// Captures the log of the processes of this test binary.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Sink;

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn has_logged(text: &str) -> bool {
    String::from_utf8_lossy(&LOG.lock().unwrap()).contains(text)
}

fn log() {
    static SET: OnceLock<()> = OnceLock::new();
    SET.get_or_init(|| tracing_subscriber::fmt().with_writer(|| Sink).with_ansi(false).init());
}

#[tokio::test]
async fn restoring_revocations_from_an_older_copy_while_the_store_runs_is_reported_and_they_are_written_again() {
    type Restore = fn(&Path, &Path);
    let ways: [(&str, Restore); 6] = [
        ("mv", |copy, file| fs::rename(copy, file).unwrap()),
        ("cp", |copy, file| assert!(fs::copy(copy, file).unwrap() > 0)),
        ("rm", |_, file| fs::remove_file(file).unwrap()),
        ("empty", |_, file| fs::write(file, "").unwrap()),
        // An older copy to which another process has appended, so that it is no shorter.
        ("cp and longer", |copy, file| {
            let mut text = fs::read_to_string(copy).unwrap();
            for number in 0..400 {
                text.push_str(&(serde_json::to_string(&key(format!("other {number}"))).unwrap() + "\n"));
            }
            fs::write(file, text).unwrap();
        }),
        ("mv and longer", |copy, file| {
            let mut text = fs::read_to_string(copy).unwrap();
            for number in 0..400 {
                text.push_str(&(serde_json::to_string(&key(format!("other {number}"))).unwrap() + "\n"));
            }
            fs::write(copy, text).unwrap();
            fs::rename(copy, file).unwrap();
        }),
    ];
    for (way, restore) in ways {
        let folder = TempDir::new().unwrap();
        let (file, copy) = (folder.path().join("clients.toml"), folder.path().join("copy"));
        let journal = folder.path().join("clients.toml.revoked");
        let store = toml(&file).await;
        for number in 0..50 {
            store.revoke(key(format!("old {number}"))).await.unwrap();
        }
        let (view, mut listener) = follow(store.clone()).await;
        fs::copy(&journal, &copy).unwrap();
        for number in 0..200 {
            store.revoke(key(format!("new {number}"))).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
        restore(&copy, &journal);
        let reason = loss(&mut listener).await;
        assert!(reason.contains("restored from an older copy"), "{reason}");
        let expected = if way.ends_with("longer") { 650 } else { 250 };
        until("it is written again", || async {
            held(&store).await.unwrap().len() == expected && view.entries() == expected
        })
        .await;
        until("and on the disk", || async {
            fs::read_to_string(&journal).is_ok_and(|text| text.lines().count() == expected)
        })
        .await;
        assert_eq!(held(&toml(&file).await).await.unwrap().len(), expected, "{way}: after a restart");
        assert!(listener.try_recv().is_none() && store.fault().is_none(), "{way}: one event for one loss");
    }
}

#[tokio::test]
async fn revocations_that_another_process_compacts_are_not_reported_as_lost() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("clients.toml");
    let (one, other) = (toml(&file).await, toml(&file).await);
    let (view, mut listener) = follow(one.clone()).await;
    for number in 0..100 {
        one.revoke(key(number.to_string())).await.unwrap();
        other
            .revoke(Revocation::key(format!("short {number}"), SystemTime::now() - HOUR, Duration::ZERO))
            .await
            .unwrap();
    }
    // What the other process purges before the view reads it is not in the view.
    until("the view has it", || async { view.entries() == 200 }).await;
    for _ in 0..3 {
        other.purge(SystemTime::now()).await.unwrap();
        one.revoke(key(format!("{} more", view.entries()))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let text = fs::read_to_string(folder.path().join("clients.toml.revoked")).unwrap();
    assert!(!text.contains("short") && text.lines().count() == 103, "{}", text.lines().count());
    // In the first hour the view keeps expired entries as well.
    until("the view has it", || async { view.entries() == 203 }).await;
    assert!(listener.try_recv().is_none());
}

#[tokio::test]
async fn a_client_that_an_older_copy_of_the_file_enables_again_is_named_and_its_former_tokens_stay_revoked() {
    log();
    let folder = TempDir::new().unwrap();
    let (file, copy) = (folder.path().join("clients.toml"), folder.path().join("copy"));
    let store = toml(&file).await;
    for id in ["restored-disabled", "restored-deleted", "always-there"] {
        store.create(client(id).register().unwrap()).await.unwrap();
    }
    let (view, _) = follow(store.clone()).await;
    fs::copy(&file, &copy).unwrap();
    store.disable(&ClientId::from_static("restored-disabled")).await.unwrap();
    store.delete(&ClientId::from_static("restored-deleted")).await.unwrap();
    until("the view has it", || async { view.entries() == 2 }).await;
    fs::rename(&copy, &file).unwrap();
    until("it is live", || async { store.find(&ClientId::from_static("restored-deleted")).await.unwrap().is_some() })
        .await;
    // The line is written after the change takes effect.
    until("it is logged", || async { has_logged("the file enables clients that were disabled or deleted") }).await;
    assert!(has_logged("restored-disabled") && has_logged("restored-deleted") && !has_logged("always-there"));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(view.entries(), 2, "their former tokens stay revoked");
    let again = follow(toml(&file).await).await.0;
    assert_eq!(again.entries(), 2, "after a restart as well");
    let _: PathBuf = file;
}
