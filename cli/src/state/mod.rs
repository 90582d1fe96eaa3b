//! `log-cli state`: look at the checkpoints of readers, move them, copy them to another store, hold them against topics.
//!
//! - `store`: opens what a URL names, and finds checkpoints in it
//! - `list`: `ls` and `show`
//! - `judge`: what a topic says to a checkpoint; `compare`: `lag` and `verify` with it
//! - `change`: `set` and `reset`
//! - `copy`: `copy`
//! - `check`: `check`, of stores in files
//! - `key`: keys as words; `report`: what is printed, for people and for programs
//!
//! Nothing but `set`, `reset`, `copy` and `check --repair` changes anything. What cannot be read is told in its place; the run goes on with
//! the others and ends with [`Exit::Damaged`].

mod change;
mod check;
mod compare;
mod copy;
mod judge;
pub(crate) mod key;
mod list;
mod report;
mod store;

use crate::args::Common;
use crate::args::state::StateCommand;
use crate::exit::{Exit, Failure};

pub(crate) async fn run(common: &Common, command: StateCommand) -> Result<Exit, Failure> {
    match command {
        StateCommand::Ls { keys } => list::ls(&keys).await,
        StateCommand::Show { store, key } => list::show(&store, &key.key).await,
        StateCommand::Lag { keys } => compare::lag(common, &keys).await,
        StateCommand::Set(args) => change::set(common, &args).await,
        StateCommand::Reset(args) => change::reset(common, &args).await,
        StateCommand::Copy(args) => copy::run(&args).await,
        StateCommand::Check(args) => check::run(args).await,
        StateCommand::Verify { keys } => compare::verify(common, &keys).await,
    }
}
