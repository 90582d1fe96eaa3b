//! The store in SQLite passes the suite, and more: faults of its own, and transactions of the user's.
#![cfg(all(feature = "sqlite", feature = "conformance"))]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how a test fails")]

#[path = "sqlite/files.rs"]
mod files;
#[path = "sqlite/opening.rs"]
mod opening;
#[path = "sqlite/process.rs"]
mod process;
#[path = "sqlite/transactions.rs"]
mod transactions;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use logd_protocol::checksum;
use logd_statehandlers::conformance::{Disk, Fixture, FixtureError, RawAccess, Transaction, Transactions};
use logd_statehandlers::sqlite::rusqlite::{self, Connection, params};
use logd_statehandlers::{
    Checkpoint, Committed, ConsumerKey, Fence, Position, SqliteState, StateError, StateErrorKind,
    StateHandler, Token, async_trait,
};
use tempfile::TempDir;

struct SqliteFixture(TempDir);

#[async_trait]
impl Fixture for SqliteFixture {
    async fn new() -> Result<Self, FixtureError> {
        Ok(Self(tempfile::tempdir()?))
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(Arc::new(SqliteState::open(self.path()).await?))
    }

    fn name() -> String {
        "SqliteState".into()
    }

    fn location(&self) -> Option<String> {
        self.path().to_str().map(str::to_owned)
    }

    async fn open_at(location: &str) -> Result<Arc<dyn StateHandler>, StateError> {
        Ok(Arc::new(SqliteState::open(location).await?))
    }

    fn raw(&self) -> Option<&dyn RawAccess> {
        Some(self)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        Some(self)
    }
}

impl SqliteFixture {
    fn path(&self) -> PathBuf {
        self.0.path().join("state.db")
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = Connection::open(self.path())?;
        connection.execute_batch("CREATE TABLE IF NOT EXISTS results (result TEXT NOT NULL)")?;
        Ok(connection)
    }
}

/// What the suite's keys are found by.
fn names(key: &ConsumerKey) -> [&str; 3] {
    [key.namespace(), key.topic().as_str(), key.consumer()]
}

#[async_trait]
impl RawAccess for SqliteFixture {
    async fn read(&self, key: &ConsumerKey) -> Result<Vec<u8>, FixtureError> {
        let sql = "SELECT CAST(body AS BLOB) FROM logd_checkpoints WHERE (namespace, topic, consumer) = (?1, ?2, ?3)";
        Ok(self.connect()?.query_row(sql, names(key), |row| row.get(0))?)
    }

    async fn write(&self, key: &ConsumerKey, bytes: &[u8]) -> Result<(), FixtureError> {
        let sql = "UPDATE logd_checkpoints SET body = CAST(?4 AS TEXT) WHERE (namespace, topic, consumer) = (?1, ?2, ?3)";
        let [namespace, topic, consumer] = names(key);
        let count = self.connect()?.execute(sql, params![namespace, topic, consumer, bytes])?;
        if count == 1 { Ok(()) } else { Err("there is no record".into()) }
    }

    async fn write_body(&self, key: &ConsumerKey, body: &[u8]) -> Result<(), FixtureError> {
        self.write(key, body).await?;
        let connection = self.connect()?;
        let [namespace, topic, consumer] = names(key);
        let sql =
            "UPDATE logd_checkpoints SET body_crc = ?4 WHERE (namespace, topic, consumer) = (?1, ?2, ?3)";
        connection.execute(sql, params![namespace, topic, consumer, checksum(body)])?;
        // A later version knows its own position.
        let Ok(Checkpoint { next, .. }) = Checkpoint::decode(body) else { return Ok(()) };
        let sql = "UPDATE logd_checkpoints SET (next_offset, next_delta) = (?4, ?5)
            WHERE (namespace, topic, consumer) = (?1, ?2, ?3)";
        let (offset, delta) = (next.offset.to_string(), next.delta.to_string());
        connection.execute(sql, params![namespace, topic, consumer, offset, delta])?;
        Ok(())
    }

