//! The loads: a blocking thread for each connection, one request outstanding, the time of each taken.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use logd_protocol::{Batch, BatchBuilder, Decoded, Messages, TopicName, decode_batch};

/// The messages that the batches are made of, in bytes.
const MESSAGE_BYTES: usize = 100;
/// The largest time that is told apart, in nanoseconds: a minute.
const NANOS_MAX: u64 = 60_000_000_000;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Batches of about so many bytes are written.
    Write {
        /// The bytes.
        bytes: usize,
    },
    /// Batches are read, about so many bytes of them with each request, their checksums computed, and their messages
    /// walked.
    Read {
        /// The bytes.
        bytes: usize,
    },
}

/// A load on a server.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// What is done.
    pub work: Work,
    /// On so many connections.
    pub connections: usize,
    /// Over which so many topics are spread.
    pub topics: usize,
    /// For so long.
    pub time: Duration,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Amount {
    /// How many requests were answered.
    pub requests: u64,
    /// The bytes of the batches.
    pub bytes: u64,
    /// From the first request to the last answer.
    pub time: Duration,
    /// The time of each request, in nanoseconds.
    pub latency: Histogram<u64>,
}

impl Amount {
    /// Bytes in a second.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64()
    }
}

impl Load {
    /// Runs the load. Reading needs topics that were [filled](fill).
    ///
    /// # Errors
    /// Those of the connections; [`io::ErrorKind::InvalidData`] for an answer that is not understood.
    pub fn run(&self, server: SocketAddr) -> io::Result<Amount> {
        let barrier = Barrier::new(self.connections);
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections)
                .map(|number| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        let connection = Connection::new(server, topic(number % self.topics)?);
                        barrier.wait();
                        connection?.run(self)
                    })
                })
                .collect();
            threads.into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        let mut sum = Amount { requests: 0, bytes: 0, time: Duration::ZERO, latency: histogram()? };
        for amount in done {
            let amount = amount.map_err(|_| io::Error::other("a connection's thread has panicked"))??;
            sum.requests += amount.requests;
            sum.bytes += amount.bytes;
            sum.time = sum.time.max(amount.time);
            sum.latency.add(&amount.latency).map_err(io::Error::other)?;
        }
        Ok(sum)
    }
}

/// Writes so many bytes of batches to each topic, for reading.
///
/// # Errors
/// As [`Load::run`].
pub fn fill(server: SocketAddr, topics: usize, bytes: u64, batch_bytes: usize) -> io::Result<()> {
    for number in 0..topics {
        let mut connection = Connection::new(server, topic(number)?)?;
        let batch = batch(&connection.topic, batch_bytes)?;
        let mut written = 0;
        while written < bytes {
            written += connection.write(&batch)?;
        }
    }
    Ok(())
}

fn topic(number: usize) -> io::Result<TopicName> {
    format!("bench-{number}").parse().map_err(io::Error::other)
}

/// A batch with a body of at most so many bytes.
fn batch(topic: &TopicName, bytes: usize) -> io::Result<Batch> {
    let mut builder = BatchBuilder::new(topic, bytes + 512);
    for number in 0_u8.. {
        let message = [b'a' + number % 26; MESSAGE_BYTES];
        if builder.push(&message).is_err() {
            break;
        }
    }
    builder.finish().ok_or_else(|| bad("too small a batch"))
}

pub(crate) fn histogram() -> io::Result<Histogram<u64>> {
    Histogram::new_with_max(NANOS_MAX, 3).map_err(io::Error::other)
}

struct Connection {
    stream: TcpStream,
    topic: TopicName,
    buffer: Vec<u8>,
    /// What of the buffer was received and not taken.
    start: usize,
    end: usize,
    /// What is read next.
    offset: u64,
}

