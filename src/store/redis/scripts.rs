//! The steps that must be atomic, as Lua, and the keys that they work on.
//!
//! | key | | holds |
//! |---|---|---|
//! | `clients` | hash | id → revision and record |
//! | `ids` | sorted set | the ids, all of score 0, which is the order of their bytes |
//! | `counter` | number | the last place in the feed; never the same twice |
//! | `feed` | sorted set | change → its place. Told again, a change moves to the end |
//! | `ends` | sorted set | change → when it may be forgotten |
//! | `tips` | sorted set | the ends that the feed had lately, each with a random name |
//! | `nothing` | | nothing, ever: it is deleted to find out whether the server takes writes |
//!
//! A cursor names the tip that its reader saw. A server that lost its data, or that took the place of one which was
//! ahead of it, counts through the same places again, but under other names.

use redis::{Script, ScriptInvocation};

use crate::crypto::{Random as _, SystemRandom};
use crate::store::{ReplayId, StoreError};

/// Begins each script that works on [`Keys`]. `told` ends each one that told something.
const PRELUDE: &str = "
local clients, ids, counter, feed, ends, tips, nothing = unpack(KEYS)
local channel, name = ARGV[1], ARGV[2]
local function tell(change, forget_at)
  local place = redis.call('INCR', counter)
  redis.call('ZADD', feed, place, change)
  redis.call('ZADD', ends, forget_at, change)
  return place
end
local function told(place)
  redis.call('ZADD', tips, place, place .. '-' .. name)
  redis.call('ZREMRANGEBYRANK', tips, 0, -10001)
  redis.call('PUBLISH', channel, '')
end
";

/// `forget_at`, then id, record and change of each client. Returns how many were added.
const CREATE: &str = "
local created, last = 0, nil
for i = 4, #ARGV, 3 do
  if redis.call('HEXISTS', clients, ARGV[i]) == 0 then
    last = tell(ARGV[i + 2], ARGV[3])
    redis.call('HSET', clients, ARGV[i], last .. ' ' .. ARGV[i + 1])
    redis.call('ZADD', ids, 0, ARGV[i])
    created = created + 1
  end
end
if last then told(last) end
return created
";

/// `forget_at`, id, change; the revision that is replaced, if it matters; the record, without which the client is
/// deleted; a revocation, if there is one, and its end.
const CHANGE: &str = "
local forget_at, id, change, revision, record, revocation, ending = unpack(ARGV, 3)
local old = redis.call('HGET', clients, id)
if not old then return 'gone' end
if revision ~= '' and string.match(old, '^%d+') ~= revision then return 'conflict' end
if revocation ~= '' then tell(revocation, ending) end
local place = tell(change, forget_at)
if record ~= '' then
  redis.call('HSET', clients, id, place .. ' ' .. record)
else
  redis.call('HDEL', clients, id)
  redis.call('ZREM', ids, id)
end
told(place)
return 'done'
";

/// Where to begin, and how many.
const LIST: &str = "
local page = redis.call('ZRANGEBYLEX', ids, ARGV[3], '+', 'LIMIT', 0, ARGV[4])
local records = {}
for i, id in ipairs(page) do records[i] = redis.call('HGET', clients, id) end
return records
";

/// The change, and its end.
const REVOKE: &str = "told(tell(ARGV[3], ARGV[4])) return redis.status_reply('OK')";

/// The place after which to begin, the tip that was seen then, and how many. Returns whether the tip is known, the tip
/// of now, and the changes with their places. It begins with a write that does nothing: a replica, which may be far
/// behind, refuses it, and so nobody takes its answer for what is revoked now.
const CHANGES: &str = "
redis.call('DEL', nothing)
local after, seen, many = ARGV[3], ARGV[4], ARGV[5]
local known = after == '0' or redis.call('ZSCORE', tips, seen)
if not known then after = '0' end
local page = redis.call('ZRANGEBYSCORE', feed, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, many)
return {known and 1 or 0, redis.call('ZRANGE', tips, -1, -1), page}
";

/// The time, and how many at most. Returns how many there were.
const PURGE: &str = "
local over = redis.call('ZRANGEBYSCORE', ends, '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])
if #over > 0 then
  redis.call('ZREM', feed, unpack(over))
  redis.call('ZREM', ends, unpack(over))
end
return #over
";

/// One key; the credential's end, the time, and for how many seconds to keep it.
const CHECK_AND_INSERT: &str = "
local ending = redis.call('GET', KEYS[1])
if ending and tonumber(ending) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return 1
";

pub(super) struct Scripts {
    pub(super) create: Script,
    pub(super) change: Script,
    pub(super) list: Script,
    pub(super) revoke: Script,
    pub(super) changes: Script,
    pub(super) purge: Script,
    pub(super) check_and_insert: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        let script = |body: &str| Script::new(&format!("{PRELUDE}{body}"));
        Self {
            create: script(CREATE),
            change: script(CHANGE),
            list: script(LIST),
            revoke: script(REVOKE),
            changes: script(CHANGES),
            purge: script(PURGE),
            check_and_insert: Script::new(CHECK_AND_INSERT),
        }
    }
}

/// The names of the keys, all in one slot of a cluster.
pub(super) struct Keys {
    names: [String; 7],
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = format!("{{{prefix}}}:");
        let names = ["clients", "ids", "counter", "feed", "ends", "tips", "nothing"];
        let names = names.map(|name| format!("{prefix}{name}"));
        Self { names, prefix }
    }

    pub(super) fn clients(&self) -> &str {
        let [clients, ..] = &self.names;
        clients
    }

    pub(super) fn channel(&self) -> String {
        format!("{}changed", self.prefix)
    }

    pub(super) fn replay(&self, id: &ReplayId) -> Vec<u8> {
        [self.prefix.as_bytes(), b"replay:", id.as_bytes()].concat()
    }

    /// The keys, the channel, and a name for the tip that the call may make.
    pub(super) fn give(&self, call: &mut ScriptInvocation<'_>) -> Result<(), StoreError> {
        let mut name = [0; 8];
        SystemRandom.fill(&mut name).map_err(StoreError::new)?;
        for key in &self.names {
            call.key(key);
        }
        call.arg(self.channel()).arg(format!("{:016x}", u64::from_be_bytes(name)));
        Ok(())
    }
}
