//! The server's machine: what it is while it is on, and how the server on it lives, dies, and starts again.
//!
//! A machine is made anew for each start of the server. One that is off polls none of the server's tasks any more, not even
//! to the end of what they have begun; so it can go at any call of the disk and at any await.

use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_server::disk::{Cut, Fault, FaultKind, SimDisk};
use logd_server::{Config, Server, simulation};
use logd_tests::Random;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::disk::{Times, Watched};
use crate::network::Network;
use crate::trace::{Trace, log};

/// The wall clock at the beginning of a run: some day in 2023.
pub(crate) const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// How long stopping in order can take: longer than the server's own bound.
const STOP_MAX: Duration = Duration::from_secs(60);

/// How a machine goes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process is killed, the system lives on.
    Kill,
    /// The power goes.
    PowerCut,
}

/// A machine, from one start of the server to the next.
pub(crate) struct Machine {
    trace: Trace,
    state: Mutex<State>,
    polls: AtomicU64,
    has_gone: Notify,
}

struct State {
    is_on: bool,
    random: Random,
    blocking_delay_max: Duration,
    /// What is to happen at a poll, or a call of the disk, to come.
    at_poll: Option<u64>,
    at_call: Option<u64>,
    death: Death,
    network: Network,
}

impl fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Machine")
    }
}

impl Machine {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing reaches the disk of a machine that is off, though what the server was doing goes on to its next await.
    pub(crate) fn check_on(&self) -> io::Result<()> {
        if self.lock().is_on { Ok(()) } else { Err(io::Error::other("the machine is off")) }
    }

    /// A call of the disk has been made.
    pub(crate) fn has_called(&self, number: u64, what: fmt::Arguments<'_>, error: Option<&io::Error>) {
        let state = self.lock();
        if !state.is_on {
            return;
        }
        match error {
            Some(error) => log!(self.trace, "disk {number} {what}: {}", error.kind()),
            None => log!(self.trace, "disk {number} {what}"),
        }
        if state.at_call.is_some_and(|at| number >= at) {
            self.go(state);
        }
    }

    /// The machine goes off, at once.
    fn go(&self, mut state: MutexGuard<'_, State>) {
        state.is_on = false;
        log!(self.trace, "machine {:?}", state.death);
        let (network, death) = (state.network.clone(), state.death);
        drop(state);
        match death {
            Death::Kill => network.close_server(),
            Death::PowerCut => network.darken_server(),
        }
        self.has_gone.notify_one();
    }
}

impl simulation::Machine for Machine {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + EPOCH + self.trace.elapsed()
    }

    fn blocking_delay(&self) -> Duration {
        let mut state = self.lock();
        let max = usize::try_from(state.blocking_delay_max.as_millis()).unwrap_or(0);
        Duration::from_millis(state.random.below(max + 1) as u64)
    }

    fn goes_on(&self) -> bool {
        self.trace.count_poll();
        let poll = self.polls.fetch_add(1, Ordering::Relaxed);
        let state = self.lock();
        if !state.is_on || self.trace.has_failed() {
            return false;
        }
        if state.at_poll.is_some_and(|at| poll >= at) {
            self.go(state);
            return false;
        }
        true
    }
}

/// The main task of a server, for as long as its machine is on.
struct Main<F> {
    machine: Arc<Machine>,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Main<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        if simulation::Machine::goes_on(&*self.machine) {
            self.task.as_mut().poll(context)
        } else {
            Poll::Pending
        }
    }
}

/// A server that runs.
struct Running {
    machine: Arc<Machine>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
}

/// Where the server runs, one time after another.
pub(crate) struct Place {
    config: Config,
    network: Network,
    trace: Trace,
    disk: SimDisk,
    times: Times,
    random: Random,
    blocking_delay_max: Duration,
    running: Option<Running>,
}

impl Place {
    pub(crate) fn new(
        config: Config,
        network: &Network,
        trace: &Trace,
        seed: u64,
        blocking_delay_max: Duration,
    ) -> Self {
        let (network, trace) = (network.clone(), trace.clone());
        let (disk, random) = (SimDisk::new(seed), Random::new(seed));
        Self {
            config,
            network,
            trace,
            disk,
            times: Times::default(),
            random,
            blocking_delay_max,
            running: None,
        }
    }

