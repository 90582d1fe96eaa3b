//! What a server's answers become: owned values with names.

use logd_protocol::{Batch, Offset, ServerConfig, TopicInfo, TopicName, key_values};

/// Batches that follow each other in a topic, as READ and TAIL answer them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batches {
    /// The offset of the first batch.
    pub offset: Offset,
    /// The batches, checked, in order.
    pub batches: Vec<Batch>,
}

impl Batches {
    /// The offset behind the last batch: what to read next.
    pub fn next_offset(&self) -> Offset {
        let bytes = self.batches.iter().map(|batch| batch.bytes().len() as u64).sum();
        // The sum of an offset and the lengths of what is kept in memory: a peer would have to lie to exceed 2^64.
        self.offset.checked_add(bytes).unwrap_or(Offset::new(u64::MAX))
    }

    /// How many messages the batches have together.
    pub fn messages(&self) -> u64 {
        self.batches.iter().map(Batch::messages).sum()
    }
}

/// The end of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The offset that the next batch will get.
    pub next: Offset,
    /// How many batches the topic has.
    pub batches: u64,
}

/// A topic, as TOPICS lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSummary {
    /// The topic's name.
    pub name: TopicName,
    /// The offset of the oldest batch that is still there; `next` where there is none.
    pub oldest: Offset,
    /// The offset that the next batch will get.
    pub next: Offset,
    /// The bytes of all partitions.
    pub bytes: u64,
    /// The number of partitions.
    pub partitions: u64,
}

impl From<TopicInfo<'_>> for TopicSummary {
    fn from(info: TopicInfo<'_>) -> Self {
        Self {
            name: info.topic.into(),
            oldest: info.oldest,
            next: info.next,
            bytes: info.bytes,
            partitions: info.partitions,
        }
    }
}

/// A server's settings, as CONFIG answers them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerSettings {
    /// The address that the server listens on.
    pub host: String,
    /// The time for a request to make progress, as `15s`.
    pub timeout: String,
    /// The time after which a connection without requests is closed, as `30s`.
    pub idle_timeout: String,
    /// The most bytes of a batch that the server takes, envelope and body; `u64::MAX` where the answer does not say.
    pub batch_bytes_max: u64,
    /// The server's version; `None` for Go logd, which does not say.
    pub version: Option<String>,
    /// The extensions that the server understands; empty for Go logd.
    pub features: Vec<String>,
    /// After how many batches a topic is synced: 1 before every answer, 0 not for this reason; `None` where the answer
    /// does not say it, as that of Go logd.
    pub flush_batches: Option<u64>,
    /// Every line of the answer, as key and value, in order.
    pub lines: Vec<(String, String)>,
}

impl ServerSettings {
    /// Whether the server names the extension.
    pub fn has_feature(&self, name: &str) -> bool {
        self.features.iter().any(|feature| feature == name)
    }

    pub(crate) fn parse(lines: &[u8]) -> Self {
        let config = ServerConfig::parse(lines);
        Self {
            host: config.host.into(),
            timeout: config.timeout.into(),
            idle_timeout: config.idle_timeout.into(),
            batch_bytes_max: config.batch_bytes_max.unwrap_or(u64::MAX),
            version: (!config.version.is_empty()).then(|| config.version.into()),
            features: config.features.split_ascii_whitespace().map(Into::into).collect(),
            flush_batches: config.flush_batches,
            lines: owned_pairs(lines),
        }
    }
}

/// The `key: value` lines of an answer.
pub(crate) fn owned_pairs(lines: &[u8]) -> Vec<(String, String)> {
    key_values(lines).map(|(key, value)| (key.into(), value.into())).collect()
}
