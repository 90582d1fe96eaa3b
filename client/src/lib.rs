//! The async client of logd.
