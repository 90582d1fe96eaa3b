//! The conformance suite, run for checkpoints in memory.
#![cfg(feature = "conformance")]

use std::sync::Arc;

use logd_statehandlers::conformance::{Fixture, FixtureError};
use logd_statehandlers::{MemoryState, StateError, StateHandler, async_trait};

struct MemoryFixture(Arc<MemoryState>);

#[async_trait]
impl Fixture for MemoryFixture {
    async fn new() -> Result<Self, FixtureError> {
        Ok(Self(Arc::default()))
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(self.0.clone())
    }

    fn name() -> String {
        "MemoryState".into()
    }
}

logd_statehandlers::conformance!(MemoryFixture);
