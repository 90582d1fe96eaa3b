//! Whole batches over a connection, one request after the other.
//!
//! A batch is built once and sent again and again. A reader asks for one batch at a time, from the oldest on, and begins
//! again there at the end.

use std::pin::pin;
use std::time::Instant;

use logd_client::{Batch, Client, Error, Offset, TopicName};

use super::failure;
use super::stop::Stop;
use super::tally::Tally;
use crate::exit::Failure;

/// A connection's part of a phase: when it began, when to stop, and what it has counted.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) start: Instant,
    pub(super) stop: Stop,
    pub(super) tally: Tally,
}

impl Part {
    /// Notes that something was counted just now.
    pub(super) fn touch(&mut self) {
        self.tally.time = self.start.elapsed();
    }

    fn count(&mut self, began: Instant, batches: &[Batch]) {
        self.tally.record_since(began);
        for batch in batches {
            self.tally.bytes += batch.bytes().len() as u64;
            self.tally.messages += batch.messages();
        }
        self.tally.batches += batches.len() as u64;
        self.touch();
    }
}

/// Appends the batch again and again.
pub(super) async fn write(mut client: Client, batch: Batch, mut part: Part) -> Tally {
    let stop = part.stop.clone();
    let mut over = pin!(stop.over());
    while part.stop.is_running() {
        let began = Instant::now();
        let appended = tokio::select! {
            appended = client.append(&batch) => appended,
            () = &mut over => {
                part.tally.abandoned += 1;
                break;
            }
        };
        if let Err(failed) = appended {
            part.tally.fail(1, failure(failed.error));
            break;
        }
        part.count(began, std::slice::from_ref(&batch));
    }
    part.tally
}

/// Reads the topic, whose oldest batch is at `oldest`, again and again.
pub(super) async fn read(mut client: Client, topic: TopicName, oldest: Offset, mut part: Part) -> Tally {
    let stop = part.stop.clone();
    let mut over = pin!(stop.over());
    let mut place = Place { oldest, next: oldest, end: None };
    while part.stop.is_running() {
        let began = Instant::now();
        let answer = tokio::select! {
            answer = client.read(&topic, place.next, 1) => answer,
            () = &mut over => {
                part.tally.abandoned += 1;
                break;
            }
        };
        match answer {
            Ok(answer) => {
                part.count(began, &answer.batches);
                place.pass(answer.next_offset());
            }
            Err(error) if error.is_not_found() => {
                if let Err(error) = place.turn(&mut client, &topic).await {
                    part.tally.fail(1, read_failure(&topic, error));
                    break;
                }
            }
            Err(error) => {
                part.tally.fail(1, failure(error));
                break;
            }
        }
    }
    part.tally
}

/// Where a reader is in its topic.
#[derive(Debug)]
struct Place {
    oldest: Offset,
    next: Offset,
    /// The end of the topic, once it was found.
    end: Option<Offset>,
}

impl Place {
    /// Goes on to `next`, or to the oldest batch if that is the end.
    fn pass(&mut self, next: Offset) {
        self.next = if self.end == Some(next) { self.oldest } else { next };
    }

    /// Nothing is at `next`: begins again with the oldest batch, which can be another one by now.
    async fn turn(&mut self, client: &mut Client, topic: &TopicName) -> Result<(), Error> {
        if self.next == self.oldest {
            self.oldest = client.tail(topic, 1).await?.offset;
        } else {
            self.end = Some(self.next);
        }
        self.next = self.oldest;
        Ok(())
    }
}

/// What to say when a topic cannot be read from its oldest batch.
pub(super) fn read_failure(topic: &TopicName, error: Error) -> Failure {
    if error.is_not_found() {
        Failure::failed(format!(
            "there is nothing to read: topic `{topic}` has no batches, so write some first, with `--only-write`"
        ))
    } else {
        failure(error)
    }
}
