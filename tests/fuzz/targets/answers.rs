//! What a server answers to any bytes: a simulated server, on a simulated disk, in the thread that asks.
//!
//! - every answer is the one that the description of the protocol asks for, worked out by a model of the topics
//! - whatever was acknowledged is read again on a second connection, byte by byte, at the offset that was told
//! - it does not matter in what pieces the bytes come in
//!
//! The clock stands still but where nothing else is left to do, so that waiting takes no time.

mod machine;
mod model;

use super::reference::checksum;
use super::seal::unsealed;

use self::machine::converse;
use self::model::Model;

pub(crate) const WORDS: &[&[u8]] = super::requests::WORDS;

/// The settings of the server that the model knows.
const BATCH_BYTES_MAX: usize = 2048;
const MESSAGES_MAX: u64 = 100;
const TOPICS_MAX: usize = 3;

pub(crate) fn run(input: &[u8]) {
    let bytes = unsealed(input);
    // A client that sends on is answered up to where the server cannot go on.
    let mut model = Model::new();
    let pieces = 1 + usize::try_from(checksum(&bytes) % 700).unwrap_or_default();
    let expected = model.answers(&bytes);
    let again = model.questions();
    let flush_batches = u64::from(checksum(&bytes) % 3);
    let said = converse(flush_batches, [(bytes.clone(), pieces), (again.clone(), 1 << 20)]);
    model::check(&bytes, &said[0], &expected);
    let expected = model.answers(&again);
    model::check(&again, &said[1], &expected);
}
