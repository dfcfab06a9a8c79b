//! [`RedisStore`]: state in Redis or Valkey.

mod builder;
mod clients;
mod durability;
mod feed;
mod keys;
mod link;
mod permissions;
mod replays;
mod revocations;
mod scripts;
mod wake;
mod workloads;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

pub use self::builder::{RedisSettings, RedisStoreBuilder};
use self::link::Link;
use self::scripts::Keys;
use super::StoreError;
use super::builder::CALL_TIMEOUT;
use super::clock_check::ClockCheck;
use super::database::database;
use super::last_write::LastWrites;
use super::wake::Wake;
use crate::clock::{Clock, later};

/// Stores clients, revocations and used credentials in Redis or Valkey, version 6 or later (feature `redis`). Clones share the
/// connection.
///
/// 1. Each change is one Lua script, which the server runs completely or not at all. All keys begin with `{prefix}`. A node of
///    a cluster is refused when connecting.
/// 2. A connection that breaks, or does not answer within the [timeout](RedisStoreBuilder::call_timeout), is replaced. Calls
///    in progress fail, and the caller gets a 503.
/// 3. The feed is read by polling. Publish/subscribe only shortens the wait for the next poll.
/// 4. If the server lost data that this process read or wrote, because it was emptied, evicted a key, started from a truncated
///    file or failed over, the loss is [reported](crate::event::Outcome::StoreLostData), and the feed is read from the start.
/// 5. A server that accepts no writes, such as a replica, is not used, since it may be far behind: connecting, lookups and the
///    feed fail. After such an answer the next call connects again, and so finds a new primary with the same name.
/// 6. If this process has seen clients, a server without any clients is an error, and a 503 for the caller, until a client is
///    created.
/// 7. A write by an ACL user that lacks a command fails as a whole. Redis 6 does not report the permissions of a user: there a
///    write may fail half done. The required permissions are `~{tcc}:* &{tcc}:changed +@connection +@scripting +@read +@write
///    +@pubsub +info +config|get +time`. A process that only verifies tokens needs no write command except `del`.
/// 8. A process whose clock differs from that of the server by more than 2 seconds logs a warning. If its clock is behind by
///    at most a minute, it adds the difference to the time when it revokes all tokens that a client was issued so far. If its
///    clock is ahead, it purges by the clock of the server, so that it removes nothing that the others still need.
///
/// # Caveat
///
/// Acknowledged writes survive a crash only on a server with `appendonly yes` and `appendfsync always`. Without
/// `maxmemory-policy noeviction` a server evicts entries when its memory is full. [`connect`](Self::connect) checks the three
/// settings and logs a warning; with [`require_durable`](RedisStoreBuilder::require_durable) it returns an error.
///
/// Replication is asynchronous: **a failover loses the writes that the new primary had not yet received**, acknowledged or
/// not. Running processes still refuse the tokens that they know to be revoked, and write the revocations again. If no running
/// process knows a lost revocation, its token is valid again until it expires. A client that was disabled or deleted is back,
/// and a lost used credential can be used again. `min-replicas-to-write 1` makes losses smaller, but not impossible. If no
/// loss is acceptable, use Postgres. A full server refuses writes, which are 503s here. It needs about 500 bytes per
/// revocation, 150 per used credential and 700 per client.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use tower_client_credentials::{AuthorizationServer, KeyRing, store::RedisStore};
///
/// let store = RedisStore::builder("rediss://tokens:secret@redis.example.com/0").require_durable().connect().await?;
/// let server = AuthorizationServer::new("https://auth.example.com", KeyRing::generate()?, store)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisStore {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    keys: Keys,
    wake: Wake,
    clock: Arc<dyn Clock>,
    longest: Duration,
    problems: Vec<String>,
    last_writes: LastWrites<String>,
    clock_check: ClockCheck,
    /// Whether this process has ever seen a registered client there.
    had_clients: AtomicBool,
}

impl RedisStore {
    /// Connects to `redis://[user:password@]host[:port][/database]`, or `rediss://…` for TLS, with the default settings.
    ///
    /// # Errors
    ///
    /// When the URL is malformed, or the server cannot be reached. No error contains the password.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        Self::builder(url).connect().await
    }

    /// Returns a builder with the default settings.
    pub fn builder(url: &str) -> RedisStoreBuilder {
        RedisStoreBuilder::new(RedisSettings::new(url), CALL_TIMEOUT)
    }

    /// Returns the settings with which the server may lose acknowledged writes, as found when connecting. Empty if there are
    /// none.
    #[must_use]
    pub fn durability_problems(&self) -> &[String] {
        &self.shared.problems
    }

    /// Returns the time of a change of a client, by the later one of the clocks of this host and of the server.
    fn time_of_change(&self) -> SystemTime {
        later(self.shared.clock.now(), self.shared.clock_check.delay())
    }
}

/// The number of clients that a script adds. Other calls wait only milliseconds for it.
const CREATED_AT_ONCE: usize = 500;

database!(RedisStore, parse: clients::parse, at_once: CREATED_AT_ONCE, longest: shared.longest);

/// Compares the local clock with that of the server, if the user may run `TIME`.
async fn compare_clocks(link: &Link, clock: &dyn Clock, clock_check: &ClockCheck) {
    let before = clock.now();
    let time = link.command::<Vec<i64>>(&::redis::cmd("TIME")).await;
    if let Some(server) = time.ok().and_then(|time| feed::millis(&time)) {
        clock_check.compare(before, clock.now(), server);
    }
}

fn json(record: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(StoreError::new)
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &self.shared.link).finish_non_exhaustive()
    }
}
