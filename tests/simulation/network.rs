//! A network in memory: connections that are slow, that break, and of whose end one side may never hear.
//!
//! A connection is two pipes. What is written to one is on its way for a while and then can be read, in order; a pipe holds
//! a bounded number of bytes. One task, the wire, makes everything happen that is due. All chance comes from the seed.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use logd_client::simulation as client;
use logd_server::simulation as server;
use logd_tests::Random;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::ends::{Door, Way};
use crate::pipe::{Pipe, Side};
use crate::trace::{Trace, log};

/// What the network does to what passes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Climate {
    /// The longest time that bytes are on their way.
    pub(crate) delay_max: Duration,
    /// Of 16 writes, so many take only a part.
    pub(crate) short_writes: usize,
    /// Connections are refused.
    pub(crate) refuses: bool,
    /// Whoever connects waits for ever.
    pub(crate) hangs: bool,
}

impl Climate {
    pub(crate) const CALM: Self =
        Self { delay_max: Duration::from_millis(3), short_writes: 0, refuses: false, hangs: false };
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Accident {
    /// Both sides hear that it is broken.
    Cut,
    /// It breaks after so many bytes more of this side's.
    CutAfter(Side, usize),
    /// Nothing of this side's arrives any more, and nobody is told.
    Silence(Side),
    /// Nothing passes any more, and nobody is told.
    Split,
}

/// The network. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    trace: Trace,
    /// Something was added to what is due.
    planned: Notify,
}

#[derive(Debug)]
struct State {
    random: Random,
    climate: Climate,
    due: BTreeMap<(Instant, u64), Event>,
    planned: u64,
    connections: BTreeMap<u64, Connection>,
    made: u64,
    listener: Option<Backlog>,
    /// The machine answers nothing, not even that it does not listen.
    is_dark: bool,
}

#[derive(Debug, Default)]
struct Backlog {
    connections: Vec<u64>,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Connection {
    name: String,
    /// What the client writes.
    up: Pipe,
    /// What the server writes.
    down: Pipe,
}

impl Connection {
    fn pipe(&mut self, from: Side) -> &mut Pipe {
        match from {
            Side::Client => &mut self.up,
            Side::Server => &mut self.down,
        }
    }
}

#[derive(Debug)]
enum Event {
    /// Bytes of this side arrive at the other.
    Arrive(u64, Side, Vec<u8>),
    /// The end of what this side sends arrives at the other.
    End(u64, Side),
    /// This side hears that the connection is broken.
    Break(u64, Side),
}

impl State {
    fn delay(&mut self) -> Duration {
        let max = usize::try_from(self.climate.delay_max.as_millis()).unwrap_or(0);
        // Most of the time little.
        let max = if self.random.below(4) == 0 { max } else { max / 4 };
        Duration::from_millis(self.random.below(max + 1) as u64)
    }

    fn plan(&mut self, at: Instant, event: Event) {
        self.planned += 1;
        self.due.insert((at, self.planned), event);
    }

    /// Plans what this side of a connection has done, behind all that it has done before.
    fn send(&mut self, id: u64, from: Side, event: impl FnOnce() -> Event) {
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let pipe = connection.pipe(from);
        let at = (Instant::now() + delay).max(pipe.last_due);
        pipe.last_due = at;
        self.plan(at, event());
    }

    /// Both sides hear, sooner or later, that the connection is broken; nothing passes any more.
    fn cut(&mut self, id: u64) {
        for side in [Side::Client, Side::Server] {
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.pipe(side).is_lost = true;
            }
            self.send(id, side, || Event::Break(id, side.other()));
        }
    }

    /// One side closes the connection.
    fn close(&mut self, id: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.pipe(side).is_closed {
            return;
        }
        connection.pipe(side).is_closed = true;
        let incoming = connection.pipe(side.other());
        let has_unread = !incoming.held.is_empty();
        incoming.is_unread = true;
        if connection.up.is_closed && connection.down.is_closed {
            self.connections.remove(&id);
        } else if has_unread {
            self.send(id, side, || Event::Break(id, side.other()));
        } else {
            self.send(id, side, || Event::End(id, side));
        }
    }
}

