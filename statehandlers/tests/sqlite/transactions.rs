//! Results and position in one transaction: on the user's connection, on the handler's, and with another library.

use std::time::Duration;

use logd_statehandlers::conformance::{Fixture, RawAccess, Transactions};
use logd_statehandlers::sqlite::rusqlite::{Connection, TransactionBehavior};
use logd_statehandlers::sqlite::sql;
use logd_statehandlers::{
    Checkpoint, Claim, Claimant, Fence, LeaseHandler, SqliteState, StateErrorKind, StateHandler, Token,
};
use sqlx::{ConnectOptions, Executor};

use super::process::Worker;
use super::{SqliteFixture, at, key};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A new lease, and its first token.
async fn granted(state: &SqliteState) -> Token {
    match state.start(&key(), &Claimant::new("one"), Duration::from_secs(3600)).await.unwrap() {
        Claim::Granted(grant) => Token::new(key(), &grant),
        Claim::Processing { owner, .. } => panic!("`{owner}` has the lease"),
    }
}

async fn begun() -> (SqliteFixture, SqliteState, Token) {
    let fixture = SqliteFixture::new().await.unwrap();
    fixture.connect().unwrap();
    let state = SqliteState::open(fixture.path()).await.unwrap();
    let token = granted(&state).await;
    (fixture, state, token)
}

async fn results(fixture: &SqliteFixture) -> Vec<String> {
    fixture.results().await.unwrap()
}

#[tokio::test]
async fn tokens_follow_one_another() {
    let (fixture, state, first) = begun().await;
    assert_eq!(first.expected, None);
    let mut connection = fixture.connect().unwrap();
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let second = state.complete_in(&transaction, &first, &at("5")).unwrap();
    // Two steps in one transaction.
    let third = state.complete_in(&transaction, &second, &at("6.7")).unwrap();
    transaction.commit().unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("6.7")));
    for used in [first, second] {
        let transaction = connection.transaction().unwrap();
        let error = state.complete_in(&transaction, &used, &at("9")).unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Fenced, "{error}");
    }
    let transaction = connection.transaction().unwrap();
    let error = state.complete_in(&transaction, &third, &at("6.6")).unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Stale { stored: at("6.7").next });
    state.complete_in(&transaction, &third, &at("18446744073709551615.18446744073709551615")).unwrap();
    transaction.commit().unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("18446744073709551615.18446744073709551615")));
}

#[tokio::test]
async fn connection_must_be_in_a_transaction_of_this_database() {
    let (fixture, state, token) = begun().await;
    let connection = fixture.connect().unwrap();
    let other = fixture.0.path().join("other.db");
    let of_other = SqliteState::open(&other).await.unwrap();
    let other = Connection::open(other).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for connection in [connection, other] {
        let error = state.complete_in(&connection, &token, &at("5")).unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Invalid, "{error}");
    }
    drop(of_other);
    assert_eq!(state.get(&key()).await.unwrap(), None);
}

#[tokio::test]
async fn deferred_transaction_that_was_overtaken_is_refused() {
    let (fixture, state, token) = begun().await;
    let mut connection = fixture.connect().unwrap();
    let transaction = connection.transaction().unwrap();
    transaction.query_row("SELECT count(*) FROM results", [], |_| Ok(())).unwrap();
    state.complete(&key(), &at("5"), token.fence).await.unwrap();
    let error = state.complete_in(&transaction, &token, &at("6")).unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Unavailable, "{error}");
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("5")));
}

#[tokio::test]
async fn later_or_damaged_body_is_not_replaced() {
    let (fixture, state, token) = begun().await;
    state.complete(&key(), &at("5"), token.fence).await.unwrap();
    let token = token.advanced(at("5").next);
    let later = br#"{"logd-checkpoint":2,"next":"5.0"}"#;
    for (body, kind) in
        [(&later[..], StateErrorKind::Newer), (b"{", StateErrorKind::Corrupt), (b"", StateErrorKind::Corrupt)]
    {
        fixture.write_body(&key(), body).await.unwrap();
        let mut connection = fixture.connect().unwrap();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let error = state.complete_in(&transaction, &token, &at("6")).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let parameters = sql::complete_in_parameters(&token, &at("6")).unwrap();
        assert_eq!(transaction.execute(sql::COMPLETE_IN, parameters).unwrap(), 0);
        transaction.commit().unwrap();
        assert_eq!(fixture.read(&key()).await.unwrap(), body);
    }
}

#[tokio::test]
async fn closure_and_checkpoint_are_one_transaction() {
    let (fixture, state, token) = begun().await;
    let insert = |result: &'static str, fails: bool| {
        move |transaction: &logd_statehandlers::sqlite::rusqlite::Transaction<'_>| {
            transaction.execute("INSERT INTO results VALUES (?1)", [result])?;
            if fails { Err(AnyError::from("the user's own error")) } else { Ok(result.len()) }
        }
    };
    let (length, second) = state.with_tx(&token, &at("5"), insert("first", false)).await.unwrap();
    assert_eq!(length, 5);
    // The closure's error, a stale token, and a checkpoint that goes back.
    let error = state.with_tx(&second, &at("6"), insert("lost", true)).await.unwrap_err();
    assert_eq!(error.to_string(), "the user's own error");
    let error = state.with_tx(&token, &at("6"), insert("lost", false)).await.unwrap_err();
    let kind = |error: &AnyError| error.downcast_ref::<logd_statehandlers::StateError>().unwrap().kind();
    assert_eq!(kind(&error), StateErrorKind::Fenced);
    let error = state.with_tx(&second, &at("4"), insert("lost", false)).await.unwrap_err();
    assert_eq!(kind(&error), StateErrorKind::Stale { stored: at("5").next });
    let error = state
        .with_tx(&second, &at("6"), |transaction| {
            transaction.execute("INSERT INTO results VALUES ('lost')", [])?;
            if transaction.changes() == 1 { panic!("the user's own panic") } else { Ok::<_, AnyError>(()) }
        })
        .await
        .unwrap_err();
    assert_eq!(kind(&error), StateErrorKind::Ambiguous);
    // One that ends the transaction itself.
    let error = state
        .with_tx(&second, &at("6"), |transaction| Ok::<_, AnyError>(transaction.execute_batch("ROLLBACK")?))
        .await
        .unwrap_err();
    assert_eq!(kind(&error), StateErrorKind::Invalid);
    assert_eq!(results(&fixture).await, ["first"]);
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("5")));
    state.with_tx(&second, &at("6"), insert("second", false)).await.unwrap();
    assert_eq!(results(&fixture).await, ["first", "second"]);
}

