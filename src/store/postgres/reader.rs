//! [`Reader`]: the connection that reads the feed.
//!
//! No lookup uses it, so any number of lookups of nonexistent clients never delays the feed. It is not in a pool: a pool tests
//! each connection that it takes back, so each poll would take two round trips, and the next poll might wait for the second.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Error, PgConnection};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::is_connection_usable;
use super::pool::{ANSWER, IDLE, Renewal, set_up};
use crate::deadline::within;
use crate::store::StoreError;
use crate::store::sql::{failed, in_time};

pub(super) struct Reader {
    options: PgConnectOptions,
    renewal: Arc<Renewal>,
    timeout: Duration,
    /// Empty before the first call, during a call, and after a call that failed or was cancelled.
    idle: Mutex<Option<Idle>>,
}

struct Idle {
    connection: PgConnection,
    made: Instant,
    used: Instant,
}

impl Reader {
    pub(super) fn new(options: PgConnectOptions, renewal: Arc<Renewal>, timeout: Duration) -> Self {
        Self { options, renewal, timeout, idle: Mutex::default() }
    }

    /// Runs a statement within the time limit, after connecting if necessary. Concurrent calls wait for each other.
    pub(super) async fn call<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        in_time(self.timeout, async {
            let mut idle = self.idle.lock().await;
            let (mut connection, made) = match self.usable(idle.take()).await {
                Some(usable) => usable,
                None => (self.connect().await.map_err(failed)?, Instant::now()),
            };
            let result = statement(&mut connection).await;
            if result.as_ref().map_or_else(is_connection_usable, |_| true) {
                *idle = Some(Idle { connection, made, used: Instant::now() });
            }
            result.map_err(failed)
        })
        .await
    }

    /// Returns the connection of the last call if it is still usable. A connection that was idle for long is tested.
    async fn usable(&self, idle: Option<Idle>) -> Option<(PgConnection, Instant)> {
        let Idle { mut connection, made, used } = idle?;
        if self.renewal.is_due(made.elapsed()) {
            return None;
        }
        let answers = used.elapsed() < IDLE || matches!(within(ANSWER, connection.ping()).await, Ok(Ok(())));
        answers.then_some((connection, made))
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.options.connect().await?;
        set_up(&mut connection, self.timeout).await?;
        Ok(connection)
    }
}
