//! What was dropped because there was no room for it, until the log itself says so.

/// Counts of dropped messages.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    /// Since the last notice.
    messages: u64,
    bytes: u64,
    /// All before it.
    announced: u64,
}

impl Dropped {
    /// Counts a message of so many bytes.
    pub(super) const fn add(&mut self, bytes: usize) {
        self.messages = self.messages.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// What the log has to say; `None` when nothing was dropped since it was said last.
    pub(super) fn notice(&self) -> Option<String> {
        let Self { messages, bytes, .. } = self;
        (*messages > 0).then(|| {
            format!(
                "logd-writer: {messages} messages with {bytes} bytes were dropped: there was no room for them"
            )
        })
    }

    /// The log says it now.
    pub(super) const fn announced(&mut self) {
        self.announced = self.total();
        self.messages = 0;
        self.bytes = 0;
    }

    /// All that were ever dropped.
    pub(super) const fn total(&self) -> u64 {
        self.announced.saturating_add(self.messages)
    }
}
