//! Reading with a plain consumer, and with one that holds a lease.

use std::fs::OpenOptions;
use std::io::Write;
use std::time::Duration;

use logd_client::{Consumer, ErrorKind, StateErrorKind, open_state};
use tokio::time::sleep;

use crate::telling::Telling;
use crate::{Place, TAKEN_OVER, say};

/// Short, so that an application that is killed again and again gets on.
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);

/// After so many messages it rests, so that it is not done before it is killed, however fast the machine is.
const PACE_MESSAGES: u64 = 100;
const PACE: Duration = Duration::from_millis(1);

/// Appends the position of each message to `file`, and acknowledges it.
pub(crate) async fn at_least_once(place: &Place<'_>, file: &str) -> i32 {
    let state = open_state(place.url).await.expect("the store can be opened");
    let mut consumer = Consumer::builder(place.config(), state, place.key.clone())
        .commit_interval(COMMIT_INTERVAL)
        .follow(false)
        .open()
        .await
        .expect("the consumer can be opened");
    let mut log = OpenOptions::new().append(true).create(true).open(file).expect("the file can be opened");
    say("open");
    let mut read = 0_u64;
    while let Some(message) = consumer.next().await {
        let message = message.expect("nothing is wrong");
        // One call of the system, so that a kill leaves all of it, or nothing.
        log.write_all(format!("{}\n", message.position()).as_bytes()).expect("there is room");
        message.ack();
        read += 1;
        if read.is_multiple_of(PACE_MESSAGES) {
            sleep(PACE).await;
        }
    }
    let shutdown = consumer.shutdown(Duration::from_secs(5)).await.expect("the store is there");
    say(&format!("done {shutdown:?}"));
    0
}

/// Acknowledges every message for as long as it holds the lease.
pub(crate) async fn exclusive(place: &Place<'_>, owner: &str, ttl: Duration) -> i32 {
    let state = open_state(place.url).await.expect("the store can be opened");
    say("waiting");
    let mut consumer = Consumer::builder(place.config(), Telling::of(state), place.key.clone())
        .commit_interval(COMMIT_INTERVAL)
        .exclusive(ttl)
        .owner(owner)
        .wait_for_lease()
        .open()
        .await
        .expect("the consumer can be opened");
    while let Some(message) = consumer.next().await {
        match message {
            Ok(message) => message.ack(),
            Err(error) => {
                say(&format!("error {:?} {error}", error.kind()));
                if error.kind() == ErrorKind::State(StateErrorKind::Fenced) {
                    return TAKEN_OVER;
                }
            }
        }
    }
    say("end");
    0
}
