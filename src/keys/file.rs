//! The file of a private key: path → bytes, with a warning when another user can read or write it; and its creation.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::KeyError;
use crate::crypto::fill_random;

/// The longest file, in bytes: an RSA key of 8,192 bits is a tenth of it.
const LONGEST: usize = 64 * 1024;

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    read_bounded(path).map_err(|error| unreadable(path, &error)).and_then(|bytes| checked(path, bytes))
}

/// Returns `None` where there is no file.
pub(super) fn read_existing(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    match read_bounded(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
        Ok(bytes) => checked(path, bytes).map(Some),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> KeyError {
    KeyError::new(format!("could not read the key file {}: {error}", path.display()))
}

fn checked(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if bytes.len() > LONGEST {
        return Err(KeyError::new(format!(
            "the file {} is longer than 64 KiB: give a file that holds the key alone",
            path.display()
        )));
    }
    Ok(bytes)
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Before it is opened: opening a named pipe waits for a writer, and could wait for ever.
    refuse_irregular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    refuse_irregular(&metadata)?;
    warn_when_shared(&metadata, path);
    // As large as it can become: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1024));
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refuse_irregular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::other("it is not a regular file; give the path of a file that holds the key"))
}

/// Judges the opened file, which is the one that is read.
#[cfg(unix)]
fn warn_when_shared(metadata: &Metadata, path: &Path) {
    use std::os::unix::fs::MetadataExt as _;

    let mode = metadata.mode() & 0o777;
    if mode & 0o066 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = format_args!("{mode:03o}"),
            "others than its owner can read or write the file of a private key; `chmod 600` it"
        );
    }
    if let Some(user) = own_user().filter(|user| is_owned_by_another(metadata.uid(), *user)) {
        tracing::warn!(
            path = %path.display(),
            owner = metadata.uid(),
            user,
            "the file of a private key belongs to another user, who can read and replace it; `chown` it to the user of this \
             process, or to root"
        );
    }
}

#[cfg(not(unix))]
fn warn_when_shared(_: &Metadata, _: &Path) {}

/// Returns whether the owner of a file is neither the user of this process nor root, who can reach every file.
#[cfg(unix)]
const fn is_owned_by_another(owner: u32, user: u32) -> bool {
    owner != user && owner != 0
}

/// Returns the effective user of this process, where the system tells it in a file.
#[cfg(unix)]
fn own_user() -> Option<u32> {
    user_in_status(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Finds the second of the four users in Linux's text about a process: the real, effective, saved and file system user.
#[cfg(unix)]
fn user_in_status(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Creates the file with this content, for its owner alone, unless there is a file of this name; returns whether it did.
///
/// The content is on the disk before the name is: a link, unlike a rename, never replaces anything, so that of several
/// processes one succeeds, and no reader finds half a key.
pub(super) fn create(path: &Path, content: &[u8]) -> Result<bool, KeyError> {
    let temporary = temporary_beside(path)?;
    let linked = write_private(&temporary, content).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    // Of no further use, whether it has its other name or not.
    let removed = fs::remove_file(&temporary);
    let created = linked.and_then(|created| removed.and_then(|()| sync_folder(path)).map(|()| created));
    created.map_err(|error| {
        KeyError::new(format!(
            "could not create the key file {}: {error}; its folder must exist, be writable, and be on a file system with \
             hard links",
            path.display()
        ))
    })
}

/// Processes in containers have the same number, and may share the folder: only random names differ.
fn temporary_beside(path: &Path) -> Result<PathBuf, KeyError> {
    let mut random = [0; 8];
    fill_random(&mut random).ok_or_else(|| KeyError::new("the system has no randomness to name a file"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let mut suffix = String::from(".");
    // Writing to a text cannot fail.
    let _ = random.iter().try_for_each(|byte| write!(suffix, "{byte:02x}"));
    name.push(suffix + ".tmp");
    Ok(path.with_file_name(name))
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A name is on the disk when its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::{is_owned_by_another, user_in_status};

    #[test]
    fn a_file_is_owned_by_another_unless_its_owner_is_root_or_the_user_of_the_process() {
        for (owner, user, another) in [
            (1_000, 1_000, false),
            (0, 1_000, false),
            (0, 0, false),
            (1_001, 1_000, true),
            (65_534, 1_000, true),
            (1_000, 0, true),
        ] {
            assert_eq!(is_owned_by_another(owner, user), another, "{owner} {user}");
        }
    }

    #[test]
    fn the_user_of_the_process_is_the_effective_one() {
        let status = "Name:\tstandalone\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\n";
        assert_eq!(user_in_status(status), Some(1_001));
        for other in ["", "Name:\tstandalone\n", "Uid:\n", "Uid:\t1000\n", "Uid:\t1000\tx\n"] {
            assert_eq!(user_in_status(other), None, "{other:?}");
        }
    }
}
