//! The thread that owns the connection.
//!
//! Requests wait for it in a bounded queue, and are done one after the other. One whose caller has gone before its turn is
//! not done; one that was begun is done to its end. The thread ends when the queue is closed and empty.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use tokio::sync::{mpsc, oneshot, watch};

use super::failure::invalid;
use super::store::Store;
use crate::error::{StateError, StateErrorKind};

/// How many requests wait; whoever has more to ask waits to be let in. SQLite does one at a time in any case.
const QUEUE_MAX: usize = 64;

type Job = Box<dyn FnOnce(&mut Store) + Send>;

pub(super) struct Worker {
    /// `None` once it is closed.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// Nothing is ever sent; it ends with the thread, when the connection is closed.
    ended: watch::Receiver<()>,
}

impl Worker {
    /// Starts the thread, which opens the store first; what it gives beside the store is handed out.
    pub(super) async fn start<S: Send + 'static>(
        open: impl FnOnce() -> Result<(Store, S), StateError> + Send + 'static,
    ) -> Result<(Self, S), StateError> {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let (ending, ended) = watch::channel(());
        let (reply, answer) = oneshot::channel();
        let work = move || {
            let _ending = ending;
            match open() {
                Ok((store, shared)) => {
                    if reply.send(Ok(shared)).is_ok() {
                        serve(store, queue);
                    }
                }
                // Nobody may wait for it any more.
                Err(error) => drop(reply.send(Err(error))),
            }
        };
        thread::Builder::new().name("logd-sqlite".into()).spawn(work).map_err(|error| {
            StateError::caused(StateErrorKind::Unavailable, "no thread for the database", error)
        })?;
        let shared = answer.await.unwrap_or_else(|_| Err(unanswered(StateErrorKind::Failed)))?;
        Ok((Self { jobs: Mutex::new(Some(jobs)), ended }, shared))
    }

    /// Has the thread do something, and waits for its answer.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<T, StateError> {
        let jobs = self.jobs().clone().ok_or_else(|| invalid("the handler is closed"))?;
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |store| {
            if !reply.is_closed() {
                let _ = reply.send(work(store));
            }
        });
        jobs.send(job).await.map_err(|_| unanswered(StateErrorKind::Failed))?;
        drop(jobs);
        answer.await.map_err(|_| unanswered(StateErrorKind::Ambiguous))
    }

    /// Lets nothing more in, and waits until what was let in is done, and the connection closed.
    pub(super) async fn close(&self) {
        drop(self.jobs().take());
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn jobs(&self) -> std::sync::MutexGuard<'_, Option<mpsc::Sender<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("is_closed", &self.jobs().is_none()).finish_non_exhaustive()
    }
}

fn serve(mut store: Store, mut queue: mpsc::Receiver<Job>) {
    while let Some(job) = queue.blocking_recv() {
        // A user's closure may panic: its transaction was rolled back on the way here, and its caller gets no answer.
        let _ = catch_unwind(AssertUnwindSafe(|| job(&mut store)));
    }
}

fn unanswered(kind: StateErrorKind) -> StateError {
    StateError::new(kind, "the thread of the database has not run the request to its end")
}
