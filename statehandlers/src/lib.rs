//! Positions in a logd topic, and where readers keep them.
//!
//! A [`Position`] names one message of a topic. It is what a reader remembers to go on where it stopped.

mod position;

pub use position::{Position, PositionError};