#[tokio::test]
async fn constraint_at_commit_fails_and_changes_nothing() {
    let (fixture, state, token) = begun().await;
    fixture
        .connect()
        .unwrap()
        .execute_batch("CREATE TABLE owners (id INTEGER PRIMARY KEY); CREATE TABLE owned (owner INTEGER REFERENCES owners (id) DEFERRABLE INITIALLY DEFERRED)")
        .unwrap();
    state.close().await.unwrap();
    let connection = fixture.connect().unwrap();
    connection.pragma_update(None, "foreign_keys", true).unwrap();
    let state = SqliteState::builder().adopt(connection).await.unwrap();
    let next = at("5");
    let owned = |owner: i64| {
        state.with_tx(&token, &next, move |transaction| {
            Ok::<_, AnyError>(transaction.execute("INSERT INTO owned VALUES (?1)", [owner])?)
        })
    };
    let error = owned(7).await.unwrap_err();
    let kind = error.downcast_ref::<logd_statehandlers::StateError>().unwrap().kind();
    assert_eq!(kind, StateErrorKind::Failed, "{error}");
    assert_eq!(state.get(&key()).await.unwrap(), None);
    fixture.connect().unwrap().execute_batch("INSERT INTO owners VALUES (7)").unwrap();
    owned(7).await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("5")));
}

#[tokio::test]
async fn kill_leaves_both_or_neither() {
    let fixture = SqliteFixture::new().await.unwrap();
    fixture.connect().unwrap();
    let state = fixture.open().await.unwrap();
    state.complete(&key(), &at("0"), Fence::NONE).await.unwrap();
    for count in [1, 2, 3, 5, 8, 13, 21, 34] {
        let worker = Worker::start("transactions", &fixture.path());
        let mut last = String::new();
        for _ in 0..count {
            last = worker.next();
        }
        let acked: u64 = worker.kill(last).parse().unwrap();
        let stored = state.get(&key()).await.unwrap().unwrap().next.offset.as_u64();
        assert!((acked..=acked + 1).contains(&stored), "`{acked}` was told, `{stored}` is stored");
        let mut written: Vec<u64> =
            results(&fixture).await.iter().map(|result| result.parse().unwrap()).collect();
        written.sort_unstable();
        assert_eq!(written, (0..stored).collect::<Vec<_>>());
    }
}

/// What a user of `sqlx` writes.
async fn with_sqlx(
    connection: &mut sqlx::SqliteConnection,
    token: &Token,
    checkpoint: &Checkpoint,
    result: &str,
) -> Result<bool, AnyError> {
    connection.execute("BEGIN IMMEDIATE").await?;
    sqlx::query("INSERT INTO results VALUES (?1)").bind(result.to_owned()).execute(&mut *connection).await?;
    let mut complete = sqlx::query(sql::COMPLETE_IN);
    for parameter in sql::complete_in_parameters(token, checkpoint)? {
        complete = complete.bind(parameter);
    }
    let is_stored = complete.execute(&mut *connection).await?.rows_affected() == 1;
    connection.execute(if is_stored { "COMMIT" } else { "ROLLBACK" }).await?;
    Ok(is_stored)
}

#[tokio::test]
async fn statements_can_be_used_with_sqlx() {
    let (fixture, state, token) = begun().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(fixture.path());
    let mut connection = options.connect().await.unwrap();
    let mut full = at("18446744073709551615.12");
    full.user = vec![7; 100];
    assert!(with_sqlx(&mut connection, &token, &at("5"), "first").await.unwrap());
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("5")));
    let second = token.advanced(at("5").next);
    let nonce = Fence { nonce: token.fence.nonce ^ 1, ..token.fence };
    let epoch = Fence { epoch: token.fence.epoch + 1, ..token.fence };
    for wrong in [
        token.clone(),
        token.advanced(at("6").next),
        token.advanced(at("5.1").next),
        Token { fence: nonce, ..second.clone() },
        Token { fence: epoch, ..second.clone() },
        Token { fence: Fence::NONE, ..second.clone() },
        Token { key: key().in_namespace("other").unwrap(), ..second.clone() },
    ] {
        assert!(!with_sqlx(&mut connection, &wrong, &full, "lost").await.unwrap(), "{wrong:?}");
    }
    assert!(with_sqlx(&mut connection, &second, &full, "second").await.unwrap());
    assert_eq!(state.get(&key()).await.unwrap(), Some(full.clone()));
    // Who takes over fences it, and has the position.
    state.release(&key(), token.fence, None).await.unwrap();
    let taken = granted(&state).await;
    assert_eq!(taken.expected, Some(full.next));
    assert!(!with_sqlx(&mut connection, &second.advanced(full.next), &full, "lost").await.unwrap());
    assert_eq!(results(&fixture).await, ["first", "second"]);
}
