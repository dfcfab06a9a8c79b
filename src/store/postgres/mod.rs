//! [`PostgresStore`]: state in Postgres, for any number of replicas.

mod builder;
mod clients;
mod feed;
mod keys;
mod pool;
mod reader;
mod replays;
mod revocations;
mod schema;
mod turns;
mod wake;
mod workloads;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::PgConnection;
use sqlx::postgres::PgPool;

pub use self::builder::{PostgresSettings, PostgresStoreBuilder};
use self::feed::Place;
use self::pool::Renewal;
use self::reader::Reader;
use self::turns::Turns;
use super::StoreError;
use super::builder::CALL_TIMEOUT;
use super::clock_check::ClockCheck;
use super::database::database;
use super::last_write::LastWrites;
use super::sql::{self, CREATED_AT_ONCE, PooledConnection, failed, in_time};
use super::wake::Wake;
use crate::clock::{Clock, later};

/// Stores clients, revocations and used credentials in Postgres, version 15 or later (feature `postgres`), for any number of
/// replicas. Clones share the connections.
///
/// 1. The tables, `tcc_…`, are created in the first schema of the search path when the store connects. Any number of replicas
///    may start at the same time. Once the tables exist, a role that may not create tables is sufficient. After an update that adds
///    a table or a column, such a role gets an error with the statements that the owner of the tables must run once.
/// 2. Each call is one statement, and `find` one indexed lookup. Only a change of a client that [depends on the revisions of
///    clients](crate::store::ClientChange::provided) is a transaction of several. Writes wait for the disk even if `synchronous_commit` is off.
/// 3. The feed is read by the visibility of transactions, not by a sequence, whose numbers become visible out of order; see
///    [`changes`](crate::store::ChangeFeed::changes). `NOTIFY` only shortens the wait for the next poll.
/// 4. A call that takes too long fails here and is cancelled on the server (`statement_timeout`). A connection that does not
///    answer is replaced. After a restart of the server, no process needs to be restarted.
///
/// # Caveats
///
/// The URL determines the use of TLS. As in libpq, the default `sslmode=prefer` does not verify the server: across a network
/// use `sslmode=verify-full`.
///
/// With a pooler in transaction mode, set `statement-cache-capacity=0` in the URL and `statement_timeout` on the role;
/// `LISTEN` does not work. Such a pooler loses the settings of a connection, or applies them to other clients: give this store
/// its own pool, and so its own role.
///
/// A failover to an asynchronous standby loses the last writes, and a restore from a backup loses all later writes:
/// revocations, changes of clients, and used credentials, which can then be used again. If that is not acceptable, use a
/// synchronous standby (`synchronous_standby_names`), and make sure that the former primary is not reachable after a failover:
/// a process that is still connected to it does not know the revocations of the new primary.
///
/// Each process that follows the store [notices](crate::event::Outcome::StoreLostData) the loss of the last entry that it has
/// read, and of each of its own writes since then. It logs an error and sends an event, writes the revocations that it knows to the store again,
/// and follows the new history. Changes of clients are not restored. The loss is not noticed if no process was running.
///
/// The times of the records come from the clocks of the processes, which may differ by at most 5 seconds. A process whose
/// clock differs from that of the database by more than 2 seconds logs a warning. If its clock is behind by at most a minute,
/// it adds the difference to the time when it revokes all tokens that a client was issued so far. If its clock is ahead, it
/// purges by the clock of the database, so that it removes nothing that the others still need.
///
/// ```no_run
/// use tower_client_credentials::store::{ClientAdmin as _, PostgresStore};
/// use tower_client_credentials::{AuthorizationServer, Client, ClientSecret, KeyRing};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::connect("postgres://auth:secret@db.example/auth?sslmode=verify-full").await?;
/// store.create(Client::new("billing", ClientSecret::generate()?).register()?).await?;
/// let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, store)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    reader: Arc<Reader>,
    renewal: Arc<Renewal>,
    wake: Arc<Wake>,
    /// The clients whose assertions are recorded.
    turns: Arc<Turns>,
    last_writes: Arc<LastWrites<Place>>,
    clock_check: Arc<ClockCheck>,
    clock: Arc<dyn Clock>,
    longest_token_lifetime: Duration,
    timeout: Duration,
}

database!(PostgresStore, parse: sql::client, at_once: CREATED_AT_ONCE, longest: longest_token_lifetime);

impl PostgresStore {
    /// Connects to `postgres://user:password@host:5432/database`.
    ///
    /// # Errors
    ///
    /// The errors of [`PostgresStoreBuilder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, StoreError> {
        Self::builder(url).connect().await
    }

    /// Returns a builder with the default settings.
    pub fn builder(url: impl Into<String>) -> PostgresStoreBuilder {
        PostgresStoreBuilder::new(PostgresSettings { url: url.into(), connections: 10 }, CALL_TIMEOUT)
    }

    /// Runs a statement on a connection, within the time limit. If it fails or is cancelled, the connection may be closed.
    async fn call<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        in_time(self.timeout, async {
            let mut lease = PooledConnection::of(&self.pool).await.map_err(unconnected)?;
            let result = statement(lease.connection().map_err(failed)?).await;
            if result.as_ref().map_or_else(is_connection_usable, |_| true) {
                lease.end(self.timeout);
            }
            result.map_err(failed)
        })
        .await
    }

    /// Returns the time of a change of a client, by the later one of the clocks of this host and of the database.
    fn time_of_change(&self) -> SystemTime {
        later(self.clock.now(), self.clock_check.delay())
    }
}

/// Returns the reason why a call got no connection.
fn unconnected(error: sqlx::Error) -> StoreError {
    match error {
        // The pool retries while the server refuses connections, and its error does not include the reason.
        sqlx::Error::PoolTimedOut => StoreError::new(
            "no connection to Postgres within the time limit: the server does not answer, or accepts no more connections \
             (`max_connections`), or all connections of this store are in use (`PostgresStoreBuilder::connections`)",
        ),
        other => failed(other),
    }
}

/// Returns whether the connection is usable after this error of the database. It is not after class 57P, "operator
/// intervention", and class 08, a broken connection.
fn is_connection_usable(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| !code.starts_with("57P") && !code.starts_with("08"))
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("connections", &self.pool.size()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::error::Error;
    use std::fmt;

    use sqlx::error::{DatabaseError, ErrorKind};

    use super::is_connection_usable;

    #[derive(Debug)]
    struct Code(&'static str);

    impl fmt::Display for Code {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Code {}

    impl DatabaseError for Code {
        fn message(&self) -> &str {
            self.0
        }

        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }

        fn as_error(&self) -> &(dyn Error + Send + Sync + 'static) {
            self
        }

        fn as_error_mut(&mut self) -> &mut (dyn Error + Send + Sync + 'static) {
            self
        }

        fn into_error(self: Box<Self>) -> Box<dyn Error + Send + Sync + 'static> {
            self
        }

        fn kind(&self) -> ErrorKind {
            ErrorKind::Other
        }
    }

    #[test]
    fn a_connection_that_reported_its_end_is_not_used_again() {
        let is_used_again = |code| is_connection_usable(&sqlx::Error::Database(Box::new(Code(code))));
        for ends in ["57P01", "57P02", "57P03", "57P05", "08003", "08006"] {
            assert!(!is_used_again(ends), "{ends}");
        }
        for well in ["23514", "57014", "40001", "53100"] {
            assert!(is_used_again(well), "{well}");
        }
        assert!(!is_connection_usable(&sqlx::Error::WorkerCrashed));
    }
}
