//! Counts in a table of the database in SQLite that has the checkpoints.

use std::sync::Arc;
use std::time::Duration;

use logd_client::sqlite::rusqlite::{Connection, TransactionBehavior};
use logd_client::{Checkpoint, SqliteState, StateError, StateErrorKind, Token};

use crate::Place;
use crate::count::{Counts, Results, Undone, run};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS counts (consumer TEXT, key TEXT, count INTEGER, \
                      PRIMARY KEY (consumer, key))";
const ADD: &str = "INSERT INTO counts VALUES (?1, ?2, ?3) \
                   ON CONFLICT (consumer, key) DO UPDATE SET count = count + excluded.count";
/// How long a transaction waits for another process to end its own.
const BUSY: Duration = Duration::from_secs(20);

struct Sqlite {
    state: Arc<SqliteState>,
    connection: Connection,
}

pub(crate) async fn count(place: &Place<'_>) -> i32 {
    let path = place.url.strip_prefix("sqlite:").expect("a url of sqlite");
    let state = SqliteState::builder().busy_timeout(BUSY).open(path).await.expect("the store can be opened");
    let state = Arc::new(state);
    let connection = Connection::open(path).expect("the database can be opened");
    connection.busy_timeout(BUSY).expect("a timeout");
    connection.execute_batch(CREATE).expect("the table can be made");
    run(place, state.clone(), Sqlite { state, connection }).await
}

impl Results for Sqlite {
    async fn store(&mut self, token: &Token, counts: &Counts, new: &Checkpoint) -> Result<Token, Undone> {
        let open = |error: logd_client::sqlite::rusqlite::Error| Undone::Open(error.to_string());
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(open)?;
        for (key, count) in counts {
            transaction.execute(ADD, (token.key.consumer(), key, count)).map_err(open)?;
        }
        let next = match self.state.complete_in(&transaction, token, new) {
            Err(error) if error.kind() == StateErrorKind::Fenced => {
                return Err(Undone::Stale(error.to_string()));
            }
            next => next.map_err(|error| Undone::Open(error.to_string()))?,
        };
        transaction.commit().map_err(open)?;
        Ok(next)
    }

    async fn settle(&mut self, _: &Token) -> Result<(), StateError> {
        // What was not committed was rolled back on the way out.
        Ok(())
    }
}
