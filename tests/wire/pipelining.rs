//! Requests that are sent before the answers to earlier ones are read.

use std::thread;

use logd_tests::{TestServer, batch};

use crate::{HELLO_WORLD, joined};

#[test]
fn requests_in_one_write_are_answered_in_order() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let sent = joined(&[
        HELLO_WORLD,
        b"READ default 0 1\r\nPING\r\n",
        HELLO_WORLD,
        b"HEAD default\r\nREAD default 999 1\r\nREAD default 60 1\r\nTAIL default 4\r\n",
    ]);
    let answers = joined(&[
        b"OK 0 1\r\nOK 0 1\r\n",
        HELLO_WORLD,
        b"OK\r\nOK 60 1\r\nOK 120 2\r\nERR not found\r\nOK 60 1\r\n",
        HELLO_WORLD,
        b"OK 0 2\r\n",
        HELLO_WORLD,
        HELLO_WORLD,
    ]);
    peer.ask(&sent, &answers);
}

#[test]
fn refused_requests_do_not_disturb_those_around_them() {
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let sent = joined(&[
        b"PING\r\n",
        b"BATCH 14 default 1 1\r\nMSG 5\r\nhello\r\n",
        b"BATCH 9 default x 1\r\nMSG 0\r\n\r\n",
        HELLO_WORLD,
        b"BATCH 70000 default 1 1\r\n",
        &b"\n".repeat(70_000),
        b"READ default x 1\r\nTAIL ../x 1\r\nPING word\r\nHEAD default\r\n",
    ]);
    let answers = joined(&[
        b"OK\r\nERR checksum mismatch\r\nERR invalid protocol\r\nOK 0 1\r\nERR too large\r\n",
        b"ERR invalid request\r\nERR topic not allowed\r\nERR invalid request\r\nOK 60 1\r\n",
    ]);
    peer.ask(&sent, &answers);
}

#[test]
fn thousands_of_requests_are_answered_in_order() {
    const ROUNDS: usize = 5000;
    let server = TestServer::start(&[]);
    let mut peer = server.peer();
    let mut answers = Vec::new();
    for round in 0..ROUNDS {
        answers.extend_from_slice(format!("OK {} 1\r\nOK {0} 1\r\n", round * 60).as_bytes());
        answers.extend_from_slice(HELLO_WORLD);
    }
    let sent: Vec<u8> = (0..ROUNDS)
        .flat_map(|round| joined(&[HELLO_WORLD, format!("READ default {} 1\r\n", round * 60).as_bytes()]))
        .collect();
    // Both directions at once: the server need not keep answers that nobody reads.
    let mut sender = peer.sender();
    let sending = thread::spawn(move || sender.send(&sent));
    peer.expect(&answers);
    sending.join().expect("everything was sent");
}

#[test]
fn answers_that_nobody_reads_are_not_heaped_up() {
    let server = TestServer::start(&["--batch-size", "1048576"]);
    let mut peer = server.peer();
    peer.append(&batch("default", &[&vec![b'x'; 1_000_000]]));
    let mut greedy = server.peer();
    for _ in 0..1000 {
        greedy.send(b"READ default 0 1\r\n");
    }
    greedy.read_exact(2_000_000);
    let resident = server.resident_bytes();
    assert!(resident < 50 * 1024 * 1024, "the server has {resident} bytes of memory");
}
