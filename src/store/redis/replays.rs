//! The used credentials in Redis.

use super::RedisStore;
use super::scripts::{CHECK_AND_INSERT, CHECK_AND_INSERT_WITHIN};
use crate::clock::UnixTime;
use crate::store::database::Use;
use crate::store::replay::count_end;
use crate::store::{Replay, ReplayBounds, StoreError};

/// How many seconds longer than required an entry of the replay log is kept. It expires by the server's clock, which may be
/// adjusted.
const SLACK: u64 = 5 * 60;

impl RedisStore {
    pub(super) async fn use_once(&self, used: Use<'_>) -> Result<Replay, StoreError> {
        let Use { id, expires_at, now } = used;
        let (expires_at, now) = (UnixTime::at(expires_at).as_secs(), UnixTime::at(now).as_secs());
        let mut call = CHECK_AND_INSERT.prepare_invoke();
        // The server uses its own clock and the callers theirs, so only the duration is passed.
        call.key(self.shared.keys.replay(id))
            .arg(expires_at)
            .arg(now)
            .arg(expires_at.saturating_sub(now).saturating_add(SLACK));
        let fresh: bool = self.shared.link.script(&call).await?;
        Ok(if fresh { Replay::Fresh } else { Replay::Seen })
    }

    pub(super) async fn use_within(&self, used: Use<'_>, bounds: ReplayBounds<'_>) -> Result<Replay, StoreError> {
        let (keys, Use { id, expires_at, now }) = (&self.shared.keys, used);
        let counted = UnixTime::at(count_end(expires_at)).as_secs();
        let (expires_at, now) = (UnixTime::at(expires_at).as_secs(), UnixTime::at(now).as_secs());
        let mut call = CHECK_AND_INSERT_WITHIN.prepare_invoke();
        call.key(keys.replay(id))
            .key(keys.named("share", bounds.owner()))
            .key(keys.all_shares())
            .arg(expires_at)
            .arg(now)
            .arg(expires_at.saturating_sub(now).saturating_add(SLACK))
            .arg(counted)
            .arg(bounds.of_owner())
            .arg(bounds.in_all());
        match self.shared.link.script::<u8>(&call).await? {
            1 => Ok(Replay::Fresh),
            2 => Ok(Replay::OwnerFull),
            3 => Ok(Replay::Full),
            _ => Ok(Replay::Seen),
        }
    }
}
