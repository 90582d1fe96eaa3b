//! Answers, taken apart.

use std::collections::BTreeMap;

use crate::batch::checksum;
use crate::peer::RawPeer;

/// The answer to a READ or a TAIL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// `OK <offset> <batches>` and the batches, each with its envelope.
    Batches {
        /// Where the first batch starts.
        offset: u64,
        /// The batches.
        batches: Vec<Vec<u8>>,
    },
    /// `ERR <reason>`.
    Nothing(String),
}

impl Found {
    /// Reads the answer from a connection and checks the form of every batch, its checksum too.
    ///
    /// # Panics
    /// When the form is not the protocol's.
    pub(crate) fn read(peer: &mut RawPeer) -> Self {
        let line = peer.read_line();
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["OK", offset, batches] => {
                let offset = offset.parse().expect("an offset is a number");
                let batches: usize = batches.parse().expect("a count is a number");
                Self::Batches { offset, batches: (0..batches).map(|_| read_batch(peer)).collect() }
            }
            ["ERR", ..] => Self::Nothing(line.trim_start_matches("ERR").trim_start().to_owned()),
            _ => panic!("expected batches, received `{line}`"),
        }
    }

    /// The offset and the batches.
    ///
    /// # Panics
    /// When there are none.
    pub fn batches(self) -> (u64, Vec<Vec<u8>>) {
        match self {
            Self::Batches { offset, batches } => (offset, batches),
            Self::Nothing(reason) => panic!("expected batches, received `ERR {reason}`"),
        }
    }
}

fn read_batch(peer: &mut RawPeer) -> Vec<u8> {
    let line = peer.read_line();
    let words: Vec<&str> = line.split(' ').collect();
    let ["BATCH", body_bytes, _topic, crc, _messages, ..] = words.as_slice() else {
        panic!("expected an envelope, received `{line}`")
    };
    let body = peer.read_exact(body_bytes.parse().expect("the bytes of a body are a number"));
    assert_eq!(checksum(&body), crc.parse::<u32>().expect("a checksum is a number"), "checksum of `{line}`");
    let mut batch = line.into_bytes();
    batch.extend_from_slice(b"\r\n");
    batch.extend_from_slice(&body);
    batch
}

/// The counters of `STATS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    keys: Vec<String>,
    counters: BTreeMap<String, String>,
}

impl Stats {
    /// Reads the `key: value` lines.
    ///
    /// # Panics
    /// When a line is none.
    pub fn new(lines: &str) -> Self {
        let mut keys = Vec::new();
        let mut counters = BTreeMap::new();
        for line in lines.split_terminator("\r\n") {
            let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("`{line}` is no `key: value`"));
            keys.push(key.to_owned());
            counters.insert(key.to_owned(), value.to_owned());
        }
        Self { keys, counters }
    }

    /// The keys, in the order of the answer.
    pub fn keys(&self) -> &[String] {
        &self.keys
    }

    /// A counter.
    ///
    /// # Panics
    /// When it is not there or no number.
    pub fn count(&self, key: &str) -> u64 {
        let value = self.counters.get(key).unwrap_or_else(|| panic!("`STATS` has no `{key}`"));
        value.parse().unwrap_or_else(|_| panic!("`{key}` is `{value}`, no number"))
    }

    /// How much a counter has grown since `earlier`.
    ///
    /// # Panics
    /// When it has shrunk.
    pub fn since(&self, earlier: &Self, key: &str) -> u64 {
        let (now, then) = (self.count(key), earlier.count(key));
        now.checked_sub(then).unwrap_or_else(|| panic!("`{key}` shrank from {then} to {now}"))
    }
}
