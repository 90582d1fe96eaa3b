//! An application that counts lines is killed again and again. With its counts and its checkpoint in one transaction, each
//! line is counted exactly once; without transactions, no line is ever missing.
//!
//! `LOGD_TEST_STATE_LINES` and `LOGD_TEST_STATE_KILLS` set how many lines there are, and how often it is killed: a million
//! and fifty is the full test. `LOGD_TEST_LINES` names files whose lines are taken.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use logd_client::Scanner;
use logd_client::postgres::tokio_postgres::{self, NoTls};
use logd_client::sqlite::rusqlite::Connection;
use logd_tests::{App, Random, TestServer, key_of, seed, wait_until};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::stores::{Store, config, log_server, setting, text, write_lines};

const APP: &str = env!("CARGO_BIN_EXE_state-app");
const TOPIC: &str = "lines";
const LINES_DEFAULT: usize = 100_000;
const KILLS_DEFAULT: usize = 12;
/// The longest time from when it works to its kill, in microseconds.
const WORK_MAX: usize = 40_000;
/// How often one is stopped while another waits.
const ROUNDS: usize = 6;
/// How long one that was stopped may take to notice, or to be seen working.
const GO_ON: Duration = Duration::from_millis(300);
/// The longest that the application takes to the end, once it is left alone.
const END_BOUND: Duration = Duration::from_secs(300);

pub(crate) type Counts = BTreeMap<String, i64>;

