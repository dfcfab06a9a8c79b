//! The feed and the revocations in Redis.

use std::time::{Duration, SystemTime};

use super::{RedisStore, Shared, compare_clocks, durability, feed, json};
use crate::clock::UnixTime;
use crate::store::{Change, ChangeFeed, Changes, Cursor, Revocation, RevocationStore, StoreFuture};
use crate::sync::DynFuture;

/// The number of entries removed by each script.
const PURGED_AT_ONCE: u64 = 1_000;

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
