//! [`RedisStore`]: state in Redis or Valkey.

mod builder;
mod durability;
mod feed;
mod keys;
mod link;
mod permissions;
mod scripts;
mod wake;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

pub use self::builder::{RedisSettings, RedisStoreBuilder};
use self::link::Link;
use self::scripts::{Keys, Scripts};
use self::wake::Wake;
use super::builder::CALL_TIMEOUT;
use super::clock_check::ClockCheck;
use super::last_write::LastWrites;
use super::replay::count_end;
use super::{
    AdminError, Change, ChangeFeed, Changes, ClientAdmin, ClientChange, ClientCondition, ClientStore, ClientWrite,
    Cursor, DynFuture, FeedEntry, Replay, ReplayBounds, ReplayId, ReplayLog, Revision, Revocation, RevocationStore,
    StoreError, StoreFuture,
};
use crate::client_id::ClientId;
use crate::clock::{Clock, UnixTime, later};
use crate::registration::RegisteredClient;
use crate::registration::from_json;
use crate::timing::CLIENT_CHANGE_RETENTION;

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
    scripts: Scripts,
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

/// The number of clients added by each script. Other calls wait only milliseconds for it.
const BATCH: usize = 500;

/// The number of entries removed by each script.
const PURGED_AT_ONCE: u64 = 1_000;

/// How many seconds longer than required an entry of the replay log is kept. It expires by the server's clock, which may be
/// adjusted.
const SLACK: u64 = 5 * 60;

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

    /// Changes a registration and writes the change to the feed, in one step.
    async fn change(
        &self,
        id: &ClientId,
        revision: Option<Revision>,
        record: Option<&RegisteredClient>,
        conditions: &[ClientCondition],
        entries: &[FeedEntry],
    ) -> Result<(), AdminError> {
        let Shared { link, scripts, keys, .. } = &*self.shared;
        let of_client = entries.iter().find(|entry| matches!(entry.change, Change::Client(_)));
        let revocation = entries.iter().find(|entry| matches!(entry.change, Change::Revoked(_)));
        let text = |entry: Option<&FeedEntry>| entry.map_or_else(|| Ok(String::new()), |entry| json(&entry.change));
        let end = |entry: Option<&FeedEntry>| entry.map_or(0, |entry| entry.keep_until);
        let mut call = scripts.change.prepare_invoke();
        keys.give(&mut call)?;
        call.arg(end(of_client))
            .arg(id.as_str())
            .arg(text(of_client)?)
            .arg(revision.map_or_else(String::new, |revision| revision.to_string()))
            .arg(record.map_or_else(|| Ok(String::new()), json)?)
            .arg(text(revocation)?)
            .arg(end(revocation));
        for (id, revision) in conditions {
            call.arg(id.as_str()).arg(revision.to_string());
        }
        let (outcome, tip) = link.script::<(String, String)>(&call).await?;
        match outcome.as_str() {
            "done" => {
                self.shared.last_writes.acknowledged(tip);
                Ok(())
            }
            "gone" => Err(AdminError::NotFound),
            _ => Err(AdminError::Conflict),
        }
    }
}

impl Shared {
    /// Returns how many clients were added, or `None` if a condition does not hold.
    async fn create(
        &self,
        clients: &[RegisteredClient],
        conditions: &[ClientCondition],
    ) -> Result<Option<usize>, StoreError> {
        let mut call = self.scripts.create.prepare_invoke();
        self.keys.give(&mut call)?;
        call.arg(UnixTime::now(&*self.clock).after(CLIENT_CHANGE_RETENTION).as_secs()).arg(conditions.len());
        for (id, revision) in conditions {
            call.arg(id.as_str()).arg(revision.to_string());
        }
        for client in clients {
            call.arg(client.id().as_str()).arg(json(client)?).arg(json(&Change::Client(client.id().clone()))?);
        }
        let (created, tip) = self.link.script::<(i64, String)>(&call).await?;
        if created > 0 {
            self.had_clients.store(true, Ordering::Relaxed);
            self.last_writes.acknowledged(tip);
        }
        Ok(usize::try_from(created).ok())
    }
}

