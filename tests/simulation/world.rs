//! A run: one seed, one world.
//!
//! Writers write, readers read, and one thing after another goes wrong, until the writers are done. Then all is calm:
//! everything has to come to its end, the server has to start once more, and what it has is compared with the history.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use logd_client::{Bound, Client, Offset};
use logd_server::disk::{Cut, Disk, Fault, FaultKind};
use logd_server::log::check::{Grade, What, check as check_dir};
use logd_tests::Random;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::checker::{Found, check, check_time, laggard};
use crate::consumer::consume;
use crate::history::{History, Name};
use crate::machine::{Death, EPOCH, Place};
use crate::network::{Accident, Climate, Network};
use crate::pipe::Side;
use crate::scanners::{config, scan};
use crate::scenario::{DiskFaults, Scenario};
use crate::trace::{Trace, log};
use crate::writers::{Plan, write};

/// How long things go wrong, at most.
const TROUBLE_MAX: Duration = Duration::from_secs(60);

/// How long the writers have to come to their end when all is calm; each has its own bound within that.
const WRITERS_MAX: Duration = Duration::from_secs(700);

/// How long readers have to come to the end of the topic.
const READERS_MAX: Duration = Duration::from_secs(300);

/// How long a run can take, all in all.
const RUN_MAX: Duration = Duration::from_secs(1500);

/// For how many times the server is asked where they are in the topic.
const TIMES_ASKED: usize = 20;

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) trace: Vec<String>,
    pub(crate) failure: Option<String>,
    pub(crate) messages: usize,
    pub(crate) connections: u64,
    pub(crate) faults: u64,
    pub(crate) simulated: Duration,
}

/// Runs the world of a seed.
pub(crate) fn run(seed: u64) -> Outcome {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads can always be built");
    logd_client::simulation::seed(Some(seed));
    let outcome = runtime.block_on(async {
        let trace = Trace::new();
        let mut world = World::new(seed, &trace);
        tokio::select! {
            biased;
            () = trace.failed() => {}
            ended = timeout(RUN_MAX, world.run()) => if ended.is_err() {
                trace.fail(format!("the run did not come to its end within {RUN_MAX:?}"));
            },
        }
        let (messages, faults) = (world.history.lock().messages.len(), world.faults);
        let (connections, simulated) = (world.network.made(), trace.elapsed());
        let (trace, failure) = trace.take();
        Outcome { trace, failure, messages, connections, faults, simulated }
    });
    logd_client::simulation::seed(None);
    outcome
}

struct World {
    random: Random,
    scenario: Scenario,
    trace: Trace,
    history: History,
    network: Network,
    place: Place,
    writers: JoinSet<()>,
    /// What real files there are: the spools of writers.
    spools: TempDir,
    faults: u64,
    /// The bytes of the disk, while it is full.
    is_full: bool,
}

impl World {
    fn new(seed: u64, trace: &Trace) -> Self {
        let mut random = Random::new(seed);
        let scenario = Scenario::new(&mut random);
        log!(trace, "{scenario:?}");
        let network = Network::new(random.any(), trace);
        let place =
            Place::new(scenario.config.clone(), &network, trace, random.any(), scenario.blocking_delay_max);
        let (trace, history) = (trace.clone(), History::new(trace));
        let writers = JoinSet::new();
        // In memory, if there is such a place: its syncs take no time.
        let spools = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let spools = spools.expect("a directory can be made");
        Self { random, scenario, trace, history, network, place, writers, spools, faults: 0, is_full: false }
    }

    async fn run(&mut self) {
        self.start();
        self.begin_readers();
        for number in 0..self.scenario.writers {
            let plan = Plan::new(number, &mut self.random);
            let (topic, network, history) =
                (self.scenario.topic.clone(), self.network.clone(), self.history.clone());
            let dir = self.spools.path().to_owned();
            self.writers.spawn(write(plan, topic, dir, network, history, Random::new(self.random.any())));
        }
        self.make_trouble().await;
        self.calm_down().await;
        let all_written = async { while self.writers.join_next().await.is_some() {} };
        if timeout(WRITERS_MAX, all_written).await.is_err() {
            return self.trace.fail("the writers did not come to their end".to_owned());
        }
        self.crash(Death::PowerCut).await;
        self.start_calmly().await;
        self.history.finish();
        let topic = match self.read_topic().await {
            Ok(topic) => topic,
            Err(error) => return self.trace.fail(format!("the topic cannot be read: {error}")),
        };
        self.wait_for_readers(&topic).await;
        if let Err(wrong) = check(&self.history.lock(), &topic, &self.scenario) {
            self.trace.fail(wrong);
        }
        self.place.stop().await;
        self.check_disk();
        log!(self.trace, "end");
    }

