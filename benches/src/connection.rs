//! A connection of a load: blocking, one request outstanding, everything received checked as a client has to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use logd_protocol::{Batch, Decoded, Messages, TopicName, decode_batch};

/// What is received at once, at first; a longer batch makes it grow.
const BUFFER_BYTES: usize = 256 * 1024;

pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer was received and not taken.
    start: usize,
    end: usize,
}

impl Connection {
    pub(crate) fn new(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0 })
    }

    /// Writes a batch; its offset.
    pub(crate) fn write(&mut self, batch: &Batch) -> io::Result<u64> {
        self.stream.write_all(batch.bytes())?;
        match self.answer()? {
            Some((offset, 1)) => Ok(offset),
            _ => Err(bad("a batch was refused")),
        }
    }

    /// Reads batches, checks them, and walks their messages; their bytes, or `None` where no batch starts.
    pub(crate) fn read(
        &mut self,
        topic: &TopicName,
        offset: u64,
        messages: usize,
    ) -> io::Result<Option<u64>> {
        self.stream.write_all(format!("READ {topic} {offset} {messages}\r\n").as_bytes())?;
        let Some((_, batches)) = self.answer()? else { return Ok(None) };
        let mut bytes = 0;
        for _ in 0..batches {
            bytes += self.take_batch()? as u64;
        }
        Ok(Some(bytes))
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

pub(crate) fn bad(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.trim())
}
