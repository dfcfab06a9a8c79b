//! Reads and creates the file of a private key, with a warning if other users can read or write it.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::KeyError;
use crate::crypto::fill_random;

/// The maximum length of the file, in bytes. An RSA key of 8,192 bits takes a tenth of it.
const LONGEST: usize = 64 * 1024;

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    read_bounded(path).map_err(|error| unreadable(path, &error)).and_then(|bytes| checked(path, bytes))
}

/// Returns `None` if the file does not exist.
pub(super) fn read_existing(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, KeyError> {
    match read_bounded(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(path, &error)),
        Ok(bytes) => checked(path, bytes).map(Some),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> KeyError {
    KeyError::unreadable(format!("cannot read the key file {}: {error}", path.display())).at(path)
}

fn checked(path: &Path, bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    if bytes.len() > LONGEST {
        return Err(KeyError::malformed(format!(
            "the file {} is longer than 64 KiB: use a file that contains only the key",
            path.display()
        ))
        .at(path));
    }
    Ok(bytes)
}

fn read_bounded(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Checked before the file is opened: opening a named pipe waits for a writer, possibly forever.
    refuse_irregular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    refuse_irregular(&metadata)?;
    warn_when_shared(&metadata, path);
    // With its maximum capacity: a buffer that grows would leave copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1024));
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn refuse_irregular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::other("not a regular file; use the path of a file that contains the key"))
}

/// Checks the opened file, which is the one that is read.
#[cfg(unix)]
fn warn_when_shared(metadata: &Metadata, path: &Path) {
    use std::os::unix::fs::MetadataExt as _;

    let mode = metadata.mode() & 0o777;
    let user = own_user();
    if is_shared(mode, metadata.uid(), user) {
        tracing::warn!(
            path = %path.display(),
            mode = format_args!("{mode:03o}"),
            "other users can read or write the file of a private key; run `chmod 600` on it"
        );
    }
    if let Some(user) = user.filter(|user| is_owned_by_another(metadata.uid(), *user)) {
        tracing::warn!(
            path = %path.display(),
            owner = metadata.uid(),
            user,
            "the file of a private key belongs to another user, who can read and replace it; `chown` it \
             to the user of this process, or to root"
        );
    }
}

#[cfg(not(unix))]
fn warn_when_shared(_: &Metadata, _: &Path) {}

/// Returns whether others can read or write a file with this mode. If the file belongs to root and the process has another user,
/// it can read the file only by its group, so that is not a fault: Kubernetes mounts secrets so (`fsGroup`).
#[cfg(unix)]
const fn is_shared(mode: u32, owner: u32, user: Option<u32>) -> bool {
    let by_group = owner == 0 && matches!(user, Some(1..));
    mode & (if by_group { 0o026 } else { 0o066 }) != 0
}

/// Returns whether the owner of a file is neither the user of this process nor root, which can access every file anyway.
#[cfg(unix)]
const fn is_owned_by_another(owner: u32, user: u32) -> bool {
    owner != user && owner != 0
}

/// Returns the effective user of this process, if the system provides it in a file.
#[cfg(unix)]
fn own_user() -> Option<u32> {
    user_in_status(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Returns the second of the four user ids in `/proc/self/status`: real, effective, saved, and file system user.
#[cfg(unix)]
fn user_in_status(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    users.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Creates the file with this content, readable only by its owner, unless it exists. Returns whether it was created.
///
/// The content is synced to disk before the name exists. A link never replaces a file, unlike a rename, so one of several
/// processes succeeds, and no reader finds a partial key.
pub(super) fn create(path: &Path, content: &[u8]) -> Result<bool, KeyError> {
    let temporary = temporary_beside(path)?;
    let linked = write_private(&temporary, content).and_then(|()| match fs::hard_link(&temporary, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    });
    // No longer needed, whether the link succeeded or not.
    let removed = fs::remove_file(&temporary);
    let created = linked.and_then(|created| removed.and_then(|()| sync_folder(path)).map(|()| created));
    created.map_err(|error| {
        KeyError::unreadable(format!(
            "cannot create the key file {}: {error}; its folder must exist, be writable, and be on a file system with \
             hard links",
            path.display()
        ))
        .at(path)
    })
}

/// Processes in different containers can have equal ids and share the folder, so only random names are unique.
fn temporary_beside(path: &Path) -> Result<PathBuf, KeyError> {
    let mut random = [0; 8];
    fill_random(&mut random).ok_or_else(|| KeyError::backend("the system has no random bytes for a file name"))?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    let mut suffix = String::from(".");
    // Writing to a `String` cannot fail.
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

/// Syncs the folder: a new name is on disk only after that.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::{is_owned_by_another, is_shared, user_in_status};

    #[test]
    fn the_group_of_a_file_of_root_may_read_it_for_a_process_of_another_user() {
        for (mode, owner, user, shared) in [
            (0o440, 0, Some(1_000), false),
            (0o640, 0, Some(1_000), false),
            (0o660, 0, Some(1_000), true),
            (0o444, 0, Some(1_000), true),
            (0o440, 0, Some(0), true),
            (0o440, 0, None, true),
            (0o440, 1_000, Some(1_000), true),
            (0o400, 1_000, Some(1_000), false),
        ] {
            assert_eq!(is_shared(mode, owner, user), shared, "{mode:o} {owner} {user:?}");
        }
    }

    #[test]
    fn a_file_has_a_foreign_owner_unless_it_is_root_or_the_user_of_the_process() {
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
