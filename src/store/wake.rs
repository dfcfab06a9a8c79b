//! [`Wake`]: wakes the readers of a feed when another process may have written to it.

use std::sync::{Arc, OnceLock};

use tokio::sync::Notify;

use super::silence::Silence;
use crate::sync::AbortOnDrop;

/// Wakes the readers while a connection for notifications works. It may fail at any time, since the feed is polled as well.
#[derive(Default)]
pub(super) struct Wake {
    signal: Arc<Signal>,
    task: OnceLock<AbortOnDrop>,
}

/// What the readers share with the task that listens.
#[derive(Default)]
pub(super) struct Signal {
    woken: Notify,
    pub(super) silence: Silence,
}

impl Signal {
    /// Wakes the readers: a notification arrived, or some may have been missed.
    pub(super) fn wake(&self) {
        self.silence.end();
        self.woken.notify_waiters();
    }
}

impl Wake {
    /// Tests the connection if it was silent: the feed has changes, of which it should have notified, or cannot be read.
    pub(super) fn suspect(&self) {
        self.signal.silence.suspect();
    }

    /// Waits for the next notification. The first call starts to listen: a store that is only used for lookups does not.
    pub(super) async fn changed<F>(&self, listen: impl FnOnce(Arc<Signal>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let woken = self.signal.woken.notified();
        self.task.get_or_init(|| AbortOnDrop(tokio::spawn(listen(self.signal.clone())).abort_handle()));
        woken.await;
    }
}
