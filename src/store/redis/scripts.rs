//! The atomic steps as Lua scripts, and the keys that they use.
//!
//! | key | type | content |
//! |---|---|---|
//! | `clients` | hash | id → revision and record; also an empty id, present once a client was created |
//! | `ids` | sorted set | the ids, all with score 0, and so sorted by their bytes |
//! | `counter` | number | the last place in the feed; a place is never used twice |
//! | `feed` | sorted set | change → its place. A repeated change moves to the end. Place 0 holds a random name, the epoch |
//! | `ends` | sorted set | change → the time from which it may be removed |
//! | `tips` | sorted set | the recent ends of the feed, each with a random name |
//! | `replay:…` | text | a used credential → its expiry |
//! | `share:…`, `shares` | hash | a time → how many used credentials of a client, and in all, expire then |
//! | `workloads` | sorted set | a workload, a colon and the id of a client with a credential for it; also an empty text, once complete |
//! | `indexed` | hash | id → the revision whose workloads are in `workloads`, and these; also an empty id, once complete |
//! | `nothing` | | always absent: deleted to find out whether the server accepts writes |
//!
//! A cursor contains the epoch and the tip that its reader saw. A server that lost its data, or that replaced another one
//! which was ahead of it, uses the same places again, but under other names. The epoch is part of the feed, so a feed that was
//! deleted or evicted, alone or with everything else, gets another epoch afterwards.
//!
//! A script that writes first checks that its user may run all its commands, since Redis does not undo the effects of a script
//! that fails.

use std::sync::LazyLock;

use redis::{Script, ScriptInvocation};

use crate::crypto::{Random as _, SystemRandom};
use crate::store::{ReplayId, StoreError};

/// Starts each script that works on [`Keys`]. `told` ends each script that wrote to the feed, and returns the tip with its
/// epoch. Redis 6 cannot report the permissions of its user.
const PRELUDE: &str = "
local clients, ids, counter, feed, ends, tips, workloads, indexed, nothing = unpack(KEYS)
local channel, name = ARGV[1], ARGV[2]
local function may(...) return not redis.acl_check_cmd or redis.acl_check_cmd(...) end
local function telling()
  return {{'INCR', counter}, {'SET', counter, 1}, {'ZRANGE', feed, 0, 0}, {'ZRANGE', tips, 0, 0},
  {'ZRANGEBYSCORE', feed, 0, 0}, {'ZADD', feed, 1, ''}, {'ZADD', ends, 1, ''}, {'ZADD', tips, 1, ''},
  {'ZREMRANGEBYRANK', tips, 0, 0}}
end
local function changing()
  return {{'HGET', clients, ''}, {'HSET', clients, '', ''}, {'HEXISTS', clients, ''}, {'HDEL', clients, ''},
  {'ZADD', ids, 0, ''}, {'ZREM', ids, ''}, {'HGET', indexed, ''}, {'HSET', indexed, '', ''}, {'HDEL', indexed, ''},
  {'ZADD', workloads, 0, ''}, {'ZREM', workloads, ''}}
end
local function reading()
  return {{'ZRANGE', tips, 0, 0}, {'ZRANGEBYSCORE', feed, 0, 0}, {'ZSCORE', tips, ''}, {'ZCARD', tips},
  {'DEL', nothing}}
end
local function forbidden(...)
  local names = {}
  for _, commands in ipairs({...}) do
    for _, command in ipairs(commands) do
      if not may(unpack(command)) then table.insert(names, command[1] .. ' on ' .. command[2]) end
    end
  end
  return names
end
local function refusal(...)
  local names = forbidden(...)
  if #names == 0 then return nil end
  return redis.error_reply('NOPERM nothing was written: the ACL of this user must allow ' .. table.concat(names, ', '))
end
local function last(key) return tonumber(redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] or 0) end
local function tell(change, forget_at)
  local place = redis.call('INCR', counter)
  if place == 1 then
    place = math.max(last(feed), last(tips)) + 1
    redis.call('SET', counter, string.format('%.0f', place))
  end
  place = string.format('%.0f', place)
  redis.call('ZADD', feed, place, change)
  redis.call('ZADD', ends, forget_at, change)
  return place
end
-- Replaces what the index has of a client: the workloads, with spaces between them.
local function index(id, revision, new)
  local old = redis.call('HGET', indexed, id)
  for key in string.gmatch(old and string.match(old, ' (.*)$') or '', '%x+') do
    redis.call('ZREM', workloads, key .. ':' .. id)
  end
  if new == '' then
    if old then redis.call('HDEL', indexed, id) end
    return
  end
  redis.call('HSET', indexed, id, revision .. ' ' .. new)
  for key in string.gmatch(new, '%x+') do redis.call('ZADD', workloads, 0, key .. ':' .. id) end
