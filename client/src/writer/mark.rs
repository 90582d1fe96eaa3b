//! Knows what a writer's own tasks do, so that a writer which an application logs through does not log itself.
//!
//! The thread that polls, drops, or does other work of a writer is marked with that writer meanwhile. A write of a line
//! under the writer's own mark is not taken: it would be followed by the next.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::shared::Shared;

/// A writer, by the address of what it shares: it is alive while its mark is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(usize);

thread_local! {
    /// The writers whose work this thread does, the innermost last.
    static MARKS: RefCell<Vec<Identity>> = const { RefCell::new(Vec::new()) };
}

impl Identity {
    pub(super) fn of(shared: &Arc<Shared>) -> Self {
        Self(Arc::as_ptr(shared).addr())
    }

    /// Marks the thread until the result is dropped.
    pub(super) fn mark(self) -> Mark {
        // A thread that ends has no marks any more; it logs nothing either.
        let is_set = MARKS.try_with(|marks| marks.borrow_mut().push(self)).is_ok();
        Mark { is_set }
    }

    /// Whether this thread does this writer's work.
    pub(super) fn is_marked(self) -> bool {
        MARKS.try_with(|marks| marks.borrow().contains(&self)).unwrap_or(false)
    }
}

/// The mark of a thread.
pub(super) struct Mark {
    is_set: bool,
}

impl Drop for Mark {
    fn drop(&mut self) {
        if self.is_set {
            let _ = MARKS.try_with(|marks| marks.borrow_mut().pop());
        }
    }
}

/// A future that is polled and dropped under a mark.
pub(super) struct Marked<F> {
    identity: Identity,
    /// There until it is dropped.
    future: Option<Pin<Box<F>>>,
}

impl<F> Marked<F> {
    pub(super) fn new(identity: Identity, future: F) -> Self {
        Self { identity, future: Some(Box::pin(future)) }
    }
}

impl<F: Future> Future for Marked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _mark = self.identity.mark();
        match &mut self.future {
            Some(future) => future.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for Marked<F> {
    fn drop(&mut self) {
        let _mark = self.identity.mark();
        self.future = None;
    }
}
