//! Batches: built, read back, checked, and refused.
#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use bytes::BytesMut;
use logd_protocol::limits::{BATCH_BYTES_DEFAULT, BATCH_BYTES_MIN};
use logd_protocol::{
    Batch, BatchBuilder, BatchError, BatchId, Decoded, FrameError, Messages, PushError, RawBatch, Reason,
    Request, TopicName, WriterId, checksum, decode_batch, decode_request, framed_bytes,
};
use proptest::prelude::*;

fn topic(bytes: usize) -> TopicName {
    TopicName::new("t".repeat(bytes)).expect("a topic name")
}

fn builder(batch_bytes_max: usize) -> BatchBuilder {
    BatchBuilder::new(&TopicName::default(), batch_bytes_max)
}

fn raw(bytes: &[u8]) -> RawBatch<'_> {
    match decode_batch(bytes, usize::MAX) {
        Decoded::Whole { value, bytes: taken } if taken == bytes.len() => value,
        other => unreachable!("{other:?}"),
    }
}

fn read(batch: &RawBatch<'_>) -> Result<Vec<Vec<u8>>, BatchError> {
    let checked = batch.check()?;
    Ok(checked.iter().map(|message| Ok(message?.bytes.to_vec())).collect::<Result<_, FrameError>>()?)
}

/// A batch with this body, an envelope that says `messages`, and the right checksum.
fn with_body(body: &[u8], messages: u64) -> Vec<u8> {
    let envelope = format!("BATCH {} default {} {messages}\r\n", body.len(), checksum(body));
    [envelope.as_bytes(), body].concat()
}

#[test]
fn a_frame_has_the_digits_of_its_length() {
    for bytes in [0, 9, 10, 99, 100, 65535, 65536] {
        assert_eq!(framed_bytes(bytes), format!("MSG {bytes}\r\n\r\n").len() + bytes, "{bytes}");
    }
    assert_eq!(framed_bytes(usize::MAX), usize::MAX);
}

#[test]
fn an_empty_builder_makes_no_batch() {
    let mut builder = builder(BATCH_BYTES_DEFAULT);
    assert!(builder.is_empty() && builder.finish().is_none());
    assert_eq!((builder.messages(), builder.body_bytes()), (0, 0));
}

#[test]
fn an_empty_message_is_a_message() {
    let mut builder = builder(BATCH_BYTES_DEFAULT);
    assert_eq!(builder.push(b""), Ok(0));
    let batch = builder.finish().expect("one message");
    assert_eq!(batch.messages(), 1);
    assert_eq!(&batch.body()[..], b"MSG 0\r\n\r\n");
    assert_eq!(read(&raw(batch.bytes())), Ok(vec![Vec::new()]));
}

#[test]
fn a_builder_can_be_filled_again() {
    let mut builder = builder(BATCH_BYTES_DEFAULT);
    let mut make = || {
        assert_eq!(builder.push(b"hello"), Ok(0));
        assert_eq!(builder.push(b"world!"), Ok(14));
        builder.finish().expect("two messages")
    };
    let first = make();
    let second = make();
    assert_eq!(first, second);
}

#[test]
fn a_full_batch_says_so_and_stays_as_it_is() {
    let mut builder = builder(BATCH_BYTES_MIN);
    builder.push(&[b'x'; 400]).expect("there is room");
    assert_eq!(builder.push(&[b'y'; 100]), Err(PushError::Full { bytes: 100 }));
    assert_eq!(builder.messages(), 1);
    assert!(builder.bytes_max() >= builder.body_bytes());
    let batch = builder.finish().expect("one message");
    assert_eq!(read(&raw(batch.bytes())), Ok(vec![vec![b'x'; 400]]));
    assert_eq!(builder.push(&[b'y'; 100]), Ok(0));
}

