//! Topic names: 1 to 255 of `A-Z a-z 0-9 . _ -`, not starting with `.`, so that a name is always a plain directory.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::TOPIC_BYTES_MAX;

/// Why a text is no topic name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TopicNameError {
    /// The name has no characters.
    #[error("a topic name cannot be empty")]
    Empty,
    /// The name is longer than [`TOPIC_BYTES_MAX`].
    #[error("a topic name has at most {TOPIC_BYTES_MAX} characters")]
    TooLong,
    /// The name starts with a dot.
    #[error("a topic name cannot start with `.`")]
    LeadingDot,
    /// The name has a character that is not allowed.
    #[error("a topic name consists of `A-Z a-z 0-9 . _ -`")]
    Character,
}

/// A valid topic name, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicRef<'a>(&'a str);

impl<'a> TopicRef<'a> {
    /// Checks that `name` is a topic name.
    ///
    /// # Errors
    /// [`TopicNameError`] says which rule the name breaks.
    pub fn parse(name: &'a [u8]) -> Result<Self, TopicNameError> {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        match name.first() {
            None => return Err(TopicNameError::Empty),
            Some(b'.') => return Err(TopicNameError::LeadingDot),
            Some(_) => {}
        }
        if name.len() > TOPIC_BYTES_MAX {
            return Err(TopicNameError::TooLong);
        }
        if !name.iter().all(allowed) {
            return Err(TopicNameError::Character);
        }
        std::str::from_utf8(name).map(Self).map_err(|_| TopicNameError::Character)
    }

    /// The name as text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for TopicRef<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A valid topic name of its own. Cloning it is cheap. The default is the topic `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks that `name` is a topic name and keeps it.
    ///
    /// # Errors
    /// [`TopicNameError`] says which rule the name breaks.
    pub fn new(name: impl AsRef<[u8]>) -> Result<Self, TopicNameError> {
        TopicRef::parse(name.as_ref()).map(Self::from)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, borrowed.
    pub fn as_topic(&self) -> TopicRef<'_> {
        TopicRef(&self.0)
    }
}

impl Default for TopicName {
    fn default() -> Self {
        Self("default".into())
    }
}

impl From<TopicRef<'_>> for TopicName {
    fn from(name: TopicRef<'_>) -> Self {
        Self(name.0.into())
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(name: &str) -> Result<Self, TopicNameError> {
        Self::new(name)
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
