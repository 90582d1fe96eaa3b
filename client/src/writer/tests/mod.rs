//! The writer against a peer that says what a test has it say.

mod backlog;
mod edges;
mod handlers;
mod io;
mod own;
mod row;
mod spool;

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use logd_protocol::{Batch, Offset, Reason};

use super::{Receipt, TaskRuntime, UnknownOutcome, WriteError, Writer, WriterBuilder, WriterEvent};
use crate::error::{ErrorKind, Outcome};
use crate::retry::RetryPolicy;
use crate::testing::{CONFIG, Peer, Wire, within};

/// A wait after which a test has failed: batches are sent because they are full or flushed.
const NEVER: Duration = Duration::from_secs(3600);

fn messages(batch: &Batch) -> Vec<String> {
    batch.messages_from(0).map(|message| String::from_utf8(message.bytes.to_vec()).unwrap()).collect()
}

fn builder(peer: &Peer) -> WriterBuilder {
    Writer::builder(peer.config()).wait_interval(NEVER).runtime(TaskRuntime::Current)
}

/// Takes batches and answers them as an empty topic would, until the client closes or so many have come.
async fn serve(wire: &mut Wire, count: usize) -> Vec<Batch> {
    let mut offset = 0;
    let mut batches = Vec::new();
    for _ in 0..count {
        let batch = wire.batch().await;
        wire.send(format!("OK {offset} 1\r\n").as_bytes()).await;
        offset += batch.bytes().len();
        batches.push(batch);
    }
    batches
}

#[tokio::test]
async fn full_batches_are_sent_in_order_and_the_rest_on_flush() {
    let peer = Peer::bind().await;
    let receipts: Arc<Mutex<Vec<Receipt>>> = Arc::default();
    let sink = Arc::clone(&receipts);
    let writer = builder(&peer)
        .batch_bytes(512)
        .state_pusher(move |receipt: &Receipt| sink.lock().unwrap().push(receipt.clone()))
        .open()
        .unwrap();
    let written: Vec<String> = (0..100).map(|number| format!("message {number}")).collect();
    let count = {
        let mut builder = logd_protocol::BatchBuilder::new(&logd_protocol::TopicName::default(), 512);
        let mut count = 1;
        for message in &written {
            if builder.push(message.as_bytes()).is_err() {
                count += 1;
                builder.finish();
                builder.push(message.as_bytes()).unwrap();
            }
        }
        count
    };
    let ((), batches) = tokio::join!(
        async {
            for message in &written {
                writer.write(message.as_bytes()).await.unwrap();
            }
            writer.flush().await.unwrap();
            // A flush with nothing to do is at once.
            writer.flush().await.unwrap();
            // Every receipt was pushed when the writer is closed.
            writer.close().await.unwrap();
        },
        async { serve(&mut peer.accept_with(CONFIG).await, count).await }
    );
    assert_eq!(batches.iter().flat_map(messages).collect::<Vec<_>>(), written);
    let receipts = receipts.lock().unwrap();
    assert_eq!(receipts.len(), count);
    let mut next = Offset::ZERO;
    for (receipt, batch) in receipts.iter().zip(&batches) {
        assert_eq!((receipt.offset, receipt.messages, receipt.crc), (next, batch.messages(), batch.crc()));
        next = receipt.next;
    }
}

#[tokio::test]
async fn no_message_is_lost_when_the_server_closed_while_idle() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    for round in 0..20 {
        let message = format!("message {round}");
        let (flushed, batch) = tokio::join!(
            async {
                writer.write(message.as_bytes()).await.unwrap();
                writer.flush().await
            },
            async {
                let mut wire = peer.accept_with(CONFIG).await;
                let batch = serve(&mut wire, 1).await.remove(0);
                if round % 2 == 0 {
                    wire.send(b"ERR timed out\r\n").await;
                }
                batch
            }
        );
        flushed.unwrap();
        assert_eq!(messages(&batch), [message]);
    }
}

