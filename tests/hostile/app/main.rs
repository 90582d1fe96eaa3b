//! A crowd of hostile clients of one kind, in a process of low priority: what a test measures beside it is what
//! the server gives to whom, and not what the crowd takes of the processor.
//!
//! `hostile-app <kind> <address> <clients>`. It says `ready` when every client has begun. On SIGTERM each client sees
//! the request that it has in work to its end, and the last line says how often what happened. Without it, it is killed.
#![expect(clippy::expect_used, clippy::panic, reason = "it fails the test that runs it, and says why")]

mod kinds;
mod peer;
#[path = "../topics.rs"]
mod topics;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::kinds::Kind;

/// How long the requests in work may take to their end: more than any of the server's time-outs.
const END_BOUND: Duration = Duration::from_secs(20);

/// A tenth of the processor that others get, where they all want it.
const NICE: i32 = 10;

/// Descriptors beside those of the clients.
const DESCRIPTORS_KEPT: u64 = 100;

/// What all clients of the crowd share.
struct Crowd {
    address: SocketAddr,
    clients: usize,
    begun: AtomicUsize,
    ending: watch::Receiver<bool>,
    tally: Tally,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Tally {
    /// Connections.
    opened: AtomicU64,
    /// Requests that were answered as they should be.
    answered: AtomicU64,
    /// Connections that the server has closed as it should.
    closed: AtomicU64,
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Crowd {
    fn is_ending(&self) -> bool {
        *self.ending.borrow()
    }

    /// Waits, or until the crowd ends.
    async fn pause(&self, time: Duration) {
        let mut ending = self.ending.clone();
        // It is an error only when nobody can end the crowd any more.
        let _ = timeout(time, ending.wait_for(|is_ending| *is_ending)).await;
    }
}

fn main() {
    rustix::process::nice(NICE).expect("a process can make way for others");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, address, clients] = arguments.as_slice() else { panic!("called with {arguments:?}") };
    let kind = Kind::named(kind).unwrap_or_else(|| panic!("there are no `{kind}`"));
    let clients: usize = clients.parse().expect("a number of clients");
    let wanted = clients as u64 + DESCRIPTORS_KEPT;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
            .expect("a limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(kind, address.parse().expect("an address"), clients));
}

async fn run(kind: Kind, address: SocketAddr, clients: usize) {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
    let (end, ending) = watch::channel(false);
    let begun = AtomicUsize::new(0);
    let crowd = Arc::new(Crowd { address, clients, begun, ending, tally: Tally::default() });
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        tasks.spawn(kind.run(Arc::clone(&crowd), number));
    }
    while crowd.begun.load(Ordering::Relaxed) < clients {
        sleep(Duration::from_millis(5)).await;
        // A client that has failed fails the crowd.
        if let Some(ended) = tasks.try_join_next() {
            ended.expect("no client has failed");
        }
    }
    say("ready");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            Some(ended) = tasks.join_next() => ended.expect("no client has failed"),
        }
    }
    end.send_replace(true);
    let ended = timeout(END_BOUND, async {
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no client has failed");
        }
    });
    assert!(ended.await.is_ok(), "{} clients got neither an answer nor a close", tasks.len());
    let Tally { opened, answered, closed } = &crowd.tally;
    let [opened, answered, closed] =
        [opened, answered, closed].map(|counter| counter.load(Ordering::Relaxed));
    say(&format!("opened {opened} answered {answered} closed {closed}"));
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).expect("the test listens");
}