#[test]
fn the_longest_message_is_named_exactly() {
    for batch_bytes_max in (BATCH_BYTES_MIN..BATCH_BYTES_MIN + 700).chain([9_990, 10_120, 100_050, 1 << 20]) {
        for topic_bytes in [1, 7, 255] {
            let mut builder = BatchBuilder::new(&topic(topic_bytes), batch_bytes_max);
            let Err(PushError::TooLong { bytes_max, .. }) = builder.push(&vec![0; batch_bytes_max]) else {
                unreachable!("a message as long as the batch");
            };
            let too_long = builder.push(&vec![0; bytes_max + 1]);
            assert_eq!(too_long, Err(PushError::TooLong { bytes: bytes_max + 1, bytes_max }));
            assert_eq!(builder.push(&vec![0; bytes_max]), Ok(0), "{bytes_max} of {batch_bytes_max}");
            let bytes = builder.finish().map(|batch| batch.bytes().len());
            assert!(bytes <= Some(batch_bytes_max), "{bytes:?}");
        }
    }
}

#[test]
fn wrong_batches_are_named() {
    let cases: &[(&[u8], u64, BatchError, Reason)] = &[
        (b"", 0, BatchError::Empty, Reason::InvalidRequest),
        (b"", 1, BatchError::Empty, Reason::InvalidRequest),
        (b"MSG 0\r\n\r\n", 0, BatchError::Empty, Reason::InvalidRequest),
        (b"MSG 0\r\n\r\n", 2, BatchError::Count { expected: 2, actual: 1 }, Reason::InvalidProtocol),
        (
            b"MSG 0\r\n\r\n",
            u64::MAX,
            BatchError::Count { expected: u64::MAX, actual: 1 },
            Reason::InvalidProtocol,
        ),
        (
            b"MSG 0\r\n\r\nMSG 0\r\n\r\n",
            1,
            BatchError::Count { expected: 1, actual: 2 },
            Reason::InvalidProtocol,
        ),
    ];
    for (body, messages, error, reason) in cases {
        let bytes = with_body(body, *messages);
        assert_eq!(raw(&bytes).check(), Err(*error));
        assert_eq!(error.reason(), *reason);
    }
    let damaged = b"BATCH 9 default 1 1\r\nMSG 0\r\n\r\n";
    let error = BatchError::Checksum { expected: 1, actual: checksum(b"MSG 0\r\n\r\n") };
    assert_eq!(raw(damaged).check(), Err(error));
    assert_eq!(raw(damaged).check_crc(), Err(error));
    assert_eq!(error.reason(), Reason::ChecksumMismatch);
}

#[test]
fn bodies_that_are_not_framed_are_named_with_the_place() {
    use FrameError::{End, Header, Length};
    let cases: &[(&[u8], FrameError)] = &[
        (b"hello", Header { at: 0 }),
        (b"msg 5\r\nhello\r\n", Header { at: 0 }),
        (b"MSG", Header { at: 0 }),
        (b"MSG \r\n\r\n", Header { at: 0 }),
        (b"MSG x\r\n\r\n", Header { at: 0 }),
        (b"MSG -1\r\n\r\n", Header { at: 0 }),
        (b"MSG +5\r\nhello\r\n", Header { at: 0 }),
        (b"MSG 5 \r\nhello\r\n", Header { at: 0 }),
        (b"MSG  5\r\nhello\r\n", Header { at: 0 }),
        (b"MSG 5\nhello\r\n", Header { at: 0 }),
        (b"MSG 5\rhello\r\n", Header { at: 0 }),
        (b"MSG 6\r\nhello", Length { at: 0 }),
        (b"MSG 18446744073709551615\r\nhello\r\n", Length { at: 0 }),
        (b"MSG 18446744073709551616\r\nhello\r\n", Length { at: 0 }),
        (b"MSG 5\r\nhello", End { at: 0 }),
        (b"MSG 5\r\nhello\r", End { at: 0 }),
        (b"MSG 5\r\nhello\n\r", End { at: 0 }),
        (b"MSG 4\r\nhello\r\n", End { at: 0 }),
        (b"MSG 5\r\nhello\r\n\r\n", Header { at: 14 }),
        (b"MSG 5\r\nhello\r\nMSG 6\r\nworld", Length { at: 14 }),
    ];
    for (body, error) in cases {
        let text = String::from_utf8_lossy(body);
        let bytes = with_body(body, 1);
        assert_eq!(raw(&bytes).check(), Err(BatchError::Frame(*error)), "{text:?}");
        let messages: Vec<_> = Messages::new(body).collect();
        assert_eq!(messages.last(), Some(&Err(*error)), "{text:?}");
        assert_eq!(BatchError::Frame(*error).reason(), Reason::InvalidProtocol);
    }
}