/// Compares the local clock with that of the server, if the user may run `TIME`.
async fn compare_clocks(link: &Link, clock: &dyn Clock, clock_check: &ClockCheck) {
    let before = clock.now();
    let time = link.command::<Vec<i64>>(&::redis::cmd("TIME")).await;
    if let Some(server) = time.ok().and_then(|time| feed::millis(&time)) {
        clock_check.compare(before, clock.now(), server);
    }
}

/// The error for a server without any client that had some before.
const NO_CLIENTS: &str = "Redis has no clients any more: it was emptied, it evicted them, or another server without the data took \
    its place; restore the data, or create the clients again";

fn json(record: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(record).map_err(StoreError::new)
}

/// Parses a record: its revision, a space, and the registration as JSON.
fn record(text: &str) -> Result<(Arc<RegisteredClient>, Revision), StoreError> {
    let (revision, json) = text.split_once(' ').ok_or_else(|| StoreError::new("a client's record has no revision"))?;
    let revision = Revision::new(revision.parse().map_err(StoreError::new)?);
    Ok((Arc::new(from_json(json).map_err(StoreError::new)?), revision))
}

impl ClientStore for RedisStore {
    fn find<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<Arc<RegisteredClient>>> {
        StoreFuture::new(async move { Ok(self.load(id).await?.map(|(client, _)| client)) })
    }

    fn is_administered(&self) -> bool {
        true
    }
}

impl ClientAdmin for RedisStore {
    fn apply(&self, change: ClientChange) -> StoreFuture<'_, (), AdminError> {
        StoreFuture::new(async move {
            let now = later(self.shared.clock.now(), self.shared.clock_check.delay());
            let (write, conditions, entries) = change.into_parts(now, self.shared.longest);
            match write {
                ClientWrite::Create(client) => match self.shared.create(&[client], &conditions).await? {
                    None => Err(AdminError::Conflict),
                    Some(0) => Err(AdminError::Exists),
                    Some(_) => Ok(()),
                },
                ClientWrite::Replace(client, revision) => {
                    self.change(client.id(), Some(revision), Some(&client), &conditions, &entries).await
                }
                ClientWrite::Delete(id) => self.change(&id, None, None, &conditions, &entries).await,
            }
        })
    }

    fn create_all(&self, clients: Vec<RegisteredClient>) -> StoreFuture<'_, usize> {
        StoreFuture::new(async move {
            let mut created = 0;
            for batch in clients.chunks(BATCH) {
                created += self.shared.create(batch, &[]).await?.unwrap_or_default();
            }
            Ok(created)
        })
    }

    fn load<'a>(&'a self, id: &'a ClientId) -> StoreFuture<'a, Option<(Arc<RegisteredClient>, Revision)>> {
        StoreFuture::new(async move {
            let Shared { link, keys, .. } = &*self.shared;
            let mut commands = ::redis::pipe();
            // A replica refuses this write without effect, and then nothing that it says is used.
            commands.cmd("DEL").arg(keys.nothing());
            commands.cmd("HMGET").arg(keys.clients()).arg(id.as_str()).arg("");
            let (_, (found, mark)): (u64, (Option<String>, Option<String>)) = link.pipeline(&commands).await?;
            let has_clients = found.is_some() || mark.is_some();
            if has_clients {
                self.shared.had_clients.store(true, Ordering::Relaxed);
            } else if self.shared.had_clients.load(Ordering::Relaxed) {
                return Err(StoreError::new(NO_CLIENTS));
            }
            found.as_deref().map(record).transpose()
        })
    }

    fn list<'a>(
        &'a self,
        after: Option<&'a ClientId>,
        limit: NonZeroUsize,
    ) -> StoreFuture<'a, Vec<Arc<RegisteredClient>>> {
        StoreFuture::new(async move {
            let Shared { link, scripts, keys, .. } = &*self.shared;
            let mut call = scripts.list.prepare_invoke();
            keys.give(&mut call)?;
            call.arg(after.map_or_else(|| "-".to_owned(), |id| format!("({id}")))
                .arg(i64::try_from(limit.get()).unwrap_or(i64::MAX));
            let records: Vec<String> = link.script(&call).await?;
            records.iter().map(|text| record(text).map(|(client, _)| client)).collect()
        })
    }
}

