//! The statements, for those who run them themselves: with sqlx, diesel, or in a migration of their own.
//!
//! Numbers are handed over as decimal text, since PostgreSQL has no unsigned 64 bits, and `numeric` has no form that
//! all drivers share. Every parameter says its type in the statement, so that drivers agree on it. The statements say
//! everything in one step each: nothing holds between two of them. They find the table by the connection's
//! `search_path`.
//!
//! A record whose `digest` is not that of its position and body is damaged, and so is never written over, but by
//! [`RESET`]. The digest is computed by the statements.
//!
//! A checkpoint within a transaction of one's own, by [`Parameters`]:
//!
//! ```
//! use logd_statehandlers::postgres::sql::{COMPLETE_IN, Parameters};
//! use logd_statehandlers::{Checkpoint, ConsumerKey, Fence, Token};
//!
//! let key = ConsumerKey::new("orders".parse()?, "billing")?;
//! let token = Token { key, fence: Fence { epoch: 3, nonce: 7 }, expected: Some("60.12".parse()?) };
//! let parameters = Parameters::new(&token, &Checkpoint::at("75".parse()?))?;
//! assert_eq!((parameters.epoch.as_str(), parameters.offset.as_str()), ("3", "75"));
//! // sqlx::query(COMPLETE_IN).bind(parameters.namespace).bind(parameters.topic)… in the order of the fields
//! assert!(COMPLETE_IN.contains("$10"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::body::BodyError;
use crate::checkpoint::Checkpoint;
use crate::fence::Fence;
use crate::key::ConsumerKey;
use crate::position::Position;
use crate::token::Token;

/// The table's name, without a schema.
pub const TABLE: &str = "logd_checkpoints";

/// Makes the table, if it is not there. A row is a record; `body` is what [`Checkpoint::encode`] gives, and null for
/// a key that has a lease and no checkpoint yet. Names are compared byte by byte. Half of each page is left free, so
/// that rows can be replaced within their page without touching the index.
pub const CREATE_TABLE: &str = "\
CREATE TABLE IF NOT EXISTS logd_checkpoints (
    namespace text COLLATE \"C\" NOT NULL,
    topic text COLLATE \"C\" NOT NULL,
    consumer text COLLATE \"C\" NOT NULL,
    next_offset numeric(20, 0),
    next_delta numeric(20, 0),
    body bytea,
    digest bytea,
    epoch numeric(20, 0) NOT NULL DEFAULT 0,
    nonce text NOT NULL DEFAULT '00000000000000000000000000000000',
    owner text,
    owner_id text,
    lease_until timestamptz,
    PRIMARY KEY (namespace, topic, consumer)
) WITH (fillfactor = 50)";

/// How many of the table's columns are there: [`COLUMNS`], if it is complete.
pub const COUNT_COLUMNS: &str = "\
SELECT count(*) FROM pg_attribute
WHERE attrelid = to_regclass('logd_checkpoints') AND NOT attisdropped AND attname IN (
    'namespace', 'topic', 'consumer', 'next_offset', 'next_delta', 'body', 'digest',
    'epoch', 'nonce', 'owner', 'owner_id', 'lease_until')";

/// The number of columns of the table.
pub const COLUMNS: i64 = 12;

/// The digest of a position and a body.
macro_rules! digest {
    ($offset:literal, $delta:literal, $body:literal) => {
        concat!("sha256(convert_to(", $offset, " || '.' || ", $delta, " || ' ', 'UTF8') || ", $body, ")")
    };
}

/// The digest of what is to be stored.
macro_rules! new_digest {
    () => {
        digest!("$4::text::numeric(20, 0)", "$5::text::numeric(20, 0)", "$6::bytea")
    };
}

/// Whether the stored checkpoint is what was stored, in a form that this version knows.
macro_rules! readable {
    () => {
        concat!(
            "(CASE WHEN c.digest = ",
            digest!("c.next_offset", "c.next_delta", "c.body"),
            " THEN convert_from(c.body, 'UTF8')::json ->> 'logd-checkpoint' = '1' END) IS TRUE"
        )
    };
}

