//! What is to be measured, checked before anything is asked of the server.

use std::time::Duration;

use logd_client::{Batch, BatchBuilder, ClientConfig, ServerSettings, TopicName};

use super::messages::BUFFERED_BATCHES;
use crate::args::Common;
use crate::args::bench::Bench;
use crate::exit::{Exit, Failure};

/// The messages that whole batches are filled with.
const MESSAGE_BYTES: usize = 100;
/// The most memory that the connections may take together.
const MEMORY_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;

/// What a phase does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Write,
    Read,
}

impl Work {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// A measurement.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: ClientConfig,
    pub(super) connections: usize,
    /// The connections take turns with them.
    pub(super) topics: Vec<TopicName>,
    pub(super) duration: Duration,
    /// The most bytes of a batch, envelope and body.
    pub(super) batch_bytes: usize,
    /// Small messages of so many bytes, instead of whole batches.
    pub(super) message_bytes: Option<usize>,
    /// How long a batch of messages that is not full waits for more.
    pub(super) wait_interval: Duration,
    writes: bool,
    reads: bool,
    /// Whether the server has to sync before each answer.
    syncs: bool,
}

impl Plan {
    pub(super) fn new(common: &Common, args: &Bench) -> Result<Self, Failure> {
        let usage = |text: String| Failure::new(Exit::Usage, text);
        if args.topics > args.conns {
            return Err(usage(format!(
                "`--topics` is `{}` and `--conns` is `{}`: each topic needs a connection",
                args.topics, args.conns
            )));
        }
        let topics = (0..args.topics)
            .map(|number| TopicName::new(format!("{}{number}", args.topic_prefix)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| usage(format!("`--topic-prefix` is `{}`: {error}", args.topic_prefix)))?;
        // A buffer that grows can have room for twice of what it holds.
        let batches = if args.messages.is_some() { 2 * BUFFERED_BATCHES } else { 2 };
        let memory = args.conns.saturating_mul(args.size).saturating_mul(batches);
        if memory > MEMORY_BYTES_MAX {
            return Err(usage(format!(
                "`{}` connections with batches of `{}` bytes take up to `{memory}` bytes of memory, more than \
                 `{MEMORY_BYTES_MAX}`: choose smaller `--conns` or `--size`",
                args.conns, args.size
            )));
        }
        let plan = Self {
            config: common.client_config(),
            connections: args.conns,
            topics,
            duration: args.duration,
            batch_bytes: args.size,
            message_bytes: args.messages,
            wait_interval: common.wait_interval,
            writes: !args.only_read,
            reads: !args.only_write,
            syncs: args.sync,
        };
        if let (Some(bytes), true) = (plan.message_bytes, plan.writes) {
            for topic in &plan.topics {
                BatchBuilder::with_ids(topic, plan.batch_bytes).push(&vec![b'x'; bytes]).map_err(
                    |error| usage(format!("{error}: choose smaller `--messages` or a larger `--size`")),
                )?;
            }
        }
        Ok(plan)
    }

    /// The phases in their order.
    pub(super) fn phases(&self) -> impl Iterator<Item = Work> {
        [(self.writes, Work::Write), (self.reads, Work::Read)]
            .into_iter()
            .filter_map(|(is_wanted, work)| is_wanted.then_some(work))
    }

    /// Refuses what the server would refuse.
    pub(super) fn check(&self, server: &ServerSettings) -> Result<(), Failure> {
        let (bytes, bytes_max) = (self.batch_bytes as u64, server.batch_bytes_max);
        if self.writes && bytes > bytes_max {
            let text = format!(
                "`--size` is `{bytes}` and the server at `{}` takes batches of at most `{bytes_max}` bytes: choose no \
                 more than that, or start the server with a larger `--batch-size`",
                self.config.host()
            );
            return Err(Failure::new(Exit::Refused, text));
        }
        if self.syncs && server.flush_batches != Some(1) {
            let what = match server.flush_batches {
                Some(0) => "does not sync before it answers".into(),
                Some(batches) => format!("syncs a topic after `{batches}` batches"),
                None => "does not tell whether it syncs".into(),
            };
            let text = format!(
                "`--sync` needs a server that syncs before each answer, and the one at `{}` {what}: start logd with \
                 `--flush-batches 1`, or leave `--sync` out",
                self.config.host()
            );
            return Err(Failure::new(Exit::Refused, text));
        }
        Ok(())
    }

    /// A full batch for each topic.
    pub(super) fn batches(&self) -> Result<Vec<Batch>, Failure> {
        self.topics.iter().map(|topic| self.batch(topic)).collect()
    }

    fn batch(&self, topic: &TopicName) -> Result<Batch, Failure> {
        let mut builder = BatchBuilder::new(topic, self.batch_bytes);
        while builder.push(&[b'x'; MESSAGE_BYTES]).is_ok() {}
        builder
            .finish()
            .ok_or_else(|| Failure::failed(format!("`--size` is too small for a batch of topic `{topic}`")))
    }
}
