//! [`PostgresStore`]: state in Postgres, for any number of replicas.

mod feed;
mod keys;
mod pool;
mod reader;
mod schema;
mod wake;

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{ConnectOptions as _, PgConnection, Row as _};

use self::feed::{FeedPage, Fetched, Place, last_told};
use self::pool::Renewal;
use self::reader::Reader;
use self::wake::Wake;
use super::clock_check::ClockCheck;
use super::last_write::{LastWrites, ToCheck};
use super::sql::{self, CREATED_AT_ONCE, Lease, PURGED_AT_ONCE, Row, failed, in_time, seconds};
use super::{
    AdminError, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientStore, ClientWrite, Cursor, DynFuture, Replay,
    ReplayId, ReplayLog, Revision, Revocation, RevocationStore, StoreError, StoreFuture,
};
use crate::client_id::ClientId;
use crate::clock::{Clock, SystemClock, later};
use crate::deadline::LONGEST_WAIT;
use crate::registration::RegisteredClient;
use crate::timing::DEFAULT_LONGEST_TOKEN_LIFETIME;

/// Stores clients, revocations and used credentials in Postgres, version 15 or later (feature `postgres`), for any number of
/// replicas. Clones share the connections.
///
/// 1. The tables, `tcc_…`, are created in the first schema of the search path when the store connects. Any number of replicas
///    may start at the same time. Once the tables exist, a role that may not create tables is sufficient.
/// 2. Each call is one statement, and `find` one indexed lookup. Writes wait for the disk even if `synchronous_commit` is off.
/// 3. The feed is read by the visibility of transactions, not by a sequence, whose numbers become visible out of order; see
///    [`changes`](RevocationStore::changes). `NOTIFY` only shortens the wait for the next poll.
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
    wake: Wake,
    last_writes: Arc<LastWrites<Place>>,
    clock_check: Arc<ClockCheck>,
    clock: Arc<dyn Clock>,
    longest_token_lifetime: Duration,
    timeout: Duration,
}

/// The settings of a [`PostgresStore`], each with a default.
#[derive(Clone)]
pub struct PostgresStoreBuilder {
    url: String,
    connections: u32,
    clock: Arc<dyn Clock>,
    longest_token_lifetime: Duration,
    timeout: Duration,
}

impl PostgresStoreBuilder {
    /// Sets the maximum number of connections. The default is 10. If the store is followed, one more connection reads the
    /// feed, and one listens for the changes of other processes.
    #[must_use]
    pub fn connections(mut self, most: u32) -> Self {
        self.connections = most;
        self
    }

    /// Sets the clock that dates the revocations of disabled clients. The default is the clock of the operating system.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the [longest token lifetime](RevocationStore::longest_token_lifetime). The default is 24 hours.
    #[must_use]
    pub fn longest_token_lifetime(mut self, lifetime: Duration) -> Self {
        self.longest_token_lifetime = lifetime;
        self
    }

    /// Sets the time limit of a call, including the wait for a connection. The default is 2 seconds. The maximum is 24 days; a
    /// longer time counts as 24 days.
    #[must_use]
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(LONGEST_WAIT);
        self
    }

    /// Connects, and updates the tables to the current version.
    ///
    /// # Errors
    ///
    /// When the URL is invalid, the server cannot be reached, or a newer version of this crate wrote the tables. No error
    /// contains the password.
    pub async fn connect(self) -> Result<PostgresStore, StoreError> {
        if self.connections == 0 || self.timeout.as_millis() == 0 {
            return Err(StoreError::new(
                "invalid Postgres settings: neither the number of connections nor the time limit of a call may be zero",
            ));
        }
        let options = self.options()?;
        let clock_check = Arc::<ClockCheck>::default();
        schema::migrate(&options, &*self.clock, &clock_check).await?;
        let renewal = Arc::<Renewal>::default();
        let pool = pool::pool(self.connections, self.timeout, renewal.clone()).connect_lazy_with(options.clone());
        let reader = Arc::new(Reader::new(options.clone(), renewal.clone(), self.timeout));
        let Self { clock, longest_token_lifetime, timeout, .. } = self;
        let wake = Wake::new(options);
        let last_writes = Arc::default();
        Ok(PostgresStore {
            pool,
            reader,
            renewal,
            wake,
            last_writes,
            clock_check,
            clock,
            longest_token_lifetime,
            timeout,
        })
    }

    /// Parses the URL. Errors do not quote any part of it, since that may be the password.
    fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let is_one = self.url.starts_with("postgres://") || self.url.starts_with("postgresql://");
        let options = is_one.then(|| PgConnectOptions::from_str(&self.url).ok()).flatten().ok_or_else(|| {
            StoreError::new(
                "invalid Postgres URL: write postgres://user:password@host:5432/database, and the \
                 password percent-encoded",
            )
        })?;
        let options = options.disable_statement_logging();
        Ok(match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("tower-client-credentials"),
        })
    }
}

