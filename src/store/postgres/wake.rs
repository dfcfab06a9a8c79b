//! [`Wake`]: `LISTEN`, for as long as it works.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Error, Executor as _};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::pool::{ANSWER, end_when_abandoned};
use crate::deadline::within;

/// Tells when another replica may have written something. It may fail at any time: a poll goes on beside it.
#[derive(Clone)]
pub(super) struct Wake(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    woken: Arc<Notify>,
    left: Arc<Notify>,
    /// Begun by the first who asks: a store that only looks clients up does not listen.
    listener: OnceLock<JoinHandle<()>>,
}

impl Wake {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self(Arc::new(Inner { options, woken: Arc::default(), left: Arc::default(), listener: OnceLock::new() }))
    }

    /// Listens on a new connection from now on: this one may lead to a server that no one else uses any more.
    pub(super) fn leave(&self) {
        self.0.left.notify_waiters();
    }

    pub(super) async fn changed(&self) {
        let Inner { options, woken, left, listener } = &*self.0;
        listener.get_or_init(|| tokio::spawn(listen(options.clone(), woken.clone(), left.clone())));
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

/// A connection that has been silent for this long is asked whether it is still there: a network that drops it tells
/// neither side, and then no notification would ever come.
const SILENCE: Duration = Duration::from_secs(60);

/// What making a connection may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// Listens for ever, on a connection of its own.
async fn listen(options: PgConnectOptions, woken: Arc<Notify>, left: Arc<Notify>) {
    let mut backoff = BACKOFF.0;
    loop {
        // A pool for each connection: one that was lost without a word may keep its place in the pool for long.
        if let Ok(Ok(mut listener)) = within(CONNECTING, connect(options.clone())).await {
            backoff = BACKOFF.0;
            // Something may have happened while nobody listened.
            woken.notify_waiters();
            let (mut hearing, mut leaving) = (pin!(hears_on(&mut listener, &woken)), pin!(left.notified()));
            poll_fn(|cx| match leaving.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => hearing.as_mut().poll(cx),
            })
            .await;
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

async fn connect(options: PgConnectOptions) -> Result<PgListener, Error> {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECTING);
    let pool = pool.after_connect(|connection, _| Box::pin(end_when_abandoned(connection)));
    let mut listener = PgListener::connect_with(&pool.connect_lazy_with(options)).await?;
    listener.eager_reconnect(false);
    listener.listen("tcc_feed").await?;
    Ok(listener)
}

async fn hears_on(listener: &mut PgListener, woken: &Notify) {
    while hears(listener, woken).await {}
}

/// Passes on the next notification, or finds that the connection is silent and well. Returns whether it is well.
async fn hears(listener: &mut PgListener, woken: &Notify) -> bool {
    match within(SILENCE, listener.try_recv()).await {
        Ok(Ok(Some(_))) => {
            woken.notify_waiters();
            true
        }
        Ok(_) => false,
        // Those that come with the answer are kept for the next time.
        Err(_) => matches!(within(ANSWER, (&mut *listener).execute("SELECT 1")).await, Ok(Ok(_))),
    }
}