#[test]
fn a_reader_goes_on_behind_a_damaged_batch() {
    let mut builder = builder(BATCH_BYTES_DEFAULT);
    builder.push(b"good").expect("there is room");
    let good = builder.finish().expect("one message");
    let damaged = b"BATCH 9 default 1 1\r\nMSG 0\r\n\r\n";
    let mut buffer = BytesMut::from(&[&damaged[..], good.bytes()].concat()[..]);
    let first = Batch::take(&mut buffer, BATCH_BYTES_DEFAULT);
    assert!(
        matches!(first, Decoded::Whole { value: Err(BatchError::Checksum { .. }), bytes: 30 }),
        "{first:?}"
    );
    let second = Batch::take(&mut buffer, BATCH_BYTES_DEFAULT);
    assert_eq!(second, Decoded::Whole { value: Ok(good.clone()), bytes: good.bytes().len() });
    assert_eq!(Batch::take(&mut buffer, BATCH_BYTES_DEFAULT), Decoded::More { bytes: 1 });
}

#[test]
fn a_batch_has_no_messages_behind_its_end_or_at_a_wrong_place() {
    let mut builder = builder(BATCH_BYTES_DEFAULT);
    builder.push(b"hello").expect("there is room");
    let batch = builder.finish().expect("one message");
    for delta in [1, 13, 14, 15, usize::MAX] {
        assert_eq!(batch.messages_from(delta).count(), 0, "{delta}");
    }
    assert!(batch.messages_from(14).is_done());
    assert_eq!(batch.messages_from(0).count(), 1);
}

fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(any::<u8>(), 80..130),
        Just(b"\r\nBATCH 9 default 1 1\r\nMSG 0\r\n\r\n".to_vec()),
    ];
    prop::collection::vec(bytes, 1..30)
}

