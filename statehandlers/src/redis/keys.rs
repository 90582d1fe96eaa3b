//! Names of readers as Redis keys, and back. Pure.
//!
//! A record is at `logd:{namespace/topic/consumer}`, its lease at the same with `:lease` behind it. The braces are a hash tag:
//! a cluster keeps both in one slot, so that one script may touch them. Bytes of a name other than `A-Z a-z 0-9 _ - .` are
//! written `%` and two upper-case hexadecimal digits, braces and slashes among them: two readers never have the same key.

use std::fmt::Write as _;

use crate::key::ConsumerKey;

const BEGIN: &str = "logd:{";
const END: &str = "}";

/// What matches the keys of all records, and of their leases.
pub(super) const PATTERN: &str = "logd:{*";

/// Where Redis keeps what belongs to one reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// The record: a hash, without a time to live.
    pub(super) record: String,
    /// The lease: a string that is there for as long as its time lasts.
    pub(super) lease: String,
}

impl Keys {
    pub(super) fn new(key: &ConsumerKey) -> Self {
        let [namespace, topic, consumer] =
            [key.namespace(), key.topic().as_str(), key.consumer()].map(encode);
        let record = format!("{BEGIN}{namespace}/{topic}/{consumer}{END}");
        Self { lease: format!("{record}:lease"), record }
    }
}

/// Whose record has this key; `None` when it is the key of none.
pub(super) fn reader(record: &[u8]) -> Option<ConsumerKey> {
    let record = std::str::from_utf8(record).ok()?;
    let mut names = record.strip_prefix(BEGIN)?.strip_suffix(END)?.split('/').map(decode);
    let (namespace, topic, consumer) = (names.next()??, names.next()??, names.next()??);
    let key = ConsumerKey::new(topic.parse().ok()?, consumer).ok()?.in_namespace(namespace).ok()?;
    // No record is found under two names.
    (Keys::new(&key).record == record).then_some(key)
}

fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

fn decode(encoded: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut parts = encoded.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(part.get(2..)?.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(namespace: &str, topic: &str, consumer: &str) -> ConsumerKey {
        ConsumerKey::new(topic.parse().unwrap(), consumer).unwrap().in_namespace(namespace).unwrap()
    }

    #[test]
    fn keys_are_readable_and_tagged() {
        let keys = Keys::new(&key("default", "orders", "billing"));
        assert_eq!(keys.record, "logd:{default/orders/billing}");
        assert_eq!(keys.lease, "logd:{default/orders/billing}:lease");
        let keys = Keys::new(&key("a}b", "orders", "{/%ü:lease"));
        assert_eq!(keys.record, "logd:{a%7Db/orders/%7B%2F%25%C3%BC%3Alease}");
    }

    #[test]
    fn other_keys_are_nobodys() {
        for other in [
            "",
            "logd:{",
            "logd:{}",
            "logd:{a/b}",
            "logd:{a/b/c/d}",
            "logd:{a/b/c}:lease",
            "logd:{a/b/}",
            "logd:{a/b/%63}",
            "logd:{a/b/%7b}",
            "logd:{a/b/%}",
            "logd:{a/b/ü}",
            "logd:{a/b c/d}",
            "x:{a/b/c}",
        ] {
            assert_eq!(reader(other.as_bytes()), None, "{other}");
        }
        assert_eq!(reader(b"logd:{a/b/\xff}"), None);
        assert_eq!(reader(b"logd:{a/b/c}"), Some(key("a", "b", "c")));
    }

    proptest! {
        #[test]
        fn keys_are_their_readers(namespace in "\\PC{1,20}", topic in "[a-z][a-z.]{0,9}", consumer in "\\PC{1,20}") {
            let Ok(made) = ConsumerKey::new(topic.parse().unwrap(), consumer) else { return Ok(()) };
            let Ok(made) = made.in_namespace(namespace) else { return Ok(()) };
            let keys = Keys::new(&made);
            prop_assert_eq!(keys.record.matches('{').count(), 1);
            prop_assert_eq!(keys.record.matches('}').count(), 1);
            prop_assert_eq!(reader(keys.record.as_bytes()), Some(made));
        }
    }
}
