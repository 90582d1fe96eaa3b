//! What became of every message that a writer was given.

/// Counts of messages, of one moment. Together they leave none out:
///
/// `written + recovered = delivered + buffered + backlog + taken + spooled + aside + dropped`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WriterStats {
    /// Taken for delivery or dropped: by writes, by retries, and the writer's own notices.
    pub written: u64,
    /// Those of `written` that are the writer's own: each says in the topic how many messages were dropped.
    pub notices: u64,
    /// Found in the spool when the writer was opened.
    pub recovered: u64,
    /// Acknowledged by the server.
    pub delivered: u64,
    /// In the open batch, waiting, or under way.
    pub buffered: u64,
    /// Given up, and waiting in the backlog.
    pub backlog: u64,
    /// Given up, and taken out of the backlog by its user.
    pub taken: u64,
    /// In the spool, and to be sent.
    pub spooled: u64,
    /// In files of the spool that were set aside, because they are damaged or will never be accepted.
    pub aside: u64,
    /// Lost, because there was no room or no time left.
    pub dropped: u64,
    /// The bytes of the messages lost.
    pub dropped_bytes: u64,
    /// Lines of the writer's own doing that came back to it through [`Writer::io`](super::Writer::io) and were not taken.
    /// They are not part of `written`.
    pub suppressed: u64,
}

impl WriterStats {
    /// Whether every message is accounted for, which it always is.
    pub const fn is_complete(&self) -> bool {
        let there = self.delivered + self.buffered + self.backlog + self.taken;
        self.written + self.recovered == there + self.spooled + self.aside + self.dropped
    }
}
