//! Single requests.

use std::time::Duration;

use logd_client::{Batch, BatchBuilder, ErrorKind, Offset, Outcome, Reason, TopicName};

use crate::support::{TestServer, within};

fn batch(topic: &TopicName, messages: &[&str]) -> Batch {
    let mut builder = BatchBuilder::new(topic, 65536);
    for message in messages {
        builder.push(message.as_bytes()).unwrap();
    }
    builder.finish().unwrap()
}

#[tokio::test]
async fn what_is_appended_is_read_back() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let topic = TopicName::new("numbers").unwrap();
    client.ping().await.unwrap();
    assert!(client.head(&topic).await.unwrap_err().is_not_found());
    assert!(client.tail(&topic, 1).await.unwrap_err().is_not_found());

    let (one, two) = (batch(&topic, &["1", "2"]), batch(&topic, &["3"]));
    assert_eq!(client.append(&one).await.unwrap(), Offset::ZERO);
    let second = client.append(&two).await.unwrap();
    assert_eq!(second.as_u64(), one.bytes().len() as u64);

    let all = client.tail(&topic, 3).await.unwrap();
    assert_eq!((all.offset, all.messages()), (Offset::ZERO, 3));
    assert_eq!(all.batches, [one, two.clone()]);
    assert_eq!(client.read(&topic, second, 1).await.unwrap().batches, [two]);
    let head = client.head(&topic).await.unwrap();
    assert_eq!((head.next, head.batches), (all.next_offset(), 2));
    assert!(client.read(&topic, head.next, 1).await.unwrap_err().is_not_found());
    assert!(client.read(&topic, Offset::new(1), 1).await.unwrap_err().is_not_found());
    let zero = client.read(&topic, Offset::ZERO, 0).await.unwrap_err();
    assert_eq!(zero.kind(), ErrorKind::Server(Reason::InvalidRequest));

    let topics = client.topics().await.unwrap();
    let numbers = topics.iter().find(|summary| summary.name == topic).unwrap();
    assert_eq!((numbers.oldest, numbers.next, numbers.partitions), (Offset::ZERO, head.next, 1));
    let stats = client.stats().await.unwrap();
    assert!(stats.iter().any(|(key, value)| key == "requests.batch" && value == "2"), "{stats:?}");
    let settings = client.server_config().await.unwrap();
    assert_eq!(settings.batch_bytes_max, 65536);
    assert!(["wait", "head", "topics", "ping"].iter().all(|name| settings.has_feature(name)));
    client.close().await.unwrap();
}

#[tokio::test]
async fn a_read_waits_at_the_end() {
    let server = TestServer::start().await;
    let (mut reader, mut writer) = (server.client(), server.client());
    let topic = TopicName::default();
    let none = reader.read_wait(&topic, Offset::ZERO, 1, Duration::from_millis(50)).await;
    assert!(none.unwrap_err().is_not_found());
    let one = batch(&topic, &["hello"]);
    let (read, appended) = tokio::join!(
        within("the batch", reader.read_wait(&topic, Offset::ZERO, 1, Duration::from_secs(30))),
        writer.append(&one)
    );
    appended.unwrap();
    assert_eq!(read.unwrap().batches, [one]);
}

#[tokio::test]
async fn a_refused_append_is_not_written() {
    let server = TestServer::start_with(|config| logd_server::Config { topics: 1, ..config }).await;
    let mut client = server.client();
    let topic = TopicName::new("one-too-many").unwrap();
    let error = client.append(&batch(&topic, &["hello"])).await.unwrap_err();
    assert_eq!((error.error.reason(), error.outcome), (Some(Reason::MaximumTopics), Outcome::NotWritten));
    client.append(&batch(&TopicName::default(), &["hello"])).await.unwrap();
}

#[tokio::test]
async fn a_restart_is_survived() {
    let mut server = TestServer::start().await;
    let mut client = server.client();
    let topic = TopicName::default();
    client.append(&batch(&topic, &["before"])).await.unwrap();
    server.stop().await;
    let (tail, ()) = tokio::join!(client.tail(&topic, 1), server.start_again());
    assert_eq!(tail.unwrap().messages(), 1);
    client.append(&batch(&topic, &["after"])).await.unwrap();
    assert_eq!(server.messages().await, ["before", "after"]);
}

#[tokio::test]
async fn an_idle_connection_that_the_server_closed_is_made_anew() {
    let server = TestServer::start_with(|config| logd_server::Config {
        idle_timeout: Duration::from_millis(50),
        ..config
    })
    .await;
    let (mut client, mut other) = (server.client(), server.client());
    let topic = TopicName::default();
    client.append(&batch(&topic, &["one"])).await.unwrap();
    // The other's connections come and go; when it is alone, the first one was closed.
    let mut alone = false;
    for _ in 0..200 {
        let stats = other.stats().await.unwrap();
        alone = stats.iter().any(|(key, value)| key == "conns.active" && value == "1");
        if alone {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(alone, "the idle connection was not closed");
    client.append(&batch(&topic, &["two"])).await.unwrap();
    assert_eq!(server.messages().await, ["one", "two"]);
}
