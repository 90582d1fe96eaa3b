//! The logd server.

pub mod disk;
