//! Checkpoints in a table of a database in SQLite, also within transactions of the user's.
//!
//! - `builder`: settings, and how a database is opened
//! - `worker`: the thread that owns the connection, and the queue in front of it
//! - `store`: the requests, as blocking calls, and their transactions
//! - `row`: a row as a record, and back
//! - [`sql`]: the statements, for users of other libraries
//! - `place`: whether the file still is the one that was opened
//! - `failure`: what SQLite's errors mean

mod builder;
mod failure;
mod place;
mod row;
pub mod sql;
mod store;
#[cfg(test)]
mod tests;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
/// The library whose connections and transactions are meant here, in the version that this crate is built with.
pub use rusqlite;
use rusqlite::{Connection, Transaction};

pub use self::builder::SqliteBuilder;
use self::failure::invalid;
use self::store::{Shared, Store};
use self::worker::Worker;
use crate::checkpoint::Checkpoint;
use crate::error::StateError;
use crate::fence::{Claimant, Fence};
use crate::handler::{
    Capabilities, Claim, Committed, Fencing, LeaseHandler, StateAdmin, StateEntry, StateHandler,
};
use crate::key::ConsumerKey;
use crate::record::what;
use crate::token::Token;

/// Keeps checkpoints in a table of a database in SQLite.
///
/// # Durability
/// What was reported as stored is synced: it survives a kill of the process, and a loss of power as far as the disk keeps
/// what it says it has synced. A commit that failed while it was synced is ambiguous; repeating the request then writes it
/// again, also where it seems to be there.
///
/// # Leases
/// A lease ends by the clock of the machine, which all that use the database share. Where that clock is set forward,
/// leases end early, and where it is set back, they last longer by as much, also across a restart of the machine;
/// [`StateAdmin::reset`] frees one. Fences do not depend on any clock, and are strict.
///
/// # Exactly once
/// [`SqliteState::with_tx`] has the handler's connection write the user's results and the checkpoint in one transaction;
/// [`SqliteState::complete_in`] writes the checkpoint within a transaction on a connection of the user's to the same
/// database, and [`sql::COMPLETE_IN`] is the statement for any other library. None of them looks at the lease: who took
/// over has another fence, and finds what was committed, as it has waited for the transaction to end.
///
/// # Sharing
/// Any number of handlers and processes of one machine can use a database at once, but not over a network file system,
/// where its locks may not hold. Within a process all connections must be of one copy of SQLite, which cargo sees to.
/// A request that waits for others to end their transactions, for at most the busy timeout, makes those behind it wait.
///
/// # Damage
/// A record that was changed, or is of a later version, is an error, and stays as it is; [`StateAdmin::reset`] and
/// [`StateAdmin::delete`] replace it, and nothing else does. A database that was removed or replaced while it is open is
/// an error from then on, until it is opened again. One that is absent or empty when it is opened is made, unless
/// [`SqliteBuilder::create`] says not to.
///
/// # Runtime
/// The connection has a thread of its own; no async runtime is needed.
///
/// ```
/// use logd_statehandlers::{Checkpoint, ConsumerKey, Fence, SqliteState, StateHandler};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("state.db");
/// # runtime.block_on(async {
/// let state = SqliteState::open(path).await?;
/// let key = ConsumerKey::new("orders".parse()?, "billing")?;
/// assert_eq!(state.get(&key).await?, None);
/// state.complete(&key, &Checkpoint::at("60.12".parse()?), Fence::NONE).await?;
/// assert_eq!(state.get(&key).await?, Some(Checkpoint::at("60.12".parse()?)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SqliteState {
    worker: Worker,
    shared: Arc<Shared>,
}

