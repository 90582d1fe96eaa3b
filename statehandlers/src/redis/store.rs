//! The contract, by means of scripts: each call is one, and what it answers becomes the call's result.

use std::time::Duration;

use ::redis::cmd;
use async_trait::async_trait;
use logd_protocol::parse_u64;

use super::RedisState;
use super::errors::Task;
use super::frame;
use super::keys::Keys;
use super::scripts::{COMPLETE, RELEASE, RENEW, START};
use crate::checkpoint::Checkpoint;
use crate::error::{StateError, StateErrorKind};
use crate::fence::{Claimant, Fence};
use crate::handler::{
    Capabilities, Claim, Committed, Fencing, Grant, LeaseHandler, StateAdmin, StateHandler,
};
use crate::key::ConsumerKey;

/// The longest lease, a hundred years: the server counts milliseconds in 63 bits, from 1970.
const TTL_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

#[async_trait]
impl StateHandler for RedisState {
    async fn get(&self, key: &ConsumerKey) -> Result<Option<Checkpoint>, StateError> {
        let task = Task::Read(key);
        let mut question = cmd("HGET");
        question.arg(Keys::new(key).record).arg("checkpoint");
        let stored: Option<Vec<u8>> = self.connection.send(task, &question).await?;
        stored.map(|stored| frame::decode(&stored)).transpose().map_err(|error| StateError::body(task, error))
    }

    async fn complete(
        &self,
        key: &ConsumerKey,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        let task = Task::Change(key);
        let frame = encode(task, checkpoint)?;
        let [epoch, nonce] = digits(fence);
        let arguments = [epoch.as_bytes(), nonce.as_bytes(), &frame];
        let answer = self.connection.run(task, &COMPLETE, &[&Keys::new(key).record], &arguments).await?;
        match words(&answer).as_slice() {
            [b"stored"] => Ok(Committed::Stored),
            [b"unchanged"] => Ok(Committed::Unchanged),
            answer => Err(refusal(task, answer)),
        }
    }

    fn leases(&self) -> Option<&dyn LeaseHandler> {
        Some(self)
    }

    fn admin(&self) -> Option<&dyn StateAdmin> {
        Some(self)
    }

    /// Durable as far as the server is configured to be.
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE.with_durable().with_fencing(Fencing::BestEffort).with_admin()
    }

    async fn close(&self) -> Result<(), StateError> {
        self.connection.close().await;
        Ok(())
    }
}

#[async_trait]
impl LeaseHandler for RedisState {
    async fn start(
        &self,
        key: &ConsumerKey,
        claimant: &Claimant,
        ttl: Duration,
    ) -> Result<Claim, StateError> {
        let task = Task::Change(key);
        let keys = Keys::new(key);
        let id = format!("{:032x}", claimant.id);
        let nonce = nonce();
        let ttl = milliseconds(ttl);
        let [_, nonce_text] = digits(Fence { epoch: 1, nonce });
        let arguments = [id.as_bytes(), claimant.name.as_bytes(), ttl.as_bytes(), nonce_text.as_bytes()];
        let answer = self.connection.run(task, &START, &[&keys.record, &keys.lease], &arguments).await?;
        match words(&answer).as_slice() {
            [b"granted", epoch, checkpoint @ ..] => {
                let epoch = parse_u64(epoch).map_err(|_| unexpected(task))?;
                let checkpoint = checkpoint.first().map(|stored| frame::decode(stored)).transpose();
                let checkpoint = checkpoint.map_err(|error| StateError::body(task, error))?;
                Ok(Claim::Granted(Grant { fence: Fence { epoch, nonce }, checkpoint }))
            }
            [b"processing", owner, left] => {
                let owner = String::from_utf8_lossy(owner).into_owned();
                let retry_in = parse_u64(left).map(Duration::from_millis).map_err(|_| unexpected(task))?;
                Ok(Claim::Processing { owner, retry_in })
            }
            answer => Err(refusal(task, answer)),
        }
    }

    async fn renew(&self, key: &ConsumerKey, fence: Fence, ttl: Duration) -> Result<(), StateError> {
        let task = Task::Change(key);
        let keys = Keys::new(key);
        let ([epoch, nonce], ttl) = (digits(fence), milliseconds(ttl));
        let arguments = [epoch.as_bytes(), nonce.as_bytes(), ttl.as_bytes()];
        let answer = self.connection.run(task, &RENEW, &[&keys.record, &keys.lease], &arguments).await?;
        done(task, &answer)
    }

    async fn release(
        &self,
        key: &ConsumerKey,
        fence: Fence,
        last: Option<&Checkpoint>,
    ) -> Result<(), StateError> {
        let task = Task::Change(key);
        let keys = Keys::new(key);
        let last = last.map(|last| encode(task, last)).transpose()?;
        let [epoch, nonce] = digits(fence);
        let mut arguments = vec![epoch.as_bytes(), nonce.as_bytes()];
        arguments.extend(last.as_deref());
        let answer = self.connection.run(task, &RELEASE, &[&keys.record, &keys.lease], &arguments).await?;
        done(task, &answer)
    }
}

pub(super) fn encode(task: Task<'_>, checkpoint: &Checkpoint) -> Result<Vec<u8>, StateError> {
    frame::encode(checkpoint).map_err(|error| StateError::body(task, error))
}

/// Epoch and nonce, as a record has them.
pub(super) fn digits(fence: Fence) -> [String; 2] {
    [fence.epoch.to_string(), format!("{:032x}", fence.nonce)]
}

/// For the next grant, whose epoch the server counts.
pub(super) fn nonce() -> u128 {
    Fence::next(0).unwrap_or_default().nonce
}

pub(super) fn words(answer: &[Vec<u8>]) -> Vec<&[u8]> {
    answer.iter().map(Vec::as_slice).collect()
}

pub(super) fn done(task: Task<'_>, answer: &[Vec<u8>]) -> Result<(), StateError> {
    match words(answer).as_slice() {
        [b"done" | b"stored" | b"unchanged"] => Ok(()),
        answer => Err(refusal(task, answer)),
    }
}

/// What a script has refused.
fn refusal(task: Task<'_>, answer: &[&[u8]]) -> StateError {
    match answer {
        [b"fenced"] => StateError::fenced(task),
        [b"lost"] => StateError::lost(task),
        [b"stale", stored] => {
            frame::position(stored).map_or_else(|| unexpected(task), |stored| StateError::stale(task, stored))
        }
        [b"unreadable", stored] => match frame::decode(stored) {
            Err(error) => StateError::body(task, error),
            Ok(_) => {
                task.failed(StateErrorKind::Corrupt, "the server's scripts do not understand what is stored")
            }
        },
        _ => unexpected(task),
    }
}

pub(super) fn unexpected(task: Task<'_>) -> StateError {
    task.failed(StateErrorKind::Corrupt, "the record is none of a checkpoint")
}

fn milliseconds(ttl: Duration) -> String {
    ttl.min(TTL_MAX).as_millis().max(1).to_string()
}
