//! The pool of connections, and the settings of each connection.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, Error, PgConnection};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::deadline::within;
use crate::sync::lock;

/// A connection that has been idle for this long is tested before use, which takes a round trip.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// How long a tested connection has to answer.
pub(super) const ANSWER: Duration = Duration::from_millis(500);

/// A connection that has been idle for this long is closed, well before the server [closes](END_WHEN_ABANDONED) it.
const UNUSED: Duration = Duration::from_secs(120);

/// Replaces all connections of a store after it found that another server answers than before: the other connections may still
/// lead to the former primary.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    at: Mutex<Option<Instant>>,
    notify: Notify,
}

impl Renewal {
    /// Marks all connections made before now as unusable.
    pub(super) fn renew(&self) {
        *lock(&self.at) = Some(Instant::now());
        self.notify.notify_waiters();
    }

    /// Waits for the next call of [`renew`](Self::renew).
    pub(super) fn renewed(&self) -> Notified<'_> {
        self.notify.notified()
    }

    pub(super) fn is_due(&self, age: Duration) -> bool {
        let renewed = *lock(&self.at);
        renewed.is_some_and(|renewed| renewed.elapsed() <= age)
    }
}

pub(super) fn pool(connections: u32, timeout: Duration, renewal: Arc<Renewal>) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        // A little less than the limit of a call, so that the call returns the error of the pool.
        .acquire_timeout(timeout.mul_f64(0.9))
        .idle_timeout(UNUSED)
        .test_before_acquire(false)
        .before_acquire(move |connection, meta| {
            let is_due = renewal.is_due(meta.age);
            Box::pin(async move {
                if is_due || meta.idle_for < IDLE {
                    return Ok(!is_due);
                }
                match within(ANSWER, connection.ping()).await {
                    Ok(answer) => answer.map(|()| true),
                    Err(_) => Err(Error::PoolTimedOut), // closes the connection at once
                }
            })
        })
        .after_connect(move |connection, _| Box::pin(set_up(connection, timeout)))
}

/// Sets what the statements rely on, whatever the defaults of the role or the database are. It is one message, since a new
/// connection takes several round trips in any case.
pub(super) async fn set_up(connection: &mut PgConnection, timeout: Duration) -> Result<(), Error> {
    let timeout = timeout.as_millis();
    let settings = format!(
        "SET statement_timeout = {timeout};
        SET idle_in_transaction_session_timeout = {timeout};
        SET default_transaction_isolation = 'read committed';
        SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
        {END_WHEN_ABANDONED}"
    );
    sqlx::raw_sql(AssertSqlSafe(settings)).execute(connection).await.map(drop)
}

/// Makes the server close the session of a connection that broke unnoticed by both sides, since it counts towards
/// `max_connections`. The connections of this store are used or closed within five minutes.
const END_WHEN_ABANDONED: &str = "SET idle_session_timeout = '5min';
    SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 15; SET tcp_keepalives_count = 4;";

pub(super) async fn end_when_abandoned(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::raw_sql(END_WHEN_ABANDONED).execute(connection).await.map(drop)
}
