//! How many connections there can be.

use logd_tests::{BOUND, RawPeer, TestServer, batch, wait_until};

const TOO_MANY: &[u8] = b"ERR too many connections\r\n";

#[test]
fn connection_over_the_limit_is_answered_and_closed() {
    let server = TestServer::start(&["--max-connections", "3"]);
    let mut peers: Vec<RawPeer> = (0..3).map(|_| server.peer()).collect();
    for peer in &mut peers {
        peer.ask(b"PING\r\n", b"OK\r\n");
    }
    let mut fourth = server.peer();
    fourth.expect(TOO_MANY);
    fourth.expect_closed();
    for peer in &mut peers {
        peer.ask(b"PING\r\n", b"OK\r\n");
    }
}

#[test]
fn answer_over_the_limit_is_not_lost_when_requests_are_sent_at_once() {
    let server = TestServer::start(&["--max-connections", "1"]);
    server.peer().ask(b"PING\r\n", b"OK\r\n");
    let mut first = first_served(&server);
    for _ in 0..100 {
        let mut second = server.peer();
        // The server can have closed the connection before this arrives.
        let _ = second.try_send(&b"PING\r\n".repeat(100));
        second.expect(TOO_MANY);
        second.expect_closed();
    }
    first.ask(b"PING\r\n", b"OK\r\n");
}

#[test]
fn place_of_a_connection_that_ended_is_free_again() {
    let server = TestServer::start(&["--max-connections", "2"]);
    for _ in 0..20 {
        let mut first = first_served(&server);
        let _second = first_served(&server);
        first.ask(b"CLOSE\r\n", b"OK\r\n");
    }
}

#[test]
fn silent_connection_that_has_read_takes_next_to_no_memory() {
    const READERS: u64 = 300;
    const BYTES_EACH_MAX: u64 = 16 * 1024;
    let server = TestServer::start(&[]);
    let hello = batch("default", &[b"hello"]);
    // So that a batch is found by a walk over many.
    let mut writer = server.peer();
    for _ in 0..1500 {
        writer.append(&hello);
    }
    let mut peers: Vec<RawPeer> = (0..READERS).map(|_| server.peer()).collect();
    let read = |offset: usize, peers: &mut [RawPeer]| {
        for peer in peers {
            peer.send(format!("READ default {offset} 1\r\n").as_bytes());
            peer.expect(format!("OK {offset} 1\r\n").as_bytes());
            peer.expect(&hello);
        }
    };
    read(0, &mut peers[..1]);
    for peer in &mut peers {
        peer.ask(b"PING\r\n", b"OK\r\n");
    }
    let before = server.resident_bytes();
    read(1000 * hello.len(), &mut peers);
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < READERS * BYTES_EACH_MAX, "`{grown}` bytes for `{READERS}` connections");
}

/// A connection that is served, as soon as there is a place for one.
fn first_served(server: &TestServer) -> RawPeer {
    let mut found = None;
    wait_until("there is a place for a connection", BOUND, || {
        let mut peer = server.peer();
        let sent = peer.try_send(b"PING\r\n");
        if sent.is_ok() && peer.try_read_line().is_ok_and(|line| line == "OK") {
            found = Some(peer);
        }
        found.is_some()
    });
    found.expect("there was a place")
}

/// How many bytes the kernel has to send from the server's port, on connections that are closed already.
fn kept_for_closed(server: &TestServer) -> u64 {
    const FIN_WAIT1: &str = "04";
    let host = server.host();
    let port: u16 =
        host.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address has a port");
    let port = format!(":{port:04X}");
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells its sockets");
    let kept = sockets.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, state, queues, ..] = fields.as_slice() else { return None };
        let queued = queues.split(':').next().and_then(|bytes| u64::from_str_radix(bytes, 16).ok());
        queued.filter(|_| local.ends_with(&port) && *state == FIN_WAIT1)
    });
    kept.sum()
}

#[test]
fn the_kernel_keeps_nothing_for_long_that_a_peer_does_not_take() {
    let server = TestServer::start(&["--batch-size", "2MiB", "--timeout", "1s", "--idle-timeout", "1s"]);
    server.peer().append(&batch("default", &[&vec![b'x'; 1_000_000]]));
    let address = server.host().parse().expect("an address");
    let mut peers: Vec<RawPeer> = (0..8).map(|_| RawPeer::connect_narrow(address)).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        // Some are silent then, others are ended for what they say.
        let end = if number % 2 == 0 { "" } else { "NO REQUEST\r\n" };
        peer.send(format!("READ default 0 1\r\n{end}").as_bytes());
    }
    wait_until("connections are closed", BOUND, || kept_for_closed(&server) > 1_000_000);
    wait_until("the kernel gives their answers up", 3 * BOUND, || kept_for_closed(&server) == 0);
    server.peer().ask(b"PING\r\n", b"OK\r\n");
}
