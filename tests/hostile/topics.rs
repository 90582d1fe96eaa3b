//! The topics that the test has filled, as the crowd knows them.

use logd_tests::batch;

/// How many batches the topic `large` has: more than buffers on the way take.
pub(crate) const LARGE_BATCHES: usize = 200;

/// Each batch of the topic `large`.
pub(crate) fn large_batch() -> Vec<u8> {
    batch("large", &[&vec![b'x'; 60_000]])
}

/// Each batch of the topic `quiet`.
pub(crate) fn quiet_batch() -> Vec<u8> {
    batch("quiet", &[b"hello"])
}
