//! Hostile clients beside well-behaved ones: what they can take from them, from the server, and from its log.
//!
//! For each kind of hostile client there is a server of its own, with one client that writes and one that reads, each as
//! fast as it is answered. They are measured alone and beside the crowd, in turn; the ratio is the median of the turns.
//! The crowd is a process of its own with a low priority, and its clients are paced: what is measured is whom the
//! server serves, not who gets the processors. Every hostile client has to get its answer or its close, and says so.
//!
//! `LOGD_TEST_RUNS` sets how often the two are measured in turn, 3 by default. The figures are printed:
//!
//!     cargo test -p logd-tests --test hostile -- --nocapture
#![expect(
    clippy::expect_used,
    clippy::print_stderr,
    reason = "helpers of tests fail the test that uses them, and say its figures"
)]

mod good;
mod idle;
mod topics;

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use logd_tests::{App, BOUND, TestServer, Usage, not_run, wait_until};
use rustix::process::{Resource, Signal, getrlimit};

use crate::good::{Good, Rates};

/// Well-behaved clients are served about half as fast beside a crowd, or faster; noise must not make it less than this.
const RATIO_MIN: f64 = 0.33;

const RUNS_DEFAULT: usize = 3;
const MORE_RUNS: usize = 4;
const WINDOW: Duration = Duration::from_millis(300);
const SETTLE: Duration = Duration::from_millis(200);

/// How long the last of the crowd may take to get their answers.
const END_BOUND: Duration = Duration::from_secs(30);

/// What has one small batch at first: nothing happens in `quiet`, the others are written to.
const SMALL_TOPICS: [&str; 4] = ["quiet", "herd", "tiny", "default"];

/// Where it matters that several crowds are not there at the same time.
static ALONE: Mutex<()> = Mutex::new(());

/// Kinds of hostile clients that are there together, and what the server may use beside them.
struct Row {
    crowds: Vec<(&'static str, usize)>,
    connections_max: usize,
    /// Of memory beyond what it uses without them.
    resident_kib_max: u64,
    /// Of threads beyond those it has without them.
    threads_max: u64,
}

/// What a connection costs the server at most while nothing of it is sent or received: 16 KiB of it are its buffer.
const CONNECTION_KIB: u64 = 32;

impl Row {
    fn new(kind: &'static str, clients: usize) -> Self {
        Self::of(&[(kind, clients)])
    }

