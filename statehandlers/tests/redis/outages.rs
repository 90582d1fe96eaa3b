//! What a server, and the way to it, can do to a handler.

use std::time::{Duration, Instant};

use logd_statehandlers::{
    Claim, Claimant, Committed, Fence, LeaseHandler, RedisState, StateError, StateErrorKind, StateHandler,
};

use super::rules::{LONG, at, fields, grant, key};
use super::server::{RedisConnection, RedisServer};

const TIMEOUT: Duration = Duration::from_millis(500);

async fn open(server: &RedisServer) -> RedisState {
    let builder = RedisState::builder(server.url());
    builder.connect_timeout(TIMEOUT).response_timeout(TIMEOUT).open().await.unwrap()
}

/// Writes until it is stored; what fails meanwhile can be tried again.
async fn store_at_last(state: &RedisState, offset: u64, fence: Fence) {
    let begin = Instant::now();
    while let Err(error) = state.complete(&key("billing"), &at(offset), fence).await {
        assert!(error.is_retryable(), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(15), "{error}");
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, StateError>) -> StateErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test]
async fn stopped_server_is_unavailable_until_it_is_back() {
    let mut server = RedisServer::start().unwrap();
    let state = open(&server).await;
    let billing = key("billing");
    let fence = grant(&state, &billing, "one").await;
    state.complete(&billing, &at(5), fence).await.unwrap();
    server.stop().unwrap();
    // The end of the connection may be noticed by the first write only.
    let first = kind(state.complete(&billing, &at(6), fence).await);
    assert!([StateErrorKind::Ambiguous, StateErrorKind::Unavailable].contains(&first));
    for _ in 0..3 {
        assert_eq!(kind(state.complete(&billing, &at(6), fence).await), StateErrorKind::Unavailable);
        assert_eq!(kind(state.get(&billing).await), StateErrorKind::Unavailable);
        assert_eq!(kind(state.renew(&billing, fence, LONG).await), StateErrorKind::Unavailable);
    }
    let refused = RedisState::open(server.url()).await;
    assert_eq!(kind(refused), StateErrorKind::Unavailable);
    server.start_again().unwrap();
    // No error from before is left over: the first call connects.
    assert_eq!(state.get(&billing).await.unwrap(), Some(at(5)));
    assert_eq!(state.complete(&billing, &at(6), fence).await.unwrap(), Committed::Stored);
    state.renew(&billing, fence, LONG).await.unwrap();
}

#[tokio::test]
async fn killed_server_goes_on_with_all_that_was_acknowledged() {
    let mut server = RedisServer::start().unwrap();
    let state = open(&server).await;
    let billing = key("billing");
    let fence = grant(&state, &billing, "one").await;
    for round in 1..6 {
        let last = round * 100;
        for offset in last..last + 10 {
            store_at_last(&state, offset, fence).await;
        }
        server.kill().unwrap();
        server.start_again().unwrap();
        let other = open(&server).await;
        assert_eq!(other.get(&billing).await.unwrap(), Some(at(last + 9)));
        // Lease and fence are there as well.
        let claim = other.start(&billing, &Claimant::new("two"), LONG).await.unwrap();
        assert!(matches!(claim, Claim::Processing { .. }), "{claim:?}");
    }
}

#[tokio::test]
async fn paused_server_hits_the_timeouts() {
    let server = RedisServer::start().unwrap();
    let state = open(&server).await;
    let billing = key("billing");
    state.complete(&billing, &at(5), Fence::NONE).await.unwrap();
    server.pause().unwrap();
    for (expected, time_max) in [
        // It was sent: who knows. Then, no other connection comes about.
        (StateErrorKind::Ambiguous, TIMEOUT * 3),
        (StateErrorKind::Unavailable, TIMEOUT * 3),
        (StateErrorKind::Unavailable, TIMEOUT * 3),
    ] {
        let begin = Instant::now();
        assert_eq!(kind(state.complete(&billing, &at(6), Fence::NONE).await), expected);
        assert!(begin.elapsed() < time_max, "{:?}", begin.elapsed());
    }
    // Those who wait for another's connection are not held up one behind the other.
    let begin = Instant::now();
    let calls = (0..20).map(|_| state.get(&billing));
    for call in join_all(calls).await {
        assert_eq!(kind(call), StateErrorKind::Unavailable);
    }
    assert!(begin.elapsed() < TIMEOUT * 4, "{:?}", begin.elapsed());
    server.resume().unwrap();
    store_at_last(&state, 7, Fence::NONE).await;
    assert_eq!(state.get(&billing).await.unwrap(), Some(at(7)));
}

