//! Names of keys as names of files, and back. Pure.
//!
//! Bytes other than `A-Z a-z 0-9 _ - .` are written `%` and two upper-case hexadecimal digits, and so is a leading dot: no
//! name is hidden, `.` or `..`, and two names are never written alike. The longest name takes 240 bytes, which leaves room
//! for an ending. Every ending is added to the whole name, so that a name which has one itself stays apart.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::key::ConsumerKey;

/// The ending of a record's file.
const RECORD: &str = ".ckpt";

/// Where the files of a key are.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    /// The folder of the namespace, in the root.
    pub(super) namespace: PathBuf,
    /// The folder of the topic, in that of the namespace: all of the files are in it.
    pub(super) topic: PathBuf,
    /// The record.
    pub(super) record: PathBuf,
    /// The next record, while it is written. Whoever has the lock for writing may remove it.
    pub(super) temporary: PathBuf,
    /// Locked as long as the lease is held. Opened and removed only under the lock for writing.
    pub(super) lease: PathBuf,
    /// Locked while the record is read and replaced. Never removed.
    pub(super) write: PathBuf,
}

impl Paths {
    pub(super) fn new(root: &Path, key: &ConsumerKey) -> Self {
        let namespace = root.join(encode(key.namespace()));
        let topic = namespace.join(encode(key.topic().as_str()));
        let consumer = encode(key.consumer());
        let file = |ending: &str| topic.join(format!("{consumer}{ending}"));
        Self {
            record: file(RECORD),
            temporary: file(".tmp"),
            lease: file(".lock"),
            write: file(".write"),
            topic,
            namespace,
        }
    }
}

/// The consumer whose record a file with this name is; `None` when it is none.
pub(super) fn consumer(file_name: &str) -> Option<String> {
    decode(file_name.strip_suffix(RECORD)?)
}

/// What a file in the folder of a topic is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A record.
    Record,
    /// The next record of a consumer, while it is written.
    Temporary,
    /// Locked by somebody.
    Lock,
    /// None of the store's.
    Foreign,
}

pub(super) fn kind(file_name: &str) -> Kind {
    let kinds =
        [(RECORD, Kind::Record), (".tmp", Kind::Temporary), (".lock", Kind::Lock), (".write", Kind::Lock)];
    let kind = kinds.iter().find(|(ending, _)| {
        file_name.strip_suffix(ending).and_then(decode).is_some_and(|name| !name.is_empty())
    });
    kind.map_or(Kind::Foreign, |(_, kind)| *kind)
}

pub(super) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' => encoded.push(char::from(byte)),
            b'.' if index > 0 => encoded.push('.'),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

/// The name that `encode` writes like this; `None` if it writes none so.
pub(super) fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut parts = encoded.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok().filter(|name| encode(name) == encoded)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_plain_files() {
        for (name, encoded) in [
            ("billing", "billing"),
            (".", "%2E"),
            ("..", "%2E."),
            ("a.b", "a.b"),
            ("a/b", "a%2Fb"),
            ("%2E", "%252E"),
            ("ü", "%C3%BC"),
            ("a b", "a%20b"),
        ] {
            assert_eq!(encode(name), encoded);
            assert_eq!(decode(encoded).as_deref(), Some(name));
        }
        assert_eq!(encode(&"/".repeat(80)).len(), 240);
    }

    #[test]
    fn what_is_not_written_so_is_no_name() {
        for encoded in ["a%2", "%", "%2e", "%41", "%+1", "%FF", "a b", ".a", "%ü", "ü"] {
            assert_eq!(decode(encoded), None, "{encoded}");
        }
        assert_eq!(consumer("a.ckpt.ckpt").as_deref(), Some("a.ckpt"));
        assert_eq!(consumer("a.lock"), None);
    }

    #[test]
    fn files_of_a_key_are_its_own() {
        let names = ["a", "a.ckpt", "a.lock", "a.tmp", "a.write", ".a", "a/b", "%2Ea"];
        let mut all = HashSet::new();
        for name in names {
            let key = ConsumerKey::new("t".parse().unwrap(), name).unwrap();
            let Paths { record, temporary, lease, write, .. } = Paths::new(Path::new("root"), &key);
            all.extend([record, temporary, lease, write]);
        }
        assert_eq!(all.len(), 4 * names.len());
    }

    proptest! {
        #[test]
        fn encoding_loses_nothing(name in "\\PC{1,40}") {
            prop_assert_eq!(decode(&encode(&name)), Some(name));
        }

        #[test]
        fn no_text_panics(text in "[%0-9a-fA-Fü.]{0,12}") {
            let _ = decode(&text);
        }
    }
}
