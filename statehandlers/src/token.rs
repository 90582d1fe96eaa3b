//! Tokens: the right to store one checkpoint within a transaction of the user's.

use crate::fence::Fence;
use crate::handler::Grant;
use crate::key::ConsumerKey;
use crate::position::Position;

/// What a checkpoint within a transaction of the user's is stored against: it is, if the record still has this fence and
/// this position, and otherwise nothing is.
///
/// Storing one gives the token for the next, which holds once the transaction is committed, and not before: keep the old
/// one until then, and go on with it after a rollback. Two tokens in the wrong order fail, as does one that is used twice
/// for positions that advance. When it is not known whether a transaction was committed, read the checkpoint: if it has
/// the new position, go on with the new token, otherwise with the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Whose checkpoint.
    pub key: ConsumerKey,
    /// The fence of the reader's grant.
    pub fence: Fence,
    /// The position that is stored; `None` if there is no checkpoint yet.
    pub expected: Option<Position>,
}

impl Token {
    /// The first token of a reader that was granted the lease.
    pub fn new(key: ConsumerKey, grant: &Grant) -> Self {
        let expected = grant.checkpoint.as_ref().map(|checkpoint| checkpoint.next);
        Self { key, fence: grant.fence, expected }
    }

    /// The token to go on with, once `next` is committed.
    #[must_use]
    pub fn advanced(&self, next: Position) -> Self {
        Self { expected: Some(next), ..self.clone() }
    }
}