impl Network {
    /// A network without anybody. Its wire is a task of the current runtime.
    pub(crate) fn new(seed: u64, trace: &Trace) -> Self {
        let state = State {
            random: Random::new(seed),
            climate: Climate::CALM,
            due: BTreeMap::new(),
            planned: 0,
            connections: BTreeMap::new(),
            made: 0,
            listener: None,
            is_dark: false,
        };
        let inner = Inner { state: Mutex::new(state), trace: trace.clone(), planned: Notify::new() };
        let network = Self(Arc::new(inner));
        tokio::spawn(wire(network.clone()));
        network
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what the network does to all that comes.
    pub(crate) fn set_climate(&self, climate: Climate) {
        log!(self.0.trace, "net {climate:?}");
        self.lock().climate = climate;
    }

    /// Where a server's connections come in from now on.
    pub(crate) fn listen(&self) -> Box<dyn server::Listener> {
        let mut state = self.lock();
        state.listener = Some(Backlog::default());
        state.is_dark = false;
        Box::new(Door::new(self))
    }

    /// How many connections were made.
    pub(crate) fn made(&self) -> u64 {
        self.lock().made
    }

    /// What a client of this name connects with.
    pub(crate) fn client(&self, name: &str) -> Arc<dyn client::Network> {
        Arc::new(Way::new(self, name))
    }

    /// Something happens to one of the connections; whether there was one.
    pub(crate) fn hurt(&self, choice: u64, accident: Accident) -> bool {
        let mut state = self.lock();
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        let Some(&id) = usize::try_from(choice).ok().and_then(|choice| ids.get(choice % ids.len().max(1)))
        else {
            return false;
        };
        let Some(connection) = state.connections.get_mut(&id) else { return false };
        log!(self.0.trace, "net {} {accident:?}", connection.name);
        match accident {
            Accident::Cut => state.cut(id),
            Accident::CutAfter(side, bytes) => connection.pipe(side).cut_after = Some(bytes),
            Accident::Silence(side) => connection.pipe(side).is_lost = true,
            Accident::Split => {
                connection.up.is_lost = true;
                connection.down.is_lost = true;
            }
        }
        drop(state);
        self.0.planned.notify_one();
        true
    }

    /// The server's process is gone: the system closes its connections.
    pub(crate) fn close_server(&self) {
        let mut state = self.lock();
        state.listener = None;
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        for id in ids {
            state.close(id, Side::Server);
        }
        drop(state);
        self.0.planned.notify_one();
    }

    /// The server's machine is off: nobody is told.
    pub(crate) fn darken_server(&self) {
        let mut state = self.lock();
        (state.listener, state.is_dark) = (None, true);
        for connection in state.connections.values_mut() {
            connection.up.is_lost = true;
            connection.down.is_lost = true;
            connection.down.is_closed = true;
        }
        state.connections.retain(|_, connection| !connection.up.is_closed);
    }

    /// The server's machine is on again: some of those that still wait for it hear that it knows nothing of them.
    pub(crate) fn lighten_server(&self) {
        let mut state = self.lock();
        state.is_dark = false;
        let ids: Vec<u64> = state.connections.keys().copied().collect();
        for id in ids {
            let is_old = state.connections.get(&id).is_some_and(|connection| connection.down.is_closed);
            if is_old && state.random.below(2) == 0 {
                state.send(id, Side::Server, || Event::Break(id, Side::Client));
            }
        }
        drop(state);
        self.0.planned.notify_one();
    }

    fn arrive(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Arrive(id, from, bytes) => {
                let Some(connection) = state.connections.get_mut(&id) else { return };
                let name = connection.name.clone();
                let pipe = connection.pipe(from);
                if pipe.is_lost {
                    return;
                }
                pipe.moving -= bytes.len();
                if pipe.is_unread {
                    // The one side has closed, and the system tells the other so.
                    state.send(id, from.other(), || Event::Break(id, from));
                    return;
                }
                pipe.held.extend(&bytes);
                pipe.wake_reader();
                drop(state);
                log!(self.0.trace, "net {name} {from:?} {} bytes", bytes.len());
            }
            Event::End(id, from) => {
                let Some(connection) = state.connections.get_mut(&id) else { return };
                let name = connection.name.clone();
                let pipe = connection.pipe(from);
                if pipe.is_lost {
                    return;
                }
                pipe.has_ended = true;
                pipe.wake_reader();
                drop(state);
                log!(self.0.trace, "net {name} {from:?} end");
            }
            Event::Break(id, side) => {
                let is_purged = state.random.below(2) == 0;
                let Some(connection) = state.connections.get_mut(&id) else { return };
                let name = connection.name.clone();
                connection.pipe(side).break_for_writer();
                connection.pipe(side.other()).break_for_reader(is_purged);
                drop(state);
                log!(self.0.trace, "net {name} broken for {side:?}");
            }
        }
    }