impl fmt::Debug for PostgresStoreBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStoreBuilder").field("connections", &self.connections).finish_non_exhaustive()
    }
}

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
    #[must_use]
    pub fn builder(url: impl Into<String>) -> PostgresStoreBuilder {
        PostgresStoreBuilder {
            url: url.into(),
            connections: 10,
            clock: Arc::new(SystemClock),
            longest_token_lifetime: DEFAULT_LONGEST_TOKEN_LIFETIME,
            timeout: sql::CALL_TIMEOUT,
        }
    }

    /// Runs a statement on a connection, within the time limit. If it fails or is cancelled, the connection may be closed.
    async fn call<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        in_time(self.timeout, async {
            let mut lease = Lease::of(&self.pool).await.map_err(unconnected)?;
            let result = statement(lease.connection().map_err(failed)?).await;
            if result.as_ref().map_or_else(is_connection_usable, |_| true) {
                lease.end(self.timeout);
            }
            result.map_err(failed)
        })
        .await
    }

    async fn create_some(&self, clients: &[RegisteredClient]) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let (mut ids, mut records, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for client in clients {
            ids.push(client.id().as_str());
            records.push(sql::record(client)?);
            told.push(Row::client(client.id(), now)?);
        }
        let told = Rows::of(told);
        let created = concat!(
            "WITH new AS (
                SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS new (id, record, change, forget_at)
            ), created AS (
                INSERT INTO tcc_clients (id, revision, record) SELECT id, nextval('tcc_revision'), record FROM new
                ON CONFLICT DO NOTHING RETURNING id
            ), told AS (
                INSERT INTO tcc_feed (change, forget_at)
                SELECT DISTINCT ON (id) change, forget_at FROM new JOIN created USING (id)
                RETURNING xid, seq, forget_at, change
            )
            SELECT count(*), ",
            last_told!(),
            ", pg_notify('tcc_feed', '') FROM created"
        );
        let created = self.call(async |connection| {
            let created = sqlx::query(created).bind(ids).bind(records).bind(told.changes).bind(told.forget_at);
            let row = created.fetch_one(connection).await?;
            Ok((row.try_get::<i64, _>(0)?, row.try_get::<Option<String>, _>(1)?))
        });
        let (created, told) = created.await?;
        self.wrote(told.as_deref());
        Ok(usize::try_from(created).unwrap_or_default())
    }

    async fn purge_all(&self, statement: &'static str, until: i64) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let some = self.call(async |connection| {
                let some = sqlx::query(statement).bind(until).bind(PURGED_AT_ONCE).execute(connection);
                Ok(some.await?.rows_affected())
            });
            let some = some.await?;
            purged += some;
            if some < PURGED_AT_ONCE.unsigned_abs() {
                return Ok(purged);
            }
        }
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

/// Rows of the feed as columns, for `unnest`.
struct Rows {
    changes: Vec<String>,
    digests: Vec<Option<Vec<u8>>>,
    forget_at: Vec<i64>,
}

impl Rows {
    fn of(rows: Vec<Row>) -> Self {
        let mut told = Self { changes: Vec::new(), digests: Vec::new(), forget_at: Vec::new() };
        for row in rows {
            told.changes.push(row.change);
            told.digests.push(row.digest);
            told.forget_at.push(row.forget_at);
        }
        told
    }
}

