//! The requests, each one statement that does all of it or nothing.
//!
//! A statement that changes no row was refused by its conditions. Why is then read, and told by the rules that all
//! handlers share; if by these it should not have been refused, somebody has changed the record in between, and it is
//! tried again.

use std::time::Duration;

use tokio_postgres::Transaction;
use tokio_postgres::types::Type;

use super::connections::{Connection, Connections, text};
use super::failure::{self, Effect};
use super::row::{self, Stored};
use super::sql::{self, Parameters};
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{Claim, Committed, Grant, StateEntry};
use crate::key::ConsumerKey;
use crate::position::Position;
use crate::record::{Record, what};
use crate::token::Token;

/// How often a request is tried whose record others change in between.
const TRIES_MAX: usize = 4;
/// The longest lease: what a clock of the server's can certainly be added to.
const TTL_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// What a name in the database cannot have.
const NUL: char = '\0';

fn to_be_read(key: &ConsumerKey) -> String {
    format!("the checkpoint of `{key}` cannot be read")
}

fn parameters(key: &ConsumerKey, checkpoint: &Checkpoint, fence: Fence) -> Result<Parameters, StateError> {
    Parameters::with(key, checkpoint, fence, None).map_err(|error| row::invalid(&what(key), error))
}

fn names(key: &ConsumerKey) -> [&str; 3] {
    [key.namespace(), key.topic().as_str(), key.consumer()]
}

fn milliseconds(key: &ConsumerKey, ttl: Duration) -> Result<i64, StateError> {
    if ttl.is_zero() {
        let text = format!("{}: a lease cannot be for `{ttl:?}`", what(key));
        return Err(StateError::new(StateErrorKind::Invalid, text));
    }
    // Below a millisecond, one.
    Ok(i64::try_from(ttl.min(TTL_MAX).as_millis()).unwrap_or(i64::MAX).max(1))
}

pub(super) async fn get(
    connections: &Connections,
    key: &ConsumerKey,
) -> Result<Option<Checkpoint>, StateError> {
    let mut connection = connections.connect(to_be_read(key)).await?;
    read(&mut connection, sql::READ, key).await?.map_or(Ok(None), |stored| stored.checkpoint)
}

pub(super) async fn settled(
    connections: &Connections,
    key: &ConsumerKey,
    fence: Fence,
) -> Result<Option<Checkpoint>, StateError> {
    let mut connection = connections.connect(to_be_read(key)).await?;
    let stored = read(&mut connection, sql::READ_SETTLED, key).await?;
    let (record, existed) = existing(stored)?;
    // Whoever may write again what is stored has not lost its fence.
    if let Some(stored) = &record.checkpoint {
        record.clone().complete(key, stored, fence, existed)?;
    } else if record.fence != fence {
        return Err(if existed { StateError::fenced(what(key)) } else { StateError::lost(what(key)) });
    }
    Ok(record.checkpoint)
}

async fn read(
    connection: &mut Connection,
    statement: &str,
    key: &ConsumerKey,
) -> Result<Option<Stored>, StateError> {
    let ([namespace, topic, consumer], what) = (names(key), connection.what.clone());
    let names = [text(&namespace), text(&topic), text(&consumer)];
    let rows = connection.query(Effect::None, statement, &names).await?;
    rows.first().map(|row| Stored::read(&what, row)).transpose()
}

fn existing(stored: Option<Stored>) -> Result<(Record, bool), StateError> {
    stored.map_or_else(|| Ok((Record::default(), false)), |stored| Ok((stored.record()?, true)))
}

/// The record that has refused a request, as the rules see it, and whether there is one.
async fn refusing(connection: &mut Connection, key: &ConsumerKey) -> Result<(Record, bool), StateError> {
    existing(read(connection, sql::READ, key).await?)
}

fn too_busy(key: &ConsumerKey) -> StateError {
    let text = format!("{}: others change it all the time", what(key));
    StateError::new(StateErrorKind::Unavailable, text)
}

