//! Many tasks that write while the server is away: how long their calls take, and what memory it costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use logd_client::{ClientConfig, RetryPolicy, WriteError, Writer};
use tokio::time::timeout;

use crate::say;

/// How long the writer may take to give everything up.
const CLOSE_BOUND: Duration = Duration::from_secs(30);

/// What came of the calls of one task.
#[derive(Debug, Default)]
struct Calls {
    taken: u64,
    dropped: u64,
    refused: u64,
    /// How many took so many milliseconds.
    times: BTreeMap<u64, u64>,
    worst: Duration,
}

impl Calls {
    fn add(&mut self, other: &Self) {
        self.taken += other.taken;
        self.dropped += other.dropped;
        self.refused += other.refused;
        for (time, count) in &other.times {
            *self.times.entry(*time).or_default() += count;
        }
        self.worst = self.worst.max(other.worst);
    }
}

/// `<address> <budget ms> <tasks> <messages> <spool or -> <spool bytes> <buffer bytes> <backlog bytes>`: each task
/// writes so many messages of 100 bytes. Says `begun` first, and
/// `<name> <value>` for each fact at its end.
pub(crate) async fn run(settings: &[&str]) {
    let [host, budget, tasks, messages, spool, numbers @ ..] = settings else { panic!("{settings:?}") };
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let numbers: Vec<u64> = numbers.iter().map(|text| number(text)).collect();
    let [spool_bytes, buffer_bytes, backlog_bytes] = numbers[..] else { panic!("{settings:?}") };
    let size = |bytes: u64| usize::try_from(bytes).expect("a size");
    let retry = RetryPolicy::default().attempts(Some(3)).interval(Duration::from_millis(20));
    let config = ClientConfig::new(*host)
        .connect_timeout(Duration::from_millis(500))
        .timeout(Duration::from_millis(500))
        .retry(retry);
    let mut builder = Writer::builder(config)
        .batch_bytes(16 * 1024)
        .budget(Duration::from_millis(number(budget)))
        .buffer_bytes(size(buffer_bytes))
        .backlog_bytes(size(backlog_bytes));
    if *spool != "-" {
        builder = builder.spool(*spool, spool_bytes);
    }
    let lateness = Lateness::start();
    let memory = Memory::start();
    let writer = builder.open().expect("the settings are right");
    let tasks: Vec<_> =
        (0..number(tasks)).map(|_| tokio::spawn(write(writer.clone(), number(messages)))).collect();
    say("begun");
    let mut calls = Calls::default();
    for task in tasks {
        calls.add(&task.await.expect("a task does not panic"));
    }
    let (thread_late, task_late) = lateness.end();
    // What failed is counted below.
    let _ = timeout(CLOSE_BOUND, writer.close()).await.expect("a close ends");
    say(&format!("taken {}", calls.taken));
    say(&format!("dropped {}", calls.dropped));
    say(&format!("refused {}", calls.refused));
    say(&format!("worst_us {}", calls.worst.as_micros()));
    say(&format!("thread_late_us {thread_late}"));
    say(&format!("task_late_us {task_late}"));
    say(&format!("memory {}", memory.end()));
    for (time, count) in calls.times {
        say(&format!("calls_of_ms_{time} {count}"));
    }
    let stats = writer.stats();
    for (name, value) in [
        ("stats_written", stats.written - stats.notices),
        ("stats_delivered", stats.delivered),
        ("stats_buffered", stats.buffered),
        ("stats_backlog", stats.backlog),
        ("stats_spooled", stats.spooled),
        ("stats_aside", stats.aside),
        ("stats_dropped", stats.dropped),
        ("stats_complete", u64::from(stats.is_complete())),
    ] {
        say(&format!("{name} {value}"));
    }
}

async fn write(writer: Writer, count: u64) -> Calls {
    let mut calls = Calls::default();
    for _ in 0..count {
        let start = Instant::now();
        let result = writer.write(&[b'x'; 100]).await;
        let time = start.elapsed();
        // In steps of 10 ms, but for what takes less than one.
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        *calls.times.entry(if millis == 0 { 0 } else { 10 * (millis / 10) + 1 }).or_default() += 1;
        calls.worst = calls.worst.max(time);
        match result {
            Ok(()) => calls.taken += 1,
            Err(WriteError::Dropped { .. }) => calls.dropped += 1,
            Err(WriteError::BacklogFull) => calls.refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    calls
}

/// How late the system wakes a thread that only sleeps, and the runtime a task: what they add to every time measured here.
struct Lateness {
    ending: Arc<AtomicBool>,
    thread: Arc<AtomicU64>,
    task: Arc<AtomicU64>,
}

/// How long a sleep takes that is measured.
const SLEEP: Duration = Duration::from_millis(5);

fn note_lateness(start: Instant, worst: &AtomicU64) {
    let micros = start.elapsed().saturating_sub(SLEEP).as_micros();
    worst.fetch_max(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
}

impl Lateness {
    fn start() -> Self {
        let this = Self { ending: Arc::default(), thread: Arc::default(), task: Arc::default() };
        let (is_ending, worst) = (Arc::clone(&this.ending), Arc::clone(&this.task));
        tokio::spawn(async move {
            while !is_ending.load(Ordering::Relaxed) {
                let start = Instant::now();
                tokio::time::sleep(SLEEP).await;
                note_lateness(start, &worst);
            }
        });
        let (is_ending, worst) = (Arc::clone(&this.ending), Arc::clone(&this.thread));
        thread::spawn(move || {
            while !is_ending.load(Ordering::Relaxed) {
                let start = Instant::now();
                thread::sleep(SLEEP);
                note_lateness(start, &worst);
            }
        });
        this
    }

    /// Of a thread, and of a task, in microseconds.
    fn end(self) -> (u64, u64) {
        self.ending.store(true, Ordering::Relaxed);
        (self.thread.load(Ordering::Relaxed), self.task.load(Ordering::Relaxed))
    }
}

/// The highest resident memory, over what there was at the start.
struct Memory {
    ending: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Memory {
    fn start() -> Self {
        let ending = Arc::new(AtomicBool::new(false));
        let is_ending = Arc::clone(&ending);
        let before = resident_bytes();
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !is_ending.load(Ordering::Relaxed) {
                most = most.max(resident_bytes());
                thread::sleep(Duration::from_millis(5));
            }
            most.max(resident_bytes()).saturating_sub(before)
        });
        Self { ending, thread }
    }

    fn end(self) -> u64 {
        self.ending.store(true, Ordering::Relaxed);
        self.thread.join().expect("the measurement does not panic")
    }
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says `VmRSS:`");
    let kib =
        line.trim().strip_suffix(" kB").and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB");
    kib * 1024
}
