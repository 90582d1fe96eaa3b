//! The loads: a blocking thread for each connection, one request outstanding, the time of each taken.
//!
//! What is sent is made before the clock starts. A load ends after its time or its bytes, whichever comes first, on all
//! connections alike. An answer that is not understood, or not right, ends the whole run.

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use logd_protocol::{Batch, BatchBuilder, TopicName};

use crate::connection::{Connection, bad};

/// The messages that the batches are made of, in bytes.
pub(crate) const MESSAGE_BYTES: usize = 100;
/// A message in a body: `MSG 100`, the message, and a line end behind each.
pub(crate) const FRAMED_BYTES: usize = MESSAGE_BYTES + 11;
/// Longer times are counted as this: a minute, in nanoseconds.
const NANOS_MAX: u64 = 60_000_000_000;

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Batches of about so many bytes are written.
    Write { bytes: usize },
    /// Batches are read, about so many bytes of them with each request, their checksums computed, and their messages
    /// walked.
    Read { bytes: usize },
}

/// A load on a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) work: Work,
    pub(crate) connections: usize,
    /// Where there are fewer than connections, each connection has one of them; else it has its share, in turn.
    pub(crate) topics: usize,
    /// For so long at most.
    pub(crate) time: Duration,
    /// So many bytes at most, and what is under way on the other connections then.
    pub(crate) bytes_max: u64,
}

/// What was done.
#[derive(Debug, Clone)]
pub(crate) struct Amount {
    /// How many requests were answered.
    pub(crate) requests: u64,
    /// The bytes of the batches.
    pub(crate) bytes: u64,
    /// From the first request to the last answer.
    pub(crate) time: Duration,
    /// The time of each request, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Amount {
    fn none() -> io::Result<Self> {
        Ok(Self { requests: 0, bytes: 0, time: Duration::ZERO, latency: histogram()? })
    }

    /// Bytes in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }

    /// The time that so much of the requests took at most, in microseconds.
    pub(crate) fn micros(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// A request that began `since` is answered, now.
    fn note(&mut self, since: Instant, bytes: u64) -> Instant {
        let now = Instant::now();
        self.requests += 1;
        self.bytes += bytes;
        self.latency.saturating_record(nanos(now.duration_since(since)));
        now
    }
}

impl Load {
    /// Runs the load. Reading needs topics that were [filled](fill).
    pub(crate) fn run(&self, server: SocketAddr) -> io::Result<Amount> {
        let barrier = Barrier::new(self.connections);
        let bytes = AtomicU64::new(0);
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|number| {
                    let (barrier, bytes) = (&barrier, &bytes);
                    scope.spawn(move || {
                        let ready = Requests::new(self, number)
                            .and_then(|requests| Ok((requests, Connection::new(server)?, Amount::none()?)));
                        barrier.wait();
                        let (requests, connection, amount) = ready?;
                        self.carry_out(requests, connection, amount, bytes)
                    })
                })
                .collect();
            threads.into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let mut sum = Amount::none()?;
        for amount in done {
            let amount = amount.map_err(|_| io::Error::other("a connection's thread has panicked"))??;
            sum.requests += amount.requests;
            sum.bytes += amount.bytes;
            sum.time = sum.time.max(amount.time);
            sum.latency.add(&amount.latency).map_err(io::Error::other)?;
        }
        Ok(sum)
    }

    fn carry_out(
        &self,
        mut requests: Requests,
        mut connection: Connection,
        mut amount: Amount,
        all_bytes: &AtomicU64,
    ) -> io::Result<Amount> {
        let begin = Instant::now();
        let mut last = begin;
        while last.duration_since(begin) < self.time && all_bytes.load(Ordering::Relaxed) < self.bytes_max {
            let bytes = requests.next(&mut connection)?;
            all_bytes.fetch_add(bytes, Ordering::Relaxed);
            last = amount.note(last, bytes);
        }
        amount.time = last.duration_since(begin);
        Ok(amount)
    }
}

/// What a connection asks for, in turn.
enum Requests {
    /// A batch for each topic.
    Write { batches: Vec<Batch>, next: usize },
    /// Each topic, and what is read of it next.
    Read { topics: Vec<(TopicName, u64)>, next: usize, messages: usize },
}

impl Requests {
    fn new(load: &Load, number: usize) -> io::Result<Self> {
        let numbers = (number % load.topics..load.topics).step_by(load.connections);
        let topics = numbers.map(topic).collect::<io::Result<Vec<_>>>()?;
        match load.work {
            Work::Write { bytes } => {
                let batches = topics.iter().map(|topic| batch(topic, bytes)).collect::<io::Result<_>>()?;
                Ok(Self::Write { batches, next: 0 })
            }
            Work::Read { bytes } => Ok(Self::Read {
                topics: topics.into_iter().map(|topic| (topic, 0)).collect(),
                next: 0,
                messages: bytes.div_ceil(FRAMED_BYTES),
            }),
        }
    }