impl ClientStore for PostgresStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { Ok(self.load(id).await?.map(|(client, _)| client)) })
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl PostgresStore {
    async fn replace_with(&self, client: &RegisteredClient, revision: Revision, told: Rows) -> Result<(), AdminError> {
        let record = sql::record(client)?;
        let replaced = concat!(
            "WITH replaced AS (
                UPDATE tcc_clients SET record = $3, revision = nextval('tcc_revision')
                WHERE id = $1 AND revision = $2 RETURNING id
            ), told AS (
                INSERT INTO tcc_feed (change, digest, forget_at)
                SELECT new.* FROM unnest($4::text[], $5::bytea[], $6::bigint[]) AS new, replaced ON CONFLICT DO NOTHING
                RETURNING xid, seq, forget_at, change
            ), woken AS (
                SELECT pg_notify('tcc_feed', '') FROM replaced
            )
            SELECT (SELECT count(*) FROM woken), (SELECT count(*) FROM tcc_clients WHERE id = $1), ",
            last_told!()
        );
        let counts = self.call(async |connection| {
            let replaced = sqlx::query_as::<_, (i64, i64, Option<String>)>(replaced).bind(client.id().as_str());
            let replaced = replaced.bind(revision.number().cast_signed()).bind(record);
            let replaced = replaced.bind(told.changes).bind(told.digests).bind(told.forget_at);
            replaced.fetch_one(connection).await
        });
        match counts.await? {
            (0, 0, _) => Err(AdminError::NotFound),
            (0, ..) => Err(AdminError::Conflict),
            (.., told) => {
                self.wrote(told.as_deref());
                Ok(())
            }
        }
    }

    async fn delete_with(&self, id: &ClientId, told: Rows) -> Result<(), AdminError> {
        let deleted = concat!(
            "WITH deleted AS (
                DELETE FROM tcc_clients WHERE id = $1 RETURNING id
            ), told AS (
                INSERT INTO tcc_feed (change, digest, forget_at)
                SELECT new.* FROM unnest($2::text[], $3::bytea[], $4::bigint[]) AS new, deleted ON CONFLICT DO NOTHING
                RETURNING xid, seq, forget_at, change
            )
            SELECT ",
            last_told!(),
            ", pg_notify('tcc_feed', '') FROM deleted"
        );
        let deleted = self.call(async |connection| {
            let deleted = sqlx::query(deleted).bind(id.as_str());
            let deleted = deleted.bind(told.changes).bind(told.digests).bind(told.forget_at);
            let row = deleted.fetch_optional(connection).await?;
            row.map(|row| row.try_get::<Option<String>, _>(0)).transpose()
        });
        let told = deleted.await?.ok_or(AdminError::NotFound)?;
        self.wrote(told.as_deref());
        Ok(())
    }
}

impl ClientAdmin for PostgresStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            let now = later(self.clock.now(), self.clock_check.delay());
            let (write, entries) = change.into_parts(now, self.longest_token_lifetime);
            let told = Rows::of(Row::all(&entries)?);
            match write {
                ClientWrite::Create(client) => match self.create_some(&[client]).await? {
                    0 => Err(AdminError::Exists),
                    _ => Ok(()),
                },
                ClientWrite::Replace(client, revision) => self.replace_with(&client, revision, told).await,
                ClientWrite::Delete(id) => self.delete_with(&id, told).await,
            }
        })
    }

    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            let mut created = 0;
            for clients in clients.chunks(CREATED_AT_ONCE) {
                created += self.create_some(clients).await?;
            }
            Ok(created)
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            let row = self.call(async |connection| {
                let row = "SELECT pg_is_in_recovery(), record, revision
                FROM (SELECT) AS always LEFT JOIN tcc_clients ON id = $1";
                let row = sqlx::query_as::<_, (bool, Option<String>, Option<i64>)>(row).bind(id.as_str());
                row.fetch_one(connection).await
            });
            let (is_standby, record, revision) = row.await?;
            if is_standby {
                return Err(StoreError::new(feed::STANDBY));
            }
            let Some((record, revision)) = record.zip(revision) else { return Ok(None) };
            Ok(Some((sql::client(&record)?, Revision::new(revision.cast_unsigned()))))
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            let records = self.call(async |connection| {
                // No id is empty, so all ids come after the empty one.
                let page = "SELECT record FROM tcc_clients WHERE id > $1 ORDER BY id LIMIT $2";
                let page = sqlx::query_scalar::<_, String>(page).bind(after.map_or("", ClientId::as_str));
                page.bind(i64::try_from(limit.get()).unwrap_or(i64::MAX)).fetch_all(connection).await
            });
            records.await?.iter().map(|record| sql::client(record)).collect()
        })
    }
}

