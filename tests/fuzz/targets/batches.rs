//! Batches as they are received, stored, and handed out: `Batch::take`, `RawBatch::check`, and their messages.
//!
//! - a batch is taken exactly if checksum, frames and number of messages are right, and with all its bytes or none
//! - its messages are those that the description of the protocol finds, from wherever one begins
//! - the same messages, put into a batch anew, are the same body; another identity changes nothing but the identity

use bytes::BytesMut;
use logd_protocol::{
    Batch, BatchBuilder, BatchId, Decoded, Messages, WriterId, decode_batch, decode_envelope,
};

use super::reference::{self, Asked, Read};
use super::seal::unsealed;

pub(crate) const WORDS: &[&[u8]] = &[
    b"BATCH ",
    b"MSG ",
    b"MSG 0\r\n\r\n",
    b"MSG 5\r\nhello\r\n",
    b" default ",
    b" writer=0123456789abcdef",
    b" seq=7",
    b"\r\n",
];

/// The most bytes of a batch.
const BYTES_MAX: usize = 65536;

pub(crate) fn run(input: &[u8]) {
    let bytes = unsealed(input);
    let mut buffer = BytesMut::from(&bytes[..]);
    while !buffer.is_empty() {
        let before = buffer.clone();
        check_cut(&before);
        match Batch::take(&mut buffer, BYTES_MAX) {
            Decoded::More { bytes } => {
                assert!(bytes > before.len() && buffer == before, "{bytes} of {} are wanted", before.len());
                break;
            }
            Decoded::Broken(_) => {
                assert_eq!(buffer, before, "bytes of what is no batch were taken");
                break;
            }
            Decoded::Whole { value, bytes } => {
                assert_eq!(before[bytes..], buffer[..], "not the bytes of the batch were taken");
                let expected = expected(&before[..bytes]);
                assert_eq!(
                    value.is_ok(),
                    expected.is_some(),
                    "{value:?}, though its messages are {expected:?}"
                );
                if let (Ok(batch), Some((asked, messages))) = (value, expected) {
                    assert_eq!(batch.bytes()[..], before[..bytes], "the bytes of the batch have changed");
                    check_batch(&batch, &asked, &messages);
                }
            }
        }
    }
    check_messages(&bytes);
}

/// The batch and its messages, if the description takes it for one.
fn expected(bytes: &[u8]) -> Option<(Asked<'_>, Vec<&[u8]>)> {
    // What stands behind the arguments is an identity or none of a reader's business.
    let line = bytes.iter().position(|byte| *byte == b'\n')?;
    let words: Vec<&[u8]> = bytes[..=line].strip_suffix(b"\r\n")?.split(|byte| *byte == b' ').collect();
    let body = &bytes[line + 1..];
    let number = |at: usize| reference::number(words.get(at)?).ok();
    let asked = Asked {
        command: "BATCH",
        topic: words.get(2)?,
        numbers: vec![number(3)?, number(4)?],
        extension: None,
        id: None,
        body,
    };
    let id = match reference::request(bytes, BYTES_MAX as u64, 1) {
        Read::Taken { request, .. } => request.id,
        _ => None,
    };
    let messages = reference::messages(body)?;
    (reference::wrongs(&asked).is_empty()).then_some((Asked { id, ..asked }, messages))
}

fn check_batch(batch: &Batch, asked: &Asked<'_>, messages: &[&[u8]]) {
    assert_eq!(batch.messages(), messages.len() as u64);
    assert_eq!(u64::from(batch.crc()), asked.numbers[0]);
    assert_eq!(batch.topic().as_str().as_bytes(), asked.topic);
    assert_eq!(batch.id().map(|id| (id.writer.as_u64(), id.seq)), asked.id);
    assert_eq!(batch.body()[..], *asked.body);

    let handed: Vec<_> = batch.messages_from(0).collect();
    let bytes: Vec<&[u8]> = handed.iter().map(|message| &message.bytes[..]).collect();
    assert_eq!(bytes, messages);
    for (number, message) in handed.iter().enumerate() {
        let rest = batch.messages_from(message.delta).count();
        assert_eq!(rest, handed.len() - number, "from delta {} on", message.delta);
    }
    check_built(batch, messages);
    let id = BatchId { writer: WriterId::new(7), seq: 8 };
    let other = batch.with_id(Some(id));
    assert_eq!((other.id(), other.body(), other.topic()), (Some(id), batch.body(), batch.topic()));
    let mut buffer = BytesMut::from(&other.bytes()[..]);
    let length = buffer.len();
    match Batch::take(&mut buffer, length) {
        Decoded::Whole { value: Ok(again), bytes } => assert!(again == other && bytes == length),
        wrong => panic!("{wrong:?} has become of a batch with another identity"),
    }
}

/// The messages, put into a batch anew.
fn check_built(batch: &Batch, messages: &[&[u8]]) {
    let mut builder = BatchBuilder::new(&batch.topic(), usize::MAX);
    for message in messages {
        builder.push(message).expect("there is no bound");
    }
    let bytes_max = builder.bytes_max();
    let built = builder.finish().expect("it has messages");
    assert!(built.bytes().len() <= bytes_max, "{} bytes of at most {bytes_max}", built.bytes().len());
    assert_eq!(built.messages(), batch.messages());
    assert_eq!(reference::messages(&built.body()).as_deref(), Some(messages));
    assert_eq!(built.crc(), reference::checksum(&built.body()));
    // Leading zeros in the headers are the only thing that is not kept.
    assert!(built.body().len() <= batch.body().len());
    assert!(built.body().len() < batch.body().len() || built.body() == batch.body());
}

/// What is decoded of a part of the bytes agrees with what is decoded of all of them.
fn check_cut(bytes: &[u8]) {
    let Decoded::Whole { value: envelope, bytes: envelope_bytes } = decode_envelope(bytes) else {
        assert!(!matches!(decode_batch(bytes, BYTES_MAX), Decoded::Whole { .. }));
        return;
    };
    assert_eq!(
        decode_envelope(&bytes[..envelope_bytes]),
        Decoded::Whole { value: envelope, bytes: envelope_bytes }
    );
    if let Decoded::Whole { value, bytes: length } = decode_batch(bytes, BYTES_MAX) {
        assert_eq!((value.bytes(), *value.envelope()), (&bytes[..length], envelope));
        assert_eq!(value.body().len() as u64, envelope.body_bytes);
        let cut = decode_batch(&bytes[..length - 1], BYTES_MAX);
        assert!(matches!(cut, Decoded::More { bytes } if bytes <= length), "{cut:?} of {length} bytes");
        assert!(!matches!(decode_batch(bytes, length - 1), Decoded::Whole { .. }), "a batch above the bound");
    }
}

/// Messages of what is no body, from wherever one begins: they lie in the body, one behind the other, and come to an end.
fn check_messages(bytes: &[u8]) {
    for start in (0..=bytes.len() + 1).step_by(bytes.len() / 64 + 1) {
        let mut at = start;
        for message in Messages::starting_at(bytes, start) {
            let Ok(message) = message else { break };
            assert_eq!(message.delta, at);
            assert_eq!(bytes[message.start..message.start + message.bytes.len()], *message.bytes);
            at = message.start + message.bytes.len() + 2;
            assert_eq!(bytes[at - 2..at], *b"\r\n");
        }
    }
}
