//! A server inside a program that is dropped, not stopped, and begun anew in its directory.

use std::path::Path;
use std::thread;

use logd_server::StartError;
use logd_server::{Config, Server};
use logd_tests::{BOUND, RawPeer, batch, wait_until};
use tokio::runtime::{Builder, Runtime};

/// How often it is tried: what is under way when the server is dropped differs.
const ROUNDS: usize = 10;

/// A server, as soon as the directory is free.
fn bind(runtime: &Runtime, workdir: &Path) -> Server {
    let mut server = None;
    wait_until("the directory is free", BOUND, || {
        let config = Config { host: "127.0.0.1:0".into(), workdir: workdir.into(), ..Config::default() };
        match runtime.block_on(Server::bind(config)) {
            Ok(bound) => server = Some(bound),
            Err(StartError::WorkdirInUse { .. }) => {}
            Err(error) => panic!("the server does not start: {error}"),
        }
        server.is_some()
    });
    server.expect("it was bound")
}

#[test]
fn server_that_was_dropped_writes_nothing_beside_the_next_one() {
    let runtime = Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (old, new) = (batch("default", &[b"hello"]), batch("default", &[b"hello, again"]));
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a directory");
        let server = bind(&runtime, folder.path());
        let address = server.local_addr();
        let running = runtime.spawn(server.run(std::future::pending()));
        let mut peer = RawPeer::connect(address);
        for _ in 0..200 {
            peer.ask(b"PING\r\n", b"OK\r\n");
        }
        // A large one makes room for many small ones at once.
        peer.append(&batch("default", &[&vec![b'x'; 65_000]]));
        // More than is stored before the server is dropped.
        let (mut sender, all) = (peer.sender(), old.repeat(20_000));
        let sending = thread::spawn(move || sender.try_send(&all));
        peer.read_exact(1);
        running.abort();
        let _ = runtime.block_on(running);

        let server = bind(&runtime, folder.path());
        let address = server.local_addr();
        let running = runtime.spawn(server.run(std::future::pending()));
        let mut writer = RawPeer::connect(address);
        let mut offsets = Vec::new();
        for _ in 0..200 {
            offsets.push(writer.append(&new));
        }
        for offset in offsets {
            writer.send(format!("READ default {offset} 1\r\n").as_bytes());
            writer.expect(format!("OK {offset} 1\r\n").as_bytes());
            writer.expect(&new);
        }
        // Its connection was cut.
        let _ = sending.join();
        running.abort();
        let _ = runtime.block_on(running);
    }
}
