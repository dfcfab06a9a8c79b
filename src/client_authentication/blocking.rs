//! Work that may block, off the async threads.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::CredentialError;

/// How many threads one set of credentials can block, for instance on a file system that does not answer.
const MAX_BLOCKED: usize = 4;

/// Limits the threads that the credentials block. A clone shares the limit.
#[derive(Clone)]
pub(super) struct Threads(Arc<Semaphore>);

impl Default for Threads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BLOCKED)))
    }
}

/// Runs a function on a thread that may block, once there is one.
pub(super) async fn run<T: Send + 'static>(
    threads: &Threads,
    work: impl FnOnce() -> Result<T, CredentialError> + Send + 'static,
) -> Result<T, CredentialError> {
    let interrupted =
        |_| CredentialError::new("reading the credential was interrupted: it panicked, or the runtime ended");
    let permit = Arc::clone(&threads.0).acquire_owned().await;
    let permit = permit.map_err(|_| CredentialError::new("no thread may read the credential"))?;
    let done = tokio::task::spawn_blocking(move || {
        // Kept until the end, even if the caller has given up.
        let _permit = permit;
        work()
    });
    done.await.map_err(interrupted)?
}

/// Reads a text file of at most `max` bytes. The error names the path and never shows the content.
pub(super) async fn read_file(
    threads: &Threads,
    path: PathBuf,
    max: usize,
) -> Result<Zeroizing<String>, CredentialError> {
    run(threads, move || {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::{MAX_BLOCKED, Threads, run};

    #[expect(clippy::await_holding_lock, reason = "the lock is what the work waits for, and nothing else takes it")]
    #[tokio::test]
    async fn work_that_never_ends_blocks_a_few_threads() {
        let (threads, started, gate) = (Threads::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(())));
        let closed = gate.lock().unwrap();
        for _ in 0..3 * MAX_BLOCKED {
            let (started, gate) = (started.clone(), gate.clone());
            let hanging = run(&threads, move || {
                started.fetch_add(1, Ordering::Relaxed);
                drop(gate.lock());
                Ok(())
            });
            assert!(tokio::time::timeout(Duration::from_millis(20), hanging).await.is_err());
        }
        assert_eq!(started.load(Ordering::Relaxed), MAX_BLOCKED);
        drop(closed);
        run(&threads, || Ok(())).await.unwrap();
    }
}
