//! The store itself: blocking calls on one connection, by the thread that owns it.
//!
//! Whatever changes a record does so between `BEGIN IMMEDIATE` and `COMMIT`: nobody else, in this process or another,
//! writes between reading the record and writing it. A failure before the commit leaves everything as it was. A commit
//! that fails while writing or syncing is ambiguous; from then on until one succeeds, also what is there already is written
//! again, as it may be in memory only.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params_from_iter};

use super::failure::{invalid, refused, uncommitted, unknown};
use super::place::Place;
use super::row;
use super::sql::{Statements, complete_in_parameters};
use crate::body::BodyError;
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, StateEntry};
use crate::key::ConsumerKey;
use crate::record::{Record, what};
use crate::token::Token;

/// An open store.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) connection: Connection,
    shared: Arc<Shared>,
    /// A commit has failed such that nobody knows what the disk has.
    pub(super) is_suspect: bool,
}

/// What is known without the connection.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) statements: Statements,
    pub(super) place: Place,
}

impl Store {
    pub(super) fn new(connection: Connection, shared: Arc<Shared>) -> Self {
        Self { connection, shared, is_suspect: false }
    }

    pub(super) fn get(&mut self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        let what = || format!("the checkpoint of `{key}` cannot be read");
        let checkpoint = read_with(&self.connection, &self.shared, key, what, row::checkpoint)?.flatten();
        self.check_place(&what())?;
        Ok(checkpoint)
    }

    pub(super) fn start(
        &mut self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        self.change(key, |record, _| {
            // The time is read when nobody else writes, so that waiting for that takes nothing off the lease.
            let now = now();
            record.start(key, claimant, Some(until(now, ttl)), now)
        })
    }

    pub(super) fn renew(&mut self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        self.change(key, |record, existed| record.renew(key, fence, Some(until(now(), ttl)), existed))
    }

    /// Changes a record; the change is kept also where a part of it failed, but no record is made by a failure.
    pub(super) fn change<T>(
        &mut self,
        key: &ConsumerKey,
        change: impl FnOnce(&mut Record, bool) -> Result<T, StateError>,
    ) -> Result<T, StateError> {
        let is_suspect = self.is_suspect;
        self.write(key, |transaction, shared| {
            let stored = read_with(transaction, shared, key, || what(key), row::record)?;
            let existed = stored.is_some();
            let before = stored.unwrap_or_default();
            let mut record = before.clone();
            let result = change(&mut record, existed);
            let is_kept = existed || result.is_ok();
            if is_kept && (!existed || is_suspect || record != before) {
                store(transaction, shared, key, &record)?;
            }
            Ok(result)
        })?
    }

    pub(super) fn reset(&mut self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        self.write(key, |transaction, shared| {
            let readable = |row: &rusqlite::Row<'_>| Ok(row::fence(row).unwrap_or_else(|_| behind_all()));
            let fence = read_with(transaction, shared, key, || what(key), readable)?.unwrap_or_default();
            let mut record = Record { fence, ..Record::default() };
            record.reset(key, checkpoint)?;
            store(transaction, shared, key, &record)
        })
    }

    pub(super) fn delete(&mut self, key: &ConsumerKey) -> Result<bool, StateError> {
        self.write(key, |transaction, shared| {
            let count = transaction.execute(&shared.statements.delete, names(key));
            count.map(|count| count > 0).map_err(|error| refused(what(key), error))
        })
    }