    fn begin_readers(&mut self) {
        let damage = self.scenario.damage();
        for number in 0..self.scenario.scanners {
            let (topic, network, history) =
                (self.scenario.topic.clone(), self.network.clone(), self.history.clone());
            tokio::spawn(scan(number, damage, topic, network, history, Random::new(self.random.any())));
        }
        let (topic, network, history) =
            (self.scenario.topic.clone(), self.network.clone(), self.history.clone());
        tokio::spawn(consume(damage, topic, network, history, Random::new(self.random.any())));
    }

    /// Makes one thing after another go wrong, until the writers are done or it is enough.
    async fn make_trouble(&mut self) {
        while self.trace.elapsed() < TROUBLE_MAX {
            let pause = Duration::from_millis(self.random.below(self.scenario.pause_max) as u64);
            tokio::select! {
                biased;
                left = self.writers.join_next() => if left.is_none() { return },
                () = self.place.gone() => self.go_on_after_death().await,
                () = sleep(pause) => self.do_harm().await,
            }
        }
    }

    async fn do_harm(&mut self) {
        self.faults += 1;
        match self.random.below(20) {
            0..6 => self.hurt_a_connection(),
            6..9 => self.change_the_weather(),
            9 | 10 => {
                let death = self.death();
                self.crash(death).await;
                self.go_on().await;
            }
            11..13 => {
                self.die_at_call(40);
            }
            13..15 => {
                let (death, polls) = (self.death(), self.random.below(400) as u64);
                self.place.die_at_poll(death, polls);
            }
            15 => {
                self.place.stop().await;
                self.history.server_ends();
                self.go_on().await;
            }
            _ => self.hurt_the_disk(),
        }
    }

    fn hurt_a_connection(&mut self) {
        let side = if self.random.below(2) == 0 { Side::Client } else { Side::Server };
        let accident = match self.random.below(5) {
            0 => Accident::Cut,
            1 | 2 => Accident::CutAfter(side, self.random.below(1500)),
            3 => Accident::Silence(side),
            _ => Accident::Split,
        };
        self.network.hurt(self.random.any(), accident);
    }

    fn change_the_weather(&mut self) {
        let climate = Climate {
            delay_max: Duration::from_millis([3, 30, 300, 1500][self.random.below(4)]),
            short_writes: [0, 4, 12][self.random.below(3)],
            refuses: self.random.below(6) == 0,
            hangs: self.random.below(6) == 0,
        };
        self.network.set_climate(climate);
    }

    fn hurt_the_disk(&mut self) {
        let call = self.place.disk().calls() + self.random.below(40) as u64;
        let kind = match (self.scenario.disk_faults, self.random.below(6)) {
            (DiskFaults::None, _) => return,
            (_, 0) => {
                self.is_full = !self.is_full;
                let bytes = self.is_full.then(|| self.random.below(60_000) as u64);
                log!(self.trace, "disk has {bytes:?} bytes");
                return self.place.disk().set_capacity(bytes);
            }
            (DiskFaults::Harsh, 1) => FaultKind::FailSync,
            (DiskFaults::Harsh, 2) => FaultKind::Fail(std::io::ErrorKind::Other),
            (DiskFaults::Harsh, 3) => FaultKind::DiskFull { written: self.random.below(500) },
            (DiskFaults::Harsh, 4) => {
                let read = self.place.disk().reads() + self.random.below(100) as u64;
                log!(self.trace, "plan a failure of disk read {read}");
                return self.place.disk().fail_read(read);
            }
            _ => FaultKind::ShortWrite { written: self.random.below(500) },
        };
        log!(self.trace, "plan {kind:?} at disk call {call}");
        self.place.disk().inject(Fault { call, kind });
    }

    fn die_at_call(&mut self, calls_max: usize) {
        let (death, calls) = (self.death(), self.random.below(calls_max) as u64);
        let is_torn = self.random.below(2) == 0;
        let written = is_torn.then(|| self.random.below(500));
        self.place.die_at_call(death, calls, written);
    }

    fn death(&mut self) -> Death {
        if self.scenario.has_power_cuts && self.random.below(2) == 0 { Death::PowerCut } else { Death::Kill }
    }

    /// The server dies now. Only where the power can go, it does.
    async fn crash(&mut self, death: Death) {
        let death = if self.scenario.has_power_cuts { death } else { Death::Kill };
        let cut = match self.random.below(4) {
            0 => Cut::LoseUnsynced,
            1 => Cut::KeepAll,
            _ => Cut::Seeded(self.random.any()),
        };
        let death = self.place.bury(death, cut).await;
        self.history.server_ends();
        if death == Death::PowerCut {
            let now = self.trace.elapsed();
            self.history.lock().power_cuts.push(now);
            if self.scenario.may_lose() {
                self.history.begin_epoch();
            }
        }
    }

    /// The server has died by itself.
    async fn go_on_after_death(&mut self) {
        self.crash(Death::Kill).await;
        self.go_on().await;
    }

    /// Starts the server after a while.
    async fn go_on(&mut self) {
        sleep(Duration::from_millis([0, 50, 1000, 4000][self.random.below(4)])).await;
        self.start();
        if self.random.below(4) == 0 {
            // It may die before it listens.
            self.die_at_call(12);
        }
    }

