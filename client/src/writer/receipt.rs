//! Receipts: what was acknowledged, told to the user in order, from a task of its own.
//!
//! Every receipt is told. A pusher that is slower than the server holds the writer up, once 1,024 of them wait.

use std::error::Error as StdError;
use std::fmt;

use async_trait::async_trait;
use logd_protocol::{Offset, TopicName};
use tokio::sync::mpsc;

use super::events::{Events, WriterEvent};
use crate::error::{Error, ErrorKind};

/// How many receipts wait for the pusher, at most.
const RECEIPTS_MAX: usize = 1024;

/// A batch was acknowledged: it is in the topic.
///
/// Whether it survives a power cut there is the server's matter, by its flush settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The topic that has it.
    pub topic: TopicName,
    /// The offset of the batch.
    pub offset: Offset,
    /// The offset behind the batch.
    pub next: Offset,
    /// How many messages it has.
    pub messages: u64,
    /// The checksum of its body.
    pub crc: u32,
}

/// Takes the receipt of every batch that the server has acknowledged, in their order.
///
/// Every function of a receipt is a pusher that never fails: `|receipt: &Receipt| println!("{}", receipt.offset)`. One that
/// can fail, or waits, implements this.
#[async_trait]
pub trait StatePusher: Send + 'static {
    /// Takes a receipt. The next is not pushed before this is done; while 1,024 wait, the writer waits, too, and with
    /// it its [`close`](super::Writer::close). A pusher that panics is not called again.
    ///
    /// # Errors
    /// Whatever the pusher likes to say. The [`ErrorHandler`](super::ErrorHandler) hears it; the receipt is not pushed
    /// again.
    async fn push(&mut self, receipt: &Receipt) -> Result<(), Box<dyn StdError + Send + Sync>>;
}

#[async_trait]
impl<F: FnMut(&Receipt) + Send + 'static> StatePusher for F {
    async fn push(&mut self, receipt: &Receipt) -> Result<(), Box<dyn StdError + Send + Sync>> {
        self(receipt);
        Ok(())
    }
}

/// Where receipts go.
#[derive(Debug)]
pub(super) struct Receipts {
    queue: Option<mpsc::Sender<Receipt>>,
    events: Events,
}

/// What the pusher's task needs.
pub(super) struct ReceiptLoop {
    queue: mpsc::Receiver<Receipt>,
    events: Events,
    pusher: Box<dyn StatePusher>,
}

impl fmt::Debug for ReceiptLoop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ReceiptLoop")
    }
}

impl Receipts {
    pub(super) fn new(pusher: Option<Box<dyn StatePusher>>, events: &Events) -> (Self, Option<ReceiptLoop>) {
        let events = events.clone();
        let Some(pusher) = pusher else { return (Self { queue: None, events }, None) };
        let (sender, queue) = mpsc::channel(RECEIPTS_MAX);
        let receipts = Self { queue: Some(sender), events: events.clone() };
        (receipts, Some(ReceiptLoop { queue, events, pusher }))
    }

    /// Tells of an acknowledged batch, after waiting for room in the queue.
    pub(super) async fn push(&mut self, receipt: impl FnOnce() -> Receipt) {
        if let Some(queue) = &self.queue
            && queue.send(receipt()).await.is_err()
        {
            // The pusher has panicked, which its task's runtime has told.
            self.queue = None;
            let error = Error::new(ErrorKind::Closed, "the pusher of receipts has ended");
            self.events.tell(|| WriterEvent::ReceiptFailed { error });
        }
    }

    /// No more receipts come: the pusher's task ends when it has pushed those that wait.
    pub(super) fn close(&mut self) {
        self.queue = None;
    }
}

impl ReceiptLoop {
    pub(super) async fn run(mut self) {
        while let Some(receipt) = self.queue.recv().await {
            if let Err(source) = self.pusher.push(&receipt).await {
                let text = format!("cannot push the receipt for offset `{}`: {source}", receipt.offset);
                let error = Error::new(ErrorKind::Invalid, text);
                self.events.tell(|| WriterEvent::ReceiptFailed { error });
            }
        }
    }
}
