//! An application that writes to a log, for tests that kill it, starve it, or let it end as programs do.
//!
//! Everything it was told it says on standard output, a line at a time and at once, so that what was said survives the
//! kill. How it is called: `writer-app <what> <address> <spool> …`, see the functions.
#![expect(clippy::expect_used, clippy::panic, reason = "it fails the test that runs it, and says why")]

mod away;

use std::io::Write;
use std::time::Duration;

use logd_client::{ClientConfig, Delivery, ErrorKind, RetryPolicy, WriteError, Writer, WriterBuilder};
use tokio::sync::mpsc;

/// How many messages are unsettled at once, at most.
const UNSETTLED_MAX: usize = 5000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match arguments.as_slice() {
        ["run", host, spool, run] => runtime.block_on(write_for_ever(host, spool, run)),
        ["write", host, spool, count] => {
            runtime.block_on(write(host, spool, count.parse().expect("a number")));
        }
        ["settle", host, spool, first, count] => {
            let number = |text: &str| text.parse().expect("a number");
            runtime.block_on(settle(host, spool, number(first), number(count)));
        }
        ["away", settings @ ..] => runtime.block_on(away::run(settings)),
        _ => panic!("called with {arguments:?}"),
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // One call of the system for each line: what a killed process has said is whole lines.
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).expect("the test listens");
}

fn builder(host: &str, spool: &str) -> WriterBuilder {
    let retry = RetryPolicy::default()
        .attempts(None)
        .interval(Duration::from_millis(2))
        .max_interval(Duration::from_millis(20));
    let config = ClientConfig::new(host).timeout(Duration::from_millis(500)).retry(retry);
    Writer::builder(config).spool(spool, 64 * 1024 * 1024)
}

/// Writes `<run> <number>` without end, in tiny batches. Says `D <number> <position>` of each message that was delivered,
/// `S <number>` of each that is in the spool, `X <number>` of each that was dropped, `F <number>` of each that failed.
async fn write_for_ever(host: &str, spool: &str, run: &str) {
    let writer = builder(host, spool)
        .batch_bytes(600)
        .buffer_bytes(6000)
        .wait_interval(Duration::from_millis(1))
        .budget(Duration::from_secs(5))
        .open()
        .expect("the spool is free");
    let (unsettled, settled) = mpsc::channel(UNSETTLED_MAX);
    let teller = tokio::spawn(tell(settled));
    for number in 0_u64.. {
        match writer.send(format!("{run} {number}").as_bytes()).await {
            Ok(delivery) => unsettled.send((number, delivery)).await.expect("the teller goes on"),
            Err(WriteError::Dropped { .. }) => say(&format!("X {number}")),
            Err(error) => panic!("{error}"),
        }
    }
    teller.await.expect("the teller does not panic");
}

async fn tell(mut settled: mpsc::Receiver<(u64, Delivery)>) {
    while let Some((number, delivery)) = settled.recv().await {
        match delivery.await {
            Ok(position) => say(&format!("D {number} {position}")),
            Err(error) if error.error.kind() == ErrorKind::Spooled => say(&format!("S {number}")),
            Err(error) => say(&format!("F {number} {error}")),
        }
    }
}

/// Writes `0` up to `count`, says so, and ends as a program does that forgets to close its writer.
async fn write(host: &str, spool: &str, count: u64) {
    let writer = builder(host, spool).open().expect("the spool is free");
    for number in 0..count {
        writer.write(number.to_string().as_bytes()).await.expect("there is room");
    }
    say("written");
}

/// Writes `count` messages from `first` on, each a batch, closes, and says what became of each, as `run` does; `O <error>`
/// alone when the writer could not be opened.
async fn settle(host: &str, spool: &str, first: u64, count: u64) {
    let opened = builder(host, spool).batch_bytes(600).budget(Duration::from_secs(5)).open();
    let writer = match opened {
        Ok(writer) => writer,
        Err(error) => return say(&format!("O {error}")),
    };
    let (unsettled, settled) = mpsc::channel(UNSETTLED_MAX);
    let teller = tokio::spawn(tell(settled));
    for number in first..first + count {
        match writer.send(format!("{number} {:400}", "").as_bytes()).await {
            Ok(delivery) => unsettled.send((number, delivery)).await.expect("the teller goes on"),
            Err(WriteError::Dropped { .. }) => say(&format!("X {number}")),
            Err(error) => panic!("{error}"),
        }
    }
    // What failed is said of each message.
    let _ = writer.close().await;
    drop(unsettled);
    teller.await.expect("the teller does not panic");
}
