//! List, reset, delete.
//!
//! Listing walks over the whole database with `SCAN`: it never keeps the server from other work, and misses no record that is
//! there from beginning to end. An index would be quicker, but not in the slot of the records, and so could be wrong.

use std::collections::BTreeMap;

use ::redis::{RedisError, Value, cmd, from_redis_value, pipe};
use async_trait::async_trait;
use logd_protocol::parse_u64;

use super::RedisState;
use super::errors::Task;
use super::frame;
use super::keys::{self, Keys};
use super::scripts::{DELETE, RESET};
use super::store::{digits, done, encode, nonce, unexpected, words};
use crate::checkpoint::Checkpoint;
use crate::error::StateError;
use crate::fence::Fence;
use crate::handler::{StateAdmin, StateEntry};
use crate::key::ConsumerKey;

/// How many keys the server looks at in one go, a matter of less than a millisecond.
const SCAN_COUNT: usize = 500;

/// What is shown of a record: epoch, checkpoint, the holder's id and name.
type Shown = (Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>);

#[async_trait]
impl StateAdmin for RedisState {
    async fn list(&self) -> Result<Vec<StateEntry>, StateError> {
        let mut entries = BTreeMap::new();
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(keys::PATTERN).arg("COUNT").arg(SCAN_COUNT);
            let (next, found): (Vec<u8>, Vec<Vec<u8>>) = self.connection.send(Task::List, &scan).await?;
            let readers = found.iter().filter_map(|record| keys::reader(record)).collect();
            entries.extend(self.entries(readers).await?);
            if next == b"0" {
                return Ok(entries.into_values().collect());
            }
            cursor = next;
        }
    }

    async fn reset(&self, key: &ConsumerKey, checkpoint: &Checkpoint) -> Result<(), StateError> {
        let task = Task::Change(key);
        let keys = Keys::new(key);
        let frame = encode(task, checkpoint)?;
        let [_, nonce] = digits(Fence { epoch: 1, nonce: nonce() });
        let arguments = [nonce.as_bytes(), &frame];
        let answer = self.connection.run(task, &RESET, &[&keys.record, &keys.lease], &arguments).await?;
        done(task, &answer)
    }

    async fn delete(&self, key: &ConsumerKey) -> Result<bool, StateError> {
        let task = Task::Change(key);
        let keys = Keys::new(key);
        let answer = self.connection.run(task, &DELETE, &[&keys.record, &keys.lease], &[]).await?;
        match words(&answer).as_slice() {
            [b"deleted"] => Ok(true),
            [b"missing"] => Ok(false),
            _ => Err(unexpected(task)),
        }
    }
}

impl RedisState {
    /// The entries of these readers; not of those who are gone since they were found.
    async fn entries(
        &self,
        readers: Vec<ConsumerKey>,
    ) -> Result<BTreeMap<ConsumerKey, StateEntry>, StateError> {
        if readers.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut questions = pipe();
        for reader in &readers {
            let keys = Keys::new(reader);
            questions.cmd("HMGET").arg(&keys.record).arg(&["epoch", "checkpoint", "owner", "owner_name"]);
            questions.cmd("GET").arg(&keys.lease);
        }
        questions.ignore_errors();
        let answers: Vec<Result<Value, RedisError>> =
            self.connection.send_all(Task::List, &questions).await?;
        let mut answers = answers.into_iter();
        let mut entries = BTreeMap::new();
        for key in readers {
            let (Some(record), Some(lease)) = (answers.next(), answers.next()) else { break };
            if let Some(entry) = self.entry(key, record, lease) {
                entries.insert(entry.key.clone(), entry);
            }
        }
        Ok(entries)
    }

    fn entry(
        &self,
        key: ConsumerKey,
        record: Result<Value, RedisError>,
        lease: Result<Value, RedisError>,
    ) -> Option<StateEntry> {
        let task = Task::Read(&key);
        let shown = record.and_then(|record| Ok(from_redis_value::<Shown>(record)?));
        let (epoch, checkpoint, owner, owner_name) = match shown {
            Ok((None, None, ..)) => return None,
            Ok(shown) => shown,
            Err(error) => {
                let checkpoint = Err(self.connection.failed(task, error));
                return Some(StateEntry { key, checkpoint, epoch: 0, owner: None });
            }
        };
        let checkpoint = checkpoint.map(|stored| frame::decode(&stored)).transpose();
        let checkpoint = checkpoint.map_err(|error| StateError::body(task, error));
        // A lease that is another's was granted after the record was looked at.
        let holder =
            lease.and_then(|lease| Ok(from_redis_value::<Option<Vec<u8>>>(lease)?)).unwrap_or_default();
        let owner_name = owner_name.filter(|_| holder.is_some() && holder == owner);
        Some(StateEntry {
            epoch: epoch.map_or(Some(0), |epoch| parse_u64(&epoch).ok()).unwrap_or_default(),
            owner: owner_name.map(|name| String::from_utf8_lossy(&name).into_owned()),
            checkpoint,
            key,
        })
    }
}