pub(super) async fn complete(
    connections: &Connections,
    key: &ConsumerKey,
    checkpoint: &Checkpoint,
    fence: Fence,
) -> Result<Committed, StateError> {
    let p = parameters(key, checkpoint, fence)?;
    let mut connection = connections.connect(what(key)).await?;
    for _ in 0..TRIES_MAX {
        let new = [
            text(&p.namespace),
            text(&p.topic),
            text(&p.consumer),
            text(&p.offset),
            text(&p.delta),
            (&p.body, Type::BYTEA),
            text(&p.epoch),
            text(&p.nonce),
        ];
        let changed = match (fence == Fence::NONE, new.split_at_checked(6)) {
            (true, Some((unfenced, _))) => connection.execute(sql::COMPLETE_UNFENCED, unfenced).await?,
            _ => connection.execute(sql::COMPLETE, &new).await?,
        };
        if changed > 0 {
            return Ok(Committed::Stored);
        }
        let (mut record, existed) = refusing(&mut connection, key).await?;
        if record.complete(key, checkpoint, fence, existed)? == Committed::Unchanged {
            return Ok(Committed::Unchanged);
        }
    }
    Err(too_busy(key))
}

pub(super) async fn start(
    connections: &Connections,
    key: &ConsumerKey,
    claimant: &Claimant,
    ttl: Duration,
) -> Result<Claim, StateError> {
    let lasting = milliseconds(key, ttl)?;
    let owner = claimant.name.replace(NUL, "\u{fffd}");
    let ([namespace, topic, consumer], owner_id) = (names(key), format!("{:032x}", claimant.id));
    let mut connection = connections.connect(what(key)).await?;
    for _ in 0..TRIES_MAX {
        // Its epoch is the record's matter.
        let fence = Fence::next(0).unwrap_or_default();
        let nonce = sql::nonce(fence);
        let claim = [
            text(&namespace),
            text(&topic),
            text(&consumer),
            text(&nonce),
            text(&owner),
            text(&owner_id),
            (&lasting, Type::INT8),
        ];
        let rows = connection.query(Effect::Write, sql::START, &claim).await?;
        if let Some(granted) = rows.first() {
            let what = &connection.what;
            let fence = Fence { epoch: row::epoch(what, granted, 0)?, ..fence };
            let body: Option<Vec<u8>> = row::column(what, granted, 1)?;
            let checkpoint = body.map(|body| row::checkpoint(what, &body)).transpose()?;
            return Ok(Claim::Granted(Grant { fence, checkpoint }));
        }
        let (mut record, _) = refusing(&mut connection, key).await?;
        // Its lease ends as many milliseconds after zero as it has left.
        let claim = record.start(key, claimant, None, 0)?;
        if matches!(claim, Claim::Processing { .. }) {
            return Ok(claim);
        }
    }
    Err(too_busy(key))
}

pub(super) async fn renew(
    connections: &Connections,
    key: &ConsumerKey,
    fence: Fence,
    ttl: Duration,
) -> Result<(), StateError> {
    let lasting = milliseconds(key, ttl)?;
    let ([namespace, topic, consumer], epoch, nonce) =
        (names(key), fence.epoch.to_string(), sql::nonce(fence));
    let mut connection = connections.connect(what(key)).await?;
    for _ in 0..TRIES_MAX {
        let lease = [
            text(&namespace),
            text(&topic),
            text(&consumer),
            text(&epoch),
            text(&nonce),
            (&lasting, Type::INT8),
        ];
        if connection.execute(sql::RENEW, &lease).await? > 0 {
            return Ok(());
        }
        let (mut record, existed) = refusing(&mut connection, key).await?;
        record.renew(key, fence, None, existed)?;
    }
    Err(too_busy(key))
}