impl Connection {
    fn new(server: SocketAddr, topic: TopicName) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, topic, buffer: vec![0; 256 * 1024], start: 0, end: 0, offset: 0 })
    }

    fn run(mut self, load: &Load) -> io::Result<Amount> {
        let mut amount = Amount { requests: 0, bytes: 0, time: Duration::ZERO, latency: histogram()? };
        let begin = Instant::now();
        let mut last = begin;
        match load.work {
            Work::Write { bytes } => {
                let batch = batch(&self.topic, bytes)?;
                while begin.elapsed() < load.time {
                    amount.bytes += self.write(&batch)?;
                    last = amount.note(last);
                }
            }
            Work::Read { bytes } => {
                let messages = bytes / (MESSAGE_BYTES + 11);
                while begin.elapsed() < load.time {
                    amount.bytes += self.read(messages)?;
                    last = amount.note(last);
                }
            }
        }
        amount.time = last.duration_since(begin);
        Ok(amount)
    }

    fn write(&mut self, batch: &Batch) -> io::Result<u64> {
        self.stream.write_all(batch.bytes())?;
        let (_, batches) = self.answer()?.ok_or_else(|| bad("a batch was refused"))?;
        if batches == 1 { Ok(batch.bytes().len() as u64) } else { Err(bad("not one batch")) }
    }

    /// Reads batches; behind the last one of the topic it begins anew.
    fn read(&mut self, messages: usize) -> io::Result<u64> {
        let request = format!("READ {} {} {messages}\r\n", self.topic, self.offset);
        self.stream.write_all(request.as_bytes())?;
        let Some((offset, batches)) = self.answer()? else {
            if self.offset == 0 {
                return Err(bad("the topic is empty"));
            }
            self.offset = 0;
            return self.read(messages);
        };
        let mut bytes = 0;
        for _ in 0..batches {
            bytes += self.take_batch()? as u64;
        }
        self.offset = offset + bytes;
        Ok(bytes)
    }

    /// `OK <offset> <batches>`; `None` for `ERR not found`.
    fn answer(&mut self) -> io::Result<Option<(u64, u64)>> {
        let length = loop {
            if let Some(at) = self.received().iter().position(|byte| *byte == b'\n') {
                break at + 1;
            }
            self.receive(1)?;
        };
        let line = String::from_utf8_lossy(self.received().get(..length).unwrap_or_default()).into_owned();
        self.start += length;
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("OK") {
            return if line.trim() == "ERR not found" { Ok(None) } else { Err(bad(&line)) };
        }
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or_else(|| bad(&line));
        Ok(Some((number()?, number()?)))
    }

    /// Takes a batch as a client has to: its checksum and its frames are right.
    fn take_batch(&mut self) -> io::Result<usize> {
        loop {
            let wanted = match decode_batch(self.received(), usize::MAX) {
                Decoded::More { bytes } => bytes,
                Decoded::Broken(broken) => return Err(bad(&broken.to_string())),
                Decoded::Whole { value, bytes } => {
                    value.check_crc().map_err(io::Error::other)?;
                    for message in Messages::new(value.body()) {
                        std::hint::black_box(message.map_err(io::Error::other)?.bytes);
                    }
                    self.start += bytes;
                    return Ok(bytes);
                }
            };
            self.receive(wanted - self.received().len())?;
        }
    }

    fn received(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Receives what there is, with room for so much more at least.
    fn receive(&mut self, more: usize) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end + more > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            let length = self.buffer.len().max(self.end + more);
            self.buffer.resize(length, 0);
        }
        match self.stream.read(self.buffer.get_mut(self.end..).unwrap_or_default())? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.end += bytes;
                Ok(())
            }
        }
    }
}

impl Amount {
    /// A request is answered.
    fn note(&mut self, since: Instant) -> Instant {
        let now = Instant::now();
        self.requests += 1;
        let nanos = u64::try_from(now.duration_since(since).as_nanos()).unwrap_or(NANOS_MAX);
        self.latency.saturating_record(nanos);
        now
    }
}

fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.trim())
}