/// Whether what is to be stored is behind what is; no if nothing is.
macro_rules! behind {
    () => {
        "((c.next_offset, c.next_delta) > ($4::text::numeric, $5::text::numeric)) IS TRUE"
    };
}

/// A new value, or the old one.
macro_rules! unless_behind {
    ($new:literal, $old:literal) => {
        concat!("CASE WHEN ", behind!(), " THEN ", $old, " ELSE ", $new, " END")
    };
}

/// Whose record.
macro_rules! of_key {
    () => {
        "c.namespace = $1::text AND c.topic = $2::text AND c.consumer = $3::text"
    };
}

/// Records with the columns of [`READ`].
macro_rules! records {
    () => {
        concat!(
            "SELECT c.namespace, c.topic, c.consumer, c.body, (c.digest = ",
            digest!("c.next_offset", "c.next_delta", "c.body"),
            ") IS TRUE, c.epoch::text, c.nonce, c.owner, c.owner_id, ",
            "ceil(extract(epoch FROM c.lease_until - clock_timestamp()) * 1000)::bigint ",
            "FROM logd_checkpoints AS c "
        )
    };
}

/// Reads a record. Parameters: `$1` namespace, `$2` topic, `$3` consumer (text). Columns: the three names, `body`
/// (bytea), whether it is undamaged (boolean), `epoch` (decimal text), `nonce` (32 hex digits), `owner`, `owner_id`
/// (text), and how many milliseconds the lease has left (bigint). Everything from `owner` on is null while nobody has
/// the lease, and `body` is null where there is no checkpoint yet.
pub const READ: &str = concat!(records!(), "WHERE ", of_key!());

/// The same as [`READ`] once no transaction is open that has written the record: what it tells, a commit whose answer
/// was lost cannot change any more.
pub const READ_SETTLED: &str = concat!(records!(), "WHERE ", of_key!(), " FOR SHARE");

/// Reads all records, in the order of their names, with the columns of [`READ`].
pub const LIST: &str = concat!(records!(), "ORDER BY c.namespace, c.topic, c.consumer");

/// Stores a checkpoint without a fence: one row, or none where it is refused, or is stored already. Parameters: `$1`
/// namespace, `$2` topic, `$3` consumer, `$4` offset, `$5` delta (decimal text), `$6` body (bytea).
pub const COMPLETE_UNFENCED: &str = concat!(
    "INSERT INTO logd_checkpoints AS c (namespace, topic, consumer, next_offset, next_delta, body, digest) ",
    "VALUES ($1::text, $2::text, $3::text, $4::text::numeric, $5::text::numeric, $6::bytea, ",
    new_digest!(),
    ") ON CONFLICT (namespace, topic, consumer) DO UPDATE SET next_offset = excluded.next_offset, ",
    "next_delta = excluded.next_delta, body = excluded.body, digest = excluded.digest ",
    "WHERE c.epoch = 0 AND (c.body IS NULL OR ",
    readable!(),
    " AND (c.next_offset, c.next_delta) <= (excluded.next_offset, excluded.next_delta) ",
    "AND c.body <> excluded.body)"
);

/// Stores a checkpoint with a fence: one row, or none where it is refused, or is stored already. Parameters: as
/// [`COMPLETE_UNFENCED`], and `$7` epoch (decimal text), `$8` nonce (32 hex digits).
pub const COMPLETE: &str = concat!(
    "UPDATE logd_checkpoints AS c SET next_offset = $4::text::numeric, next_delta = $5::text::numeric, ",
    "body = $6::bytea, digest = ",
    new_digest!(),
    " WHERE ",
    of_key!(),
    " AND c.epoch = $7::text::numeric AND c.nonce = $8::text AND (c.body IS NULL OR ",
    readable!(),
    " AND (c.next_offset, c.next_delta) <= ($4::text::numeric, $5::text::numeric) AND c.body <> $6::bytea)"
);

