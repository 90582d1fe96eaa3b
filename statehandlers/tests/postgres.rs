//! Checkpoints in PostgreSQL pass the suite, on a real server.
#![cfg(all(feature = "postgres", feature = "conformance"))]
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "support/cut.rs"]
mod cut;
#[path = "postgres/outages.rs"]
mod outages;
#[path = "postgres/rights.rs"]
mod rights;
#[path = "support/postgres.rs"]
mod server;
#[path = "postgres/tls.rs"]
mod tls;
#[path = "postgres/transactions.rs"]
mod transactions;

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use logd_statehandlers::conformance::{Fixture, FixtureError, RawAccess, Skew, Transaction, Transactions};
use logd_statehandlers::postgres::tokio_postgres::{self, Client, NoTls};
use logd_statehandlers::{
    Checkpoint, Committed, ConsumerKey, Fence, Position, PostgresState, StateError, StateErrorKind,
    StateHandler, Token, async_trait,
};

use crate::server::Server;

/// The server that all tests share which do it no harm; it ends with the last of them.
fn shared() -> server::Result<Arc<Server>> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Ok(server);
    }
    let server = Arc::new(Server::start(None)?);
    *shared = Arc::downgrade(&server);
    Ok(server)
}

/// A connection of the tests' own.
async fn connect(url: &str) -> server::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// A schema of a test's own, in which the table is.
struct PostgresFixture {
    server: Arc<Server>,
    schema: String,
    results: Results,
}

impl PostgresFixture {
    async fn make() -> server::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let server = shared()?;
        let schema = format!("t{}", COUNT.fetch_add(1, Ordering::SeqCst));
        let client = connect(&server.local_url()).await?;
        let make = format!("CREATE SCHEMA {schema}; CREATE TABLE {schema}.results (result text)");
        client.batch_execute(&make).await?;
        let results = Results { url: url_of(&server.local_url(), &schema), state: Mutex::default() };
        Ok(Self { server, schema, results })
    }

    fn url(&self) -> String {
        url_of(&self.server.local_url(), &self.schema)
    }

    async fn client(&self) -> server::Result<Client> {
        connect(&self.url()).await
    }
}

fn url_of(url: &str, schema: &str) -> String {
    format!("{url}?options=-c%20search_path%3D{schema}")
}

async fn open(url: &str) -> Result<Arc<dyn StateHandler>, StateError> {
    // Thirty claimants can wait for a moment on a busy machine.
    Ok(Arc::new(PostgresState::builder(url).timeout(Duration::from_secs(20)).open().await?))
}

#[async_trait]
impl Fixture for PostgresFixture {
    async fn new() -> Result<Self, FixtureError> {
        Self::make().await
    }

    async fn open(&self) -> Result<Arc<dyn StateHandler>, StateError> {
        open(&self.url()).await
    }

    fn name() -> String {
        "PostgresState".into()
    }

    fn location(&self) -> Option<String> {
        Some(self.url())
    }

    async fn open_at(location: &str) -> Result<Arc<dyn StateHandler>, StateError> {
        open(location).await
    }

    async fn open_skewed(&self, _skew: Skew) -> Result<Option<Arc<dyn StateHandler>>, StateError> {
        // Only the server has a clock: there is none of the handler's own to be wrong.
        Ok(None)
    }

    fn raw(&self) -> Option<&dyn RawAccess> {
        Some(self)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        Some(&self.results)
    }
}

const OF_KEY: &str = "namespace = $1 AND topic = $2 AND consumer = $3";

#[async_trait]
impl RawAccess for PostgresFixture {
    async fn read(&self, key: &ConsumerKey) -> Result<Vec<u8>, FixtureError> {
        let names = (key.namespace(), key.topic().as_str(), key.consumer());
        let statement = format!("SELECT body FROM logd_checkpoints WHERE {OF_KEY}");
        let row = self.client().await?.query_one(&statement, &[&names.0, &names.1, &names.2]).await?;
        Ok(row.try_get(0)?)
    }