pub(super) async fn release(
    connections: &Connections,
    key: &ConsumerKey,
    fence: Fence,
    last: Option<&Checkpoint>,
) -> Result<(), StateError> {
    if fence.is_none() {
        return Err(StateError::fenced(what(key)));
    }
    // Without a last checkpoint, only the names and the fence count.
    let p = parameters(key, last.unwrap_or(&Checkpoint::default()), fence)?;
    let mut connection = connections.connect(what(key)).await?;
    for _ in 0..TRIES_MAX {
        let names = [text(&p.namespace), text(&p.topic), text(&p.consumer)];
        let new = [text(&p.offset), text(&p.delta), (&p.body, Type::BYTEA)];
        let held = [text(&p.epoch), text(&p.nonce)];
        match last {
            None => {
                if connection.execute(sql::RELEASE, &[&names[..], &held].concat()).await? > 0 {
                    return Ok(());
                }
            }
            Some(last) => {
                let all = [&names[..], &new, &held].concat();
                let rows = connection.query(Effect::Write, sql::RELEASE_WITH, &all).await?;
                if let Some(stored) = rows.first() {
                    return is_last(&connection.what, stored, last.next);
                }
            }
        }
        let (mut record, existed) = refusing(&mut connection, key).await?;
        record.release(key, fence, last, existed)?;
    }
    Err(too_busy(key))
}

/// Fails where the store was further on than the last checkpoint.
fn is_last(what: &str, row: &tokio_postgres::Row, last: Position) -> Result<(), StateError> {
    let number = |index| row::column::<String>(what, row, index);
    let text = format!("{}.{}", number(0)?, number(1)?);
    match text.parse::<Position>() {
        Ok(stored) if stored == last => Ok(()),
        Ok(stored) => Err(StateError::stale(what, stored)),
        Err(error) => Err(StateError::caused(StateErrorKind::Corrupt, what, error)),
    }
}

pub(super) async fn list(connections: &Connections) -> Result<Vec<StateEntry>, StateError> {
    let mut connection = connections.connect("the checkpoints cannot be listed".into()).await?;
    let rows = connection.query(Effect::None, sql::LIST, &[]).await?;
    rows.iter().map(|row| Ok(Stored::read(&connection.what, row)?.entry())).collect()
}

pub(super) async fn reset(
    connections: &Connections,
    key: &ConsumerKey,
    checkpoint: &Checkpoint,
) -> Result<(), StateError> {
    let p = parameters(key, checkpoint, Fence::NONE)?;
    let nonce = sql::nonce(Fence::next(0).unwrap_or_default());
    let mut connection = connections.connect(what(key)).await?;
    let new = [
        text(&p.namespace),
        text(&p.topic),
        text(&p.consumer),
        text(&p.offset),
        text(&p.delta),
        (&p.body, Type::BYTEA),
        text(&nonce),
    ];
    if connection.execute(sql::RESET, &new).await? > 0 {
        return Ok(());
    }
    Err(StateError::new(StateErrorKind::Failed, format!("{}: no epoch is left", what(key))))
}

pub(super) async fn delete(connections: &Connections, key: &ConsumerKey) -> Result<bool, StateError> {
    let [namespace, topic, consumer] = names(key);
    let mut connection = connections.connect(what(key)).await?;
    let names = [text(&namespace), text(&topic), text(&consumer)];
    Ok(connection.execute(sql::DELETE, &names).await? > 0)
}

pub(super) async fn complete_in(
    transaction: &Transaction<'_>,
    token: &Token,
    checkpoint: &Checkpoint,
) -> Result<Token, StateError> {
    let what = what(&token.key);
    if let Some(expected) = token.expected.filter(|expected| *expected > checkpoint.next) {
        return Err(StateError::stale(what, expected));
    }
    let p = Parameters::new(token, checkpoint).map_err(|error| row::invalid(&what, error))?;
    let all = [
        text(&p.namespace),
        text(&p.topic),
        text(&p.consumer),
        text(&p.offset),
        text(&p.delta),
        (&p.body, Type::BYTEA),
        text(&p.epoch),
        text(&p.nonce),
        text(&p.expected_offset),
        text(&p.expected_delta),
    ];
    // Whatever has become of the statement, without a commit it is nothing.
    let changed = transaction.execute_typed(sql::COMPLETE_IN, &all).await;
    match changed.map_err(|error| failure::of_statement(&what, error, Effect::None))? {
        0 => Err(StateError::fenced(what)),
        _ => Ok(token.advanced(checkpoint.next)),
    }
}
