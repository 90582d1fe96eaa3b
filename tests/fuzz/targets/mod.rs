//! What is tried with bytes of any kind: a function for each boundary at which logd reads what others have written.
//!
//! Each takes any bytes, gives them to the reader of that boundary, and panics when something that must hold for all
//! bytes does not. What it says depends on the bytes alone, so that an input that was found once is found again.
//!
//! Checksums would keep random changes from ever getting behind them. So an input that begins with `!` or `#` has its
//! batches made whole first: see `seal`.

mod answers;
mod batches;
mod checkpoints;
mod files;
mod reader;
mod recovery;
mod reference;
mod requests;
mod responses;
mod scratch;
mod seal;
mod settings;
mod spool;
mod states;

/// A boundary, and what is tried there.
pub(crate) struct Target {
    /// The name of the target, of its test and of its folder in the corpus.
    pub(crate) name: &'static str,
    /// Panics when something does not hold for these bytes.
    pub(crate) run: fn(&[u8]),
    /// What often stands in its inputs.
    pub(crate) words: &'static [&'static [u8]],
}

/// Every target.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "requests", run: requests::run, words: requests::WORDS },
    Target { name: "responses", run: responses::run, words: responses::WORDS },
    Target { name: "batches", run: batches::run, words: batches::WORDS },
    Target { name: "recovery", run: recovery::run, words: recovery::WORDS },
    Target { name: "spool", run: spool::run, words: spool::WORDS },
    Target { name: "checkpoints", run: checkpoints::run, words: checkpoints::WORDS },
    Target { name: "states", run: states::run, words: states::WORDS },
    Target { name: "answers", run: answers::run, words: answers::WORDS },
    Target { name: "reader", run: reader::run, words: reader::WORDS },
    Target { name: "settings", run: settings::run, words: settings::WORDS },
];
