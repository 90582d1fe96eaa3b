//! What the server has of its machine beside disk and network: threads for blocking work, a clock, tasks for connections.
//!
//! All of it is the real machine's, but for a server in a simulation.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::{JoinHandle, JoinSet, spawn_blocking};

#[cfg(feature = "simulation")]
use crate::simulation::{Machine, Watched};

#[derive(Debug, Clone, Default)]
pub(crate) enum Host {
    #[default]
    Real,
    #[cfg(feature = "simulation")]
    Simulated(std::sync::Arc<dyn Machine>),
}

impl Host {
    /// Does work that blocks, on a thread for such. It is done also when nobody waits for it.
    pub(crate) fn block<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        match self {
            Self::Real => spawn_blocking(work),
            #[cfg(feature = "simulation")]
            Self::Simulated(machine) => {
                let delay = machine.blocking_delay();
                tokio::spawn(Watched::new(machine, async move {
                    tokio::time::sleep(delay).await;
                    work()
                }))
            }
        }
    }

    /// Starts the task of a connection.
    pub(crate) fn serve(&self, tasks: &mut JoinSet<()>, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Real => tasks.spawn(task),
            #[cfg(feature = "simulation")]
            Self::Simulated(machine) => tasks.spawn(Watched::new(machine, task)),
        };
    }

    /// The time, in milliseconds since 1970.
    pub(crate) fn now_millis(&self) -> u64 {
        let now = match self {
            Self::Real => SystemTime::now(),
            #[cfg(feature = "simulation")]
            Self::Simulated(machine) => machine.now(),
        };
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
