//! Writers.

use std::collections::HashMap;
use std::time::Duration;

use logd_client::{Outcome, WriteError, Writer};
use logd_server::Config;

use crate::support::{TestServer, within};

#[tokio::test]
async fn messages_of_every_length_come_back() {
    let server = TestServer::start().await;
    let writer = server.writer();
    let WriteError::TooLong { bytes_max, .. } = writer.write(&vec![b'x'; 65536]).await.unwrap_err() else {
        panic!("a message of the size of a batch was taken");
    };
    let error = writer.write(&vec![b'x'; bytes_max + 1]).await.unwrap_err();
    assert!(
        matches!(error, WriteError::TooLong { bytes, bytes_max: told } if (bytes, told) == (bytes_max + 1, bytes_max)),
        "{error}"
    );
    let texts = [String::new(), "x".repeat(bytes_max), "\r\nMSG 1\r\n".into(), String::new()];
    for text in &texts {
        writer.write(text.as_bytes()).await.unwrap();
    }
    writer.close().await.unwrap();
    assert_eq!(server.messages().await, texts);
}

#[tokio::test]
async fn the_callers_buffer_can_be_used_again_at_once() {
    let server = TestServer::start().await;
    let writer = server.writer();
    let mut buffer = [0; 3];
    for digit in b'0'..=b'9' {
        buffer.fill(digit);
        writer.write(&buffer).await.unwrap();
    }
    writer.flush().await.unwrap();
    let expected: Vec<String> = (0..10).map(|digit| digit.to_string().repeat(3)).collect();
    assert_eq!(server.messages().await, expected);
}

#[tokio::test]
async fn what_is_not_flushed_is_sent_after_the_interval() {
    let server = TestServer::start().await;
    for interval in [Duration::ZERO, Duration::from_millis(20)] {
        let writer = Writer::builder(server.client_config()).wait_interval(interval).open().unwrap();
        let mut follower = server.follower();
        writer.write(b"hello").await.unwrap();
        within("the message", follower.next()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_write_at_once_and_each_keeps_its_order() {
    const TASKS: usize = 50;
    const MESSAGES: usize = 400;
    let server = TestServer::start().await;
    let writer = Writer::builder(server.client_config()).batch_bytes(2048).buffer_bytes(8192).open().unwrap();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let writer = writer.clone();
            tokio::spawn(async move {
                for number in 0..MESSAGES {
                    writer.write(format!("{task} {number}").as_bytes()).await.unwrap();
                    if number % 100 == task {
                        writer.flush().await.unwrap();
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        within("a task", task).await.unwrap();
    }
    within("the close", writer.close()).await.unwrap();
    let mut next: HashMap<String, usize> = HashMap::new();
    let messages = server.messages().await;
    assert_eq!(messages.len(), TASKS * MESSAGES);
    for message in messages {
        let (task, number) = message.split_once(' ').unwrap();
        let expected = next.entry(task.to_owned()).or_default();
        assert_eq!(number.parse::<usize>().unwrap(), *expected, "of task {task}");
        *expected += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_in_the_middle_lose_and_repeat_nothing_silently() {
    let mut server = TestServer::start().await;
    let writer = Writer::builder(server.client_config()).batch_bytes(512).buffer_bytes(4096).open().unwrap();
    let mut follower = server.follower();
    let count = 3000;
    let writing = tokio::spawn({
        let writer = writer.clone();
        async move {
            let mut handed_back = Vec::new();
            for number in 0..count {
                loop {
                    match writer.write(number.to_string().as_bytes()).await {
                        Ok(()) => break,
                        Err(WriteError::BacklogFull) => handed_back.extend(writer.failed()),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            // What comes of it is asked for batch by batch below.
            let _ = writer.close().await;
            handed_back.extend(std::iter::from_fn(|| writer.failed()));
            handed_back
        }
    });
    let mut scanned: Vec<u32> = Vec::new();
    for round in 0..4 {
        for _ in 0..500 {
            let message = within("a message", follower.next()).await.unwrap().unwrap();
            scanned.push(std::str::from_utf8(&message.bytes).unwrap().parse().unwrap());
        }
        if round < 3 {
            server.stop().await;
            server.start_again().await;
        }
    }
    let handed_back = within("the writer's end", writing).await.unwrap();
    let stored: Vec<u32> = server.messages().await.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(scanned, stored[..scanned.len()], "the follower saw something else than is there");
    assert!(stored.is_sorted_by(|a, b| a < b), "a message was repeated or moved");
    for failed in &handed_back {
        assert_eq!(failed.outcome, Outcome::Unknown, "{}", failed.error);
    }
    let missing: Vec<u32> = (0..count).filter(|number| stored.binary_search(number).is_err()).collect();
    let known: Vec<u32> = handed_back
        .iter()
        .flat_map(|failed| failed.batch.messages_from(0))
        .map(|message| std::str::from_utf8(&message.bytes).unwrap().parse().unwrap())
        .collect();
    for number in missing {
        assert!(known.contains(&number), "message {number} vanished");
    }
}

#[tokio::test]
async fn a_batch_that_the_server_refuses_comes_back_whole() {
    let server = TestServer::start_with(|config| Config { batch_bytes: 512, ..config }).await;
    let writer = server.writer();
    let texts: Vec<String> = (0..100).map(|number| format!("message {number}")).collect();
    for text in &texts {
        writer.write(text.as_bytes()).await.unwrap();
    }
    let error = writer.flush().await.unwrap_err();
    assert_eq!((error.batches, error.messages), (1, 100));
    let failed = writer.failed().unwrap();
    assert_eq!(failed.outcome, Outcome::NotWritten);
    let handed_back: Vec<_> = failed.batch.messages_from(0).map(|message| message.bytes).collect();
    assert_eq!(handed_back, texts);
    writer.close().await.unwrap();
}

#[tokio::test]
async fn a_dropped_write_has_either_been_taken_or_not() {
    let server = TestServer::start().await;
    let writer = Writer::builder(server.client_config()).batch_bytes(512).buffer_bytes(512).open().unwrap();
    let mut taken = Vec::new();
    for number in 0..500 {
        let text = format!("{number:>40}");
        // Give it up after a random number of looks: what was ready was taken, the rest was not.
        let mut write = std::pin::pin!(writer.write(text.as_bytes()));
        for _ in 0..number % 3 {
            if let std::task::Poll::Ready(written) = futures::poll!(&mut write) {
                written.unwrap();
                taken.push(text.clone());
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    writer.close().await.unwrap();
    assert!(taken.len() < 500);
    assert_eq!(server.messages().await, taken);
}
