//! What each kind of client does, over and over, until the crowd ends.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use logd_tests::{batch, envelope};

use crate::peer::{End, Peer};
use crate::{Crowd, add, topics};

/// The kinds, by name.
const KINDS: &[(&str, Kind)] = &[
    ("slow-senders", Kind::SlowSenders),
    ("silent", Kind::Silent),
    ("slow-readers", Kind::SlowReaders),
    ("connects", Kind::Connects),
    ("too-many", Kind::TooMany),
    ("topics", Kind::Topics),
    ("tiny-batches", Kind::TinyBatches),
    ("garbage", Kind::Garbage),
    ("waiting", Kind::Waiting),
    ("herd", Kind::Herd),
    ("limits", Kind::Limits),
];

/// How a client is hostile.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Sends a batch a byte at a time.
    SlowSenders,
    /// Opens a connection and says nothing, or nothing more after half a request.
    Silent,
    /// Asks for everything and reads nothing of it.
    SlowReaders,
    /// Connects and goes, in every way in which one can.
    Connects,
    /// Connects when there are too many, and stays.
    TooMany,
    /// Has new topics made.
    Topics,
    /// Sends batches of one byte, many at once.
    TinyBatches,
    /// Sends what is no request, many at once.
    Garbage,
    /// Waits for a topic in which nothing happens, or which is not there.
    Waiting,
    /// Waits for the next batch of a topic, as all the others do.
    Herd,
    /// Asks for as much as can be asked for.
    Limits,
}

/// How long a time-out of the server may take to be noticed.
const TIMEOUT_BOUND: Duration = Duration::from_secs(10);

/// The server's `--idle-timeout`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a slow sender sends a byte of.
const SLOW_PAUSE: Duration = Duration::from_millis(250);

/// How long a slow reader does not read: more than the server's `--timeout`.
const NO_READING: Duration = Duration::from_secs(5);

/// The most that can have arrived at a narrow connection.
const ARRIVED_BYTES_MAX: usize = 512 * 1024;

/// How many operations a second all clients together may do of what costs the server something.
const CONNECTS: u32 = 500;
const REQUESTS: u32 = 1000;
const TINY_ROUNDS: u32 = 200;
const LARGE_ROUNDS: u32 = 10;

/// How many tiny batches are sent at once.
const TINY_AT_ONCE: usize = 50;

/// How often the herd's topic gets a batch.
const HERD_PAUSE: Duration = Duration::from_millis(200);

impl Kind {
    pub(crate) fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    pub(crate) fn run(self, crowd: Arc<Crowd>, number: usize) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self {
            Self::SlowSenders => Box::pin(slow_sender(crowd)),
            Self::Silent => Box::pin(silent(crowd, number)),
            Self::SlowReaders => Box::pin(slow_reader(crowd)),
            Self::Connects => Box::pin(connects(crowd, number)),
            Self::TooMany => Box::pin(too_many(crowd)),
            Self::Topics => Box::pin(new_topics(crowd, number)),
            Self::TinyBatches => Box::pin(tiny_batches(crowd, number)),
            Self::Garbage => Box::pin(garbage(crowd, number)),
            Self::Waiting => Box::pin(waiting(crowd, number)),
            Self::Herd if number == 0 => Box::pin(herd_writer(crowd)),
            Self::Herd => Box::pin(herd(crowd)),
            Self::Limits => Box::pin(limits(crowd, number)),
        }
    }
}

impl Crowd {
    async fn connect(&self) -> Peer {
        let peer = Peer::connect(self.address).await;
        add(&self.tally.opened);
        peer
    }

    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Pauses so long that all clients together do `rate` operations a second.
    async fn pace(&self, rate: u32) {
        let clients = u32::try_from(self.clients).expect("there are not so many");
        self.pause(Duration::from_secs(1) * clients / rate).await;
    }

    /// Expects that the server says `answer` and closes the connection.
    async fn expect_refusal(&self, peer: &mut Peer, answer: &str) {
        let end = peer.end(TIMEOUT_BOUND).await;
        let said = String::from_utf8_lossy(&end.received).into_owned();
        add(&self.tally.closed);
        // Where this process had to wait too long for a processor, the server has seen a connection that is silent.
        if !(said.is_empty() && peer.age() > IDLE_TIMEOUT) {
            assert!(said.ends_with(answer), "`{said}` instead of `{answer}`");
            add(&self.tally.answered);
        }
    }
}

async fn slow_sender(crowd: Arc<Crowd>) {
    let sent = batch("default", &[&[b'x'; 1000]]);
    let mut is_first = true;
    while !crowd.is_ending() {
        let mut peer = crowd.connect().await;
        for byte in sent.chunks(1) {
            peer.send(byte).await;
            if std::mem::take(&mut is_first) {
                crowd.begin();
            }
            if peer.hears_within(SLOW_PAUSE).await {
                break;
            }
        }
        crowd.expect_refusal(&mut peer, "ERR timed out\r\n").await;
    }
}

