//! [`Turns`]: limits how many threads the calls of a store occupy.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::store::StoreError;

/// One kind of file access, of which one call at a time occupies a thread for blocking calls. The others wait without a thread, since
/// they would only wait for each other there, and the polls and the hashing of secrets would find no thread left. A call that is dropped
/// while it waits leaves nothing behind; a call that has begun is completed.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = self.0.clone().acquire_owned().await.map_err(StoreError::new)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(StoreError::new)
    }
}
