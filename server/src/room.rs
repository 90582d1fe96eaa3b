//! How the files that the process can have open are shared out: those of the topics come first, so that batches are taken
//! and read also when there are as many connections as there can be.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Config;
use crate::connection::THREADS_MAX;

/// How many connections over the limit are told so and are read from until they close, at the same time. Those beyond
/// are told so and closed at once: a peer that has sent something may not see why.
const REJECTIONS_MAX: usize = 256;

/// Files that are open whatever the server does: the runtime's own, the work directory's lock, standard error, and one
/// for a connection that is being accepted.
const OWN_FILES: u64 = 24;

/// A topic's head partition, the times of that, and another partition that is completed or read.
const TOPIC_FILES: u64 = 3;

/// Where there can be any number of topics.
const TOPICS_GUESSED: u64 = 8;

/// Partitions that are read, where there are many: one in so many files.
const READ_SHARE: u64 = 16;

/// At least one file in so many is for connections.
const CONNECTION_SHARE: u64 = 8;

/// So much is kept for everything but connections where there is enough of everything.
const KEPT: u64 = 128 + REJECTIONS_MAX as u64 + THREADS_MAX as u64;

/// How many there can be at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) connections: usize,
    /// Connections that are being refused.
    pub(crate) rejections: usize,
    /// Connections with a thread, which take a second descriptor each.
    pub(crate) threads: usize,
}

impl Room {
    /// Room for everything.
    pub(crate) const fn all(connections: usize) -> Self {
        Self { connections, rejections: REJECTIONS_MAX, threads: THREADS_MAX }
    }

    /// Raises the process's limit of open files as far as the connections need it and it can be raised, and shares out
    /// what there is.
    pub(crate) fn make(config: &Config) -> Self {
        let wanted = config.max_connections;
        let needed = (wanted as u64).saturating_add(KEPT).saturating_add(topic_files(config));
        let limit = getrlimit(Resource::Nofile);
        let Some(current) = limit.current.filter(|current| *current < needed) else {
            return Self::all(wanted);
        };
        // As many as can be had: topics take some, too, and their number is not known.
        let possible = limit.maximum.unwrap_or(needed).max(current);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum: limit.maximum });
        let reached = if raised.is_ok() { possible } else { current };
        if reached >= needed {
            return Self::all(wanted);
        }
        let room = Self::share(reached, config);
        if room.connections < wanted {
            tracing::warn!(
                open_files = reached,
                connections = room.connections,
                "the limit of open files allows fewer connections than asked for"
            );
        }
        room
    }

    fn share(files: u64, config: &Config) -> Self {
        let kept = topic_files(config).saturating_add(OWN_FILES + files / READ_SHARE);
        // Some are left for connections, however many topics there may be.
        let left =
            usize::try_from(files.saturating_sub(kept).max(files / CONNECTION_SHARE)).unwrap_or(usize::MAX);
        let rejections = (left / 8).min(REJECTIONS_MAX);
        let threads = (left / 8).min(THREADS_MAX);
        let connections = left.saturating_sub(rejections + threads).clamp(1, config.max_connections);
        Self { connections, rejections, threads }
    }
}

/// How many files the topics can have open.
const fn topic_files(config: &Config) -> u64 {
    let topics = if config.topics == 0 { TOPICS_GUESSED } else { config.topics as u64 };
    topics.saturating_mul(TOPIC_FILES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_keep_their_files() {
        for (files, topics, left) in
            [(64, 8, 12), (64, 0, 12), (256, 8, 192), (1024, 8, 912), (1024, 1000, 128)]
        {
            let config = Config { topics, max_connections: 4096, ..Config::default() };
            let Room { connections, rejections, threads } = Room::share(files, &config);
            assert_eq!(connections + rejections + threads, left, "{files} files, {topics} topics");
            assert!(connections >= left / 2);
        }
        let none = Room { connections: 1, rejections: 0, threads: 0 };
        assert_eq!(Room::share(0, &Config::default()), none);
    }
}