    /// Carries the next one out; the bytes of its batches.
    fn next(&mut self, connection: &mut Connection) -> io::Result<u64> {
        match self {
            Self::Write { batches, next } => {
                let batch = batches.get(*next % batches.len()).ok_or_else(|| bad("no topic"))?;
                *next += 1;
                connection.write(batch)?;
                Ok(batch.bytes().len() as u64)
            }
            Self::Read { topics, next, messages } => {
                let count = topics.len();
                let (topic, offset) = topics.get_mut(*next % count).ok_or_else(|| bad("no topic"))?;
                *next += 1;
                let bytes = match connection.read(topic, *offset, *messages)? {
                    Some(bytes) => bytes,
                    // Behind the last batch of a topic comes the first again.
                    None => {
                        *offset = 0;
                        connection.read(topic, 0, *messages)?.ok_or_else(|| bad("a topic is empty"))?
                    }
                };
                *offset += bytes;
                Ok(bytes)
            }
        }
    }
}

/// Writes so many bytes of batches to each topic, at least one batch.
pub(crate) fn fill(server: SocketAddr, topics: usize, bytes: u64, batch_bytes: usize) -> io::Result<()> {
    let mut connection = Connection::new(server)?;
    for number in 0..topics {
        let batch = batch(&topic(number)?, batch_bytes)?;
        let mut written = 0;
        while written < bytes.max(1) {
            connection.write(&batch)?;
            written += batch.bytes().len() as u64;
        }
    }
    Ok(())
}

/// Reads the newest batch of one topic again and again, while so many connections write to it at full speed. What comes
/// back is what the reader did.
pub(crate) fn read_newest(
    server: SocketAddr,
    writers: usize,
    batch_bytes: usize,
    time: Duration,
    bytes_max: u64,
) -> io::Result<Amount> {
    let topic = topic(0)?;
    let batch = batch(&topic, batch_bytes)?;
    let newest = AtomicU64::new(Connection::new(server)?.write(&batch)?);
    let written = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = Connection::new(server)?;
                    while !is_over.load(Ordering::Relaxed) {
                        newest.fetch_max(connection.write(&batch)?, Ordering::Relaxed);
                        written.fetch_add(batch.bytes().len() as u64, Ordering::Relaxed);
                    }
                    Ok::<_, io::Error>(())
                })
            })
            .collect();
        let read = || {
            let mut connection = Connection::new(server)?;
            let mut amount = Amount::none()?;
            let begin = Instant::now();
            let mut last = begin;
            while last.duration_since(begin) < time && written.load(Ordering::Relaxed) < bytes_max {
                let offset = newest.load(Ordering::Relaxed);
                let bytes =
                    connection.read(&topic, offset, 1)?.ok_or_else(|| bad("the newest is missing"))?;
                last = amount.note(last, bytes);
            }
            amount.time = last.duration_since(begin);
            Ok(amount)
        };
        let amount = read();
        is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().map_err(|_| io::Error::other("a writer's thread has panicked"))??;
        }
        amount
    })
}

/// Writes a batch of one message and reads it back, again and again: the time of both together.
pub(crate) fn write_and_read(server: SocketAddr, time: Duration) -> io::Result<Amount> {
    let topic = topic(0)?;
    let batch = batch(&topic, FRAMED_BYTES)?;
    let mut connection = Connection::new(server)?;
    let mut amount = Amount::none()?;
    let begin = Instant::now();
    let mut last = begin;
    while last.duration_since(begin) < time {
        let offset = connection.write(&batch)?;
        let bytes = connection.read(&topic, offset, 1)?.ok_or_else(|| bad("what was written is missing"))?;
        last = amount.note(last, bytes);
    }
    amount.time = last.duration_since(begin);
    Ok(amount)
}

/// The name of a topic of the loads.
pub(crate) fn topic(number: usize) -> io::Result<TopicName> {
    format!("bench-{number}").parse().map_err(io::Error::other)
}

/// For times in nanoseconds.
pub(crate) fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_max(NANOS_MAX, 3).map_err(io::Error::other)
}

/// A time as the histograms take it.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NANOS_MAX)
}

/// A batch whose body has as many messages as fit into so many bytes.
fn batch(topic: &TopicName, bytes: usize) -> io::Result<Batch> {
    let mut builder = BatchBuilder::new(topic, bytes + 512);
    for number in 0..bytes / FRAMED_BYTES {
        let letter = b'a' + u8::try_from(number % 26).unwrap_or(0);
        builder.push(&[letter; MESSAGE_BYTES]).map_err(io::Error::other)?;
    }
    builder.finish().ok_or_else(|| bad("too small a batch"))
}
