//! Rows of the table as records.

use tokio_postgres::Row;
use tokio_postgres::types::FromSqlOwned;

use crate::body::BodyError;
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::StateEntry;
use crate::key::ConsumerKey;
use crate::record::{Lease, Record};

/// A row that [`READ`](super::sql::READ) gives.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) key: ConsumerKey,
    pub(super) checkpoint: Result<Option<Checkpoint>, StateError>,
    fence: Fence,
    lease: Option<Lease>,
}

impl Stored {
    pub(super) fn read(what: &str, row: &Row) -> Result<Self, StateError> {
        let name = |index| column::<String>(what, row, index);
        let key = name(1)?
            .parse()
            .map_err(|_| ())
            .and_then(|topic| ConsumerKey::new(topic, name(2).unwrap_or_default()).map_err(|_| ()))
            .and_then(|key| key.in_namespace(name(0).unwrap_or_default()).map_err(|_| ()))
            .map_err(|()| corrupt(what, "its names are those of no reader"))?;
        let body: Option<Vec<u8>> = column(what, row, 3)?;
        let is_sound: bool = column(what, row, 4)?;
        let checkpoint = match body {
            None => Ok(None),
            Some(body) if is_sound => checkpoint(what, &body).map(Some),
            Some(_) => Err(corrupt(what, "the record is damaged")),
        };
        let fence = Fence { epoch: epoch(what, row, 5)?, nonce: nonce(what, row, 6)? };
        let left: Option<i64> = column(what, row, 9)?;
        let lease = match left {
            None => None,
            Some(left) => {
                let id: Option<String> = column(what, row, 8)?;
                let name: Option<String> = column(what, row, 7)?;
                let owner = Claimant {
                    name: name.unwrap_or_default(),
                    id: hex(&id.unwrap_or_default()).unwrap_or(0),
                };
                Some(Lease { owner, until: Some(u64::try_from(left).unwrap_or(0)) })
            }
        };
        Ok(Self { key, checkpoint, fence, lease })
    }

    /// The record, whose lease ends as many milliseconds after zero as it has left.
    pub(super) fn record(self) -> Result<Record, StateError> {
        let Self { checkpoint, fence, lease, .. } = self;
        Ok(Record { checkpoint: checkpoint?, fence, lease })
    }

    pub(super) fn entry(self) -> StateEntry {
        let Self { key, checkpoint, fence, lease } = self;
        let held = lease.filter(|lease| lease.until.is_some_and(|left| left > 0));
        StateEntry { key, checkpoint, epoch: fence.epoch, owner: held.map(|lease| lease.owner.name) }
    }
}

pub(super) fn checkpoint(what: &str, body: &[u8]) -> Result<Checkpoint, StateError> {
    Checkpoint::decode(body).map_err(|error| StateError::body(what, error))
}

/// A checkpoint that cannot be stored: the caller's fault, whatever is wrong with it.
pub(super) fn invalid(what: &str, error: BodyError) -> StateError {
    StateError::caused(StateErrorKind::Invalid, what, error)
}

pub(super) fn epoch(what: &str, row: &Row, index: usize) -> Result<u64, StateError> {
    column::<String>(what, row, index)?.parse().map_err(|_| corrupt(what, "its epoch is none"))
}

fn nonce(what: &str, row: &Row, index: usize) -> Result<u128, StateError> {
    hex(&column::<String>(what, row, index)?).ok_or_else(|| corrupt(what, "its nonce is none"))
}

fn hex(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}

pub(super) fn column<T: FromSqlOwned>(what: &str, row: &Row, index: usize) -> Result<T, StateError> {
    let refuse =
        |error| StateError::caused(StateErrorKind::Failed, format!("{what}: the table is another"), error);
    row.try_get(index).map_err(refuse)
}

fn corrupt(what: &str, why: &str) -> StateError {
    StateError::new(StateErrorKind::Corrupt, format!("{what}: {why}"))
}
