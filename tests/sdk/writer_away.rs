//! A server that is away for good: writes end within their budget, memory stays bounded, and every message is somewhere.
//!
//! The writer is in a process of its own, so that nothing else adds to its times and its memory.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use logd_client::Spool;
use logd_tests::{App, Gate, Side};
use tempfile::TempDir;

use crate::support::TestServer;

/// How much longer than its budget a write may take.
const TOLERANCE: Duration = Duration::from_millis(50);
/// A machine that does other things can be late for a write and not for the thread beside it, but not each time.
const TRIES: usize = 3;
const TASKS: u64 = 64;
const BUFFER_BYTES: u64 = 128 * 1024;
const BACKLOG_BYTES: u64 = 64 * 1024;
const SPOOL_BYTES: u64 = 128 * 1024;
/// What a process may need beside what a writer holds: the stacks and arenas of its threads, and 64 tasks.
const MEMORY_BASE: u64 = 8 * 1024 * 1024;
const BOUND: Duration = Duration::from_secs(60);

/// How the server is away.
#[derive(Debug, Clone, Copy)]
enum Away {
    /// Nobody listens.
    NoListener,
    /// Connections are made, and nothing is ever answered.
    Silent,
    /// All goes well at first, and from some moment on nothing is answered.
    Stalling,
}

const ALL: [Away; 3] = [Away::NoListener, Away::Silent, Away::Stalling];

/// What the application says it was told and measured.
struct Facts(BTreeMap<String, u64>);

impl Facts {
    fn of(lines: &[String]) -> Self {
        let facts = lines.iter().filter_map(|line| line.split_once(' '));
        Self(facts.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }

    fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("`{name}` is missing in {:?}", self.0))
    }

    /// How many calls took so many milliseconds.
    fn histogram(&self) -> String {
        let steps =
            self.0.iter().filter_map(|(name, count)| Some((name.strip_prefix("calls_of_ms_")?, count)));
        let mut steps: Vec<(u64, u64)> = steps.map(|(time, count)| (time.parse().unwrap(), *count)).collect();
        steps.sort_unstable();
        let text = |(time, count): &(u64, u64)| match time {
            0 => format!("<1 ms: {count}"),
            1 => format!("1-9 ms: {count}"),
            time => format!("{}-{} ms: {count}", time - 1, time + 8),
        };
        steps.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}

async fn run(away: Away, budget: u64, messages: u64, spool: Option<&Path>) -> Facts {
    let mut server = None;
    let mut gate = None;
    let mut listener = None;
    let host = match away {
        // Port 1 needs privileges that no test's server has.
        Away::NoListener => "127.0.0.1:1".to_owned(),
        Away::Silent => {
            let silent = TcpListener::bind("127.0.0.1:0").unwrap();
            let host = silent.local_addr().unwrap().to_string();
            listener = Some(silent);
            host
        }
        Away::Stalling => {
            let there = TestServer::start().await;
            let way = Gate::start(there.client_config().host().parse().unwrap());
            let host = way.host();
            (server, gate) = (Some(there), Some(way));
            host
        }
    };
    let numbers = [budget, TASKS, messages, SPOOL_BYTES, BUFFER_BYTES, BACKLOG_BYTES].map(|n| n.to_string());
    let [budget, tasks, messages, spool_bytes, buffer, backlog] = numbers.each_ref().map(String::as_str);
    let dir = spool.map_or("-", |dir| dir.to_str().unwrap());
    let arguments = ["away", &host, budget, tasks, messages, dir, spool_bytes, buffer, backlog];
    let app = App::start(env!("CARGO_BIN_EXE_writer-app"), &arguments);
    let (status, lines) = tokio::task::spawn_blocking(move || {
        app.wait_for("begun");
        if let Some(gate) = &gate {
            gate.hold(Side::Answer);
        }
        app.finish(BOUND)
    })
    .await
    .unwrap();
    assert!(status.success(), "{status}: {lines:?}");
    drop(listener);
    if let Some(mut server) = server {
        server.stop().await;
    }
    Facts::of(&lines)
}

