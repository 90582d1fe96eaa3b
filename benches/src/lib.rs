//! What the benchmarks share: the loads, which drive logd and the floor alike, the processes that are measured, and the
//! sets of loads that `side-by-side` runs.
//!
//! A figure of one run says little on a shared machine; what is compared runs in turn, in one go, under the same load.

pub mod args;
mod connection;
mod figures;
mod load;
mod process;
mod report;
mod sets;

pub use report::Report;
pub use sets::run;
