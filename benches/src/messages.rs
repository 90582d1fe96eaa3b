//! Small messages end to end: through `Writer` and `Scanner`, and through a stream of Redis.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use logd_client::{ClientConfig, Error, Scanner, Start, TopicName, Writer};
use redis::streams::StreamRangeReply;
use tempfile::TempDir;

use crate::load::histogram;

/// The length of a message, in bytes.
pub const MESSAGE_BYTES: usize = 100;
/// So many commands are sent to Redis at once, and so many entries asked for.
const PIPELINE: usize = 1000;
/// How long Redis has to start.
const START: Duration = Duration::from_secs(10);

const MESSAGE: [u8; MESSAGE_BYTES] = [b'x'; MESSAGE_BYTES];

/// How long writing and reading so many messages took.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Until all were acknowledged.
    pub written: Duration,
    /// Until all were yielded.
    pub read: Duration,
}

fn topic() -> TopicName {
    TopicName::default()
}

/// Writes messages with a `Writer`, and reads them with a `Scanner`, each over one connection.
///
/// # Errors
/// Those of the client; and when not all come back.
pub async fn through_logd(server: SocketAddr, count: u64) -> io::Result<Times> {
    let config = ClientConfig::new(server.to_string());
    let begin = Instant::now();
    let writer = Writer::builder(config.clone()).topic(topic()).open().map_err(other)?;
    for _ in 0..count {
        writer.write(&MESSAGE).await.map_err(io::Error::other)?;
    }
    writer.close().await.map_err(io::Error::other)?;
    let written = begin.elapsed();
    let begin = Instant::now();
    let mut scanner = Scanner::builder(config).topic(topic()).open().map_err(other)?;
    let mut read = 0;
    while let Some(message) = scanner.next().await {
        std::hint::black_box(message.map_err(other)?);
        read += 1;
    }
    if read == count {
        Ok(Times { written, read: begin.elapsed() })
    } else {
        Err(io::Error::other("some are missing"))
    }
}

/// The time from a write until a following `Scanner` yields the message, in nanoseconds, for so many messages one by one.
///
/// # Errors
/// Those of the client.
pub async fn latency(server: SocketAddr, count: u64) -> io::Result<Histogram<u64>> {
    let config = ClientConfig::new(server.to_string());
    let writer =
        Writer::builder(config.clone()).topic(topic()).wait_interval(Duration::ZERO).open().map_err(other)?;
    let mut scanner =
        Scanner::builder(config).topic(topic()).start(Start::Earliest).follow(true).open().map_err(other)?;
    let mut latency = histogram()?;
    // The first ones make the topic and the connections.
    for number in 0..count + 100 {
        let begin = Instant::now();
        writer.write(&MESSAGE).await.map_err(io::Error::other)?;
        scanner.next().await.ok_or_else(|| io::Error::other("the topic has ended"))?.map_err(other)?;
        if number >= 100 {
            latency.saturating_record(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        // So that the follower waits at the head when the next one is written.
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    writer.close().await.map_err(io::Error::other)?;
    Ok(latency)
}

fn other(error: Error) -> io::Error {
    io::Error::other(error)
}

/// A Redis server of our own.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Redis {
    /// Starts `redis-server`, which appends to its file and syncs that every second; `None` where it is not installed.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> io::Result<Option<Self>> {
        let dir = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command.args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
        ]);
        command.args(["--port", &port.to_string(), "--dir"]).arg(dir.path()).stdout(Stdio::null());
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let redis = Self { child, port, _dir: dir };
        let begin = Instant::now();
        while redis.connect().is_err() {
            if begin.elapsed() > START {
                return Err(io::Error::other("redis-server does not answer"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(redis))
    }

    fn connect(&self) -> redis::RedisResult<redis::Connection> {
        let mut connection = redis::Client::open(("127.0.0.1", self.port))?.get_connection()?;
        redis::cmd("PING").query::<()>(&mut connection)?;
        Ok(connection)
    }

    /// Writes messages with pipelined XADDs, and reads them with XRANGE.
    ///
    /// # Errors
    /// Those of Redis; and when not all come back.
    pub fn run(&self, count: usize) -> io::Result<Times> {
        let mut connection = self.connect().map_err(io::Error::other)?;
        let begin = Instant::now();
        for _ in 0..count / PIPELINE {
            let mut pipe = redis::pipe();
            for _ in 0..PIPELINE {
                pipe.cmd("XADD").arg("lines").arg("*").arg("m").arg(&MESSAGE[..]).ignore();
            }
            pipe.query::<()>(&mut connection).map_err(io::Error::other)?;
        }
        let written = begin.elapsed();
        let begin = Instant::now();
        let mut from = "-".to_owned();
        let mut read = 0;
        loop {
            let mut range = redis::cmd("XRANGE");
            range.arg("lines").arg(&from).arg("+").arg("COUNT").arg(PIPELINE);
            let reply: StreamRangeReply = range.query(&mut connection).map_err(io::Error::other)?;
            let Some(last) = reply.ids.last() else { break };
            from = format!("({}", last.id);
            read += std::hint::black_box(&reply.ids).len();
        }
        let is_all = read == count / PIPELINE * PIPELINE;
        if is_all {
            Ok(Times { written, read: begin.elapsed() })
        } else {
            Err(io::Error::other("some are missing"))
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
