//! The server: opens the work directory, listens, accepts connections, and ends in order.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use logd_protocol::Reason;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::Config;
use crate::connection::{Shared, Threads, reject, reject_at_once, serve};
use crate::disk::{DirLock, Disk, OsDisk};
use crate::error::{ServeError, StartError};
use crate::host::Host;
use crate::listener::Listener;
use crate::room::Room;
#[cfg(feature = "simulation")]
use crate::simulation;
use crate::socket::Socket;
use crate::throttle::Throttle;
use crate::topics::Topics;
use crate::watch;

/// How long accepting pauses when the system has no descriptors or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server that listens, and serves once it is [run](Server::run).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use logd_server::{Config, Server};
///
/// let config = Config { host: "127.0.0.1:0".to_owned(), workdir: "logs".into(), ..Config::default() };
/// let server = Server::bind(config).await?;
/// println!("listening on {}", server.local_addr());
/// server.run(std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    room: Room,
}

impl Server {
    /// Checks the settings, takes the work directory, opens the topics in it, and listens.
    ///
    /// # Errors
    /// [`StartError`] says what stands in the way.
    ///
    /// # Cancel safety
    /// When the future is dropped, the work directory is free again as soon as its topics have been opened.
    pub async fn bind(mut config: Config) -> Result<Self, StartError> {
        config.validate()?;
        let room = Room::make(&config);
        let (listener, local_addr) = Listener::bind(&config.host).await?;
        // What clients are told is where the server is found, not what was asked for.
        config.host = local_addr.to_string();
        let dir = config.workdir.clone();
        let opened = Host::Real.block(move || open(config, room)).await;
        let shared = opened.map_err(|error| StartError::Workdir { dir, source: error.into() })??;
        warn_if_open(local_addr);
        let shared = Arc::new(shared);
        Ok(Self { listener, local_addr, shared, room })
    }

    /// A server on a simulated machine: opens the topics on its disk, and serves what comes in at `listener`. No lock is
    /// taken. [`Config::host`] is only what clients are told.
    ///
    /// # Errors
    /// As [`Server::bind`].
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub async fn simulated(
        config: Config,
        machine: Arc<dyn simulation::Machine>,
        disk: Arc<dyn Disk>,
        listener: Box<dyn simulation::Listener>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let (room, dir) = (Room::all(config.max_connections), config.workdir.clone());
        let host = Host::Simulated(machine);
        let work = host.clone();
        let opened = host.block(move || {
            let made = disk.create_dir(&config.workdir);
            made.map_err(|source| StartError::Workdir { dir: config.workdir.clone(), source })?;
            sync_ancestors(&*disk, &config.workdir);
            let topics = Topics::open(disk, work.clone(), &config)?;
            let (stats, buffers, threads) = (Arc::default(), Arc::default(), Threads::new(0));
            Ok::<_, StartError>(Shared { topics, stats, buffers, threads, config, host: work, _lock: None })
        });
        let opened = opened.await.map_err(|error| StartError::Workdir { dir, source: error.into() })??;
        let local_addr = SocketAddr::from(([127, 0, 0, 1], logd_protocol::limits::PORT_DEFAULT));
        let listener = Listener::Simulated(listener);
        Ok(Self { listener, local_addr, shared: Arc::new(opened), room })
    }

