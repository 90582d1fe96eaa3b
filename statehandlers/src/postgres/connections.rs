//! Connections from the pool, each with a time by which its call must be done.
//!
//! A connection goes back to the pool only when the server has answered everything on it. One that is dropped before is
//! closed: a call that was given up, or a transaction within which a future was dropped, cannot hold up whoever has the
//! connection next, and the server rolls back what was not committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row, Transaction};

use super::failure::{self, Effect};
use crate::error::{StateError, StateErrorKind};

/// A parameter with its type.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

pub(super) fn text<T: ToSql + Sync>(value: &T) -> Parameter<'_> {
    (value, Type::TEXT)
}

/// A pool, and how long a call takes at most.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) pool: Pool,
    /// Whether the pool is closed with the handler.
    pub(super) is_ours: bool,
    pub(super) time_max: Duration,
    is_closed: AtomicBool,
}

impl Connections {
    pub(super) fn new(pool: Pool, is_ours: bool, time_max: Duration) -> Self {
        Self { pool, is_ours, time_max, is_closed: AtomicBool::new(false) }
    }

    /// A connection for one call, whose time begins now.
    pub(super) async fn connect(&self, what: String) -> Result<Connection, StateError> {
        if self.is_closed.load(Ordering::Acquire) {
            return Err(StateError::new(StateErrorKind::Invalid, "the handler is closed"));
        }
        let until = Instant::now() + self.time_max;
        match timeout_at(until, self.pool.get()).await {
            Ok(Ok(object)) => {
                Ok(Connection { object: Some(object), is_busy: false, until, time_max: self.time_max, what })
            }
            Ok(Err(error)) => Err(failure::of_pool(&what, error)),
            Err(_) => {
                let text = format!("{what}: there was no connection in time");
                Err(StateError::new(StateErrorKind::Unavailable, text))
            }
        }
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        if self.is_ours {
            self.pool.close();
        }
    }
}

/// A connection that one call has.
pub(super) struct Connection {
    /// Taken only when it is dropped.
    object: Option<Object>,
    /// Whether the server has something to answer, or is in a transaction.
    is_busy: bool,
    until: Instant,
    time_max: Duration,
    /// What the call is for, as the beginning of an error's text.
    pub(super) what: String,
}

impl Connection {
    pub(super) async fn query(
        &mut self,
        effect: Effect,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StateError> {
        self.run(effect, async |client: &Client| client.query_typed(statement, parameters).await).await
    }

    /// How many rows were changed.
    pub(super) async fn execute(
        &mut self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<u64, StateError> {
        self.run(Effect::Write, async |client: &Client| client.execute_typed(statement, parameters).await)
            .await
    }

    /// Runs statements without parameters, as one transaction.
    pub(super) async fn execute_all(&mut self, statements: &str) -> Result<(), StateError> {
        self.run(Effect::Write, async |client: &Client| client.batch_execute(statements).await).await
    }

    async fn run<T>(
        &mut self,
        effect: Effect,
        work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, StateError> {
        let Self { object: Some(object), is_busy, until, what, .. } = self else {
            return Err(failure::late(&self.what, effect));
        };
        *is_busy = true;
        let Ok(done) = timeout_at(*until, work(object)).await else {
            return Err(failure::late(what, effect));
        };
        *is_busy = done.as_ref().is_err_and(failure::spoils_connection);
        done.map_err(|error| failure::of_statement(what, error, effect))
    }

    /// Begins a transaction, which has as much time as it needs. The connection is closed unless
    /// [`Connection::settled`] is called behind it.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_>, StateError> {
        let Self { object: Some(object), is_busy, until, what, .. } = self else {
            return Err(failure::late(&self.what, Effect::None));
        };
        *is_busy = true;
        let client: &mut Client = &mut *object;
        match timeout_at(*until, client.transaction()).await {
            Ok(Ok(transaction)) => Ok(transaction),
            Ok(Err(error)) => Err(failure::of_statement(what, error, Effect::None)),
            Err(_) => Err(failure::late(what, Effect::None)),
        }
    }

    /// How long a step of a transaction takes at most.
    pub(super) const fn time_max(&self) -> Duration {
        self.time_max
    }

    /// The transaction that was begun has ended.
    pub(super) const fn settled(&mut self) {
        self.is_busy = false;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && self.is_busy
        {
            drop(Object::take(object));
        }
    }
}
