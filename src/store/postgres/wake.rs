//! [`Wake`]: notifications by `LISTEN`, as long as the connection works.

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
use crate::store::silence::Silence;

/// Notifies of possible writes of other replicas. It may fail at any time, since the feed is polled as well.
#[derive(Clone)]
pub(super) struct Wake(Arc<Inner>);

struct Inner {
    options: PgConnectOptions,
    woken: Arc<Notify>,
    left: Arc<Notify>,
    silence: Arc<Silence>,
    /// Started by the first caller that waits: a store that is only used for lookups does not listen.
    listener: OnceLock<JoinHandle<()>>,
}

impl Wake {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        let (woken, left, silence, listener) = (Arc::default(), Arc::default(), Arc::default(), OnceLock::new());
        Self(Arc::new(Inner { options, woken, left, silence, listener }))
    }

    /// Listens on a new connection from now on: the current one may lead to a server that is no longer in use.
    pub(super) fn reconnect(&self) {
        self.0.left.notify_waiters();
    }

    /// Tests the connection if it was silent: the feed has changes, of which it should have notified, or cannot be read.
    pub(super) fn suspect(&self) {
        self.0.silence.suspect();
    }

    pub(super) async fn changed(&self) {
        let Inner { options, woken, left, silence, listener } = &*self.0;
        listener.get_or_init(|| tokio::spawn(listen(options.clone(), woken.clone(), left.clone(), silence.clone())));
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

/// How long to wait before listening again: the first time, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The time limit of making a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// Listens forever on its own connection.
async fn listen(options: PgConnectOptions, woken: Arc<Notify>, left: Arc<Notify>, silence: Arc<Silence>) {
    let mut backoff = BACKOFF.0;
    loop {
        // One pool per connection: a connection that broke unnoticed may keep its place in a pool for long.
        if let Ok(Ok(mut listener)) = within(CONNECTING, connect(options.clone())).await {
            backoff = BACKOFF.0;
            // Changes may have been missed while nothing was listening.
            woken.notify_waiters();
            silence.end();
            let mut hearing = pin!(listen_until_broken(&mut listener, &woken, &silence));
            let mut leaving = pin!(left.notified());
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

async fn listen_until_broken(listener: &mut PgListener, woken: &Notify, silence: &Silence) {
    while next_notification(listener, woken, silence).await {
        silence.end();
    }
}

/// Passes on the next notification, or tests a silent connection. Returns whether the connection works.
async fn next_notification(listener: &mut PgListener, woken: &Notify, silence: &Silence) -> bool {
    match silence.next(listener.try_recv()).await {
        Some(Ok(Some(_))) => {
            woken.notify_waiters();
            true
        }
        Some(_) => false,
        // Notifications that arrive with the answer are kept for the next call.
        None => matches!(within(ANSWER, (&mut *listener).execute("SELECT 1")).await, Ok(Ok(_))),
    }
}
