//! A connection: receives requests, has them carried out in order, answers.
//!
//! One task serves one connection. It decodes requests where they were received and appends batches from there. The
//! answers to pipelined requests are sent together. A connection ends when its peer is gone, asks for it, stays silent
//! for the idle timeout, does not finish a request or take an answer within the timeout, or sends what cannot be
//! understood; the last three are answered before.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::{
    Broken, Command, Decoded, Offset, RawBatch, Reason, Request, Response, TopicName, decode_request,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::Config;
use crate::control;
use crate::input::{BufferPool, Input, Received};
use crate::log::{ReadError, Selection};
use crate::send::Output;
use crate::stats::Stats;
use crate::topic::Topic;
use crate::topics::Topics;

/// A body that is too large is read and thrown away up to this length, so that the connection stays usable. The
/// connection of a longer one is closed.
const SKIP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Every time so much of a request has come in, it has the whole timeout again for the rest.
const PROGRESS_BYTES: usize = 64 * 1024;

/// How long, and for how many bytes, a connection that is to be closed goes on reading. Closing a socket that holds
/// unread bytes makes the kernel throw away what was sent, and the peer would not see why it was closed.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) topics: Topics,
    pub(crate) stats: Arc<Stats>,
    pub(crate) buffers: BufferPool,
}

/// How a connection came to its end.
enum End {
    /// The peer has gone, or was told to go.
    Closed,
    /// The server ends it; what the peer still sends is not read.
    Refused,
}

/// What came of waiting for bytes.
enum Wait {
    Bytes(usize),
    End,
    TimedOut,
    ShutDown,
}

/// Serves a connection until it ends, or until the server shuts down and the connection has nothing in work.
pub(crate) async fn serve(mut stream: TcpStream, shared: Arc<Shared>, shutdown: watch::Receiver<bool>) {
    let peer = stream.peer_addr().ok();
    tracing::debug!(?peer, "connection opened");
    let end = {
        let mut connection = Connection {
            input: Input::new(&shared.buffers),
            output: Output::new(&stream, &shared.stats, shared.config.timeout),
            stream: &stream,
            shared: &shared,
            shutdown,
            scratch: Vec::new(),
        };
        connection.run().await
    };
    match end {
        Ok(End::Closed) => tracing::debug!(?peer, "connection closed"),
        Ok(End::Refused) => {
            linger(&mut stream).await;
            tracing::debug!(?peer, "connection ended by the server");
        }
        Err(error) => tracing::debug!(?peer, %error, "connection broken"),
    }
}

/// Tells a peer that it cannot be served, and closes the connection.
pub(crate) async fn reject(mut stream: TcpStream, stats: &Stats, reason: Reason) {
    let mut output = Output::new(&stream, stats, LINGER);
    output.put(&Response::Error(reason));
    if output.flush().await.is_ok() {
        drop(output);
        linger(&mut stream).await;
    }
}

/// Sends an end, and reads for a while what the peer still sends.
async fn linger(stream: &mut TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut buffer = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES_MAX;
        while left > 0 && stream.readable().await.is_ok() {
            match stream.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => left = left.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    // Whether the peer has closed or the time is up, the connection is closed now.
    let _ = timeout(LINGER, drain).await;
}

struct Connection<'a> {
    input: Input<'a>,
    output: Output<'a>,
    stream: &'a TcpStream,
    shared: &'a Arc<Shared>,
    shutdown: watch::Receiver<bool>,
    /// What reading envelopes of the storage needs; its contents do not matter.
    scratch: Vec<u8>,
}

