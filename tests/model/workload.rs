//! What is done to a topic while its disk fails, and what must be true of it afterwards.

use std::collections::BTreeMap;

use logd_server::disk::{Cut, SimDisk};
use logd_server::log::{AppendError, Finding, Log, LogConfig};
use logd_tests::Random;

use crate::topic::{Answer, append, disk, open, random_batch, read, read_all, try_open};

/// A sync before every answer, partitions of a few batches, and few of them.
pub(crate) fn config() -> LogConfig {
    LogConfig { partition_bytes: 2500, partitions: 4, flush_batches: 1 }
}

/// The seeds of the workloads that are run.
pub(crate) const SEEDS: [u64; 2] = [7, 8];

#[derive(Debug, Clone, Copy)]
enum Step {
    /// Appends so many batches, then syncs, then acknowledges them all.
    Append(usize),
    Maintain,
    /// Closes and opens.
    Restart,
    /// Opens without closing, as after a killed process.
    Kill,
}

const STEPS: [Step; 22] = [
    Step::Append(1),
    Step::Append(1),
    Step::Append(3),
    Step::Maintain,
    Step::Append(2),
    Step::Kill,
    Step::Append(1),
    Step::Append(4),
    Step::Maintain,
    Step::Append(1),
    Step::Restart,
    Step::Append(2),
    Step::Append(5),
    Step::Kill,
    Step::Maintain,
    Step::Append(1),
    Step::Append(3),
    Step::Maintain,
    Step::Append(6),
    Step::Restart,
    Step::Append(2),
    Step::Maintain,
];

/// What to do when a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnError {
    /// The power is gone: end.
    Stop,
    /// Go on as a server does.
    GoOn,
}

/// What was tried, and what was promised.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Every batch that was given to the topic, by the offset that it gets if it is stored.
    tried: BTreeMap<u64, Vec<Vec<u8>>>,
    /// The batches that were acknowledged.
    pub(crate) acknowledged: BTreeMap<u64, Vec<u8>>,
    /// The oldest offset that retention has left.
    floor: u64,
    pub(crate) append_errors: usize,
    pub(crate) sync_errors: usize,
    pub(crate) open_errors: usize,
}

/// A workload on its way.
pub(crate) struct Workload {
    pub(crate) disk: SimDisk,
    pub(crate) journal: Journal,
    on_error: OnError,
    /// What a machine's restart leaves that follows a failed sync.
    cut: Cut,
    random: Random,
    next: u64,
}

/// The workload has come to its end too early.
struct Stopped;

impl Workload {
    /// A workload whose batches are those of `seed`.
    pub(crate) fn new(seed: u64, disk: SimDisk, on_error: OnError, cut: Cut) -> Self {
        Self { disk, journal: Journal::default(), on_error, cut, random: Random::new(seed), next: 0 }
    }

    /// How many calls that change the disk the workload makes where nothing fails.
    pub(crate) fn calls(seed: u64) -> u64 {
        let disk = disk(0);
        let before = disk.calls();
        let mut workload = Self::new(seed, disk, OnError::Stop, Cut::LoseUnsynced);
        workload.run();
        let calls = workload.disk.calls() - before;
        assert!(calls > 100 && workload.journal.acknowledged.len() > 25, "{calls} calls");
        calls
    }

    /// How many calls that only read it makes where nothing fails.
    pub(crate) fn reads(seed: u64) -> u64 {
        let disk = disk(0);
        let before = disk.reads();
        let mut workload = Self::new(seed, disk, OnError::Stop, Cut::LoseUnsynced);
        workload.run();
        let reads = workload.disk.reads() - before;
        assert!(reads > 50, "{reads} reads");
        reads
    }

    /// Runs to the end, or to the first error.
    pub(crate) fn run(&mut self) {
        let _ = self.run_steps();
    }

    fn run_steps(&mut self) -> Result<(), Stopped> {
        let mut log = self.open()?;
        for step in STEPS {
            match step {
                Step::Append(count) => log = self.append(log, count)?,
                Step::Maintain => {
                    log.maintain();
                    self.look(&log);
                    if log.failure().is_some() {
                        log = self.reboot(log)?;
                    }
                }
                Step::Restart => {
                    if log.close().is_err() {
                        self.journal.sync_errors += 1;
                        log = self.reboot(log)?;
                    }
                    drop(log);
                    log = self.open()?;
                }
                Step::Kill => {
                    drop(log);
                    log = self.open()?;
                }
            }
        }
        Ok(())
    }

    /// Looks at how far retention has come.
    fn look(&mut self, log: &Log) {
        self.journal.floor = self.journal.floor.max(log.view().extent().oldest.as_u64());
    }

