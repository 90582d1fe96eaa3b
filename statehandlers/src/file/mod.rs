//! Checkpoints in files: a folder that several processes of a machine can share.
//!
//! `root/<namespace>/<topic>/<consumer>.ckpt` is a record, in a form that people can read; names are percent-encoded.
//! Beside it, `.lock` is locked for as long as a lease is held, `.write` while the record is replaced, and `.tmp` is the
//! next record while it is written: it is never read, and what a crash leaves of it goes with the next write. What
//! [`FileState::repair`] has taken out of use ends in `.aside`, and is never touched again.
//!
//! - `store`: the requests, as blocking calls; their order of syncs and renames
//! - `frame`: the form of a record's file
//! - `marker`: what makes a folder a store
//! - `names`: names of keys as names of files
//! - `check`: what is damaged, and taking it out of use
//! - `disk`: the calls on the file system

mod check;
mod disk;
mod frame;
mod marker;
mod names;
mod store;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;

pub use self::check::{FileCheck, FileFault, FileFinding};
use self::disk::Disk;
use self::marker::{Marker, Missing};
use self::store::{Folders, Store, WRITE_WAIT};
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{
    Capabilities, Claim, Committed, Fencing, LeaseHandler, StateAdmin, StateEntry, StateHandler,
};
use crate::key::ConsumerKey;
use crate::record::what;

/// Keeps checkpoints in the files of a folder.
///
/// # Durability
/// What was reported as stored is synced, with the folders above it: it survives a kill of the process, and a loss of
/// power as far as the disk keeps what it says it has synced. A failed sync is never reported as success, and never
/// trusted later: the request can be repeated, and then writes everything again.
///
/// # Leases
/// A lease is a lock on a file, which the system frees when the process ends in whatever way: the next claimant is granted
/// it at once. So it does not run out, and the time that it is asked for is ignored (but cannot be zero). A process that
/// is stopped or hangs keeps its lease; [`StateAdmin::reset`] frees it.
/// Leases also end when the handler is closed or dropped; one that has ended is not renewed. Fences are strict.
///
/// # Sharing
/// Any number of handlers and processes can use a folder at once, on a local file system. On one that is mounted over a
/// network, locks may hold within one machine only: such a folder must have one machine that uses it.
///
/// # Damage
/// Whatever is empty, cut, changed or of a later version is an error, and stays as it is; [`StateAdmin::reset`] and
/// [`StateAdmin::delete`] replace it, and nothing else does. A lease on an unreadable record cannot be told: a reset fences
/// whoever had it, and goes on with an epoch from the clock, behind all that can have been granted. A root that is gone,
/// or another than was opened, is an error as well.
/// The `.write` files must not be removed while the store is in use, and nothing else in it needs to be.
///
/// # Runtime
/// The blocking calls run on tokio's threads for them; without a tokio runtime, on the thread that polls.
///
/// ```
/// use logd_statehandlers::{Checkpoint, ConsumerKey, Fence, FileState, StateHandler};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # let folder = tempfile::tempdir()?;
/// # let root = folder.path().join("state");
/// # runtime.block_on(async {
/// let state = FileState::open(root).await?;
/// let key = ConsumerKey::new("orders".parse()?, "billing")?;
/// assert_eq!(state.get(&key).await?, None);
/// state.complete(&key, &Checkpoint::at("60.12".parse()?), Fence::NONE).await?;
/// assert_eq!(state.get(&key).await?, Some(Checkpoint::at("60.12".parse()?)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileState {
    store: Arc<Store>,
}

