//! The file of a private key: path → bytes, with a warning when others than its owner can reach it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::KeyError;

/// The longest file, in bytes: an RSA key of 8,192 bits is a tenth of it.
const LONGEST: usize = 64 * 1024;

pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = read_bounded(path)
        .map_err(|error| KeyError::new(format!("could not read the key file {}: {error}", path.display())))?;
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
