//! Settings, URLs, connections of the user's.

use std::fs;
use std::time::Duration;

use logd_statehandlers::conformance::Fixture;
use logd_statehandlers::sqlite::rusqlite::Connection;
use logd_statehandlers::sqlite::{SqliteBuilder, sql};
use logd_statehandlers::{Fence, SqliteState, StateAdmin, StateErrorKind, StateHandler, open};

use super::{SqliteFixture, at, key};

#[tokio::test]
async fn settings_out_of_bounds_are_refused() {
    let fixture = SqliteFixture::new().await.unwrap();
    let build = SqliteState::builder;
    for builder in [
        build().busy_timeout(SqliteBuilder::BUSY_TIMEOUT_MAX + Duration::from_millis(1)),
        build().table(""),
        build().table("1a"),
        build().table("sqlite_master"),
        build().table("a\"; DROP TABLE results; --"),
        build().table("x".repeat(64)),
    ] {
        let error = builder.open(fixture.path()).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Invalid, "{error}");
    }
    for path in ["", ":memory:"] {
        assert_eq!(SqliteState::open(path).await.unwrap_err().kind(), StateErrorKind::Invalid);
    }
    assert!(!fixture.path().exists());
    build()
        .busy_timeout(SqliteBuilder::BUSY_TIMEOUT_MAX)
        .table("x".repeat(63))
        .open(fixture.path())
        .await
        .unwrap();
}

#[tokio::test]
async fn absent_or_empty_is_not_made_when_it_must_be_there() {
    let fixture = SqliteFixture::new().await.unwrap();
    let existing = || SqliteState::builder().create(false).open(fixture.path());
    assert_eq!(existing().await.unwrap_err().kind(), StateErrorKind::Failed);
    assert!(!fixture.path().exists());
    fs::write(fixture.path(), "").unwrap();
    assert_eq!(existing().await.unwrap_err().kind(), StateErrorKind::Failed);
    fixture.open().await.unwrap().complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    assert_eq!(existing().await.unwrap().get(&key()).await.unwrap(), Some(at("5")));
    let nowhere = fixture.0.path().join("no/folder.db");
    assert_eq!(SqliteState::open(nowhere).await.unwrap_err().kind(), StateErrorKind::Failed);
}

#[tokio::test]
async fn table_of_somebody_else_is_refused_and_kept() {
    let fixture = SqliteFixture::new().await.unwrap();
    let connection = fixture.connect().unwrap();
    connection.execute_batch("INSERT INTO results VALUES ('mine')").unwrap();
    let error = SqliteState::builder().table("results").open(fixture.path()).await.unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Failed, "{error}");
    let result: String = connection.query_row("SELECT * FROM results", [], |row| row.get(0)).unwrap();
    assert_eq!(result, "mine");
}

#[tokio::test]
async fn tables_are_apart() {
    let fixture = SqliteFixture::new().await.unwrap();
    let one = SqliteState::builder().table("one").open(fixture.path()).await.unwrap();
    let two = SqliteState::builder().table("order").open(fixture.path()).await.unwrap();
    one.complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    assert_eq!(two.get(&key()).await.unwrap(), None);
    assert!(sql::for_table(sql::READ, "order").unwrap().contains("FROM \"order\""));
}

#[tokio::test]
async fn many_can_open_a_new_database_at_once() {
    for _ in 0..60 {
        let fixture = SqliteFixture::new().await.unwrap();
        let opening: Vec<_> = (0..8).map(|_| tokio::spawn(SqliteState::open(fixture.path()))).collect();
        for opened in opening {
            opened.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn connection_of_the_user_is_taken_as_it_is() {
    let fixture = SqliteFixture::new().await.unwrap();
    let state = SqliteState::builder().adopt(fixture.connect().unwrap()).await.unwrap();
    state.complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    state.complete(&key(), &at("6"), Fence::NONE).await.unwrap();
    let connection = fixture.connect().unwrap();
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    drop(connection);
    state.close().await.unwrap();
    assert_eq!(fixture.open().await.unwrap().get(&key()).await.unwrap(), Some(at("6")));

    let in_transaction = fixture.connect().unwrap();
    in_transaction.execute_batch("BEGIN").unwrap();
    let memory_journal = Connection::open(fixture.0.path().join("other.db")).unwrap();
    memory_journal.pragma_update(None, "journal_mode", "memory").unwrap();
    for connection in
        [in_transaction, memory_journal, Connection::open_in_memory().unwrap(), Connection::open("").unwrap()]
    {
        let error = SqliteState::builder().adopt(connection).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Invalid, "{error}");
    }
}

#[tokio::test]
async fn commits_are_synced() {
    let fixture = SqliteFixture::new().await.unwrap();
    let state = SqliteState::open(fixture.path()).await.unwrap();
    state.complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    let token = logd_statehandlers::Token { key: key(), fence: Fence::NONE, expected: Some(at("5").next) };
    let next = at("6");
    let pragmas = state.with_tx(&token, &next, |tx| {
        let pragma = |sql| tx.query_row(sql, [], |row| row.get::<_, i64>(0));
        let synchronous = pragma("PRAGMA synchronous")?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((synchronous, pragma("PRAGMA busy_timeout")?))
    });
    assert_eq!(pragmas.await.unwrap().0, (2, 5000));
}

#[tokio::test]
async fn url_has_the_settings() {
    let fixture = SqliteFixture::new().await.unwrap();
    let path = fixture.path();
    let path = path.to_str().unwrap();
    let state = open(&format!("sqlite:{path}?busy_timeout=250ms&table=readers")).await.unwrap();
    state.complete(&key(), &at("5"), Fence::NONE).await.unwrap();
    for url in [
        format!("sqlite://{path}?table=readers&create=false"),
        format!("sqlite:{path}?table=readers&busy_timeout=2s"),
    ] {
        assert_eq!(open(&url).await.unwrap().get(&key()).await.unwrap(), Some(at("5")));
    }
    assert_eq!(open(&format!("sqlite:{path}")).await.unwrap().get(&key()).await.unwrap(), None);
    for parameters in [
        "hunter2",
        "password=hunter2",
        "busy_timeout=5",
        "busy_timeout=hunter2s",
        "busy_timeout=9999m",
        "create=hunter2",
        "busy_timeout=s",
    ] {
        let error = open(&format!("sqlite:{path}?{parameters}")).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Invalid, "{parameters}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn tables_of_the_first_version_are_read_and_go_on() {
    let fixture = SqliteFixture::new().await.unwrap();
    fixture.connect().unwrap().execute_batch(include_str!("../../testdata/sqlite/1.sql")).unwrap();
    let state = SqliteState::builder().create(false).open(fixture.path()).await.unwrap();
    let entries = state.list().await.unwrap();
    let seen: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let next = entry.checkpoint.unwrap().map(|checkpoint| checkpoint.next.to_string());
            (entry.key.consumer().to_owned(), next.unwrap_or_default(), entry.epoch)
        })
        .collect();
    let expected = [
        ("audit", "18446744073709551615.18446744073709551615", 0),
        ("billing", "9007199254740993.12", 3),
        ("claimed", "", 1),
    ];
    assert_eq!(seen, expected.map(|(consumer, next, epoch)| (consumer.to_owned(), next.to_owned(), epoch)));
    assert_eq!(state.get(&key()).await.unwrap().unwrap().user, b"hi");
    let fence = Fence { epoch: 3, nonce: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef };
    state.complete(&key(), &at("9007199254740994"), fence).await.unwrap();
    assert_eq!(state.get(&key()).await.unwrap(), Some(at("9007199254740994")));
}
