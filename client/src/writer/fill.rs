//! The open batch: does a message fit, and is it time to send.
//!
//! Pure: time is handed in. A batch is sealed when the next message does not fit it any more, or when it is due: a
//! given time after its first message, or at once when somebody waits for it.

use std::hash::{BuildHasher, RandomState};
use std::process;
use std::time::Duration;

use logd_protocol::{Batch, BatchBuilder, BatchId, PushError, TopicName, WriterId};
use tokio::time::Instant;

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is the first of the open batch: the time of the batch begins.
    First,
    /// It joined others, and starts at this byte of the body.
    Joined(usize),
    /// It is the first of a new open batch, because the one before, which is here, had no room for it.
    Sealed(Batch),
}

/// A batch that still takes messages.
#[derive(Debug)]
pub(super) struct OpenBatch {
    builder: BatchBuilder,
    /// The identity that the next batch gets, if batches get one.
    next_id: Option<BatchId>,
    message_bytes_max: usize,
    /// When the first message came.
    since: Instant,
    /// Whether somebody waits for the batch to be sent.
    urgent: bool,
}

impl OpenBatch {
    /// An empty batch of at most `batch_bytes` bytes. With a writer, it and all that follow get an identity.
    pub(super) fn new(topic: &TopicName, batch_bytes: usize, writer: Option<WriterId>, now: Instant) -> Self {
        let next_id = writer.map(|writer| BatchId { writer, seq: 1 });
        let mut builder = match next_id {
            Some(_) => BatchBuilder::with_ids(topic, batch_bytes),
            None => BatchBuilder::new(topic, batch_bytes),
        };
        // A message as long as a batch can be never fits; the refusal names the longest that does.
        let message_bytes_max = match builder.push(&vec![0; batch_bytes]) {
            Err(PushError::TooLong { bytes_max, .. }) => bytes_max,
            Ok(_) | Err(PushError::Full { .. }) => batch_bytes,
        };
        Self { builder, next_id, message_bytes_max, since: now, urgent: false }
    }

    /// The longest message that an empty batch has room for.
    pub(super) const fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// When the first message came.
    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// Puts a message into the batch, into a new one where there is no room.
    ///
    /// # Errors
    /// [`PushError::TooLong`]: no batch has room for it.
    pub(super) fn push(
        &mut self,
        message: &[u8],
        now: impl FnOnce() -> Instant,
    ) -> Result<Pushed, PushError> {
        let first = self.is_empty();
        match self.builder.push(message) {
            Ok(_) if first => {
                self.since = now();
                Ok(Pushed::First)
            }
            Ok(delta) => Ok(Pushed::Joined(delta)),
            Err(PushError::Full { .. }) => {
                let full = self.seal();
                self.builder.push(message)?;
                self.since = now();
                Ok(full.map_or(Pushed::First, Pushed::Sealed))
            }
            Err(too_long @ PushError::TooLong { .. }) => Err(too_long),
        }
    }

    /// Somebody waits for what has been pushed so far.
    pub(super) const fn hurry(&mut self) {
        self.urgent = !self.is_empty();
    }

    /// When to send the batch, which may be in the past; `None` while it is empty.
    pub(super) fn due(&self, wait_interval: Duration) -> Option<Instant> {
        if self.is_empty() {
            return None;
        }
        let wait = if self.urgent { Duration::ZERO } else { wait_interval };
        // A wait that ends beyond the end of time is cut to a year, after which the caller looks again.
        Some(self.since.checked_add(wait).unwrap_or(self.since + Duration::from_secs(365 * 86_400)))
    }

    /// Takes the batch; `None` when it is empty. What is pushed next opens another.
    pub(super) fn seal(&mut self) -> Option<Batch> {
        self.urgent = false;
        if self.is_empty() {
            return None;
        }
        match self.take_id() {
            Some(id) => self.builder.finish_as(id),
            None => self.builder.finish(),
        }
    }

