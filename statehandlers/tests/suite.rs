//! The conformance suite finds what it is there to find: handlers that break their contract fail by name.
#![cfg(feature = "conformance")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use logd_statehandlers::conformance::{Fixture, FixtureError, Outcome, report};
use logd_statehandlers::{
    Capabilities, Checkpoint, Committed, ConsumerKey, Fence, Fencing, StateError, StateHandler, async_trait,
};

/// What is wrong with a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    GoesBack,
    MixesNames,
    DeclaresAll,
}

#[derive(Debug)]
struct Map {
    defect: Defect,
    records: Mutex<BTreeMap<String, Checkpoint>>,
}

impl Map {
    fn name(&self, key: &ConsumerKey) -> String {
        if self.defect == Defect::MixesNames { key.to_string() } else { format!("{key:?}") }
    }
}

#[async_trait]
impl StateHandler for Map {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(&self.name(key)).cloned())
    }

    async fn complete(&self, key: &ConsumerKey, new: &Checkpoint, _: Fence) -> Result<Committed, StateError> {
        new.encode().map_err(|error| StateError::body("not stored", error))?;
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        match records.get(&self.name(key)) {
            Some(old) if old.next > new.next && self.defect != Defect::GoesBack => {
                return Err(StateError::stale("not stored", old.next));
            }
            Some(old) if old == new => return Ok(Committed::Unchanged),
            _ => records.insert(self.name(key), new.clone()),
        };
        Ok(Committed::Stored)
    }

    fn capabilities(&self) -> Capabilities {
        match self.defect {
            Defect::DeclaresAll => Capabilities::NONE
                .with_durable()
                .with_fencing(Fencing::Strict)
                .with_admin()
                .with_transactions(),
            _ => Capabilities::NONE,
        }
    }
}

struct MapFixture<const DEFECT: usize>(Arc<Map>);

const DEFECTS: [Defect; 4] = [Defect::None, Defect::GoesBack, Defect::MixesNames, Defect::DeclaresAll];

#[async_trait]
impl<const DEFECT: usize> Fixture for MapFixture<DEFECT> {
    async fn new() -> Result<Self, FixtureError> {
        let defect = *DEFECTS.get(DEFECT).ok_or("there is no such defect")?;
        Ok(Self(Arc::new(Map { defect, records: Mutex::default() })))
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(self.0.clone())
    }

    fn name() -> String {
        format!("a map with the defect {:?}", DEFECTS.get(DEFECT))
    }
}

fn failures<const DEFECT: usize>() -> Vec<&'static str> {
    let results = report::<MapFixture<DEFECT>>();
    results.iter().filter(|result| result.outcome.is_failure()).map(|result| result.name).collect()
}

#[test]
fn sound_handler_fails_nothing() {
    assert_eq!(failures::<0>(), Vec::<&str>::new());
}

#[test]
fn position_that_goes_back_is_found() {
    let failures = failures::<1>();
    for name in [
        "monotonic::older_is_stale_and_changes_nothing",
        "monotonic::late_duplicate_does_not_regress",
        "monotonic::concurrent_completes_end_at_the_maximum",
        "cancel::dropped_complete_landing_late_cannot_regress",
        "model::random_histories_end_as_the_reference",
    ] {
        assert!(failures.contains(&name), "{name} has not failed, only {failures:?}");
    }
}

#[test]
fn names_that_collide_are_found() {
    assert_eq!(failures::<2>(), ["naming::no_names_collide"]);
}

#[test]
fn what_is_declared_and_not_there_is_found() {
    assert!(failures::<3>().contains(&"declared::declares_what_it_has"));
}

#[test]
fn what_is_not_tested_says_why() {
    for result in report::<MapFixture<0>>() {
        let is_of_group = |group: &str| result.name.starts_with(group);
        let is_declared =
            !["durable::", "fenced::", "admin::", "tx::", "faults::"].into_iter().any(is_of_group);
        match result.outcome {
            Outcome::Skipped(why) => assert!(!why.is_empty(), "{}", result.name),
            outcome => assert!(is_declared, "{}: {outcome}", result.name),
        }
    }
}
