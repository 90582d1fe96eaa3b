//! What a client makes of any bytes that a server sends: `Client` and `Scanner`, over a simulated network.
//!
//! The first byte says what is asked. What follows is sent, up to the next `\n~` with each request that the client has
//! made, and then the end. Before it, unless the first byte says so, stand settings as a server has them.
//!
//! - every call comes to an end, with a bounded number of connections
//! - what is handed out are valid batches, and messages, that have come in, in their order

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use logd_client::simulation::{Connecting, Network, Stream};
use logd_client::{Batch, Batches, Bound, Client, ClientConfig, Offset, RetryPolicy, Scanner, TopicName};
use logd_protocol::Decoded;
use tokio::runtime::Builder;

use super::reference::{checksum, messages};
use super::seal::unsealed;

pub(crate) const WORDS: &[&[u8]] = &[
    b"\n~",
    b"OK 0 1\r\n",
    b"OK\r\n",
    b"MOK ",
    b"ERR not found\r\n",
    b"ERR invalid request\r\n",
    b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n",
    b"BATCH ",
    b"MSG ",
    b"default 0 60 60 1\r\n",
];

const SETTINGS: &[u8] = b"MOK 155\r\nHost: 127.0.0.1:1774\r\nTimeout: 15s\r\nIdleTimeout: 30s\r\nMaxBatchSize: 65536\r\nVersion: 0.1.0\r\nFeatures: wait dedup time head ping topics\r\nMaxMessages: 50000\r\n\r\n\n~";

/// What stands between what is sent with one request and the next.
const SEPARATOR: &[u8] = b"\n~";

/// The most messages that are taken from a scanner.
const MESSAGES_MAX: u64 = 500;

/// Longer than every wait of a client together.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a topic is followed.
const MINUTE: Duration = Duration::from_secs(60);

/// A server that sends what was written down.
#[derive(Debug)]
struct Scripted {
    parts: Arc<[Vec<u8>]>,
    connections: Arc<AtomicUsize>,
}

impl Network for Scripted {
    fn connect(&self, _: &str) -> Connecting {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let parts = Arc::clone(&self.parts);
        Box::pin(async move { Ok(Box::new(Peer { parts, state: Mutex::default() }) as Box<dyn Stream>) })
    }
}

#[derive(Debug)]
struct Peer {
    parts: Arc<[Vec<u8>]>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many requests have come, and so how many parts can be received.
    requests: usize,
    part: usize,
    at: usize,
    reader: Option<Waker>,
}

impl Peer {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is something to receive, the end among it.
    fn is_ready(&self, state: &State) -> bool {
        state.part < state.requests || state.part >= self.parts.len()
    }
}

impl Stream for Peer {
    fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        self.with(|state| {
            while self.is_ready(state) {
                let Some(part) = self.parts.get(state.part) else { return Ok(0) };
                let rest = &part[state.at..];
                let count = rest.len().min(room.len());
                room[..count].copy_from_slice(&rest[..count]);
                state.at += count;
                if state.at == part.len() {
                    (state.part, state.at) = (state.part + 1, 0);
                }
                if count > 0 || room.is_empty() {
                    return Ok(count);
                }
            }
            Err(io::ErrorKind::WouldBlock.into())
        })
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|state| {
            state.requests += 1;
            state.reader.take().into_iter().for_each(Waker::wake);
        });
        Ok(bytes.len())
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.with(|state| {
            if self.is_ready(state) {
                return Poll::Ready(());
            }
            state.reader = Some(context.waker().clone());
            Poll::Pending
        })
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn is_quiet(&self) -> bool {
        self.with(|state| !self.is_ready(state))
    }
}

