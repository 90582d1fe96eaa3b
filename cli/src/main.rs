//! The `log-cli` binary.

fn main() {}
