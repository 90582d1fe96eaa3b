//! STATS: the counters, their names, their order, and that they count right.

use logd_tests::{BOUND, RawPeer, Stats, TestServer, batch, wait_until};

use crate::HELLO_WORLD;

/// The counters of Go logd.
const GO_KEYS: &[&str] = &[
    "bytes.in",
    "bytes.out",
    "conns.active",
    "conns.total",
    "errors.batch",
    "errors.close",
    "errors.config",
    "errors.read",
    "errors.stats",
    "errors.tail",
    "errors.total",
    "requests.batch",
    "requests.close",
    "requests.config",
    "requests.read",
    "requests.stats",
    "requests.tail",
    "requests.total",
    "topics.disallowed",
    "topics.total",
];

#[test]
fn every_counter_of_go_logd_is_there() {
    let server = TestServer::start(&[]);
    let stats = server.peer().stats();
    for key in GO_KEYS {
        stats.count(key);
    }
}

#[test]
fn keys_are_in_alphabetical_order_and_once() {
    let server = TestServer::start(&[]);
    let stats = server.peer().stats();
    assert!(stats.keys().windows(2).all(|pair| pair[0] < pair[1]), "the keys are {:?}", stats.keys());
}

#[test]
fn length_does_not_count_the_last_line_end() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let lines = peer.lines("STATS");
    assert!(lines.ends_with("\r\n"), "every line ends in `\\r\\n`");
    peer.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn requests_are_counted_by_command() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let growth = growth_by(&mut peer, |peer| {
        peer.append(HELLO_WORLD);
        peer.append(HELLO_WORLD);
        peer.append(HELLO_WORLD);
        peer.find("READ default 0 1").batches();
        peer.find("READ default 60 1").batches();
        peer.find("TAIL default 1").batches();
        peer.lines("CONFIG");
    });
    growth.expect("requests.batch", 3);
    growth.expect("requests.read", 2);
    growth.expect("requests.tail", 1);
    growth.expect("requests.config", 1);
    growth.expect("requests.stats", 1);
    growth.expect("requests.close", 0);
    growth.expect("requests.total", 8);
    growth.expect("errors.total", 0);
}

#[test]
fn close_is_counted() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let growth = growth_by(&mut peer, |_| {
        let mut other = server.peer();
        other.ask(b"CLOSE\r\n", b"OK\r\n");
        other.expect_closed();
    });
    growth.expect("requests.close", 1);
    growth.expect("errors.close", 0);
}

#[test]
fn errors_are_counted_by_command() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let growth = growth_by(&mut peer, |peer| {
        peer.ask(b"READ default 0 1\r\n", b"ERR not found\r\n");
        peer.ask(b"READ default 0 0\r\n", b"ERR invalid request\r\n");
        peer.ask(b"TAIL default 1\r\n", b"ERR not found\r\n");
        peer.ask(b"BATCH 14 default 1 1\r\nMSG 5\r\nhello\r\n", b"ERR checksum mismatch\r\n");
        peer.ask(b"CONFIG word\r\n", b"ERR invalid request\r\n");
    });
    growth.expect("errors.read", 2);
    growth.expect("errors.tail", 1);
    growth.expect("errors.batch", 1);
    growth.expect("errors.config", 1);
    growth.expect("errors.stats", 0);
    growth.expect("errors.total", 5);
}

#[test]
fn broken_lines_are_errors() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let growth = growth_by(&mut peer, |_| {
        let mut other = server.peer();
        other.ask(b"NOPE\r\n", b"ERR invalid protocol\r\n");
        other.expect_closed();
    });
    growth.expect("errors.total", 1);
}

#[test]
fn bytes_are_counted_both_ways() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let first = peer.lines("STATS");
    peer.ask(HELLO_WORLD, b"OK 0 1\r\n");
    peer.find("READ default 0 1").batches();
    let second = peer.lines("STATS");
    let (first_stats, second_stats) = (Stats::new(&first), Stats::new(&second));
    let sent = HELLO_WORLD.len() + "READ default 0 1\r\n".len() + "STATS\r\n".len();
    assert_eq!(second_stats.since(&first_stats, "bytes.in"), sent as u64);
    let stats_answer = format!("MOK {}\r\n{first}\r\n", first.len());
    let received = "OK 0 1\r\n".len() + "OK 0 1\r\n".len() + HELLO_WORLD.len() + stats_answer.len();
    assert_eq!(second_stats.since(&first_stats, "bytes.out"), received as u64);
}

#[test]
fn connections_are_counted() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let before = peer.stats();
    assert_eq!(before.count("conns.active"), 1);
    let mut others: Vec<RawPeer> = (0..5).map(|_| server.peer()).collect();
    for other in &mut others {
        other.ask(b"PING\r\n", b"OK\r\n");
    }
    let now = peer.stats();
    assert_eq!(now.count("conns.active"), 6);
    assert_eq!(now.since(&before, "conns.total"), 5);
    drop(others);
    wait_until("the connections are gone", BOUND, || peer.stats().count("conns.active") == 1);
    assert_eq!(peer.stats().since(&before, "conns.total"), 5);
}

#[test]
fn topics_are_counted() {
    let server = TestServer::start(&["--topics-whitelist", "one"]);
    let mut peer = server.peer();
    assert_eq!(peer.stats().count("topics.total"), 1);
    let growth = growth_by(&mut peer, |peer| {
        peer.append(&batch("one", &[b"hello"]));
        peer.ask(&batch("two", &[b"hello"]), b"ERR topic not allowed\r\n");
        peer.ask(&batch("../two", &[b"hello"]), b"ERR topic not allowed\r\n");
    });
    growth.expect("topics.total", 1);
    growth.expect("topics.disallowed", 2);
}

/// What the counters were before and after something was done.
struct Growth {
    before: Stats,
    after: Stats,
}

impl Growth {
    fn expect(&self, key: &str, growth: u64) {
        assert_eq!(self.after.since(&self.before, key), growth, "growth of `{key}`");
    }
}

fn growth_by(peer: &mut RawPeer, action: impl FnOnce(&mut RawPeer)) -> Growth {
    let before = peer.stats();
    action(peer);
    Growth { before, after: peer.stats() }
}
