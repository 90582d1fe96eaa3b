//! The logd server.

pub mod disk;
pub mod log;
