//! The rules of a record, as [`crate::record`] has them, in Lua: Redis runs a script without anybody in between.
//!
//! A record is a hash at `KEYS[1]`:
//!
//! | field | what |
//! |---|---|
//! | `epoch` | of the last grant or reset, counted by `HINCRBY`, which is exact up to 2^63; missing before the first |
//! | `nonce` | of the last grant or reset, 32 hexadecimal digits |
//! | `checkpoint` | see [`super::frame`]; missing before the first |
//! | `owner` | the claimant's id, as long as the lease was not given back |
//! | `owner_name` | the claimant's name |
//!
//! Other fields are left alone. The lease is a string at `KEYS[2]` that Redis lets expire (`PX`): its time is measured by
//! the server only. That it is gone lets somebody else in; only a grant keeps out who had it.
//!
//! A script answers with strings, the first of which says what became of it. Every script can be repeated. The first command
//! of each that writes is one that Redis refuses when memory is short, or one that only deletes: none is left half done.

use std::sync::LazyLock;

use ::redis::{Cmd, cmd};
use sha1_smol::Sha1;

/// What comes before each script.
///
/// `refusal` and `store` are [`crate::record::Record::complete`]. Positions are compared as text of the same length: digits
/// have the same order in every collation. What cannot be read is not written over; the last word on whether it can be is
/// Rust's, which gets it as the answer `unreadable`.
macro_rules! with_rules {
    ($script:literal) => {
        concat!(
            "
local function load()
  local fields = redis.call('HMGET', KEYS[1], 'epoch', 'nonce', 'checkpoint', 'owner', 'owner_name')
  return {
    exists = fields[1] or fields[3],
    epoch = fields[1] or '0',
    nonce = fields[2] or string.rep('0', 32),
    checkpoint = fields[3],
    owner = fields[4],
    owner_name = fields[5],
  }
end

local function refusal(record, epoch, nonce)
  if not record.exists and epoch ~= '0' then return 'lost' end
  if record.epoch ~= epoch or record.nonce ~= nonce then return 'fenced' end
end

local function lease_refusal(record, epoch, nonce)
  if epoch == '0' then return 'fenced' end
  return refusal(record, epoch, nonce)
end

local function is_readable(checkpoint)
  if not checkpoint then return true end
  if redis.sha1hex(string.sub(checkpoint, 42)) ~= string.sub(checkpoint, 1, 40) then return false end
  local is_json, body = pcall(cjson.decode, string.sub(checkpoint, 83))
  return is_json and type(body) == 'table' and body['logd-checkpoint'] == 1
end

local function store(record, checkpoint)
  if not is_readable(record.checkpoint) then return {'unreadable', record.checkpoint} end
  if record.checkpoint then
    local stored = string.sub(record.checkpoint, 42, 81)
    if stored > string.sub(checkpoint, 42, 81) then return {'stale', stored} end
    if record.checkpoint == checkpoint then return {'unchanged'} end
  end
  redis.call('HSET', KEYS[1], 'checkpoint', checkpoint)
  return {'stored'}
end
",
            $script
        )
    };
}

/// Stores a checkpoint.
///
/// `KEYS` record. `ARGV` epoch, nonce, checkpoint. Answers `stored`, `unchanged`, `stale` and the stored position, `fenced`,
/// `lost`, or `unreadable` and what is stored.
const COMPLETE_LUA: &str = with_rules!(
    "
local record = load()
local refused = refusal(record, ARGV[1], ARGV[2])
if refused then return {refused} end
return store(record, ARGV[3])
"
);

/// Grants a lease.
///
/// `KEYS` record, lease. `ARGV` claimant's id, claimant's name, milliseconds, nonce. Answers `granted`, the epoch and, where
/// there is one, the checkpoint; `processing`, the owner's name and the milliseconds that are left; or `unreadable` and what
/// is stored.
const START_LUA: &str = with_rules!(
    "
local record = load()
if record.owner and record.owner ~= ARGV[1] then
  local left = redis.call('PTTL', KEYS[2])
  if left ~= -2 then
    return {'processing', record.owner_name or '', string.format('%.0f', math.max(left, 1))}
  end
end
if not is_readable(record.checkpoint) then return {'unreadable', record.checkpoint} end
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'nonce', ARGV[4], 'owner', ARGV[1], 'owner_name', ARGV[2])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
local answer = {'granted', redis.call('HGET', KEYS[1], 'epoch')}
if record.checkpoint then answer[3] = record.checkpoint end
return answer
"
);

/// Keeps a lease, also one whose time is over.
///
/// `KEYS` record, lease. `ARGV` epoch, nonce, milliseconds. Answers `done`, `fenced` or `lost`.
const RENEW_LUA: &str = with_rules!(
    "
local record = load()
local refused = lease_refusal(record, ARGV[1], ARGV[2])
if refused then return {refused} end
if not record.owner then return {'fenced'} end
redis.call('SET', KEYS[2], record.owner, 'PX', ARGV[3])
return {'done'}
"
);

/// Gives a lease back, and stores a last checkpoint, if there is a third argument. Where that is refused, the lease is given
/// back all the same.
///
/// `KEYS` record, lease. `ARGV` epoch, nonce, checkpoint. Answers `done`, or as the script for storing.
const RELEASE_LUA: &str = with_rules!(
    "
local record = load()
local refused = lease_refusal(record, ARGV[1], ARGV[2])
if refused then return {refused} end
redis.call('DEL', KEYS[2])
redis.call('HDEL', KEYS[1], 'owner', 'owner_name')
if ARGV[3] then return store(record, ARGV[3]) end
return {'done'}
"
);

/// Stores a checkpoint wherever it lies, and fences whoever has the lease.
///
/// `KEYS` record, lease. `ARGV` nonce, checkpoint. Answers `done`.
const RESET_LUA: &str = "
redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HSET', KEYS[1], 'nonce', ARGV[1], 'checkpoint', ARGV[2])
redis.call('HDEL', KEYS[1], 'owner', 'owner_name')
redis.call('DEL', KEYS[2])
return {'done'}
";

/// Forgets a reader.
///
/// `KEYS` record, lease. Answers `deleted` or `missing`.
const DELETE_LUA: &str = "
local deleted = redis.call('DEL', KEYS[1])
redis.call('DEL', KEYS[2])
if deleted == 1 then return {'deleted'} end
return {'missing'}
";

pub(super) static COMPLETE: LazyLock<Script> = LazyLock::new(|| Script::new(COMPLETE_LUA));
pub(super) static START: LazyLock<Script> = LazyLock::new(|| Script::new(START_LUA));
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(RENEW_LUA));
pub(super) static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(RELEASE_LUA));
pub(super) static RESET: LazyLock<Script> = LazyLock::new(|| Script::new(RESET_LUA));
pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| Script::new(DELETE_LUA));

/// A script, and the name under which the server knows it once it has run.
#[derive(Debug)]
pub(super) struct Script {
    text: &'static str,
    sha1: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, sha1: Sha1::from(text).hexdigest() }
    }

    /// Runs it, if the server knows it.
    pub(super) fn by_name(&self, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
        call("EVALSHA", &self.sha1, keys, arguments)
    }

    /// Runs it, and makes it known to the server.
    pub(super) fn by_text(&self, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
        call("EVAL", self.text, keys, arguments)
    }
}

fn call(command: &str, script: &str, keys: &[&str], arguments: &[&[u8]]) -> Cmd {
    let mut call = cmd(command);
    call.arg(script).arg(keys.len()).arg(keys);
    for argument in arguments {
        call.arg(argument);
    }
    call
}