/// A READ or TAIL, with a topic that is there or may come.
struct Read {
    command: Command,
    topic: Result<Arc<Topic>, TopicName>,
    /// `None` reads from the oldest batch.
    offset: Option<Offset>,
    messages: u64,
    wait: Option<Duration>,
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

impl Connection<'_> {
    async fn run(&mut self) -> io::Result<End> {
        loop {
            let wanted = loop {
                match self.take_request().await? {
                    Ok(Next::Request) => {}
                    Ok(Next::Read(read)) => self.read(read).await?,
                    Ok(Next::Skip(bytes)) => {
                        if let Some(end) = self.skip(bytes).await? {
                            return Ok(end);
                        }
                    }
                    Ok(Next::Close) => {
                        self.output.flush().await?;
                        return Ok(End::Closed);
                    }
                    Ok(Next::Refuse) => {
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
            if let Some(end) = self.receive(wanted).await? {
                return Ok(end);
            }
        }
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
                let appended = append(self.shared, &batch).await;
                let response = match appended {
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
                answer(self.shared, &request, &mut self.output)
            }
            Err(rejection) => {
                stats.request(rejection.command);
                stats.error(Some(rejection.command));
                if rejection.reason == Reason::TopicNotAllowed {
                    stats.topic_disallowed();
                }
                self.output.put(&Response::Error(rejection.reason));
                match rejection.body_bytes {
                    0 => Next::Request,
                    bytes if bytes <= SKIP_BYTES_MAX => Next::Skip(bytes),
                    _ => Next::Refuse,
                }
            }
        };
        self.input.consume(bytes);
        Ok(Ok(next))
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
            self.input.release();
            let deadline = Instant::now() + self.shared.config.idle_timeout;
            match self.wait_for_bytes(wanted, deadline, true).await? {
                Wait::Bytes(_) => {}
                Wait::End | Wait::TimedOut | Wait::ShutDown => return Ok(Some(End::Closed)),
            }
        }
        let mut deadline = Instant::now() + self.shared.config.timeout;
        let mut progress = 0;
        // More than was asked for is dealt with first: the rest of a request may be a request line only.
        while self.input.bytes().len() < wanted {
            match self.wait_for_bytes(wanted, deadline, false).await? {
                Wait::Bytes(bytes) => progress += bytes,
                Wait::End => return Ok(Some(End::Closed)),
                Wait::TimedOut | Wait::ShutDown => return self.time_out().await.map(Some),
            }
            if progress >= PROGRESS_BYTES {
                progress = 0;
                deadline = Instant::now() + self.shared.config.timeout;
            }
        }
        Ok(None)
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
        loop {
            let there = self.input.bytes().len();
            let skipped = usize::try_from(bytes).unwrap_or(usize::MAX).min(there);
            self.input.consume(skipped);
            bytes -= skipped as u64;
            if bytes == 0 {
                return Ok(None);
            }
            let deadline = Instant::now() + self.shared.config.timeout;
            match self.wait_for_bytes(PROGRESS_BYTES, deadline, false).await? {
                Wait::Bytes(_) => {}
                Wait::End => return Ok(Some(End::Closed)),
                Wait::TimedOut | Wait::ShutDown => return self.time_out().await.map(Some),
            }
        }
    }

    /// Waits for the peer to send something. A connection that is idle does not outlast the server.
    async fn wait_for_bytes(&mut self, wanted: usize, deadline: Instant, is_idle: bool) -> io::Result<Wait> {
        loop {
            // An idle connection has no buffer until there is something to put into it.
            if !is_idle || !self.input.bytes().is_empty() {
                match self.input.read(self.stream, wanted)? {
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
                ready = timeout_at(deadline, self.stream.readable()) => match ready {
                    Ok(ready) => ready?,
                    Err(_) => return Ok(Wait::TimedOut),
                },
                _ = self.shutdown.wait_for(|is_down| *is_down), if is_idle => return Ok(Wait::ShutDown),
            }
            if is_idle {
                match self.input.read(self.stream, wanted)? {
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

    /// Answers a READ or TAIL.
    async fn read(&mut self, read: Read) -> io::Result<()> {
        let selected = match read.wait {
            None => self.select(&read),
            Some(wait) => {
                self.output.flush().await?;
                self.wait_and_select(&read, Instant::now() + wait).await?
            }
        };
        match selected {
            Ok(selection) => {
                self.output.put(&Response::Found { offset: selection.offset, batches: selection.batches });
                self.output.flush_and_send(&selection.pieces).await
            }
            Err(reason) => {
                self.shared.stats.error(Some(read.command));
                self.output.put(&Response::Error(reason));
                Ok(())
            }
        }
    }

    fn select(&mut self, read: &Read) -> Result<Selection, Reason> {
        let topic = read.topic.as_ref().map_err(|_| Reason::NotFound)?;
        let view = topic.log().view();
        let selected = match read.offset {
            Some(offset) => view.select(offset, read.messages, &mut self.scratch),
            None => view.select_oldest(read.messages, &mut self.scratch),
        };
        selected.map_err(|error| match error {
            ReadError::NotFound => Reason::NotFound,
            ReadError::Io(error) => {
                tracing::error!(topic = %topic.name(), %error, "a read failed");
                Reason::StorageFailed
            }
        })
    }

    /// Selects, after waiting for a batch while the offset is that of the next one, or while the topic is not there.
    async fn wait_and_select(
        &mut self,
        read: &Read,
        deadline: Instant,
    ) -> io::Result<Result<Selection, Reason>> {
        let mut created = self.shared.topics.created();
        let mut topic = read.topic.clone();
        while let Err(name) = &topic {
            if let Some(found) = self.shared.topics.get(name.as_topic()) {
                topic = Ok(found);
            } else if !self.wait_for_change(&mut created, deadline).await? {
                return Ok(Err(Reason::NotFound));
            }
        }
        let Ok(topic) = topic else { return Ok(Err(Reason::NotFound)) };
        let mut grown = topic.grown();
        while read.offset.is_some_and(|offset| offset == topic.log().view().extent().next) {
            if !self.wait_for_change(&mut grown, deadline).await? {
                return Ok(Err(Reason::NotFound));
            }
        }
        let read = Read { topic: Ok(topic), ..*read };
        Ok(self.select(&read))
    }

    /// Waits for a change; `false` when the time is up or the server ends. An error when the peer is gone.
    async fn wait_for_change(
        &mut self,
        changed: &mut watch::Receiver<()>,
        deadline: Instant,
    ) -> io::Result<bool> {
        self.input.release();
        loop {
            tokio::select! {
                biased;
                _ = changed.changed() => return Ok(true),
                () = tokio::time::sleep_until(deadline) => return Ok(false),
                _ = self.shutdown.wait_for(|is_down| *is_down) => return Ok(false),
                ready = self.stream.readable(), if self.input.has_room() => {
                    ready?;
                    match self.input.read(self.stream, 1)? {
                        Received::Bytes(bytes) => self.shared.stats.received(bytes),
                        Received::End => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Received::Nothing => {}
                    }
                }
            }
        }
    }
}

/// Appends a batch that has come in whole.
async fn append(shared: &Arc<Shared>, batch: &RawBatch<'_>) -> Result<Offset, Reason> {
    let checked = batch.check().map_err(logd_protocol::BatchError::reason)?;
    let name = checked.topic();
    if !shared.topics.is_allowed(name) {
        shared.stats.topic_disallowed();
        return Err(Reason::TopicNotAllowed);
    }
    let topic = match shared.topics.get(name) {
        Some(topic) => topic,
        None => create(shared, TopicName::from(name)).await?,
    };
    topic.append(&checked).await
}

/// Creates the topic of a first batch. That takes syncs of directories, so another thread does it.
async fn create(shared: &Arc<Shared>, name: TopicName) -> Result<Arc<Topic>, Reason> {
    let shared = Arc::clone(shared);
    let created = tokio::task::spawn_blocking(move || shared.topics.create(&name)).await;
    created.unwrap_or(Err(Reason::StorageFailed))
}

/// Answers a request that is not a batch; a READ or TAIL is left to the caller.
fn answer(shared: &Shared, request: &Request<'_>, output: &mut Output<'_>) -> Next {
    let topic =
        |name: logd_protocol::TopicRef<'_>| shared.topics.get(name).ok_or_else(|| TopicName::from(name));
    let command = request.command();
    match *request {
        Request::Read { topic: name, offset, messages, wait } => {
            return Next::Read(Read { command, topic: topic(name), offset: Some(offset), messages, wait });
        }
        Request::Tail { topic: name, messages } => {
            return Next::Read(Read { command, topic: topic(name), offset: None, messages, wait: None });
        }
        Request::Head { topic: name } => match topic(name) {
            Ok(topic) => {
                let extent = topic.log().view().extent();
                output.put(&Response::Found { offset: extent.next, batches: extent.batches });
            }
            Err(_) => {
                shared.stats.error(Some(command));
                output.put(&Response::Error(Reason::NotFound));
            }
        },
        Request::Topics => output.put(&Response::Lines(&control::topics(&shared.topics))),
        Request::Stats => {
            output.put(&Response::Lines(shared.stats.lines(shared.topics.count()).as_bytes()));
        }
        Request::Config => output.put(&Response::Lines(control::config(&shared.config).as_bytes())),
        Request::Ping => output.put(&Response::Ok),
        Request::Close => {
            output.put(&Response::Ok);
            return Next::Close;
        }
        // Batches have been dealt with before: they are the one request that is carried out while it waits.
        Request::Batch(_) => {}
    }
    Next::Request
}
