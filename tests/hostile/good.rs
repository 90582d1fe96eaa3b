//! The well-behaved clients: one writes, one reads, each waits for its answer before it asks again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use logd_tests::{RawPeer, TestServer, batch};

/// The messages of their batches.
const MESSAGE_BYTES: usize = 2000;

/// How many batches there are to be read, and how many are asked for at once.
const BATCHES: usize = 256;
const AT_ONCE: usize = 16;

/// The two clients, until it is dropped.
pub(crate) struct Good {
    counts: Arc<[AtomicU64; 2]>,
    is_ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// How many batches a second each of them was served, the writer and the reader.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates([f64; 2]);

impl Rates {
    pub(crate) fn of(&self, client: usize) -> f64 {
        self.0.get(client).copied().unwrap_or_default()
    }
}

impl Good {
    pub(crate) fn start(server: &TestServer) -> Self {
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let is_ending = Arc::new(AtomicBool::new(false));
        let work = |number: usize, mut step: Box<dyn FnMut() -> u64 + Send>| {
            let (counts, is_ending) = (Arc::clone(&counts), Arc::clone(&is_ending));
            thread::spawn(move || {
                while !is_ending.load(Ordering::Relaxed) {
                    let done = step();
                    counts.get(number).expect("there are two").fetch_add(done, Ordering::Relaxed);
                }
            })
        };
        let threads =
            vec![work(0, Box::new(writer(server.peer()))), work(1, Box::new(reader(server.peer())))];
        Self { counts, is_ending, threads }
    }

    /// How much they are served for so long.
    pub(crate) fn measure(&self, time: Duration) -> Rates {
        let counts = || self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        let (start, before) = (Instant::now(), counts());
        thread::sleep(time);
        let (seconds, after) = (start.elapsed().as_secs_f64(), counts());
        let [writer, reader] = [0, 1].map(|number: usize| {
            let since = after.get(number).zip(before.get(number)).map_or(0, |(after, before)| after - before);
            since as f64 / seconds
        });
        Rates([writer, reader])
    }

    /// Expects that both were served to the end.
    pub(crate) fn finish(mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a well-behaved client is served");
        }
    }
}

/// Appends, and finds every batch where the last one ended.
fn writer(mut peer: RawPeer) -> impl FnMut() -> u64 {
    let sent = batch("written", &[&vec![b'x'; MESSAGE_BYTES]]);
    let mut end = 0;
    move || {
        assert_eq!(peer.append(&sent), end, "the offset of a batch");
        end += sent.len() as u64;
        1
    }
}

/// Reads the topic again and again, and finds in it what was written.
fn reader(mut peer: RawPeer) -> impl FnMut() -> u64 {
    let sent = batch("read", &[&vec![b'x'; MESSAGE_BYTES]]);
    for _ in 0..BATCHES {
        peer.append(&sent);
    }
    let mut places = (0..BATCHES).step_by(AT_ONCE).cycle();
    move || {
        let offset = places.next().unwrap_or_default() * sent.len();
        let answer = format!("OK {offset} {AT_ONCE}\r\n");
        peer.ask(format!("READ read {offset} {AT_ONCE}\r\n").as_bytes(), answer.as_bytes());
        let bytes = peer.read_exact(AT_ONCE * sent.len());
        assert!(bytes.chunks(sent.len()).all(|batch| batch == sent), "what was read is not what was written");
        AT_ONCE as u64
    }
}
