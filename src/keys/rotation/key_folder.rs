//! The keys in a watched folder: each file whose name ends in `.pem` contains one.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::key_file::Loaded;
use super::lifecycle::Step;
use crate::clock::{changed_at, unix_millis};
use crate::keys::{Algorithm, KeyError, SigningKey, file};

/// How many files a folder may contain: far more than an operator needs, and few enough to read at each look.
const MAX_FILES: usize = 64;

/// A key and the times of its file.
pub(super) struct Found {
    pub(super) key: SigningKey,
    pub(super) times: Times,
    path: PathBuf,
}

/// When a file of a folder got what it has, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    /// When its content was written, as far as is known: `mv`, `cp -p` and `rsync -a` keep an earlier time.
    written: u64,
    /// The earliest time at which it can have come into the folder with this content.
    placed: u64,
}

impl Times {
    fn of(path: &Path) -> io::Result<Self> {
        // The link in the folder may be newer than the file that it leads to.
        let (metadata, link) = (fs::metadata(path)?, fs::symlink_metadata(path)?);
        let written = unix_millis(metadata.modified()?);
        let changed = [&metadata, &link].into_iter().filter_map(changed_at).map(unix_millis);
        Ok(Self { written, placed: changed.fold(written, u64::max) })
    }
}

/// Returns the place of the file whose key signs after a start: the last one that every cache can have, or else the first one.
fn signs_at_start(files: &[Times], wait: u64, now: u64) -> usize {
    let is_old = |time: u64| time.saturating_add(wait) <= now;
    let placed = files.iter().rposition(|file| is_old(file.placed));
    // If all were placed a moment ago, a mount, a copy of the folder or a `chown -R` did it, which says nothing about any of them. The
    // first file may be that of a key that is long gone from caches.
    placed.or_else(|| files.iter().rposition(|file| is_old(file.written))).unwrap_or(0)
}

/// Reads all keys in a folder, those that were written first first. If one of them cannot be read, none counts: its file may be
/// half written.
pub(super) fn read(folder: &Path, algorithm: Option<Algorithm>) -> Result<Vec<Found>, KeyError> {
    let mut found = Vec::new();
    for path in paths(folder)? {
        let times = Times::of(&path).map_err(|error| failed(&path, &error))?;
        let key = read_key(&path, algorithm)?;
        found.push(Found { key, times, path });
    }
    found.sort_by(|one, other| (one.times.written, &one.path).cmp(&(other.times.written, &other.path)));
    found.dedup_by(|one, other| one.key.key_id() == other.key.key_id());
    Ok(found)
}

/// Reads the key in a file, to sign with this algorithm.
pub(super) fn read_key(path: &Path, algorithm: Option<Algorithm>) -> Result<SigningKey, KeyError> {
    let key = file::read(path).and_then(|bytes| SigningKey::from_content(&bytes));
    let key = key.and_then(|key| match algorithm {
        Some(algorithm) => key.with_algorithm(algorithm),
        None => Ok(key),
    });
    key.map_err(|error| error.in_file(path))
}

/// Returns the files of keys. Hidden and temporary files do not count: tools write them first, and then rename them.
fn paths(folder: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let entry = entry.map_err(|error| failed(folder, &error))?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && path.extension().is_some_and(|extension| extension == "pem") {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(KeyError::unsupported(format!(
                "the folder {} contains more than {MAX_FILES} files of keys; remove those whose keys are gone from the key set",
                folder.display()
            ))
            .at(folder));
        }
    }
    Ok(paths)
}

fn failed(path: &Path, error: &io::Error) -> KeyError {
    KeyError::unreadable(format!("cannot read the key folder or file {}: {error}", path.display())).at(path)
}

impl Loaded {
    /// Begins with the keys of a folder. The last one that every cache can have signs; those before it retire.
    pub(super) fn start_with_all(&mut self, found: Vec<Found>, now: u64) {
        let files: Vec<Times> = found.iter().map(|found| found.times).collect();
        let signing = signs_at_start(&files, self.state.waits.before_signing, now);
        for (place, Found { key, .. }) in found.into_iter().enumerate() {
            let key_id = key.key_id().to_owned();
            self.seen.insert(key_id.clone());
            // A ring in files remembers no distrusted key, so this is never refused.
            let _ = self.state.publish(key.verifying_key(), now);
            self.private.insert(key_id.clone(), Arc::new(key));
            if place <= signing {
                self.state.start_signing(&key_id, now);
            }
        }
        self.saved(now);
    }