#[tokio::test]
async fn a_refused_batch_is_handed_back_whole_and_can_be_sent_again() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    let mut wire = {
        let (error, wire) = tokio::join!(
            async {
                writer.write(b"one").await.unwrap();
                writer.write(b"").await.unwrap();
                writer.flush().await.unwrap_err()
            },
            async {
                let mut wire = peer.accept_with(CONFIG).await;
                wire.batch().await;
                wire.send(b"ERR topic not allowed\r\n").await;
                wire
            }
        );
        assert_eq!((error.batches, error.messages), (1, 2));
        assert_eq!(error.first.reason(), Some(Reason::TopicNotAllowed));
        wire
    };
    // It is reported until it is taken.
    assert_eq!(writer.flush().await.unwrap_err().messages, 2);
    let failed = writer.failed().unwrap();
    assert!(writer.failed().is_none());
    writer.flush().await.unwrap();
    assert_eq!((failed.outcome, failed.attempts), (Outcome::NotWritten, 1));
    assert_eq!(messages(&failed.batch), ["one", ""]);

    // What was written before it goes first.
    writer.write(b"two").await.unwrap();
    writer.retry(failed.clone()).unwrap();
    let (flushed, batches) = tokio::join!(writer.flush(), serve(&mut wire, 2));
    flushed.unwrap();
    assert_eq!(messages(&batches[0]), ["two"]);
    // This server knows no identities, and gets none.
    assert_eq!(batches[1], failed.batch.with_id(None));
}

#[tokio::test]
async fn an_unknown_outcome_is_handed_back_or_tried_again_as_chosen() {
    for choice in [UnknownOutcome::HandBack, UnknownOutcome::Retry] {
        let peer = Peer::bind().await;
        let writer = builder(&peer).unknown_outcome(choice).open().unwrap();
        writer.write(b"hello").await.unwrap();
        let (flushed, ()) = tokio::join!(writer.flush(), async {
            let mut wire = peer.accept_with(CONFIG).await;
            let first = wire.batch().await;
            drop(wire);
            if choice == UnknownOutcome::Retry {
                let again = serve(&mut peer.accept_with(CONFIG).await, 1).await.remove(0);
                assert_eq!(again, first);
            }
        });
        match choice {
            UnknownOutcome::Retry => flushed.unwrap(),
            UnknownOutcome::HandBack => {
                assert_eq!(flushed.unwrap_err().first.kind(), ErrorKind::Disconnected);
                let failed = writer.failed().unwrap();
                assert_eq!((failed.outcome, failed.attempts), (Outcome::Unknown, 1));
            }
        }
    }
}

#[tokio::test]
async fn each_message_is_told_its_position_when_the_server_has_it_and_not_before() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).open().unwrap();
    writer.write(b"first").await.unwrap();
    let mut deliveries = vec![writer.send(b"second").await.unwrap(), writer.send(b"third").await.unwrap()];
    let long = "x".repeat(400);
    deliveries.push(writer.send(long.as_bytes()).await.unwrap());
    let flushing = tokio::spawn({
        let writer = writer.clone();
        async move { writer.flush().await }
    });
    let mut wire = peer.accept_with(CONFIG).await;
    let batch = wire.batch().await;
    assert!(poll!(&mut deliveries[0]).is_pending());
    wire.send(b"OK 7000 1\r\n").await;
    let told: Vec<_> = batch.messages_from(0).skip(1).map(|message| message.delta as u64).collect();
    for (delivery, delta) in deliveries.iter_mut().zip(&told) {
        let position = within("the position", delivery).await.unwrap();
        assert_eq!((position.offset, position.delta), (Offset::new(7000), *delta));
    }
    assert_eq!(told.len(), 2);
    wire.batch().await;
    assert!(poll!(&mut deliveries[2]).is_pending());
    wire.send(b"ERR topic not allowed\r\n").await;
    let failure = within("the failure", &mut deliveries[2]).await.unwrap_err();
    assert_eq!(
        (failure.error.reason(), failure.outcome),
        (Some(Reason::TopicNotAllowed), Outcome::NotWritten)
    );
    assert_eq!(flushing.await.unwrap().unwrap_err().messages, 1);
}

