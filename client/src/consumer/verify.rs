//! Whether a checkpoint fits a topic as it is now.
//!
//! The last batch that was consumed must be there with the checksum that it had, or have been dropped by retention; the
//! topic must not end before the checkpoint; and what comes next must not have been dropped.

use logd_protocol::{Bound, Offset, TopicName};
use logd_statehandlers::{Anchor, Checkpoint, Position};
use tracing::warn;

use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::scanner::Start;

/// What the topic says to a checkpoint.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It fits; there may be messages to read already.
    Fits { has_more: bool },
    /// From the checkpoint up to the oldest batch, everything was dropped.
    Dropped { oldest: Offset },
    /// It is another topic than the checkpoint's.
    Other { oldest: Offset, why: String },
}

/// Holds a checkpoint against the topic.
pub(super) async fn verify(
    client: &mut Client,
    topic: &TopicName,
    checkpoint: &Checkpoint,
) -> Result<Verdict, Error> {
    let next = checkpoint.next;
    let other = |oldest, what: String| Verdict::Other {
        oldest,
        why: format!("topic `{topic}` is not the one that was read up to `{next}`: {what}"),
    };
    let head = match client.head(topic).await {
        Ok(head) => head.next,
        Err(error) if error.is_not_found() && next == Position::ZERO => {
            return Ok(Verdict::Fits { has_more: false });
        }
        Err(error) if error.is_not_found() => {
            return Ok(other(Offset::ZERO, "it is not there; was it deleted?".into()));
        }
        Err(error) => return Err(error),
    };
    let before = oldest(client, topic).await?;
    if Position::at(head) < next {
        return Ok(other(before, format!("it ends at `{head}`; was it made anew, or cut off?")));
    }
    if let Some(Anchor { offset, crc }) = checkpoint.anchor
        && offset >= before
    {
        match checksum(client, topic, offset).await? {
            Found::Batch(found) if found != crc => {
                let what = format!("the batch at `{offset}` has the checksum `{found}`, not `{crc}`");
                return Ok(other(before, what));
            }
            Found::Batch(_) => {}
            Found::Damaged => {
                warn!(%topic, %offset, "the last batch that was consumed cannot be read any more");
            }
            // Retention can have dropped it since.
            Found::Nothing if oldest(client, topic).await? > offset => {}
            Found::Nothing => return Ok(other(before, format!("no batch begins at `{offset}`"))),
        }
    }
    let oldest = oldest(client, topic).await?;
    if next.offset < oldest {
        return Ok(Verdict::Dropped { oldest });
    }
    Ok(Verdict::Fits { has_more: next.offset < head })
}

/// What is at an offset.
enum Found {
    Batch(u32),
    Damaged,
    Nothing,
}

async fn checksum(client: &mut Client, topic: &TopicName, offset: Offset) -> Result<Found, Error> {
    match client.read(topic, offset, 1).await {
        Ok(answer) if answer.offset == offset => {
            Ok(answer.batches.first().map_or(Found::Nothing, |batch| Found::Batch(batch.crc())))
        }
        // The server leads past what it knows to be damaged.
        Ok(_) => Ok(Found::Damaged),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Found::Damaged),
        Err(error) if error.is_not_found() => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// Where the oldest batch starts, or would.
async fn oldest(client: &mut Client, topic: &TopicName) -> Result<Offset, Error> {
    match client.tail(topic, 1).await {
        Err(error) if error.is_not_found() => client.head(topic).await.map(|head| head.next),
        answer => answer.map(|answer| answer.offset),
    }
}

/// The position that a start is now.
pub(super) async fn resolve(client: &mut Client, topic: &TopicName, start: Start) -> Result<Position, Error> {
    let found = match start {
        Start::At(position) => return Ok(position),
        Start::Latest => client.head(topic).await.map(|head| head.next),
        Start::Earliest => oldest(client, topic).await,
        Start::Time(time) => client.offset_at(topic, time, Bound::Lower).await,
    };
    match found {
        // Whatever is the first batch of a topic that does not exist yet, it is new.
        Err(error) if error.is_not_found() => Ok(Position::ZERO),
        found => found.map(Position::at),
    }
}
