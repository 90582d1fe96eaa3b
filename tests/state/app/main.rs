//! An application that reads a topic with a consumer, for tests that kill it, stop it, and take its store away.
//!
//! It is called `state-app <mode> <server> <topic> <state url> <consumer> …`. What became of it, it says on standard output, a
//! line at a time and at once, so that what was said survives the kill.
//!
//! | mode | what it does |
//! |---|---|
//! | `count-sqlite`, `count-postgres` | counts lines by key into a table beside the checkpoints, each exactly once |
//! | `at-least-once` `<file>` | appends the position of each message to the file, and acknowledges it |
//! | `exclusive` `<owner>` `<lease in ms>` | acknowledges every message, and says what its store said to each request |
#![expect(clippy::expect_used, clippy::panic, reason = "it fails the test that runs it, and says why")]

mod count;
mod postgres;
mod read;
mod sqlite;
mod telling;

use std::io::Write;
use std::time::Duration;

use logd_client::{ClientConfig, ConsumerKey, RetryPolicy};

/// How it ends when somebody else has taken over.
const TAKEN_OVER: i32 = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let [mode, host, topic, url, consumer, more @ ..] = arguments.as_slice() else {
        panic!("called with {arguments:?}")
    };
    let key = ConsumerKey::new(topic.parse().expect("a topic"), *consumer).expect("a key");
    let place = Place { host, url, key };
    let code = match (*mode, more) {
        ("count-sqlite", []) => runtime.block_on(sqlite::count(&place)),
        ("count-postgres", []) => runtime.block_on(postgres::count(&place)),
        ("at-least-once", [file]) => runtime.block_on(read::at_least_once(&place, file)),
        ("exclusive", [owner, ttl]) => {
            let ttl = Duration::from_millis(ttl.parse().expect("a number"));
            runtime.block_on(read::exclusive(&place, owner, ttl))
        }
        _ => panic!("called with {arguments:?}"),
    };
    std::process::exit(code);
}

/// Where it reads, and where its checkpoint is.
struct Place<'a> {
    host: &'a str,
    url: &'a str,
    key: ConsumerKey,
}

impl Place<'_> {
    fn config(&self) -> ClientConfig {
        let retry = RetryPolicy::default()
            .attempts(None)
            .interval(Duration::from_millis(5))
            .max_interval(Duration::from_millis(100));
        ClientConfig::new(self.host).retry(retry)
    }
}

fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    // One call of the system for each line: what a killed process has said is whole lines.
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).expect("the test listens");
}