/// Stores a checkpoint within a transaction of one's own: one row; or none, and then the reader is fenced, or is not
/// where it believes to be, and the transaction must be rolled back. Parameters, all of them fields of
/// [`Parameters`]: as [`COMPLETE`], and `$9` the offset, `$10` the delta that are stored (decimal text), both null
/// where there is no checkpoint yet.
///
/// A record must be there: a lease makes it, and so does [`COMPLETE_UNFENCED`].
pub const COMPLETE_IN: &str = concat!(
    "UPDATE logd_checkpoints AS c SET next_offset = $4::text::numeric, next_delta = $5::text::numeric, ",
    "body = $6::bytea, digest = ",
    new_digest!(),
    " WHERE ",
    of_key!(),
    " AND c.epoch = $7::text::numeric AND c.nonce = $8::text ",
    "AND c.next_offset IS NOT DISTINCT FROM $9::text::numeric ",
    "AND c.next_delta IS NOT DISTINCT FROM $10::text::numeric AND (c.body IS NULL OR ",
    readable!(),
    " AND (c.next_offset, c.next_delta) <= ($4::text::numeric, $5::text::numeric))"
);

/// Grants the lease: one row with `epoch` (decimal text), `body` (bytea); none where somebody else has it, or the
/// record cannot be read. Only the server's clock counts. Parameters: `$1` namespace, `$2` topic, `$3` consumer, `$4`
/// the new nonce (32 hex digits), `$5` owner, `$6` the owner's id (text), `$7` the milliseconds it lasts (bigint).
pub const START: &str = concat!(
    "INSERT INTO logd_checkpoints AS c (namespace, topic, consumer, epoch, nonce, owner, owner_id, lease_until) ",
    "VALUES ($1::text, $2::text, $3::text, 1, $4::text, $5::text, $6::text, ",
    "clock_timestamp() + $7::bigint * interval '1 millisecond') ",
    "ON CONFLICT (namespace, topic, consumer) DO UPDATE SET epoch = c.epoch + 1, nonce = excluded.nonce, ",
    "owner = excluded.owner, owner_id = excluded.owner_id, ",
    "lease_until = clock_timestamp() + $7::bigint * interval '1 millisecond' ",
    "WHERE (c.body IS NULL OR ",
    readable!(),
    ") AND c.epoch < 18446744073709551615 AND (c.lease_until IS NULL OR c.owner_id = excluded.owner_id ",
    "OR c.lease_until <= clock_timestamp()) RETURNING c.epoch::text, c.body"
);

/// Keeps the lease: one row, or none where it is somebody else's. Parameters: `$1` namespace, `$2` topic, `$3`
/// consumer,
/// `$4` epoch (decimal text), `$5` nonce (32 hex digits), `$6` the milliseconds it lasts from now on (bigint).
pub const RENEW: &str = concat!(
    "UPDATE logd_checkpoints AS c SET lease_until = clock_timestamp() + $6::bigint * interval '1 millisecond' ",
    "WHERE ",
    of_key!(),
    " AND c.epoch = $4::text::numeric AND c.nonce = $5::text AND c.lease_until IS NOT NULL"
);

/// Gives the lease back: one row, or none where it is somebody else's. Parameters: `$1` namespace, `$2` topic, `$3`
/// consumer, `$4` epoch (decimal text), `$5` nonce (32 hex digits).
pub const RELEASE: &str = concat!(
    "UPDATE logd_checkpoints AS c SET owner = NULL, owner_id = NULL, lease_until = NULL WHERE ",
    of_key!(),
    " AND c.epoch = $4::text::numeric AND c.nonce = $5::text"
);

