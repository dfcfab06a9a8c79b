//! [`Target`]: where an audit log is written. A file that was renamed or removed is opened again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Where the lines go.
pub(super) enum Target {
    File(PathBuf, File),
    Writer(Box<dyn Write + Send>),
}

impl Target {
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(path, file) => {
                if !is_same(path, file) {
                    *file = open(path)?;
                }
                file.write_all(bytes)
            }
            Self::Writer(writer) => writer.write_all(bytes).and_then(|()| writer.flush()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, _) => path.display().fmt(f),
            Self::Writer(_) => f.write_str("the writer"),
        }
    }
}

pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Returns whether the file still has its name.
#[cfg(unix)]
fn is_same(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(opened)) => id(named) == id(opened),
        _ => false,
    }
}

/// Elsewhere, an open file cannot be renamed.
#[cfg(not(unix))]
fn is_same(_: &Path, _: &File) -> bool {
    true
}
