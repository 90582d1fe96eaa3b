//! Answers that are text: the server's settings and counters, and the list of topics.

use std::fmt::Write;

use logd_protocol::TopicInfo;

use crate::config::Config;
use crate::topics::Topics;

/// The extensions that a client may use.
const FEATURES: &str = "dedup head ping time topics wait";

/// The lines of `CONFIG`. The first four are Go logd's, in its order; the last two are the write guarantee.
pub(crate) fn config(config: &Config) -> String {
    let mut lines = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        lines,
        "Host: {}\r\nTimeout: {}\r\nIdleTimeout: {}\r\nMaxBatchSize: {}\r\n",
        config.host,
        Config::duration_text(config.timeout),
        Config::duration_text(config.idle_timeout),
        config.batch_bytes
    );
    let _ = write!(lines, "Version: {}\r\nFeatures: {FEATURES}\r\n", env!("CARGO_PKG_VERSION"));
    let _ = write!(
        lines,
        "MaxMessages: {}\r\nFlushBatches: {}\r\nFlushInterval: {}\r\n",
        config.max_messages,
        config.flush_batches,
        Config::duration_text(config.flush_interval.unwrap_or_default())
    );
    lines
}

/// The lines of `TOPICS`, by name.
pub(crate) fn topics(topics: &Topics) -> Vec<u8> {
    let mut lines = Vec::new();
    for topic in topics.all() {
        let extent = topic.log().view().extent();
        let info = TopicInfo {
            topic: topic.name().as_topic(),
            oldest: extent.oldest,
            next: extent.next,
            bytes: extent.bytes,
            partitions: extent.partitions,
        };
        info.put(&mut lines);
    }
    lines
}