    fn of(crowds: &[(&'static str, usize)]) -> Self {
        let crowds = crowds.to_vec();
        let clients: usize = crowds.iter().map(|(_, clients)| clients).sum();
        let resident_kib_max = 16 * 1024 + CONNECTION_KIB * clients as u64;
        Self { crowds, connections_max: clients + 20, resident_kib_max, threads_max: 4 }
    }

    fn clients(&self) -> usize {
        self.crowds.iter().map(|(_, clients)| clients).sum()
    }

    fn name(&self) -> String {
        let crowds = self.crowds.iter().map(|(kind, clients)| format!("{clients} x {kind}"));
        crowds.collect::<Vec<_>>().join(", ")
    }
}

/// After the crowd has gone the server has at most so much more than before: buffers that it keeps, 8 MiB at most and as
/// much again where its allocator could not join them, and what that keeps of each connection. Another crowd gets that,
/// and no more.
const RESIDENT_KIB_LEFT: u64 = 16 * 1024;
const CONNECTION_KIB_LEFT: u64 = 16;

/// How many lines of warnings and errors the server's log may have.
const LINES_MAX: usize = 10;

#[test]
fn slow_senders() {
    beside(&Row::new("slow-senders", 300));
}

#[test]
fn silent_connections() {
    beside(&Row::new("silent", 300));
}

#[test]
fn slow_readers() {
    beside(&Row::new("slow-readers", 200));
}

#[test]
fn connections_that_come_and_go() {
    beside(&Row::new("connects", 50));
}

#[test]
fn connections_that_are_too_many() {
    beside(&Row { connections_max: 100, ..Row::new("too-many", 300) });
}

#[test]
fn new_topics() {
    beside(&Row::new("topics", 50));
}

#[test]
fn tiny_batches() {
    beside(&Row { threads_max: 68, ..Row::new("tiny-batches", 80) });
}

#[test]
fn garbage() {
    beside(&Row::new("garbage", 50));
}

#[test]
fn readers_that_wait() {
    // They have no buffers.
    beside(&Row { resident_kib_max: 12 * 1024, ..Row::new("waiting", 2000) });
}

#[test]
fn readers_that_all_wait_for_the_same_batch() {
    beside(&Row::new("herd", 300));
}

#[test]
fn requests_at_the_limits() {
    beside(&Row { resident_kib_max: 64 * 1024, ..Row::new("limits", 12) });
}

/// All but those that take the last place: what is expected of the others is that they have one.
#[test]
fn all_at_once() {
    let crowds = [
        ("slow-senders", 100),
        ("silent", 100),
        ("slow-readers", 70),
        ("connects", 20),
        ("topics", 20),
        ("tiny-batches", 30),
        ("garbage", 20),
        ("waiting", 600),
        ("herd", 100),
        ("limits", 5),
    ];
    beside(&Row { resident_kib_max: 96 * 1024, threads_max: 68, ..Row::of(&crowds) });
}

fn runs() -> usize {
    let text = std::env::var("LOGD_TEST_RUNS");
    text.map_or(RUNS_DEFAULT, |text| text.parse().expect("`LOGD_TEST_RUNS` is a number"))
}

/// A server with the topics that the crowd knows.
fn server(connections_max: usize) -> TestServer {
    let connections_max = connections_max.to_string();
    let limits = ["--timeout", "2s", "--idle-timeout", "5s", "--topics", "10", "--partition-size", "32MiB"];
    let server = TestServer::start(&[&limits[..], &["--max-connections", &connections_max]].concat());
    let mut peer = server.peer();
    let large = topics::large_batch();
    for _ in 0..topics::LARGE_BATCHES {
        peer.append(&large);
    }
    for topic in SMALL_TOPICS {
        peer.append(&topics::small_batch(topic));
    }
    server
}

fn has_descriptors(clients: usize) -> bool {
    let wanted = clients as u64 + 600;
    let is_enough = getrlimit(Resource::Nofile).maximum.is_none_or(|maximum| maximum >= wanted);
    if !is_enough {
        not_run(&format!("{clients} hostile clients: a process cannot have {wanted} files open"));
    }
    is_enough
}

fn crowd(kind: &str, server: &TestServer, clients: usize) -> App {
    let app = App::start(env!("CARGO_BIN_EXE_hostile-app"), &[kind, &server.host(), &clients.to_string()]);
    app.wait_for("ready");
    app
}

/// Measures the well-behaved clients without the crowd and beside it, in turn, and what the server uses.
fn beside(row: &Row) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !has_descriptors(row.clients()) {
        return;
    }
    let server = server(row.connections_max);
    let good = Good::start(&server);
    good.measure(WINDOW);
    let before = Usage::of(server.pid());
    let mut most = before;
    let mut turns = Turns::default();
    let mut said = Vec::new();
    while said.is_empty() {
        let alone = good.measure(WINDOW);
        let start = |(kind, clients): &(&str, usize)| crowd(kind, &server, *clients);
        let mut apps: Vec<App> = row.crowds.iter().map(start).collect();
        // What they all do at their beginning is not what they do all the time.
        thread::sleep(SETTLE);
        turns.0.push((alone, good.measure(WINDOW)));
        assert!(apps.iter_mut().all(App::is_running), "a client of the crowd has failed");
        let now = Usage::of(server.pid());
        most.resident_kib = most.resident_kib.max(now.resident_kib);
        most.descriptors = most.descriptors.max(now.descriptors);
        most.threads = most.threads.max(now.threads);
        if turns.are_enough() {
            for app in &apps {
                app.signal(Signal::TERM);
            }
            for app in apps {
                let (status, lines) = app.finish(END_BOUND);
                assert!(status.success(), "not every hostile client had its answer or its close");
                said.push(lines.last().cloned().unwrap_or_default());
            }
        } else {
            drop(apps);
        }
        wait_until("the server has none of the crowd any more", BOUND, || active(&server) == Some(3));
    }
    for ((kind, clients), said) in row.crowds.iter().zip(said) {
        eprintln!("{clients} x {kind}: {said}");
    }
    turns.print();
    good.finish();
    expect_bounds(row, &server, &before, &most);
    assert!(
        turns.are_fair(),
        "{}: of what they are alone, they are served {:.2?}",
        row.name(),
        turns.ratios()
    );
}

/// What was measured alone, and then beside a crowd.
#[derive(Debug, Default)]
struct Turns(Vec<(Rates, Rates)>);

impl Turns {
    fn are_fair(&self) -> bool {
        self.ratios().iter().all(|ratio| *ratio >= RATIO_MIN)
    }

