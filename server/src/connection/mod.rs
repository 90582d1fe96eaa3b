//! A connection: receives requests, has them carried out in order, answers.
//!
//! One task serves one connection, or a thread of its own while it is busy. It decodes requests where they were received
//! and appends batches from there. The answers to pipelined requests are sent together. A connection ends when its peer
//! is gone, asks for it, stays silent for the idle timeout, does not finish a request or take an answer within the timeout,
//! or sends what cannot be understood; the last three are answered before.

mod reading;
mod requests;
mod scratch;
mod serve;
mod thread;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{
    BatchId, Broken, Command, Decoded, Offset, RawBatch, Reason, Rejection, Request, Response, TopicName,
    TopicRef, decode_request,
};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use self::reading::Read;
pub(crate) use self::serve::{reject, reject_at_once, serve};
pub(crate) use self::thread::{THREADS_MAX, Threads};
use crate::config::Config;
use crate::disk::DirLock;
use crate::host::Host;
use crate::input::{BufferPool, Input, Received};
use crate::send::Output;
use crate::socket::Socket;
use crate::stats::Stats;
use crate::topics::Topics;
use crate::watch;

/// A body that is too large is read and thrown away up to this length, so that the connection stays usable. The
/// connection of a longer one is closed.
const SKIP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Every time so much of a request has come in, it has the whole timeout again for the rest.
const PROGRESS_BYTES: usize = 64 * 1024;

/// A connection that has so many requests carried out in such a time is busy. What is moved counts, too: so many bytes as
/// one request more.
const BUSY_REQUESTS: u64 = 16;
const BUSY_BYTES: u64 = 256 * 1024;
const BUSY_TIME: Duration = Duration::from_millis(250);

/// How long a thread waits for the next request before it gives the connection back.
const PAUSE: Duration = Duration::from_millis(200);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) topics: Topics,
    pub(crate) stats: Arc<Stats>,
    pub(crate) buffers: Arc<BufferPool>,
    pub(crate) threads: Threads,
    pub(crate) host: Host,
    /// Released behind the last connection, or when the process dies: what one has in work may still be stored after
    /// the server was dropped, and must not be beside another server.
    pub(crate) _lock: Option<DirLock>,
}

/// How a connection came to its end.
enum End {
    /// The peer has gone, or was told to go.
    Closed,
    /// The server ends it; what the peer still sends is not read.
    Refused,
    /// It goes on without a pause: a thread serves it better.
    Busy(OwnedSemaphorePermit),
    /// It pauses: the runtime serves it better.
    Paused,
}

/// What a connection has with it from the runtime to a thread and back.
struct Carried {
    input: Input,
    /// The batch with an identity that was refused last, if it has not been stored since.
    refused: Option<Refused>,
    /// A request that is not answered yet.
    pending: Option<Read>,
    /// Whether it has waited for batches to come: a thread is of no use to it.
    waits: bool,
}

/// What came of waiting for bytes.
enum Wait {
    Bytes(usize),
    End,
    TimedOut,
    ShutDown,
    /// A thread has had nothing to do for a while.
    Paused,
}

/// Serves a connection until it ends, or is better served elsewhere.
async fn run(
    socket: &Socket,
    carried: &mut Carried,
    shared: &Arc<Shared>,
    shutdown: watch::Receiver<bool>,
) -> io::Result<End> {
    let mut connection = Connection {
        output: Output::new(socket, &shared.stats, shared.config.timeout),
        socket,
        input: &mut carried.input,
        refused: &mut carried.refused,
        pending: &mut carried.pending,
        waits: &mut carried.waits,
        shared,
        shutdown,
        work: 0,
        since: Instant::now(),
    };
    connection.run().await
}

struct Connection<'a> {
    input: &'a mut Input,
    output: Output<'a>,
    socket: &'a Socket,
    shared: &'a Arc<Shared>,
    shutdown: watch::Receiver<bool>,
    refused: &'a mut Option<Refused>,
    pending: &'a mut Option<Read>,
    waits: &'a mut bool,
    /// How many bytes were moved since then, and [`BUSY_BYTES`] for each request.
    work: u64,
    since: Instant,
}

/// docs/protocol.md, "Dedup": what its writer sent behind it is refused, too, so that the order is kept.
struct Refused {
    topic: TopicName,
    id: BatchId,
    reason: Reason,
}

impl Refused {
    fn is_before(&self, topic: TopicRef<'_>, id: BatchId) -> bool {
        self.id.writer == id.writer && self.id.seq < id.seq && self.topic.as_topic() == topic
    }
}

/// What to do after a request.
enum Next {
    /// Take the next request.
    Request,
    /// Read first.
    Read(Read),
    /// Throw away so many bytes of a body.
    Skip(u64),
    /// Close the connection as asked.
    Close,
    /// Close the connection of a peer that cannot be served further.
    Refuse,
}

