//! Writing a file at once or not at all, and one at a time.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Puts `content` in the place of a file: a new one beside it, on the disk before it takes the name. Owner and
/// permissions are those of the old one; without an old one, nobody else can read it.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    // A link stays one: what it points to is replaced.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let temporary = beside(&path, &format!(".{}.tmp", std::process::id()));
    let written = write(&temporary, content, fs::metadata(&path).ok().as_ref())
        .and_then(|()| fs::rename(&temporary, &path))
        .and_then(|()| sync_folder(&path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write(path: &Path, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    // What is left of a process that died with the same number.
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

/// When root writes the file of a service, it stays the service's.
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

/// Appends lines, on the disk when it returns. A last line that somebody did not finish is ended first.
pub(super) fn append(path: &Path, lines: &str) -> io::Result<()> {
    let new = !path.exists();
    let mut file = private().read(true).append(true).create(true).open(path)?;
    let unfinished = if ends_unfinished(&mut file)? { "\n" } else { "" };
    file.write_all(format!("{unfinished}{lines}").as_bytes())?;
    file.sync_all()?;
    if new { sync_folder(path) } else { Ok(()) }
}

fn ends_unfinished(file: &mut File) -> io::Result<bool> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// A name is on the disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// `NAME` and more.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Keeps other processes that would write as well out, until it is dropped.
pub(super) struct Lock(PathBuf);

impl Lock {
    /// Nobody holds one for longer than a write takes: an older one is of a process that died.
    const STALE: Duration = Duration::from_secs(10);
    const PATIENCE: Duration = Duration::from_secs(2);

    pub(super) fn take(path: &Path) -> io::Result<Self> {
        let path = beside(&fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), ".lock");
        let deadline = Instant::now() + Self::PATIENCE;
        loop {
            match private().create_new(true).open(&path) {
                Ok(_) => return Ok(Self(path)),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists || Instant::now() > deadline => {
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
                Err(_) if is_stale(&path) => {
                    let _ = fs::remove_file(&path);
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

fn is_stale(lock: &Path) -> bool {
    let modified = fs::metadata(lock).and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|modified| modified.elapsed().ok()).is_some_and(|age| age > Lock::STALE)
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
