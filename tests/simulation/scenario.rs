//! What a run is about, as its seed decides: how safe the server is to be, how large things are, what can happen.

use std::time::Duration;

use logd_client::TopicName;
use logd_server::Config;
use logd_tests::Random;

use crate::checker::Loss;

/// What can happen to the disk, beside the end of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskFaults {
    None,
    /// Short writes and a full disk.
    Mild,
    /// Failed calls and failed syncs, too. What such a sync was to secure never will be, so that power cuts have no place
    /// here.
    Harsh,
}

/// What power cuts do to what readers read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ByPower {
    /// Nothing.
    Nothing,
    /// What was not acknowledged is damaged, in the middle of the topic, too.
    Unacknowledged,
    /// What was read is not there any more.
    Lost,
}

/// What can be missing from what readers read; they have to say so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Damage {
    pub(crate) by_power: ByPower,
    pub(crate) by_retention: bool,
}

impl Damage {
    /// Whether something can be missing at all.
    pub(crate) fn is_told(self) -> bool {
        self.by_retention || self.by_power != ByPower::Nothing
    }
}

/// The choices of a run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) config: Config,
    pub(crate) topic: TopicName,
    /// Whether the power can go, or only the process.
    pub(crate) has_power_cuts: bool,
    pub(crate) loss: Loss,
    /// Whether old partitions are dropped before they are read.
    pub(crate) has_retention: bool,
    pub(crate) disk_faults: DiskFaults,
    pub(crate) writers: u32,
    pub(crate) scanners: usize,
    /// How long it is between two faults, at most.
    pub(crate) pause_max: usize,
    /// How long a piece of blocking work can wait.
    pub(crate) blocking_delay_max: Duration,
}

impl Scenario {
    pub(crate) fn new(random: &mut Random) -> Self {
        let has_power_cuts = random.below(2) == 0;
        let (flush_batches, flush_interval, loss) = match random.below(6) {
            0 => (0, None, Loss::Unsynced),
            1 => (3, None, Loss::Batches(2)),
            2 => (0, Some(Duration::from_millis(200)), Loss::Late(Duration::from_secs(1))),
            _ => (1, None, Loss::Nothing),
        };
        let disk_faults = match random.below(4) {
            0 if !has_power_cuts => DiskFaults::Harsh,
            0 | 1 => DiskFaults::Mild,
            _ => DiskFaults::None,
        };
        let (writers, scanners) = (1 + random.below(4), 1 + random.below(2));
        let has_retention = random.below(5) == 0;
        let config = Config {
            host: "server:1774".to_owned(),
            workdir: "/logs".into(),
            timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs([3, 30][random.below(2)]),
            shutdown_timeout: Duration::from_secs(3),
            batch_bytes: 4096,
            partition_bytes: if has_retention { 4096 } else { [4096, 16_384, 1_000_000][random.below(3)] },
            partitions: if has_retention { 3 } else { 100_000 },
            flush_batches,
            flush_interval,
            // Few more than there are clients: those of which one side has not heard that they are gone are in the way.
            max_connections: writers + scanners + [4, 100][random.below(2)],
            ..Config::default()
        };
        Self {
            config,
            topic: if random.below(2) == 0 {
                TopicName::default()
            } else {
                "events".parse().expect("a name")
            },
            has_power_cuts,
            loss: if has_power_cuts { loss } else { Loss::Nothing },
            has_retention,
            disk_faults,
            writers: u32::try_from(writers).unwrap_or(1),
            scanners,
            pause_max: [100, 1000, 4000][random.below(3)],
            blocking_delay_max: Duration::from_millis([0, 10, 100][random.below(3)]),
        }
    }

    pub(crate) fn damage(&self) -> Damage {
        let by_power = match (self.has_power_cuts, self.may_lose()) {
            (false, _) => ByPower::Nothing,
            (true, false) => ByPower::Unacknowledged,
            (true, true) => ByPower::Lost,
        };
        Damage { by_power, by_retention: self.has_retention }
    }

    /// Whether a power cut can lose something that was acknowledged.
    pub(crate) fn may_lose(&self) -> bool {
        self.loss != Loss::Nothing
    }
}