/// Whether every call took at most its budget and a little, beside what the machine was late by at most. Memory must have
/// stayed within its bounds.
#[expect(clippy::print_stdout, reason = "libtest shows it when asked")]
fn is_within_bounds(what: &str, budget: u64, facts: &Facts) -> bool {
    let worst = Duration::from_micros(facts.get("worst_us"));
    let [thread_late, task_late] =
        ["thread_late_us", "task_late_us"].map(|name| Duration::from_micros(facts.get(name)));
    println!(
        "{what}, budget {budget} ms: the worst call took {worst:?}; the worst sleep of a thread was late by \
         {thread_late:?}, of a task by {task_late:?}; {} KiB more memory; calls of {}",
        facts.get("memory") / 1024,
        facts.histogram()
    );
    let is_plain = worst <= Duration::from_millis(budget) + TOLERANCE;
    println!("within {TOLERANCE:?} of the budget: {is_plain}");
    let memory = facts.get("memory");
    let memory_max = BUFFER_BYTES * 2 + BACKLOG_BYTES + MEMORY_BASE;
    assert!(memory <= memory_max, "{what}: {memory} bytes of memory, of at most {memory_max}");
    worst <= Duration::from_millis(budget) + TOLERANCE + thread_late
}

/// Every message is counted once, as the application counted the answers and as the spool's directory says.
fn expect_whole(what: &str, messages: u64, spool: Option<&Path>, facts: &Facts) {
    let [written, delivered, buffered, backlog, spooled, dropped] =
        ["written", "delivered", "buffered", "backlog", "spooled", "dropped"]
            .map(|name| facts.get(&format!("stats_{name}")));
    assert_eq!(facts.get("stats_complete"), 1, "{what}: {:?}", facts.0);
    assert_eq!(facts.get("taken") + facts.get("dropped") + facts.get("refused"), messages * TASKS, "{what}");
    assert_eq!(written, facts.get("taken") + facts.get("dropped"), "{what}: {:?}", facts.0);
    assert_eq!((buffered, dropped), (0, facts.get("dropped")), "{what}: {:?}", facts.0);
    let sum = delivered + backlog + spooled + dropped + facts.get("stats_aside");
    // Notices of drops are messages, too; while nothing is acknowledged there are none.
    assert!(sum >= written, "{what}: {:?}", facts.0);
    let listing = spool.map(|dir| Spool::list(dir).unwrap()).unwrap_or_default();
    assert_eq!(listing.batches.iter().map(|batch| batch.messages).sum::<u64>(), spooled, "{what}");
    assert!(listing.batches.iter().map(|batch| batch.bytes).sum::<u64>() <= SPOOL_BYTES, "{what}");
    assert!(listing.damaged.is_empty(), "{what}: {:?}", listing.damaged);
}

async fn expect_budget_holds(budget: u64, messages: u64) {
    for away in ALL {
        for has_spool in [false, true] {
            let what = format!("{away:?}, {} spool", if has_spool { "with a" } else { "without a" });
            let mut is_within = false;
            for _ in 0..TRIES {
                let folder = TempDir::new().unwrap();
                let spool = folder.path().join("spool");
                let spool = has_spool.then_some(spool.as_path());
                let facts = run(away, budget, messages, spool).await;
                expect_whole(&what, messages, spool, &facts);
                is_within = is_within_bounds(&what, budget, &facts);
                assert!(
                    facts.get("dropped") + facts.get("refused") > 0,
                    "{what}: there was room for everything: {:?}",
                    facts.0
                );
                if is_within {
                    break;
                }
            }
            assert!(is_within, "{what}: in each of {TRIES} runs a write took too long");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_without_a_budget_never_wait_for_a_server_that_is_away() {
    expect_budget_holds(0, 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_with_a_small_budget_end_within_it_while_the_server_is_away() {
    expect_budget_holds(20, 120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_with_a_budget_end_within_it_while_the_server_is_away() {
    expect_budget_holds(200, 60).await;
}
