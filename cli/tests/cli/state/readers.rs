//! A reader that runs while `log-cli state` moves its checkpoint.

use std::sync::Arc;
use std::time::Duration;

use logd_client::{Checkpoint, ClientConfig, Consumer, ConsumerKey, Done, Position};
use tokio::time::timeout;

use super::{Store, cells, key, orders, position, runtime};
use crate::support::{BOUND, TestServer, wait_for};

/// The next message, which is done then.
async fn next(consumer: &mut Consumer) -> (Position, String) {
    let received = timeout(BOUND, consumer.next()).await.expect("a message comes").unwrap().unwrap();
    let message = (received.position(), String::from_utf8(received.bytes().to_vec()).unwrap());
    received.ack();
    message
}

fn moved_while_it_runs(store: &Store, is_exclusive: bool) {
    let server = TestServer::start();
    let positions = orders(&server);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let handler = store.open(&runtime);
    let billing: ConsumerKey = key("default", "orders", "billing");
    let mut builder =
        Consumer::builder(ClientConfig::new(server.host()), Arc::clone(&handler), billing.clone())
            .commit_interval(Duration::from_millis(20))
            .owner("test");
    if is_exclusive {
        builder = builder.exclusive(Duration::from_millis(1500));
    }
    let mut consumer = runtime.block_on(builder.open()).unwrap();
    let mut messages = vec!["one", "two", "three", "four"];
    for message in &messages {
        assert_eq!(runtime.block_on(next(&mut consumer)).1, *message);
    }
    for (to, first, more) in [("earliest", 0, "five"), (positions[3].as_str(), 3, "six")] {
        let head = String::from_utf8(server.done(&["head", "--topic", "orders"], b"")).unwrap();
        let end = position(head.lines().next().unwrap().strip_prefix("next: ").unwrap());
        wait_for("the checkpoint is at the end", || {
            runtime.block_on(handler.get(&billing)).unwrap().filter(|checkpoint| checkpoint.next == end)
        });
        let reset = store.cli(&server.host(), &["reset", "orders/billing", "--to", to, "--yes"]);
        assert_eq!(reset.code, 0, "{}", reset.stderr);
        let told = "log-cli: `test` reads with `default/orders/billing`: it begins anew there\n";
        // One that is not exclusive takes the lease only when it has begun anew.
        assert_eq!(reset.stderr, if is_exclusive || first > 0 { told } else { "" });
        if !is_exclusive {
            // One that holds no lease asks the store only when it has something to store.
            server.done(&["write", "--topic", "orders", more], b"");
            messages.push(more);
        }
        let reached = position(&positions[first]);
        wait_for("reading begins anew", || {
            (runtime.block_on(next(&mut consumer)).0 == reached).then_some(())
        });
        for message in &messages[first + 1..] {
            assert_eq!(runtime.block_on(next(&mut consumer)).1, *message);
        }
    }
    let listed = store.done(&server.host(), &["ls"]);
    assert_eq!(cells(listed.lines().nth(1).unwrap()).last(), Some(&"test"), "{listed}");
    runtime.block_on(consumer.shutdown(BOUND)).unwrap();
}

#[test]
fn everything_behind_a_checkpoint_that_was_set_back_comes() {
    for store in [Store::file(), Store::sqlite()] {
        let server = TestServer::start();
        let positions = orders(&server);
        let mut checkpoint = Checkpoint::at(position(&positions[2]));
        checkpoint.done = vec![Done { from: position(&positions[3]), to: position(&positions[4]) }];
        store.put(&key("default", "orders", "billing"), &checkpoint);
        store.done(&server.host(), &["set", "orders/billing", &positions[1], "--force"]);
        let runtime = runtime();
        let handler = store.open(&runtime);
        let billing = key("default", "orders", "billing");
        let builder = Consumer::builder(ClientConfig::new(server.host()), handler, billing);
        let mut consumer = runtime.block_on(builder.open()).unwrap();
        for message in ["two", "three", "four"] {
            assert_eq!(runtime.block_on(next(&mut consumer)).1, message);
        }
        runtime.block_on(consumer.shutdown(BOUND)).unwrap();
    }
}

#[test]
fn reader_of_files_begins_anew() {
    moved_while_it_runs(&Store::file(), false);
    moved_while_it_runs(&Store::file(), true);
}

#[test]
fn reader_of_sqlite_begins_anew() {
    moved_while_it_runs(&Store::sqlite(), false);
    moved_while_it_runs(&Store::sqlite(), true);
}

#[test]
fn reader_of_redis_begins_anew() {
    moved_while_it_runs(&Store::redis(), false);
    moved_while_it_runs(&Store::redis(), true);
}

#[test]
fn reader_of_postgres_begins_anew() {
    moved_while_it_runs(&Store::postgres(), false);
    moved_while_it_runs(&Store::postgres(), true);
}