    /// An identity that no batch has had; `None` where batches get none.
    pub(super) fn take_id(&mut self) -> Option<BatchId> {
        let id = self.next_id?;
        // A number a nanosecond lasts for 584 years.
        self.next_id = Some(BatchId { seq: id.seq.saturating_add(1), ..id });
        Some(id)
    }
}

/// A number that no other writer has, as far as chance goes.
pub(super) fn random_writer() -> WriterId {
    #[cfg(feature = "simulation")]
    if let Some(number) = crate::simulation::random() {
        return WriterId::new(number);
    }
    // Its keys come from the system's random numbers.
    WriterId::new(RandomState::new().hash_one(process::id()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_millis(10);

    fn open(batch_bytes: usize) -> (OpenBatch, Instant) {
        let now = Instant::now();
        (OpenBatch::new(&TopicName::default(), batch_bytes, Some(WriterId::new(7)), now), now)
    }

    #[test]
    fn the_first_message_starts_the_time_and_others_do_not() {
        let (mut batch, start) = open(512);
        assert_eq!(batch.due(WAIT), None);
        assert_eq!(batch.push(b"a", || start), Ok(Pushed::First));
        assert_eq!(batch.push(b"b", || start + WAIT), Ok(Pushed::Joined(10)));
        assert_eq!(batch.due(WAIT), Some(start + WAIT));
        assert!(batch.due(Duration::MAX) > Some(start + Duration::from_secs(86_400)));
        batch.hurry();
        assert_eq!(batch.due(WAIT), Some(start));
        assert_eq!(batch.seal().unwrap().messages(), 2);
        assert_eq!(batch.due(WAIT), None);
        assert_eq!(batch.push(b"c", || start), Ok(Pushed::First));
        assert_eq!(batch.due(WAIT), Some(start + WAIT), "hurrying one batch does not hurry the next");
    }

    #[test]
    fn hurrying_an_empty_batch_does_not_hurry_what_comes_later() {
        let (mut batch, start) = open(512);
        batch.hurry();
        assert_eq!(batch.push(b"a", || start), Ok(Pushed::First));
        assert_eq!(batch.due(WAIT), Some(start + WAIT));
    }

    #[test]
    fn the_longest_message_fits_and_a_longer_one_does_not() {
        for batch_bytes in [512, 4096, 65536, 65537] {
            let (mut batch, start) = open(batch_bytes);
            let bytes_max = batch.message_bytes_max();
            let message = vec![b'x'; bytes_max + 1];
            assert_eq!(
                batch.push(&message, || start),
                Err(PushError::TooLong { bytes: bytes_max + 1, bytes_max })
            );
            assert!(batch.is_empty());
            assert_eq!(batch.push(&message[..bytes_max], || start), Ok(Pushed::First));
            assert!(batch.seal().unwrap().bytes().len() <= batch_bytes);
        }
    }

    proptest! {
        #[test]
        fn no_message_is_lost_or_moved(lengths in prop::collection::vec(0_usize..700, 0..100)) {
            let (mut open, start) = open(512);
            let mut batches = Vec::new();
            let mut pushed = Vec::new();
            for (number, length) in lengths.into_iter().enumerate() {
                let message = vec![u8::try_from(number).unwrap(); length];
                match open.push(&message, || start) {
                    Ok(Pushed::Sealed(batch)) => batches.push(batch),
                    Ok(Pushed::First | Pushed::Joined(_)) => {}
                    Err(_) => {
                        prop_assert!(length > open.message_bytes_max());
                        continue;
                    }
                }
                pushed.push(message);
            }
            batches.extend(open.seal());
            prop_assert!(batches.iter().all(|batch| batch.bytes().len() <= 512));
            let messages: Vec<_> = batches
                .iter()
                .flat_map(|batch| batch.messages_from(0))
                .map(|message| message.bytes.to_vec())
                .collect();
            prop_assert_eq!(messages, pushed);
        }
    }
}
