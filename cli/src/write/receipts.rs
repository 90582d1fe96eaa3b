//! Receipts of delivered batches: counted, and their offsets printed, in order.
//!
//! The writer pushes them from a task of its own into a short channel, whose other end prints. Where nobody takes the
//! offsets, a block of them collects; when that is full, too, receipts wait, and in the end the writer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::error::Error as StdError;

use async_trait::async_trait;
use logd_client::{Offset, Receipt, StatePusher};
use tokio::sync::mpsc;

use crate::counts::Counts;
use crate::output::Output;

/// How many receipts the channel holds: some, so that the two tasks do not take turns for each.
const RECEIPTS_MAX: usize = 64;

/// What is to be told of a delivered batch.
#[derive(Debug)]
struct Delivered {
    offset: Offset,
    messages: u64,
}

/// The end that the writer has.
#[derive(Debug)]
pub(crate) struct Pusher(mpsc::Sender<Delivered>);

#[async_trait]
impl StatePusher for Pusher {
    async fn push(&mut self, receipt: &Receipt) -> Result<(), Box<dyn StdError + Send + Sync>> {
        let Receipt { offset, messages, .. } = *receipt;
        // Nobody takes it where the run has been given up.
        let _ = self.0.send(Delivered { offset, messages }).await;
        Ok(())
    }
}

/// The end that prints.
#[derive(Debug)]
pub(crate) struct Receipts(mpsc::Receiver<Delivered>);

/// Both ends.
pub(crate) fn receipts() -> (Pusher, Receipts) {
    let (sender, receiver) = mpsc::channel(RECEIPTS_MAX);
    (Pusher(sender), Receipts(receiver))
}

impl Receipts {
    /// Counts each receipt and prints its offset, until the writer has ended and all are handed to the output.
    pub(crate) async fn print(mut self, lengths: &Lengths, counts: &Counts, output: &mut Output) {
        let mut is_handed_over = true;
        loop {
            let delivered = tokio::select! {
                biased;
                delivered = self.0.recv(), if !output.is_full() => delivered,
                // Where nobody wants the offsets, the messages are still to be delivered.
                _ = output.flush(), if !is_handed_over => {
                    is_handed_over = true;
                    continue;
                }
            };
            let Some(Delivered { offset, messages }) = delivered else { return };
            counts.add_messages(messages, lengths.take(messages));
            counts.add_batch();
            output.put(format!("{offset}\n").as_bytes());
            is_handed_over = false;
        }
    }
}

/// The lengths of the messages that were written and are not delivered yet. A receipt tells how many messages a batch
/// has; this tells how many bytes they are.
#[derive(Debug, Default)]
pub(crate) struct Lengths(RefCell<VecDeque<u32>>);

impl Lengths {
    /// A message is written.
    pub(crate) fn add(&self, bytes: usize) {
        // A batch, and so a message, is far shorter than the largest number here.
        self.0.borrow_mut().push_back(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// So many messages, the oldest, are delivered. Returns their bytes.
    pub(crate) fn take(&self, messages: u64) -> u64 {
        let mut lengths = self.0.borrow_mut();
        let messages = usize::try_from(messages).unwrap_or(usize::MAX).min(lengths.len());
        lengths.drain(..messages).map(u64::from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_the_oldest_messages() {
        let lengths = Lengths::default();
        for bytes in [3, 0, 5, 7] {
            lengths.add(bytes);
        }
        assert_eq!((lengths.take(0), lengths.take(3), lengths.take(1)), (0, 8, 7));
        assert_eq!(lengths.take(1), 0);
    }

    #[test]
    fn receipts_are_counted_and_printed_in_order_also_when_they_outrun_the_output() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let counts = Counts::default();
        let lengths = Lengths::default();
        // More than a block of the output.
        let end = 100_000;
        runtime.block_on(async {
            let mut output = Output::create(Some(&path)).unwrap();
            let (mut pusher, receipts) = receipts();
            let push = async {
                for number in 0..end {
                    lengths.add(3);
                    lengths.add(4);
                    let receipt = Receipt {
                        topic: "default".parse().unwrap(),
                        offset: Offset::new(number),
                        next: Offset::new(number + 1),
                        messages: 2,
                        crc: 0,
                    };
                    pusher.push(&receipt).await.unwrap();
                }
                drop(pusher);
            };
            tokio::join!(push, receipts.print(&lengths, &counts, &mut output));
            output.finish().await.unwrap();
        });
        let expected: String = (0..end).flat_map(|number| [number.to_string(), "\n".into()]).collect();
        assert!(std::fs::read_to_string(&path).unwrap() == expected);
        assert_eq!((counts.messages(), counts.bytes()), (2 * end, 7 * end));
    }
}