proptest! {
    #[test]
    fn what_is_pushed_is_read_back(messages in messages(), topic_bytes in 1..=255_usize) {
        let topic = topic(topic_bytes);
        let mut builder = BatchBuilder::new(&topic, BATCH_BYTES_DEFAULT);
        let deltas: Vec<_> = messages.iter().map(|message| builder.push(message).unwrap()).collect();
        let batch = builder.finish().unwrap();

        let raw = raw(batch.bytes());
        prop_assert_eq!(raw.envelope().topic, topic.as_topic());
        prop_assert_eq!(raw.envelope().messages, messages.len() as u64);
        prop_assert_eq!(read(&raw), Ok(messages.clone()));
        prop_assert_eq!(
            decode_request(batch.bytes(), batch.bytes().len(), 1),
            Decoded::Whole { value: Ok(Request::Batch(raw)), bytes: batch.bytes().len() }
        );
        for (index, delta) in deltas.iter().enumerate() {
            let mut rest = batch.messages_from(*delta);
            prop_assert_eq!(rest.delta(), *delta);
            let read: Vec<_> = rest.by_ref().map(|message| message.bytes.to_vec()).collect();
            prop_assert_eq!(&read, &messages[index..]);
            prop_assert!(rest.is_done());
        }
        let read: Vec<_> = batch.messages_from(0).map(|message| message.delta).collect();
        prop_assert_eq!(read, deltas);

        let mut buffer = BytesMut::from(&batch.bytes()[..]);
        prop_assert_eq!(
            Batch::take(&mut buffer, BATCH_BYTES_DEFAULT),
            Decoded::Whole { value: Ok(batch.clone()), bytes: batch.bytes().len() }
        );
    }

    #[test]
    fn a_batch_is_never_larger_than_allowed_and_a_refused_message_does_not_fit(
        messages in messages(),
        batch_bytes_max in BATCH_BYTES_MIN..1500_usize,
        topic_bytes in 1..=255_usize,
    ) {
        let topic = topic(topic_bytes);
        let mut builder = BatchBuilder::new(&topic, batch_bytes_max);
        for message in &messages {
            let (count, body) = (builder.messages() + 1, builder.body_bytes() + framed_bytes(message.len()));
            // The checksum, not known before the end, is taken at its longest.
            let envelope = format!("BATCH {body} {topic} {} {count}\r\n", u32::MAX);
            match builder.push(message) {
                Ok(_) => prop_assert!(envelope.len() + body <= batch_bytes_max),
                Err(_) => {
                    prop_assert!(envelope.len() + body > batch_bytes_max);
                    prop_assert_eq!(builder.messages(), count - 1);
                }
            }
        }
        if let Some(batch) = builder.finish() {
            prop_assert!(batch.bytes().len() <= batch_bytes_max);
            prop_assert!(raw(batch.bytes()).check().is_ok());
        }
    }

    #[test]
    fn a_changed_byte_of_the_body_is_noticed(messages in messages(), at: prop::sample::Index, change in 1..=255_u8) {
        let mut builder = builder(BATCH_BYTES_DEFAULT);
        for message in &messages {
            builder.push(message).unwrap();
        }
        let batch = builder.finish().unwrap();
        let mut bytes = batch.bytes().to_vec();
        let envelope_bytes = bytes.len() - batch.body().len();
        let place = envelope_bytes + at.index(batch.body().len());
        bytes[place] ^= change;
        let is_noticed = matches!(raw(&bytes).check(), Err(BatchError::Checksum { .. }));
        prop_assert!(is_noticed);
    }

    #[test]
    fn no_body_breaks_the_check(body in prop::collection::vec(any::<u8>(), 0..200), messages: u64) {
        let bytes = with_body(&body, messages);
        if let Ok(checked) = raw(&bytes).check() {
            prop_assert_eq!(checked.iter().count() as u64, messages);
        }
    }
}

const ID: BatchId = BatchId { writer: WriterId::new(0xab), seq: 12 };

#[test]
fn identity_is_part_of_the_envelope_and_can_be_changed() {
    let topic = TopicName::new("events").unwrap();
    let mut builder = BatchBuilder::with_ids(&topic, 512);
    builder.push(b"hello").unwrap();
    let batch = builder.finish_as(ID).unwrap();
    let line = b"BATCH 14 events 1680380747 1 writer=00000000000000ab seq=12\r\nMSG 5\r\nhello\r\n";
    assert_eq!(&batch.bytes()[..], line);
    assert_eq!((batch.id(), batch.topic()), (Some(ID), topic));

    let plain = batch.with_id(None);
    assert_eq!(&plain.bytes()[..], b"BATCH 14 events 1680380747 1\r\nMSG 5\r\nhello\r\n");
    assert_eq!((plain.id(), plain.crc(), plain.messages()), (None, batch.crc(), 1));
    assert_eq!(plain.with_id(Some(ID)), batch);

    let mut bytes = BytesMut::from(&batch.bytes()[..]);
    let Decoded::Whole { value, .. } = Batch::take(&mut bytes, 512) else { panic!("it is whole") };
    assert_eq!(value.unwrap(), batch);
}

#[test]
fn batch_with_the_longest_identity_is_not_too_long() {
    let id = BatchId { writer: WriterId::new(u64::MAX), seq: u64::MAX };
    for bytes_max in 512..600 {
        let mut builder = BatchBuilder::with_ids(&TopicName::default(), bytes_max);
        while builder.push(b"1234567").is_ok() {}
        assert!(builder.finish_as(id).unwrap().bytes().len() <= bytes_max);
    }
    // A builder without room for it makes a longer batch, and a right one.
    let mut builder = BatchBuilder::new(&TopicName::default(), 512);
    builder.push(b"hello").unwrap();
    let batch = builder.finish_as(id).unwrap();
    assert_eq!((batch.id(), batch.messages()), (Some(id), 1));
}