/// Appends a batch, unless one that belongs before it was refused.
async fn append_in_order(
    shared: &Arc<Shared>,
    refused: &mut Option<Refused>,
    batch: &RawBatch<'_>,
    may_block: bool,
) -> Result<Offset, Reason> {
    let envelope = batch.envelope();
    let Some(id) = envelope.id() else { return requests::append(shared, batch, may_block).await };
    if let Some(before) = refused.as_ref().filter(|before| before.is_before(envelope.topic, id)) {
        return Err(before.reason);
    }
    let result = requests::append(shared, batch, may_block).await;
    match result {
        Err(reason) => *refused = Some(Refused { topic: envelope.topic.into(), id, reason }),
        Ok(_) if refused.as_ref().is_some_and(|refused| refused.id == id) => *refused = None,
        Ok(_) => {}
    }
    result
}

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<End> {
        let mut is_last = false;
        if let Some(read) = self.pending.take() {
            *self.waits = true;
            self.read(read).await?;
        }
        loop {
            let wanted = loop {
                match self.take_request().await? {
                    Ok(Next::Request) => {}
                    Ok(Next::Read(read)) if self.socket.is_own() && read.has_to_wait() => {
                        self.output.flush().await?;
                        *self.pending = Some(read);
                        return Ok(End::Paused);
                    }
                    Ok(Next::Read(read)) => self.read(read).await?,
                    Ok(Next::Skip(bytes)) => {
                        if let Some(end) = self.skip(bytes).await? {
                            return Ok(end);
                        }
                    }
                    Ok(Next::Close | Next::Refuse) => {
                        self.output.flush().await?;
                        return Ok(End::Refused);
                    }
                    Err(wanted) => break wanted,
                }
                if self.output.is_full() {
                    self.output.flush().await?;
                }
            };
            self.output.flush().await?;
            if is_last {
                return self.shut_down().await;
            }
            // A request that has begun to come in when the server ends is the last one.
            is_last = self.shutdown.look(|is_down| *is_down);
            if !is_last && let Some(end) = self.find_better_place() {
                return Ok(end);
            }
            if let Some(end) = self.receive(wanted).await? {
                return Ok(end);
            }
        }
    }

    /// Whether the connection is better served by a thread, or not any more.
    fn find_better_place(&mut self) -> Option<End> {
        if self.socket.is_own() {
            return self.shared.threads.is_crowded().then_some(End::Paused);
        }
        if self.work < BUSY_REQUESTS * BUSY_BYTES || *self.waits || !self.input.bytes().is_empty() {
            return None;
        }
        let now = Instant::now();
        let is_busy = now.duration_since(self.since) < BUSY_TIME;
        (self.work, self.since) = (0, now);
        if is_busy { self.shared.threads.take().map(End::Busy) } else { None }
    }

    /// Carries out the request at the beginning of the input, or says how long the input must be for there to be one.
    async fn take_request(&mut self) -> io::Result<Result<Next, usize>> {
        let config = &self.shared.config;
        let decoded = decode_request(self.input.bytes(), config.batch_bytes, config.max_messages);
        let (request, bytes) = match decoded {
            Decoded::More { bytes } => return Ok(Err(bytes)),
            Decoded::Broken(broken) => return Ok(Ok(self.refuse_garbage(broken))),
            Decoded::Whole { value, bytes } => (value, bytes),
        };
        let stats = &self.shared.stats;
        let next = match request {
            Ok(Request::Batch(batch)) => {
                stats.request(Command::Batch);
                let response =
                    match append_in_order(self.shared, self.refused, &batch, self.socket.is_own()).await {
                        Ok(offset) => Response::Found { offset, batches: 1 },
                        Err(reason) => {
                            stats.error(Some(Command::Batch));
                            Response::Error(reason)
                        }
                    };
                self.output.put(&response);
                Next::Request
            }
            Ok(request) => {
                stats.request(request.command());
                requests::answer(self.shared, &request, &mut self.output)
            }
            Err(rejection) => {
                stats.request(rejection.command);
                self.reject(&rejection)
            }
        };
        self.input.consume(bytes);
        self.work = self.work.saturating_add(BUSY_BYTES + bytes as u64);
        Ok(Ok(next))
    }

    /// Answers a request whose arguments cannot be.
    fn reject(&mut self, rejection: &Rejection) -> Next {
        self.shared.stats.error(Some(rejection.command));
        if rejection.reason == Reason::TopicNotAllowed {
            self.shared.stats.topic_disallowed();
        }
        self.output.put(&Response::Error(rejection.reason));
        match rejection.body_bytes {
            0 => Next::Request,
            bytes if bytes <= SKIP_BYTES_MAX => Next::Skip(bytes),
            _ => Next::Refuse,
        }
    }

    fn refuse_garbage(&mut self, broken: Broken) -> Next {
        tracing::debug!(%broken, "a request was not understood");
        self.shared.stats.error(None);
        self.output.put(&Response::Error(Reason::InvalidProtocol));
        Next::Refuse
    }

    /// Receives until the input has `wanted` bytes: the beginning of a request, or the rest of it.
    async fn receive(&mut self, wanted: usize) -> io::Result<Option<End>> {
        let is_idle = self.input.bytes().is_empty();
        if is_idle {
            // A thread waits with its buffer.
            if !self.socket.is_own() {
                self.input.release();
            }
            let deadline = Instant::now() + self.shared.config.idle_timeout;
            match self.wait_for_bytes(wanted, deadline, true).await? {
                Wait::Bytes(_) => {}
                Wait::End | Wait::TimedOut => return Ok(Some(End::Closed)),
                Wait::Paused => return Ok(Some(End::Paused)),
                Wait::ShutDown => return self.shut_down().await.map(Some),
            }
        }
        let mut deadline = Instant::now() + self.shared.config.timeout;
        let mut progress = 0;
        // More than was asked for is dealt with first: the rest of a request may be a request line only.
        while self.input.bytes().len() < wanted {
            match self.wait_for_bytes(wanted, deadline, false).await? {
                Wait::Bytes(bytes) => progress += bytes,
                Wait::End => return Ok(Some(End::Closed)),
                Wait::TimedOut | Wait::ShutDown | Wait::Paused => return self.time_out().await.map(Some),
            }
            if progress >= PROGRESS_BYTES {
                progress = 0;
                deadline = Instant::now() + self.shared.config.timeout;
            }
        }
        Ok(None)
    }

    /// Tells the peer that whatever it has asked for since the last answer is not done.
    async fn shut_down(&mut self) -> io::Result<End> {
        self.output.put(&Response::Error(Reason::ShuttingDown));
        self.output.flush().await?;
        Ok(End::Refused)
    }

    async fn time_out(&mut self) -> io::Result<End> {
        self.shared.stats.error(None);
        self.output.put(&Response::Error(Reason::TimedOut));
        self.output.flush().await?;
        Ok(End::Refused)
    }

    /// Throws away the rest of a body, in the time that a request has.
    async fn skip(&mut self, mut bytes: u64) -> io::Result<Option<End>> {
        self.output.flush().await?;
        let mut deadline = Instant::now() + self.shared.config.timeout;
        let mut progress = 0;
        loop {
            let there = self.input.bytes().len();
            let skipped = usize::try_from(bytes).unwrap_or(usize::MAX).min(there);
            self.input.consume(skipped);
            bytes -= skipped as u64;
            if bytes == 0 {
                return Ok(None);
            }
            if progress >= PROGRESS_BYTES {
                progress = 0;
                deadline = Instant::now() + self.shared.config.timeout;
            }
            match self.wait_for_bytes(PROGRESS_BYTES, deadline, false).await? {
                Wait::Bytes(bytes) => progress += bytes,
                Wait::End => return Ok(Some(End::Closed)),
                Wait::TimedOut | Wait::ShutDown | Wait::Paused => return self.time_out().await.map(Some),
            }
        }
    }

    /// Waits for the peer to send something. A connection that is idle does not outlast the server.
    async fn wait_for_bytes(&mut self, wanted: usize, deadline: Instant, is_idle: bool) -> io::Result<Wait> {
        if self.socket.is_own() {
            return self.wait_on_thread(wanted, deadline, is_idle);
        }
        loop {
            // An idle connection has no buffer until there is something to put into it.
            if !is_idle || !self.input.bytes().is_empty() {
                match self.input.read(self.socket, wanted)? {
                    Received::Bytes(bytes) => {
                        self.shared.stats.received(bytes);
                        tokio::task::coop::consume_budget().await;
                        return Ok(Wait::Bytes(bytes));
                    }
                    Received::End => return Ok(Wait::End),
                    Received::Nothing => {}
                }
            }
            tokio::select! {
                biased;
                () = self.shutdown.wait_for(|is_down| *is_down), if is_idle => return Ok(Wait::ShutDown),
                ready = timeout_at(deadline, self.socket.readable()) => match ready {
                    Ok(ready) => ready?,
                    Err(_) => return Ok(Wait::TimedOut),
                },
            }
            if is_idle {
                match self.input.read(self.socket, wanted)? {
                    Received::Bytes(bytes) => {
                        self.shared.stats.received(bytes);
                        return Ok(Wait::Bytes(bytes));
                    }
                    Received::End => return Ok(Wait::End),
                    Received::Nothing => self.input.release(),
                }
            }
        }
    }

    /// As [`Connection::wait_for_bytes`], in the kernel.
    fn wait_on_thread(&mut self, wanted: usize, deadline: Instant, is_idle: bool) -> io::Result<Wait> {
        let pause = Instant::now() + PAUSE;
        loop {
            match self.input.read(self.socket, wanted)? {
                Received::Bytes(bytes) => {
                    self.shared.stats.received(bytes);
                    return Ok(Wait::Bytes(bytes));
                }
                Received::End => return Ok(Wait::End),
                Received::Nothing => {}
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(Wait::TimedOut);
            }
            if is_idle && self.shutdown.look(|is_down| *is_down) {
                return Ok(Wait::ShutDown);
            }
            if is_idle && now >= pause {
                return Ok(Wait::Paused);
            }
        }
    }
}