impl ChangeFeed for RedisStore {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::new(async move {
            let Shared { link, scripts, keys, last_writes, clock, clock_check, wake, .. } = &*self.shared;
            let before = clock.now();
            let page = feed::read(link, scripts, keys, last_writes, cursor).await;
            let after = clock.now();
            if page.as_ref().map_or(true, |(changes, _)| !changes.changes.is_empty()) {
                wake.suspect();
            }
            let (changes, server) = page?;
            if let Some(server) = server {
                clock_check.compare(before, after, server);
            }
            if changes.lost.is_some() {
                // The settings may have changed, or be those of another server. The report of the loss does not wait for them.
                let shared = self.shared.clone();
                tokio::spawn(async move { durability::warn(&durability::problems(&shared.link).await) });
            }
            Ok(changes)
        })
    }

    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(async move {
            self.shared.wake.wait().await;
        })
    }
}

impl RevocationStore for RedisStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::new(async move {
            let Shared { link, scripts, keys, clock, clock_check, .. } = &*self.shared;
            let revocation = revocation.later(clock.now(), clock_check.delay());
            let end = revocation.expires_at();
            let mut call = scripts.revoke.prepare_invoke();
            keys.give(&mut call)?;
            call.arg(json(&Change::Revoked(revocation))?).arg(end);
            self.shared.last_writes.acknowledged(link.script(&call).await?);
            Ok(())
        })
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            let Shared { link, scripts, keys, clock, clock_check, .. } = &*self.shared;
            compare_clocks(link, &**clock, clock_check).await;
            let now = clock_check.purge_time(now);
            let mut call = scripts.purge.prepare_invoke();
            keys.give(&mut call)?;
            call.arg(UnixTime::at(now).as_secs()).arg(PURGED_AT_ONCE);
            let mut purged = 0;
            loop {
                let some: u64 = link.script(&call).await?;
                purged += some;
                if some < PURGED_AT_ONCE {
                    return Ok(purged);
                }
            }
        })
    }

    fn longest_token_lifetime(&self) -> Duration {
        self.shared.longest
    }
}

impl ReplayLog for RedisStore {
    fn check_and_insert<'a>(
        &'a self,
        id: &'a ReplayId,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        StoreFuture::new(async move {
            let Shared { link, scripts, keys, .. } = &*self.shared;
            let (expires_at, now) = (UnixTime::at(expires_at).as_secs(), UnixTime::at(now).as_secs());
            let mut call = scripts.check_and_insert.prepare_invoke();
            // The server uses its own clock and the callers theirs, so only the duration is passed.
            call.key(keys.replay(id))
                .arg(expires_at)
                .arg(now)
                .arg(expires_at.saturating_sub(now).saturating_add(SLACK));
            let fresh: bool = link.script(&call).await?;
            Ok(if fresh { Replay::Fresh } else { Replay::Seen })
        })
    }

    fn check_and_insert_within<'a>(
        &'a self,
        id: &'a ReplayId,
        bounds: ReplayBounds<'a>,
        expires_at: SystemTime,
        now: SystemTime,
    ) -> StoreFuture<'a, Replay> {
        StoreFuture::new(async move {
            let Shared { link, scripts, keys, .. } = &*self.shared;
            let counted = UnixTime::at(count_end(expires_at)).as_secs();
            let (expires_at, now) = (UnixTime::at(expires_at).as_secs(), UnixTime::at(now).as_secs());
            let mut call = scripts.check_and_insert_within.prepare_invoke();
            call.key(keys.replay(id))
                .key(keys.named("share", bounds.owner()))
                .key(keys.all_shares())
                .arg(expires_at)
                .arg(now)
                .arg(expires_at.saturating_sub(now).saturating_add(SLACK))
                .arg(counted)
                .arg(bounds.of_owner())
                .arg(bounds.in_all());
            match link.script::<u8>(&call).await? {
                1 => Ok(Replay::Fresh),
                2 => Ok(Replay::OwnerFull),
                3 => Ok(Replay::Full),
                _ => Ok(Replay::Seen),
            }
        })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &self.shared.link).finish_non_exhaustive()
    }
}