/// Gives the lease back and stores a last checkpoint, unless it is behind what is stored. One row with the offset and
/// the delta that are stored then (decimal text), or none where the lease is somebody else's, or the record cannot be
/// read. Parameters: as [`COMPLETE`].
pub const RELEASE_WITH: &str = concat!(
    "UPDATE logd_checkpoints AS c SET owner = NULL, owner_id = NULL, lease_until = NULL, ",
    "next_offset = ",
    unless_behind!("$4::text::numeric", "c.next_offset"),
    ", next_delta = ",
    unless_behind!("$5::text::numeric", "c.next_delta"),
    ", body = ",
    unless_behind!("$6::bytea", "c.body"),
    ", digest = CASE WHEN ",
    behind!(),
    " THEN c.digest ELSE ",
    new_digest!(),
    " END WHERE ",
    of_key!(),
    " AND c.epoch = $7::text::numeric AND c.nonce = $8::text AND (c.body IS NULL OR ",
    readable!(),
    ") RETURNING c.next_offset::text, c.next_delta::text"
);

/// Stores a checkpoint wherever it lies, fences whoever has the lease, and frees it: one row, or none where no epoch
/// is left. Parameters: as [`COMPLETE_UNFENCED`], and `$7` the new nonce (32 hex digits).
pub const RESET: &str = concat!(
    "INSERT INTO logd_checkpoints AS c (namespace, topic, consumer, next_offset, next_delta, body, digest, epoch, nonce) ",
    "VALUES ($1::text, $2::text, $3::text, $4::text::numeric, $5::text::numeric, $6::bytea, ",
    new_digest!(),
    ", 1, $7::text) ON CONFLICT (namespace, topic, consumer) DO UPDATE SET next_offset = excluded.next_offset, ",
    "next_delta = excluded.next_delta, body = excluded.body, digest = excluded.digest, epoch = c.epoch + 1, ",
    "nonce = excluded.nonce, owner = NULL, owner_id = NULL, lease_until = NULL ",
    "WHERE c.epoch < 18446744073709551615"
);

/// Forgets a record: one row, or none where there is none. Parameters: `$1` namespace, `$2` topic, `$3` consumer.
pub const DELETE: &str = concat!("DELETE FROM logd_checkpoints AS c WHERE ", of_key!());

/// The parameters of [`COMPLETE_IN`] in their order; the first eight are those of [`COMPLETE`], the first six those of
/// [`COMPLETE_UNFENCED`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// `$1`
    pub namespace: String,
    /// `$2`
    pub topic: String,
    /// `$3`
    pub consumer: String,
    /// `$4`: the offset to store, in decimal.
    pub offset: String,
    /// `$5`: the delta to store, in decimal.
    pub delta: String,
    /// `$6`
    pub body: Vec<u8>,
    /// `$7`, in decimal.
    pub epoch: String,
    /// `$8`, as 32 hex digits.
    pub nonce: String,
    /// `$9`: the offset that is stored, in decimal.
    pub expected_offset: Option<String>,
    /// `$10`: the delta that is stored, in decimal.
    pub expected_delta: Option<String>,
}

impl Parameters {
    /// The parameters with which a checkpoint is stored against a token.
    ///
    /// # Errors
    /// [`BodyError`] when the checkpoint is none that could be read again.
    pub fn new(token: &Token, checkpoint: &Checkpoint) -> Result<Self, BodyError> {
        Self::with(&token.key, checkpoint, token.fence, token.expected)
    }

    pub(super) fn with(
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
        expected: Option<Position>,
    ) -> Result<Self, BodyError> {
        let body = checkpoint.encode()?;
        Checkpoint::decode(&body)?;
        Ok(Self {
            namespace: key.namespace().into(),
            topic: key.topic().as_str().into(),
            consumer: key.consumer().into(),
            offset: checkpoint.next.offset.to_string(),
            delta: checkpoint.next.delta.to_string(),
            body,
            epoch: fence.epoch.to_string(),
            nonce: nonce(fence),
            expected_offset: expected.map(|position| position.offset.to_string()),
            expected_delta: expected.map(|position| position.delta.to_string()),
        })
    }
}

/// A fence's nonce, as it is stored.
pub(super) fn nonce(fence: Fence) -> String {
    format!("{:032x}", fence.nonce)
}
