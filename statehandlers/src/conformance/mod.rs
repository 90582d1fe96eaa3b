//! The suite that every store of checkpoints passes, this crate's and yours.
//!
//! Implement [`Fixture`], which makes an empty store and opens handlers on it, and write one line in a test file:
//!
//! ```text
//! logd_statehandlers::conformance!(MapFixture);
//! ```
//!
//! It becomes one test a property, in a module a group: `basic::every_field_comes_back`, `fenced::zombies_change_nothing`.
//! No runtime is needed: each test brings its own. Everything else of a fixture is optional, and lets more be tested:
//! [`Fixture::location`] and [`Fixture::open_at`] let another process write to the store and be killed, [`Fixture::raw`]
//! lets what is stored be damaged, and so on.
//!
//! # What is tested
//! | group | of which handlers | what holds |
//! |---|---|---|
//! | `declared` | all | what is declared is there |
//! | `basic` | all | what is stored comes back, every field of it, at every position |
//! | `monotonic` | all | a position never goes back, whoever writes, however late |
//! | `naming` | all | keys never meet, whatever characters they are made of |
//! | `cancel` | all | a call that was dropped leaves the old or the new, and a handler that works |
//! | `model` | all | random histories end as those of a reference of forty lines |
//! | `durable` | [`Capabilities::durable`](crate::Capabilities::durable) | a kill loses nothing; what is damaged is an error, never a start from zero |
//! | `fenced` | [`Capabilities::fencing`](crate::Capabilities::fencing) | one holder at a time, and whoever was replaced changes nothing |
//! | `admin` | [`Capabilities::admin`](crate::Capabilities::admin) | list, reset, delete; a store can be moved into another |
//! | `tx` | [`Capabilities::transactions`](crate::Capabilities::transactions) | results and position are stored together or not at all |
//! | `faults` | fixtures with [`Fixture::faults`] | cut connections, restarts and hanging servers end in errors that tell the truth |
//!
//! What a handler declares and does not do fails. What it does and does not declare is reported, and so is what is skipped,
//! on a line of standard error each, which libtest never hides:
//!
//! ```text
//! skipped: MapState: durable::survives_reopen: it is not declared durable
//! ```
//!
//! # Repeating a failure
//! The groups `model` and `monotonic` make random choices from a seed, which a failure tells as `LOGD_TEST_SEED=…`. Set
//! the environment variable of that name to have the same choices again.
//!
//! # Example
//! A handler over a map, which has the least a handler can have, and all of its test.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::{Arc, Mutex};
//!
//! use logd_statehandlers::conformance::{Fixture, FixtureError};
//! use logd_statehandlers::{Checkpoint, Committed, ConsumerKey, Fence, StateError, StateHandler, async_trait};
//!
//! #[derive(Debug, Default)]
//! struct MapState(Mutex<BTreeMap<ConsumerKey, Vec<u8>>>);
//!
//! #[async_trait]
//! impl StateHandler for MapState {
//!     async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
//!         let body = self.0.lock().unwrap().get(key).cloned();
//!         body.map(|body| Checkpoint::decode(&body)).transpose().map_err(|error| StateError::body("not read", error))
//!     }
//!
//!     async fn complete(&self, key: &ConsumerKey, new: &Checkpoint, _: Fence) -> Result<Committed, StateError> {
//!         let body = new.encode().map_err(|error| StateError::body("not stored", error))?;
//!         let mut map = self.0.lock().unwrap();
//!         match map.get(key).map(|old| Checkpoint::decode(old)).transpose() {
//!             Err(error) => return Err(StateError::body("not stored", error)),
//!             Ok(Some(old)) if old.next > new.next => return Err(StateError::stale("not stored", old.next)),
//!             Ok(Some(old)) if old == *new => return Ok(Committed::Unchanged),
//!             Ok(_) => map.insert(key.clone(), body),
//!         };
//!         Ok(Committed::Stored)
//!     }
//! }
//!
//! struct MapFixture(Arc<MapState>);
//!
//! #[async_trait]
//! impl Fixture for MapFixture {
//!     async fn new() -> Result<Self, FixtureError> {
//!         Ok(Self(Arc::default()))
//!     }
//!
//!     async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
//!         Ok(self.0.clone())
//!     }
//!
//!     fn name() -> String {
//!         "MapState".into()
//!     }
//! }
//!
//! // In a test file, each property becomes a test:
//! logd_statehandlers::conformance!(MapFixture);
//!
//! // Here, in no test file, they are run one after the other:
//! for result in logd_statehandlers::conformance::report::<MapFixture>() {
//!     assert!(!result.outcome.is_failure(), "{result}");
//! }
//! ```

mod admin;
mod basic;
mod cancel;
mod context;
mod durable;
mod faults;
mod fenced;
mod fixture;
mod hooks;
mod lease;
mod model;
mod monotonic;
mod naming;
mod process;
mod properties;
mod random;
mod reference;
mod tx;
mod verdict;

pub use fixture::{Fixture, FixtureError, LeaseEnd};
pub use hooks::{Cut, Disk, Faults, RawAccess, Skew, Transaction, Transactions};
pub use process::writer_process;
pub use properties::{PropertyResult, report, run};
pub use verdict::Outcome;