    /// Nothing goes wrong any more.
    async fn calm_down(&mut self) {
        log!(self.trace, "all is calm");
        self.network.set_climate(Climate::CALM);
        self.place.disk().set_capacity(None);
        self.crash(Death::Kill).await;
        self.start_calmly().await;
    }

    fn start(&mut self) {
        self.history.server_starts();
        self.place.start();
    }

    async fn start_calmly(&mut self) {
        self.start();
        sleep(Duration::from_secs(2)).await;
        if !self.place.is_running() {
            self.trace.fail("the server does not start though nothing is wrong".to_owned());
        }
    }

    /// Everything that the topic has.
    async fn read_topic(&mut self) -> Result<Vec<Found>, String> {
        let mut client = Client::new(config(&self.network, "checker", &mut self.random));
        let mut found = Vec::new();
        let mut next = None;
        loop {
            let answered = match next {
                None if self.scenario.has_retention => client.tail(&self.scenario.topic, 1000).await,
                _ => client.read(&self.scenario.topic, next.unwrap_or_default(), 1000).await,
            };
            let answer = match answered {
                Ok(answer) => answer,
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error.to_string()),
            };
            let is_first = next.is_none() && self.scenario.has_retention;
            let is_gap = next.unwrap_or_default() != answer.offset && !is_first;
            if is_gap && !self.scenario.has_power_cuts {
                return Err(format!("there is a gap from {next:?} to {}", answer.offset));
            }
            let mut offset = answer.offset;
            for batch in &answer.batches {
                for message in batch.messages_from(0) {
                    let position = logd_client::Position { offset, delta: message.delta as u64 };
                    found.push((position, Name::of(&message.bytes)));
                }
                offset = Offset::new(offset.as_u64() + batch.bytes().len() as u64);
            }
            next = Some(answer.next_offset());
        }
        log!(self.trace, "the topic has {} messages up to {next:?}", found.len());
        self.check_retention(&mut client).await?;
        self.check_times(&mut client, &found).await?;
        Ok(found)
    }

    /// No partition was dropped that has to be kept.
    async fn check_retention(&self, client: &mut Client) -> Result<(), String> {
        let topics = client.topics().await.map_err(|error| error.to_string())?;
        let kept = self.scenario.config.partitions as u64;
        match topics.iter().find(|topic| topic.name == self.scenario.topic) {
            Some(topic) if topic.oldest > Offset::ZERO && topic.partitions < kept => {
                Err(format!("{} partitions are left of {kept}", topic.partitions))
            }
            _ => Ok(()),
        }
    }

    /// docs/protocol.md, "Time": before a lower bound nothing has arrived at the time or later, and from an upper one on
    /// nothing at the time or before.
    async fn check_times(&mut self, client: &mut Client, topic: &[Found]) -> Result<(), String> {
        let now = usize::try_from(self.trace.elapsed().as_millis()).unwrap_or(usize::MAX);
        for _ in 0..TIMES_ASKED {
            let time = Duration::from_millis(self.random.below(now) as u64);
            let mut offsets = Vec::new();
            for bound in [Bound::Lower, Bound::Upper] {
                let at = client.offset_at(&self.scenario.topic, UNIX_EPOCH + EPOCH + time, bound).await;
                match at {
                    Ok(offset) => offsets.push(offset),
                    Err(error) if error.is_not_found() && topic.is_empty() => return Ok(()),
                    Err(error) => return Err(error.to_string()),
                }
            }
            log!(self.trace, "the time {time:?} is at {offsets:?}");
            check_time(&self.history.lock(), topic, time, (offsets[0], offsets[1]))?;
        }
        Ok(())
    }

    /// Where the power never went, nothing is damaged.
    fn check_disk(&self) {
        let disk: Arc<dyn Disk> = Arc::new(self.place.disk().clone());
        let dir = self.scenario.config.workdir.join(self.scenario.topic.as_str());
        let mut damage = Vec::new();
        let checked = check_dir(&disk, &dir, &mut |found| {
            log!(self.trace, "found {found:?}");
            // What was cut off at an end is not there any more.
            let is_left = matches!(found.what, What::TornTail { .. } | What::Excess { .. });
            if is_left || found.what.grade() == Grade::Damage {
                damage.push(format!("{found:?}"));
            }
        });
        match checked {
            Ok(_) if damage.is_empty() || self.scenario.has_power_cuts => {}
            Ok(_) => self.trace.fail(format!("the topic is damaged: {}", damage.join(", "))),
            // Nothing was ever written.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.trace.fail(format!("the topic cannot be checked: {error}")),
        }
    }

    async fn wait_for_readers(&self, topic: &[Found]) {
        let all_read = async {
            while laggard(&self.history.lock(), topic, self.scenario.scanners).is_some() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        if timeout(READERS_MAX, all_read).await.is_err() {
            let who = laggard(&self.history.lock(), topic, self.scenario.scanners);
            self.trace.fail(who.unwrap_or_default());
        }
    }
}