async fn join_all<T: Send>(calls: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.map(|call| (Box::pin(call), None)).collect();
    std::future::poll_fn(|waking| {
        for (call, done) in &mut calls {
            if done.is_none()
                && let std::task::Poll::Ready(result) = call.as_mut().poll(waking)
            {
                *done = Some(result);
            }
        }
        if calls.iter().all(|(_, done)| done.is_some()) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
    calls.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn flush_is_lost_with_a_fence_and_new_without() {
    let server = RedisServer::start().unwrap();
    let state = open(&server).await;
    let billing = key("billing");
    let fence = grant(&state, &billing, "one").await;
    state.complete(&billing, &at(5), fence).await.unwrap();
    server.command(&["FLUSHALL"]).unwrap();
    assert_eq!(kind(state.complete(&billing, &at(6), fence).await), StateErrorKind::Lost);
    assert_eq!(kind(state.renew(&billing, fence, LONG).await), StateErrorKind::Lost);
    assert_eq!(kind(state.release(&billing, fence, Some(&at(7))).await), StateErrorKind::Lost);
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), super::server::Reply::Number(0));
    assert_eq!(state.get(&billing).await.unwrap(), None);
    assert_eq!(state.complete(&billing, &at(1), Fence::NONE).await.unwrap(), Committed::Stored);
    // The epoch is the first again, and the fence from before is still not the one.
    let next = grant(&state, &billing, "two").await;
    assert_eq!(next.epoch, fence.epoch);
    assert_eq!(kind(state.complete(&billing, &at(9), fence).await), StateErrorKind::Fenced);
}

#[tokio::test]
async fn full_memory_fails_and_changes_nothing() {
    let server = RedisServer::start().unwrap();
    let state = open(&server).await;
    let billing = key("billing");
    let fence = grant(&state, &billing, "one").await;
    state.complete(&billing, &at(5), fence).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let before = fields(&server);
    for error in [
        state.complete(&billing, &at(6), fence).await.unwrap_err(),
        state.complete(&key("new"), &at(6), Fence::NONE).await.unwrap_err(),
        state.start(&key("new"), &Claimant::new("one"), LONG).await.unwrap_err(),
        state.renew(&billing, fence, LONG).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), StateErrorKind::Failed, "{error}");
        assert!(error.to_string().contains("maxmemory"), "{error}");
    }
    assert_eq!(fields(&server), before);
    assert_eq!(server.command(&["DBSIZE"]).unwrap(), super::server::Reply::Number(2));
    assert_eq!(state.get(&billing).await.unwrap(), Some(at(5)));
    // Giving back needs no memory, and so is done as a whole.
    state.release(&billing, fence, Some(&at(6))).await.unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert_eq!(state.get(&billing).await.unwrap(), Some(at(6)));
    grant(&state, &billing, "two").await;
}

#[tokio::test]
async fn replica_refuses_writes_until_it_is_promoted() {
    let server = RedisServer::start().unwrap();
    let state = open(&server).await;
    let billing = key("billing");
    state.complete(&billing, &at(5), Fence::NONE).await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    for _ in 0..2 {
        assert_eq!(kind(state.complete(&billing, &at(6), Fence::NONE).await), StateErrorKind::Unavailable);
    }
    assert_eq!(state.get(&billing).await.unwrap(), Some(at(5)));
    server.command(&["REPLICAOF", "NO", "ONE"]).unwrap();
    assert_eq!(state.complete(&billing, &at(6), Fence::NONE).await.unwrap(), Committed::Stored);
}

#[tokio::test]
async fn busy_server_is_unavailable() {
    let server = RedisServer::start_with(&["--busy-reply-threshold", "1"]).unwrap();
    let state = open(&server).await;
    let mut busy = server.connect().unwrap();
    busy.send(&["EVAL", "while true do end", "0"]).unwrap();
    let begin = Instant::now();
    let seen = loop {
        assert!(begin.elapsed() < Duration::from_secs(15));
        // It may go through before the server has begun with the script, or wait until that is one that takes long.
        match state.complete(&key("billing"), &at(5), Fence::NONE).await {
            Err(error) if error.to_string().contains("BUSY") || error.to_string().contains("busy") => {
                break error;
            }
            Err(error) => assert!(error.is_retryable(), "{error}"),
            Ok(_) => {}
        }
    };
    assert_eq!(seen.kind(), StateErrorKind::Unavailable, "{seen}");
    server.command(&["SCRIPT", "KILL"]).unwrap();
    store_at_last(&state, 5, Fence::NONE).await;
}

#[tokio::test]
async fn full_house_passes() {
    let server = RedisServer::start().unwrap();
    let state = open(&server).await;
    let mut guest = RedisConnection::open(server.port()).unwrap();
    guest.command(&["CONFIG", "SET", "maxclients", "1"]).unwrap();
    guest.command(&["CLIENT", "KILL", "TYPE", "normal"]).unwrap();
    // Again and again, and not only the first time.
    let begin = Instant::now();
    for _ in 0..3 {
        assert!(state.complete(&key("billing"), &at(5), Fence::NONE).await.unwrap_err().is_retryable());
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
    guest.command(&["CONFIG", "SET", "maxclients", "100"]).unwrap();
    assert_eq!(state.complete(&key("billing"), &at(5), Fence::NONE).await.unwrap(), Committed::Stored);
}

#[tokio::test]
async fn password_that_is_changed_back_lets_the_handler_in_again() {
    let server = RedisServer::start_with(&["--user", "anna", "on", ">old", "~*", "+@all"]).unwrap();
    let url = format!("redis://anna:old@127.0.0.1:{}", server.port());
    let state = RedisState::open(&url).await.unwrap();
    let billing = key("billing");
    state.complete(&billing, &at(5), Fence::NONE).await.unwrap();
    let mut admin = server.connect().unwrap();
    // That also ends the connections of the user.
    admin.command(&["ACL", "SETUSER", "anna", "resetpass", ">new"]).unwrap();
    admin.command(&["CLIENT", "KILL", "USER", "anna"]).unwrap();
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(kind(state.complete(&billing, &at(6), Fence::NONE).await));
    }
    assert!(kinds[1..].iter().all(|kind| *kind == StateErrorKind::Failed), "{kinds:?}");
    admin.command(&["ACL", "SETUSER", "anna", ">old"]).unwrap();
    assert_eq!(state.complete(&billing, &at(6), Fence::NONE).await.unwrap(), Committed::Stored);
}
