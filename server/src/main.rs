//! The `logd` binary.

fn main() {}
