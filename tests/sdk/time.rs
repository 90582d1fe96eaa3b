//! Times of arrival: where they begin and where they end.
//!
//! Phases of messages are written with a few milliseconds between them; a mark is a time between two. Client and server
//! have the same clock here. Batches are small, so that the times of the server are kept every 64 KiB and a batch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logd_client::{BatchBuilder, Bound, Offset, Scanner, ScannerBuilder, Start, TopicName, Writer};
use logd_server::Config;

use crate::support::{TestServer, take, take_all, within};

/// Messages of a phase, and the bytes of one: together more than twice what one time stands for.
const MESSAGES: usize = 150;
const MESSAGE_BYTES: usize = 1000;
const BATCH_BYTES: usize = 4096;
/// So many messages can come too early or too late.
const MESSAGES_TOO_MANY: usize = (64 * 1024 + BATCH_BYTES) / MESSAGE_BYTES;

/// The name of a message, which tells the phase it is from.
fn name(phase: usize, number: usize) -> String {
    format!("{phase:03}.{number:03}")
}

async fn write_phase(server: &TestServer, phase: usize) {
    let writer = Writer::builder(server.client_config()).batch_bytes(BATCH_BYTES).open().unwrap();
    for number in 0..MESSAGES {
        let message = format!("{:<MESSAGE_BYTES$}", name(phase, number));
        writer.write(message.as_bytes()).await.unwrap();
    }
    writer.close().await.unwrap();
}

/// Waits until the clock shows another millisecond than anything before, and will not show it again.
async fn mark() -> SystemTime {
    pass(SystemTime::now() + Duration::from_millis(2)).await;
    let mark = SystemTime::now();
    pass(mark + Duration::from_millis(2)).await;
    mark
}