fn counted_in_sqlite(url: &str, consumer: &str) -> Counts {
    let connection = Connection::open(url.strip_prefix("sqlite:").unwrap()).unwrap();
    let mut query = connection.prepare("SELECT key, count FROM counts WHERE consumer = ?1").unwrap();
    let rows = query.query_map([consumer], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

pub(crate) fn counted_in_postgres(runtime: &Runtime, url: &str, consumer: &str) -> Counts {
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let query = "SELECT key, count FROM counts WHERE consumer = $1";
        let rows = client.query(query, &[&consumer]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    })
}

pub(crate) fn counts_of(lines: &[String]) -> Counts {
    let mut counts = Counts::new();
    for line in lines {
        *counts.entry(key_of(line)).or_default() += 1;
    }
    counts
}

/// How often the application was killed, and what else happened to it.
#[derive(Debug, Default)]
struct Kills {
    kills: usize,
    /// Before it had stored anything.
    early: usize,
    /// Transactions that were committed, and told to the test.
    committed: usize,
}

/// Kills the application again and again, at a random time from its start, or from its first transaction.
fn kill_again_and_again(random: &mut Random, arguments: &[&str], works: &str) -> Kills {
    let mut kills = Kills::default();
    let count = setting("LOGD_TEST_STATE_KILLS", KILLS_DEFAULT);
    while kills.kills < count {
        let app = App::start(APP, arguments);
        let is_early = random.below(4) == 0;
        if !is_early {
            app.wait_for(works);
        }
        thread::sleep(Duration::from_micros(random.below(WORK_MAX) as u64));
        let said = app.kill9();
        assert!(!said.iter().any(|line| line.starts_with("stale")), "{said:?}");
        let committed = said.iter().filter(|line| line.starts_with("committed")).count();
        kills.kills += 1;
        kills.early += usize::from(committed == 0);
        kills.committed += committed;
    }
    kills
}

fn finish(arguments: &[&str]) -> Vec<String> {
    let (status, said) = App::start(APP, arguments).finish(END_BOUND);
    assert!(status.success(), "{status}: {:?}", said.last());
    said
}

/// Counts the lines of a topic over kills, and as another consumer without kills.
fn count(store: &Store, mode: &str, counted: impl Fn(&Runtime, &str, &str) -> Counts) {
    let mut random = Random::new(seed());
    let runtime = Runtime::new().unwrap();
    let server = log_server();
    let lines = setting("LOGD_TEST_STATE_LINES", LINES_DEFAULT);
    let lines = write_lines(&runtime, &server, TOPIC, lines, random.any());
    let (host, url) = (server.host(), store.url());
    let calm = Instant::now();
    finish(&[mode, &host, TOPIC, &url, "calm"]);
    let calm = calm.elapsed();
    let killed = [mode, &host, TOPIC, &url, "killed"];
    let kills = kill_again_and_again(&mut random, &killed, "committed");
    let before = counted(&runtime, &url, "killed");
    finish(&killed);
    let expected = counts_of(&lines);
    let after = counted(&runtime, &url, "killed");
    assert_eq!(counted(&runtime, &url, "calm"), expected, "without a kill");
    assert_eq!(after, expected, "with kills");
    let (sum, sum_before) = (after.values().sum::<i64>(), before.values().sum::<i64>());
    println!(
        "{mode}: {} lines, {} keys; {kills:?}; {sum_before} were counted at the last kill, {sum} in the end; a run \
         without kills took {calm:?}",
        lines.len(),
        expected.len(),
    );
    assert!(sum_before > 0 && sum_before < sum, "the kills have not hit the work");
}

#[test]
fn lines_are_counted_exactly_once_in_sqlite() {
    count(&Store::start("sqlite"), "count-sqlite", |_, url, consumer| counted_in_sqlite(url, consumer));
}

#[test]
fn lines_are_counted_exactly_once_in_postgres() {
    count(&Store::start("postgres"), "count-postgres", counted_in_postgres);
}

/// Stops the application in the midst of its work until another one works in its place, and lets it go on.
#[test]
fn who_was_stopped_for_long_counts_nothing_twice() {
    let mut random = Random::new(seed());
    let runtime = Runtime::new().unwrap();
    let server = log_server();
    let store = Store::start("postgres");
    let lines = write_lines(&runtime, &server, TOPIC, LINES_DEFAULT, random.any());
    let (host, url) = (server.host(), store.url());
    let arguments = ["count-postgres", &host, TOPIC, &url, "stopped"];
    let mut app = App::start(APP, &arguments);
    let (mut stopped, mut rolled_back, mut replaced) = (0, 0, 0);
    for _ in 0..ROUNDS {
        wait_until("it works", END_BOUND, || app.has_said("committed") || !app.is_running());
        if !app.is_running() {
            break;
        }
        thread::sleep(Duration::from_micros(random.below(WORK_MAX) as u64));
        app.signal(Signal::STOP);
        stopped += 1;
        let next = App::start(APP, &arguments);
        // One that was stopped within a transaction keeps the next from going on: so it is not waited for.
        thread::sleep(Duration::from_millis(random.below(900) as u64));
        app.signal(Signal::CONT);
        let since = Instant::now();
        wait_until("either goes on", END_BOUND, || !app.is_running() || since.elapsed() > GO_ON);
        if !app.is_running() {
            rolled_back += usize::from(app.has_said("stale"));
            replaced += usize::from(app.has_said("error"));
        }
        // It is killed if it still runs.
        app = next;
    }
    println!("{stopped} stopped; then {rolled_back} were rolled back, and {replaced} told before that");
    let (status, said) = app.finish(END_BOUND);
    assert!(status.success(), "{status}: {:?}", said.last());
    assert_eq!(counted_in_postgres(&runtime, &url, "stopped"), counts_of(&lines));
}

fn positions_in(runtime: &Runtime, server: &TestServer) -> Vec<String> {
    runtime.block_on(async {
        let topic = TOPIC.parse().unwrap();
        let mut scanner = Scanner::builder(config(server)).topic(topic).open().unwrap();
        let mut positions = Vec::new();
        while let Some(message) = scanner.next().await {
            positions.push(message.unwrap().position.to_string());
        }
        positions
    })
}

fn times_seen(log: &Path) -> HashMap<String, usize> {
    let mut seen = HashMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        *seen.entry(line.to_owned()).or_default() += 1;
    }
    seen
}

fn see_all(store: &Store) {
    let mut random = Random::new(seed());
    let runtime = Runtime::new().unwrap();
    let server = log_server();
    let lines = setting("LOGD_TEST_STATE_LINES", LINES_DEFAULT);
    write_lines(&runtime, &server, TOPIC, lines, random.any());
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("seen");
    let (host, url) = (server.host(), store.url());
    let arguments = ["at-least-once", &host, TOPIC, &url, "killed", text(&log)];
    let kills = kill_again_and_again(&mut random, &arguments, "open");
    finish(&arguments);
    let (seen, positions) = (times_seen(&log), positions_in(&runtime, &server));
    let missing: Vec<&String> = positions.iter().filter(|position| !seen.contains_key(*position)).collect();
    assert!(missing.is_empty(), "{} of {lines} are missing, from {:?} on", missing.len(), missing[0]);
    assert_eq!((seen.len(), positions.len()), (lines, lines));
    let (times, most) = (seen.values().sum::<usize>(), seen.values().max());
    println!(
        "{url}: {lines} lines, {} kills; seen {times} times in all, one of them {most:?} times",
        kills.kills
    );
    assert!(times < 3 * lines, "it has begun anew again and again");
}

#[test]
fn no_line_is_missing_with_files() {
    see_all(&Store::start("file"));
}

#[test]
fn no_line_is_missing_with_redis() {
    see_all(&Store::start("redis"));
}