#[tokio::test]
async fn a_delivery_is_told_when_the_writer_ends_without_it() {
    let config = Peer::bind().await.config().retry(RetryPolicy::none());
    let writer = Writer::builder(config).wait_interval(NEVER).open().unwrap();
    let delivery = writer.send(b"hello").await.unwrap();
    writer.close().await.unwrap_err();
    drop(writer);
    assert_eq!(within("the failure", delivery).await.unwrap_err().outcome, Outcome::NotWritten);
}

#[tokio::test]
async fn order_is_kept_over_retries() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).open().unwrap();
    let long: Vec<String> = (0..3).map(|number| number.to_string().repeat(400)).collect();
    for message in &long {
        writer.write(message.as_bytes()).await.unwrap();
    }
    let (flushed, batches) = tokio::join!(writer.flush(), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.batch().await;
        wire.send(b"ERR disk full\r\n").await;
        wire.batch().await;
        wire.send(b"ERR shutting down\r\n").await;
        drop(wire);
        serve(&mut peer.accept_with(CONFIG).await, 3).await
    });
    flushed.unwrap();
    assert_eq!(batches.iter().flat_map(messages).collect::<Vec<_>>(), long);
}

#[tokio::test]
async fn a_write_waits_for_room_and_leaves_nothing_behind_when_it_is_dropped() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).buffer_bytes(1024).open().unwrap();
    let message = "x".repeat(400);
    writer.write(message.as_bytes()).await.unwrap();
    writer.write(message.as_bytes()).await.unwrap();
    let mut wire = peer.accept_with(CONFIG).await;
    let first = wire.batch().await;
    {
        // Longer than what the two others leave of the 1024 bytes.
        let refused = writer.write(&[b'w'; 200]);
        let mut refused = std::pin::pin!(refused);
        assert!(poll!(&mut refused).is_pending());
        assert!(poll!(&mut refused).is_pending());
    }
    let third = "y".repeat(400);
    let mut waiting = std::pin::pin!(writer.write(third.as_bytes()));
    assert!(poll!(&mut waiting).is_pending());
    // One that would fit waits for its turn.
    let mut short = std::pin::pin!(writer.write(b"z"));
    assert!(poll!(&mut short).is_pending());
    wire.send(b"OK 0 1\r\n").await;
    let batches = async {
        let (a, b, ()) = tokio::join!(waiting, short, async {});
        a.unwrap();
        b.unwrap();
        writer.flush().await.unwrap();
    };
    let ((), served) = tokio::join!(batches, serve(&mut wire, 2));
    assert_eq!(messages(&first), [message.as_str()]);
    let rest: Vec<String> = served.iter().flat_map(messages).collect();
    assert_eq!(rest, [message.as_str(), third.as_str(), "z"]);
}

#[tokio::test]
async fn a_message_without_room_in_its_budget_is_dropped_counted_and_announced() {
    let peer = Peer::bind().await;
    let writer =
        builder(&peer).batch_bytes(512).buffer_bytes(512).budget(Duration::from_millis(20)).open().unwrap();
    writer.write(&[b'x'; 400]).await.unwrap();
    for _ in 0..3 {
        let dropped = within("the end of the budget", writer.write(&[b'y'; 400])).await;
        assert_eq!(
            dropped.unwrap_err().to_string(),
            "there was no room for the message within `20ms`: it was dropped"
        );
    }
    assert_eq!(writer.dropped(), 3);
    let mut wire = peer.accept_with(CONFIG).await;
    wire.batch().await;
    let (closed, batches) = tokio::join!(writer.close(), async {
        wire.send(b"OK 0 1\r\n").await;
        serve(&mut wire, 1).await
    });
    closed.unwrap();
    let notice = "logd-writer: 3 messages with 1200 bytes were dropped: there was no room";
    assert_eq!(batches.iter().flat_map(messages).collect::<Vec<_>>(), [notice]);
    assert_eq!(writer.dropped(), 3);
}