impl SqliteState {
    /// Opens the database at a path with the default settings; it is made if it is not there.
    ///
    /// # Errors
    /// As [`SqliteBuilder::open`].
    ///
    /// # Cancel safety
    /// When the future is dropped, the database may be made all the same.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        Self::builder().open(path).await
    }

    /// Settings to open a database with, or to take a connection.
    pub fn builder() -> SqliteBuilder {
        SqliteBuilder::new()
    }

    /// Stores a checkpoint within the transaction that a connection of the user's is in, if the record still is as the
    /// token says. Gives the token to go on with once that transaction is committed; until then, and after a rollback, the
    /// old one is right.
    ///
    /// Begin the transaction with [`TransactionBehavior::Immediate`](rusqlite::TransactionBehavior::Immediate): a deferred
    /// one that has read before it writes fails as soon as anybody else has written, whatever the busy timeout. How durable
    /// the commit is depends on the `synchronous` of the user's connection; results and checkpoint share it.
    ///
    /// A record must be there: a lease makes it, and so does [`StateHandler::complete`].
    ///
    /// # Errors
    /// After any of them the transaction must be rolled back.
    /// - [`StateErrorKind::Fenced`](crate::StateErrorKind::Fenced) when the fence, or the stored position, is not that of the
    ///   token, or the record is gone: somebody else goes on
    /// - [`StateErrorKind::Stale`](crate::StateErrorKind::Stale) when the checkpoint is behind the position of the token
    /// - [`StateErrorKind::Invalid`](crate::StateErrorKind::Invalid) when the connection is in no transaction, or its main
    ///   database is another
    /// - other kinds, by what can be done about it
    ///
    /// ```
    /// use logd_statehandlers::sqlite::rusqlite::{Connection, TransactionBehavior};
    /// use logd_statehandlers::{Checkpoint, Claim, Claimant, ConsumerKey, LeaseHandler, SqliteState, StateHandler, Token};
    /// # use std::time::Duration;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// let mut shop = Connection::open(&path)?;
    /// shop.execute_batch("CREATE TABLE sums (sum INTEGER)")?;
    /// # runtime.block_on(async {
    /// let state = SqliteState::open(&path).await?;
    /// let key = ConsumerKey::new("orders".parse()?, "billing")?;
    /// let Claim::Granted(grant) = state.start(&key, &Claimant::new("me"), Duration::from_secs(30)).await? else {
    ///     panic!("somebody else reads")
    /// };
    /// let mut token = Token::new(key.clone(), &grant);
    ///
    /// let tx = shop.transaction_with_behavior(TransactionBehavior::Immediate)?;
    /// tx.execute("INSERT INTO sums VALUES (7)", [])?;
    /// let next = state.complete_in(&tx, &token, &Checkpoint::at("60.12".parse()?))?;
    /// tx.commit()?;
    /// token = next;
    ///
    /// assert_eq!(state.get(&key).await?.map(|checkpoint| checkpoint.next), token.expected);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn complete_in(
        &self,
        transaction: &Connection,
        token: &Token,
        checkpoint: &Checkpoint,
    ) -> Result<Token, StateError> {
        store::complete_in(transaction, &self.shared, token, checkpoint)
    }

    /// Has the handler's connection run a closure that writes results, and the checkpoint behind it, in one transaction,
    /// and commits. Gives what the closure gave, and the token to go on with.
    ///
    /// The closure runs on the handler's thread, and must not end the transaction itself. While it runs, all other requests
    /// of this handler wait; asking the handler something and waiting for the answer would wait for ever.
    ///
    /// # Errors
    /// The closure's own, or that of [`SqliteState::complete_in`] or of the commit; nothing was changed, unless it is
    /// [`StateErrorKind::Ambiguous`](crate::StateErrorKind::Ambiguous): then read the checkpoint to find out. Ambiguous as
    /// well is the answer when the closure panics, which changes nothing.
    ///
    /// # Cancel safety
    /// When the future is dropped, the whole transaction is done, or nothing of it.
    ///
    /// ```
    /// use logd_statehandlers::{Checkpoint, ConsumerKey, Fence, SqliteState, StateHandler, Token};
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("shop.db");
    /// # runtime.block_on(async {
    /// let state = SqliteState::open(path).await?;
    /// let key = ConsumerKey::new("orders".parse()?, "billing")?;
    /// let start = Checkpoint::at("0".parse()?);
    /// state.complete(&key, &start, Fence::NONE).await?;
    ///
    /// let token = Token { key, fence: Fence::NONE, expected: Some(start.next) };
    /// let next = Checkpoint::at("60.12".parse()?);
    /// let done = state.with_tx(&token, &next, |tx| {
    ///     tx.execute_batch("CREATE TABLE sums (sum INTEGER); INSERT INTO sums VALUES (7)")?;
    ///     Ok::<_, Box<dyn std::error::Error + Send + Sync>>(tx.changes())
    /// });
    /// let (changes, token) = done.await?;
    /// assert_eq!((changes, token.expected), (1, Some(next.next)));
    /// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// # }).unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn with_tx<T, E>(
        &self,
        token: &Token,
        checkpoint: &Checkpoint,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<(T, Token), E>
    where
        T: Send + 'static,
        E: From<StateError> + Send + 'static,
    {
        let (token, checkpoint) = (token.clone(), checkpoint.clone());
        self.worker.run(move |store| store.with_tx(&token, &checkpoint, work)).await?
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        self.worker.run(work).await?
    }
}

/// What could not be read again is not stored.
fn checked_body(key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<String, StateError> {
    let body = checkpoint.encode().map_err(|error| StateError::body(what(key), error))?;
    let refuse = |why: String| invalid(format!("{}: {why}", what(key)));
    Checkpoint::decode(&body).map_err(|error| refuse(error.to_string()))?;
    String::from_utf8(body).map_err(|error| refuse(error.to_string()))
}

fn check_ttl(key: &ConsumerKey, ttl: Duration) -> Result<(), StateError> {
    if ttl.is_zero() {
        Err(invalid(format!("{}: a lease cannot be for `{ttl:?}`", what(key))))
    } else {
        Ok(())
    }
}

#[async_trait]
impl StateHandler for SqliteState {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        let key = key.clone();
        self.run(move |store| store.get(&key)).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        checked_body(key, checkpoint)?;
        let (key, checkpoint) = (key.clone(), checkpoint.clone());
        self.run(move |store| {
            store.change(&key, |record, existed| record.complete(&key, &checkpoint, fence, existed))
        })
        .await
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_durable().with_fencing(Fencing::Strict).with_admin().with_transactions()
    }

    async fn close(&self) -> Result<(), StateError> {
        self.worker.close().await;
        Ok(())
    }
}

#[async_trait]
impl LeaseHandler for SqliteState {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        check_ttl(key, ttl)?;
        let (key, claimant) = (key.clone(), claimant.clone());
        self.run(move |store| store.start(&key, &claimant, ttl)).await
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        check_ttl(key, ttl)?;
        let key = key.clone();
        self.run(move |store| store.renew(&key, fence, ttl)).await
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        if let Some(last) = last {
            checked_body(key, last)?;
        }
        let (key, last) = (key.clone(), last.cloned());
        self.run(move |store| {
            store.change(&key, |record, existed| record.release(&key, fence, last.as_ref(), existed))
        })
        .await
    }
}

#[async_trait]
impl StateAdmin for SqliteState {
    async fn list(&self) -> Result<Vec<StateEntry>, StateError> {
        self.run(Store::list).await
    }

    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        checked_body(key, checkpoint)?;
        let (key, checkpoint) = (key.clone(), checkpoint.clone());
        self.run(move |store| store.reset(&key, &checkpoint)).await
    }

    async fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError> {
        let key = key.clone();
        self.run(move |store| store.delete(&key)).await
    }
}
