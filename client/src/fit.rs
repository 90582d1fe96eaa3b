//! Whether a topic is the one that was read up to a checkpoint.
//!
//! A topic is known by its batches: the last one that was consumed must be there with the checksum that it had, or have
//! been dropped by retention; the topic must not end before the checkpoint; and a message must start where reading goes
//! on. A batch that was damaged since says nothing about that.
//!
//! The topic can change between two answers: what is not found is missed only if retention cannot have dropped it since.

use logd_protocol::limits::BATCH_BYTES_MAX;
use logd_protocol::{Batch, BatchError, Offset, Request, TopicName};
use logd_statehandlers::{Anchor, Checkpoint, Position};

use crate::client::Client;
use crate::error::{Error, ErrorKind};
use crate::session::{Session, feature};

/// What the server has of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The oldest batch; the end where there is none.
    pub oldest: Offset,
    /// The end.
    pub head: Offset,
}

/// How a topic stands to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// The topic; `None` where it is not there, or its ends cannot be read.
    pub extent: Option<Extent>,
    /// What does not fit; `None` where everything does.
    pub finding: Option<Finding>,
}

/// What does not fit. The texts are sentences about the topic, which is `it`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The topic is another one than was read, so that its offsets say nothing.
    Other(String),
    /// From the checkpoint up to the oldest batch, everything was dropped.
    Dropped {
        /// The oldest batch.
        oldest: Offset,
    },
    /// No message starts at the checkpoint.
    Misplaced(String),
    /// The last batch that was consumed, or the one that comes next, is damaged: reading goes on behind it.
    Damaged(String),
}

/// What has become of a batch that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Remains {
    Same,
    /// By retention.
    Dropped,
    Damaged(String),
    /// There is something else: the topic is another one.
    Other(String),
}

/// What is at an offset.
#[derive(Debug)]
pub(crate) enum Look {
    Batch(Batch),
    Damaged(String),
    Nothing,
}

/// Holds a checkpoint against the topic.
///
/// # Errors
/// What asking the server has failed with.
pub async fn judge(client: &mut Client, topic: &TopicName, checkpoint: &Checkpoint) -> Result<Fit, Error> {
    let found = match extent(client, topic).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            return Ok(Fit { extent: None, finding: Some(Finding::Damaged(error.to_string())) });
        }
        found => found?,
    };
    let Some(mut extent) = found else {
        let is_new = checkpoint.next == Position::ZERO && checkpoint.anchor.is_none();
        return Ok(Fit { extent: None, finding: (!is_new).then(|| Finding::Other(gone())) });
    };
    let finding = compare(client, topic, checkpoint, extent).await?;
    if let Some(Finding::Dropped { oldest }) = finding {
        extent.oldest = oldest;
    }
    Ok(Fit { extent: Some(extent), finding })
}

/// The topic's ends; `None` where it is not there.
///
/// # Errors
/// What asking the server has failed with.
pub async fn extent(client: &mut Client, topic: &TopicName) -> Result<Option<Extent>, Error> {
    let head = match client.head(topic).await {
        Err(error) if error.is_not_found() => return Ok(None),
        head => head?.next,
    };
    let oldest = client.oldest(topic).await?.unwrap_or(head);
    Ok(Some(Extent { oldest, head }))
}

async fn compare(
    client: &mut Client,
    topic: &TopicName,
    checkpoint: &Checkpoint,
    Extent { head, .. }: Extent,
) -> Result<Option<Finding>, Error> {
    let next = checkpoint.next;
    if Position::at(head) < next {
        return Ok(Some(Finding::Other(ends(head))));
    }
    let mut finding = None;
    if let Some(anchor) = checkpoint.anchor {
        match client.remains(topic, anchor).await? {
            Remains::Same | Remains::Dropped => {}
            Remains::Damaged(what) => finding = Some(Finding::Damaged(what)),
            Remains::Other(why) => return Ok(Some(Finding::Other(why))),
        }
    }
    if next.offset == head {
        return Ok(finding);
    }
    let nothing = || Some(Finding::Misplaced(format!("no message starts at `{next}`")));
    Ok(match client.look(topic, next.offset).await? {
        Look::Batch(batch) if starts_at(&batch, next.delta) => finding,
        Look::Batch(_) => nothing(),
        Look::Damaged(what) => Some(Finding::Damaged(what)),
        Look::Nothing => match client.oldest(topic).await?.unwrap_or(head) {
            oldest if oldest > next.offset => Some(Finding::Dropped { oldest }),
            _ => nothing(),
        },
    })
}

