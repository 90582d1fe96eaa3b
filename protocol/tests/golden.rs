//! The bytes of the protocol, kept in files: what is read from them and what is written must never change.
//!
//! The files were made without this crate. `config_go.bin` is what Go logd 0.3.2 answers.
#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use bytes::BytesMut;
use logd_protocol::limits::{BATCH_BYTES_DEFAULT, MOK_BYTES_MAX, READ_MESSAGES_DEFAULT};
use logd_protocol::{
    Batch, BatchBuilder, Bound, Decoded, Offset, Reason, Request, Response, ServerConfig, TopicInfo,
    TopicName, TopicRef, checksum, decode_batch, decode_request, decode_response,
};
use std::time::Duration;

const REQUESTS: &[u8] = include_bytes!("../testdata/requests.bin");
const ANSWERS: &[u8] = include_bytes!("../testdata/answers.bin");
const BATCHES: &[u8] = include_bytes!("../testdata/batches.bin");
const CONFIG: &[u8] = include_bytes!("../testdata/config.bin");
const CONFIG_GO: &[u8] = include_bytes!("../testdata/config_go.bin");

/// The example of the protocol's description.
const EXAMPLE: &[u8] = b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";

fn topic(name: &str) -> TopicRef<'_> {
    TopicRef::parse(name.as_bytes()).expect("a topic name")
}

fn build(name: &str, messages: &[&[u8]]) -> Batch {
    let mut builder = BatchBuilder::new(&TopicName::new(name).expect("a topic name"), BATCH_BYTES_DEFAULT);
    for message in messages {
        builder.push(message).expect("there is room");
    }
    builder.finish().expect("there are messages")
}

/// The whole values that follow each other in `bytes`.
fn all<'a, T>(mut bytes: &'a [u8], decode: impl Fn(&'a [u8]) -> Decoded<T>) -> Vec<T> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let Decoded::Whole { value, bytes: taken } = decode(bytes) else {
            unreachable!("no whole one in front of {:?}", String::from_utf8_lossy(bytes));
        };
        values.push(value);
        bytes = &bytes[taken..];
    }
    values
}

#[test]
fn the_example_has_its_bytes_and_its_checksum() {
    let batch = build("default", &[b"hello", b"world!"]);
    assert_eq!(&batch.bytes()[..], EXAMPLE);
    assert_eq!(batch.bytes().len(), 60);
    assert_eq!(batch.body().len(), 29);
    assert_eq!(batch.crc(), 2_499_380_544);
    assert_eq!(checksum(&batch.body()), batch.crc());
    assert!(BATCHES.starts_with(EXAMPLE) && REQUESTS.starts_with(EXAMPLE));
}

#[test]
fn requests_are_read_and_written_as_ever() {
    let requests = all(REQUESTS, |buffer| decode_request(buffer, BATCH_BYTES_DEFAULT, READ_MESSAGES_DEFAULT));
    let requests: Vec<_> = requests.into_iter().map(|request| request.expect("within the bounds")).collect();
    let read = |name, offset, messages, wait| Request::Read {
        topic: topic(name),
        offset: Offset::new(offset),
        messages,
        wait,
    };
    assert_eq!(
        requests[2..],
        [
            read("default", 0, 1, None),
            read("a", u64::MAX, 50_000, None),
            read("default", 60, 7, Some(Duration::from_secs(60))),
            Request::Tail { topic: topic("default"), messages: 100 },
            Request::Head { topic: topic("a.B_c-1") },
            Request::At { topic: topic("default"), time_ms: 1_795_500_000_123, bound: Bound::Lower },
            Request::At { topic: topic("a"), time_ms: u64::MAX, bound: Bound::Upper },
            Request::Topics,
            Request::Ping,
            Request::Stats,
            Request::Config,
            Request::Close,
        ]
    );
    let mut written = Vec::new();
    for request in &requests {
        request.put(&mut written);
    }
    assert_eq!(written, REQUESTS);
}