async fn silent(crowd: Arc<Crowd>, number: usize) {
    let whole = batch("default", &[&[b'x'; 1000]]);
    let mut is_first = true;
    while !crowd.is_ending() {
        let mut peer = crowd.connect().await;
        let part = match number % 4 {
            0 => 0,
            1 => 3,
            2 => envelope(1012, "default", 1, 1).len(),
            _ => whole.len() - 1,
        };
        peer.send(whole.get(..part).unwrap_or_default()).await;
        if std::mem::take(&mut is_first) {
            crowd.begin();
        }
        if part > 0 {
            crowd.expect_refusal(&mut peer, "ERR timed out\r\n").await;
            continue;
        }
        let end = peer.end(TIMEOUT_BOUND).await;
        assert_eq!(end, End { received: Vec::new(), is_reset: false }, "a silent connection");
        add(&crowd.tally.closed);
    }
}

async fn slow_reader(crowd: Arc<Crowd>) {
    let mut is_first = true;
    while !crowd.is_ending() {
        let mut peer = Peer::connect_narrow(crowd.address).await;
        add(&crowd.tally.opened);
        peer.send(b"READ large 0 50000\r\n").await;
        if std::mem::take(&mut is_first) {
            crowd.begin();
        }
        tokio::time::sleep(NO_READING).await;
        let line = peer.line().await;
        assert!(line.starts_with("OK 0 "), "`{line}`");
        // The server has given up, and nothing is kept for the peer but what has come to it.
        let end = peer.end(TIMEOUT_BOUND).await;
        assert!(end.received.len() < ARRIVED_BYTES_MAX, "{} bytes were kept", end.received.len());
        add(&crowd.tally.closed);
    }
}

async fn connects(crowd: Arc<Crowd>, number: usize) {
    crowd.begin();
    for round in number.. {
        crowd.pace(CONNECTS).await;
        if crowd.is_ending() {
            return;
        }
        let mut peer = crowd.connect().await;
        match round % 5 {
            0 => drop(peer),
            1 => peer.reset(),
            2 => {
                peer.send(b"PING\r\nPI").await;
                drop(peer);
            }
            3 => {
                peer.send(b"READ large 0 50000\r\n").await;
                peer.reset();
            }
            _ => {
                peer.send(b"PING\r\n").await;
                assert_eq!(peer.line().await, "OK");
                add(&crowd.tally.answered);
            }
        }
    }
}

async fn too_many(crowd: Arc<Crowd>) {
    let mut is_first = true;
    while !crowd.is_ending() {
        let mut peer = crowd.connect().await;
        peer.send(b"PING\r\n").await;
        match peer.try_line().await {
            Ok(line) if line == "OK" => {
                add(&crowd.tally.answered);
                if std::mem::take(&mut is_first) {
                    crowd.begin();
                }
                // Those who have a place keep it.
                while !crowd.is_ending() {
                    peer.send(b"PING\r\n").await;
                    assert_eq!(peer.line().await, "OK");
                    crowd.pause(Duration::from_secs(1)).await;
                }
            }
            Ok(line) => {
                assert_eq!(line, "ERR too many connections");
                add(&crowd.tally.closed);
            }
            // Beyond so many at the same time, a refused peer that has sent something may see a reset only.
            Err(end) => {
                assert!(end.received.is_empty(), "{end:?}");
                add(&crowd.tally.closed);
            }
        }
        if std::mem::take(&mut is_first) {
            crowd.begin();
        }
        crowd.pace(CONNECTS).await;
    }
}

async fn new_topics(crowd: Arc<Crowd>, number: usize) {
    let mut peer = crowd.connect().await;
    crowd.begin();
    for round in 0.. {
        if crowd.is_ending() {
            return;
        }
        peer.send(&batch(&format!("flood-{number}-{round}"), &[b"hello"])).await;
        let line = peer.line().await;
        assert!(line.starts_with("OK ") || line == "ERR maximum topics allowed", "`{line}`");
        add(&crowd.tally.answered);
        crowd.pace(REQUESTS).await;
    }
}

async fn tiny_batches(crowd: Arc<Crowd>, number: usize) {
    let mut peer = crowd.connect().await;
    crowd.begin();
    let topic = if number.is_multiple_of(2) { "default" } else { "tiny" };
    let sent = batch(topic, &[b"x"]).repeat(TINY_AT_ONCE);
    while !crowd.is_ending() {
        peer.send(&sent).await;
        for _ in 0..TINY_AT_ONCE {
            let line = peer.line().await;
            assert!(line.starts_with("OK ") && line.ends_with(" 1"), "`{line}`");
            add(&crowd.tally.answered);
        }
        crowd.pace(TINY_ROUNDS).await;
    }
}