#[tokio::test]
async fn a_full_buffer_sends_what_is_not_due_yet() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).buffer_bytes(512).open().unwrap();
    writer.write(&[b'x'; 200]).await.unwrap();
    // Both fit a batch only one after the other, and nothing but this write makes the first one go.
    let (written, batches) = tokio::join!(writer.write(&[b'y'; 400]), async {
        serve(&mut peer.accept_with(CONFIG).await, 1).await
    });
    written.unwrap();
    assert_eq!(messages(&batches[0]), ["x".repeat(200)]);
}

#[tokio::test]
async fn a_full_backlog_is_an_error_until_it_is_taken() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).batch_bytes(512).buffer_bytes(512).backlog_bytes(512).open().unwrap();
    let message = [b'x'; 400];
    writer.write(&message).await.unwrap();
    // The write waits for room, and is told that none will come.
    let (written, mut wire) = tokio::join!(writer.write(&message), async {
        let mut wire = peer.accept_with(CONFIG).await;
        wire.batch().await;
        wire.send(b"ERR maximum topics allowed\r\n").await;
        wire
    });
    assert!(matches!(written, Err(WriteError::BacklogFull)));
    assert!(matches!(writer.write(&message).await, Err(WriteError::BacklogFull)));
    writer.failed().unwrap();
    writer.write(&message).await.unwrap();
    let (flushed, _) = tokio::join!(writer.flush(), serve(&mut wire, 1));
    flushed.unwrap();
}

#[tokio::test]
async fn closing_again_is_no_error_and_writing_afterwards_is() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    writer.write(b"hello").await.unwrap();
    let clone = writer.clone();
    let (first, second, ()) = tokio::join!(writer.close(), clone.close(), async {
        let mut wire = peer.accept_with(CONFIG).await;
        serve(&mut wire, 1).await;
        wire.closed().await;
    });
    first.unwrap();
    second.unwrap();
    writer.close().await.unwrap();
    assert!(matches!(writer.write(b"late").await, Err(WriteError::Closed)));
    writer.flush().await.unwrap();
}

#[tokio::test]
async fn closing_without_a_server_gives_everything_back() {
    let config = Peer::bind().await.config().retry(RetryPolicy::default().attempts(Some(2)));
    let writer = Writer::builder(config).batch_bytes(512).wait_interval(NEVER).open().unwrap();
    let written: Vec<String> = (0..50).map(|number| number.to_string().repeat(200)).collect();
    for message in &written {
        writer.write(message.as_bytes()).await.unwrap();
    }
    let error = within("the end", writer.close()).await.unwrap_err();
    assert_eq!((error.messages, error.first.kind()), (50, ErrorKind::Connect));
    assert_eq!(writer.close().await.unwrap_err().messages, 50, "it is reported until it is taken");
    let mut handed_back = Vec::new();
    while let Some(failed) = writer.failed() {
        // Only the first was tried: those behind it would have waited in vain.
        let attempts = if handed_back.is_empty() { 2 } else { 0 };
        assert_eq!((failed.outcome, failed.attempts), (Outcome::NotWritten, attempts));
        handed_back.extend(messages(&failed.batch));
        if handed_back.len() == 50 {
            assert!(matches!(writer.retry(failed.clone()), Err(WriteError::Closed)));
            assert_eq!(writer.failed().unwrap().batch, failed.batch, "it went back into the backlog");
        }
    }
    assert_eq!(handed_back, written);
    writer.close().await.unwrap();
}

