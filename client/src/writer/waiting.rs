//! Waiting for room: who does, and how many. As long as there are any, other messages do not pass them.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts a waiting message, until it is dropped.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the sender of a message wants to be told what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promised {
    No,
    Yes,
}

/// Whether a message that finds no room goes on to wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Look,
    Wait,
}