#[test]
fn answers_are_read_and_written_as_ever() {
    let answers = all(ANSWERS, |buffer| decode_response(buffer, MOK_BYTES_MAX));
    let topics: &[u8] = b"default 0 60 60 1\r\na.B_c-1 18446744073709551000 18446744073709551615 615 8\r\n";
    assert_eq!(
        answers,
        [
            Response::Ok,
            Response::Found { offset: Offset::ZERO, batches: 1 },
            Response::Found { offset: Offset::new(u64::MAX), batches: u64::MAX },
            Response::Lines(b""),
            Response::Lines(topics),
            Response::Error(Reason::Unknown),
            Response::Error(Reason::NotFound),
            Response::Error(Reason::InvalidRequest),
            Response::Error(Reason::MaximumTopics),
            Response::Error(Reason::TopicNotAllowed),
            Response::Error(Reason::TooLarge),
            Response::Error(Reason::InvalidProtocol),
            Response::Error(Reason::ChecksumMismatch),
            Response::Error(Reason::MissingTopic),
            Response::Error(Reason::DiskFull),
            Response::Error(Reason::StorageFailed),
            Response::Error(Reason::TooManyConnections),
            Response::Error(Reason::TimedOut),
            Response::Error(Reason::ShuttingDown),
        ]
    );
    let mut written = Vec::new();
    for answer in &answers {
        answer.put(&mut written);
    }
    assert_eq!(written, ANSWERS);

    let infos: Vec<_> = TopicInfo::parse(topics).map(|info| info.expect("a line of TOPICS")).collect();
    assert_eq!(infos[0].topic.as_str(), "default");
    assert_eq!(
        infos[1],
        TopicInfo {
            topic: topic("a.B_c-1"),
            oldest: Offset::new(u64::MAX - 615),
            next: Offset::new(u64::MAX),
            bytes: 615,
            partitions: 8,
        }
    );
    let mut written = Vec::new();
    for info in &infos {
        info.put(&mut written);
    }
    assert_eq!(written, topics);
}

#[test]
fn batches_are_read_and_written_as_ever() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let long_name = "x".repeat(255);
    let expected = [
        build("default", &[b"hello", b"world!"]),
        build("a", &[b""]),
        build("look.alike", &[EXAMPLE, b"\r\n", &every_byte]),
        build(&long_name, &[b"long name"]),
    ];
    let written: Vec<u8> = expected.iter().flat_map(|batch| batch.bytes().to_vec()).collect();
    assert_eq!(written, BATCHES);

    let raw = all(BATCHES, |buffer| decode_batch(buffer, BATCH_BYTES_DEFAULT));
    let mut buffer = BytesMut::from(BATCHES);
    for (raw, expected) in raw.iter().zip(&expected) {
        let checked = raw.check().expect("a right batch");
        assert_eq!(checked.bytes(), expected.bytes());
        assert_eq!(checked.messages(), expected.messages());
        let Decoded::Whole { value, .. } = Batch::take(&mut buffer, BATCH_BYTES_DEFAULT) else {
            unreachable!("a batch is there");
        };
        assert_eq!(value.as_ref(), Ok(expected));
    }
    assert_eq!(raw.len(), expected.len());
    assert!(buffer.is_empty());
}

fn config(answer: &[u8]) -> ServerConfig<'_> {
    match decode_response(answer, MOK_BYTES_MAX) {
        Decoded::Whole { value: Response::Lines(lines), .. } => ServerConfig::parse(lines),
        other => unreachable!("no MOK: {other:?}"),
    }
}

#[test]
fn settings_are_read_as_ever() {
    let go = ServerConfig {
        host: "127.0.0.1:1774",
        timeout: "15s",
        idle_timeout: "30s",
        batch_bytes_max: Some(65536),
        ..ServerConfig::default()
    };
    assert_eq!(config(CONFIG_GO), go);
    assert!(!config(CONFIG_GO).has_feature("wait"));
    let ours = config(CONFIG);
    assert_eq!(ours, ServerConfig { version: "0.1.0", features: "wait head topics", ..go });
    assert!(ours.has_feature("wait") && ours.has_feature("topics"));
    assert!(!ours.has_feature("wai") && !ours.has_feature("wait head"));
}
