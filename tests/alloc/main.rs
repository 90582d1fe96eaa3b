//! The hot paths allocate nothing for a request or a message once they are warm.
//!
//! Every allocation of the process counts, the server's and the client's; so this is one test, alone in its process. What is
//! allowed is what a batch, or a piece of many messages, costs.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it has found"
)]

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use logd_client::{
    BatchBuilder, ClientConfig, Consumer, ConsumerKey, MemoryState, Scanner, TopicName, Writer,
};
use logd_server::{Config, Server};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::Runtime;

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGE: [u8; 100] = [b'x'; 100];
/// Messages that fill many batches and pieces.
const MESSAGES: u64 = 200_000;
const REQUESTS: u64 = 5_000;

/// How many allocations, and growing ones count too, there were in `work`.
fn count(what: &str, of: u64, work: impl FnOnce()) -> u64 {
    let region = Region::new(COUNTING);
    work();
    let change = region.change();
    let count = (change.allocations + change.reallocations) as u64;
    println!("{what}: {count} allocations for {of}");
    count
}

fn serve(runtime: &Runtime, workdir: &std::path::Path) -> SocketAddr {
    let config = Config { host: "127.0.0.1:0".into(), workdir: workdir.into(), ..Config::default() };
    let server = runtime.block_on(Server::bind(config)).unwrap();
    let address = server.local_addr();
    runtime.spawn(server.run(std::future::pending()));
    address
}

/// Writes batches over a connection of its own, and allocates nothing for that.
fn write_batches(stream: &mut TcpStream, batch: &[u8], requests: u64) {
    let mut answer = [0; 64];
    for _ in 0..requests {
        stream.write_all(batch).unwrap();
        let mut end = 0;
        while end == 0 || answer[end - 1] != b'\n' {
            end += stream.read(&mut answer[end..]).unwrap();
        }
        assert!(answer.starts_with(b"OK "));
    }
}

#[test]
fn warm_paths_allocate_nothing_for_a_request_or_a_message() {
    let runtime = Runtime::new().unwrap();
    let workdir = tempfile::tempdir().unwrap();
    let address = serve(&runtime, workdir.path());
    let topic: TopicName = "batches".parse().unwrap();
    let mut builder = BatchBuilder::new(&topic, 8192);
    while builder.push(&MESSAGE).is_ok() {}
    let batch = builder.finish().unwrap();

    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    write_batches(&mut stream, batch.bytes(), REQUESTS);
    let served = count("batches served", REQUESTS, || write_batches(&mut stream, batch.bytes(), REQUESTS));
    // The index has an entry for each 64 KiB, and grows with them now and then.
    assert!(served < REQUESTS / 50, "{served}");

    let config = ClientConfig::new(address.to_string());
    let messages: TopicName = "messages".parse().unwrap();
    let writer = Writer::builder(config.clone()).topic(messages.clone()).batch_bytes(60_000).open().unwrap();
    let write = || {
        runtime.block_on(async {
            for _ in 0..MESSAGES {
                writer.write(&MESSAGE).await.unwrap();
            }
            writer.flush().await.unwrap();
        });
    };
    write();
    let written = count("messages written", MESSAGES, write);
    assert!(written < MESSAGES / 20, "{written}");

    let mut scanner = {
        let _within = runtime.enter();
        Scanner::builder(config.clone()).topic(messages.clone()).open().unwrap()
    };
    let mut scan = || {
        runtime.block_on(async {
            for _ in 0..MESSAGES {
                scanner.next().await.unwrap().unwrap();
            }
        });
    };
    scan();
    let scanned = count("messages scanned", MESSAGES, &mut scan);
    assert!(scanned < MESSAGES / 20, "{scanned}");

    let key = ConsumerKey::new(messages, "reader").unwrap();
    let builder = Consumer::builder(config, Arc::new(MemoryState::new()), key);
    let mut consumer = runtime.block_on(builder.open()).unwrap();
    let mut consume = || {
        runtime.block_on(async {
            for _ in 0..MESSAGES {
                consumer.next().await.unwrap().unwrap().ack();
            }
        });
    };
    consume();
    let consumed = count("messages consumed", MESSAGES, &mut consume);
    assert!(consumed < MESSAGES / 20, "{consumed}");
    runtime.shutdown_timeout(Duration::from_secs(1));
}
