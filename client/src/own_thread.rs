//! A thread with a runtime of its own, for what must go on whatever the caller's threads do.
//!
//! The runtime is made, used and dropped on that thread: dropping one within another's task would panic.

use std::sync::mpsc;
use std::thread::{self, ThreadId};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind};

/// A running thread. Its runtime ends, and all that is spawned on it, when `stop` is dropped.
#[derive(Debug)]
pub(crate) struct OwnThread {
    pub(crate) runtime: Handle,
    pub(crate) thread: ThreadId,
    pub(crate) stop: Stop,
}

/// Ends the thread when it is dropped, without waiting for that.
#[derive(Debug)]
pub(crate) struct Stop(#[expect(dead_code, reason = "dropping it is what counts")] oneshot::Sender<()>);

/// Starts a thread of this name, at most 15 bytes of which some systems show.
///
/// # Errors
/// [`ErrorKind::Invalid`] when the system has no thread, or no descriptors for a runtime, left.
pub(crate) fn start(name: &'static str) -> Result<OwnThread, Error> {
    let failed =
        |source| Error::io(ErrorKind::Invalid, format_args!("cannot start the thread `{name}`"), source);
    let (stop, stopped) = oneshot::channel();
    let (started, start) = mpsc::sync_channel(1);
    let run = move || {
        let runtime = match Builder::new_current_thread().enable_all().thread_name(name).build() {
            Ok(runtime) => runtime,
            // The starter waits for the news.
            Err(error) => return drop(started.send(Err(error))),
        };
        if started.send(Ok((runtime.handle().clone(), thread::current().id()))).is_ok() {
            // It is not sent, but dropped.
            let _ = runtime.block_on(stopped);
        }
        // What still works on the disk is not waited for: the writer's end has waited for what matters.
        runtime.shutdown_background();
    };
    thread::Builder::new().name(name.into()).spawn(run).map_err(failed)?;
    match start.recv() {
        Ok(Ok((runtime, thread))) => Ok(OwnThread { runtime, thread, stop: Stop(stop) }),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => Err(Error::invalid(format!("the thread `{name}` has ended"))),
    }
}
