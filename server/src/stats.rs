//! The server's counters, as `STATS` answers them.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use logd_protocol::Command;

/// Counters since the start of the server. Each is exact; together they are not a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    connections_active: AtomicU64,
    connections_rejected: AtomicU64,
    connections_total: AtomicU64,
    requests: [AtomicU64; Command::ALL.len()],
    errors: [AtomicU64; Command::ALL.len()],
    /// Errors that belong to no command: garbage and late requests.
    errors_other: AtomicU64,
    topics_disallowed: AtomicU64,
}

fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn of(counters: &[AtomicU64], command: Command) -> Option<&AtomicU64> {
    counters.get(command as usize)
}

impl Stats {
    pub(crate) fn received(&self, bytes: usize) {
        add(&self.bytes_in, bytes as u64);
    }

    pub(crate) fn sent(&self, bytes: u64) {
        add(&self.bytes_out, bytes);
    }

    pub(crate) fn request(&self, command: Command) {
        if let Some(counter) = of(&self.requests, command) {
            add(counter, 1);
        }
    }

    pub(crate) fn error(&self, command: Option<Command>) {
        add(command.and_then(|command| of(&self.errors, command)).unwrap_or(&self.errors_other), 1);
    }

    pub(crate) fn topic_disallowed(&self) {
        add(&self.topics_disallowed, 1);
    }

    pub(crate) fn connection_rejected(&self) {
        add(&self.connections_rejected, 1);
    }

    /// Counts a connection as active until the guard is dropped.
    pub(crate) fn connection(self: &std::sync::Arc<Self>) -> ConnectionGuard {
        add(&self.connections_active, 1);
        add(&self.connections_total, 1);
        ConnectionGuard(std::sync::Arc::clone(self))
    }

    pub(crate) fn active_connections(&self) -> u64 {
        load(&self.connections_active)
    }

    /// The lines of the answer, in alphabetical order.
    pub(crate) fn lines(&self, topics: usize) -> String {
        let total = |counters: &[AtomicU64]| counters.iter().map(load).sum::<u64>();
        let mut values = vec![
            ("bytes.in".to_owned(), load(&self.bytes_in)),
            ("bytes.out".to_owned(), load(&self.bytes_out)),
            ("conns.active".to_owned(), load(&self.connections_active)),
            ("conns.rejected".to_owned(), load(&self.connections_rejected)),
            ("conns.total".to_owned(), load(&self.connections_total)),
            ("errors.total".to_owned(), total(&self.errors) + load(&self.errors_other)),
            ("requests.total".to_owned(), total(&self.requests)),
            ("topics.disallowed".to_owned(), load(&self.topics_disallowed)),
            ("topics.total".to_owned(), topics as u64),
        ];
        for command in Command::ALL {
            let name = command.as_str().to_ascii_lowercase();
            for (kind, counters) in [("errors", &self.errors), ("requests", &self.requests)] {
                values.push((format!("{kind}.{name}"), of(counters, *command).map_or(0, load)));
            }
        }
        values.sort();
        values.iter().fold(String::new(), |mut lines, (key, value)| {
            // Writing to a string cannot fail.
            let _ = write!(lines, "{key}: {value}\r\n");
            lines
        })
    }
}

/// Counts down when a connection ends, however it ends.
#[derive(Debug)]
pub(crate) struct ConnectionGuard(std::sync::Arc<Stats>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.connections_active.fetch_sub(1, Ordering::Relaxed);
    }
}
