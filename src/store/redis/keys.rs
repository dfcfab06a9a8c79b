//! Rings of keys in Redis. Each call is one script, by the clock of the server.
//!
//! | key | type | content |
//! |---|---|---|
//! | `ring:NAME` | hash | `version` and `document` |
//! | `replicas:NAME` | hash | replica → its version, the end of its lease in milliseconds since 1970, and its proof |

use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;

use super::RedisStore;
use crate::clock::{at_unix_millis, millis};
use crate::keys::rotation::{Replica, StoredRing};
use crate::store::StoreError;

/// Starts each script. It begins with a write without effect: a server that accepts no writes, such as a replica, refuses it, and
/// so its answer is never taken for the current ring.
const PRELUDE: &str = "
local ring, replicas, nothing = unpack(KEYS)
redis.call('DEL', nothing)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
";

/// Returns the time, the version, the document, and the name, version and proof of each live replica. A lease that an earlier version
/// of this crate wrote has no proof: it is waited for until it ends. Any other value is passed over.
static LOAD: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local found = redis.call('HMGET', ring, 'version', 'document')
local live, all = {}, redis.call('HGETALL', replicas)
for i = 1, #all, 2 do
  local version, ending, proof = string.match(all[i + 1], '^(%d+) (%d+) ?(.*)$')
  if ending and tonumber(ending) > now then
    table.insert(live, all[i])
    table.insert(live, version)
    table.insert(live, proof)
  end
end
return {string.format('%.0f', now), found[1] or '0', found[2] or '', live}
",
    )
});

/// Arguments: the version to replace, the new one, the document.
static SAVE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
if (redis.call('HGET', ring, 'version') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', ring, 'version', ARGV[2], 'document', ARGV[3])
return 1
",
    )
});

/// Arguments: the replica, its version, the length of the lease, its proof.
static RENEW: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local all = redis.call('HGETALL', replicas)
for i = 1, #all, 2 do
  local ending = string.match(all[i + 1], '^%d+ (%d+)')
  if not ending or tonumber(ending) <= now then redis.call('HDEL', replicas, all[i]) end
end
redis.call('HSET', replicas, ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now + ARGV[3]) .. ' ' .. ARGV[4])
return 1
",
    )
});

fn script(body: &str) -> Script {
    Script::new(&format!("{PRELUDE}{body}"))
}

impl RedisStore {
    pub(super) async fn read_ring(&self, ring: &str) -> Result<StoredRing, StoreError> {
        type Loaded = (u64, u64, String, Vec<(String, u64, String)>);
        let (now, version, document, replicas): Loaded = self.shared.link.script(&self.call_on(&LOAD, ring)).await?;
        let replica = |(name, version, proof)| Replica { name, version, proof };
        let replicas = replicas.into_iter().map(replica).collect();
        Ok(StoredRing { version, document, replicas, now: at_unix_millis(now) })
    }

    pub(super) async fn write_ring(
        &self,
        ring: &str,
        over: u64,
        version: u64,
        document: &str,
    ) -> Result<bool, StoreError> {
        let mut call = self.call_on(&SAVE, ring);
        call.arg(over).arg(version).arg(document);
        self.shared.link.script(&call).await
    }

    pub(super) async fn write_lease(&self, ring: &str, replica: &Replica, lease: Duration) -> Result<(), StoreError> {
        let mut call = self.call_on(&RENEW, ring);
        call.arg(&replica.name).arg(replica.version).arg(millis(lease)).arg(&replica.proof);
        self.shared.link.script::<u64>(&call).await.map(drop)
    }

    fn call_on<'a>(&self, script: &'a Script, ring: &str) -> redis::ScriptInvocation<'a> {
        let keys = &self.shared.keys;
        let mut call = script.prepare_invoke();
        call.key(keys.named("ring", ring)).key(keys.named("replicas", ring)).key(keys.nothing());
        call
    }
}
