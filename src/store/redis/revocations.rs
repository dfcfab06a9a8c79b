//! The feed and the revocations in Redis.

use std::time::SystemTime;

use super::scripts::{PURGE, REVOKE};
use super::wake::listen;
use super::{RedisStore, Shared, compare_clocks, durability, feed, json};
use crate::clock::UnixTime;
use crate::store::database::purged;
use crate::store::{Change, Changes, Cursor, Revocation, StoreError};

/// The number of entries removed by each script.
const PURGED_AT_ONCE: u64 = 1_000;

impl RedisStore {
    pub(super) async fn read_feed(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        let Shared { clock, clock_check, wake, .. } = &*self.shared;
        let before = clock.now();
        let page = feed::read(&self.shared, cursor).await;
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
    }

    pub(super) async fn woken(&self) {
        let Shared { link, keys, wake, .. } = &*self.shared;
        wake.changed(|signal| listen(link.client().clone(), keys.channel(), signal)).await;
    }

    pub(super) async fn add_revocation(&self, revocation: Revocation) -> Result<(), StoreError> {
        let Shared { link, keys, clock, clock_check, .. } = &*self.shared;
        let revocation = revocation.later(clock.now(), clock_check.delay());
        let end = revocation.expires_at();
        let mut call = keys.call(&REVOKE)?;
        call.arg(json(&Change::Revoked(revocation))?).arg(end);
        self.shared.last_writes.acknowledged(link.script(&call).await?);
        Ok(())
    }

    pub(super) async fn purge_until(&self, now: SystemTime) -> Result<u64, StoreError> {
        let Shared { link, keys, clock, clock_check, .. } = &*self.shared;
        compare_clocks(link, &**clock, clock_check).await;
        let mut call = keys.call(&PURGE)?;
        call.arg(UnixTime::at(clock_check.purge_time(now)).as_secs()).arg(PURGED_AT_ONCE);
        purged(PURGED_AT_ONCE, || link.script(&call)).await
    }
}
