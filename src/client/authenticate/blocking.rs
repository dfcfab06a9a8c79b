//! Work that may block, off the async threads.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::CredentialError;

/// Runs a function on a thread that may block.
pub(super) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CredentialError> + Send + 'static,
) -> Result<T, CredentialError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| {
        Err(CredentialError::new("reading the credential was interrupted: it panicked, or the runtime ended"))
    })
}

/// Reads a text file of at most `max` bytes. The error names the path and never shows the content.
pub(super) async fn read_file(path: PathBuf, max: usize) -> Result<Zeroizing<String>, CredentialError> {
    run(move || {
        let failed =
            |what: &dyn std::fmt::Display| CredentialError::new(format!("the file {}: {what}", path.display()));
        let file = File::open(&path).map_err(|error| failed(&error))?;
        let mut text = Zeroizing::new(String::with_capacity(max + 1));
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_string(&mut text).map_err(|error| failed(&error))?;
        if text.len() > max { Err(failed(&format_args!("it is longer than {max} bytes"))) } else { Ok(text) }
    })
    .await
}
