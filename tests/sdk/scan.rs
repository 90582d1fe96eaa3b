//! Scanners.

use std::time::Duration;

use logd_client::{BatchBuilder, ErrorKind, Offset, Position, Scanner, Start, TopicName};
use logd_server::Config;

use crate::support::{TestServer, take, take_all, within};

/// Writes `messages` messages, numbered, a few to a batch.
async fn fill(server: &TestServer, messages: usize) -> Vec<String> {
    let writer = logd_client::Writer::builder(server.client_config()).batch_bytes(512).open().unwrap();
    let texts: Vec<String> = (0..messages).map(|number| format!("message {number}")).collect();
    for text in &texts {
        writer.write(text.as_bytes()).await.unwrap();
    }
    writer.close().await.unwrap();
    texts
}

#[tokio::test]
async fn every_position_begins_with_its_message() {
    let server = TestServer::start().await;
    let texts = fill(&server, 60).await;
    let mut scanner = Scanner::builder(server.client_config()).open().unwrap();
    for index in 0..texts.len() {
        let message = within("a message", scanner.next()).await.unwrap().unwrap();
        assert_eq!(server.messages_from(Start::At(message.position)).await, texts[index..]);
        // What the scanner says comes next is what does.
        assert_eq!(server.messages_from(Start::At(scanner.position().unwrap())).await, texts[index + 1..]);
    }
    assert!(within("the end", scanner.next()).await.is_none());
}

#[tokio::test]
async fn limits_are_exact() {
    let server = TestServer::start().await;
    let texts = fill(&server, 60).await;
    for limit in [1, 2, 29, 59, 60, 61] {
        for read_messages in [1, 7, 10_000] {
            let scanner = Scanner::builder(server.client_config())
                .limit(limit)
                .read_messages(read_messages)
                .open()
                .unwrap();
            let count = texts.len().min(usize::try_from(limit).unwrap());
            assert_eq!(take_all(scanner).await, texts[..count], "limit {limit}, {read_messages} a READ");
        }
    }
}

#[tokio::test]
async fn a_server_that_allows_few_messages_a_read_is_read_in_small_steps() {
    let server = TestServer::start_with(|config| Config { max_messages: 3, ..config }).await;
    let texts = fill(&server, 60).await;
    assert_eq!(server.messages().await, texts);
}

#[tokio::test]
async fn an_empty_topic_ends_and_an_unknown_one_is_an_error() {
    let server = TestServer::start().await;
    for start in [Start::Earliest, Start::Latest, Start::At(Position::ZERO)] {
        assert!(server.messages_from(start).await.is_empty());
        let topic = TopicName::new("unknown").unwrap();
        let mut scanner = Scanner::builder(server.client_config()).topic(topic).start(start).open().unwrap();
        let error = within("the error", scanner.next()).await.unwrap().unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(error.to_string().contains("`unknown`"), "{error}");
        assert!(scanner.next().await.is_none());
    }
}

#[tokio::test]
async fn positions_that_are_none_are_errors() {
    let server = TestServer::start().await;
    fill(&server, 10).await;
    for (position, kind) in [("1.0", true), ("99999.0", true), ("0.1", false), ("0.99999", false)] {
        let start = Start::At(position.parse().unwrap());
        let mut scanner = Scanner::builder(server.client_config()).start(start).open().unwrap();
        let error = within("the error", scanner.next()).await.unwrap().unwrap_err();
        assert_eq!(error.is_not_found(), kind, "{position}: {error}");
    }
}

#[tokio::test]
async fn following_sees_what_is_written_later() {
    let server = TestServer::start().await;
    let texts = fill(&server, 10).await;
    let mut earliest = server.follower();
    let mut latest =
        Scanner::builder(server.client_config()).start(Start::Latest).follow(true).open().unwrap();
    let unknown = TopicName::new("unknown").unwrap();
    let mut unknown_topic = Scanner::builder(server.client_config())
        .topic(unknown.clone())
        .follow(true)
        .poll_interval(Duration::from_millis(1))
        .open()
        .unwrap();
    assert_eq!(take(&mut earliest, 10).await, texts);
    // It has found the end once it has been told where that is.
    within("the start", async {
        while latest.position().is_none() {
            let _ = tokio::time::timeout(Duration::from_millis(5), latest.next()).await;
        }
    })
    .await;
    for number in 0..3 {
        for topic in [TopicName::default(), unknown.clone()] {
            let writer = logd_client::Writer::builder(server.client_config()).topic(topic).open().unwrap();
            writer.write(number.to_string().as_bytes()).await.unwrap();
            writer.close().await.unwrap();
        }
        for scanner in [&mut earliest, &mut latest, &mut unknown_topic] {
            assert_eq!(take(scanner, 1).await, [number.to_string()]);
        }
    }
}

#[tokio::test]
async fn a_follower_survives_a_restart() {
    let mut server = TestServer::start().await;
    let mut follower = server.follower();
    for round in 0..3 {
        let texts = fill(&server, 20).await;
        assert_eq!(take(&mut follower, 20).await, texts, "round {round}");
        server.stop().await;
        server.start_again().await;
    }
}

