//! The pool of connections, and what is set on each.

use std::time::Duration;

use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection as _, Error, PgConnection};

use crate::deadline::within;

/// Connections that have been idle for this long are asked whether they are still there, which is a round trip.
const IDLE: Duration = Duration::from_secs(1);

/// How long they have for the answer.
const ANSWER: Duration = Duration::from_millis(500);

pub(super) fn pool(connections: u32, timeout: Duration) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for < IDLE {
                    return Ok(true);
                }
                match within(ANSWER, connection.ping()).await {
                    Ok(answer) => answer.map(|()| true),
                    Err(_) => Err(Error::PoolTimedOut), // which closes it without a farewell
                }
            })
        })
        .after_connect(move |connection, _| Box::pin(set_up(connection, timeout)))
}

/// What the statements here rely on, whatever the role or the database has for a default.
async fn set_up(connection: &mut PgConnection, timeout: Duration) -> Result<(), Error> {
    let settings = "SELECT set_config('statement_timeout', $1, false),
        set_config('default_transaction_isolation', 'read committed', false),
        set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
            ELSE current_setting('synchronous_commit') END, false)";
    sqlx::query(settings).bind(timeout.as_millis().to_string()).execute(connection).await.map(drop)
}
