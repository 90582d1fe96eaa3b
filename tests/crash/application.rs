//! Killing an application that writes, at random points, while its server comes and goes: every message of which it was
//! told that it is delivered or in the spool is in the topic in the end, once, and in order.
//!
//! `LOGD_TEST_APP_KILLS` sets how often it is killed.

use std::collections::HashMap;
use std::path::Path;
use std::thread;
use std::time::Duration;

use logd_client::{ClientConfig, RetryPolicy, Scanner, Writer};
use logd_tests::{App, Gate, Random, Side, TestServer, seed};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::OPTIONS;
use crate::writers::setting;

const KILLS_DEFAULT: usize = 100;
/// The longest that a part of a run takes, in milliseconds.
const PART_MAX: usize = 60;
const DRAIN_BOUND: Duration = Duration::from_secs(60);

/// What the application was told, over all runs.
#[derive(Debug, Default)]
struct Told {
    /// By run and number, the position.
    delivered: HashMap<(usize, u64), String>,
    spooled: Vec<(usize, u64)>,
    dropped: Vec<(usize, u64)>,
}

impl Told {
    fn add(&mut self, run: usize, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |text: &str| text.parse().expect("a number");
            match words.as_slice() {
                ["D", text, position] => {
                    self.delivered.insert((run, number(text)), (*position).to_owned());
                }
                ["S", text] => self.spooled.push((run, number(text))),
                ["X", text] => self.dropped.push((run, number(text))),
                _ => panic!("run {run} said `{line}`"),
            }
        }
    }
}

/// The server and the way to it.
struct Way {
    server: TestServer,
    gate: Gate,
    /// What the server is like now and was before: how often each.
    states: HashMap<&'static str, usize>,
}

impl Way {
    /// Brings the server, or the way to it, into another state.
    fn disturb(&mut self, random: &mut Random) {
        let state = *random.one_of(&[&"there", &"there", &"away", &"silent", &"killed", &"killed and there"]);
        *self.states.entry(state).or_default() += 1;
        if !self.server.is_running() && state != "killed" {
            self.server.restart_in_place();
        }
        match state {
            "away" => self.gate.close(),
            "silent" => self.gate.hold(Side::Answer),
            "killed" if self.server.is_running() => self.server.kill9(),
            "killed and there" => {
                self.gate.open();
                self.server.kill9();
                self.server.restart_in_place();
            }
            _ => self.gate.open(),
        }
    }

    fn heal(&mut self) {
        if !self.server.is_running() {
            self.server.restart_in_place();
        }
        self.gate.open();
    }
}

/// Waits for a random time: the moment of what follows is what is random here.
fn part(random: &mut Random) {
    thread::sleep(Duration::from_micros((random.below(PART_MAX * 1000)) as u64));
}

#[test]
fn what_an_application_was_told_holds_over_its_kills() {
    let kills = setting("LOGD_TEST_APP_KILLS", KILLS_DEFAULT);
    let mut random = Random::new(seed());
    let server = TestServer::start(OPTIONS);
    let gate = Gate::start(server.addr());
    let mut way = Way { server, gate, states: HashMap::new() };
    let folder = tempfile::tempdir().expect("a directory can be made");
    let spool = folder.path().join("spool");
    let spool_text = spool.to_str().expect("a path of text");
    let mut told = Told::default();
    for run in 0..kills {
        way.disturb(&mut random);
        let arguments = ["run", &way.gate.host(), spool_text, &run.to_string()];
        let app = App::start(env!("CARGO_BIN_EXE_writer-app"), &arguments);
        part(&mut random);
        if random.below(4) == 0 {
            // Until the spool is empty, and messages come to the server straight from the buffer again.
            way.heal();
            app.wait_for("D ");
            part(&mut random);
        }
        way.disturb(&mut random);
        part(&mut random);
        told.add(run, &app.kill9());
    }
    way.heal();
    let runtime = Runtime::new().expect("a runtime");
    let left = runtime.block_on(drain(&way.server, &spool));
    let read = runtime.block_on(read(&way.server, kills));
    for (message, position) in &told.delivered {
        assert_eq!(read.get(message), Some(position), "{message:?} was told to be delivered");
    }
    for message in &told.spooled {
        assert!(
            read.contains_key(message),
            "{message:?} was told to be in the spool, and is not in the topic"
        );
    }
    for message in &told.dropped {
        assert!(!read.contains_key(message), "{message:?} was told to be dropped, and is in the topic");
    }
    println!(
        "{kills} kills; told: {} delivered, {} in the spool, {} dropped; {left} were in the spool after the last kill; \
         {} in the topic, each once; the server was {:?}",
        told.delivered.len(),
        told.spooled.len(),
        told.dropped.len(),
        read.len(),
        way.states,
    );
    assert!(told.delivered.len() > kills, "next to nothing was delivered");
    assert!(told.spooled.len() > kills, "next to nothing was spooled");
}

fn config(server: &TestServer) -> ClientConfig {
    let retry = RetryPolicy::default().attempts(Some(100)).interval(Duration::from_millis(5));
    ClientConfig::new(server.host()).retry(retry)
}

/// Has a last writer send what is in the spool; returns how many messages there were.
async fn drain(server: &TestServer, spool: &Path) -> u64 {
    let writer = Writer::builder(config(server)).spool(spool, u64::MAX).open().expect("the spool is free");
    let closed = timeout(DRAIN_BOUND, writer.close()).await.expect("the server is there");
    let stats = writer.stats();
    closed.unwrap_or_else(|error| panic!("{error}; {stats:?}"));
    assert_eq!((stats.delivered, stats.spooled, stats.aside), (stats.recovered, 0, 0), "{stats:?}");
    stats.recovered
}

/// Where each message of each run is; they must be there once and in order.
async fn read(server: &TestServer, kills: usize) -> HashMap<(usize, u64), String> {
    let mut read = HashMap::new();
    let mut last: Vec<Option<u64>> = vec![None; kills];
    let mut scanner = Scanner::builder(config(server)).open().expect("the settings are right");
    while let Some(message) = scanner.next().await {
        let message = message.expect("nothing is damaged");
        let text = std::str::from_utf8(&message.bytes).expect("a text was written");
        if text.starts_with("logd-writer: ") {
            continue;
        }
        let (run, number) = text.split_once(' ').expect("two numbers were written");
        let (run, number): (usize, u64) = (run.parse().expect("a run"), number.parse().expect("a number"));
        let before = last[run].replace(number);
        assert!(before < Some(number), "run {run}: {number} comes after {before:?}, at {}", message.position);
        read.insert((run, number), message.position.to_string());
    }
    read
}