#[tokio::test]
async fn a_scan_that_is_looked_at_only_now_and_then_loses_nothing() {
    let server = TestServer::start().await;
    let texts = fill(&server, 200).await;
    let mut scanner = Scanner::builder(server.client_config()).read_messages(5).open().unwrap();
    let mut scanned = Vec::new();
    loop {
        // Every future is dropped after one look, unless it is ready.
        match futures::poll!(std::pin::pin!(scanner.next())) {
            std::task::Poll::Ready(Some(message)) => {
                scanned.push(String::from_utf8(message.unwrap().bytes.to_vec()).unwrap());
            }
            std::task::Poll::Ready(None) => break,
            std::task::Poll::Pending => tokio::task::yield_now().await,
        }
    }
    assert_eq!(scanned, texts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_drops_under_a_slow_follower_is_an_error() {
    let server = TestServer::start_with(|config| Config {
        batch_bytes: 4096,
        partition_bytes: 4096,
        partitions: 2,
        ..config
    })
    .await;
    fill(&server, 20).await;
    let mut scanner = server.follower();
    assert_eq!(take(&mut scanner, 20).await.len(), 20);
    // Now it waits at the end. Stopped there, it would find its place gone.
    let position = scanner.position().unwrap();
    drop(scanner);
    fill(&server, 2000).await;
    let mut scanner =
        Scanner::builder(server.client_config()).start(Start::At(position)).follow(true).open().unwrap();
    let error = within("the error", scanner.next()).await.unwrap().unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn damage_under_a_valid_index_costs_only_the_damaged_batch() {
    let mut server = TestServer::start().await;
    let mut offsets = Vec::new();
    for number in 0..10 {
        let mut batch = BatchBuilder::new(&TopicName::default(), 512);
        batch.push(format!("message {number}").as_bytes()).unwrap();
        offsets.push(server.client().append(&batch.finish().unwrap()).await.unwrap().as_u64());
    }
    server.stop().await;
    let partition = server.workdir().join("default/0.log");
    let mut bytes = std::fs::read(&partition).unwrap();
    bytes[usize::try_from(offsets[5]).unwrap()] ^= 1;
    std::fs::write(&partition, bytes).unwrap();
    server.start_again().await;
    let mut scanner = Scanner::builder(server.client_config()).open().unwrap();
    assert_eq!(take(&mut scanner, 5).await, (0..5).map(|n| format!("message {n}")).collect::<Vec<_>>());
    let gap = within("the gap", scanner.next()).await.unwrap().unwrap_err();
    let (from, to) = (Offset::new(offsets[5]), Offset::new(offsets[6]));
    assert_eq!(gap.kind(), ErrorKind::Gap { from, to });
    assert_eq!(take_all(scanner).await, (6..10).map(|n| format!("message {n}")).collect::<Vec<_>>());
}

/// There is nothing behind the damage that an answer could lead to.
#[tokio::test]
async fn damage_at_the_end_is_an_error_until_more_comes() {
    for follow in [false, true] {
        let mut server = TestServer::start().await;
        let mut offsets = Vec::new();
        for number in 0..4 {
            let mut batch = BatchBuilder::new(&TopicName::default(), 512);
            batch.push(format!("message {number}").as_bytes()).unwrap();
            offsets.push(server.client().append(&batch.finish().unwrap()).await.unwrap().as_u64());
        }
        let end = server.client().head(&TopicName::default()).await.unwrap().next;
        server.stop().await;
        let partition = server.workdir().join("default/0.log");
        let mut bytes = std::fs::read(&partition).unwrap();
        bytes[usize::try_from(offsets[2]).unwrap()] ^= 1;
        bytes[usize::try_from(offsets[3]).unwrap()] ^= 1;
        std::fs::write(&partition, bytes).unwrap();
        server.start_again().await;
        let builder = Scanner::builder(server.client_config()).follow(follow);
        let mut scanner = builder.clone().open().unwrap();
        assert_eq!(take(&mut scanner, 2).await, ["message 0", "message 1"]);
        let error = within("the error", scanner.next()).await.unwrap().unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert!(within("the end", scanner.next()).await.is_none());
        server.writer().write(b"later").await.unwrap();
        let mut scanner = builder.open().unwrap();
        assert_eq!(take(&mut scanner, 2).await, ["message 0", "message 1"]);
        let gap = within("the gap", scanner.next()).await.unwrap().unwrap_err();
        assert_eq!(gap.kind(), ErrorKind::Gap { from: Offset::new(offsets[2]), to: end });
        assert_eq!(take(&mut scanner, 1).await, ["later"]);
    }
}

#[tokio::test]
async fn an_empty_topic_that_does_not_begin_at_0_ends_too() {
    let mut server = TestServer::start().await;
    server.stop().await;
    let topic = server.workdir().join("default");
    std::fs::remove_dir_all(&topic).unwrap();
    std::fs::create_dir(&topic).unwrap();
    std::fs::write(topic.join("5000.log"), b"").unwrap();
    server.start_again().await;
    assert!(server.messages().await.is_empty());
    let mut follower = server.follower();
    server.writer().write(b"first").await.unwrap();
    assert_eq!(take(&mut follower, 1).await, ["first"]);
}
