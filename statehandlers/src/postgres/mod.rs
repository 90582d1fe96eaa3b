//! Checkpoints in PostgreSQL, beside the user's own data or apart from it.
//!
//! One table has a row for each key, with its checkpoint and its lease. Every request is one statement, so it is done
//! or it is not, whenever its future is dropped or its connection is lost; only the server's clock counts.
//!
//! - `options`: URLs, and what `sslmode` means
//! - `tls`: what is asked of a server's certificate
//! - `builder`: settings, and the pool of connections
//! - `connections`: a connection for the time of a call
//! - [`sql`]: the statements
//! - `store`: the requests
//! - `row`: rows as records
//! - `failure`: what the server says, as errors that tell what to do

mod builder;
mod connections;
mod failure;
mod options;
mod row;
pub mod sql;
mod store;
mod tls;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
pub use deadpool_postgres;
use deadpool_postgres::Pool;
use tokio::time::timeout;
pub use tokio_postgres;
use tokio_postgres::Transaction;

pub use self::builder::PostgresBuilder;
use self::connections::{Connection, Connections};
use self::failure::Effect;
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{
    Capabilities, Claim, Committed, Fencing, LeaseHandler, StateAdmin, StateEntry, StateHandler,
};
use crate::key::ConsumerKey;
use crate::record::what;
use crate::token::Token;

/// Which migration is under way, among all users of the database: the bytes `logdchkp`.
const MIGRATION_LOCK: i64 = 0x6c6f_6764_6368_6b70;

/// Keeps checkpoints in a PostgreSQL database.
///
/// # Encryption
/// `sslmode` in the URL has the meaning that it has for the standard client, and is never weakened:
///
/// | `sslmode` | encrypted | the server's certificate |
/// |---|---|---|
/// | `disable` | never | |
/// | `prefer` (the default) | if the server can; nobody who sits in between is noticed | is not checked |
/// | `require` | always | is not checked, unless there is an `sslrootcert` |
/// | `verify-ca` | always | must be vouched for by an authority |
/// | `verify-full` | always | must be that, and have the host's name or address |
///
/// The authorities are those of the file `sslrootcert=path` (PEM), or those that the system trusts. Through a
/// socket's file (`?host=/run/postgresql`), nothing is encrypted. Certificates of clients are not supported.
///
/// # Durability
/// What was reported as stored survives a kill of the client and the server, and a loss of power, as far as the
/// server is set up for it (`fsync`, `full_page_writes`; for standbys, `synchronous_standby_names`). A failover to a
/// standby that has missed the last commits forgets them, and grants: fences are strict only where the standby is
/// synchronous.
/// `synchronous_commit` is set to `on` in connections of our own; in a pool of yours, see to it.
///
/// # Poolers
/// No statement is prepared by name, and nothing is kept in a session, so that `PgBouncer` can be in between in any
/// mode. Connections of our own set limits for the server at their start (`options`), which it must ignore
/// (`ignore_startup_parameters = options`), or use [`PostgresState::with_pool`].
///
/// # Privileges
/// `SELECT`, `INSERT`, `UPDATE` and `DELETE` on the table, and `CREATE` on its schema for the one who makes it. The
/// database's encoding is best UTF-8: in others, some names cannot be stored.
///
/// ```no_run
/// use logd_statehandlers::{Checkpoint, ConsumerKey, Fence, PostgresState, StateHandler};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let state = PostgresState::open("postgres://billing:secret@db.example/shop?sslmode=verify-full").await?;
/// let key = ConsumerKey::new("orders".parse()?, "billing")?;
/// state.complete(&key, &Checkpoint::at("60.12".parse()?), Fence::NONE).await?;
/// assert_eq!(state.get(&key).await?, Some(Checkpoint::at("60.12".parse()?)));
/// # Ok(())
/// # }
/// ```
pub struct PostgresState {
    connections: Connections,
    /// The database, for people; without a password.
    name: String,
}

impl fmt::Debug for PostgresState {
    /// Without the pool, whose own text has the settings of its connections.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PostgresState")
            .field("database", &self.name)
            .field("timeout", &self.connections.time_max)
            .finish_non_exhaustive()
    }
}

