//! What the suite must know of a store to test its handler.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;

use super::hooks::{Disk, Faults, RawAccess, Skew, Transactions};
use crate::error::{StateError, StateErrorKind};
use crate::handler::StateHandler;

/// Why a fixture cannot do what it was asked for. Any error becomes one with `?`.
pub type FixtureError = Box<dyn Error + Send + Sync>;

/// What ends a lease that nobody gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LeaseEnd {
    /// Its time, by the store's clock.
    #[default]
    Time,
    /// The end of whoever holds it: its handler is closed, or its process has died. The time it was asked for is ignored.
    Holder,
}

/// A store under test. Two methods are enough; each of the others lets the suite test more.
///
/// Every property gets a fixture of its own, many of them at once. Dropping it removes the store.
#[async_trait]
pub trait Fixture: Sized + Send + Sync + 'static {
    /// A new and empty store.
    ///
    /// # Errors
    /// Whatever keeps it from being made; the test fails with its text.
    async fn new() -> Result<Self, FixtureError>;

    /// A new handler on the store. Several are open at once, if [`Fixture::is_shared`] says that they can be. A store that
    /// lives in its handler hands out the same one each time.
    ///
    /// # Errors
    /// [`StateError`]; the test fails with its text.
    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError>;

    /// The handler's name in reports; by default that of the fixture.
    fn name() -> String {
        let path = std::any::type_name::<Self>();
        path.rsplit("::").next().unwrap_or(path).to_owned()
    }

    /// Whether several handlers can have the store open at once; by default they can.
    fn is_shared(&self) -> bool {
        true
    }

    /// What ends a lease that nobody gives back; by default its time.
    fn lease_end(&self) -> LeaseEnd {
        LeaseEnd::Time
    }

    /// Where another process finds the store: it is handed to [`Fixture::open_at`] there. `None`, the default, for a store
    /// that no other process can open; then nothing is killed.
    fn location(&self) -> Option<String> {
        None
    }

    /// A handler on the store at a place that [`Fixture::location`] has named, in another process.
    ///
    /// # Errors
    /// [`StateError`]; by default it is not supported.
    async fn open_at(location: &str) -> Result<Arc<dyn StateHandler>, StateError> {
        let text = format!("the fixture opens nothing at `{location}`");
        Err(StateError::new(StateErrorKind::Unsupported, text))
    }

    /// A handler on the store that believes the time to be an hour off. `None`, the default, where its clock cannot be set.
    ///
    /// # Errors
    /// [`StateError`]; the test fails with its text.
    async fn open_skewed(&self, _skew: Skew) -> Result<Option<Arc<dyn StateHandler>>, StateError> {
        Ok(None)
    }

    /// Access to what is stored, behind the handler's back.
    fn raw(&self) -> Option<&dyn RawAccess> {
        None
    }

    /// The disk that the store is on.
    fn disk(&self) -> Option<&dyn Disk> {
        None
    }

    /// The user's own transactions in the store's database.
    fn transactions(&self) -> Option<&dyn Transactions> {
        None
    }

    /// What can go wrong between the handler and its store.
    fn faults(&self) -> Option<&dyn Faults> {
        None
    }

    /// What no error may ever tell: passwords, tokens.
    fn secrets(&self) -> Vec<String> {
        Vec::new()
    }
}
