//! What becomes of a single message, told to the one who sent it.
//!
//! A batch that holds such messages has one promise, which is kept when the batch is settled, and of which each of its
//! messages has a share.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::Shared;
use logd_protocol::Offset;
use logd_statehandlers::Position;
use tokio::sync::oneshot;

use crate::error::{AppendError, Error, ErrorKind};

/// Where a batch is, or why it is not there.
pub(super) type Promise = oneshot::Sender<Result<Offset, AppendError>>;

/// A share in a promise.
pub(super) type Fate = Shared<oneshot::Receiver<Result<Offset, AppendError>>>;

/// A promise, and what shares are made from.
pub(super) fn promise() -> (Promise, Fate) {
    let (promise, fate) = oneshot::channel();
    (promise, fate.shared())
}

/// Becomes the position of a message when the server has it under its write guarantee.
///
/// The error says why the message's batch was given up, and whether it may be in the topic all the same. The batch is
/// in the backlog then, or, where the [kind](Error::kind) of its [error](AppendError::error) is [`ErrorKind::Spooled`], safe in the spool; what is done with it
/// there is not told here any more.
///
/// Dropping it loses the news, not the message.
#[derive(Debug)]
#[must_use = "a delivery that is not awaited tells nobody that the message failed"]
pub struct Delivery {
    fate: Fate,
    delta: u64,
}

impl Delivery {
    pub(super) fn new(fate: Fate, delta: usize) -> Self {
        Self { fate, delta: delta as u64 }
    }
}

impl Future for Delivery {
    type Output = Result<Position, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let told = std::task::ready!(self.fate.poll_unpin(context));
        // A writer settles every batch before it is gone; were one dropped unsettled, nothing would be known of it.
        let settled = told.unwrap_or_else(|_| {
            Err(AppendError::unknown(Error::new(
                ErrorKind::Closed,
                "the writer ended before the batch was settled",
            )))
        });
        Poll::Ready(settled.map(|offset| Position { offset, delta: self.delta }))
    }
}