end
local function complete_index()
  redis.call('ZADD', workloads, 0, '')
  redis.call('HSET', indexed, '', '')
end
-- Whether each client is at the revision that follows its id in the arguments from `first` to `last`.
local function holds(first, last)
  for i = first, last, 2 do
    local old = redis.call('HGET', clients, ARGV[i])
    if not old or string.match(old, '^%d+') ~= ARGV[i + 1] then return false end
  end
  return true
end
local function epoch() return redis.call('ZRANGEBYSCORE', feed, 0, 0)[1] end
local function told(place)
  if not epoch() then redis.call('ZADD', feed, 0, name) end
  local tip = place .. '-' .. name
  redis.call('ZADD', tips, place, tip)
  redis.call('ZREMRANGEBYRANK', tips, 0, -10001)
  if may('PUBLISH', channel, '') then redis.pcall('PUBLISH', channel, '') end
  return tip .. ' ' .. epoch()
end
";

/// Returns the missing commands: for reading, for writing, and for notifying others. A replica refuses it.
pub(super) static PERMISSIONS: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
if may('DEL', nothing) then redis.call('DEL', nothing) end
local waking = {}
if not may('PUBLISH', channel, '') then waking = {'PUBLISH on ' .. channel} end
return {forbidden(reading(), {{'HMGET', clients, ''}}), forbidden(telling(), changing()), waking}
",
    )
});

/// Arguments: `forget_at`, the number of conditions, id and revision of each condition, then id, record, change and workloads of each
/// client.
/// Returns how many were added, or -1 if a condition does not hold, and the tip.
pub(super) static CREATE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local refused = refusal(telling(), changing())
if refused then return refused end
local first = 5 + 2 * ARGV[4]
if not holds(5, first - 1) then return {-1, ''} end
local created, last = 0, nil
local is_first = redis.call('HEXISTS', clients, '') == 0
for i = first, #ARGV, 4 do
  if redis.call('HEXISTS', clients, ARGV[i]) == 0 then
    last = tell(ARGV[i + 2], ARGV[3])
    redis.call('HSET', clients, ARGV[i], last .. ' ' .. ARGV[i + 1])
    redis.call('ZADD', ids, 0, ARGV[i])
    index(ARGV[i], last, ARGV[i + 3])
    created = created + 1
  end
end
if not last then return {0, ''} end
if is_first then complete_index() end
redis.call('HSET', clients, '', '')
return {created, told(last)}
",
    )
});

/// Arguments: `forget_at`, id, change; the revision to replace, or empty for any; the record, or empty to delete the client; a
/// revocation and its expiry, or empty; the workloads; id and revision of each condition. Returns the outcome, and the tip.
pub(super) static CHANGE: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local refused = refusal(telling(), changing())
if refused then return refused end
local forget_at, id, change, revision, record, revocation, ending, new = unpack(ARGV, 3, 10)
local old = redis.call('HGET', clients, id)
if not old then return {'gone', ''} end
if revision ~= '' and string.match(old, '^%d+') ~= revision then return {'conflict', ''} end
if not holds(11, #ARGV) then return {'conflict', ''} end
if revocation ~= '' then tell(revocation, ending) end
local place = tell(change, forget_at)
index(id, place, new)
if record ~= '' then
  redis.call('HSET', clients, id, place .. ' ' .. record)
else
  redis.call('HDEL', clients, id)
  redis.call('ZREM', ids, id)
end
return {'done', told(place)}
",
    )
});

