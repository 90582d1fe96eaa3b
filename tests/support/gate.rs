//! A TCP relay that a test opens, holds, and closes by hand, where [`FaultProxy`](crate::FaultProxy) follows a plan.
//!
//! Each connection has two threads, one a direction. What comes in while a direction is held waits in the relay, which the
//! test can see; a cut throws it away. Nothing blocks for longer than a tick without looking at the gate, so that its end is
//! bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::proxy::Side;
use crate::wait::{BOUND, wait_until};

/// How often a thread that reads looks at the gate.
const TICK: Duration = Duration::from_millis(10);

/// A relay in front of one server. Dropping it cuts its connections.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: Vec<Side>,
    closed: bool,
    ending: bool,
    /// How often everything was cut.
    cuts: u64,
    waiting_requests: usize,
    waiting_answers: usize,
}

impl State {
    fn is_held(&self, side: Side) -> bool {
        self.held.contains(&side)
    }

    const fn waiting(&mut self, side: Side) -> &mut usize {
        match side {
            Side::Request => &mut self.waiting_requests,
            Side::Answer => &mut self.waiting_answers,
        }
    }
}

impl Gate {
    /// Listens on a free port of this machine, and connects each client to `upstream`.
    ///
    /// # Panics
    /// When there is no port.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared { upstream, state: Mutex::default(), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens, as `host:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Lets nothing of this direction through until [`Gate::open`].
    pub fn hold(&self, side: Side) {
        self.shared.lock().held.push(side);
    }

    /// Lets through what is held, and takes new connections.
    pub fn open(&self) {
        let mut state = self.shared.lock();
        state.held.clear();
        state.closed = false;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Ends every connection, and throws away what is held. New ones are taken.
    pub fn cut(&self) {
        self.shared.lock().cuts += 1;
        self.shared.changed.notify_all();
    }

    /// Ends every connection, and each new one at once, until [`Gate::open`].
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.cut();
    }

    /// Waits until something of this direction is held.
    ///
    /// # Panics
    /// When nothing is within [`BOUND`].
    pub fn wait_until_held(&self, side: Side) {
        wait_until("the gate holds something", BOUND, || *self.shared.lock().waiting(side) > 0);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shared.lock().ending = true;
        self.cut();
        // Wakes the thread that accepts. If nobody listens any more, it has ended.
        let _ = TcpStream::connect_timeout(&self.address, BOUND);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((client, _)) = listener.accept() {
        let (cuts, is_closed) = {
            let state = shared.lock();
            if state.ending {
                return;
            }
            (state.cuts, state.closed)
        };
        // A server that is not there is for the client to notice: its connection is closed.
        if !is_closed
            && let Ok(server) = TcpStream::connect_timeout(&shared.upstream, BOUND)
            && let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone())
        {
            let (requests, answers) = (Arc::clone(shared), Arc::clone(shared));
            thread::spawn(move || relay(from_client, server, Side::Request, cuts, &requests));
            thread::spawn(move || relay(from_server, client, Side::Answer, cuts, &answers));
        }
    }
}

/// Passes bytes on until the source ends or everything is cut. Where it fails, one of the two is gone: that is passed on,
/// too.
fn relay(mut from: TcpStream, mut to: TcpStream, side: Side, cuts: u64, shared: &Shared) {
    let mut chunk = [0; 16 * 1024];
    let set = from.set_read_timeout(Some(TICK)).and_then(|()| to.set_nodelay(true));
    let mut is_whole = set.is_ok();
    while is_whole {
        let count = match from.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                is_whole = shared.lock().cuts == cuts;
                continue;
            }
            Err(_) => break,
        };
        is_whole = pass(side, cuts, count, shared);
        if count == 0 {
            if is_whole {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        } else if is_whole {
            is_whole = chunk.get(..count).is_some_and(|bytes| to.write_all(bytes).is_ok());
        }
    }
    for stream in [&from, &to] {
        // It fails when the peer has closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Waits until bytes can be passed on; `false` when they are cut.
fn pass(side: Side, cuts: u64, count: usize, shared: &Shared) -> bool {
    let mut state = shared.lock();
    *state.waiting(side) += count;
    while state.is_held(side) && state.cuts == cuts {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    *state.waiting(side) -= count;
    state.cuts == cuts
}
