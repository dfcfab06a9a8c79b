//! Several processes use credentials once, and the file of used ones is cut off, altered, replaced, removed and not writable.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::used::Used;
use super::write;
use crate::clock::UnixTime;
use crate::store::{Replay, ReplayId, StoreError};

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds).unwrap()
}

fn id(name: &str) -> ReplayId {
    ReplayId::new("issuer", name)
}

struct Files {
    folder: TempDir,
    path: PathBuf,
}

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("clients.toml.used");
        Self { folder, path }
    }

    /// Starts a process.
    fn open(&self) -> Used {
        let mut used = Used::new(self.path.clone());
        used.read(at(0)).unwrap();
        used
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    fn lines(&self) -> usize {
        self.text().lines().count()
    }
}

/// Uses a credential that expires after 1,000 seconds.
fn use_at(used: &mut Used, name: &str, now: u64) -> Result<Replay, StoreError> {
    used.check_and_insert(id(name), at(1_000), at(now))
}

fn uses(used: &mut Used, name: &str) -> Replay {
    use_at(used, name, 0).unwrap()
}

#[test]
fn a_used_credential_stays_used_over_a_restart_and_for_another_process_until_it_expires() {
    let files = Files::new();
    let [mut one, mut other] = [files.open(), files.open()];
    assert_eq!(uses(&mut one, "a"), Replay::Fresh);
    assert_eq!(uses(&mut other, "a"), Replay::Seen);
    assert_eq!(uses(&mut other, "b"), Replay::Fresh);
    drop((one, other));
    let mut again = files.open();
    for name in ["a", "b"] {
        assert_eq!(use_at(&mut again, name, 999).unwrap(), Replay::Seen, "{name}");
    }
    assert_eq!(again.check_and_insert(id("a"), at(2_000), at(1_000)).unwrap(), Replay::Fresh);
    let mut again = files.open();
    assert_eq!(again.check_and_insert(id("a"), at(2_000), at(1_999)).unwrap(), Replay::Seen, "the later time counts");
    assert_eq!(again.check_and_insert(id("b"), at(2_000), at(1_000)).unwrap(), Replay::Fresh);
}

