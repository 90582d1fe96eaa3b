//! Waiting for a future without a runtime: the thread sleeps until it is woken, or until a deadline.
//!
//! It works on any thread, also within a runtime, where a second `block_on` would panic. It holds that thread up; the
//! future must be driven by another one.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{block_in_place, unconstrained};

/// Whether what is waited for needs the threads of the caller's runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It runs on a thread of its own.
    Elsewhere,
    /// It may run on the runtime whose thread waits: another thread takes over the tasks of this one meanwhile.
    SameRuntime,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// When a wait ends that begins now; `None` for never, where that is beyond all time.
pub(crate) fn deadline(wait: Duration) -> Option<Instant> {
    Instant::now().checked_add(wait)
}

/// Waits for the future, up to the deadline if there is one; `None` when that has passed.
pub(crate) fn wait_until<F: Future>(future: F, deadline: Option<Instant>, place: Place) -> Option<F::Output> {
    // Where the thread is a task's, that task's share of polls may be used up: it would never become ready.
    let mut future = pin!(unconstrained(future));
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Some(output);
    }
    let mut park = move || {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return Some(output);
            }
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => thread::park(),
                Some(Duration::ZERO) => return None,
                Some(left) => thread::park_timeout(left),
            }
        }
    };
    if place == Place::SameRuntime && is_worker() { block_in_place(park) } else { park() }
}

/// Whether this thread may be one that a runtime of several threads runs its tasks on.
fn is_worker() -> bool {
    let is_several = |runtime: Handle| runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
    tokio::task::try_id().is_some() && Handle::try_current().is_ok_and(is_several)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn a_wait_ends_with_the_news_or_the_deadline() {
        let (sender, receiver) = oneshot::channel();
        let waiting = thread::spawn(move || wait_until(receiver, None, Place::Elsewhere));
        sender.send(7).unwrap();
        assert_eq!(waiting.join().unwrap(), Some(Ok(7)));

        let start = Instant::now();
        let wait = Duration::from_millis(20);
        assert_eq!(wait_until(std::future::pending::<()>(), deadline(wait), Place::Elsewhere), None);
        assert!(start.elapsed() >= wait);
        assert_eq!(deadline(Duration::MAX), None);
    }

    #[tokio::test]
    async fn a_task_whose_share_is_used_up_can_wait() {
        let lock = tokio::sync::Mutex::new(());
        // Every lock that is taken is counted, and the thread is not given back in between.
        for _ in 0..10_000 {
            let wait = deadline(Duration::from_secs(10));
            assert!(wait_until(lock.lock(), wait, Place::SameRuntime).is_some());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_worker_can_wait_for_a_task_of_its_runtime() {
        let told = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&told);
        tokio::spawn(async move {
            let (sender, receiver) = oneshot::channel();
            tokio::spawn(async move { sender.send(7) });
            *sink.lock().unwrap() =
                wait_until(receiver, deadline(Duration::from_secs(10)), Place::SameRuntime);
        })
        .await
        .unwrap();
        assert_eq!(*told.lock().unwrap(), Some(Ok(7)));
    }
}