    /// Takes the steps that are due with these keys in the folder.
    pub(super) fn take_all(&mut self, found: Vec<Found>, now: u64) -> Result<Vec<Step>, KeyError> {
        let present: HashSet<String> = found.iter().map(|found| found.key.key_id().to_owned()).collect();
        if let Some(signs) = self.state.signing().filter(|entry| !present.contains(entry.key_id())) {
            return Err(KeyError::unreadable(format!(
                "the file of the key `{}` is gone, and the key signs; put the file back, add a new key, and remove the old file \
                 when its key is gone from the key set",
                signs.key_id()
            )));
        }
        // A key that was published and never signed is no longer wanted without its file.
        let mut steps = self.state.remove_unsigned(|key_id| !present.contains(key_id));
        for step in &steps {
            self.seen.remove(&step.key_id);
        }
        for Found { key, .. } in found {
            let key_id = key.key_id().to_owned();
            // The file of a key that has retired may stay. It does not come back.
            if self.seen.insert(key_id.clone()) {
                steps.extend(self.state.publish(key.verifying_key(), now).unwrap_or_default());
                self.private.insert(key_id, Arc::new(key));
            }
        }
        // If several may sign, the last one does.
        while let Ok(signs) = self.state.rotate_now(now) {
            steps.extend(signs);
        }
        steps.extend(self.state.remove_old(now));
        self.saved(now);
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::{Times, read, signs_at_start};
    use crate::clock::{Clock as _, ManualClock, unix_millis};
    use crate::event::{self, Outcome};
    use crate::keys::rotation::{KeyFile, KeyFileBuilder, KeyState};
    use crate::keys::{Algorithm, SigningKey};

    const SECOND: Duration = Duration::from_secs(1);

    fn pem() -> (String, String) {
        let key = SigningKey::generate(Algorithm::ES256).unwrap();
        (key.key_id().to_owned(), key.to_pkcs8_pem().unwrap().expose().to_owned())
    }

    fn put(folder: &Path, name: &str) -> String {
        let (key_id, text) = pem();
        fs::write(folder.join(name), text).unwrap();
        key_id
    }

    /// Waits of 6 minutes for publication, and of an hour and 78 seconds for removal.
    fn builder(folder: &Path, clock: &ManualClock) -> KeyFileBuilder {
        KeyFile::builder(folder).clock(clock.clone()).longest_token(3_600 * SECOND)
    }

    /// The files have the time of the machine, so the clock starts with it.
    fn clock() -> ManualClock {
        ManualClock::at(SystemTime::now())
    }

    #[test]
    fn a_file_that_is_dropped_into_the_folder_is_a_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let file = builder(folder.path(), &clock).open().unwrap();
        let ring = file.ring();
        let first = ring.signing_key().key_id().to_owned();
        assert!(folder.path().join("signing.pem").exists(), "an empty folder gets a key");
        assert_eq!(file.reload().unwrap().keys.len(), 1);
        let second = put(folder.path(), "next.pem");
        fs::write(folder.path().join(".hidden.pem"), "no key").unwrap();
        fs::write(folder.path().join("README"), "no key").unwrap();
        file.reload().unwrap();
        assert_eq!(ring.signing_key().key_id(), first, "caches do not have the new key yet");
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str(), &second]);
        for (passed, signs) in [(359, &first), (1, &second)] {
            clock.advance(passed * SECOND);
            file.reload().unwrap();
            assert_eq!(ring.signing_key().key_id(), signs);
        }
        // For this process, the file of the old key may stay or go: its tokens are valid for the same time.
        for (passed, keys) in [(3_600 + 5 + 13 + 59, 2_usize), (1, 1), (100_000, 1)] {
            clock.advance(passed * SECOND);
            file.reload().unwrap();
            assert_eq!(ring.key_ids().count(), keys);
        }
        fs::remove_file(folder.path().join("signing.pem")).unwrap();
        file.reload().unwrap();
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn a_half_written_file_changes_nothing_and_is_an_event_once() {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let (events, mut received) = event::channel();
        let file = builder(folder.path(), &clock).events(events).open().unwrap();
        let ring = file.ring();
        let first = ring.signing_key().key_id().to_owned();
        let (half, text) = pem();
        let whole = put(folder.path(), "a.pem");
        for length in [0, 1, text.len() / 2, text.len() - 3] {
            fs::write(folder.path().join("b.pem"), &text[..length]).unwrap();
            let error = file.reload().unwrap_err().to_string();
            assert!(error.contains("b.pem"), "{error}");
            assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str()], "not the other file either");
        }
        let refusals = std::iter::from_fn(|| received.try_recv())
            .filter(|event| matches!(&event.outcome, Outcome::KeyRingRefused { reason } if reason.contains("b.pem")));
        assert!((1..=4).contains(&refusals.count()), "once for each reason");
        fs::write(folder.path().join("b.pem"), &text).unwrap();
        file.reload().unwrap();
        let mut key_ids: Vec<_> = ring.key_ids().collect();
        key_ids.sort();
        let mut expected = vec![first, half, whole];
        expected.sort();
        assert_eq!(key_ids, expected);
    }

    #[test]
    fn the_file_of_the_signing_key_cannot_be_removed_and_one_that_never_signed_can() {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let file = builder(folder.path(), &clock).open().unwrap();
        let ring = file.ring();
        let first = ring.signing_key().key_id().to_owned();
        let text = fs::read(folder.path().join("signing.pem")).unwrap();
        let second = put(folder.path(), "next.pem");
        file.reload().unwrap();
        fs::remove_file(folder.path().join("signing.pem")).unwrap();
        assert!(file.reload().unwrap_err().to_string().contains("put the file back"));
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first.as_str(), &second]);
        fs::write(folder.path().join("signing.pem"), text).unwrap();
        fs::remove_file(folder.path().join("next.pem")).unwrap();
        file.reload().unwrap();
        assert_eq!(ring.key_ids().collect::<Vec<_>>(), [first]);
    }

    fn written(folder: &Path, name: &str, at: SystemTime) {
        fs::File::options().write(true).open(folder.join(name)).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn a_restart_signs_with_the_last_key_that_caches_can_have_and_trusts_all() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (put(folder.path(), "1.pem"), put(folder.path(), "2.pem"));
        let clock = clock();
        written(folder.path(), "1.pem", clock.now() - SECOND);
        clock.advance(300 * SECOND);
        let early = builder(folder.path(), &clock).open().unwrap();
        assert_eq!(early.ring().key_ids().collect::<Vec<_>>(), [first.as_str(), &second]);
        clock.advance(60 * SECOND);
        let later = builder(folder.path(), &clock).open().unwrap();
        assert_eq!(later.ring().key_ids().collect::<Vec<_>>(), [second.as_str(), &first]);
        let states: Vec<_> = later.reload().unwrap().keys.iter().map(|key| key.state).collect();
        assert_eq!(states, [KeyState::Retired, KeyState::Signing]);
        // The first process has seen the second key for a minute only.
        early.reload().unwrap();
        assert_eq!(early.ring().signing_key().key_id(), first);
        clock.advance(300 * SECOND);
        early.reload().unwrap();
        assert_eq!(early.ring().signing_key().key_id(), second);
    }

    #[test]
    fn a_key_that_was_never_published_does_not_sign_after_a_restart_however_old_its_file_is() {
        // The first file has been there for long. The second one was generated before, and has just been moved into the folder.
        let moved = |moved_at| [Times { written: 0, placed: 100 }, Times { written: 50, placed: moved_at }];
        for (moved_at, signs) in [(999_641, 0), (999_640, 1), (u64::MAX, 0)] {
            assert_eq!(signs_at_start(&moved(moved_at), 360, 1_000_000), signs, "{moved_at}");
        }
    }

    #[test]
    fn files_that_were_all_placed_a_moment_ago_are_judged_by_the_times_at_which_they_were_written() {
        let files = |written: [u64; 3]| written.map(|written| Times { written, placed: 1_000 });
        for (written, signs) in [([1, 2, 3], 2), ([1, 2, 700], 1), ([700, 800, 900], 0)] {
            assert_eq!(signs_at_start(&files(written), 360, 1_000), signs, "{written:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_keeps_an_earlier_time_is_known_to_have_been_moved_into_the_folder_later() {
        let (elsewhere, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        // The clock of a file system is some milliseconds behind.
        let begin = unix_millis(SystemTime::now() - SECOND);
        let long_ago = SystemTime::UNIX_EPOCH + 1_000_000 * SECOND;
        for name in ["moved.pem", "linked.pem"] {
            put(elsewhere.path(), name);
            written(elsewhere.path(), name, long_ago);
        }
        fs::rename(elsewhere.path().join("moved.pem"), folder.path().join("moved.pem")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("linked.pem"), folder.path().join("linked.pem")).unwrap();
        let found = read(folder.path(), None).unwrap();
        assert_eq!(found.len(), 2);
        for found in found {
            assert!(found.times.written == unix_millis(long_ago) && found.times.placed >= begin, "{:?}", found.times);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_folder_is_followed_until_its_ring_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let clock = clock();
        let file = builder(folder.path(), &clock).open().unwrap();
        let ring = file.ring();
        let watching = file.watch(SECOND);
        drop(file);
        let second = put(folder.path(), "next.pem");
        // Reading files takes real time on another thread, which the simulated clock does not know.
        while ring.key_ids().count() < 2 {
            tokio::time::sleep(SECOND).await;
        }
        clock.advance(360 * SECOND);
        while ring.signing_key().key_id() != second {
            tokio::time::sleep(SECOND).await;
        }
        drop(ring);
        watching.await.unwrap();
    }
}