#[test]
fn of_many_concurrent_uses_in_several_processes_one_is_accepted() {
    let files = Files::new();
    let processes = [(); 4].map(|()| Mutex::new(files.open()));
    for round in 0..10 {
        let fresh = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for process in &processes {
                scope.spawn(|| {
                    let replay = uses(&mut process.lock().unwrap(), &round.to_string());
                    fresh.fetch_add(usize::from(replay == Replay::Fresh), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(fresh.into_inner(), 1, "round {round}");
    }
}

#[test]
fn a_line_that_a_crash_cut_off_is_no_entry_and_the_next_one_takes_its_place() {
    let files = Files::new();
    assert_eq!(uses(&mut files.open(), "a"), Replay::Fresh);
    assert_eq!(uses(&mut files.open(), "b"), Replay::Fresh);
    let whole = files.text();
    let second = whole.find('\n').unwrap() + 1;
    for end in [second + 1, second + 40, whole.len() - 2] {
        fs::write(&files.path, &whole[..end]).unwrap();
        let mut used = files.open();
        assert_eq!(uses(&mut used, "a"), Replay::Seen, "{end}");
        assert_eq!(uses(&mut used, "b"), Replay::Fresh, "{end}");
        assert_eq!(files.text(), whole, "{end}");
    }
    // Only the line break is missing.
    fs::write(&files.path, whole.trim_end()).unwrap();
    let mut used = files.open();
    assert_eq!(uses(&mut used, "b"), Replay::Seen);
    assert_eq!(uses(&mut used, "c"), Replay::Fresh);
    assert_eq!(files.lines(), 3);
    assert_eq!(uses(&mut files.open(), "c"), Replay::Seen);
}

#[test]
fn a_line_that_cannot_be_read_is_an_error_since_it_may_be_a_used_credential() {
    let files = Files::new();
    assert_eq!(uses(&mut files.open(), "a"), Replay::Fresh);
    let good = files.text();
    let upper = good.replace("\"id\":\"", "\"id\":\"AA");
    for bad in ["x\n", "\0\0\0\n", "[\"00\", 5]\n", "{\"id\":\"00\",\"expires_at\":5}\n", &upper] {
        fs::write(&files.path, format!("{good}{bad}{good}")).unwrap();
        let error = Used::new(files.path.clone()).read(at(0)).unwrap_err();
        assert_eq!(error.line(), Some(2), "{bad:?}: {error}");
        let mut used = Used::new(files.path.clone());
        for name in ["a", "b"] {
            use_at(&mut used, name, 0).unwrap_err();
        }
    }
}

#[test]
fn expired_entries_are_removed_from_the_file_by_later_uses_and_by_a_purge() {
    let files = Files::new();
    let mut used = files.open();
    let old = |number| format!("{{\"id\":\"{}\",\"expires_at\":100}}", id(&format!("old {number}")).to_hex());
    let lines = (0..3_000).map(old).collect::<Vec<_>>().join("\n") + "\n";
    fs::write(&files.path, lines).unwrap();
    assert_eq!(use_at(&mut used, "lasts", 90).unwrap(), Replay::Fresh);
    assert_eq!(files.lines(), 3_001);
    // The entries are kept for a minute longer, and then removed in parts.
    for number in 0..5 {
        assert_eq!(use_at(&mut used, &format!("new {number}"), 160).unwrap(), Replay::Fresh);
    }
    assert!(files.lines() < 1_100, "{}", files.lines());
    assert_eq!(use_at(&mut files.open(), "lasts", 161).unwrap(), Replay::Seen);
    used.compact(at(162)).unwrap();
    assert_eq!(files.lines(), 6);
    used.compact(at(1_060)).unwrap();
    assert_eq!(files.lines(), 0);
    let other = Files::new();
    other.open().compact(at(5)).unwrap();
    assert!(!other.path.exists(), "nothing is written for a store without used credentials");
}

#[test]
fn entries_that_an_older_copy_of_the_file_lacks_are_known_and_written_again() {
    let files = Files::new();
    let mut used = files.open();
    assert_eq!(uses(&mut used, "a"), Replay::Fresh);
    let old = files.folder.path().join("old");
    fs::copy(&files.path, &old).unwrap();
    assert_eq!(uses(&mut used, "b"), Replay::Fresh);
    assert_eq!(uses(&mut used, "c"), Replay::Fresh);
    fs::rename(&old, &files.path).unwrap();
    for name in ["b", "c", "a"] {
        assert_eq!(uses(&mut used, name), Replay::Seen, "{name}");
    }
    assert_eq!(files.lines(), 3);
    for is_removed in [true, false] {
        if is_removed {
            fs::remove_file(&files.path).unwrap();
        } else {
            fs::write(&files.path, "").unwrap();
        }
        assert_eq!(uses(&mut used, "b"), Replay::Seen);
        assert_eq!(uses(&mut files.open(), "c"), Replay::Seen, "also after a restart");
    }
}

#[test]
fn a_poll_notices_that_entries_are_missing_and_writes_them_again_up_to_their_last_second() {
    let files = Files::new();
    let mut used = files.open();
    used.poll(at(0));
    assert!(
        !files.path.exists() && fs::read_dir(&files.folder).unwrap().count() == 0,
        "nothing is written without a use"
    );
    assert_eq!(uses(&mut used, "a"), Replay::Fresh);
    for now in [0, 999] {
        fs::write(&files.path, "").unwrap();
        used.poll(at(now));
        assert_eq!(files.lines(), 1, "{now}");
        fs::remove_file(&files.path).unwrap();
        used.poll(at(now));
        assert_eq!(use_at(&mut files.open(), "a", 999).unwrap(), Replay::Seen, "{now}: after a restart");
    }
    // Another process writes: it is read later.
    fs::write(&files.path, "").unwrap();
    let held = write::Lock::take(&files.path, Duration::ZERO).unwrap();
    used.poll(at(0));
    assert_eq!(files.lines(), 0);
    drop(held);
    used.poll(at(0));
    assert_eq!(files.lines(), 1);
    fs::write(&files.path, "").unwrap();
    used.poll(at(1_000));
    assert_eq!(files.lines(), 0, "it has expired");
}

#[test]
fn a_use_that_cannot_be_written_is_an_error_and_can_be_repeated() {
    let files = Files::new();
    let path = files.folder.path().join("missing").join("clients.toml.used");
    let mut used = Used::new(path.clone());
    used.read(at(0)).unwrap();
    for _ in 0..2 {
        use_at(&mut used, "a", 0).unwrap_err();
    }
    fs::create_dir(path.parent().unwrap()).unwrap();
    // The lock can be taken, but the file cannot be written.
    fs::create_dir(&path).unwrap();
    for _ in 0..2 {
        use_at(&mut used, "a", 0).unwrap_err();
    }
    fs::remove_dir(&path).unwrap();
    assert_eq!(uses(&mut used, "a"), Replay::Fresh);
    assert_eq!(uses(&mut used, "a"), Replay::Seen);
}
