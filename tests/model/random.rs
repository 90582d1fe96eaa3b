//! Random operations on a topic and on a model of it, which is a list of batches and the rule of retention.

use std::collections::VecDeque;

use logd_server::disk::{Cut, SimDisk};
use logd_server::log::{Log, LogConfig};
use logd_tests::{Random, seed};

use crate::topic::{Answer, append, disk, open, random_batch, read, read_oldest};

/// How many random runs are made.
const RUNS: u64 = 120;

/// How many operations a run has.
const OPERATIONS: usize = 120;

#[derive(Debug)]
struct ModelBatch {
    offset: u64,
    bytes: Vec<u8>,
    messages: u64,
    is_seen: bool,
}

/// What a topic has to hold: its partitions, oldest first, each with its start and its batches.
#[derive(Debug)]
struct Model {
    partitions: VecDeque<(u64, Vec<ModelBatch>)>,
    next: u64,
}

impl Model {
    fn append(&mut self, bytes: Vec<u8>, messages: u64, config: &LogConfig) -> u64 {
        let offset = self.next;
        let (start, head) = self.partitions.back().expect("there is always a head");
        if !head.is_empty() && offset - start + bytes.len() as u64 > config.partition_bytes {
            self.partitions.push_back((offset, Vec::new()));
        }
        self.next += bytes.len() as u64;
        let (_, head) = self.partitions.back_mut().expect("there is always a head");
        head.push(ModelBatch { offset, bytes, messages, is_seen: config.flush_batches != 1 });
        self.drop_oldest(config);
        offset
    }

    fn drop_oldest(&mut self, config: &LogConfig) {
        while self.partitions.len() > config.partitions {
            self.partitions.pop_front();
        }
    }

    fn show_all(&mut self) {
        self.partitions.iter_mut().flat_map(|(_, batches)| batches).for_each(|batch| batch.is_seen = true);
    }

    fn batches(&self) -> impl Iterator<Item = &ModelBatch> {
        self.partitions.iter().flat_map(|(_, batches)| batches)
    }

    fn seen(&self) -> impl Iterator<Item = &ModelBatch> {
        self.batches().filter(|batch| batch.is_seen)
    }

    fn read(&self, offset: u64, messages: u64) -> Option<Answer> {
        let mut answer = Answer { offset, batches: 0, bytes: Vec::new() };
        let mut held = 0;
        self.seen().find(|batch| batch.offset == offset)?;
        for batch in self.seen().skip_while(|batch| batch.offset < offset) {
            if answer.batches > 0 && held >= messages {
                break;
            }
            held += batch.messages;
            answer.batches += 1;
            answer.bytes.extend_from_slice(&batch.bytes);
        }
        Some(answer)
    }

    fn read_oldest(&self, messages: u64) -> Option<Answer> {
        self.read(self.seen().next()?.offset, messages)
    }

    fn seen_end(&self) -> u64 {
        self.batches().find(|batch| !batch.is_seen).map_or(self.next, |batch| batch.offset)
    }
}

/// A topic and its model.
struct Run {
    random: Random,
    disk: SimDisk,
    config: LogConfig,
    log: Log,
    model: Model,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let config = LogConfig {
            partition_bytes: [1, 300, 5000, 150_000, 1_000_000][random.below(5)],
            partitions: [1, 2, 3, 8][random.below(4)],
            flush_batches: [0, 1, 3][random.below(3)],
        };
        let disk = disk(seed);
        let (log, findings) = open(&disk, &config);
        assert_eq!(findings, []);
        let model = Model { partitions: VecDeque::from([(0, Vec::new())]), next: 0 };
        Self { random, disk, config, log, model }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..60 => self.append(),
            60..70 => self.sync(),
            70..80 => {
                // Where readers wait for syncs, sealing a partition is one.
                self.sync();
                self.log.maintain();
            }
            80..84 => {
                self.sync();
                self.log.close().expect("a sound disk");
                self.config.partitions = [1, 2, 3, 8][self.random.below(4)];
                self.reopen();
            }
            84..88 => {
                self.disk = self.disk.restart(Cut::KeepAll);
                self.reopen();
                self.model.show_all();
            }
            _ => self.read_somewhere(),
        }
        self.compare();
    }

    fn append(&mut self) {
        let bytes = match self.random.below(20) {
            0 => 150_000,
            1..3 => 20_000,
            3..8 => 1000,
            _ => 30,
        };
        let (batch, messages) = random_batch(&mut self.random, bytes);
        let appended = append(&self.log, &batch).expect("a sound disk");
        let end = appended.offset.as_u64() + batch.len() as u64;
        assert_eq!(appended.end.as_u64(), end);
        let offset = self.model.append(batch, messages, &self.config);
        assert_eq!(appended.offset.as_u64(), offset);
        if appended.is_sync_due && self.random.below(3) > 0 {
            self.sync();
        }
    }

    fn sync(&mut self) {
        assert_eq!(self.log.sync().expect("a sound disk").as_u64(), self.model.next);
        self.model.show_all();
    }

    fn reopen(&mut self) {
        let (log, _) = open(&self.disk, &self.config);
        self.log = log;
        self.model.drop_oldest(&self.config);
    }

    fn read_somewhere(&mut self) {
        for _ in 0..10 {
            let span = usize::try_from(self.model.next).expect("it fits memory") + 100;
            let mut offset = self.random.below(span) as u64;
            if self.random.below(3) > 0 {
                // At, or right beside, a batch that there is.
                let count = self.model.batches().count().max(1);
                let number = self.random.below(count);
                let near = self.model.batches().nth(number).map_or(0, |batch| batch.offset);
                offset = (near + self.random.below(3) as u64).saturating_sub(1);
            }
            let messages = [0, 1, 2, 10, 1000][self.random.below(5)];
            assert_eq!(
                read(&self.log, offset, messages),
                self.model.read(offset, messages),
                "READ {offset} {messages}"
            );
        }
    }

    /// Compares what is cheap to compare.
    fn compare(&mut self) {
        let messages = self.random.below(20) as u64;
        assert_eq!(read_oldest(&self.log, messages), self.model.read_oldest(messages), "TAIL {messages}");
        assert_eq!(read(&self.log, self.model.seen_end(), 1), None);
        let extent = self.log.view().extent();
        let model = &self.model;
        assert_eq!(extent.next.as_u64(), model.seen_end());
        assert_eq!(
            extent.oldest.as_u64(),
            model.seen().next().map_or(model.seen_end(), |batch| batch.offset)
        );
        assert_eq!(extent.batches, model.seen().count() as u64);
        assert_eq!(extent.bytes, model.seen().map(|batch| batch.bytes.len() as u64).sum::<u64>());
        assert_eq!(extent.partitions, model.partitions.len() as u64);
    }

    /// Compares every batch.
    fn compare_all(&self) {
        for batch in self.model.batches() {
            assert_eq!(
                read(&self.log, batch.offset, 1),
                self.model.read(batch.offset, 1),
                "at {}",
                batch.offset
            );
        }
    }
}

#[test]
fn a_topic_does_what_its_model_does() {
    let first = seed();
    let runs = std::env::var("LOGD_TEST_RUNS").map_or(RUNS, |runs| runs.parse().expect("a number"));
    for seed in (0..runs).map(|number| first.wrapping_add(number)) {
        println!("LOGD_TEST_SEED={seed} LOGD_TEST_RUNS=1");
        let mut run = Run::new(seed);
        for _ in 0..OPERATIONS {
            run.step();
        }
        run.compare_all();
    }
}
