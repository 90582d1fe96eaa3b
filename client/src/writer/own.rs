//! Where a writer's task runs, and what that means for the drop of its last handle.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::future::select;
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};

use super::mark::{Identity, Marked};
use super::shared::Shared;
use super::task::{Loops, Task};
use super::{Handle, Writer};
use crate::error::Error;
use crate::own_thread::{self, OwnThread};
use crate::park::{self, Place, wait_until};

/// How long the last handle of a writer with a thread of its own waits for its end when it is dropped: some 5 seconds
/// are for sending, the rest is for putting what is left into the spool, and for the handler of errors.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a writer's task runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TaskRuntime {
    /// On the runtime that the writer is opened in, if that has several threads; else as [`TaskRuntime::Own`].
    #[default]
    Auto,
    /// On the runtime that the writer is opened in.
    ///
    /// The task ends with that runtime, whatever it has not sent: close the writer before. When the last handle is dropped
    /// at the end of `main`, before a runtime of several threads, that waits until what was written is sent, for 10 seconds
    /// at most; in a task of the runtime it does not. In a runtime of one thread,
    /// synchronous code that waits for room holds up the very task that makes it: use [`LineWriter`](super::LineWriter)
    /// and the `_blocking` functions from other threads only.
    Current,
    /// On a thread of its own, `logd-writer`, with a runtime of its own: the writer needs none, and goes on whatever the
    /// application's threads do.
    ///
    /// The handlers of errors and receipts run there, too. When the last handle is dropped, that waits until what was
    /// written is sent, for 10 seconds at most; but not on the writer's own thread, as in a handler. Async code should
    /// close the writer before: in a runtime of one thread, everything stands still while the drop waits, also a server
    /// that runs there.
    Own,
}

/// What runs a writer's task.
#[derive(Debug)]
pub(super) enum Home {
    Runtime(Runtime),
    Thread(OwnThread),
}

impl Home {
    /// Finds or makes it, for a writer that is opened here.
    pub(super) fn find(choice: TaskRuntime) -> Result<Self, Error> {
        let current = Runtime::try_current().ok();
        let several =
            current.clone().filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
        match (choice, several, current) {
            (TaskRuntime::Auto, Some(runtime), _) | (TaskRuntime::Current, _, Some(runtime)) => {
                Ok(Self::Runtime(runtime))
            }
            (TaskRuntime::Current, _, None) => Err(Error::invalid(
                "a writer with `TaskRuntime::Current` must be opened within a tokio runtime",
            )),
            (TaskRuntime::Auto, None, _) | (TaskRuntime::Own, ..) => {
                own_thread::start("logd-writer").map(Self::Thread)
            }
        }
    }

    /// Starts the task.
    pub(super) fn start(self, task: Task, loops: Loops, shared: Arc<Shared>) -> Writer {
        let task = Marked::new(Identity::of(&shared), task.run(loops));
        let (thread, runtime) = match self {
            Self::Runtime(runtime) => {
                runtime.spawn(task);
                (None, Some(runtime).filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread))
            }
            Self::Thread(OwnThread { runtime, thread, stop }) => {
                runtime.spawn(async move {
                    task.await;
                    drop(stop);
                });
                (Some(thread), None)
            }
        };
        Writer { handle: Arc::new(Handle { shared, thread, runtime }) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        {
            let _mark = Identity::of(&self.shared).mark();
            self.shared.abandon();
        }
        let deadline = park::deadline(DROP_TIMEOUT);
        match (self.thread, &self.runtime) {
            (Some(thread), _) if thread != thread::current().id() => {
                wait_until(self.shared.ended(), deadline, Place::Elsewhere);
            }
            // Not a task, which would hold up a thread of the runtime, but the end of `main`, behind which that ends.
            (None, Some(runtime)) if tokio::task::try_id().is_none() && self.shared.has_unsent() => {
                // It ends at once in a runtime that is ending, where nothing more is sent.
                let living = runtime.spawn(std::future::pending::<()>());
                let stop = living.abort_handle();
                let ended = std::pin::pin!(self.shared.ended());
                wait_until(select(ended, living), deadline, Place::Elsewhere);
                stop.abort();
            }
            _ => {}
        }
    }
}
