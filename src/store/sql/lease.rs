//! [`Lease`]: a connection that goes back to its pool only when it is known to be well.
//!
//! A server or a network that falls silent leaves a pool with connections on which every wait is long, and the pool
//! itself waits without an end when it takes one back; here, each wait has one. And a connection on which a transaction
//! broke off is not always fit for another one.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Database, Error, Pool};

use crate::deadline::within;

/// Unless it [ended](Self::end), its connection is closed when it is dropped: the call was given up in the middle.
#[derive(Debug)]
pub(in crate::store) struct Lease<DB: Database>(Option<PoolConnection<DB>>);

impl<DB: Database> Lease<DB> {
    pub(in crate::store) async fn of(pool: &Pool<DB>) -> Result<Self, Error> {
        pool.acquire().await.map(|connection| Self(Some(connection)))
    }

    pub(in crate::store) fn connection(&mut self) -> Result<&mut DB::Connection, Error> {
        self.0.as_deref_mut().ok_or(Error::PoolClosed)
    }

    /// Gives the connection back, which takes a round trip that nobody has to wait for.
    pub(in crate::store) fn end(mut self, timeout: Duration) {
        if let Some(mut connection) = self.0.take() {
            tokio::spawn(async move { within(timeout, connection.return_to_pool()).await });
        }
    }
}

impl<DB: Database> Drop for Lease<DB> {
    fn drop(&mut self) {
        // Its place in the pool is free at once. What it was doing is taken back by SQLite as it closes, and ended by
        // Postgres' own timeout.
        drop(self.0.take().map(PoolConnection::detach));
    }
}
