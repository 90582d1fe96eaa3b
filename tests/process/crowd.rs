//! Ten thousand connections against a limit of a thousand.

use logd_tests::{BOUND, RawPeer, TestServer, batch, not_run, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const SERVED: usize = 1000;
const CONNECTIONS: usize = 10_000;

#[test]
fn each_connection_over_the_limit_is_answered_and_the_others_are_served() {
    if !raise_open_files(CONNECTIONS as u64 + 500) {
        return not_run("ten thousand connections: the limit of open files cannot be raised");
    }
    let server = TestServer::start(&["--max-connections", &SERVED.to_string(), "--idle-timeout", "10m"]);
    let mut served: Vec<RawPeer> = (0..SERVED).map(|_| server.peer()).collect();
    for peer in &mut served {
        peer.ask(b"PING\r\n", b"OK\r\n");
    }
    let mut refused: Vec<RawPeer> = (SERVED..CONNECTIONS).map(|_| server.peer()).collect();
    for peer in &mut refused {
        peer.expect(b"ERR too many connections\r\n");
        peer.expect_closed();
    }
    let sent = batch("default", &[b"hello"]);
    for (number, peer) in served.iter_mut().enumerate() {
        assert_eq!(peer.append(&sent), (number * sent.len()) as u64);
    }
    let stats = served[0].stats();
    assert_eq!(stats.count("conns.active"), SERVED as u64);
    assert_eq!(stats.count("conns.rejected"), (CONNECTIONS - SERVED) as u64);
    drop(served);
    wait_until("there is a place again", BOUND, || {
        let mut peer = server.peer();
        peer.try_send(b"PING\r\n").is_ok() && peer.try_read_line().is_ok_and(|line| line == "OK")
    });
}

/// Lets this process, and those that it starts, have so many files open.
fn raise_open_files(count: u64) -> bool {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= count) {
        return true;
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(count));
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).is_ok()
}