#[tokio::test]
async fn what_a_dropped_writer_has_is_still_sent() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    writer.write(b"hello").await.unwrap();
    drop(writer);
    let mut wire = peer.accept_with(CONFIG).await;
    assert_eq!(messages(&serve(&mut wire, 1).await[0]), ["hello"]);
    wire.closed().await;
}

#[tokio::test]
async fn a_dropped_flush_has_sent_the_batch() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    writer.write(b"hello").await.unwrap();
    assert!(poll!(std::pin::pin!(writer.flush())).is_pending());
    assert_eq!(messages(&serve(&mut peer.accept_with(CONFIG).await, 1).await[0]), ["hello"]);
}

#[tokio::test]
async fn a_dropped_close_goes_on() {
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    writer.write(b"hello").await.unwrap();
    assert!(poll!(std::pin::pin!(writer.close())).is_pending());
    assert!(matches!(writer.write(b"late").await, Err(WriteError::Closed)));
    let mut wire = peer.accept_with(CONFIG).await;
    let (closed, batches) = tokio::join!(writer.close(), serve(&mut wire, 1));
    closed.unwrap();
    assert_eq!(messages(&batches[0]), ["hello"]);
}

#[tokio::test]
async fn a_pusher_that_panics_is_not_called_again_and_the_writer_goes_on() {
    let peer = Peer::bind().await;
    let (heard, mut events) = tokio::sync::mpsc::unbounded_channel();
    let writer = builder(&peer)
        .batch_bytes(512)
        .state_pusher(|_: &Receipt| panic!("as the test wants it"))
        .error_handler(move |event| heard.send(event).unwrap())
        .open()
        .unwrap();
    let mut wire = None;
    for text in ["a", "b", "c"] {
        writer.write(text.repeat(400).as_bytes()).await.unwrap();
        let (flushed, batches) = tokio::join!(writer.flush(), async {
            if wire.is_none() {
                wire = Some(peer.accept_with(CONFIG).await);
            }
            serve(wire.as_mut().unwrap(), 1).await
        });
        flushed.unwrap();
        assert_eq!(messages(&batches[0]), [text.repeat(400)]);
    }
    within("the end", writer.close()).await.unwrap();
    let WriterEvent::ReceiptFailed { error } = events.recv().await.unwrap() else { panic!() };
    assert_eq!(error.to_string(), "the pusher of receipts has ended");
}

#[test]
fn what_an_ended_runtime_leaves_is_handed_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let writer = runtime.block_on(async {
        let config = Peer::bind().await.config();
        let writer = Writer::builder(config).wait_interval(NEVER).open().unwrap();
        writer.write(b"hello").await.unwrap();
        writer
    });
    drop(runtime);
    let failed = writer.failed().unwrap();
    assert_eq!(messages(&failed.batch), ["hello"]);
    assert_eq!((failed.error.kind(), failed.outcome), (ErrorKind::Closed, Outcome::NotWritten));
}

#[tokio::test]
async fn settings_out_of_bounds_are_refused() {
    let peer = Peer::bind().await;
    for (builder, name) in [
        (builder(&peer).batch_bytes(511), "batch_bytes"),
        (builder(&peer).batch_bytes((64 << 20) + 1), "batch_bytes"),
        (builder(&peer).buffer_bytes(65535), "buffer_bytes"),
    ] {
        let error = builder.open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with(name), "{error}");
    }
}

#[tokio::test]
async fn every_future_can_be_spawned_and_a_write_is_ready_at_once() {
    fn assert_send<T: Send>(_: T) {}
    let peer = Peer::bind().await;
    let writer = builder(&peer).open().unwrap();
    assert_send(writer.write(b""));
    assert_send(writer.flush());
    assert_send(writer.close());
    assert!(matches!(poll!(std::pin::pin!(writer.write(b"x"))), Poll::Ready(Ok(()))));
}