    async fn vanish(&self, key: &ConsumerKey) -> Result<(), FixtureError> {
        let sql = "DELETE FROM logd_checkpoints WHERE (namespace, topic, consumer) = (?1, ?2, ?3)";
        self.connect()?.execute(sql, names(key))?;
        Ok(())
    }

    fn has_checksum(&self) -> bool {
        true
    }
}

fn failed(error: rusqlite::Error) -> StateError {
    StateError::caused(StateErrorKind::Failed, "the fixture", error)
}

#[async_trait]
impl Transactions for SqliteFixture {
    async fn begin(&self) -> Result<Box<dyn Transaction>, StateError> {
        let connection = self.connect().map_err(failed)?;
        connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        let state = SqliteState::open(self.path()).await?;
        Ok(Box::new(UserTransaction { connection, state }))
    }

    async fn results(&self) -> Result<Vec<String>, StateError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let connection = self.connect()?;
            let mut statement = connection.prepare("SELECT result FROM results")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(failed)
    }
}

/// A connection of the user's that is in a transaction, which ends with it.
struct UserTransaction {
    connection: Connection,
    state: SqliteState,
}

#[async_trait]
impl Transaction for UserTransaction {
    async fn write(&mut self, result: &str) -> Result<(), StateError> {
        self.connection.execute("INSERT INTO results VALUES (?1)", [result]).map(|_| ()).map_err(failed)
    }

    async fn complete_in(
        &mut self,
        key: &ConsumerKey,
        expected: Option<Position>,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        let token = Token { key: key.clone(), fence, expected };
        let next = self.state.complete_in(&self.connection, &token, checkpoint)?;
        assert_eq!(next, Token { expected: Some(checkpoint.next), ..token });
        Ok(Committed::Stored)
    }

    async fn commit(self: Box<Self>) -> Result<(), StateError> {
        self.connection.execute_batch("COMMIT").map_err(failed)
    }

    async fn rollback(self: Box<Self>) -> Result<(), StateError> {
        self.connection.execute_batch("ROLLBACK").map_err(failed)
    }
}

logd_statehandlers::conformance!(SqliteFixture);

/// The same on a file system that can be full.
struct SmallFixture(SqliteFixture);

#[async_trait]
impl Fixture for SmallFixture {
    async fn new() -> Result<Self, FixtureError> {
        let folder = tempfile::tempdir()?;
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path())
            .output()?;
        if mount.status.success() {
            return Ok(Self(SqliteFixture(folder)));
        }
        Err(String::from_utf8_lossy(&mount.stderr).into())
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        self.0.open().await
    }

    fn disk(&self) -> Option<&dyn Disk> {
        Some(self)
    }
}

impl Drop for SmallFixture {
    fn drop(&mut self) {
        // Lazily, as a handler may still have files open. A failure leaves a mount behind that hurts nobody.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.0.path()).status();
    }
}

#[async_trait]
impl Disk for SmallFixture {
    async fn fill(&self) -> Result<(), FixtureError> {
        let ballast = self.0.0.path().join("ballast");
        let mut bytes = vec![0; 256 * 1024];
        // As much as there is room for.
        while fs::write(&ballast, &bytes).is_err() {
            let less = bytes.len().checked_sub(1024).ok_or("there is no room for a ballast")?;
            bytes.truncate(less);
        }
        Ok(())
    }

    async fn free(&self) -> Result<(), FixtureError> {
        Ok(fs::remove_file(self.0.0.path().join("ballast"))?)
    }
}

#[test]
fn full_disk_keeps_the_previous() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    if let Err(error) = runtime.block_on(SmallFixture::new()) {
        return eprintln!("NOT TESTED: no file system to run full can be mounted here: {error}");
    }
    logd_statehandlers::conformance::run::<SmallFixture>(
        "durable::full_disk_keeps_the_previous",
        module_path!(),
    );
}

/// A key, and a checkpoint of it.
fn key() -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), "billing").unwrap()
}

fn at(position: &str) -> Checkpoint {
    Checkpoint::at(position.parse().unwrap())
}