    /// Where the first few say that it is not fair, more are asked: something else may have had the processors.
    fn are_enough(&self) -> bool {
        let runs = runs();
        self.0.len() >= runs && (self.are_fair() || self.0.len() >= runs * MORE_RUNS)
    }

    /// Of the writer and the reader.
    fn ratios(&self) -> [f64; 2] {
        let ratio = |turn: &(Rates, Rates), client: usize| turn.1.of(client) / turn.0.of(client);
        [0, 1].map(|client| median(self.0.iter().map(|turn| ratio(turn, client)).collect()))
    }

    fn print(&self) {
        for (client, (name, ratio)) in ["writer", "reader"].into_iter().zip(self.ratios()).enumerate() {
            let alone = median(self.0.iter().map(|turn| turn.0.of(client)).collect());
            let beside = median(self.0.iter().map(|turn| turn.1.of(client)).collect());
            let turns = self.0.len();
            eprintln!(
                "  {name}: {alone:.0} batches/s alone, {beside:.0} beside; {ratio:.2} over {turns} turns"
            );
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().expect("there are some")
}

/// How many connections the server has, with that which asks; nothing while it has no place for that one.
fn active(server: &TestServer) -> Option<u64> {
    let mut peer = server.peer();
    let has_place = peer.try_send(b"PING\r\n").is_ok() && peer.try_read_line().is_ok_and(|line| line == "OK");
    has_place.then(|| peer.stats().count("conns.active"))
}

fn expect_bounds(row: &Row, server: &TestServer, before: &Usage, most: &Usage) {
    eprintln!(
        "  server: {} KiB, {} descriptors, {} threads; at most {} KiB, {}, {}",
        before.resident_kib,
        before.descriptors,
        before.threads,
        most.resident_kib,
        most.descriptors,
        most.threads
    );
    let kind = row.name();
    assert!(
        most.resident_kib <= before.resident_kib + row.resident_kib_max,
        "{kind}: {most:?}, {before:?} before"
    );
    // The well-behaved ones can have a second descriptor each, on their threads.
    let descriptors_max = before.descriptors + 2 * row.clients() as u64 + 8;
    assert!(most.descriptors <= descriptors_max, "{kind}: {most:?}, {before:?} before");
    assert!(most.threads <= before.threads + row.threads_max, "{kind}: {most:?}, {before:?} before");
    let resident_kib_left = RESIDENT_KIB_LEFT + CONNECTION_KIB_LEFT * row.clients() as u64;
    let is_as_before = |after: &Usage| {
        after.descriptors <= before.descriptors + 8
            && after.threads <= before.threads + 4
            && after.resident_kib <= before.resident_kib + resident_kib_left
    };
    let mut after = Usage::of(server.pid());
    let start = Instant::now();
    while !is_as_before(&after) {
        assert!(start.elapsed() < 3 * BOUND, "{kind}: {after:?}, {before:?} before");
        thread::sleep(Duration::from_millis(50));
        after = Usage::of(server.pid());
    }
    eprintln!(
        "  after: {} KiB, {} descriptors, {} threads",
        after.resident_kib, after.descriptors, after.threads
    );
    let said = server.stderr();
    let problems = said.lines().filter(|line| line.contains(" WARN ") || line.contains("ERROR ")).count();
    assert!(problems <= LINES_MAX && !said.contains("panicked"), "{kind}: it said:\n{said}");
    assert!(said.lines().count() <= 4 * LINES_MAX, "{kind}: it said:\n{said}");
}
