//! A TCP proxy that spoils connections between a client and a server at chosen places.
//!
//! Each connection has two threads, one a direction. They pass bytes on as they come, knowing where a message begins
//! and ends, so that a fault hits a certain request or answer and a certain place of it. A stream that is none of the
//! protocol's from some byte on is passed as it is.
//!
//! - What was passed to the server before a cut arrives there: the server sees the end of the stream after it, never a
//!   reset, and its answers are read to their end and thrown away.
//! - What was passed to the client before a cut arrives there too, unless the client had more in flight: the system
//!   then resets the connection.
//! - Nothing blocks for longer than [`TICK`] without looking whether the proxy is to end, so that dropping it is
//!   bounded.
//! - A connection is closed when both of its threads have ended.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use logd_protocol::limits::{BATCH_BYTES_MAX, MOK_BYTES_MAX};
use logd_protocol::{Decoded, Response, decode_envelope, decode_request, decode_response};

use crate::wait::BOUND;

mod plan;

use plan::Planned;
pub use plan::{Fault, FaultPlan, Place, Side};

/// How often a thread that waits looks whether the proxy is to end.
const TICK: Duration = Duration::from_millis(20);
/// How much is read at once, at most.
const READ_BYTES: usize = 16 * 1024;

/// A proxy in front of one server. Dropping it cuts its connections and ends its threads.
///
/// ```no_run
/// use logd_tests::{Fault, FaultPlan, FaultProxy, Place, Side, TestServer};
///
/// let server = TestServer::start(&[]);
/// let plan = FaultPlan::once(Fault::Cut(Side::Answer, Place::Before), 1);
/// let proxy = FaultProxy::start(server.addr(), plan);
/// println!("a client of `{}` never hears the answer to its second request", proxy.addr());
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// What a proxy has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// The connections that clients made.
    pub connections: usize,
    /// How often each fault has happened; those that have not are missing.
    pub faults: BTreeMap<Fault, usize>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    plan: Mutex<FaultPlan>,
    stats: Mutex<ProxyStats>,
    stopping: AtomicBool,
}

impl FaultProxy {
    /// Listens on a free port of this machine, and connects each client to `upstream`.
    ///
    /// # Panics
    /// When there is no port, or no thread.
    pub fn start(upstream: SocketAddr, plan: FaultPlan) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            upstream,
            plan: Mutex::new(plan),
            stats: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        let acceptor = spawn("proxy accept", {
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub const fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What it has done so far.
    pub fn stats(&self) -> ProxyStats {
        lock(&self.shared.stats).clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts. If nobody listens any more, it has ended.
        let _ = TcpStream::connect_timeout(&self.address, BOUND);
        if let Some(acceptor) = self.acceptor.take() {
            // Its panic has been printed, and a second one here would hide what the test says.
            let _ = acceptor.join();
        }
    }
}

/// Serves clients until the proxy ends, then waits for all connections to end.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((client, _)) = listener.accept() {
        if shared.stopping.load(Ordering::Relaxed) {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        lock(&shared.stats).connections += 1;
        // A server that is not there is for the client to notice: its connection is closed.
        if let Ok(server) = TcpStream::connect_timeout(&shared.upstream, BOUND)
            && let Ok(connection) = Connection::new(client, server, shared)
        {
            threads.extend(connection.start());
        }
    }
    for thread in threads {
        // As above.
        let _ = thread.join();
    }
}

/// A client, a server, and the fault between them.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    shared: Arc<Shared>,
    planned: Option<Planned>,
    delay: Duration,
}

impl Connection {
    fn new(client: TcpStream, server: TcpStream, shared: &Arc<Shared>) -> io::Result<Arc<Self>> {
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TICK))?;
            stream.set_write_timeout(Some(TICK))?;
        }
        let mut plan = lock(&shared.plan);
        let (planned, delay) = (plan.draw(), plan.message_delay());
        Ok(Arc::new(Self { client, server, shared: Arc::clone(shared), planned, delay }))
    }

    fn start(self: Arc<Self>) -> [JoinHandle<()>; 2] {
        let (asked, asking) = mpsc::channel();
        let other = Arc::clone(&self);
        [
            spawn("proxy requests", move || self.requests(&asked)),
            spawn("proxy answers", move || other.answers(&asking)),
        ]
    }

    /// The thread from the client to the server.
    fn requests(&self, asked: &Sender<Asked>) {
        let mut relay = Relay::new(self, Side::Request);
        let end = relay.requests(asked);
        if let Err(End::Cut) = end {
            close(&self.client, Shutdown::Both);
        }
        close(&self.server, Shutdown::Write);
        if let Err(End::HalfClosed) = end {
            relay.discard();
        }
    }

    /// The thread from the server to the client.
    fn answers(&self, asking: &Receiver<Asked>) {
        let mut relay = Relay::new(self, Side::Answer);
        let end = relay.answers(asking);
        let how = match end {
            Ok(()) | Err(End::HalfClosed) => Shutdown::Write,
            Err(End::Cut | End::Failed) => Shutdown::Both,
        };
        close(&self.client, how);
        if end.is_err() {
            relay.discard();
        }
    }
}