    pub(super) fn list(&mut self) -> Result<Vec<StateEntry>, StateError> {
        let what = "the checkpoints cannot be listed";
        let now = now();
        let entry = |row: &rusqlite::Row<'_>| {
            let Some(key) = row::key(row) else { return Ok(None) };
            let unreadable =
                |error| StateError::body(format!("the checkpoint of `{key}` cannot be read"), error);
            let lease = row::lease(row).ok().flatten();
            Ok(Some(StateEntry {
                checkpoint: row::record(row).map(|record| record.checkpoint).map_err(unreadable),
                epoch: row::fence(row).unwrap_or_default().epoch,
                owner: lease
                    .filter(|lease| lease.until.is_none_or(|end| end > now))
                    .map(|lease| lease.owner.name),
                key,
            }))
        };
        let list = || -> rusqlite::Result<Vec<Option<StateEntry>>> {
            self.connection.prepare(&self.shared.statements.list)?.query_map([], entry)?.collect()
        };
        let mut entries: Vec<_> =
            list().map_err(|error| refused(what, error))?.into_iter().flatten().collect();
        self.check_place(what)?;
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(entries)
    }

    /// Has the user's closure write its results, and stores the checkpoint behind them.
    pub(super) fn with_tx<T, E: From<StateError>>(
        &mut self,
        token: &Token,
        checkpoint: &Checkpoint,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<(T, Token), E> {
        // The closure's own error is kept beside those of the store.
        let done = self.write(&token.key, |transaction, shared| {
            let value = match work(transaction) {
                Ok(value) => value,
                Err(error) => return Err(Undone::User(error)),
            };
            Ok((value, complete_in(transaction, shared, token, checkpoint)?))
        });
        done.map_err(|undone| match undone {
            Undone::User(error) => error,
            Undone::Store(error) => error.into(),
        })
    }

    /// Runs a transaction; it is rolled back when `work` fails or panics.
    fn write<T, E: From<StateError>>(
        &mut self,
        key: &ConsumerKey,
        work: impl FnOnce(&Transaction<'_>, &Shared) -> Result<T, E>,
    ) -> Result<T, E> {
        self.check_place(&what(key))?;
        if !self.connection.is_autocommit() {
            // An earlier one could not be rolled back.
            self.connection.execute_batch("ROLLBACK").map_err(|error| refused(what(key), error))?;
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| refused(what(key), error))?;
        let value = work(&transaction, &self.shared)?;
        if let Err(error) = transaction.commit() {
            let error = uncommitted(what(key), unknown(key), error);
            self.is_suspect |= error.is_ambiguous();
            return Err(error.into());
        }
        self.is_suspect = false;
        if let Err(gone) = self.shared.place.check() {
            let text = format!("{}: {gone}", unknown(key));
            return Err(StateError::new(StateErrorKind::Ambiguous, text).into());
        }
        Ok(value)
    }

    fn check_place(&self, what: &str) -> Result<(), StateError> {
        let failed = |gone| StateError::new(StateErrorKind::Failed, format!("{what}: {gone}"));
        self.shared.place.check().map_err(failed)
    }
}

/// Why a user's transaction was rolled back.
enum Undone<E> {
    User(E),
    Store(StateError),
}

impl<E> From<StateError> for Undone<E> {
    fn from(error: StateError) -> Self {
        Self::Store(error)
    }
}

/// Stores a checkpoint within a transaction that somebody else commits.
pub(super) fn complete_in(
    transaction: &Connection,
    shared: &Shared,
    token: &Token,
    checkpoint: &Checkpoint,
) -> Result<Token, StateError> {
    let key = &token.key;
    let parameters = complete_in_parameters(token, checkpoint)?;
    if transaction.is_autocommit() {
        return Err(invalid(format!("{}: the connection is in no transaction", what(key))));
    }
    if !transaction.path().is_some_and(|path| shared.place.is_at(Path::new(path))) {
        return Err(invalid(format!("{}: the transaction is one of another database", what(key))));
    }
    let count = transaction.execute(&shared.statements.complete_in, params_from_iter(parameters));
    match count.map_err(|error| refused(what(key), error))? {
        0 => {
            // What cannot be read is told as such.
            read_with(transaction, shared, key, || what(key), row::record)?;
            let text = format!(
                "{}: it is not what the token expects: it was reset, or somebody else has taken over",
                what(key)
            );
            Err(StateError::new(StateErrorKind::Fenced, text))
        }
        _ => Ok(token.advanced(checkpoint.next)),
    }
}

fn read_with<T>(
    connection: &Connection,
    shared: &Shared,
    key: &ConsumerKey,
    what: impl Fn() -> String,
    parse: impl FnOnce(&rusqlite::Row<'_>) -> Result<T, BodyError>,
) -> Result<Option<T>, StateError> {
    let row = connection.query_row(&shared.statements.read, names(key), |row| Ok(parse(row)));
    let parsed = row.optional().map_err(|error| refused(what(), error))?;
    parsed.transpose().map_err(|error| StateError::body(what(), error))
}

fn store(
    transaction: &Transaction<'_>,
    shared: &Shared,
    key: &ConsumerKey,
    record: &Record,
) -> Result<(), StateError> {
    let values = row::values(key, record).map_err(|error| StateError::body(what(key), error))?;
    let stored = transaction.execute(&shared.statements.store, params_from_iter(values));
    stored.map(|_| ()).map_err(|error| refused(what(key), error))
}

fn names(key: &ConsumerKey) -> [&str; 3] {
    [key.namespace(), key.topic().as_str(), key.consumer()]
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn until(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

/// In place of a fence that cannot be read: leases are granted less than once a second, so the time is behind them all.
fn behind_all() -> Fence {
    Fence { epoch: now() / 1000, nonce: 0 }
}
