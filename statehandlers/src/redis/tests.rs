//! What failures mean, and that the end of an idle connection is noticed. What the handler shows is tested in `tests/redis.rs`.

use std::io;
use std::time::{Duration, Instant};

use ::redis::{ErrorKind, RedisError, make_extension_error};

use super::RedisState;
use super::errors::{Server, Task, ends_connection};
use crate::checkpoint::Checkpoint;
use crate::error::StateErrorKind;
use crate::fence::Fence;
use crate::handler::{Committed, StateHandler};
use crate::key::ConsumerKey;

#[path = "../../tests/support/redis.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod server;

fn server() -> Server {
    Server { url: "redis://a:***@host".into(), password: Some("hunter2".into()) }
}

fn key() -> ConsumerKey {
    ConsumerKey::new("orders".parse().unwrap(), "billing").unwrap()
}

fn said(text: &str) -> RedisError {
    let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
    make_extension_error(code.into(), Some(detail.into()))
}

fn broken(kind: io::ErrorKind) -> RedisError {
    io::Error::from(kind).into()
}

#[test]
fn answers_that_are_errors_have_done_nothing() {
    for (text, kind) in [
        ("LOADING Redis is loading the dataset in memory", StateErrorKind::Unavailable),
        ("BUSY Redis is busy running a script", StateErrorKind::Unavailable),
        ("READONLY You can't write against a read only replica.", StateErrorKind::Unavailable),
        ("MASTERDOWN Link with MASTER is down", StateErrorKind::Unavailable),
        ("CLUSTERDOWN The cluster is down", StateErrorKind::Unavailable),
        ("TRYAGAIN Multiple keys request during rehashing of slot", StateErrorKind::Unavailable),
        ("NOREPLICAS Not enough good replicas to write.", StateErrorKind::Unavailable),
        ("NOSCRIPT No matching script.", StateErrorKind::Unavailable),
        ("UNBLOCKED force unblock from blocking operation", StateErrorKind::Unavailable),
        (
            "ERR Error running script (call to f_1): @user_script:3: READONLY You can't",
            StateErrorKind::Unavailable,
        ),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", StateErrorKind::Corrupt),
        ("ERR hash value is not an integer", StateErrorKind::Corrupt),
        ("ERR increment or decrement would overflow", StateErrorKind::Failed),
        ("OOM command not allowed when used memory > 'maxmemory'.", StateErrorKind::Failed),
        ("MISCONF Redis is configured to save RDB snapshots", StateErrorKind::Failed),
        ("NOPERM this user has no permissions to run the 'eval' command", StateErrorKind::Failed),
        ("NOAUTH Authentication required.", StateErrorKind::Failed),
        ("MOVED 3999 127.0.0.1:6381", StateErrorKind::Failed),
        ("ERR what no server has said so far", StateErrorKind::Failed),
    ] {
        for task in [Task::Change(&key()), Task::Read(&key()), Task::List] {
            assert_eq!(server().failed(task, said(text)).kind(), kind, "{text}");
        }
    }
}

#[test]
fn lost_answer_is_ambiguous_for_changes_only() {
    let key = key();
    for kind in [io::ErrorKind::TimedOut, io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset] {
        assert!(ends_connection(&broken(kind)));
        let changed = server().failed(Task::Change(&key), broken(kind));
        assert_eq!(changed.kind(), StateErrorKind::Ambiguous);
        assert!(
            changed
                .to_string()
                .starts_with("it is not known whether the checkpoint of `default/orders/billing`")
        );
        for task in [Task::Read(&key), Task::List, Task::Open] {
            assert_eq!(server().failed(task, broken(kind)).kind(), StateErrorKind::Unavailable);
        }
        assert_eq!(
            server().unreachable(Task::Change(&key), broken(kind)).kind(),
            StateErrorKind::Unavailable
        );
    }
    let garbage = RedisError::from((ErrorKind::Parse, "no answer of Redis"));
    assert_eq!(server().failed(Task::Change(&key), garbage.clone()).kind(), StateErrorKind::Ambiguous);
    assert!(ends_connection(&garbage));
    assert!(
        ends_connection(&said("READONLY You can't")) && !ends_connection(&said("OOM command not allowed"))
    );
}

#[test]
fn no_text_of_the_server_tells_a_secret() {
    let key = key();
    for text in [
        "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'a' 'hunter2",
        "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'a' 'hunt",
        "ERR hunter2 is wrong",
        "HUNTER2 hunter2",
    ] {
        for error in
            [server().failed(Task::Change(&key), said(text)), server().unreachable(Task::Open, said(text))]
        {
            assert!(!format!("{error} {error:?}").contains("hunt"), "{error:?}");
        }
    }
    let full = server().unreachable(Task::Open, said("ERR max number of clients reached"));
    assert_eq!(full.kind(), StateErrorKind::Unavailable);
}

#[tokio::test]
async fn end_of_an_idle_connection_is_noticed_before_the_next_call() {
    let server = server::RedisServer::start().unwrap();
    let state = RedisState::open(server.url()).await.unwrap();
    for offset in 0..3 {
        server.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
        let begin = Instant::now();
        while !state.connection.is_gone().await {
            assert!(begin.elapsed() < Duration::from_secs(15));
            tokio::task::yield_now().await;
        }
        let checkpoint = Checkpoint::at(format!("{offset}").parse().unwrap());
        assert_eq!(state.complete(&key(), &checkpoint, Fence::NONE).await.unwrap(), Committed::Stored);
    }
}
