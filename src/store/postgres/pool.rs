//! The pool of connections, and what is set on each.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection as _, Error, PgConnection};

use tokio::time::Instant;

use crate::deadline::within;

/// Connections that have been idle for this long are asked whether they are still there, which is a round trip.
const IDLE: Duration = Duration::from_secs(1);

/// How long they have for the answer.
pub(super) const ANSWER: Duration = Duration::from_millis(500);

/// Connections that have been idle for this long are closed, well before the server [ends](END_WHEN_ABANDONED) them.
const UNUSED: Duration = Duration::from_secs(120);

/// Makes a store leave every connection that it has, once it found that another server answers than before: the others may
/// still lead to the former primary.
#[derive(Debug, Default)]
pub(super) struct Renewal(Mutex<Option<Instant>>);

impl Renewal {
    /// No connection that was made before now is used again.
    pub(super) fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_due(&self, age: Duration) -> bool {
        let renewed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        renewed.is_some_and(|renewed| renewed.elapsed() <= age)
    }
}

pub(super) fn pool(connections: u32, timeout: Duration, renewal: Arc<Renewal>) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        // A little less than a call may take, so that the error of the call says what it waited for.
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
                    Err(_) => Err(Error::PoolTimedOut), // which closes it without a farewell
                }
            })
        })
        .after_connect(move |connection, _| Box::pin(set_up(connection, timeout)))
}

/// What the statements here rely on, whatever the role or the database has for a default. One message: a new connection
/// takes several round trips in any case.
async fn set_up(connection: &mut PgConnection, timeout: Duration) -> Result<(), Error> {
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

/// Makes the server end the session of a connection that was lost and of which the network told neither side: such a session
/// counts towards `max_connections`. The connections here say something more often than every five minutes, or are closed.
const END_WHEN_ABANDONED: &str = "SET idle_session_timeout = '5min';
    SET tcp_keepalives_idle = 60; SET tcp_keepalives_interval = 15; SET tcp_keepalives_count = 4;";

pub(super) async fn end_when_abandoned(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::raw_sql(END_WHEN_ABANDONED).execute(connection).await.map(drop)
}