    async fn write(&self, key: &ConsumerKey, bytes: &[u8]) -> Result<(), FixtureError> {
        let names = (key.namespace(), key.topic().as_str(), key.consumer());
        let statement = format!("UPDATE logd_checkpoints SET body = $4 WHERE {OF_KEY}");
        let client = self.client().await?;
        match client.execute(&statement, &[&names.0, &names.1, &names.2, &bytes]).await? {
            1 => Ok(()),
            _ => Err("there is no record".into()),
        }
    }

    async fn write_body(&self, key: &ConsumerKey, body: &[u8]) -> Result<(), FixtureError> {
        self.write(key, body).await?;
        let names = (key.namespace(), key.topic().as_str(), key.consumer());
        let next = Checkpoint::decode(body).map_or(Position::ZERO, |checkpoint| checkpoint.next);
        let (offset, delta) = (next.offset.to_string(), next.delta.to_string());
        let statement = format!(
            "UPDATE logd_checkpoints SET next_offset = $4::text::numeric, next_delta = $5::text::numeric, \
             digest = sha256(convert_to($4::text || '.' || $5::text || ' ', 'UTF8') || body) WHERE {OF_KEY}"
        );
        let client = self.client().await?;
        client.execute(&statement, &[&names.0, &names.1, &names.2, &offset, &delta]).await?;
        Ok(())
    }

    async fn vanish(&self, key: &ConsumerKey) -> Result<(), FixtureError> {
        let names = (key.namespace(), key.topic().as_str(), key.consumer());
        let statement = format!("DELETE FROM logd_checkpoints WHERE {OF_KEY}");
        self.client().await?.execute(&statement, &[&names.0, &names.1, &names.2]).await?;
        Ok(())
    }

    fn has_checksum(&self) -> bool {
        true
    }
}

/// The user's own transactions, in which results are written.
struct Results {
    url: String,
    state: Mutex<Option<Arc<PostgresState>>>,
}

fn failed<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> StateError {
    StateError::new(StateErrorKind::Failed, error.into().to_string())
}

impl Results {
    async fn state(&self) -> Result<Arc<PostgresState>, StateError> {
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(state) = known {
            return Ok(state);
        }
        let state = Arc::new(PostgresState::open(&self.url).await?);
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&state));
        Ok(state)
    }
}

#[async_trait]
impl Transactions for Results {
    async fn begin(&self) -> Result<Box<dyn Transaction>, StateError> {
        let state = self.state().await?;
        // A transaction borrows its connection. The test's runtime ends the connection, and the test its memory.
        let client = Box::leak(Box::new(connect(&self.url).await.map_err(failed)?));
        let transaction = client.transaction().await.map_err(failed)?;
        Ok(Box::new(Open { state, transaction }))
    }

    async fn results(&self) -> Result<Vec<String>, StateError> {
        let client = connect(&self.url).await.map_err(failed)?;
        let rows = client.query("SELECT result FROM results", &[]).await.map_err(failed)?;
        rows.iter().map(|row| row.try_get(0).map_err(failed)).collect()
    }
}

struct Open {
    state: Arc<PostgresState>,
    transaction: tokio_postgres::Transaction<'static>,
}

#[async_trait]
impl Transaction for Open {
    async fn write(&mut self, result: &str) -> Result<(), StateError> {
        let done = self.transaction.execute("INSERT INTO results VALUES ($1)", &[&result]).await;
        done.map(|_| ()).map_err(failed)
    }

    async fn complete_in(
        &mut self,
        key: &ConsumerKey,
        expected: Option<Position>,
        checkpoint: &Checkpoint,
        fence: Fence,
    ) -> Result<Committed, StateError> {
        let token = Token { key: key.clone(), fence, expected };
        let next = self.state.complete_in(&self.transaction, &token, checkpoint).await?;
        assert_eq!(next.expected, Some(checkpoint.next));
        Ok(Committed::Stored)
    }

    async fn commit(self: Box<Self>) -> Result<(), StateError> {
        self.transaction.commit().await.map_err(failed)
    }

    async fn rollback(self: Box<Self>) -> Result<(), StateError> {
        self.transaction.rollback().await.map_err(failed)
    }
}

logd_statehandlers::conformance!(PostgresFixture);
