//! Connections that ask without a pause get a thread; they are served there as everywhere.

use std::fs;
use std::time::{Duration, Instant};

use logd_tests::{BOUND, RawPeer, TestServer, batch, wait_until};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

const PING: &[u8] = b"PING\r\n";

/// How many connections have a thread.
fn threads(server: &TestServer) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("the server runs");
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "connection").count()
}

/// Asks until there is a thread, with no other connection that could have it.
fn make_busy(server: &TestServer, peer: &mut RawPeer) {
    wait_until("the connection has a thread", BOUND, || {
        for _ in 0..200 {
            peer.ask(PING, b"OK\r\n");
        }
        threads(server) == 1
    });
}

#[test]
fn busy_connection_has_a_thread_until_it_pauses() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(PING, b"OK\r\n");
    assert_eq!(threads(&server), 0);
    for round in 0..3 {
        make_busy(&server, &mut peer);
        assert_eq!(peer.append(&batch("default", &[b"hello"])), 45 * round);
        wait_until("it gives the thread back", BOUND, || threads(&server) == 0);
        peer.ask(PING, b"OK\r\n");
    }
}

#[test]
fn what_was_sent_behind_a_wait_for_batches_is_answered_behind_it() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let hello = batch("default", &[b"hello"]);
    let end = peer.append(&hello) + hello.len() as u64;
    make_busy(&server, &mut peer);
    peer.send(format!("PING\r\nREAD default {end} 1 wait=20000\r\nPING\r\nHEAD default\r\n").as_bytes());
    peer.expect(b"OK\r\n");
    wait_until("it waits, without a thread", BOUND, || threads(&server) == 0);
    let world = batch("default", &[b"world"]);
    assert_eq!(server.peer().append(&world), end);
    peer.expect(format!("OK {end} 1\r\n").as_bytes());
    peer.expect(&world);
    peer.expect(b"OK\r\n");
    peer.expect(format!("OK {} 2\r\n", end + world.len() as u64).as_bytes());
}

#[test]
fn request_that_comes_to_a_halt_is_late_on_a_thread_too() {
    let server = TestServer::start(&["--timeout", "300ms"]);
    let mut peer = server.peer();
    make_busy(&server, &mut peer);
    peer.send(b"BATCH 29 default 2499380544 2\r\nMSG 5\r\n");
    peer.expect(b"ERR timed out\r\n");
    peer.expect_closed();
    wait_until("the thread ends", BOUND, || threads(&server) == 0);
    server.peer().ask(b"HEAD default\r\n", b"OK 0 0\r\n");
}

#[test]
fn silent_connection_is_closed_after_it_was_busy() {
    let server = TestServer::start(&["--idle-timeout", "400ms"]);
    let mut peer = server.peer();
    make_busy(&server, &mut peer);
    peer.expect_closed();
}

#[test]
fn reader_that_takes_nothing_is_given_up_on_a_thread_too() {
    let server = TestServer::start(&["--timeout", "300ms"]);
    let mut peer = RawPeer::connect_narrow(server.host().parse().expect("an address"));
    let message = vec![b'x'; 60_000];
    for _ in 0..400 {
        peer.append(&batch("default", &[&message]));
    }
    make_busy(&server, &mut peer);
    peer.send(b"READ default 0 400\r\n");
    wait_until("the thread ends", BOUND, || threads(&server) == 0);
    wait_until("the connection is closed", BOUND, || server.peer().stats().count("conns.active") == 1);
}

#[test]
fn reader_that_is_slow_is_served_to_the_end_on_a_thread_too() {
    let server = TestServer::start(&["--timeout", "400ms"]);
    let mut peer = RawPeer::connect_narrow(server.host().parse().expect("an address"));
    let message = vec![b'x'; 60_000];
    let whole = batch("default", &[&message]);
    for _ in 0..40 {
        peer.append(&whole);
    }
    make_busy(&server, &mut peer);
    peer.send(b"READ default 0 40\r\n");
    peer.expect(b"OK 0 40\r\n");
    let start = Instant::now();
    let mut left = 40 * whole.len();
    // It takes three times as long as the server waits without any progress.
    while start.elapsed() < Duration::from_millis(1200) {
        left -= peer.read_some(left.min(20_000)).expect("the connection goes on").len();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(left > 0, "it was not slow");
    peer.read_exact(left);
    peer.ask(PING, b"OK\r\n");
}

#[test]
fn server_that_ends_tells_busy_connections() {
    let mut server = TestServer::start(&[]);
    let mut peers: Vec<RawPeer> = (0..4).map(|_| server.peer()).collect();
    wait_until("all have a thread", BOUND, || {
        for peer in &mut peers {
            for _ in 0..100 {
                peer.ask(PING, b"OK\r\n");
            }
        }
        threads(&server) == peers.len()
    });
    let stopped = server.terminate();
    assert!(stopped.status.success(), "{stopped:?}");
    for peer in &mut peers {
        peer.expect(b"ERR shutting down\r\n");
        peer.expect_closed();
    }
}

#[test]
fn server_that_ends_waits_for_no_thread_longer_than_for_others() {
    let mut server = TestServer::start(&["--shutdown-timeout", "300ms", "--timeout", "60s"]);
    let mut peer = server.peer();
    make_busy(&server, &mut peer);
    peer.send(b"BATCH 29 default 2499380544 2\r\nMSG 5\r\n");
    peer.wait_until_taken();
    let stopped = server.terminate();
    assert!(stopped.status.success(), "{stopped:?}");
    peer.expect_closed();
}

#[test]
fn busy_connection_goes_on_where_the_system_has_nothing_for_a_thread() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    peer.ask(PING, b"OK\r\n");
    let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a process id")).expect("not 0");
    // Those that are open stay so; there is no other one.
    let limit = Rlimit { current: Some(3), maximum: getrlimit(Resource::Nofile).maximum };
    prlimit(Some(pid), Resource::Nofile, limit).expect("a lower limit is allowed");
    let hello = batch("default", &[b"hello"]);
    for round in 0..2000 {
        peer.ask(PING, b"OK\r\n");
        assert_eq!(peer.append(&hello), 45 * round);
    }
    wait_until("no thread waits for its connection", BOUND, || threads(&server) == 0);
}

#[test]
fn all_are_served_when_more_are_busy_than_there_are_threads() {
    let server = TestServer::start(&[]);
    let done: u64 = std::thread::scope(|scope| {
        let busy: Vec<_> = (0..100)
            .map(|_| {
                let server = &server;
                scope.spawn(move || {
                    let mut peer = server.peer();
                    let hello = batch("default", &[b"hello"]);
                    (0..300).map(|_| peer.append(&hello)).count() as u64
                })
            })
            .collect();
        busy.into_iter().map(|thread| thread.join().expect("it was served")).sum()
    });
    assert_eq!(done, 30_000);
    assert!(threads(&server) <= 64);
    server.peer().ask(b"HEAD default\r\n", b"OK 1350000 30000\r\n");
}
