//! Whether a checkpoint fits a topic as it is now, and what a start is now.

use logd_protocol::{Bound, Offset, TopicName};
use logd_statehandlers::{Checkpoint, Position};
use tracing::warn;

use crate::client::Client;
use crate::error::Error;
use crate::fit::{Extent, Finding, Fit, extent, judge};
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
    let Fit { extent, finding } = judge(client, topic, checkpoint).await?;
    match finding {
        None => {}
        Some(Finding::Damaged(what)) => {
            warn!(%topic, what, "whether the topic is the one that was read is not sure");
        }
        Some(Finding::Dropped { oldest }) => return Ok(Verdict::Dropped { oldest }),
        Some(Finding::Other(what) | Finding::Misplaced(what)) => {
            let oldest = extent.map_or(Offset::ZERO, |extent| extent.oldest);
            let why = format!("topic `{topic}` is not the one that was read up to `{next}`: {what}");
            return Ok(Verdict::Other { oldest, why });
        }
    }
    let has_more = extent.is_some_and(|Extent { head, .. }| next.offset < head);
    Ok(Verdict::Fits { has_more })
}

/// The position that a start is now.
pub(super) async fn resolve(client: &mut Client, topic: &TopicName, start: Start) -> Result<Position, Error> {
    let found = match start {
        Start::At(position) => return Ok(position),
        Start::Latest => client.head(topic).await.map(|head| head.next),
        // Whatever is the first batch of a topic that does not exist yet, it is new.
        Start::Earliest => Ok(extent(client, topic).await?.map_or(Offset::ZERO, |extent| extent.oldest)),
        Start::Time(time) => client.offset_at(topic, time, Bound::Lower).await,
    };
    match found {
        Err(error) if error.is_not_found() => Ok(Position::ZERO),
        found => found.map(Position::at),
    }
}
