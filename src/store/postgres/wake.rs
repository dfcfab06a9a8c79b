//! Notifications by `LISTEN`, as long as the connection works.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use sqlx::{Error, Executor as _};

use super::pool::{ANSWER, Renewal, end_when_abandoned};
use crate::deadline::within;
use crate::store::wake::Signal;

/// How long to wait before listening again: the first time, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));

/// The time limit of making a connection.
const CONNECTING: Duration = Duration::from_secs(10);

/// Listens forever on its own connection.
pub(super) async fn listen(options: PgConnectOptions, renewal: Arc<Renewal>, signal: Arc<Signal>) {
    let mut backoff = BACKOFF.0;
    loop {
        // One pool per connection: a connection that broke unnoticed may keep its place in a pool for long.
        if let Ok(Ok(mut listener)) = within(CONNECTING, connect(options.clone())).await {
            backoff = BACKOFF.0;
            // Changes may have been missed while nothing was listening.
            signal.wake();
            let mut hearing = pin!(listen_until_broken(&mut listener, &signal));
            // Then the connection may lead to a server that is no longer in use.
            let mut leaving = pin!(renewal.renewed());
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

async fn listen_until_broken(listener: &mut PgListener, signal: &Signal) {
    loop {
        match signal.silence.next(listener.try_recv()).await {
            Some(Ok(Some(_))) => signal.wake(),
            Some(_) => return,
            // Tests a silent connection. Notifications that arrive with the answer are kept for the next call.
            None => match within(ANSWER, (&mut *listener).execute("SELECT 1")).await {
                Ok(Ok(_)) => signal.silence.end(),
                _ => return,
            },
        }
    }
}