/// Arguments: the workloads. Returns whether there are clients, and at most two ids. An entry counts only for the revision that it was
/// made for, since a version of this crate without the index does not remove it; and only if the client's own list has the workload, since
/// an entry stays if it changes after that list was evicted. A replica refuses it.
pub(super) static FIND_BY_WORKLOAD: LazyLock<Script> = LazyLock::new(|| {
    script("
redis.call('DEL', nothing)
if not redis.call('HMGET', clients, '')[1] then return {0} end
if not redis.call('ZSCORE', workloads, '') or not redis.call('HMGET', indexed, '')[1] then
  return redis.error_reply('GONE the index of workloads is missing: it was evicted, or made by a user without the rights; set ' ..
    '`maxmemory-policy noeviction`, and restart a process whose user may change clients, which makes it again')
end
local found, seen = {1}, {}
for i = 3, #ARGV do
  local from = 0
  repeat
    local page = redis.call('ZRANGEBYLEX', workloads, '[' .. ARGV[i] .. ':', '(' .. ARGV[i] .. ';', 'LIMIT', from, 100)
    for _, member in ipairs(page) do
      local id = string.sub(member, #ARGV[i] + 2)
      local record, entry = redis.call('HMGET', clients, id)[1], redis.call('HMGET', indexed, id)[1]
      local is_current = record and entry and string.match(record, '^%d+') == string.match(entry, '^%d+')
      if not seen[id] and is_current and string.find(entry .. ' ', ' ' .. ARGV[i] .. ' ', 1, true) then
        seen[id] = true
        table.insert(found, id)
        if #found == 3 then return found end
      end
    end
    from = from + #page
  until #page < 100
end
return found
")
});

/// Arguments: the last id of the page before, and the maximum number. Returns what to do, the last id of this page, and the records of
/// the clients with credentials.
pub(super) static UNINDEXED: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
redis.call('DEL', nothing)
local is_complete = redis.call('ZSCORE', workloads, '') and redis.call('HMGET', indexed, '')[1]
if is_complete or not redis.call('HMGET', clients, '')[1] then return {'complete', ''} end
if #forbidden(changing()) > 0 or not may('ZRANGEBYLEX', ids, '-', '+') then return {'forbidden', ''} end
local page = redis.call('ZRANGEBYLEX', ids, ARGV[3], '+', 'LIMIT', 0, ARGV[4])
local answer = {'more', page[#page] or ''}
for _, id in ipairs(page) do
  local record = redis.call('HGET', clients, id)
  if record and string.find(record, '\"credentials\"', 1, true) then table.insert(answer, record) end
end
return answer
",
    )
});

/// Arguments: whether the index is complete afterwards, and id, revision and workloads of each client.
pub(super) static INDEX: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
local refused = refusal(changing())
if refused then return refused end
for i = 4, #ARGV, 3 do
  local record = redis.call('HGET', clients, ARGV[i])
  if record and string.match(record, '^%d+') == ARGV[i + 1] then index(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
end
if ARGV[3] == '1' then complete_index() end
return 1
",
    )
});

/// Arguments: the first id, and the maximum number. A replica refuses it.
pub(super) static LIST: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
redis.call('DEL', nothing)
local count = redis.call('HLEN', clients) - (redis.call('HEXISTS', clients, ''))
if count ~= redis.call('ZCARD', ids) then
  return redis.error_reply('GONE there are ' .. count .. ' clients and ' .. redis.call('ZCARD', ids) ..
    ' ids: the server evicted one of the two keys; set `maxmemory-policy noeviction` and restore the data')
end
local page = redis.call('ZRANGEBYLEX', ids, ARGV[3], '+', 'LIMIT', 0, ARGV[4])
local records = {}
for i, id in ipairs(page) do records[i] = redis.call('HGET', clients, id) end
return {page, records}
",
    )
});

/// Arguments: the change, and its expiry. Returns the tip.
pub(super) static REVOKE: LazyLock<Script> =
    LazyLock::new(|| script("return refusal(telling()) or told(tell(ARGV[3], ARGV[4]))"));

/// Arguments: the place after which to start, with the tip and the epoch seen there; the maximum number; the tip and the epoch
/// of each of the last writes of this process. Returns whether the seen tip and those of the writes are still part of the feed,
/// the current tip and epoch, the changes with their places, and the time of the server if the user may run `TIME`. It starts with
/// a write without effect: a replica, which may be far behind, refuses that, and so its answer is never taken for the current
/// revocations.
pub(super) static CHANGES: LazyLock<Script> = LazyLock::new(|| {
    script(
        "
redis.call('DEL', nothing)
local after, seen, seen_epoch, many = unpack(ARGV, 3, 6)
local current = epoch() or ''
local function has(tip, in_epoch)
  if in_epoch ~= current then return 'emptied' end
  if redis.call('ZSCORE', tips, tip) then return 'yes' end
  local first = redis.call('ZRANGE', tips, 0, 0, 'WITHSCORES')[2]
  local is_older = first and tonumber(string.match(tip, '^%d+')) < tonumber(first)
  if is_older and redis.call('ZCARD', tips) >= 10000 then return 'behind' end
  return 'lost'
end
local known = after == '0' and 'yes' or has(seen, seen_epoch)
local own_known = 'yes'
for i = 7, #ARGV, 2 do
  local answer = has(ARGV[i], ARGV[i + 1])
  if answer == 'emptied' or answer == 'lost' then
    own_known = answer
    break
  end
end
local is_good = known == 'yes' and own_known == 'yes'
if not is_good then after = '0' end
local page = redis.call('ZRANGEBYSCORE', feed, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, many)
local tip = redis.call('ZRANGE', tips, -1, -1)[1]
if current == '' and #page > 0 and may('ZADD', feed, 0, '') then
  redis.call('ZADD', feed, 0, name)
  current = name
end
if not tip and #page > 0 and may('ZADD', tips, 1, '') then
  local place = redis.call('ZRANGE', feed, -1, -1, 'WITHSCORES')[2]
  tip = place .. '-' .. name
  redis.call('ZADD', tips, place, tip)
end
local time = may('TIME') and redis.pcall('TIME') or {}
return {known, own_known, tip or '', current, page, time.err and {} or time}
",
    )
});

