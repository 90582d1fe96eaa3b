//! Processes that stand still for a while, as under a debugger, in a container that is paused, or in a machine that is
//! moved.

use std::thread;
use std::time::{Duration, Instant};

use logd_client::{ClientConfig, RetryPolicy, Scanner, Writer};
use logd_tests::{App, BOUND, TestServer, batch, binary};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

/// How long a write may wait for room, and how much longer a call may take on a busy machine.
const BUDGET: Duration = Duration::from_millis(300);
const TOLERANCE: Duration = Duration::from_secs(1);
const STILL: Duration = Duration::from_secs(2);
const MESSAGE_BYTES: usize = 1000;
/// Much less than is written while the server stands still.
const BUFFER_BYTES: usize = 128 * 1024;

#[test]
fn server_that_stands_still_loses_nothing_and_holds_nobody_up() {
    let runtime = Runtime::new().expect("a runtime");
    // The client waits for it to go on, or gives the connection up before.
    for client_timeout in [Duration::from_secs(20), Duration::from_millis(700)] {
        let server = TestServer::start(&[]);
        let config = ClientConfig::new(server.host())
            .timeout(client_timeout)
            .retry(RetryPolicy::default().attempts(None).interval(Duration::from_millis(50)));
        let (written, scanned) = runtime.block_on(async {
            let scanner = Scanner::builder(config.clone()).follow(true);
            let mut scanner = scanner.open().expect("the settings are right");
            let writing = tokio::spawn(write(config, Instant::now() + STILL * 2));
            sleep(STILL / 3).await;
            server.signal(Signal::STOP);
            sleep(STILL).await;
            server.signal(Signal::CONT);
            let written = writing.await.expect("the writer does not fail");
            let mut scanned = Vec::new();
            while scanned.last() != written.last() {
                let message = timeout(BOUND, scanner.next()).await.expect("there is more");
                let message = message.expect("it follows").expect("nothing is missing");
                let text = String::from_utf8_lossy(&message.bytes).into_owned();
                // Otherwise it tells of messages that were dropped.
                if let Some(number) = text.strip_prefix("number ") {
                    scanned.push(number.trim_end_matches('x').trim().parse().expect("a number"));
                }
            }
            (written, scanned)
        });
        assert!(written.len() > 200, "{} messages", written.len());
        assert_eq!(written, scanned, "what was taken is read once and in order, and nothing else");
    }
}

/// Writes numbered messages until the time is up, and returns those that the writer has taken. No call takes longer than
/// its budget.
async fn write(config: ClientConfig, end: Instant) -> Vec<u64> {
    let writer = Writer::builder(config).budget(BUDGET).buffer_bytes(BUFFER_BYTES);
    let writer = writer.open().expect("the settings are right");
    let mut taken = Vec::new();
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let mut message = format!("number {number} ").into_bytes();
        message.resize(MESSAGE_BYTES, b'x');
        let begin = Instant::now();
        if writer.write(&message).await.is_ok() {
            taken.push(number);
        }
        let time = begin.elapsed();
        assert!(time <= BUDGET + TOLERANCE, "message {number} took {time:?}");
        sleep(Duration::from_millis(1)).await;
    }
    timeout(3 * BOUND, writer.close()).await.expect("the server goes on").expect("all is delivered");
    let stats = writer.stats();
    assert_eq!(stats.delivered, taken.len() as u64 + stats.notices, "{stats:?}");
    assert_eq!(stats.delivered + stats.dropped, stats.written, "{stats:?}");
    taken
}

#[test]
fn client_that_stands_still_is_given_up_and_goes_on_where_it_was() {
    const BATCHES: usize = 300;
    const LINES: usize = 10;
    // It may have to be built first.
    let path = binary("log-cli");
    let server = TestServer::start(&["--timeout", "500ms"]);
    let mut peer = server.peer();
    for number in 0..BATCHES {
        let lines: Vec<Vec<u8>> = (0..LINES)
            .map(|line| {
                let mut text = format!("{} ", number * LINES + line).into_bytes();
                text.resize(6 * MESSAGE_BYTES, b'x');
                text
            })
            .collect();
        let lines: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        peer.append(&batch("default", &lines));
    }
    let reader = App::start(path.to_str().expect("a path in UTF-8"), &["--host", &server.host(), "read"]);
    reader.wait_for("0 ");
    reader.signal(Signal::STOP);
    // The server gives it up, and others do not notice.
    let begin = Instant::now();
    while begin.elapsed() < STILL {
        peer.ask(b"PING\r\n", b"OK\r\n");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(peer.stats().count("conns.active"), 1, "the one that asks");
    reader.signal(Signal::CONT);
    let (status, lines) = reader.finish(3 * BOUND);
    assert!(status.success(), "{status}");
    let numbers = lines.iter().map(|line| line.split(' ').next().and_then(|word| word.parse().ok()));
    assert!(numbers.eq((0..BATCHES * LINES).map(Some)), "{} lines", lines.len());
}