impl PostgresState {
    /// Opens the store in the database that a URL names, with the default settings; the table is made if it is not
    /// there.
    ///
    /// # Errors
    /// As [`PostgresBuilder::open`].
    ///
    /// # Cancel safety
    /// As [`PostgresBuilder::open`].
    pub async fn open(url: &str) -> Result<Self, StateError> {
        Self::builder(url).open().await
    }

    /// Settings to open the database with that a URL names.
    pub fn builder(url: impl Into<String>) -> PostgresBuilder {
        PostgresBuilder::new(url.into())
    }

    /// A store that uses a pool of yours, and does not close it. Nothing is connected, and no table is made:
    /// [`PostgresState::migrate`] does that. A call takes at most `timeout`, from [`PostgresBuilder::TIMEOUT_MIN`] to
    /// [`PostgresBuilder::TIMEOUT_MAX`]; connections whose answer does not come in time are taken out of the pool.
    ///
    /// # Errors
    /// [`StateErrorKind::Invalid`] when the timeout is out of bounds.
    pub fn with_pool(pool: Pool, timeout: Duration) -> Result<Self, StateError> {
        let connections = Connections::new(pool, false, builder::checked(timeout)?);
        Ok(Self::new(connections, "of a pool".into()))
    }

    fn new(connections: Connections, name: String) -> Self {
        Self { connections, name }
    }

