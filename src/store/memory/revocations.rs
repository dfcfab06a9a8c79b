//! The revocations, and the feed that reports them and the changes of clients.

use std::time::{Duration, SystemTime};

use super::{MemoryStore, PURGED_AT_ONCE};
use crate::clock::UnixTime;
use crate::store::{ChangeFeed, Changes, Cursor, DynFuture, Revocation, RevocationStore, StoreError, StoreFuture};
use crate::sync::{read, write};

impl MemoryStore {
    pub(crate) fn revoke_now(&self, revocation: Revocation) -> Result<(), StoreError> {
        write(&self.shared.feed).revoke(revocation, UnixTime::now(&*self.clock))?;
        self.shared.changed.notify_waiters();
        Ok(())
    }
}

impl ChangeFeed for MemoryStore {
    fn changes<'a>(&'a self, cursor: &'a Cursor) -> StoreFuture<'a, Changes> {
        StoreFuture::ready(read(&self.shared.feed).since(cursor))
    }

    fn changed(&self) -> DynFuture<'_, ()> {
        DynFuture::new(async move {
            self.shared.changed.notified().await;
        })
    }
}

impl RevocationStore for MemoryStore {
    fn revoke(&self, revocation: Revocation) -> StoreFuture<'_, ()> {
        StoreFuture::ready(self.revoke_now(revocation))
    }

    fn purge(&self, now: SystemTime) -> StoreFuture<'_, u64> {
        StoreFuture::new(async move {
            let mut purged = 0;
            loop {
                let some = write(&self.shared.feed).purge_some(UnixTime::at(now));
                purged += some as u64;
                if some < PURGED_AT_ONCE {
                    return Ok(purged);
                }
                // Requests that need the store run between two parts.
                tokio::task::yield_now().await;
            }
        })
    }

    fn longest_token_lifetime(&self) -> Duration {
        self.longest_token_lifetime
    }
}
