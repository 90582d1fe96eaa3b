//! Whose checkpoint: the names that tell one from another.

use std::fmt;

use logd_protocol::TopicName;
use thiserror::Error;

/// The most bytes of a namespace or of a consumer's name: percent-encoded, it is a file's name.
const NAME_BYTES_MAX: usize = 80;

/// A reader of a topic, by name.
///
/// Two keys are the same only if all three names are, byte by byte: no store joins them with a separator that could be
/// part of one. A namespace keeps apart what shares a store: two servers with a topic of the same name, or two
/// applications.
///
/// ```
/// use logd_statehandlers::ConsumerKey;
///
/// let key = ConsumerKey::new("orders".parse()?, "billing")?;
/// assert_eq!((key.namespace(), key.topic().as_str(), key.consumer()), ("default", "orders", "billing"));
/// assert_eq!(key.to_string(), "default/orders/billing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerKey {
    namespace: String,
    topic: TopicName,
    consumer: String,
}

/// A name that no key can have.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the {what} `{}` is none: it must have 1 to {NAME_BYTES_MAX} bytes, and no control characters", name.escape_debug())]
pub struct KeyError {
    /// Which of the names it should have been.
    pub what: &'static str,
    /// The name.
    pub name: String,
}

impl ConsumerKey {
    /// The namespace of keys that name none.
    pub const NAMESPACE_DEFAULT: &str = "default";

    /// The reader `consumer` of a topic, in the namespace `default`. Names are any text of 1 to 80 bytes without control
    /// characters.
    ///
    /// # Errors
    /// [`KeyError`] when the name is none.
    pub fn new(topic: TopicName, consumer: impl Into<String>) -> Result<Self, KeyError> {
        let consumer = checked("consumer", consumer.into())?;
        Ok(Self { namespace: Self::NAMESPACE_DEFAULT.into(), topic, consumer })
    }

    /// The same reader in another namespace.
    ///
    /// # Errors
    /// [`KeyError`] when the name is none.
    pub fn in_namespace(self, namespace: impl Into<String>) -> Result<Self, KeyError> {
        Ok(Self { namespace: checked("namespace", namespace.into())?, ..self })
    }

    /// What keeps this key apart from those of other applications.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The topic that is read.
    pub const fn topic(&self) -> &TopicName {
        &self.topic
    }

    /// The reader's name.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }
}

impl fmt::Display for ConsumerKey {
    /// For people: a `/` in a name is not told from one between names.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, topic, consumer } = self;
        write!(formatter, "{namespace}/{topic}/{consumer}")
    }
}

fn checked(what: &'static str, name: String) -> Result<String, KeyError> {
    let is_name = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if is_name { Ok(name) } else { Err(KeyError { what, name }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_bounds() {
        let topic = TopicName::default();
        for name in ["a", " ", "ü/ö", ".", "..", &"x".repeat(80)] {
            let key = ConsumerKey::new(topic.clone(), name).unwrap().in_namespace(name).unwrap();
            assert_eq!((key.namespace(), key.consumer()), (name, name));
        }
        for name in ["", "a\nb", "\0", "\u{7f}", &"x".repeat(81), &"ü".repeat(41)] {
            let error = ConsumerKey::new(topic.clone(), name).unwrap_err();
            assert!(error.to_string().starts_with("the consumer `"), "{error}");
            let key = ConsumerKey::new(topic.clone(), "a").unwrap();
            assert!(key.in_namespace(name).is_err());
        }
    }
}
