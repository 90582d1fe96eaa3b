//! Checkpoints in Redis.
//!
//! | file | what |
//! |---|---|
//! | [`scripts`] | what a record is, and the rules by which it changes, in Lua |
//! | [`frame`] | the form of a checkpoint in a record |
//! | [`keys`] | the names of records |
//! | [`store`] | the contract, by means of scripts |
//! | [`admin`] | list, reset, delete |
//! | [`connection`] | one connection for all calls |
//! | [`errors`] | what a failure means for the caller |
//! | [`settings`] | URL and builder |
//!
//! Every change is one script, and so is either done or not. The server's clock alone measures leases.

mod admin;
mod connection;
mod errors;
mod frame;
mod keys;
mod scripts;
mod settings;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;

use ::redis::cmd;

use self::connection::Connection;
use self::errors::Task;
pub use self::settings::RedisStateBuilder;
use crate::error::StateError;

/// Keeps checkpoints in Redis (6.2 or later) or Valkey, in a database of one server.
///
/// A reader's record is a hash at `logd:{namespace/topic/consumer}`, without a time to live. Its lease is a key beside it that
/// the server lets expire. Both are in one slot of a cluster, but the handler talks to one server: in front of a cluster
/// there must be a proxy.
///
/// # What it promises
/// A checkpoint is as durable as the server is. With `appendonly yes` and `appendfsync always`, what was acknowledged survives a kill
/// of the server, and of its machine. With `appendfsync everysec`, a crash of the machine loses up to about a second;
/// without `appendonly`, and that is the server's default, a kill loses everything since the last snapshot. A failover to a
/// replica loses what it had not received. What was lost is not noticed without a fence: the checkpoint is an older one, or there is
/// none, and messages are read again. Whoever has a lease gets [`StateErrorKind::Lost`](crate::StateErrorKind::Lost) when the
/// record is gone, and `Fenced` when another was granted the lease since.
///
/// So fences are [best effort](crate::Fencing::BestEffort): a failover may forget a grant, and with it who was fenced.
///
/// A `maxmemory-policy` other than `noeviction` lets the server drop records; opening logs a warning then, where the
/// server tells.
///
/// # Who may do what
/// The least that a user of the server needs:
///
/// ```text
/// ACL SETUSER logd on >password ~logd:* resetchannels -@all +eval +evalsha +hmget +hget +hset +hincrby +hdel +get +set +del
///     +pttl +scan +select
/// ```
///
/// `+config|get` lets opening look at `maxmemory-policy`.
///
/// # TLS
/// With `rediss://`, the server's certificate must be for the host in the URL, and signed by the CA that is set, or by one
/// of the system's. Nothing turns that off. A process has one provider of cryptography for it: an application that wants
/// another than ring installs its own as rustls' default before it opens the store.
///
/// # Runtime
/// A tokio runtime, with its time and I/O. The connection lives in the runtime in which it was made, and is made anew in
/// another one.
///
/// # Cancel safety
/// Every future can be dropped. What was sent is done all the same, unless the server never gets it.
///
/// ```no_run
/// use logd_statehandlers::{Checkpoint, ConsumerKey, Fence, RedisState, StateHandler};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let state = RedisState::open("rediss://logd:password@redis.example:6379/0?ca=/etc/logd/ca.pem").await?;
/// let key = ConsumerKey::new("orders".parse()?, "billing")?;
/// state.complete(&key, &Checkpoint::at("60.12".parse()?), Fence::NONE).await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisState {
    connection: Connection,
}

impl RedisState {
    /// Connects to the server at a URL: `redis://user:password@host:6379/0`, or `rediss://…` with TLS. User, password, port and
    /// database can be left out. What is no letter or digit in user and password is percent-encoded. Behind a `?`:
    ///
    /// | parameter | what | default |
    /// |---|---|---|
    /// | `ca=path` | see [`RedisStateBuilder::ca_file`] | the system's |
    /// | `connect_timeout=500ms` | see [`RedisStateBuilder::connect_timeout`] | `3s` |
    /// | `response_timeout=5s` | see [`RedisStateBuilder::response_timeout`] | `3s` |
    ///
    /// # Errors
    /// As [`RedisStateBuilder::open`]. None tells the password.
    ///
    /// # Cancel safety
    /// Nothing is left behind when the future is dropped.
    pub async fn open(url: impl Into<String>) -> Result<Self, StateError> {
        Self::builder(url).open().await
    }

    /// Sets up more before opening.
    pub fn builder(url: impl Into<String>) -> RedisStateBuilder {
        RedisStateBuilder::new(url.into())
    }
}

impl fmt::Debug for RedisState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RedisState").field("url", &self.connection.url()).finish_non_exhaustive()
    }
}

/// Says so if the server may drop records when its memory is full. A server that does not tell is left alone.
async fn warn_of_eviction(connection: &Connection) {
    let question = {
        let mut question = cmd("CONFIG");
        question.arg("GET").arg("maxmemory-policy");
        question
    };
    let Ok(answer) = connection.send::<HashMap<String, String>>(Task::Open, &question).await else { return };
    let policy = answer.get("maxmemory-policy").map_or("noeviction", String::as_str);
    let url = connection.url();
    if policy.starts_with("allkeys-") {
        tracing::warn!(%url, %policy, "the server drops checkpoints when its memory is full: set `maxmemory-policy noeviction`");
    } else if policy != "noeviction" {
        tracing::warn!(%url, %policy, "the server ends leases early when its memory is full: set `maxmemory-policy noeviction`");
    }
}