async fn pass(time: SystemTime) {
    while SystemTime::now() <= time {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Writes so many phases. The first mark is before them all, the last behind.
async fn write_phases(server: &TestServer, phases: usize) -> Vec<SystemTime> {
    let mut marks = vec![mark().await];
    for phase in 0..phases {
        write_phase(server, phase).await;
        marks.push(mark().await);
    }
    marks
}

fn scanner(server: &TestServer) -> ScannerBuilder {
    Scanner::builder(server.client_config())
}

async fn names(scanner: ScannerBuilder) -> Vec<String> {
    let texts = take_all(scanner.open().unwrap()).await;
    texts.iter().map(|text| text.trim_end().to_owned()).collect()
}

/// Checks that these are the messages of the phases from `first` up to `end`, and at most a few around them.
fn check(names: &[String], first: usize, end: usize, last: usize) {
    let all: Vec<String> =
        (0..last).flat_map(|phase| (0..MESSAGES).map(move |number| name(phase, number))).collect();
    let (begin, behind) = (first * MESSAGES, end * MESSAGES);
    let came = names.first().map_or(begin, |first| all.iter().position(|name| name == first).unwrap());
    assert!(came <= begin, "the first message is {:?}, and phase {first} was asked for", names.first());
    assert!(begin - came <= MESSAGES_TOO_MANY, "{} messages come too early", begin - came);
    let until = came + names.len();
    assert!(
        until >= behind,
        "the last message is {:?}, and all before phase {end} was asked for",
        names.last()
    );
    assert!(until - behind <= MESSAGES_TOO_MANY, "{} messages come too late", until - behind);
    assert_eq!(names, &all[came..until]);
}

async fn check_all(server: &TestServer, marks: &[SystemTime]) {
    let phases = marks.len() - 1;
    for (first, since) in marks.iter().enumerate() {
        let since = Start::Time(*since);
        check(&names(scanner(server).start(since)).await, first, phases, phases);
        for (end, until) in marks.iter().enumerate().skip(first) {
            check(&names(scanner(server).start(since).until(*until)).await, first, end, phases);
        }
    }
    for (end, until) in marks.iter().enumerate() {
        check(&names(scanner(server).until(*until)).await, 0, end, phases);
    }
}

#[tokio::test]
async fn a_time_begins_and_ends_near_its_messages_also_after_a_restart() {
    let mut server = TestServer::start().await;
    let marks = write_phases(&server, 3).await;
    check_all(&server, &marks).await;
    server.stop().await;
    server.start_again().await;
    check_all(&server, &marks).await;
}

#[tokio::test]
async fn the_offsets_of_a_time_are_where_batches_start() {
    let server = TestServer::start().await;
    let marks = write_phases(&server, 2).await;
    let (mut client, topic) = (server.client(), TopicName::default());
    assert!(client.server_config().await.unwrap().has_feature("time"));
    let end = client.head(&topic).await.unwrap().next;
    for bound in [Bound::Lower, Bound::Upper] {
        for time in [UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH, marks[0]] {
            let offset = client.offset_at(&topic, time, bound).await.unwrap();
            assert!(offset == Offset::ZERO, "{bound:?}: {offset}");
        }
        let middle = client.offset_at(&topic, marks[1], bound).await.unwrap();
        assert_eq!(client.read(&topic, middle, 1).await.unwrap().offset, middle);
        let offset =
            client.offset_at(&topic, SystemTime::now() + Duration::from_secs(60), bound).await.unwrap();
        assert_eq!(offset, end, "{bound:?}");
    }
    let unknown = TopicName::new("unknown").unwrap();
    let error = client.offset_at(&unknown, marks[0], Bound::Lower).await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn following_since_a_time_goes_on_with_what_comes() {
    let server = TestServer::start().await;
    let since = mark().await;
    // The topic is made by its first message.
    let topic = TopicName::new("later").unwrap();
    let mut later =
        scanner(&server).topic(topic.clone()).start(Start::Time(since)).follow(true).open().unwrap();
    let mut known = scanner(&server).start(Start::Time(since)).follow(true).open().unwrap();
    let writer = Writer::builder(server.client_config()).topic(topic).open().unwrap();
    let write = async {
        writer.write(b"one").await.unwrap();
        writer.close().await.unwrap();
        write_phase(&server, 0).await;
    };
    let ((), one, phase) = tokio::join!(write, take(&mut later, 1), take(&mut known, MESSAGES));
    assert_eq!(one, ["one"]);
    let phase: Vec<String> = phase.iter().map(|text| text.trim_end().to_owned()).collect();
    check(&phase, 0, 1, 1);
}

#[tokio::test]
async fn following_until_a_time_to_come_ends_then() {
    let server = TestServer::start().await;
    // Something comes later, or nothing does.
    for is_written_on in [true, false] {
        let topic = TopicName::new(if is_written_on { "busy" } else { "quiet" }).unwrap();
        let until = SystemTime::now() + Duration::from_millis(300);
        let read = tokio::spawn(take_all(
            scanner(&server).topic(topic.clone()).until(until).follow(true).open().unwrap(),
        ));
        let mut client = server.client();
        let (mut before, mut all) = (0, 0);
        while !read.is_finished() && (is_written_on || SystemTime::now() < until - Duration::from_millis(100))
        {
            let mut batch = BatchBuilder::new(&topic, 512);
            batch.push(format!("{all:0100}").as_bytes()).unwrap();
            client.append(&batch.finish().unwrap()).await.unwrap();
            all += 1;
            if SystemTime::now() < until {
                before = all;
            }
        }
        let texts = within("the end", read).await.unwrap();
        assert!(SystemTime::now() >= until, "it ended too early");
        assert!(before > 0 && texts.len() >= before, "{} came of {before} in time", texts.len());
        let expected: Vec<String> = (0..texts.len()).map(|number| format!("{number:0100}")).collect();
        assert_eq!(texts, expected);
    }
}

#[tokio::test]
async fn a_time_that_retention_has_taken_begins_with_the_oldest_batch() {
    let server =
        TestServer::start_with(|config| Config { partition_bytes: 128 * 1024, partitions: 2, ..config })
            .await;
    let marks = write_phases(&server, 4).await;
    let all = names(scanner(&server)).await;
    assert!(all.len() < 4 * MESSAGES, "nothing was dropped");
    assert_eq!(names(scanner(&server).start(Start::Time(marks[0]))).await, all);
    assert_eq!(names(scanner(&server).start(Start::Time(marks[0])).until(marks[4])).await, all);
    // What was asked for is gone, and what comes instead is no more than a time is wrong by.
    assert!(names(scanner(&server).until(marks[1])).await.len() <= MESSAGES_TOO_MANY);
}
