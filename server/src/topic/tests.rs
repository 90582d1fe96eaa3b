//! Who has the threads on which topics are synced.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use logd_protocol::{Offset, TopicName};
use tokio::runtime::Builder;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Topic;
use crate::disk::OsDisk;
use crate::host::Host;
use crate::log::{Log, LogConfig};

const BOUND: Duration = Duration::from_secs(20);

fn want(topic: &Topic, offset: u64) {
    let mut commit = topic.commit.lock().unwrap_or_else(PoisonError::into_inner);
    commit.wanted = Offset::new(offset);
    commit.is_running = true;
}

#[test]
fn topic_that_is_never_done_with_syncing_leaves_its_thread_to_others() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { partition_bytes: 1 << 20, partitions: 2, flush_batches: 1 };
    let (log, _) = Log::open(Arc::new(OsDisk::new(0o600)), dir.path(), config).unwrap();
    let topic = Arc::new(Topic::new(TopicName::default(), log, Host::Real));
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    want(&topic, u64::MAX);
    let others = runtime.block_on(async {
        topic.sync_until_done();
        timeout(BOUND, spawn_blocking(|| ())).await
    });
    // So that the thread can end.
    want(&topic, 0);
    others.expect("another has had its turn").unwrap();
}