fn starts_at(batch: &Batch, delta: u64) -> bool {
    batch.messages_from(0).any(|message| u64::try_from(message.delta) == Ok(delta))
}

fn gone() -> String {
    "it is not there; was it deleted?".into()
}

fn ends(head: Offset) -> String {
    format!("it ends at `{head}`; was it made anew, or cut off?")
}

/// Looks for a batch that was read.
pub(crate) async fn remains(
    session: &mut Session,
    topic: &TopicName,
    anchor: Anchor,
) -> Result<Remains, Error> {
    let Anchor { offset, crc } = anchor;
    match look(session, topic, offset).await? {
        Look::Batch(batch) if batch.crc() == crc => return Ok(Remains::Same),
        Look::Batch(batch) => {
            let found = batch.crc();
            let why =
                format!("its batch at `{offset}` has the checksum `{found}`, not `{crc}`; was it made anew?");
            return Ok(Remains::Other(why));
        }
        Look::Damaged(what) => return Ok(Remains::Damaged(what)),
        Look::Nothing => {}
    }
    let why = match oldest(session, topic).await? {
        Some(oldest) if oldest > offset => return Ok(Remains::Dropped),
        Some(_) => {
            format!("no batch begins at `{offset}`, where the last one was consumed; was it made anew?")
        }
        None if session.settings().has_feature(feature::HEAD) => {
            match session.ask_found(&Request::Head { topic: topic.as_topic() }).await {
                Ok((head, _)) if head > offset => return Ok(Remains::Dropped),
                Ok((head, _)) => ends(head),
                Err(error) if error.is_not_found() => gone(),
                Err(error) => return Err(error),
            }
        }
        None => gone(),
    };
    Ok(Remains::Other(why))
}

/// Looks at the batch at an offset.
pub(crate) async fn look(session: &mut Session, topic: &TopicName, offset: Offset) -> Result<Look, Error> {
    let request = Request::Read { topic: topic.as_topic(), offset, messages: 1, wait: None };
    Ok(match ask_one(session, &request).await? {
        Some((found, Ok(batch))) if found == offset => Look::Batch(batch),
        Some((found, Err(damage))) if found == offset => {
            Look::Damaged(format!("its batch at `{offset}` cannot be read any more: {damage}"))
        }
        // The server leads past what it knows to be damaged.
        Some(_) => Look::Damaged(format!("its batch at `{offset}` cannot be read any more")),
        None => Look::Nothing,
    })
}

/// Where the oldest batch starts, whether or not it is damaged; `None` where there is none.
pub(crate) async fn oldest(session: &mut Session, topic: &TopicName) -> Result<Option<Offset>, Error> {
    let request = Request::Tail { topic: topic.as_topic(), messages: 1 };
    Ok(ask_one(session, &request).await?.map(|(offset, _)| offset))
}

/// The first batch of an answer, and where it is; `None` where nothing was found.
async fn ask_one(
    session: &mut Session,
    request: &Request<'_>,
) -> Result<Option<(Offset, Result<Batch, BatchError>)>, Error> {
    let (offset, batches) = match session.ask_found(request).await {
        Err(error) if error.is_not_found() => return Ok(None),
        found => found?,
    };
    let mut first = None;
    for _ in 0..batches {
        let batch = loop {
            match session.connection().take_batch(BATCH_BYTES_MAX)? {
                Ok(taken) => break taken.batch.unwrap_or(Err(BatchError::Empty)),
                Err(missing) => session.connection().receive_batch(missing).await?,
            }
        };
        first.get_or_insert(batch);
    }
    session.rest();
    Ok(first.map(|batch| (offset, batch)))
}

#[cfg(test)]
mod tests;
