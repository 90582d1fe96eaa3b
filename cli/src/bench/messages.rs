//! Small messages through the client's `Writer` and `Scanner`.
//!
//! A writer is given messages as fast as it takes them. Beside that, one message at a time is followed from the write to
//! its acknowledgement: that is the latency. A scanner reads its topic once; the latency is how long it had to wait, where
//! it had to.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt;
use logd_client::{Error, Receipt, Scanner, TopicName, WhenFailed, WriteError, Writer};

use super::batches::Part;
use super::failure;
use super::plan::Plan;
use super::tally::Tally;
use crate::exit::Failure;

/// How many batches are under way at once, where the server can tell a repeated one.
const IN_FLIGHT: usize = 4;
/// How many full batches a writer holds: those under way, one that waits, and one that fills.
pub(super) const BUFFERED_BATCHES: usize = IN_FLIGHT + 2;

/// A writer, and how many batches it was told are in the topic.
#[derive(Debug)]
pub(super) struct Counted {
    writer: Writer,
    batches: Arc<AtomicU64>,
}

impl Counted {
    pub(super) fn open(plan: &Plan, topic: TopicName) -> Result<Self, Error> {
        let batches = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&batches);
        let writer = Writer::builder(plan.config.clone())
            .topic(topic)
            .batch_bytes(plan.batch_bytes)
            .wait_interval(plan.wait_interval)
            .in_flight(IN_FLIGHT)
            .buffer_bytes(plan.batch_bytes.saturating_mul(BUFFERED_BATCHES))
            .budget(Duration::MAX)
            .when_failed(WhenFailed::Halt)
            .state_pusher(move |_: &Receipt| {
                counter.fetch_add(1, Ordering::Relaxed);
            })
            .open()?;
        Ok(Self { writer, batches })
    }
}

/// Why nothing more is written.
enum End {
    Told,
    Refused(WriteError),
    Failed(Error),
}

/// Writes the message again and again.
pub(super) async fn write(counted: Counted, message: Vec<u8>, mut part: Part) -> Tally {
    let Counted { writer, batches } = counted;
    let stop = part.stop.clone();
    let end = tokio::select! {
        Err(refused) = fill(&writer, &message) => End::Refused(refused),
        end = follow(&writer, &message, &mut part.tally) => end,
        () = stop.ending() => End::Told,
    };
    let closed = tokio::select! {
        closed = writer.close() => closed,
        () = stop.over() => {
            part.tally.abandoned += 1;
            Ok(())
        }
    };
    part.touch();
    let tally = &mut part.tally;
    tally.messages = writer.stats().delivered;
    tally.bytes = tally.messages.saturating_mul(message.len() as u64);
    tally.batches = batches.load(Ordering::Relaxed);
    match (closed, end) {
        (Err(failed), _) => tally.fail(failed.batches, failure(failed.first)),
        (Ok(()), End::Refused(refused)) => tally.fail(1, Failure::failed(refused.to_string())),
        (Ok(()), End::Failed(error)) => tally.fail(1, failure(error)),
        (Ok(()), End::Told) => {}
    }
    part.tally
}

async fn fill(writer: &Writer, message: &[u8]) -> Result<Infallible, WriteError> {
    loop {
        writer.write(message).await?;
    }
}

/// Follows one message after the other.
async fn follow(writer: &Writer, message: &[u8], tally: &mut Tally) -> End {
    loop {
        let began = Instant::now();
        let delivery = match writer.send(message).await {
            Ok(delivery) => delivery,
            Err(refused) => return End::Refused(refused),
        };
        if let Err(failed) = delivery.await {
            return End::Failed(failed.error);
        }
        tally.record_since(began);
    }
}

/// Reads to the end of the topic.
pub(super) async fn read(mut scanner: Scanner, mut part: Part) -> Tally {
    let stop = part.stop.clone();
    let read = read_all(&mut scanner, &mut part);
    // Nothing is asked for that is not read: what is under way is read ahead.
    let read = tokio::select! {
        read = read => read,
        () = stop.ending() => Ok(()),
    };
    if let Err(error) = read {
        part.tally.fail(1, failure(error));
    }
    part.tally
}

async fn read_all(scanner: &mut Scanner, part: &mut Part) -> Result<(), Error> {
    let mut last_batch = None;
    loop {
        let next = match scanner.next().now_or_never() {
            Some(next) => next,
            None => {
                part.touch();
                let began = Instant::now();
                let next = scanner.next().await;
                part.tally.record_since(began);
                next
            }
        };
        let Some(message) = next.transpose()? else {
            part.touch();
            return Ok(());
        };
        let batch = Some(message.position.offset);
        if last_batch != batch {
            last_batch = batch;
            part.tally.batches += 1;
            part.touch();
        }
        part.tally.messages += 1;
        part.tally.bytes += message.bytes.len() as u64;
    }
}
