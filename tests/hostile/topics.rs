//! The topics that the test has filled, as the crowd knows them.

use logd_tests::batch;

/// How many batches the topic `large` has: more than buffers on the way take.
pub(crate) const LARGE_BATCHES: usize = 200;

/// Each batch of the topic `large`.
pub(crate) fn large_batch() -> Vec<u8> {
    batch("large", &[&vec![b'x'; 60_000]])
}

/// Each batch of the topics `quiet` and `herd`, and the first one of others.
pub(crate) fn small_batch(topic: &str) -> Vec<u8> {
    batch(topic, &[b"hello"])
}
