//! What a topic says to a checkpoint: whether it is the topic that was read, and what of it is there.

use logd_client::{Anchor, Batch, Checkpoint, Client, Error, ErrorKind, Offset, Position, TopicName};

/// What the server knows of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// The oldest batch; the end where there is none.
    pub(super) oldest: Offset,
    /// The end.
    pub(super) head: Offset,
}

/// How a topic stands to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    /// The topic; `None` where it is not there.
    pub(super) extent: Option<Extent>,
    /// What does not fit; `None` where everything does.
    pub(super) finding: Option<Finding>,
}

/// What does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether the topic is another one than was read, so that its offsets say nothing.
    pub(super) is_other: bool,
    /// For people.
    pub(super) text: String,
}

impl Finding {
    fn other(text: impl Into<String>) -> Self {
        Self { is_other: true, text: text.into() }
    }

    fn here(text: impl Into<String>) -> Self {
        Self { is_other: false, text: text.into() }
    }
}

/// The topic's ends; `None` where it is not there.
pub(super) async fn extent(client: &mut Client, topic: &TopicName) -> Result<Option<Extent>, Error> {
    let head = match client.head(topic).await {
        Err(error) if error.is_not_found() => return Ok(None),
        head => head?.next,
    };
    let oldest = match client.tail(topic, 1).await {
        Err(error) if error.is_not_found() => head,
        answer => answer?.offset,
    };
    Ok(Some(Extent { oldest, head }))
}

/// Whether the topic is the one that was read up to the checkpoint, and has what comes next.
pub(super) async fn topic(
    client: &mut Client,
    topic: &TopicName,
    checkpoint: &Checkpoint,
) -> Result<Judged, Error> {
    let extent = match extent(client, topic).await {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            return Ok(Judged { extent: None, finding: Some(Finding::here(error.to_string())) });
        }
        extent => extent?,
    };
    let Some(Extent { oldest, head }) = extent else {
        let is_new = checkpoint.next == Position::ZERO && checkpoint.anchor.is_none();
        let finding = (!is_new).then(|| Finding::other("the topic is not there; was it deleted?"));
        return Ok(Judged { extent, finding });
    };
    let next = checkpoint.next.offset;
    let finding = if head < next {
        Some(Finding::other(format!("the topic ends at `{head}`; was it made anew, or cut off?")))
    } else if let Some(finding) =
        anchor(client, topic, checkpoint.anchor.filter(|anchor| anchor.offset >= oldest)).await?
    {
        Some(finding)
    } else if next < oldest {
        Some(Finding::here(format!("what comes next was dropped: the oldest batch is at `{oldest}`")))
    } else {
        None
    };
    Ok(Judged { extent, finding })
}

/// What is wrong with the batch that was consumed last. One that was damaged since is no other topic.
async fn anchor(
    client: &mut Client,
    topic: &TopicName,
    anchor: Option<Anchor>,
) -> Result<Option<Finding>, Error> {
    let Some(Anchor { offset, crc }) = anchor else { return Ok(None) };
    Ok(match batch(client, topic, offset).await? {
        Found::Batch(batch) if batch.crc() == crc => None,
        Found::Batch(batch) => {
            let found = batch.crc();
            let text = format!(
                "the batch at `{offset}` has the checksum `{found}`, not `{crc}`; was the topic made anew?"
            );
            Some(Finding::other(text))
        }
        Found::Nothing => {
            Some(Finding::other(format!("no batch starts at `{offset}`, where the last one was consumed")))
        }
        Found::Damaged(text) => Some(Finding::here(text)),
    })
}

/// What is wrong with a position in a topic: no message starts there, and the topic does not end there either.
pub(super) async fn position(
    client: &mut Client,
    topic: &TopicName,
    position: Position,
) -> Result<Option<String>, Error> {
    let Some(Extent { oldest, head }) = extent(client, topic).await? else {
        return Ok((position != Position::ZERO).then(|| format!("topic `{topic}` is not there")));
    };
    let Position { offset, delta } = position;
    if offset < oldest || offset > head {
        return Ok(Some(format!("topic `{topic}` has the offsets from `{oldest}` to `{head}`")));
    }
    let nothing = || Some(format!("no message starts at `{position}` in topic `{topic}`"));
    if offset == head {
        return Ok(if delta == 0 { None } else { nothing() });
    }
    Ok(match batch(client, topic, offset).await? {
        Found::Batch(batch) if starts_at(&batch, delta) => None,
        Found::Batch(_) | Found::Nothing => nothing(),
        Found::Damaged(text) => Some(text),
    })
}

fn starts_at(batch: &Batch, delta: u64) -> bool {
    batch.messages_from(0).any(|message| u64::try_from(message.delta) == Ok(delta))
}

/// What is at an offset.
enum Found {
    Batch(Batch),
    Nothing,
    Damaged(String),
}

async fn batch(client: &mut Client, topic: &TopicName, offset: Offset) -> Result<Found, Error> {
    match client.read(topic, offset, 1).await {
        Ok(answer) if answer.offset == offset => {
            Ok(answer.batches.into_iter().next().map_or(Found::Nothing, Found::Batch))
        }
        Ok(_) => Ok(Found::Nothing),
        Err(error) if error.is_not_found() => Ok(Found::Nothing),
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Found::Damaged(error.to_string())),
        Err(error) => Err(error),
    }
}