impl FileState {
    /// Opens the store in the folder `root`, which is made if it is not there.
    ///
    /// # Errors
    /// [`StateError`]: the folder cannot be made or read, or a later version has made it.
    ///
    /// # Cancel safety
    /// When the future is dropped, the folder may be made all the same.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StateError> {
        Self::open_with(root.into(), Missing::Make, Disk::default(), WRITE_WAIT).await
    }

    /// Opens the store in the folder `root`, which must be there already: for a folder on a file system that may not be
    /// mounted.
    ///
    /// # Errors
    /// [`StateError`]: there is no store, or it cannot be read, or a later version has made it.
    pub async fn open_existing(root: impl Into<PathBuf>) -> Result<Self, StateError> {
        Self::open_with(root.into(), Missing::Refuse, Disk::default(), WRITE_WAIT).await
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.store.root()
    }

    async fn open_with(
        root: PathBuf,
        missing: Missing,
        disk: Disk,
        write_wait: Duration,
    ) -> Result<Self, StateError> {
        let store = blocking(move || {
            let marker = Marker::open(&disk, &root, missing)?;
            Ok(Store::new(root, marker, disk, write_wait))
        });
        Ok(Self { store: Arc::new(store.await?) })
    }

    /// Runs to its end also when the future is dropped.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        self.store.check_open()?;
        let store = Arc::clone(&self.store);
        blocking(move || work(&store)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    match Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.unwrap_or_else(|error| {
            Err(StateError::caused(StateErrorKind::Ambiguous, "the request was not run to its end", error))
        }),
        Err(_) => work(),
    }
}

/// What could not be read again is not stored.
fn check(key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
    let body = checkpoint.encode().map_err(|error| StateError::body(what(key), error))?;
    match Checkpoint::decode(&body) {
        Ok(_) => Ok(()),
        Err(error) => Err(StateError::caused(StateErrorKind::Invalid, what(key), error)),
    }
}

fn check_ttl(key: &ConsumerKey, ttl: Duration) -> Result<(), StateError> {
    if ttl.is_zero() {
        let text = format!("{}: a lease cannot be for `{ttl:?}`", what(key));
        return Err(StateError::new(StateErrorKind::Invalid, text));
    }
    Ok(())
}

#[async_trait]
impl StateHandler for FileState {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        let key = key.clone();
        self.run(move |store| store.get(&key)).await
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        check(key, checkpoint)?;
        let (key, checkpoint) = (key.clone(), checkpoint.clone());
        self.run(move |store| {
            store.change(&key, Folders::for_fence(fence), |record, existed| {
                record.complete(&key, &checkpoint, fence, existed)
            })
        })
        .await
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        Some(self)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_durable().with_fencing(Fencing::Strict).with_admin()
    }

    async fn close(&self) -> Result<(), StateError> {
        self.store.close();
        Ok(())
    }
}

#[async_trait]
impl LeaseHandler for FileState {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        check_ttl(key, ttl)?;
        let (owned, claimant) = (key.clone(), claimant.clone());
        // Gone with the future.
        let waiting = Arc::new(());
        let awaited = Arc::downgrade(&waiting);
        let is_awaited = move || awaited.strong_count() > 0;
        // The lock comes back with the answer, so that a lease nobody waited for is free again.
        let (claim, held) = self.run(move |store| store.start(&owned, &claimant, is_awaited)).await?;
        if let Some(held) = held {
            self.store.hold(key, held)?;
        }
        Ok(claim)
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        check_ttl(key, ttl)?;
        let key = key.clone();
        self.run(move |store| store.renew(&key, fence)).await
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        if let Some(last) = last {
            check(key, last)?;
        }
        let (key, last) = (key.clone(), last.cloned());
        self.run(move |store| store.release(&key, fence, last.as_ref())).await
    }
}

#[async_trait]
impl StateAdmin for FileState {
    async fn list(&self) -> Result<Vec<StateEntry>, StateError> {
        self.run(Store::list).await
    }

    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        check(key, checkpoint)?;
        let (key, checkpoint) = (key.clone(), checkpoint.clone());
        self.run(move |store| store.reset(&key, &checkpoint)).await
    }

    async fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError> {
        let key = key.clone();
        self.run(move |store| store.delete(&key)).await
    }
}