    pub(crate) async fn connect(&self, name: &str) -> io::Result<u64> {
        let (delay, hangs) = {
            let mut state = self.lock();
            (state.delay(), state.climate.hangs)
        };
        sleep(delay).await;
        if hangs || self.lock().is_dark {
            log!(self.0.trace, "net {name} hangs");
            std::future::pending::<()>().await;
        }
        let mut state = self.lock();
        let refuses = state.climate.refuses;
        let id = state.made;
        let Some(backlog) = state.listener.as_mut().filter(|_| !refuses) else {
            drop(state);
            log!(self.0.trace, "net {name} refused");
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        backlog.connections.push(id);
        let waker = backlog.waker.take();
        state.made += 1;
        let name = format!("{name}#{id}");
        log!(self.0.trace, "net {name} connected");
        state.connections.insert(id, Connection { name, up: Pipe::new(), down: Pipe::new() });
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Ok(id)
    }
}

/// What the ends of connections do.
impl Network {
    pub(crate) fn poll_accept(&self, context: &mut Context<'_>) -> Poll<u64> {
        let mut state = self.lock();
        let Some(backlog) = &mut state.listener else { return Poll::Pending };
        if backlog.connections.is_empty() {
            backlog.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(backlog.connections.remove(0))
    }

    pub(crate) fn listen_no_more(&self) {
        let mut state = self.lock();
        let backlog = state.listener.take();
        for id in backlog.map(|backlog| backlog.connections).unwrap_or_default() {
            state.close(id, Side::Server);
        }
        drop(state);
        self.0.planned.notify_one();
    }

    pub(crate) fn close(&self, id: u64, side: Side) {
        self.lock().close(id, side);
        self.0.planned.notify_one();
    }

    pub(crate) fn end(&self, id: u64, side: Side) {
        self.lock().send(id, side, || Event::End(id, side));
        self.0.planned.notify_one();
    }

    pub(crate) fn is_quiet(&self, id: u64) -> bool {
        self.lock().connections.get_mut(&id).is_some_and(|connection| connection.down.is_quiet())
    }

    pub(crate) fn read(&self, id: u64, side: Side, room: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        match state.connections.get_mut(&id) {
            Some(connection) => connection.pipe(side.other()).read(room),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    pub(crate) fn write(&self, id: u64, side: Side, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        let is_short = state.climate.short_writes > state.random.below(16);
        let part = if is_short { 1 + state.random.below(bytes.len()) } else { bytes.len() };
        let Some(connection) = state.connections.get_mut(&id) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let pipe = connection.pipe(side);
        let taken = pipe.write(part.min(bytes.len()))?;
        if pipe.is_lost || pipe.is_closed {
            return Ok(taken);
        }
        let passing = pipe.passing(taken);
        if passing > 0 {
            let bytes = bytes.get(..passing).unwrap_or_default().to_vec();
            state.send(id, side, || Event::Arrive(id, side, bytes));
        }
        if passing < taken {
            log!(self.0.trace, "net #{id} {side:?} is cut here");
            let at = state.connections.get(&id).map_or_else(Instant::now, |connection| match side {
                Side::Client => connection.up.last_due,
                Side::Server => connection.down.last_due,
            });
            state.plan(at, Event::Break(id, Side::Client));
            state.plan(at, Event::Break(id, Side::Server));
        }
        drop(state);
        self.0.planned.notify_one();
        Ok(taken)
    }

    pub(crate) fn poll_readable(&self, id: u64, side: Side, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let Some(connection) = state.connections.get_mut(&id) else { return Poll::Ready(()) };
        connection.pipe(side.other()).poll_readable(context)
    }

    pub(crate) fn poll_writable(&self, id: u64, side: Side, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let Some(connection) = state.connections.get_mut(&id) else { return Poll::Ready(()) };
        connection.pipe(side).poll_writable(context)
    }
}

/// Makes what is due happen.
async fn wire(network: Network) {
    loop {
        let next = network.lock().due.first_key_value().map(|(key, _)| *key);
        let Some((at, _)) = next else {
            network.0.planned.notified().await;
            continue;
        };
        tokio::select! {
            biased;
            () = sleep_until(at) => {
                let event = network.lock().due.pop_first().map(|(_, event)| event);
                if let Some(event) = event {
                    network.arrive(event);
                }
            }
            () = network.0.planned.notified() => {}
        }
    }
}
