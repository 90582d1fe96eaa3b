//! The statements, and the order of their parameters: for those who write a checkpoint within a transaction of their own
//! with another library than rusqlite.
//!
//! The table is called `logd_checkpoints` in all of them; [`for_table`] gives the same for another. Its columns:
//!
//! | column | what it has |
//! |---|---|
//! | `namespace`, `topic`, `consumer` | the key |
//! | `next_offset`, `next_delta` | the position, in decimal; with `body`, null where there is no checkpoint yet |
//! | `body`, `body_crc` | the checkpoint as [`Checkpoint::encode`] gives it, and the CRC-32 of it |
//! | `epoch`, `nonce` | the fence of the last grant or reset: in decimal, and as 32 hexadecimal digits |
//! | `owner`, `owner_id`, `lease_until` | who has the lease, and until when, in milliseconds since 1970; null where it is free |
//!
//! Numbers that can be above 2^63 - 1 are text without leading zeros, which is exact, and the same if and only if the
//! number is the same. Nothing compares their order in SQL.

use logd_protocol::checksum;

use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::record::what;
use crate::token::Token;

/// The name of the table, where no other is chosen.
pub const TABLE: &str = "logd_checkpoints";

/// The most bytes of a table's name.
const TABLE_BYTES_MAX: usize = 63;

/// Makes the table; the handler does so when it opens a database. No parameters.
pub const CREATE_TABLE: &str = r#"CREATE TABLE IF NOT EXISTS "logd_checkpoints" (
  namespace TEXT NOT NULL,
  topic TEXT NOT NULL,
  consumer TEXT NOT NULL,
  next_offset TEXT,
  next_delta TEXT,
  body TEXT,
  body_crc INTEGER,
  epoch TEXT NOT NULL,
  nonce TEXT NOT NULL,
  owner TEXT,
  owner_id TEXT,
  lease_until INTEGER,
  PRIMARY KEY (namespace, topic, consumer)
) STRICT, WITHOUT ROWID"#;

/// Stores a checkpoint, if the record still is as the token says. Run it within the transaction that has the results: if
/// it changes one row, commit; if it changes none, roll back, as somebody else goes on, and has these results, or will.
///
/// [`complete_in_parameters`] makes the parameters, all of them text, in this order:
///
/// 1. `body` and 2. `body_crc`, 3. `next_offset` and 4. `next_delta` of the new checkpoint
/// 5. `namespace`, 6. `topic`, 7. `consumer`
/// 8. `epoch` and 9. `nonce` of the token's fence
/// 10. `next_offset` and 11. `next_delta` that the token expects; both empty where it expects no checkpoint
///
/// A checkpoint in a form that only a later version knows is not replaced.
pub const COMPLETE_IN: &str = r#"UPDATE "logd_checkpoints"
SET body = ?1, body_crc = ?2, next_offset = ?3, next_delta = ?4
WHERE namespace = ?5 AND topic = ?6 AND consumer = ?7
  AND epoch = ?8 AND nonce = ?9
  AND coalesce(next_offset, '') = ?10 AND coalesce(next_delta, '') = ?11
  AND CASE
    WHEN body IS NULL THEN 1
    WHEN json_valid(body) THEN json_extract(body, '$."logd-checkpoint"') = 1
    ELSE 0
  END"#;

/// The columns of one record, in the order of the table. Parameters: `namespace`, `topic`, `consumer`.
pub const READ: &str = r#"SELECT namespace, topic, consumer, next_offset, next_delta, body, body_crc, epoch, nonce,
  owner, owner_id, lease_until
FROM "logd_checkpoints" WHERE namespace = ?1 AND topic = ?2 AND consumer = ?3"#;

/// The columns of all records.
pub(super) const LIST: &str = r#"SELECT namespace, topic, consumer, next_offset, next_delta, body, body_crc, epoch, nonce,
  owner, owner_id, lease_until
FROM "logd_checkpoints""#;

/// Replaces a record, or makes it. Parameters: the columns, in the order of the table.
pub(super) const STORE: &str = r#"INSERT INTO "logd_checkpoints"
  (namespace, topic, consumer, next_offset, next_delta, body, body_crc, epoch, nonce, owner, owner_id, lease_until)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
ON CONFLICT (namespace, topic, consumer) DO UPDATE SET
  next_offset = excluded.next_offset, next_delta = excluded.next_delta,
  body = excluded.body, body_crc = excluded.body_crc,
  epoch = excluded.epoch, nonce = excluded.nonce,
  owner = excluded.owner, owner_id = excluded.owner_id, lease_until = excluded.lease_until"#;

/// Removes a record. Parameters: `namespace`, `topic`, `consumer`.
pub(super) const DELETE: &str =
    r#"DELETE FROM "logd_checkpoints" WHERE namespace = ?1 AND topic = ?2 AND consumer = ?3"#;

/// One of the statements of this module, for a table of another name.
///
/// # Errors
/// [`StateErrorKind::Invalid`] when it is no name: 1 to 63 of `a-z A-Z 0-9 _`, not starting with a digit nor with
/// `sqlite_`.
pub fn for_table(statement: &str, table: &str) -> Result<String, StateError> {
    let is_name = (1..=TABLE_BYTES_MAX).contains(&table.len())
        && table.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !table.starts_with(|first: char| first.is_ascii_digit())
        && !table.to_ascii_lowercase().starts_with("sqlite_");
    if !is_name {
        let text = format!(
            "`{}` is no name of a table: it must have 1 to {TABLE_BYTES_MAX} of `a-z A-Z 0-9 _`, and not start with a digit nor with `sqlite_`",
            table.escape_debug()
        );
        return Err(StateError::new(StateErrorKind::Invalid, text));
    }
    Ok(statement.replace(&format!("\"{TABLE}\""), &format!("\"{table}\"")))
}

/// The parameters of [`COMPLETE_IN`], in order.
///
/// # Errors
/// - [`StateErrorKind::Stale`] when the checkpoint is behind the position that the token expects
/// - [`StateErrorKind::Invalid`] when it cannot be stored
pub fn complete_in_parameters(token: &Token, checkpoint: &Checkpoint) -> Result<[String; 11], StateError> {
    let Token { key, fence, expected } = token;
    if let Some(expected) = expected.filter(|expected| *expected > checkpoint.next) {
        return Err(StateError::stale(what(key), expected));
    }
    let body = super::checked_body(key, checkpoint)?;
    let crc = checksum(body.as_bytes());
    let (offset, delta) = expected.map(super::row::position).unwrap_or_default();
    let (next_offset, next_delta) = super::row::position(checkpoint.next);
    Ok([
        body,
        crc.to_string(),
        next_offset,
        next_delta,
        key.namespace().to_owned(),
        key.topic().as_str().to_owned(),
        key.consumer().to_owned(),
        fence.epoch.to_string(),
        super::row::nonce(fence.nonce),
        offset,
        delta,
    ])
}

/// The statements for one table.
#[derive(Debug, Clone)]
pub(super) struct Statements {
    pub(super) create_table: String,
    pub(super) complete_in: String,
    pub(super) read: String,
    pub(super) list: String,
    pub(super) store: String,
    pub(super) delete: String,
}

impl Statements {
    pub(super) fn new(table: &str) -> Result<Self, StateError> {
        Ok(Self {
            create_table: for_table(CREATE_TABLE, table)?,
            complete_in: for_table(COMPLETE_IN, table)?,
            read: for_table(READ, table)?,
            list: for_table(LIST, table)?,
            store: for_table(STORE, table)?,
            delete: for_table(DELETE, table)?,
        })
    }
}