    fn open(&mut self) -> Result<Log, Stopped> {
        let log = match try_open(&self.disk, &config()) {
            Ok((log, _)) => log,
            Err(_) if self.on_error == OnError::Stop => return Err(Stopped),
            Err(_) => {
                self.journal.open_errors += 1;
                self.disk = self.disk.restart(self.cut);
                open(&self.disk, &config()).0
            }
        };
        self.next = log.view().extent().next.as_u64();
        self.look(&log);
        Ok(log)
    }

    fn append(&mut self, mut log: Log, count: usize) -> Result<Log, Stopped> {
        let mut pending = Vec::new();
        for _ in 0..count {
            let size = [20, 200, 1500][self.random.below(3)];
            let (mut batch, _) = random_batch(&mut self.random, size);
            self.journal.tried.entry(self.next).or_default().push(batch.clone());
            let mut appended = append(&log, &batch);
            self.look(&log);
            if appended.is_err() {
                self.journal.append_errors += 1;
                if self.on_error == OnError::Stop {
                    return Err(Stopped);
                }
                // The fault is over: the next attempt works, and nothing of the first is left, not behind a shorter
                // batch either.
                if self.random.below(2) == 0 {
                    batch = logd_tests::batch("default", &[b"short"]);
                    self.journal.tried.entry(self.next).or_default().push(batch.clone());
                }
                appended = append(&log, &batch);
            }
            let appended = match appended {
                Ok(appended) => appended,
                // Syncs also happen inside an append that has to help with maintenance; not in this workload.
                Err(error) => panic!("appending does not work again: {error}"),
            };
            assert_eq!(appended.offset.as_u64(), self.next);
            assert!(appended.is_sync_due);
            self.next = appended.end.as_u64();
            pending.push((appended.offset.as_u64(), batch));
        }
        match log.sync() {
            Ok(end) => {
                assert!(end.as_u64() >= self.next);
                self.journal.acknowledged.extend(pending);
                self.look(&log);
            }
            Err(_) => {
                self.journal.sync_errors += 1;
                log = self.reboot(log)?;
            }
        }
        Ok(log)
    }

    /// After a failed sync: nothing is taken any more, until the machine is restarted.
    fn reboot(&mut self, log: Log) -> Result<Log, Stopped> {
        if self.on_error == OnError::Stop {
            return Err(Stopped);
        }
        let (batch, _) = random_batch(&mut Random::new(1), 10);
        assert!(matches!(append(&log, &batch), Err(AppendError::SyncFailed)), "taken after a failed sync");
        assert!(log.sync().is_err(), "a sync that succeeds after one that failed");
        drop(log);
        self.disk = self.disk.restart(self.cut);
        self.open()
    }
}

impl Journal {
    /// Everything acknowledged that retention has left is there, and nothing is there that was not appended.
    pub(crate) fn check(&self, log: &Log, context: &str) {
        let held = read_all(log);
        for Answer { offset, bytes, .. } in &held {
            let tried = self.tried.get(offset).is_some_and(|tried| tried.contains(bytes));
            assert!(tried, "{context}: what is read at {offset} was never appended there");
        }
        // A partition that was begun when the power went can have pushed out the oldest.
        let extent = log.view().extent();
        let is_full = extent.partitions == config().partitions as u64;
        let floor = if is_full { extent.oldest.as_u64().max(self.floor) } else { self.floor };
        for (offset, bytes) in self.acknowledged.range(floor..) {
            let answer = read(log, *offset, 1);
            let is_there = answer.is_some_and(|answer| answer.offset == *offset && answer.bytes == *bytes);
            assert!(is_there, "{context}: the batch at {offset} was acknowledged and is lost");
        }
    }
}

/// Opens what a cut has left, checks it, appends, and opens it again.
pub(crate) fn check_restarted(disk: &SimDisk, journal: &Journal, context: &str) {
    let (log, _) = open(disk, &config());
    journal.check(&log, context);
    let mut held = read_all(&log);
    for number in 0..3 {
        let batch = logd_tests::batch("default", &[format!("appended {number}").as_bytes()]);
        let offset =
            append(&log, &batch).unwrap_or_else(|error| panic!("{context}: {error}")).offset.as_u64();
        log.sync().unwrap_or_else(|error| panic!("{context}: {error}"));
        held.push(Answer { offset, batches: 1, bytes: batch });
    }
    let after = read_all(&log);
    assert!(held.ends_with(&after), "{context}: appending goes on behind what is there");
    drop(log);
    for cut in [Cut::KeepAll, Cut::LoseUnsynced] {
        let (log, findings) = open(&disk.restart(cut), &config());
        // Holes in the head, and partitions that were completed meanwhile, are found again.
        let is_known =
            |finding: &Finding| matches!(finding, Finding::Damage { .. } | Finding::IndexRebuilt { .. });
        assert!(findings.iter().all(is_known), "{context}: found after {cut:?}: {findings:?}");
        assert_eq!(read_all(&log), after, "{context}: the second start after {cut:?}");
    }
}
