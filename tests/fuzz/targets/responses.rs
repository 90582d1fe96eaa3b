//! Answers as a client reads them: `decode_response`, and the lines of `CONFIG`, `STATS` and `TOPICS`.
//!
//! - it says of any bytes what the description of the protocol says
//! - it says the same wherever what was received is cut, and asks for more only while more is needed
//! - what it has read is written so that it is read again as the same
//! - no lines are too strange for what reads them

use logd_protocol::{Decoded, Reason, Response, ServerConfig, TopicInfo, decode_response, key_values};

use super::reference::{self, number};

pub(crate) const WORDS: &[&[u8]] = &[
    b"OK",
    b"OK 0 1\r\n",
    b"MOK ",
    b"ERR",
    b"ERR not found\r\n",
    b"\r\n",
    b"Host: ",
    b"Timeout: 15s\r\n",
    b"IdleTimeout: ",
    b"MaxBatchSize: ",
    b"Version: ",
    b"Features: ",
    b" wait dedup time head ping topics",
];

/// Bounds of the lines of an answer, in bytes.
const BOUNDS: [usize; 2] = [64, 1 << 20];

/// Up to so many bytes every cut is tried, beyond them so many.
const CUTS_MAX: usize = 64;

pub(crate) fn run(bytes: &[u8]) {
    for bound in BOUNDS {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..) {
            let decoded = decode_response(rest, bound);
            let expected = response(rest, bound);
            assert!(is_as_expected(&decoded, &expected), "{decoded:?} where {expected:?} was expected");
            let Decoded::Whole { value, bytes } = decoded else { break };
            check_written(&value, bound);
            check_cuts(&rest[..bytes], bound);
            if let Response::Lines(lines) = value {
                check_lines(lines);
            }
            at += bytes;
        }
    }
    check_lines(bytes);
}

/// What the description says.
#[derive(Debug)]
enum Read<'a> {
    More,
    Broken,
    Whole(Answer<'a>, usize),
}

#[derive(Debug)]
enum Answer<'a> {
    Ok,
    Found(u64, u64),
    Lines(&'a [u8]),
    Error(&'a [u8]),
}

fn response(bytes: &[u8], lines_bytes_max: usize) -> Read<'_> {
    let (text, length) = match reference::line(bytes) {
        Ok(Some(line)) => line,
        Ok(None) => return Read::More,
        Err(()) => return Read::Broken,
    };
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
    match words[..] {
        [b"OK"] => Read::Whole(Answer::Ok, length),
        [b"OK", offset, batches] => match (number(offset), number(batches)) {
            (Ok(offset), Ok(batches)) => Read::Whole(Answer::Found(offset, batches), length),
            _ => Read::Broken,
        },
        [b"MOK", count] => {
            let count = number(count).ok().and_then(|count| usize::try_from(count).ok());
            let Some(count) = count.filter(|count| *count <= lines_bytes_max) else { return Read::Broken };
            match bytes[length..].get(..count + 2) {
                None => Read::More,
                Some([lines @ .., b'\r', b'\n']) => Read::Whole(Answer::Lines(lines), length + count + 2),
                Some(_) => Read::Broken,
            }
        }
        [b"ERR", ..] => Read::Whole(Answer::Error(text.strip_prefix(b"ERR ").unwrap_or_default()), length),
        _ => Read::Broken,
    }
}

fn is_as_expected(decoded: &Decoded<Response<'_>>, expected: &Read<'_>) -> bool {
    match (decoded, expected) {
        (Decoded::More { .. }, Read::More) | (Decoded::Broken(_), Read::Broken) => true,
        (Decoded::Whole { value, bytes }, Read::Whole(answer, length)) => {
            bytes == length
                && match (value, answer) {
                    (Response::Found { offset, batches }, Answer::Found(place, count)) => {
                        offset.as_u64() == *place && batches == count
                    }
                    (Response::Lines(lines), Answer::Lines(expected)) => lines == expected,
                    (Response::Ok, Answer::Ok) | (Response::Error(Reason::Unknown), Answer::Error(_)) => true,
                    (Response::Error(reason), Answer::Error(text)) => reason.as_str().as_bytes() == *text,
                    _ => false,
                }
        }
        _ => false,
    }
}

fn check_written(response: &Response<'_>, bound: usize) {
    let mut written = Vec::new();
    response.put(&mut written);
    let expected = Decoded::Whole { value: *response, bytes: written.len() };
    assert_eq!(decode_response(&written, bound), expected, "it was written as another one");
}

fn check_cuts(bytes: &[u8], bound: usize) {
    let whole = decode_response(bytes, bound);
    let step = bytes.len() / CUTS_MAX + 1;
    for length in (0..bytes.len()).step_by(step) {
        match decode_response(&bytes[..length], bound) {
            Decoded::More { bytes: wanted } if wanted > length && wanted <= bytes.len() => {}
            other => panic!("{other:?} of {whole:?} cut at {length}"),
        }
    }
    assert_eq!(decode_response(&[bytes, b"OK 1\r\n"].concat(), bound), whole, "what follows has changed it");
}

/// The lines of `CONFIG`, `STATS` and `TOPICS`, whatever they are.
fn check_lines(lines: &[u8]) {
    let count = lines.split(|byte| *byte == b'\n').count();
    for (key, value) in key_values(lines) {
        assert!(!key.contains([':', '\n']) && !value.contains('\n'), "`{key}` is `{value}`");
    }
    assert!(key_values(lines).count() <= count, "there are more keys than lines");
    let config = ServerConfig::parse(lines);
    assert!(config.features.is_empty() || config.features.split(' ').all(|name| config.has_feature(name)));
    for topic in TopicInfo::parse(lines).flatten() {
        let mut written = Vec::new();
        topic.put(&mut written);
        assert!(reference::is_topic(topic.topic.as_str().as_bytes()), "`{}` is no topic", topic.topic);
        assert_eq!(TopicInfo::parse(&written).collect::<Vec<_>>(), [Ok(topic)]);
    }
}