async fn garbage(crowd: Arc<Crowd>, number: usize) {
    crowd.begin();
    // No line of it ends, or none is a request.
    let bodies = [vec![b'x'; 64 * 1024], b"GET / HTTP/1.1\r\nHost: logd\r\n\r\n".repeat(2000), vec![0; 5000]];
    for round in number.. {
        crowd.pace(CONNECTS / 2).await;
        if crowd.is_ending() {
            return;
        }
        let mut peer = crowd.connect().await;
        if round % 2 == 0 {
            peer.send(b"PING\r\n".repeat(100).as_slice()).await;
        }
        peer.send(bodies.get(round % bodies.len()).map_or(b"\r\n", |body| body)).await;
        peer.finish_sending().await;
        crowd.expect_refusal(&mut peer, "ERR invalid protocol\r\n").await;
    }
}

async fn waiting(crowd: Arc<Crowd>, number: usize) {
    let mut peer = crowd.connect().await;
    // The one is there and gets nothing, the other does not come to be.
    let is_there = number.is_multiple_of(2);
    let (topic, end) = if is_there { ("quiet", topics::small_batch("quiet").len()) } else { ("missing", 0) };
    peer.send(format!("READ {topic} {end} 1 wait=60000\r\n").as_bytes()).await;
    crowd.begin();
    crowd.pause(Duration::from_secs(50)).await;
    // Who sends no more is answered at once.
    peer.finish_sending().await;
    assert_eq!(peer.line().await, "ERR not found");
    add(&crowd.tally.answered);
}

async fn herd_writer(crowd: Arc<Crowd>) {
    let mut peer = crowd.connect().await;
    crowd.begin();
    let sent = topics::small_batch("herd");
    loop {
        // At the end, those who still wait get one more.
        let is_last = crowd.is_ending();
        peer.send(&sent).await;
        assert!(peer.line().await.starts_with("OK "), "a batch for the herd");
        if is_last {
            return;
        }
        crowd.pause(HERD_PAUSE).await;
    }
}

async fn herd(crowd: Arc<Crowd>) {
    let bytes = topics::small_batch("herd").len();
    let mut peer = crowd.connect().await;
    peer.send(b"HEAD herd\r\n").await;
    let head = peer.line().await;
    let mut next: usize = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("an offset");
    crowd.begin();
    while !crowd.is_ending() {
        peer.send(format!("READ herd {next} 1 wait=10000\r\n").as_bytes()).await;
        let line = peer.line().await;
        if line == "ERR not found" && crowd.is_ending() {
            return;
        }
        assert_eq!(line, format!("OK {next} 1"));
        peer.skip(bytes).await;
        add(&crowd.tally.answered);
        next += bytes;
    }
}

async fn limits(crowd: Arc<Crowd>, number: usize) {
    let mut peer = crowd.connect().await;
    crowd.begin();
    let largest = largest_batch();
    let large_bytes = topics::large_batch().len();
    for round in number.. {
        if crowd.is_ending() {
            return;
        }
        match round % 6 {
            0 => {
                peer.send(&largest).await;
                let line = peer.line().await;
                assert!(line.starts_with("OK "), "`{line}`");
            }
            1 => {
                // A body that is larger, and is thrown away.
                let mut sent = envelope(1_000_000, "default", 1, 1);
                sent.resize(sent.len() + 1_000_000, b'x');
                peer.send(&sent).await;
                assert_eq!(peer.line().await, "ERR too large");
            }
            2 => {
                peer.send(b"READ large 0 50000\r\n").await;
                assert_eq!(peer.line().await, format!("OK 0 {}", topics::LARGE_BATCHES));
                peer.skip(topics::LARGE_BATCHES * large_bytes).await;
            }
            3 => {
                peer.send(b"READ large 0 50001\r\n").await;
                assert_eq!(peer.line().await, "ERR invalid request");
            }
            4 => {
                let topic = "t".repeat(255);
                peer.send(format!("READ {topic} 18446744073709551615 50000\r\n").as_bytes()).await;
                assert_eq!(peer.line().await, "ERR not found");
            }
            _ => {
                peer.send(b"STATS\r\nTOPICS\r\nCONFIG\r\n".repeat(20).as_slice()).await;
                for _ in 0..60 {
                    let line = peer.line().await;
                    let bytes = line.strip_prefix("MOK ").and_then(|bytes| bytes.parse::<usize>().ok());
                    peer.skip(bytes.unwrap_or_else(|| panic!("`{line}`")) + 2).await;
                }
            }
        }
        add(&crowd.tally.answered);
        crowd.pace(LARGE_ROUNDS).await;
    }
}

/// A batch that is as large as the server takes one by default.
fn largest_batch() -> Vec<u8> {
    const BYTES: usize = 65_536;
    // Not every length can be had with every message: a checksum has more digits or fewer.
    let mut batches = (b'a'..=b'z').map(|letter| {
        let near = batch("default", &[&vec![letter; BYTES - 100]]).len();
        batch("default", &[&vec![letter; 2 * BYTES - 100 - near]])
    });
    batches.find(|batch| batch.len() == BYTES).expect("one of them has the size")
}