impl ChangeFeed for PostgresStore {
    /// The cursor lists the transactions that were still open. Their rows are returned after they have committed, even if
    /// later transactions were returned before. An open transaction does not delay the others.
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move {
            let place: Place = cursor.as_str().parse()?;
            let written = self.last_writes.get();
            let sign_of_loss = match self.page(&place, &written).await? {
                FeedPage::Changes(changes) => {
                    self.last_writes.checked(&written);
                    return Ok(changes);
                }
                FeedPage::StartOver { sign_of_loss } => sign_of_loss,
            };
            if sign_of_loss.is_some() {
                self.renewal.renew();
                self.wake.reconnect();
                // A role that may not write leaves this to a purge by another replica.
                let _ = self.reader.call(async |connection| feed::adopt(connection).await).await;
            }
            // After a loss, these writes are known to be missing. Otherwise another server that answers now must have them, too.
            let to_check = if sign_of_loss.is_some() { ToCheck::default() } else { written.clone() };
            let FeedPage::Changes(changes) = self.page(&Place::default(), &to_check).await? else {
                return Err(StoreError::new("the feed changed while it was read from the start; try again"));
            };
            // No await may follow: a caller that cancels this call there would drop the report of a loss.
            self.last_writes.checked(&written);
            Ok(match sign_of_loss {
                Some(sign) => changes.lost(sign),
                None => changes,
            })
        })
    }

    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(async move {
            self.wake.changed().await;
        })
    }
}

impl RevocationStore for PostgresStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            let row = Row::revoked(revocation.later(self.clock.now(), self.clock_check.delay()))?;
            let told = concat!(
                "WITH told AS (
                INSERT INTO tcc_feed (change, digest, forget_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING
                RETURNING xid, seq, forget_at, change
            )
            SELECT ",
                last_told!(),
                ", pg_notify('tcc_feed', '')"
            );
            let told = self.call(async |connection| {
                let told = sqlx::query(told).bind(row.change).bind(row.digest).bind(row.forget_at);
                told.fetch_one(connection).await?.try_get::<Option<String>, _>(0)
            });
            self.wrote(told.await?.as_deref());
            Ok(())
        })
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            self.call(async |connection| feed::adopt(connection).await).await?;
            // Rows that another replica is purging at the same time are skipped.
            let feed = "DELETE FROM tcc_feed WHERE (xid, seq) IN (
            SELECT xid, seq FROM tcc_feed WHERE forget_at <= $1 ORDER BY forget_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
            let replays = "DELETE FROM tcc_replays WHERE id IN (
            SELECT id FROM tcc_replays WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
            let now = self.clock_check.purge_time(now);
            let purged = self.purge_all(feed, seconds(now)).await?;
            Ok(purged + self.purge_all(replays, sql::replays_until(now)).await?)
        })
    }

    fn longest_token_lifetime(&self) -> Duration {
        self.longest_token_lifetime
    }
}

impl PostgresStore {
    /// Remembers the last row of a write, if it wrote any.
    fn wrote(&self, told: Option<&str>) {
        if let Some(place) = told.and_then(Place::parse) {
            self.last_writes.acknowledged(place);
        }
    }

    async fn page(&self, place: &Place, written: &ToCheck<Place>) -> Result<FeedPage, StoreError> {
        let before = self.clock.now();
        let page = self.reader.call(async |connection| place.fetch(&written.writes, connection).await).await;
        if page.as_ref().map_or(true, |rows| rows.iter().any(Fetched::has_change)) {
            self.wake.suspect();
        }
        let page = page?;
        let after = self.clock.now();
        if let Some(row) = page.first() {
            self.clock_check.compare(before, after, row.clock);
        }
        place.read(page, written, seconds(after))
    }
}

impl ReplayLog for PostgresStore {
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        StoreFuture::new(async move {
            let used = "INSERT INTO tcc_replays AS used (id, expires_at) VALUES ($1, $2)
            ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE used.expires_at <= $3";
            let written = self.call(async |connection| {
                let used = sqlx::query(used).bind(&id.as_bytes()[..]).bind(seconds(expires_at)).bind(seconds(now));
                Ok(used.execute(connection).await?.rows_affected())
            });
            Ok(if written.await? == 0 { Replay::Seen } else { Replay::Fresh })
        })
    }
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
