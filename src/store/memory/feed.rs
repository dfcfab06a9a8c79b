//! [`Feed`]: the changes of a store in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

use super::{MAX_ENTRIES, PURGED_AT_ONCE, expired};
use crate::client_id::ClientId;
use crate::clock::UnixTime;
use crate::store::{Change, Changes, Cursor, Revocation, StoreError};
use crate::timing::CLIENT_CHANGE_RETENTION;

/// The changes by number, and when each may be removed. A number is never used twice.
#[derive(Default)]
pub(super) struct Feed {
    pub(super) entries: BTreeMap<u64, (Change, UnixTime)>,
    pub(super) last: u64,
    /// The revocations among the changes, so that equal ones are stored once.
    pub(super) revoked: HashSet<Revocation>,
    /// The number of the latest change of each client. It replaces the earlier ones.
    pub(super) latest: HashMap<ClientId, u64>,
    /// The numbers of the revocations, sorted by when each may be removed.
    pub(super) revoked_by_end: BTreeSet<(UnixTime, u64)>,
    /// The numbers of the changes of clients, sorted by when each may be removed.
    pub(super) clients_by_end: BTreeSet<(UnixTime, u64)>,
}

impl Feed {
    /// The maximum number of changes in the result of one call.
    const PAGE: usize = 10_000;

    pub(super) fn revoke(&mut self, revocation: Revocation, now: UnixTime) -> Result<(), StoreError> {
        if self.revoked.contains(&revocation) {
            return Ok(());
        }
        if self.revoked.len() >= MAX_ENTRIES {
            self.purge_some(now);
        }
        if self.revoked.len() >= MAX_ENTRIES {
            return Err(StoreError::new("the store is full: it holds 1,000,000 revocations that have not expired"));
        }
        let expires_at = UnixTime::from_secs(revocation.expires_at());
        let expires_at =
            expires_at.ok_or_else(|| StoreError::new("invalid revocation: `expires_at` is out of range"))?;
        self.revoked.insert(revocation.clone());
        self.push(Change::Revoked(revocation), expires_at);
        self.revoked_by_end.insert((expires_at, self.last));
        Ok(())
    }

    pub(super) fn client_changed(&mut self, client: &ClientId, now: UnixTime) {
        // Without a reader of the feed, no one calls `purge`. Two are removed for each that is added.
        self.purge_clients(now, 2);
        let forget_at = now.after(CLIENT_CHANGE_RETENTION);
        self.push(Change::Client(client.clone()), forget_at);
        self.clients_by_end.insert((forget_at, self.last));
        if let Some(former) = self.latest.insert(client.clone(), self.last)
            && let Some((_, forget_at)) = self.entries.remove(&former)
        {
            self.clients_by_end.remove(&(forget_at, former));
        }
    }

    pub(super) fn push(&mut self, change: Change, forget_at: UnixTime) {
        self.last += 1;
        self.entries.insert(self.last, (change, forget_at));
    }

    pub(super) fn since(&self, cursor: &Cursor) -> Result<Changes, StoreError> {
        let seen = match cursor.as_str() {
            "" => 0,
            place => place.parse::<u64>().map_err(StoreError::new)?,
        };
        let mut rest = self.entries.range((Bound::Excluded(seen), Bound::Unbounded));
        let page: Vec<_> = rest.by_ref().take(Self::PAGE).collect();
        let last = page.last().map_or(seen, |(number, _)| **number);
        let changes = page.into_iter().map(|(_, (change, _))| change.clone()).collect();
        Ok(Changes::new(changes, Cursor::new(last.to_string())).more(rest.next().is_some()))
    }

    /// Removes at most [`PURGED_AT_ONCE`] expired entries, and returns how many.
    pub(super) fn purge_some(&mut self, now: UnixTime) -> usize {
        let revoked = self.purge_revoked(now, PURGED_AT_ONCE);
        revoked + self.purge_clients(now, PURGED_AT_ONCE - revoked)
    }

    pub(super) fn purge_revoked(&mut self, now: UnixTime, most: usize) -> usize {
        let numbers = expired(&mut self.revoked_by_end, now, most);
        for number in &numbers {
            if let Some((Change::Revoked(revocation), _)) = self.entries.remove(number) {
                self.revoked.remove(&revocation);
            }
        }
        numbers.len()
    }

    /// Removes expired changes of clients only. Revocations are left to a purge, whose caller has a reliable clock.
    pub(super) fn purge_clients(&mut self, now: UnixTime, most: usize) -> usize {
        let numbers = expired(&mut self.clients_by_end, now, most);
        for number in &numbers {
            if let Some((Change::Client(client), _)) = self.entries.remove(number) {
                self.latest.remove(&client);
            }
        }
        numbers.len()
    }
}
