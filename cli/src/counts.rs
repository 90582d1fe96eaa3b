//! What has been moved so far.

use std::cell::Cell;

use crate::output::say;

/// Counters that one task changes and another, on the same thread, looks at.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    messages: Cell<u64>,
    batches: Cell<u64>,
    bytes: Cell<u64>,
}

impl Counts {
    /// Adds messages of `bytes` bytes in total.
    pub(crate) fn add_messages(&self, messages: u64, bytes: u64) {
        self.messages.set(self.messages.get() + messages);
        self.bytes.set(self.bytes.get() + bytes);
    }

    pub(crate) fn add_batch(&self) {
        self.batches.set(self.batches.get() + 1);
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages.get()
    }

    /// The bytes of the messages themselves, without frames and line ends.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Says all three on standard error.
    pub(crate) fn report(&self) {
        say(&format!(
            "messages: {}\nbatches: {}\nbytes: {}\n",
            self.messages.get(),
            self.batches.get(),
            self.bytes.get()
        ));
    }
}