/// What a request is answered with, which the answer alone does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Batches,
    Other,
    /// The connection is cut behind the request.
    Nothing,
}

/// Why a direction of a connection ends before its source does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cut,
    HalfClosed,
    /// One of the two is gone, or the proxy ends.
    Failed,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

/// What the bytes that have come in begin with.
#[derive(Debug, Clone, Copy)]
enum Frame {
    /// Too little to tell.
    Unknown,
    /// So many bytes of a message, or of a part of one, whether they are all there or not.
    Bytes(usize),
    /// Nothing that the protocol knows.
    Foreign,
}

impl Frame {
    /// Once its line is there, what is missing says how long a message is.
    fn of<T>(decoded: &Decoded<T>, buffer: &[u8]) -> Self {
        match decoded {
            Decoded::Whole { bytes, .. } => Self::Bytes(*bytes),
            Decoded::More { bytes } if buffer.contains(&b'\n') => Self::Bytes(*bytes),
            Decoded::More { .. } => Self::Unknown,
            Decoded::Broken(_) => Self::Foreign,
        }
    }
}

/// One direction of a connection.
#[derive(Debug)]
struct Relay<'a> {
    connection: &'a Connection,
    side: Side,
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// What has been read and not been passed on.
    buffer: Vec<u8>,
    messages: usize,
    /// The fault that happens to the current message.
    fault: Option<Fault>,
    /// How many bytes of the current message still drip.
    dripping: usize,
}

impl<'a> Relay<'a> {
    const fn new(connection: &'a Connection, side: Side) -> Self {
        let (from, to) = match side {
            Side::Request => (&connection.client, &connection.server),
            Side::Answer => (&connection.server, &connection.client),
        };
        Self { connection, side, from, to, buffer: Vec::new(), messages: 0, fault: None, dripping: 0 }
    }

    fn requests(&mut self, asked: &Sender<Asked>) -> Result<(), End> {
        while let Some(bytes) = self.part(request_frame)? {
            let reads = [b"READ ".as_slice(), b"TAIL "].iter().any(|word| self.buffer.starts_with(word));
            self.begin()?;
            let answer = match self.fault {
                // The answer must not overtake the cut.
                Some(Fault::Cut(_, Place::After)) => Asked::Nothing,
                _ if reads => Asked::Batches,
                _ => Asked::Other,
            };
            // The other thread is gone when the server has closed; then there are no answers to expect.
            let _ = asked.send(answer);
            self.pass_last(bytes)?;
            self.finish()?;
        }
        self.pass_rest()
    }

    fn answers(&mut self, asking: &Receiver<Asked>) -> Result<(), End> {
        while let Some(bytes) = self.part(answer_frame)? {
            // An answer to nothing is what a server says before it closes.
            let asked = asking.try_recv().unwrap_or(Asked::Other);
            if asked == Asked::Nothing {
                return Err(End::Cut);
            }
            let batches = match decode_response(&self.buffer, MOK_BYTES_MAX) {
                Decoded::Whole { value: Response::Found { batches, .. }, .. } if asked == Asked::Batches => {
                    batches
                }
                _ => 0,
            };
            self.begin()?;
            if !self.pass_answer(bytes, batches)? {
                break;
            }
            self.finish()?;
        }
        self.pass_rest()
    }

    /// Passes an answer's first part and its batches on. False when a batch is missing.
    fn pass_answer(&mut self, bytes: usize, batches: u64) -> Result<bool, End> {
        let mut bytes = bytes;
        for _ in 0..batches {
            self.pass(bytes)?;
            match self.part(batch_frame)? {
                Some(next) => bytes = next,
                None => return Ok(false),
            }
        }
        self.pass_last(bytes)?;
        Ok(true)
    }