    /// Makes the table, or adds to it what a later version needs; what is there stays. Any number of programs can do
    /// it at once. Where nothing is missing, it needs no right to make tables.
    ///
    /// # Errors
    /// [`StateErrorKind::Failed`] when it is not allowed, or there is a table of the same name that is another;
    /// others, by what can be done about it.
    ///
    /// # Cancel safety
    /// When the future is dropped, it may be done all the same.
    pub async fn migrate(&self) -> Result<(), StateError> {
        let mut connection = self.connections.connect("the table was not made".into()).await?;
        if is_complete(&mut connection).await? {
            return Ok(());
        }
        // Statements that are sent as one are one transaction; the lock ends with it.
        let lock = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})");
        connection.execute_all(&format!("{lock}; {}", sql::CREATE_TABLE)).await?;
        if is_complete(&mut connection).await? {
            return Ok(());
        }
        let text = format!("{}: the table `{}` is there, and another", connection.what, sql::TABLE);
        Err(StateError::new(StateErrorKind::Failed, text))
    }

    /// Stores a checkpoint within a transaction of yours, if the record still is as the token says. Gives the token
    /// to go on with once that transaction is committed; until then, and after a rollback, the old one is right.
    ///
    /// No lease has to be valid for it, and no clock right: whoever takes the lease over waits until your transaction
    /// has ended, and goes on behind it; and whoever was replaced has no row that it could change, and its results
    /// are rolled back with it. It waits for others as long as your connection does (`lock_timeout`).
    ///
    /// A record must be there: a lease makes it, and so does [`StateHandler::complete`]. Store the checkpoint last:
    /// when a statement of a transaction has failed, whose error was ignored, then so does this, whereas the driver's
    /// `commit` rolls back without a word.
    ///
    /// # Errors
    /// After any of them the transaction must be rolled back.
    /// - [`StateErrorKind::Fenced`] when the fence, or the stored position, is not that of the token, or the record is gone
    ///   or cannot be read
    /// - [`StateErrorKind::Stale`] when the checkpoint is behind the position of the token
    /// - [`StateErrorKind::Invalid`] when it cannot be stored
    /// - other kinds, by what can be done about it; none is ambiguous
    ///
    /// # Cancel safety
    /// When the future is dropped, it is open whether the transaction has the checkpoint: roll it back.
    ///
    /// ```no_run
    /// use logd_statehandlers::{Checkpoint, PostgresState, Token};
    /// use logd_statehandlers::postgres::tokio_postgres::Client;
    ///
    /// # async fn example(state: &PostgresState, shop: &mut Client, mut token: Token)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// let tx = shop.transaction().await?;
    /// tx.execute("INSERT INTO sums VALUES (7)", &[]).await?;
    /// let next = state.complete_in(&tx, &token, &Checkpoint::at("60.12".parse()?)).await?;
    /// if let Err(error) = tx.commit().await {
    ///     // It may be committed: the record says so.
    ///     let stored = state.resync(&token.key, token.fence).await?.map(|checkpoint| checkpoint.next);
    ///     if stored != next.expected {
    ///         return Err(error.into());
    ///     }
    /// }
    /// token = next;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn complete_in(
        &self,
        transaction: &Transaction<'_>,
        token: &Token,
        checkpoint: &Checkpoint,
    ) -> Result<Token, StateError> {
        store::complete_in(transaction, token, checkpoint).await
    }

    /// Runs a closure in a transaction on a connection of the store's, stores the checkpoint behind it, and commits.
    /// Gives what the closure gave, and the token to go on with. The closure has as much time as it takes; if it
    /// waits for a minute between two statements, the server ends the transaction. It must not end the transaction
    /// itself.
    ///
    /// # Errors
    /// The closure's own, or that of [`PostgresState::complete_in`] or of the commit; nothing was changed, unless it is
    /// [`StateErrorKind::Ambiguous`]: then [`PostgresState::resync`] tells.
    ///
    /// # Cancel safety
    /// When the future is dropped, the whole transaction is done, or nothing of it.
    pub async fn with_tx<T, E>(
        &self,
        token: &Token,
        checkpoint: &Checkpoint,
        work: impl AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<(T, Token), E>
    where
        E: From<StateError>,
    {
        let mut connection = self.connections.connect(what(&token.key)).await?;
        let (what, time_max) = (connection.what.clone(), connection.time_max());
        let transaction = connection.begin().await?;
        // Each `?` drops the transaction, and the connection, which ends it.
        let done = work(&transaction).await?;
        let storing = timeout(time_max, store::complete_in(&transaction, token, checkpoint)).await;
        let next = storing.map_err(|_| failure::late(&what, Effect::None))??;
        let committed = timeout(time_max, transaction.commit()).await;
        committed
            .map_err(|_| failure::late(&what, Effect::Write))?
            .map_err(|error| failure::of_statement(&what, error, Effect::Write))?;
        connection.settled();
        Ok((done, next))
    }

    /// The stored checkpoint, once no transaction is open that has written it: after a commit whose answer was lost,
    /// this tells for sure whether it was done. The fence is that of the commit.
    ///
    /// # Errors
    /// - [`StateErrorKind::Fenced`] or [`StateErrorKind::Lost`] when the fence is not that of the record any more, or it is
    ///   gone: whether the commit was done or not, somebody else goes on from there
    /// - [`StateErrorKind::Unavailable`] when the database cannot be asked, or the transaction is still open: ask again
    /// - other kinds, as [`StateHandler::get`]
    pub async fn resync(&self, key: &ConsumerKey, fence: Fence) -> Result<Option<Checkpoint>, StateError> {
        store::settled(&self.connections, key, fence).await
    }
}

async fn is_complete(connection: &mut Connection) -> Result<bool, StateError> {
    let rows = connection.query(Effect::None, sql::COUNT_COLUMNS, &[]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    Ok(row::column::<i64>(&connection.what, row, 0)? == sql::COLUMNS)
}

#[async_trait]
impl StateHandler for PostgresState {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        store::get(&self.connections, key).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        store::complete(&self.connections, key, checkpoint, fence).await
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
        self.connections.close();
        Ok(())
    }
}

#[async_trait]
impl LeaseHandler for PostgresState {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        store::start(&self.connections, key, claimant, ttl).await
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        store::renew(&self.connections, key, fence, ttl).await
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        store::release(&self.connections, key, fence, last).await
    }
}

#[async_trait]
impl StateAdmin for PostgresState {
    async fn list(&self) -> Result<Vec<StateEntry>, StateError> {
        store::list(&self.connections).await
    }

    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        store::reset(&self.connections, key, checkpoint).await
    }

    async fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError> {
        store::delete(&self.connections, key).await
    }
}
