//! Keys of checkpoints as one word: `namespace/topic/consumer`.
//!
//! What would be taken for a separator, or end a word, is percent-encoded: `/`, `%`, and white space. So every key has
//! exactly one such text, which `ls` prints and every command takes.

use std::fmt;

use logd_client::ConsumerKey;

/// What is said about a text that is no key.
const FORMS: &str =
    "it must be `topic/consumer` or `namespace/topic/consumer`, with `/` in a name as `%2F` and `%` as `%25`";

/// Reads a key; one without a namespace is in `default`.
pub(crate) fn parse(text: &str) -> Result<ConsumerKey, String> {
    let names: Vec<&str> = text.split('/').collect();
    let (namespace, topic, consumer) = match *names.as_slice() {
        [topic, consumer] => (None, topic, consumer),
        [namespace, topic, consumer] => (Some(namespace), topic, consumer),
        _ => return Err(FORMS.into()),
    };
    let name = |text| decode(text).ok_or(FORMS);
    let topic = name(topic)?.parse().map_err(|error| format!("{error}"))?;
    let key = ConsumerKey::new(topic, name(consumer)?).map_err(|error| error.to_string())?;
    match namespace {
        None => Ok(key),
        Some(namespace) => key.in_namespace(name(namespace)?).map_err(|error| error.to_string()),
    }
}

/// A key as a word.
pub(super) struct Word<'a>(pub(super) &'a ConsumerKey);

impl fmt::Display for Word<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(key) = self;
        write!(formatter, "{}/{}/{}", encode(key.namespace()), key.topic(), encode(key.consumer()))
    }
}

fn encode(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for letter in name.chars() {
        if matches!(letter, '/' | '%') || letter.is_whitespace() {
            let mut bytes = [0; 4];
            text.extend(letter.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")));
        } else {
            text.push(letter);
        }
    }
    text
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_has_two_or_three_names() {
        assert_eq!(parse("orders/billing").unwrap().to_string(), "default/orders/billing");
        assert_eq!(parse("shop/orders/billing").unwrap().to_string(), "shop/orders/billing");
        let odd = parse("a%2fb/orders/c%20%25%C3%A4ä").unwrap();
        assert_eq!((odd.namespace(), odd.consumer()), ("a/b", "c %ää"));
        assert_eq!(Word(&odd).to_string(), "a%2Fb/orders/c%20%25ää");
        for text in [
            "", "orders", "/", "orders/", "/billing", "a/b/c/d", "o/%", "o/%2", "o/%+1", "o/%ff", "o/%0a",
            "a b/c",
        ] {
            assert!(parse(text).is_err(), "{text:?} was taken for a key");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_one_word(namespace in "[^\\p{Cc}]{1,20}", consumer in "[^\\p{Cc}]{1,20}") {
            let key = ConsumerKey::new("orders".parse().unwrap(), consumer).and_then(|key| key.in_namespace(namespace)).unwrap();
            let word = Word(&key).to_string();
            prop_assert_eq!(parse(&word).unwrap(), key);
            prop_assert!(!word.contains(char::is_whitespace));
        }
    }
}