pub(crate) fn run(input: &[u8]) {
    let Some((asked, rest)) = input.split_first() else { return };
    let mut sent = if asked & 0x40 == 0 { SETTINGS.to_vec() } else { Vec::new() };
    sent.extend(unsealed(rest));
    let connections = Arc::new(AtomicUsize::new(0));
    let network = Scripted { parts: parts(&sent), connections: Arc::clone(&connections) };
    let config = ClientConfig::new("127.0.0.1:1774").retry(RetryPolicy::none()).simulated(Arc::new(network));
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let asking = async {
        let call = tokio::time::timeout(DAY, ask(*asked, config, &sent));
        call.await.expect("a call comes to an end");
    };
    runtime.block_on(asking);
    let connections = connections.load(Ordering::Relaxed);
    // A scanner that has got on begins anew with its attempts.
    assert!(connections as u64 <= 3 * MESSAGES_MAX, "{connections} connections were made");
}

fn parts(sent: &[u8]) -> Arc<[Vec<u8>]> {
    let mut parts = Vec::new();
    let mut rest = sent;
    while let Some(end) = rest.windows(SEPARATOR.len()).position(|window| window == SEPARATOR) {
        parts.push(rest[..end].to_vec());
        rest = &rest[end + SEPARATOR.len()..];
    }
    parts.push(rest.to_vec());
    parts.into()
}

/// The error of a call is as good as an answer, here: that it comes to an end is what counts.
async fn ask(asked: u8, config: ClientConfig, sent: &[u8]) {
    let topic = TopicName::default();
    let mut client = Client::new(config.clone());
    match asked.wrapping_sub(b'0') % 10 {
        0 => check_batches(&client.read(&topic, Offset::new(60), 2).await, sent),
        1 => check_batches(&client.tail(&topic, 3).await, sent),
        2 => drop(client.head(&topic).await),
        3 => {
            for topic in client.topics().await.unwrap_or_default() {
                let name = topic.name.as_str().as_bytes();
                assert!(
                    sent.windows(name.len()).any(|window| window == name),
                    "`{}` was not sent",
                    topic.name
                );
            }
        }
        4 => drop((client.stats().await, client.server_config().await)),
        5 => drop(client.offset_at(&topic, UNIX_EPOCH + DAY, Bound::Upper).await),
        6 => drop((client.ping().await, client.append(&batch()).await)),
        7 => {
            let read = client.read_wait(&topic, Offset::ZERO, 1, Duration::from_secs(70)).await;
            check_batches(&read, sent);
        }
        8 => scan(Scanner::builder(config).follow(false), sent).await,
        // It has no end of its own.
        _ => drop(tokio::time::timeout(MINUTE, scan(Scanner::builder(config).follow(true), sent)).await),
    }
    let _ = client.close().await;
}

fn batch() -> Batch {
    let mut bytes =
        BytesMut::from(&b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n"[..]);
    match Batch::take(&mut bytes, 1000) {
        Decoded::Whole { value: Ok(batch), .. } => batch,
        other => panic!("{other:?}"),
    }
}

fn check_batches(read: &Result<Batches, logd_client::Error>, sent: &[u8]) {
    let Ok(read) = read else { return };
    let all: Vec<u8> = read.batches.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
    assert!(
        sent.windows(all.len().max(1)).any(|window| window == all) || all.is_empty(),
        "other batches were sent"
    );
    for batch in &read.batches {
        let found = messages(&batch.body()).map(|messages| messages.len() as u64);
        assert_eq!(found, Some(batch.messages()), "{batch:?}");
        assert_eq!(checksum(&batch.body()), batch.crc(), "{batch:?}");
    }
}

async fn scan(scanner: logd_client::ScannerBuilder, sent: &[u8]) {
    let mut scanner = scanner.open().expect("the settings are right");
    let mut last = None;
    for _ in 0..MESSAGES_MAX {
        let Some(Ok(message)) = scanner.next().await else { return };
        assert!(last < Some(message.position), "{} follows {last:?}", message.position);
        last = Some(message.position);
        let framed =
            [format!("MSG {}\r\n", message.bytes.len()).as_bytes(), &message.bytes, b"\r\n"].concat();
        let is_sent = sent.windows(framed.len()).any(|window| window == framed);
        // Its length can have leading zeros.
        assert!(is_sent || sent.windows(5).any(|window| window == b"MSG 0"), "{message:?} was not sent");
    }
}