/// Arguments: the time, and the maximum number. Returns how many were removed.
pub(super) static PURGE: LazyLock<Script> = LazyLock::new(|| {
    script("
local over = redis.call('ZRANGEBYSCORE', ends, '-inf', ARGV[3], 'LIMIT', 0, ARGV[4])
if #over > 0 then
  redis.call('ZREM', feed, unpack(over))
  redis.call('ZREM', ends, unpack(over))
elseif redis.call('ZCARD', feed) > redis.call('ZCARD', ends) + 1 then
  return redis.error_reply('GONE entries of the feed have no expiry and are never removed: the server evicted ' .. ends ..
    '; set `maxmemory-policy noeviction` and restore the data')
end
return #over
")
});

/// One key. Arguments: the expiry of the credential, the time, and for how many seconds to keep the entry.
pub(super) static CHECK_AND_INSERT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local ending = redis.call('GET', KEYS[1])
if ending and tonumber(ending) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return 1
",
    )
});

/// Three keys: the credential, the counts of its owner, and those of all. Arguments: as before, then the field of the counts, and
/// the two bounds. A count has one field for each time of expiry.
pub(super) static CHECK_AND_INSERT_WITHIN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "
local now, keep = tonumber(ARGV[2]), tonumber(ARGV[3])
local ending = redis.call('GET', KEYS[1])
if ending and tonumber(ending) > now then return 0 end
local function live(key)
  local counts, sum = redis.call('HGETALL', key), 0
  for i = 1, #counts, 2 do
    if tonumber(counts[i]) > now then
      sum = sum + tonumber(counts[i + 1])
    else
      redis.call('HDEL', key, counts[i])
    end
  end
  return sum
end
if live(KEYS[2]) >= tonumber(ARGV[5]) then return 2 end
if live(KEYS[3]) >= tonumber(ARGV[6]) then return 3 end
for i = 2, 3 do
  redis.call('HINCRBY', KEYS[i], ARGV[4], 1)
  if redis.call('TTL', KEYS[i]) < keep then redis.call('EXPIRE', KEYS[i], keep) end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', keep)
return 1
",
    )
});

fn script(body: &str) -> Script {
    Script::new(&format!("{PRELUDE}{body}"))
}

/// The names of the keys, all in one slot of a cluster.
pub(super) struct Keys {
    names: [String; 9],
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = format!("{{{prefix}}}:");
        let names = ["clients", "ids", "counter", "feed", "ends", "tips", "workloads", "indexed", "nothing"];
        let names = names.map(|name| format!("{prefix}{name}"));
        Self { names, prefix }
    }

    pub(super) fn clients(&self) -> &str {
        let [clients, ..] = &self.names;
        clients
    }

    /// A key that does not exist. Only a server that accepts writes lets it be deleted.
    pub(super) fn nothing(&self) -> &str {
        let [.., nothing] = &self.names;
        nothing
    }

    /// Returns the key of a kind for this name.
    pub(super) fn named(&self, kind: &str, name: &str) -> String {
        format!("{}{kind}:{name}", self.prefix)
    }

    /// Returns the key with the counts of all used credentials.
    pub(super) fn all_shares(&self) -> String {
        format!("{}shares", self.prefix)
    }

    pub(super) fn channel(&self) -> String {
        format!("{}changed", self.prefix)
    }

    pub(super) fn replay(&self, id: &ReplayId) -> Vec<u8> {
        [self.prefix.as_bytes(), b"replay:", id.as_bytes()].concat()
    }

    /// Begins a call of a script with the keys, the channel, and a name for the tip that the call may create.
    pub(super) fn call<'a>(&self, script: &'a Script) -> Result<ScriptInvocation<'a>, StoreError> {
        let mut name = [0; 8];
        SystemRandom.fill(&mut name).map_err(StoreError::new)?;
        let mut call = script.prepare_invoke();
        for key in &self.names {
            call.key(key);
        }
        call.arg(self.channel()).arg(format!("{:016x}", u64::from_be_bytes(name)));
        Ok(call)
    }
}
