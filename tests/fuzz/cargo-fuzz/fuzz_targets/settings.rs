//! The target `settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| logd_fuzz::run("settings", bytes));
