//! The file of a private key: path → bytes, with a warning when others than its owner can reach it; and its creation.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KeyError, backend};

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
    let file = File::open(path)?;
    warn_when_shared(&file, path)?;
    // As large as it can become: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1024));
    file.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Asks the opened file, so that what is judged is what is read.
#[cfg(unix)]
fn warn_when_shared(file: &File, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o066 != 0 {
        tracing::warn!(
            path = %path.display(),
            mode = format_args!("{mode:03o}"),
            "others than its owner can read or write the file of a private key; `chmod 600` it"
        );
    }
    Ok(())
}

#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
fn warn_when_shared(_: &File, _: &Path) -> io::Result<()> {
    Ok(())
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
    backend::fill_random(&mut random).ok_or_else(|| KeyError::new("the system has no randomness to name a file"))?;
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
