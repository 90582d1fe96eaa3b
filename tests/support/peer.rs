//! The other end of a connection, in literal bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};

use crate::answer::{Found, Stats};
use crate::wait::{BOUND, wait_until};

/// How much is read from the stream at once, at most.
const READ_BYTES: usize = 64 * 1024;

/// A connection that sends what it is told and expects what it is told, byte for byte. Nothing waits longer than its
/// time-out, [`BOUND`] unless changed.
#[derive(Debug)]
pub struct RawPeer {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has been read from the stream and not been asked for.
    pending: Range<usize>,
}

impl RawPeer {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to `{address}`: {error}"))
    }

    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        Self::of(TcpStream::connect_timeout(&address, BOUND)?)
    }

    /// Connects with a small buffer for what arrives, so that the sender soon notices when nobody reads.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect_narrow(address: SocketAddr) -> Self {
        const RECEIVE_BUFFER_BYTES: usize = 16 * 1024;
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES).expect("a buffer size");
        rustix::net::connect(&socket, &address).expect("the server listens");
        Self::of(TcpStream::from(socket)).expect("the socket takes its options")
    }

    fn of(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        Ok(Self::over(stream))
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; READ_BYTES], pending: 0..0 }
    }

    /// Changes how long a read can take.
    ///
    /// # Panics
    /// When `bound` is zero.
    pub fn set_read_timeout(&mut self, bound: Duration) {
        self.stream.set_read_timeout(Some(bound)).expect("a time-out above zero");
    }

    /// The peer's own port.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn port(&self) -> u16 {
        self.stream.local_addr().expect("a connection has an address").port()
    }

    /// Sends `bytes`.
    ///
    /// # Panics
    /// When the other side does not take them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap_or_else(|error| {
            panic!("cannot send {} bytes, `{}`: {error}", bytes.len(), shown(bytes));
        });
    }

    /// Sends `bytes` to a server that may have closed the connection.
    ///
    /// # Errors
    /// When it has.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends no more, as [`RawPeer::finish_sending`], on a connection that the server may have closed.
    pub fn finish_sending_if_open(&mut self) {
        // Fails only when the connection is gone, which is as good.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// A second handle of the same connection, to send with while this one reads.
    ///
    /// # Panics
    /// When the process has no descriptor left.
    #[must_use]
    pub fn sender(&self) -> Self {
        let stream = self.stream.try_clone().expect("a descriptor for a second handle");
        Self::over(stream)
    }

    /// Sends no more; what arrives can still be read.
    ///
    /// # Panics
    /// When the connection is gone.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection can be half closed");
    }

    /// Waits until the server's process has read everything that was sent, by the kernel's table of connections.
    ///
    /// # Panics
    /// When it does not within [`BOUND`].
    pub fn wait_until_taken(&self) {
        let server = self.stream.peer_addr().expect("a connection has an address").port();
        let peer = self.port();
        wait_until("the server has read what was sent", BOUND, || unread_bytes(server, peer) == 0);
    }

    /// Sends `request` and expects exactly `answer`.
    ///
    /// # Panics
    /// When something else comes, or nothing.
    pub fn ask(&mut self, request: &[u8], answer: &[u8]) {
        self.send(request);
        self.expect_for(answer, request);
    }

    /// Expects exactly `answer` next.
    ///
    /// # Panics
    /// When something else comes, or nothing.
    pub fn expect(&mut self, answer: &[u8]) {
        self.expect_for(answer, b"");
    }

    fn expect_for(&mut self, answer: &[u8], request: &[u8]) {
        let mut received = Vec::new();
        let mut ended = "";
        while received.len() < answer.len() {
            match self.read_some(answer.len() - received.len()) {
                Ok(bytes) if bytes.is_empty() => ended = ", then the connection was closed",
                Ok(bytes) => received.extend_from_slice(&bytes),
                Err(error) if is_timeout(&error) => ended = ", then nothing more",
                Err(_) => ended = ", then the connection was reset",
            }
            if !ended.is_empty() || !answer.starts_with(&received) {
                break;
            }
        }
        let same = received.iter().zip(answer).take_while(|(left, right)| left == right).count();
        assert!(
            received == answer,
            "request `{}`\nexpected `{}`\nreceived `{}`{ended}\nthe first {same} bytes are the same",
            shown(request),
            shown(answer),
            shown(&received),
        );
    }

    /// Expects that the server closes the connection without another byte.
    ///
    /// # Panics
    /// When bytes come, or nothing.
    pub fn expect_closed(&mut self) {
        match self.read_some(256) {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => panic!("expected the end of the connection, received `{}`", shown(&bytes)),
            Err(error) if is_timeout(&error) => panic!("the connection was not closed"),
            // A reset: the end, and nothing before it.
            Err(_) => {}
        }
    }

    /// Expects that the server ends the connection in order, without a reset: what it said before is not in danger then.
    ///
    /// # Panics
    /// When bytes come, or a reset, or nothing.
    pub fn expect_orderly_end(&mut self) {
        match self.read_some(256) {
            Ok(bytes) if bytes.is_empty() => {}
            Ok(bytes) => panic!("expected the end of the connection, received `{}`", shown(&bytes)),
            Err(error) => panic!("the connection did not end in order: {error}"),
        }
    }

    /// Expects that nothing comes for `time`, and that the connection stays open.
    ///
    /// # Panics
    /// When something comes, or the end.
    pub fn expect_silence(&mut self, time: Duration) {
        self.set_read_timeout(time);
        match self.read_some(256) {
            Ok(bytes) if bytes.is_empty() => panic!("the connection was closed"),
            Ok(bytes) => panic!("expected nothing, received `{}`", shown(&bytes)),
            Err(error) => assert!(is_timeout(&error), "the connection ended: {error}"),
        }
        self.set_read_timeout(BOUND);
    }

    /// Reads a line; its `\r\n` is checked and not returned.
    ///
    /// # Panics
    /// When no whole line comes.
    pub fn read_line(&mut self) -> String {
        self.try_read_line().unwrap_or_else(|error| panic!("no whole line came: {error}"))
    }

    /// Reads a line as [`RawPeer::read_line`].
    ///
    /// # Errors
    /// When the connection ends, or nothing comes.
    ///
    /// # Panics
    /// When the line does not end in `\r\n`, or is not text.
    pub fn try_read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            let byte = self.try_read_exact(1)?;
            line.extend_from_slice(&byte);
            if let Some(text) = line.strip_suffix(b"\n") {
                let text = text.strip_suffix(b"\r").expect("a line ends in `\\r\\n`");
                return Ok(String::from_utf8(text.to_vec()).expect("a line is text"));
            }
        }
    }

    /// Reads so many bytes.
    ///
    /// # Panics
    /// When they do not come.
    pub fn read_exact(&mut self, count: usize) -> Vec<u8> {
        self.try_read_exact(count).unwrap_or_else(|error| panic!("{count} bytes did not come: {error}"))
    }

    /// Reads so many bytes.
    ///
    /// # Errors
    /// When the connection ends, or nothing comes.
    pub fn try_read_exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            let some = self.read_some(count - bytes.len())?;
            if some.is_empty() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.extend_from_slice(&some);
        }
        Ok(bytes)
    }

    /// Reads until the connection ends, cleanly or not.
    ///
    /// # Panics
    /// When nothing comes, not even the end.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match self.read_some(64 * 1024) {
                Ok(some) if some.is_empty() => return bytes,
                Ok(some) => bytes.extend_from_slice(&some),
                Err(error) if is_timeout(&error) => panic!("the connection was not closed"),
                Err(_) => return bytes,
            }
        }
    }

    /// At most `count` bytes, as they come; none at the end of the connection.
    ///
    /// # Errors
    /// When the connection is reset, or nothing comes.
    pub fn read_some(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if self.pending.is_empty() {
            self.pending = 0..self.stream.read(&mut self.buffer)?;
        }
        let end = self.pending.end.min(self.pending.start.saturating_add(count));
        let some = self.buffer.get(self.pending.start..end).unwrap_or_default().to_vec();
        self.pending.start = end;
        Ok(some)
    }

    /// Appends a batch and returns the offset that the server answers.
    ///
    /// # Panics
    /// When it answers anything but `OK <offset> 1`.
    pub fn append(&mut self, batch: &[u8]) -> u64 {
        self.send(batch);
        let line = self.read_line();
        let offset = line.strip_prefix("OK ").and_then(|rest| rest.strip_suffix(" 1"));
        offset
            .and_then(|offset| offset.parse().ok())
            .unwrap_or_else(|| panic!("expected `OK <offset> 1` to a batch, received `{line}`"))
    }

    /// Sends a READ or TAIL and takes its answer apart.
    ///
    /// # Panics
    /// When the answer is not of the protocol's form.
    pub fn find(&mut self, request: &str) -> Found {
        self.send(format!("{request}\r\n").as_bytes());
        Found::read(self)
    }

    /// Asks for `STATS`.
    ///
    /// # Panics
    /// When the answer is not of the protocol's form.
    pub fn stats(&mut self) -> Stats {
        Stats::new(&self.lines("STATS"))
    }

    /// Sends a request that is answered with `MOK` and returns the body.
    ///
    /// # Panics
    /// When the answer is not of the protocol's form.
    pub fn lines(&mut self, request: &str) -> String {
        self.send(format!("{request}\r\n").as_bytes());
        let line = self.read_line();
        let bytes = line.strip_prefix("MOK ").and_then(|bytes| bytes.parse().ok());
        let body = self.read_exact(bytes.unwrap_or_else(|| panic!("`{request}` was answered `{line}`")));
        self.expect(b"\r\n");
        String::from_utf8(body).expect("the lines are text")
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Bytes as text, shortened in the middle.
fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 400;
    match (bytes.get(..SHOWN_BYTES / 2), bytes.get(bytes.len().saturating_sub(SHOWN_BYTES / 2)..)) {
        (Some(start), Some(end)) if bytes.len() > SHOWN_BYTES => {
            format!("{}` … {} bytes … `{}", start.escape_ascii(), bytes.len(), end.escape_ascii())
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

/// What the socket of local port `local` connected to port `remote` holds unread; 0 when there is none.
fn unread_bytes(local: u16, remote: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table can be read");
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| {
            row.get(1).is_some_and(|place| place.ends_with(&local))
                && row.get(2).is_some_and(|place| place.ends_with(&remote))
        })
        .and_then(|row| {
            row.get(4).and_then(|queues| queues.split_once(':')).map(|(_, unread)| unread.to_owned())
        })
        .map_or(0, |unread| u64::from_str_radix(&unread, 16).expect("the table has hexadecimal numbers"))
}
