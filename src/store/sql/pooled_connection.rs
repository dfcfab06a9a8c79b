//! [`PooledConnection`]: a connection that returns to its pool only if it is known to be usable.
//!
//! After a server or network failure, a pool may hold connections on which every wait is long, and the pool itself waits
//! without a limit when it takes one back. Here each wait has a limit. Also, a connection whose transaction was interrupted
//! cannot always start another one.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Error, Pool};

use crate::deadline::within;

/// A leased connection. If it is dropped before [`end`](Self::end), the call was cancelled, and the connection is closed.
#[derive(Debug)]
pub(crate) struct PooledConnection<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> PooledConnection<DB> {
    pub(crate) async fn of(pool: &Pool<DB>) -> Result<Self, Error> {
        pool.acquire().await.map(|connection| Self(Some(connection)))
    }

    pub(crate) fn connection(&mut self) -> Result<&mut DB::Connection, Error> {
        self.0.as_deref_mut().ok_or(Error::PoolClosed)
    }

    /// Returns the connection to the pool in the background, since that takes a round trip.
    pub(crate) fn end(mut self, timeout: Duration) {
        if let Some(mut connection) = self.0.take() {
            tokio::spawn(async move { within(timeout, connection.return_to_pool()).await });
        }
    }
}

impl<DB: Database> Drop for PooledConnection<DB> {
    fn drop(&mut self) {
        // Its place in the pool is free at once. SQLite rolls an unfinished transaction back as it closes; Postgres ends it
        // after its timeout.
        drop(self.0.take().map(PoolConnection::detach));
    }
}
