//! Stopping, and finding everything again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use logd_tests::{BOUND, Random, RawPeer, TestServer, batch, seed, wait_until};
use rustix::process::Signal;

/// How long an end without work can take on a busy machine.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn idle_server_ends_at_once_with_0() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut server = TestServer::start(&[]);
        let mut peer = server.peer();
        peer.ask(b"PING\r\n", b"OK\r\n");
        let stopped = server.stop(signal);
        assert_eq!(stopped.status.code(), Some(0), "{signal:?}: {}", server.stderr());
        assert!(stopped.time < SOON, "it took {:?}", stopped.time);
        assert!(!server.stderr().contains("panicked"), "it said:\n{}", server.stderr());
    }
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let mut server = TestServer::start(&[]);
    let mut peers: Vec<RawPeer> = (0..50).map(|_| server.peer()).collect();
    for peer in &mut peers {
        peer.ask(b"PING\r\n", b"OK\r\n");
    }
    let stopped = server.terminate();
    assert_eq!(stopped.status.code(), Some(0));
    assert!(stopped.time < SOON, "it took {:?}", stopped.time);
    for peer in &mut peers {
        let rest = peer.read_to_end();
        assert_eq!(rest, b"ERR shutting down\r\n", "received `{}`", rest.escape_ascii());
    }
}

#[test]
fn waiting_readers_do_not_delay_the_end() {
    let mut server = TestServer::start(&[]);
    let mut reader = server.peer();
    reader.send(b"READ default 0 1 wait=60000\r\n");
    reader.wait_until_taken();
    let stopped = server.terminate();
    assert_eq!(stopped.status.code(), Some(0));
    assert!(stopped.time < SOON, "it took {:?}", stopped.time);
    let rest = reader.read_to_end();
    assert_eq!(rest, b"ERR not found\r\nERR shutting down\r\n", "received `{}`", rest.escape_ascii());
}

#[test]
fn signals_at_the_same_time_are_one() {
    let mut server = TestServer::start(&[]);
    let sent = batch("default", &[b"hello"]);
    let (start, end) = sent.split_at(20);
    let mut peer = server.peer();
    peer.send(start);
    peer.wait_until_taken();
    server.signal(Signal::TERM);
    server.signal(Signal::INT);
    wait_until("the server listens no more", BOUND, || RawPeer::try_connect(server.addr()).is_err());
    peer.ask(end, b"OK 0 1\r\n");
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.stderr());
}

#[test]
fn later_signal_ends_what_is_in_work() {
    let mut server = TestServer::start(&["--shutdown-timeout", "10m", "--timeout", "10m"]);
    let mut peer = server.peer();
    peer.send(b"BATCH 29 default ");
    peer.wait_until_taken();
    wait_until("a later signal ends the server", BOUND, || {
        if server.is_running() {
            server.signal(Signal::TERM);
        }
        !server.is_running()
    });
    assert_eq!(server.wait_for_end().code(), Some(1), "{}", server.stderr());
}

#[test]
fn batch_in_work_is_finished() {
    let mut server = TestServer::start(&[]);
    let sent = batch("default", &[&vec![b'x'; 60_000]]);
    let (start, end) = sent.split_at(30_000);
    let mut peer = server.peer();
    peer.send(start);
    peer.wait_until_taken();
    server.signal(Signal::TERM);
    wait_until("the server listens no more", BOUND, || RawPeer::try_connect(server.addr()).is_err());
    peer.ask(end, b"OK 0 1\r\n");
    assert_eq!(server.wait_for_end().code(), Some(0));
    server.restart();
    assert_eq!(server.peer().find("TAIL default 1").batches(), (0, vec![sent]));
}

#[test]
fn answer_in_work_is_finished() {
    let mut server = TestServer::start(&["--batch-size", "1048576"]);
    let sent: Vec<Vec<u8>> = (0..24_u8).map(|number| batch("default", &[&vec![number; 1_000_000]])).collect();
    let mut peer = server.peer();
    for batch in &sent {
        peer.append(batch);
    }
    let mut reader = RawPeer::connect_narrow(server.addr());
    reader.send(b"READ default 0 50000\r\n");
    let mut received = reader.read_exact(1000);
    server.signal(Signal::TERM);
    wait_until("the server listens no more", BOUND, || RawPeer::try_connect(server.addr()).is_err());
    let expected = [b"OK 0 24\r\n".to_vec(), sent.concat()].concat();
    received.extend(reader.read_exact(expected.len() - received.len()));
    assert!(received == expected, "the answer is not what was stored");
    assert_eq!(server.wait_for_end().code(), Some(0));
}

#[test]
fn work_that_does_not_end_is_waited_for_no_longer_than_said() {
    let mut server = TestServer::start(&["--shutdown-timeout", "500ms"]);
    let mut peer = server.peer();
    peer.send(b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello");
    peer.wait_until_taken();
    let stopped = server.terminate();
    assert!(stopped.status.code().is_some(), "it was killed by itself: {}", stopped.status);
    assert!(stopped.time < SOON, "it took {:?}", stopped.time);
    server.restart();
    server.peer().ask(b"HEAD default\r\n", b"OK 0 0\r\n");
}

#[test]
fn everything_is_found_after_a_restart() {
    let options = ["--partition-size", "100000", "--partitions", "100"];
    let mut server = TestServer::start(&options);
    let mut random = Random::new(seed());
    let mut stored: BTreeMap<&str, Vec<Vec<u8>>> = BTreeMap::new();
    for round in 0..4 {
        let mut peer = server.peer();
        for _ in 0..200 {
            let topic = random.one_of(&["default", "one", "two"]);
            let length = random.below(3000);
            let sent = batch(topic, &[&random.bytes(length)]);
            let batches = stored.entry(topic).or_default();
            let head = batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
            assert_eq!(peer.append(&sent), head);
            batches.push(sent);
        }
        let code = if round % 2 == 0 { server.terminate() } else { server.stop(Signal::INT) };
        assert_eq!(code.status.code(), Some(0), "it said:\n{}", server.stderr());
        server.restart();
        let mut peer = server.peer();
        for (topic, batches) in &stored {
            let found = peer.find(&format!("READ {topic} 0 50000")).batches();
            assert!(found == (0, batches.clone()), "topic `{topic}` has changed");
        }
    }
}

#[test]
fn start_after_a_clean_end_does_not_take_longer_with_the_data() {
    let mut server = TestServer::start(&["--batch-size", "1048576"]);
    let empty = time_of_restart(&mut server);
    let sent = batch("default", &[&vec![b'x'; 1_000_000]]);
    let mut peer = server.peer();
    for _ in 0..400 {
        peer.append(&sent);
    }
    let full = time_of_restart(&mut server);
    server.peer().ask(b"HEAD default\r\n", format!("OK {} 400\r\n", sent.len() * 400).as_bytes());
    assert!(full < empty * 5 + Duration::from_millis(500), "{empty:?} when empty, {full:?} with 400 MB");
}

fn time_of_restart(server: &mut TestServer) -> Duration {
    assert_eq!(server.terminate().status.code(), Some(0));
    let start = Instant::now();
    server.restart();
    start.elapsed()
}
