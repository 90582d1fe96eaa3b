//! A row of the table as a record, and back. Whatever is not as it was written is corrupt, and never taken for absent.

use logd_protocol::{checksum, parse_u64};
use rusqlite::Row;
use rusqlite::types::{Value, ValueRef};

use crate::body::BodyError;
use crate::checkpoint::Checkpoint;
use crate::fence::{Claimant, Fence};
use crate::key::ConsumerKey;
use crate::position::Position;
use crate::record::{Lease, Record};

/// The columns, in the order of every statement that reads or writes whole rows.
const NAMESPACE: usize = 0;
const TOPIC: usize = 1;
const CONSUMER: usize = 2;
const NEXT_OFFSET: usize = 3;
const NEXT_DELTA: usize = 4;
const BODY: usize = 5;
const BODY_CRC: usize = 6;
const EPOCH: usize = 7;
const NONCE: usize = 8;
const OWNER: usize = 9;
const OWNER_ID: usize = 10;
const LEASE_UNTIL: usize = 11;

pub(super) fn record(row: &Row<'_>) -> Result<Record, BodyError> {
    Ok(Record { checkpoint: checkpoint(row)?, fence: fence(row)?, lease: lease(row)? })
}

/// `None` where the names are none of a key: nothing of ours.
pub(super) fn key(row: &Row<'_>) -> Option<ConsumerKey> {
    let name = |column| text(row, column).ok().flatten();
    let key = ConsumerKey::new(name(TOPIC)?.parse().ok()?, name(CONSUMER)?).ok()?;
    key.in_namespace(name(NAMESPACE)?).ok()
}

pub(super) fn checkpoint(row: &Row<'_>) -> Result<Option<Checkpoint>, BodyError> {
    let (offset, delta) = (text(row, NEXT_OFFSET)?, text(row, NEXT_DELTA)?);
    let (body, crc) = (bytes(row, BODY)?, number(row, BODY_CRC)?);
    let (offset, delta, body, crc) = match (offset, delta, body, crc) {
        (None, None, None, None) => return Ok(None),
        (Some(offset), Some(delta), Some(body), Some(crc)) => (offset, delta, body, crc),
        _ => return Err(corrupt("a part of it is null")),
    };
    if i64::from(checksum(body)) != crc {
        return Err(corrupt("its checksum is that of something else"));
    }
    let checkpoint = Checkpoint::decode(body)?;
    // As text: what is written otherwise is not found by those who compare it in SQL.
    if position(checkpoint.next) != (offset, delta) {
        return Err(corrupt(format!("its position is `{}`, and that of its row another", checkpoint.next)));
    }
    Ok(Some(checkpoint))
}

pub(super) fn fence(row: &Row<'_>) -> Result<Fence, BodyError> {
    match (text(row, EPOCH)?, text(row, NONCE)?) {
        (Some(epoch), Some(nonce)) => Ok(Fence { epoch: decimal(&epoch)?, nonce: hexadecimal(&nonce)? }),
        _ => Err(corrupt("its fence is null")),
    }
}

pub(super) fn lease(row: &Row<'_>) -> Result<Option<Lease>, BodyError> {
    match (text(row, OWNER)?, text(row, OWNER_ID)?, number(row, LEASE_UNTIL)?) {
        (None, None, None) => Ok(None),
        (Some(name), Some(id), Some(until)) => {
            let until = u64::try_from(until).map_err(|_| corrupt("its lease ends before 1970"))?;
            Ok(Some(Lease { owner: Claimant { name, id: hexadecimal(&id)? }, until: Some(until) }))
        }
        _ => Err(corrupt("a part of its lease is null")),
    }
}

/// The parameters that store a record.
pub(super) fn values(key: &ConsumerKey, record: &Record) -> Result<[Value; 12], BodyError> {
    let Record { checkpoint, fence, lease } = record;
    let null = || Value::Null;
    let [offset, delta, body, crc] = match checkpoint {
        None => [null(), null(), null(), null()],
        Some(checkpoint) => {
            let (body, (offset, delta)) = (encode(checkpoint)?, position(checkpoint.next));
            let crc = checksum(body.as_bytes());
            [offset.into(), delta.into(), body.into(), i64::from(crc).into()]
        }
    };
    let [owner, owner_id, until] = match lease {
        None => [null(), null(), null()],
        Some(Lease { owner: Claimant { name, id }, until }) => {
            // Later than any clock can say.
            let until = i64::try_from(until.unwrap_or(u64::MAX)).unwrap_or(i64::MAX);
            [name.clone().into(), nonce(*id).into(), until.into()]
        }
    };
    Ok([
        key.namespace().to_owned().into(),
        key.topic().as_str().to_owned().into(),
        key.consumer().to_owned().into(),
        offset,
        delta,
        body,
        crc,
        fence.epoch.to_string().into(),
        nonce(fence.nonce).into(),
        owner,
        owner_id,
        until,
    ])
}

fn encode(checkpoint: &Checkpoint) -> Result<String, BodyError> {
    String::from_utf8(checkpoint.encode()?).map_err(|_| corrupt("it is no text"))
}

pub(super) fn position(next: Position) -> (String, String) {
    (next.offset.to_string(), next.delta.to_string())
}

pub(super) fn nonce(number: u128) -> String {
    format!("{number:032x}")
}

fn corrupt(what: impl Into<String>) -> BodyError {
    BodyError::Corrupt { what: what.into() }
}

fn decimal(text: &str) -> Result<u64, BodyError> {
    let number = parse_u64(text.as_bytes()).ok().filter(|number| number.to_string() == text);
    number.ok_or_else(|| corrupt(format!("`{}` is no number", text.escape_debug())))
}

fn hexadecimal(text: &str) -> Result<u128, BodyError> {
    let number = u128::from_str_radix(text, 16).ok().filter(|number| nonce(*number) == text);
    number.ok_or_else(|| corrupt(format!("`{}` is no number of 32 hexadecimal digits", text.escape_debug())))
}

fn bytes<'row>(row: &'row Row<'_>, column: usize) -> Result<Option<&'row [u8]>, BodyError> {
    match row.get_ref(column) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(ValueRef::Text(bytes)) => Ok(Some(bytes)),
        _ => Err(corrupt(format!("its column `{column}` is no text"))),
    }
}

fn text(row: &Row<'_>, column: usize) -> Result<Option<String>, BodyError> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| corrupt("it is no UTF-8"));
    bytes(row, column)?.map(text).transpose()
}

fn number(row: &Row<'_>, column: usize) -> Result<Option<i64>, BodyError> {
    match row.get_ref(column) {
        Ok(ValueRef::Null) => Ok(None),
        Ok(ValueRef::Integer(number)) => Ok(Some(number)),
        _ => Err(corrupt(format!("its column `{column}` is no number"))),
    }
}
