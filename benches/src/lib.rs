//! What the benchmarks share: the loads, which drive logd and the floor alike, and the processes that are measured.
//!
//! A figure of one run says little on a shared machine; what is compared runs in turn, in one go, under the same load.

pub mod args;
mod load;
pub mod messages;
mod process;

pub use load::{Amount, Load, Work, fill};
pub use process::{Side, Usage};