    /// The address that the server listens on; with port 0 in the settings, the one that was free.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `shutdown` completes. Then accepts no more, finishes what is in work within the shutdown timeout,
    /// syncs all topics, and returns.
    ///
    /// # Errors
    /// [`ServeError`] when the last sync fails.
    ///
    /// # Cancel safety
    /// When the future is dropped, connections are cut, and nothing is synced. Everything acknowledged is as safe as
    /// its write guarantee says. The work directory is free again as soon as the requests that are under way have come
    /// to their end.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let stop = watch::Sender::new(false);
        let stopped = stop.subscribe();
        let mut connections = JoinSet::new();
        let mut background = JoinSet::new();
        for topic in self.shared.topics.all() {
            topic.plan_maintenance();
        }
        if let Some(interval) = self.shared.config.flush_interval {
            background.spawn(flush_at_intervals(Arc::clone(&self.shared), interval));
        }
        tokio::pin!(shutdown);
        let rejections = Arc::new(Semaphore::new(self.room.rejections));
        let unaccepted = Throttle::default();
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok(socket) => self.admit(socket, &mut connections, &rejections, &stopped),
                    Err(error) => {
                        if !is_peers_fault(&error) {
                            if let Some(held_back) = unaccepted.pass() {
                                tracing::warn!(%error, held_back, "a connection could not be accepted");
                            }
                            sleep(ACCEPT_PAUSE).await;
                        }
                    }
                },
            }
        }
        drop(self.listener);
        tracing::info!(connections = self.shared.stats.active_connections(), "shutting down");
        stop.modify(|is_down| *is_down = true);
        let finish = async { while connections.join_next().await.is_some() {} };
        if timeout(self.shared.config.shutdown_timeout, finish).await.is_err() {
            tracing::warn!(connections = self.shared.stats.active_connections(), "connections were cut");
        }
        connections.shutdown().await;
        // What they have in work is stored before the last sync.
        self.shared.threads.wait_for_end().await;
        background.shutdown().await;
        let shared = Arc::clone(&self.shared);
        let closed = self.shared.host.block(move || shared.topics.close()).await;
        closed.map_err(|error| ServeError::Close(error.into()))??;
        tracing::info!("all topics are synced");
        Ok(())
    }

    /// Gives the connection a task, unless there are as many as there may be.
    fn admit(
        &self,
        socket: Socket,
        connections: &mut JoinSet<()>,
        rejections: &Arc<Semaphore>,
        stopped: &watch::Receiver<bool>,
    ) {
        let active = self.shared.stats.active_connections();
        if active < self.room.connections as u64 {
            let guard = self.shared.stats.connection();
            let (shared, stopped) = (Arc::clone(&self.shared), stopped.clone());
            self.shared.host.serve(connections, async move {
                let _guard = guard;
                serve(socket, shared, stopped).await;
            });
            return;
        }
        self.shared.stats.connection_rejected();
        tracing::debug!(active, "a connection is one too many");
        if let Ok(permit) = Arc::clone(rejections).try_acquire_owned() {
            let stats = Arc::clone(&self.shared.stats);
            self.shared.host.serve(connections, async move {
                let _permit = permit;
                reject(socket, &stats, Reason::TooManyConnections).await;
            });
        } else {
            reject_at_once(&socket, Reason::TooManyConnections);
        }
    }
}

fn open(config: Config, room: Room) -> Result<Shared, StartError> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::new(config.file_mode));
    let workdir = |source| StartError::Workdir { dir: config.workdir.clone(), source };
    let is_new = disk.list(&config.workdir).is_err();
    disk.create_dir(&config.workdir).map_err(workdir)?;
    if is_new {
        sync_ancestors(&*disk, &config.workdir);
    }
    let Some(lock) = DirLock::acquire(&config.workdir).map_err(workdir)? else {
        let holder = DirLock::holder(&config.workdir).map(|pid| format!(" (process {pid})"));
        return Err(StartError::WorkdirInUse { dir: config.workdir, holder: holder.unwrap_or_default() });
    };
    let topics = Topics::open(disk, Host::Real, &config)?;
    Ok(Shared {
        topics,
        stats: Arc::default(),
        buffers: Arc::default(),
        threads: Threads::new(room.threads),
        config,
        host: Host::Real,
        _lock: Some(lock),
    })
}

/// Makes a new directory, and those above it that may be new, survive a power cut.
fn sync_ancestors(disk: &dyn Disk, dir: &Path) {
    for ancestor in dir.ancestors().skip(1) {
        let ancestor = if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor };
        if let Err(error) = disk.sync_dir(ancestor) {
            tracing::warn!(directory = %ancestor.display(), %error, "cannot be synced: a new work directory may not survive a power cut");
        }
    }
}

fn warn_if_open(address: SocketAddr) {
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "anyone who can reach this address can read and write every topic");
    }
}

/// Whether an error of accept says something about one connection only.
fn is_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Syncs every topic that has changed, at intervals.
async fn flush_at_intervals(shared: Arc<Shared>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for topic in shared.topics.all() {
            if topic.log().is_unsynced() && topic.log().failure().is_none() {
                // A failed sync has been reported by the topic, and a task cannot be lost.
                let _ = shared.host.block(move || topic.sync()).await;
            }
        }
    }
}
