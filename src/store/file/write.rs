//! Atomic replacement of a file, appending, and a lock for writers.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Replaces the content of a file: writes a new file in the same folder, syncs it, and renames it. The new file has the owner
/// and the permissions of the old one; without an old file, only its owner can read it. `check` is called last, and can still
/// prevent the replacement.
pub(super) fn replace(path: &Path, content: &[u8], check: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // A symbolic link is kept: its target is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = sibling(&path, &format!(".{}.tmp", std::process::id()));
    let written = write(&temporary, content, fs::metadata(&path).ok().as_ref())
        .and_then(|()| check())
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| sync_folder(&path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write(path: &Path, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    // Left by a process with the same id that crashed.
    let _ = fs::remove_file(path);
    let mut file = private().create_new(true).open(path)?;
    if let Some(old) = old {
        keep_owner(&file, old)?;
        file.set_permissions(old.permissions())?;
    }
    file.write_all(content)?;
    file.sync_all()
}

fn private() -> fs::OpenOptions {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true);
    options
}

/// If root writes the file of a service, the service stays its owner.
fn keep_owner(file: &File, old: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt as _, fchown};
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    #[cfg(not(unix))]
    let _ = (file, old);
    Ok(())
}

/// Appends lines, and syncs the file. The caller holds the [`Lock`], so no one else writes. A last line without a line break
/// is removed first, since it was never acknowledged, unless it is complete.
pub(super) fn append(path: &Path, lines: &str, is_whole: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let new = !path.exists();
    let mut file = private().read(true).append(true).create(true).open(path)?;
    let end = end_of_last_line(&mut file)?;
    let mut unended = Vec::new();
    file.seek(SeekFrom::Start(end))?;
    file.read_to_end(&mut unended)?;
    if is_whole(&unended) {
        file.write_all(b"\n")?;
    } else if !unended.is_empty() {
        file.set_len(end)?;
    }
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    if new { sync_folder(path) } else { Ok(()) }
}

/// Searches from the end: an unfinished line is short, while the file may be long.
fn end_of_last_line(file: &mut File) -> io::Result<u64> {
    const PIECE: u64 = 4096;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        file.take(end - start).read_to_end(&mut piece)?;
        if let Some(place) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Syncs the folder, which makes a new name durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder(path))?.sync_all()?;
    }
    Ok(())
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the path with `suffix` appended to the file name.
pub(super) fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Excludes other writing processes until it is dropped or its process ends: the operating system's lock on a file in the same
/// folder. The lock file is never removed, and a lock is never taken from a process that seems to be dead: either could let
/// two writers in.
pub(super) struct Lock(#[allow(dead_code)] File); // locked while it is open

impl Lock {
    /// Waits for up to `timeout` while another process writes.
    pub(super) fn take(path: &Path, timeout: Duration) -> io::Result<Self> {
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let lock = sibling(&path, ".lock");
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", lock.display()));
        let file = open_lock(&lock, &path).map_err(named)?;
        let deadline = Instant::now() + timeout;
        loop {
            match fs4::FileExt::try_lock(&file) {
                Ok(()) => return Ok(Self(file)),
                Err(fs4::TryLockError::Error(error)) => return Err(named(error)),
                Err(fs4::TryLockError::WouldBlock) if Instant::now() > deadline => {
                    return Err(named(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "another process holds the write lock; try again",
                    )));
                }
                Err(fs4::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// If root is the first to write, the service must still be able to lock the file later.
fn open_lock(lock: &Path, path: &Path) -> io::Result<File> {
    match private().create_new(true).open(lock) {
        Ok(file) => {
            if let Ok(owner) = fs::metadata(path).or_else(|_| fs::metadata(folder(path))) {
                let _ = keep_owner(&file, &owner);
            }
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => private().open(lock),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, SystemTime};

    use super::{Lock, replace, sibling};

    #[test]
    fn a_file_is_replaced_by_another_one_and_not_written_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("clients.toml"), folder.path().join("old"));
        let replace = |content| replace(&path, content, || Ok(()));
        replace(b"before").unwrap();
        // The second name of the old file shows the content that a crash in the middle of the write would leave.
        std::fs::hard_link(&path, &old).unwrap();
        replace(b"after").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "before");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn a_failed_check_keeps_the_file_and_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.toml");
        std::fs::write(&path, "before").unwrap();
        let error = replace(&path, b"after", || Err(std::io::Error::other("no"))).unwrap_err();
        assert_eq!((error.to_string().as_str(), std::fs::read_to_string(&path).unwrap().as_str()), ("no", "before"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn only_one_process_writes_even_if_a_dead_process_left_its_lock_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients.toml");
        let left = std::fs::File::create(sibling(&path, ".lock")).unwrap();
        left.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        drop(left);
        let (inside, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            for _ in 0..20 {
                let _lock = Lock::take(&path, Duration::from_secs(60)).unwrap();
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
                done.fetch_add(1, Ordering::SeqCst);
            }
        };
        thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(work))));
        assert_eq!((most.into_inner(), done.into_inner()), (1, 160));
    }
}
