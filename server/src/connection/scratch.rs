//! A buffer for what looking something up in a topic reads of its envelopes.
//!
//! Each thread that serves connections has one, for nothing of it is kept from one request to the next: connections, of
//! which there are many more, have none.

use std::cell::Cell;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Does `work` with the thread's buffer, whose contents do not matter.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut scratch = SCRATCH.take();
    let done = work(&mut scratch);
    SCRATCH.set(scratch);
    done
}
