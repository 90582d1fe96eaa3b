//! Requests as a server reads them: `decode_request`.
//!
//! - it says of any bytes what the description of the protocol says
//! - it says the same wherever what was received is cut, and asks for more only while more is needed
//! - what it has taken is written as it was read, and read again as the same

use logd_protocol::{Bound, Decoded, Rejection, Request, decode_request};

use super::reference::{self, Asked, Read};
use super::seal::unsealed;

pub(crate) const WORDS: &[&[u8]] = &[
    b"BATCH ",
    b"READ ",
    b"TAIL ",
    b"HEAD ",
    b"AT ",
    b"TOPICS\r\n",
    b"PING\r\n",
    b"STATS\r\n",
    b"CONFIG\r\n",
    b"CLOSE\r\n",
    b" wait=",
    b" bound=upper",
    b" writer=0123456789abcdef",
    b" seq=",
    b"MSG ",
    b" default ",
    b"\r\n",
];

/// The bounds of a server: the bytes of a batch, and the messages of a READ.
const BOUNDS: [(usize, u64); 2] = [(65536, 50_000), (512, 100)];

/// Up to so many bytes every cut is tried, beyond them so many.
const CUTS_MAX: usize = 64;

/// The decoder with its bounds.
type Decode<'d> = &'d dyn for<'a> Fn(&'a [u8]) -> Decoded<Result<Request<'a>, Rejection>>;

pub(crate) fn run(input: &[u8]) {
    let bytes = unsealed(input);
    for (batch_bytes_max, messages_max) in BOUNDS {
        let decode: Decode<'_> = &|bytes| decode_request(bytes, batch_bytes_max, messages_max);
        let mut at = 0;
        while let Some(rest) = bytes.get(at..) {
            let decoded = decode(rest);
            let expected = reference::request(rest, batch_bytes_max as u64, messages_max);
            assert!(is_as_expected(&decoded, &expected), "{decoded:?} where {expected:?} was expected");
            match decoded {
                Decoded::More { bytes: wanted } => {
                    assert!(wanted > rest.len(), "{wanted} bytes are wanted where there are {}", rest.len());
                    break;
                }
                Decoded::Broken(_) => break,
                Decoded::Whole { value, bytes } => {
                    if let Ok(request) = &value {
                        check_written(request, &rest[..bytes], decode);
                    }
                    check_cuts(&rest[..bytes], decode);
                    at += bytes;
                }
            }
        }
    }
}

fn is_as_expected(decoded: &Decoded<Result<Request<'_>, Rejection>>, expected: &Read<'_>) -> bool {
    match (decoded, expected) {
        (Decoded::More { .. }, Read::More) | (Decoded::Broken(_), Read::Broken) => true,
        (
            Decoded::Whole { value: Err(rejection), bytes },
            Read::Refused { reasons, bytes: expected, skip },
        ) => {
            reasons.contains(&rejection.reason.as_str()) && bytes == expected && rejection.body_bytes == *skip
        }
        (Decoded::Whole { value: Ok(request), bytes }, Read::Taken { request: expected, bytes: length }) => {
            asked(request) == *expected && bytes == length
        }
        _ => false,
    }
}

/// The request in the words of the reference.
fn asked<'a>(request: &Request<'a>) -> Asked<'a> {
    let command = request.command().as_str();
    let mut asked = Asked { command, topic: b"", numbers: Vec::new(), extension: None, id: None, body: b"" };
    match request {
        Request::Batch(batch) => {
            let envelope = batch.envelope();
            asked.topic = envelope.topic.as_str().as_bytes();
            asked.numbers = vec![u64::from(envelope.crc), envelope.messages];
            asked.id = envelope.id().map(|id| (id.writer.as_u64(), id.seq));
            asked.body = batch.body();
        }
        Request::Read { topic, offset, messages, wait } => {
            asked.topic = topic.as_str().as_bytes();
            asked.numbers = vec![offset.as_u64(), *messages];
            asked.extension = wait.map(|wait| u64::try_from(wait.as_millis()).expect("a wait is short"));
        }
        Request::Tail { topic, messages } => {
            asked.topic = topic.as_str().as_bytes();
            asked.numbers = vec![*messages];
        }
        Request::Head { topic } => asked.topic = topic.as_str().as_bytes(),
        Request::At { topic, time_ms, bound } => {
            asked.topic = topic.as_str().as_bytes();
            asked.numbers = vec![*time_ms];
            asked.extension = (*bound == Bound::Upper).then_some(1);
        }
        Request::Topics | Request::Ping | Request::Stats | Request::Config | Request::Close => {}
    }
    asked
}

/// What is written is read as the same, and nothing but leading zeros is left out.
fn check_written(request: &Request<'_>, read: &[u8], decode: Decode<'_>) {
    let mut written = Vec::new();
    request.put(&mut written);
    assert!(written.len() <= read.len(), "a request has become longer: {request:?}");
    let expected = Decoded::Whole { value: Ok(*request), bytes: written.len() };
    assert_eq!(decode(&written), expected, "it was written as another one");
    assert!(!matches!(request, Request::Batch(_)) || written == read, "the bytes of a batch have changed");
}

/// Each beginning of the value asks for more, and not for more than all of it; what follows does not change it.
fn check_cuts(bytes: &[u8], decode: Decode<'_>) {
    let whole = decode(bytes);
    let step = bytes.len() / CUTS_MAX + 1;
    for length in (0..bytes.len()).step_by(step) {
        match decode(&bytes[..length]) {
            Decoded::More { bytes: wanted } if wanted > length && wanted <= bytes.len() => {}
            other => panic!("{other:?} of {whole:?} cut at {length}"),
        }
    }
    assert_eq!(decode(&[bytes, b"BATCH \r\n"].concat()), whole, "what follows has changed it");
}
