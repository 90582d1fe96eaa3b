//! A topic as the connections use it: its storage, and who waits for what in it.
//!
//! Appending is done by the task of the connection, without handing the batch to anybody. Where a sync is due before
//! the answer, one sync serves every connection that waits: while it runs, others append and wait for the next one.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use logd_protocol::{CheckedBatch, Offset, Reason, TopicName};

use crate::host::Host;
use crate::log::{AppendError, Appended, Log};
use crate::throttle::Throttle;
use crate::watch;

/// After so many syncs of a topic those who wait for its thread have their turn: there are few for blocking work, and may
/// be more topics.
const SYNCS_IN_TURN: usize = 16;

#[derive(Debug)]
pub(crate) struct Topic {
    name: TopicName,
    log: Log,
    host: Host,
    /// Changes when readers can see more.
    grown: watch::Sender<()>,
    synced: watch::Sender<Synced>,
    commit: Mutex<Commit>,
    is_maintenance_planned: AtomicBool,
    /// Whether the last thing that the log of the server says is that batches are refused. So a full disk fills it with
    /// one line and not with many, also one that has room for some batches and not for others.
    is_refusing: AtomicBool,
    refusals: Throttle,
    forgotten: Throttle,
    /// For what cannot be read.
    unreadable: Throttle,
}

/// Up to where syncs have come.
#[derive(Debug, Clone, Copy, Default)]
struct Synced {
    end: Offset,
    has_failed: bool,
}

/// What is wanted of the one sync that runs at a time.
#[derive(Debug, Default)]
struct Commit {
    is_running: bool,
    wanted: Offset,
}

impl Topic {
    pub(crate) fn new(name: TopicName, log: Log, host: Host) -> Self {
        Self {
            name,
            log,
            host,
            grown: watch::Sender::new(()),
            synced: watch::Sender::new(Synced::default()),
            commit: Mutex::default(),
            is_maintenance_planned: AtomicBool::new(false),
            is_refusing: AtomicBool::new(false),
            refusals: Throttle::default(),
            forgotten: Throttle::default(),
            unreadable: Throttle::default(),
        }
    }

    pub(crate) const fn name(&self) -> &TopicName {
        &self.name
    }

    pub(crate) const fn log(&self) -> &Log {
        &self.log
    }

    /// For lines about what cannot be read.
    pub(crate) const fn unreadable(&self) -> &Throttle {
        &self.unreadable
    }

    /// A receiver that changes whenever readers can see more.
    pub(crate) fn grown(&self) -> watch::Receiver<()> {
        self.grown.subscribe()
    }

    /// Appends a batch and returns its offset once the write guarantee holds for it. A sync that is due is done by the
    /// caller's thread if `may_block` and nobody is at it.
    ///
    /// # Cancel safety
    /// When the future is dropped the batch may be stored or not; if it is, it is synced as it would have been.
    pub(crate) async fn append(
        self: &Arc<Self>,
        batch: &CheckedBatch<'_>,
        may_block: bool,
    ) -> Result<Offset, Reason> {
        let appended = self.log.append(batch, self.host.now_millis()).map_err(|error| {
            // A disk may be full because dropped partitions are still there.
            if self.log.is_maintenance_due() {
                self.plan_maintenance();
            }
            self.refuse(&error)
        })?;
        // A batch can have been under way when a sync failed.
        if self.is_refusing.load(Ordering::Relaxed)
            && self.log.failure().is_none()
            && self.is_refusing.swap(false, Ordering::Relaxed)
        {
            tracing::info!(topic = %self.name, "appending works again");
        }
        if appended.is_maintenance_due {
            self.plan_maintenance();
        }
        // Readers who cannot see the batch before it is synced are told again by the sync.
        self.grown.announce();
        if appended.is_sync_due {
            self.commit(appended, may_block).await?;
        }
        Ok(appended.offset)
    }

    fn refuse(&self, error: &AppendError) -> Reason {
        // What is forgotten is between the server and one writer: the topic is well.
        if matches!(error, AppendError::Forgotten) {
            if let Some(held_back) = self.forgotten.pass() {
                tracing::warn!(topic = %self.name, %error, held_back, "a batch is refused");
            }
        } else if !self.is_refusing.load(Ordering::Relaxed)
            && let Some(held_back) = self.refusals.pass()
        {
            self.is_refusing.store(true, Ordering::Relaxed);
            tracing::error!(topic = %self.name, %error, held_back, "batches are refused");
        }
        match error {
            AppendError::DiskFull(_) => Reason::DiskFull,
            AppendError::Forgotten => Reason::Forgotten,
            AppendError::Io(_) | AppendError::SyncFailed | AppendError::Exhausted => Reason::StorageFailed,
        }
    }

    /// Waits until a sync has come past the batch; begins one if none is running.
    async fn commit(self: &Arc<Self>, appended: Appended, may_block: bool) -> Result<(), Reason> {
        let synced = self.synced.subscribe();
        let begins = {
            let mut commit = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
            commit.wanted = commit.wanted.max(appended.end);
            !std::mem::replace(&mut commit.is_running, true)
        };
        if begins && !(may_block && self.sync_once()) {
            self.sync_until_done();
        }
        synced.wait_for(|synced| synced.end >= appended.end || synced.has_failed).await;
        let is_synced = synced.look(|synced| synced.end >= appended.end);
        if is_synced { Ok(()) } else { Err(Reason::StorageFailed) }
    }

    /// Syncs by another thread until nothing more is wanted, which may never be while several connections append.
    fn sync_until_done(self: &Arc<Self>) {
        let topic = Arc::clone(self);
        self.host.block(move || {
            if !(0..SYNCS_IN_TURN).any(|_| topic.sync_once()) {
                topic.sync_until_done();
            }
        });
    }

    /// One sync; whether it has come past all that is wanted, or has failed. Then another one may begin.
    fn sync_once(&self) -> bool {
        let end = self.sync();
        let mut commit = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done = end.is_none_or(|end| end >= commit.wanted);
        commit.is_running = !is_done;
        is_done
    }

    /// Syncs what was appended so far and tells those who wait for it. Blocks. Returns up to where, if it succeeded.
    pub(crate) fn sync(&self) -> Option<Offset> {
        let result = self.log.sync();
        let mut had_failed = false;
        self.synced.modify(|synced| match &result {
            Ok(end) => synced.end = synced.end.max(*end),
            Err(_) => had_failed = std::mem::replace(&mut synced.has_failed, true),
        });
        match result {
            Ok(end) => {
                self.grown.announce();
                Some(end)
            }
            Err(error) => {
                self.is_refusing.store(true, Ordering::Relaxed);
                if !had_failed {
                    tracing::error!(topic = %self.name, %error, "the topic takes no more batches until a restart");
                }
                None
            }
        }
    }

    /// Has complete partitions sealed, and dropped ones removed, soon and by another thread.
    pub(crate) fn plan_maintenance(self: &Arc<Self>) {
        if !self.is_maintenance_planned.swap(true, Ordering::AcqRel) {
            let topic = Arc::clone(self);
            self.host.block(move || {
                loop {
                    let is_done = topic.log.maintain();
                    topic.is_maintenance_planned.store(false, Ordering::Release);
                    // What came in between is done by this thread, too, unless another has been planned for it. What
                    // has failed is left until there is a reason to try again.
                    let is_more = is_done && topic.log.is_maintenance_due();
                    if !is_more || topic.is_maintenance_planned.swap(true, Ordering::AcqRel) {
                        return;
                    }
                }
            });
        }
    }
}
