//! [`Wake`]: `LISTEN`, for as long as it works.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Tells when another replica may have written something. It may fail at any time: a poll goes on beside it.
#[derive(Clone)]
pub(super) struct Wake(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    woken: Arc<Notify>,
    /// Begun by the first who asks: a store that only looks clients up does not listen.
    listener: OnceLock<JoinHandle<()>>,
}

impl Wake {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self(Arc::new(Inner { options, woken: Arc::default(), listener: OnceLock::new() }))
    }

    pub(super) async fn changed(&self) {
        let Inner { options, woken, listener } = &*self.0;
        listener.get_or_init(|| tokio::spawn(listen(options.clone(), woken.clone())));
        woken.notified().await;
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(listener) = self.listener.get() {
            listener.abort();
        }
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake(…)")
    }
}

/// How long to wait before listening again; at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// Listens for ever, on a connection of its own.
async fn listen(options: PgConnectOptions, woken: Arc<Notify>) {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut backoff = BACKOFF.0;
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen("tcc_feed").await.is_ok()
        {
            backoff = BACKOFF.0;
            listener.eager_reconnect(false);
            // Something may have happened while nobody listened.
            woken.notify_waiters();
            while let Ok(Some(_)) = listener.try_recv().await {
                woken.notify_waiters();
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}
