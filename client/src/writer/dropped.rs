//! What was dropped because there was no room for it, until the log itself says so.

use std::fmt;
use std::sync::Arc;

use crate::backlog::counted;

/// Messages that were dropped and are not in the topic, as its next message says.
///
/// Its text is `logd-writer: 12 messages with 345 bytes were dropped: there was no room`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// How many messages.
    pub messages: u64,
    /// How many bytes they had.
    pub bytes: u64,
}

impl fmt::Display for Dropped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, bytes } = self;
        let was = if *messages == 1 { "was" } else { "were" };
        let messages = counted(*messages, "message");
        write!(formatter, "logd-writer: {messages} with {bytes} bytes {was} dropped: there was no room")
    }
}

impl Dropped {
    /// Counts so many messages.
    pub(super) const fn add(&mut self, messages: u64, bytes: u64) {
        self.messages = self.messages.saturating_add(messages);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// Makes a message.
type Text = dyn Fn(&Dropped) -> Option<Vec<u8>> + Send + Sync;

/// How the message is made that tells of dropped ones.
#[derive(Clone)]
pub(super) struct Notice(Arc<Text>);

impl Notice {
    pub(super) fn new(text: impl Fn(&Dropped) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(text))
    }

    /// The message; `None` where there shall be none.
    pub(super) fn text(&self, dropped: &Dropped) -> Option<Vec<u8>> {
        let text = std::panic::AssertUnwindSafe(|| (self.0)(dropped));
        std::panic::catch_unwind(text).unwrap_or_else(|_| Some(dropped.to_string().into_bytes()))
    }
}

impl Default for Notice {
    fn default() -> Self {
        Self::new(|dropped| Some(dropped.to_string().into_bytes()))
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Notice")
    }
}
