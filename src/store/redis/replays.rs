//! [`ReplayLog`] for Redis.

use std::time::SystemTime;

use super::{RedisStore, Shared};
use crate::clock::UnixTime;
use crate::store::replay::count_end;
use crate::store::{Replay, ReplayBounds, ReplayId, ReplayLog, StoreFuture};

/// How many seconds longer than required an entry of the replay log is kept. It expires by the server's clock, which may be
/// adjusted.
const SLACK: u64 = 5 * 60;

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