    /// The disk as it is now.
    pub(crate) const fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// Starts the server. It listens a little later, or does not: see [`Place::gone`].
    pub(crate) fn start(&mut self) {
        log!(self.trace, "server starts");
        self.network.lighten_server();
        let state = State {
            is_on: true,
            random: Random::new(self.random.any()),
            blocking_delay_max: self.blocking_delay_max,
            at_poll: None,
            at_call: None,
            death: Death::Kill,
            network: self.network.clone(),
        };
        let machine = Arc::new(Machine {
            trace: self.trace.clone(),
            state: Mutex::new(state),
            polls: AtomicU64::new(0),
            has_gone: Notify::new(),
        });
        let disk = Arc::new(Watched::new(&self.disk, &self.times, &machine));
        let (stop, stopped) = oneshot::channel::<()>();
        let (config, network, trace) = (self.config.clone(), self.network.clone(), self.trace.clone());
        let seen = Arc::clone(&machine);
        let main = async move {
            let door = network.listen();
            let server =
                Server::simulated(config, seen, disk, door).await.map_err(|error| error.to_string())?;
            log!(trace, "server listens");
            let shutdown = async {
                let _ = stopped.await;
            };
            server.run(shutdown).await.map_err(|error| error.to_string())
        };
        let task = tokio::spawn(Main { machine: Arc::clone(&machine), task: Box::pin(main) });
        self.running = Some(Running { machine, stop, task });
    }

    /// Whether there is a server that has not gone.
    pub(crate) fn is_running(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.machine.lock().is_on && !running.task.is_finished())
    }

    /// Completes when the server has gone by itself: at a call or a poll that was chosen, or because of an error.
    pub(crate) async fn gone(&mut self) {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let gone = pin!(running.machine.has_gone.notified());
        tokio::select! {
            biased;
            () = gone => {}
            ended = &mut running.task => log!(self.trace, "server ended: {ended:?}"),
        }
    }

    /// Lets the machine go off, so many calls of the disk from now on. With `written`, that call takes only so many bytes, if
    /// it is a write.
    pub(crate) fn die_at_call(&mut self, death: Death, calls: u64, written: Option<usize>) {
        let Some(running) = &self.running else { return };
        let at = self.disk.calls() + calls;
        log!(self.trace, "plan {death:?} at disk call {at}");
        match (death, written) {
            (Death::PowerCut, _) => self.disk.inject(Fault { call: at, kind: FaultKind::PowerCut }),
            (Death::Kill, Some(written)) => {
                self.disk.inject(Fault { call: at, kind: FaultKind::ShortWrite { written } });
            }
            (Death::Kill, None) => {}
        }
        let mut state = running.machine.lock();
        (state.at_call, state.death) = (Some(at), death);
    }

    /// Lets the machine go off, so many polls of the server's tasks from now on.
    pub(crate) fn die_at_poll(&mut self, death: Death, polls: u64) {
        let Some(running) = &self.running else { return };
        let at = running.machine.polls.load(Ordering::Relaxed) + polls;
        log!(self.trace, "plan {death:?} at poll {at}");
        let mut state = running.machine.lock();
        (state.at_poll, state.death) = (Some(at), death);
    }

    /// Buries what is left of the server, after it has gone or to make it go now.
    pub(crate) async fn bury(&mut self, death: Death, cut: Cut) -> Death {
        let Some(running) = self.running.take() else {
            self.restart_disk(death, cut);
            return death;
        };
        {
            let mut state = running.machine.lock();
            if state.is_on {
                state.death = death;
                running.machine.go(state);
            }
        }
        running.task.abort();
        if !running.task.is_finished() {
            let _ = running.task.await;
        }
        let death = running.machine.lock().death;
        self.restart_disk(death, cut);
        death
    }

    fn restart_disk(&mut self, death: Death, cut: Cut) {
        let cut = if death == Death::Kill { Cut::KeepAll } else { cut };
        log!(self.trace, "disk restarts with {cut:?}");
        self.disk = self.disk.restart(cut);
    }

    /// Stops the server in order.
    pub(crate) async fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        log!(self.trace, "server stops");
        let _ = running.stop.send(());
        let gone = pin!(running.machine.has_gone.notified());
        let ended = async {
            tokio::select! {
                biased;
                () = gone => "gone".to_owned(),
                ended = &mut running.task => format!("{ended:?}"),
            }
        };
        match timeout(STOP_MAX, ended).await {
            Ok(ended) => log!(self.trace, "server stopped: {ended}"),
            Err(_) => self.trace.fail(format!("a server did not stop within {STOP_MAX:?}")),
        }
        running.task.abort();
        running.machine.lock().is_on = false;
    }
}