    /// The bytes of the next part of a message. `None` when the source has ended, or is none of the protocol's: the
    /// rest can be passed on as it is.
    fn part(&mut self, frame: fn(&[u8]) -> Frame) -> Result<Option<usize>, End> {
        loop {
            match frame(&self.buffer) {
                Frame::Bytes(bytes) => return Ok(Some(bytes)),
                Frame::Foreign => return Ok(None),
                Frame::Unknown => {
                    if self.receive()? == 0 {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Draws the fault of the message that comes now, and does what comes before the message.
    fn begin(&mut self) -> Result<(), End> {
        self.fault = self.draw();
        self.messages += 1;
        match self.fault {
            Some(Fault::Cut(_, Place::Before)) => Err(End::Cut),
            Some(Fault::HalfClose(Side::Answer)) => Err(End::HalfClosed),
            Some(Fault::Delay(_)) => self.pause(),
            Some(Fault::Drip(_)) => {
                self.dripping = Fault::DRIP_BYTES;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn draw(&self) -> Option<Fault> {
        let Planned { fault, at_request } = self.connection.planned?;
        if fault.side() != self.side
            || at_request != self.messages
            || !lock(&self.connection.shared.plan).fire()
        {
            return None;
        }
        *lock(&self.connection.shared.stats).faults.entry(fault).or_default() += 1;
        Some(fault)
    }

    /// Does what comes after the message.
    fn finish(&mut self) -> Result<(), End> {
        self.dripping = 0;
        match self.fault.take() {
            Some(Fault::Cut(_, Place::After)) => Err(End::Cut),
            Some(Fault::HalfClose(Side::Request)) => Err(End::HalfClosed),
            _ => Ok(()),
        }
    }

    /// Passes the last part of a message on, or half of it.
    fn pass_last(&mut self, bytes: usize) -> Result<(), End> {
        if let Some(Fault::Cut(_, Place::Middle)) = self.fault {
            self.pass(bytes / 2)?;
            return Err(End::Cut);
        }
        self.pass(bytes)
    }

    /// Passes so many bytes on; fewer when the source ends.
    fn pass(&mut self, mut bytes: usize) -> Result<(), End> {
        while bytes > 0 && (!self.buffer.is_empty() || self.receive()? > 0) {
            let mut count = bytes.min(self.buffer.len());
            if self.dripping > 0 {
                count = 1;
                self.dripping -= 1;
                thread::sleep(Fault::DRIP_PAUSE);
            }
            self.send(count)?;
            bytes -= count;
        }
        Ok(())
    }

    fn pass_rest(&mut self) -> Result<(), End> {
        self.pass(usize::MAX)
    }

    /// Reads what there is behind what has been read; 0 bytes at the end.
    fn receive(&mut self) -> io::Result<usize> {
        let mut chunk = [0; READ_BYTES];
        loop {
            match self.from.read(&mut chunk) {
                Ok(count) => {
                    self.buffer.extend(chunk.iter().take(count));
                    return Ok(count);
                }
                Err(error) => self.go_on(error)?,
            }
        }
    }

    /// Sends the first `count` bytes of the buffer.
    fn send(&mut self, count: usize) -> io::Result<()> {
        let mut sent = 0;
        while let Some(rest) = self.buffer.get(sent..count).filter(|rest| !rest.is_empty()) {
            match self.to.write(rest) {
                Ok(count) => sent += count,
                Err(error) => self.go_on(error)?,
            }
        }
        self.buffer.drain(..sent);
        Ok(())
    }

    /// Reads to the end of the source, for nobody.
    fn discard(&mut self) {
        self.buffer.clear();
        while self.receive().is_ok_and(|count| count > 0) {
            self.buffer.clear();
        }
    }

    /// Waits for as long as the plan says.
    fn pause(&self) -> Result<(), End> {
        let end = Instant::now() + self.connection.delay;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            if self.is_stopping() {
                return Err(End::Failed);
            }
            thread::sleep(left.min(TICK));
        }
        Ok(())
    }

    /// Whether to try again what failed with `error`: it only took long, and the proxy is not to end.
    fn go_on(&self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted if !self.is_stopping() => {
                Ok(())
            }
            _ => Err(error),
        }
    }

    fn is_stopping(&self) -> bool {
        self.connection.shared.stopping.load(Ordering::Relaxed)
    }
}

fn request_frame(buffer: &[u8]) -> Frame {
    Frame::of(&decode_request(buffer, BATCH_BYTES_MAX, u64::MAX), buffer)
}

fn answer_frame(buffer: &[u8]) -> Frame {
    Frame::of(&decode_response(buffer, MOK_BYTES_MAX), buffer)
}

fn batch_frame(buffer: &[u8]) -> Frame {
    match decode_envelope(buffer) {
        Decoded::Whole { value, bytes } => usize::try_from(value.body_bytes)
            .map_or(Frame::Foreign, |body| Frame::Bytes(bytes.saturating_add(body))),
        other => Frame::of(&other, buffer),
    }
}

fn close(stream: &TcpStream, how: Shutdown) {
    // It fails when the peer has closed already, and then there is nothing left to do.
    let _ = stream.shutdown(how);
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.into()).spawn(body).expect("a thread can be started")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
