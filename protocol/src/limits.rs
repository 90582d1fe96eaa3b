//! Every bound of the protocol, with its unit and its reason.

use std::time::Duration;

/// The longest request line in bytes, its `\r\n` included.
///
/// Go logd reads lines into a buffer of this size; a longer line is answered with `ERR invalid protocol`.
pub const LINE_BYTES_MAX: usize = 4096;

/// The longest topic name in bytes: what file systems allow for the name of a directory.
pub const TOPIC_BYTES_MAX: usize = 255;

/// The default for the largest batch in bytes, envelope and body together.
pub const BATCH_BYTES_DEFAULT: usize = 65536;

/// The smallest limit for a batch that a server or a client can be given, in bytes.
///
/// An envelope with the longest topic name takes 318 bytes; what is left holds a short message.
pub const BATCH_BYTES_MIN: usize = 512;

/// The largest limit for a batch that a server or a client can be given, in bytes.
///
/// A connection holds one batch in memory, so this also bounds what a connection can cost.
pub const BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The default for the most messages that one READ or TAIL can ask for.
pub const READ_MESSAGES_DEFAULT: u64 = 50_000;

/// The longest time a `READ … wait=<ms>` can ask to wait at the head.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest body of a `MOK` answer that a client takes, in bytes.
///
/// A line of `TOPICS` has at most 340 bytes, so this is enough for 120,000 topics: more than a server can be set to.
pub const MOK_BYTES_MAX: usize = 40 * 1024 * 1024;

/// The port that logd listens on when none is given.
pub const PORT_DEFAULT: u16 = 1774;
