//! Decoders over growing buffers: every split point, every bound from both sides, and every kind of bad input.

use std::fmt::Debug;
use std::time::Duration;

use logd_protocol::limits::{BATCH_BYTES_DEFAULT, LINE_BYTES_MAX, MOK_BYTES_MAX, READ_MESSAGES_DEFAULT};
use logd_protocol::{
    Broken, Command, Decoded, Message, Messages, NumberError, Offset, Reason, Rejection, Request, Response,
    ServerConfig, TopicInfo, TopicName, TopicNameError, decode_batch, decode_envelope, decode_request,
    decode_response, key_values, parse_u64,
};
use proptest::prelude::*;

fn request(buffer: &[u8]) -> Decoded<Result<Request<'_>, Rejection>> {
    decode_request(buffer, BATCH_BYTES_DEFAULT, READ_MESSAGES_DEFAULT)
}

fn response(buffer: &[u8]) -> Decoded<Response<'_>> {
    decode_response(buffer, MOK_BYTES_MAX)
}

/// A value as text, so that values that borrow from different buffers can be compared.
fn described<T: Debug>(decoded: Decoded<T>) -> Decoded<String> {
    match decoded {
        Decoded::Whole { value, bytes } => Decoded::Whole { value: format!("{value:?}"), bytes },
        Decoded::More { bytes } => Decoded::More { bytes },
        Decoded::Broken(broken) => Decoded::Broken(broken),
    }
}

/// Checks that every prefix asks for more, honestly, and that what follows the whole one does not matter.
fn check_splits(bytes: &[u8], decode: impl Fn(&[u8]) -> Decoded<String>) {
    let text = String::from_utf8_lossy(bytes);
    for length in 0..bytes.len() {
        match decode(&bytes[..length]) {
            Decoded::More { bytes: more } => {
                assert!(more > length && more <= bytes.len(), "{more} after {length} of {text:?}");
            }
            other => unreachable!("{other:?} after {length} of {text:?}"),
        }
    }
    let whole = decode(bytes);
    assert!(matches!(whole, Decoded::Whole { bytes: taken, .. } if taken == bytes.len()), "{whole:?}");
    for next in [&b"PING\r\n"[..], b"\0", b"\n", bytes] {
        assert_eq!(decode(&[bytes, next].concat()), whole, "{text:?}");
    }
}

/// As [`check_splits`], for bytes that must first be cut off where each value ends.
fn check_all_splits(mut bytes: &[u8], decode: impl Fn(&[u8]) -> Decoded<String>) {
    let mut count = 0;
    while let Decoded::Whole { bytes: taken, .. } = decode(bytes) {
        check_splits(&bytes[..taken], &decode);
        bytes = &bytes[taken..];
        count += 1;
    }
    assert!(bytes.is_empty() && count > 1, "{count} values, then {:?}", String::from_utf8_lossy(bytes));
}

#[test]
fn every_split_of_a_request_asks_for_more() {
    check_all_splits(include_bytes!("../testdata/requests.bin"), |buffer| described(request(buffer)));
    check_all_splits(include_bytes!("../testdata/batches.bin"), |buffer| described(request(buffer)));
    for rejected in [
        &b"READ default x 1\r\n"[..],
        b"READ default 0 0\r\n",
        b"TAIL ../x 1\r\n",
        b"PING now\r\n",
        b"BATCH 65536 default 1 1\r\n",
        b"BATCH 99999999999999999999 default 1 1\r\n",
        b"BATCH 5 ../x 1 1\r\nhello",
        b"BATCH 5 default x 1\r\nhello",
        b"BATCH 5 default 1 1 key=value\r\nhello",
    ] {
        assert!(matches!(request(rejected), Decoded::Whole { value: Err(_), .. }));
        check_splits(rejected, |buffer| described(request(buffer)));
    }
}

#[test]
fn every_split_of_an_answer_asks_for_more() {
    check_all_splits(include_bytes!("../testdata/answers.bin"), |buffer| described(response(buffer)));
    check_splits(include_bytes!("../testdata/config.bin"), |buffer| described(response(buffer)));
    check_splits(b"ERR a reason of some later version\r\n", |buffer| described(response(buffer)));
}

#[test]
fn every_split_of_a_batch_asks_for_more() {
    let batches = include_bytes!("../testdata/batches.bin");
    check_all_splits(batches, |buffer| described(decode_batch(buffer, BATCH_BYTES_DEFAULT)));
    let extended = b"BATCH 5 default 907060870 1 writer=0123456789abcdef seq=7\r\nhello";
    check_splits(extended, |buffer| described(decode_batch(buffer, BATCH_BYTES_DEFAULT)));
    let envelope = &extended[..extended.len() - 5];
    check_splits(envelope, |buffer| described(decode_envelope(buffer)));
}

#[test]
fn a_batch_is_asked_for_as_a_whole_once_its_envelope_is_there() {
    assert_eq!(request(b"BATCH 100 default 1 1\r\n"), Decoded::More { bytes: 123 });
    assert_eq!(decode_batch(b"BATCH 100 default 1 1\r\nMSG", 65536), Decoded::More { bytes: 123 });
    assert_eq!(response(b"MOK 100\r\n"), Decoded::More { bytes: 111 });
}

/// A line of exactly `bytes` bytes that begins with `start`.
fn line(start: &str, bytes: usize) -> Vec<u8> {
    let mut line = start.as_bytes().to_vec();
    line.resize(bytes - 2, b'x');
    line.extend_from_slice(b"\r\n");
    line
}

#[test]
fn a_line_has_at_most_4096_bytes() {
    assert_eq!(LINE_BYTES_MAX, 4096);
    let rejected = Rejection { command: Command::Ping, reason: Reason::InvalidRequest, body_bytes: 0 };
    assert_eq!(request(&line("PING ", 4096)), Decoded::Whole { value: Err(rejected), bytes: 4096 });
    assert_eq!(request(&line("PING ", 4097)), Decoded::Broken(Broken::LineTooLong));
    assert_eq!(request(&[b'x'; 4095]), Decoded::More { bytes: 4096 });
    assert_eq!(request(&[b'x'; 4096]), Decoded::Broken(Broken::LineTooLong));
    let unknown = Response::Error(Reason::Unknown);
    assert_eq!(response(&line("ERR ", 4096)), Decoded::Whole { value: unknown, bytes: 4096 });
    assert_eq!(response(&line("ERR ", 4097)), Decoded::Broken(Broken::LineTooLong));
    let extended = line("BATCH 5 default 1 1 ", 4096);
    assert_eq!(decode_batch(&extended, 65536), Decoded::More { bytes: 4101 });
    assert_eq!(
        decode_batch(&line("BATCH 5 default 1 1 ", 4097), 65536),
        Decoded::Broken(Broken::LineTooLong)
    );
}

fn rejection(input: &[u8]) -> Rejection {
    match request(input) {
        Decoded::Whole { value: Err(rejection), .. } => rejection,
        other => unreachable!("{other:?} for {:?}", String::from_utf8_lossy(input)),
    }
}

#[test]
fn a_topic_has_1_to_255_characters() {
    let longest = "x".repeat(255);
    let tail = |name: &str| format!("TAIL {name} 1\r\n").into_bytes();
    assert!(matches!(request(&tail(&longest)), Decoded::Whole { value: Ok(Request::Tail { .. }), .. }));
    assert_eq!(rejection(&tail(&format!("{longest}x"))).reason, Reason::TopicNotAllowed);
    assert_eq!(TopicName::new(&longest).map(|name| name.as_str().len()), Ok(255));
    assert_eq!(TopicName::new(longest + "x"), Err(TopicNameError::TooLong));
    assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
}

#[test]
fn a_topic_is_always_a_plain_directory() {
    for byte in 0..=255_u8 {
        let is_allowed = byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        assert_eq!(TopicName::new([b'a', byte]).is_ok(), is_allowed, "{byte}");
        assert_eq!(TopicName::new([byte]).is_ok(), is_allowed && byte != b'.', "{byte}");
    }
    for name in ["../x", "/abs", "a/b", ".", "..", ".hidden", "a\0b", "ä"] {
        assert!(TopicName::new(name).is_err(), "{name}");
        for text in [
            format!("READ {name} 0 1"),
            format!("TAIL {name} 1"),
            format!("HEAD {name}"),
            format!("AT {name} 1"),
        ] {
            let rejection = rejection(format!("{text}\r\n").as_bytes());
            assert_eq!(rejection.reason, Reason::TopicNotAllowed, "{text}");
            assert_eq!(rejection.body_bytes, 0);
        }
        // The body of a batch is taken with it, so that the connection stays usable.
        let input = format!("BATCH 5 {name} 1 1\r\nhello");
        let expected = Rejection { command: Command::Batch, reason: Reason::TopicNotAllowed, body_bytes: 0 };
        assert_eq!(request(input.as_bytes()), Decoded::Whole { value: Err(expected), bytes: input.len() });
        let stored = decode_batch(input.as_bytes(), BATCH_BYTES_DEFAULT);
        assert_eq!(stored, Decoded::Broken(Broken::Topic));
    }
}

#[test]
fn a_batch_that_is_too_large_is_rejected_by_its_envelope() {
    let input = b"BATCH 100 default 1 1\r\n";
    let whole = input.len() + 100;
    assert_eq!(decode_request(input, whole, 1), Decoded::More { bytes: whole });
    assert_eq!(decode_batch(input, whole), Decoded::More { bytes: whole });
    let rejected = Rejection { command: Command::Batch, reason: Reason::TooLarge, body_bytes: 100 };
    assert_eq!(
        decode_request(input, whole - 1, 1),
        Decoded::Whole { value: Err(rejected), bytes: input.len() }
    );
    let limit = whole - 1;
    assert_eq!(decode_batch(input, limit), Decoded::Broken(Broken::TooLarge { limit }));
}

#[test]
fn sizes_near_the_ends_of_integers_are_too_large() {
    for size in [i64::MAX as u64, 1 << 63, u64::MAX - 24, u64::MAX] {
        let input = format!("BATCH {size} default 1 1\r\n");
        let rejected = Rejection { command: Command::Batch, reason: Reason::TooLarge, body_bytes: size };
        assert_eq!(
            decode_request(input.as_bytes(), usize::MAX - 100, 1),
            if size < usize::MAX as u64 - 100 - input.len() as u64 {
                Decoded::More { bytes: usize::try_from(size).unwrap() + input.len() }
            } else {
                Decoded::Whole { value: Err(rejected), bytes: input.len() }
            }
        );
        assert_eq!(rejection(input.as_bytes()), rejected);
    }
    for size in ["18446744073709551616", "99999999999999999999999999"] {
        let input = format!("BATCH {size} default 1 1\r\n");
        assert_eq!(rejection(input.as_bytes()).body_bytes, u64::MAX, "stands for what is above it");
        assert_eq!(rejection(input.as_bytes()).reason, Reason::TooLarge);
        assert_eq!(decode_batch(input.as_bytes(), 65536), Decoded::Broken(Broken::Number));
        let answer = format!("MOK {size}\r\n");
        assert_eq!(response(answer.as_bytes()), Decoded::Broken(Broken::Number));
    }
    let limit = MOK_BYTES_MAX;
    assert_eq!(response(b"MOK 18446744073709551615\r\n"), Decoded::Broken(Broken::TooLarge { limit }));
}

#[test]
fn the_lines_of_an_answer_have_a_bound() {
    let answer = b"MOK 3\r\na\r\n\r\n";
    assert!(matches!(decode_response(answer, 3), Decoded::Whole { value: Response::Lines(b"a\r\n"), .. }));
    assert_eq!(decode_response(answer, 2), Decoded::Broken(Broken::TooLarge { limit: 2 }));
}

#[test]
fn offsets_go_up_to_the_largest_number() {
    let read = |offset: &str| format!("READ default {offset} 1\r\n").into_bytes();
    let largest = read("18446744073709551615");
    let Decoded::Whole { value: Ok(Request::Read { offset, .. }), .. } = request(&largest) else {
        unreachable!("a request");
    };
    assert_eq!(offset, Offset::new(u64::MAX));
    for wrong in ["18446744073709551616", "x", "-1", "+1", "0x1", "1.0"] {
        assert_eq!(rejection(&read(wrong)).reason, Reason::InvalidRequest, "{wrong}");
    }
}

#[test]
fn numbers_of_messages_have_a_bound() {
    let messages = |text: &str| match request(text.as_bytes()) {
        Decoded::Whole {
            value: Ok(Request::Read { messages, .. } | Request::Tail { messages, .. }), ..
        } => Some(messages),
        Decoded::Whole { value: Err(rejection), .. } => {
            assert_eq!(rejection.reason, Reason::InvalidRequest, "{text}");
            None
        }
        other => unreachable!("{other:?}"),
    };
    assert_eq!(messages("READ default 0 50000\r\n"), Some(50_000));
    assert_eq!(messages("READ default 0 50001\r\n"), None);
    assert_eq!(messages("READ default 0 1\r\n"), Some(1));
    assert_eq!(messages("READ default 0 0\r\n"), None);
    assert_eq!(messages("TAIL default 50000\r\n"), Some(50_000));
    assert_eq!(messages("TAIL default 50001\r\n"), None);
    assert_eq!(messages("TAIL default 0\r\n"), Some(1), "acts as 1");
    for wrong in ["18446744073709551616", "x", "-1"] {
        assert_eq!(messages(&format!("READ default 0 {wrong}\r\n")), None, "{wrong}");
        assert_eq!(messages(&format!("TAIL default {wrong}\r\n")), None, "{wrong}");
    }
}

#[test]
fn waiting_has_a_bound() {
    let wait = |tokens: &str| {
        let input = format!("READ default 0 1 {tokens}\r\n");
        match request(input.as_bytes()) {
            Decoded::Whole { value: Ok(Request::Read { wait, .. }), .. } => Ok(wait),
            Decoded::Whole { value: Err(rejection), .. } => Err(rejection.reason),
            other => unreachable!("{other:?} for {tokens}"),
        }
    };
    assert_eq!(wait("wait=0"), Ok(Some(Duration::ZERO)));
    assert_eq!(wait("wait=60000"), Ok(Some(Duration::from_secs(60))));
    for wrong in
        ["wait=60001", "wait=", "wait=-1", "wait=1s", "wait", "wait=1 wait=1", "wait=1 x=1", "WAIT=1"]
    {
        assert_eq!(wait(wrong), Err(Reason::InvalidRequest), "{wrong}");
    }
}

#[test]
fn what_is_no_request_ends_the_connection() {
    let cases: &[(&[u8], Broken)] = &[
        (b"\n", Broken::LineEnd),
        (b"PING\n", Broken::LineEnd),
        (b"READ default 0 1\n", Broken::LineEnd),
        (b"\r\n", Broken::UnknownCommand),
        (b" \r\n", Broken::UnknownCommand),
        (b" PING\r\n", Broken::UnknownCommand),
        (b"ping\r\n", Broken::UnknownCommand),
        (b"NONSENSE\r\n", Broken::UnknownCommand),
        (b"MSG 5\r\n", Broken::UnknownCommand),
        (b"PING\0\r\n", Broken::UnknownCommand),
        (b"PING\r\r\n", Broken::UnknownCommand),
        (b"READ\r\n", Broken::MissingArgument),
        (b"READ default\r\n", Broken::MissingArgument),
        (b"READ default 0\r\n", Broken::MissingArgument),
        (b"TAIL default\r\n", Broken::MissingArgument),
        (b"HEAD\r\n", Broken::MissingArgument),
        (b"BATCH\r\n", Broken::MissingArgument),
        (b"BATCH 5\r\n", Broken::MissingArgument),
        (b"BATCH 5 default\r\n", Broken::MissingArgument),
        (b"BATCH 5 default 1\r\n", Broken::MissingArgument),
        (b"BATCH x default 1 1\r\n", Broken::Number),
        (b"BATCH -1 default 1 1\r\n", Broken::Number),
        (b"READ  default 0 1\r\n", Broken::EmptyToken),
        (b"READ default 0 1 \r\n", Broken::EmptyToken),
        (b"READ default 0  1\r\n", Broken::EmptyToken),
        (b"READ default 0 1  wait=1\r\n", Broken::EmptyToken),
        (b"TAIL default 1 \r\n", Broken::EmptyToken),
        (b"HEAD default \r\n", Broken::EmptyToken),
        (b"PING \r\n", Broken::EmptyToken),
        (b"BATCH  5 default 1 1\r\n", Broken::EmptyToken),
        (b"BATCH 5 default 1 1 \r\n", Broken::EmptyToken),
        (b"BATCH 5 default 1 1 a=1  b=1\r\n", Broken::EmptyToken),
    ];
    for (input, broken) in cases {
        assert_eq!(request(input), Decoded::Broken(*broken), "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn what_is_unknown_after_a_request_is_refused() {
    for input in [
        &b"TAIL default 1 wait=1\r\n"[..],
        b"HEAD default x=1\r\n",
        b"TOPICS all\r\n",
        b"PING 1\r\n",
        b"STATS x\r\n",
        b"CONFIG x\r\n",
        b"CLOSE now\r\n",
        b"READ default 0 1 x=1\r\n",
        b"READ default 0 1 bound=upper\r\n",
        b"BATCH 5 default 1 1 writer=1\r\nhello",
    ] {
        assert_eq!(rejection(input).reason, Reason::InvalidRequest, "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn a_batch_with_wrong_numbers_is_taken_and_refused() {
    for numbers in ["x 1", "-1 1", "4294967296 1", "18446744073709551616 1", "1 x", "1 18446744073709551616"]
    {
        let input = format!("BATCH 5 default {numbers}\r\nhello");
        let expected = Rejection { command: Command::Batch, reason: Reason::InvalidProtocol, body_bytes: 0 };
        assert_eq!(request(input.as_bytes()), Decoded::Whole { value: Err(expected), bytes: input.len() });
        assert_eq!(decode_batch(input.as_bytes(), 65536), Decoded::Broken(Broken::Number), "{numbers}");
    }
    let largest = b"BATCH 5 default 4294967295 18446744073709551615\r\nhello";
    assert!(matches!(request(largest), Decoded::Whole { value: Ok(Request::Batch(_)), .. }));
}

#[test]
fn what_is_no_answer_ends_the_connection() {
    let cases: &[(&[u8], Broken)] = &[
        (b"\r\n", Broken::UnknownCommand),
        (b"\n", Broken::LineEnd),
        (b"OK\n", Broken::LineEnd),
        (b"ok\r\n", Broken::UnknownCommand),
        (b"OKAY\r\n", Broken::UnknownCommand),
        (b"OK \r\n", Broken::EmptyToken),
        (b"OK 1\r\n", Broken::MissingArgument),
        (b"OK 1 \r\n", Broken::EmptyToken),
        (b"OK x 1\r\n", Broken::Number),
        (b"OK 1 -1\r\n", Broken::Number),
        (b"OK 18446744073709551616 1\r\n", Broken::Number),
        (b"OK 1 1 1\r\n", Broken::Trailing),
        (b"OK 1 1 \r\n", Broken::Trailing),
        (b"MOK\r\n", Broken::MissingArgument),
        (b"MOK x\r\n", Broken::Number),
        (b"MOK 1 1\r\n", Broken::Trailing),
        (b"MOK 1\r\nabc", Broken::BodyEnd),
        (b"MOK 1\r\na\n\r", Broken::BodyEnd),
    ];
    for (input, broken) in cases {
        assert_eq!(response(input), Decoded::Broken(*broken), "{:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn numbers_are_digits_only() {
    assert_eq!(parse_u64(b"0"), Ok(0));
    assert_eq!(parse_u64(b"007"), Ok(7));
    assert_eq!(parse_u64(b"18446744073709551615"), Ok(u64::MAX));
    assert_eq!(parse_u64(b"18446744073709551616"), Err(NumberError::Overflow));
    assert_eq!(parse_u64(b"99999999999999999999999"), Err(NumberError::Overflow));
    for text in ["", " 1", "1 ", "+1", "-1", "1x", "0x1", "1_000", "\u{661}"] {
        assert_eq!(parse_u64(text.as_bytes()), Err(NumberError::NotDecimal), "{text:?}");
    }
    assert_eq!("60".parse(), Ok(Offset::new(60)));
    assert_eq!(Offset::new(u64::MAX - 1).checked_add(1), Some(Offset::new(u64::MAX)));
    assert_eq!(Offset::new(u64::MAX).checked_add(1), None);
}

#[test]
fn lines_of_another_form_are_passed_over_or_named() {
    let pairs: Vec<_> = key_values(b"a: 1\r\nnothing\r\n\xff: 2\r\nb:3\nc: d: e\r\n").collect();
    assert_eq!(pairs, [("a", "1"), ("b", "3"), ("c", "d: e")]);
    let infos: Vec<_> = TopicInfo::parse(b"a 0 1 2 3\r\na 0 1 2\r\n../x 0 1 2 3\r\na 0 1 2 x\r\na 0 1 2 3\n")
        .map(Result::err)
        .collect();
    let expected = [Broken::MissingArgument, Broken::Topic, Broken::Number, Broken::LineEnd].map(Some);
    assert_eq!(infos, [&[None][..], &expected].concat());
}

/// Bytes that look like the protocol more often than chance would have it.
fn nearly_protocol() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "BATCH ",
            "READ ",
            "TAIL ",
            "HEAD ",
            "AT ",
            "PING",
            "MOK ",
            "OK ",
            "ERR ",
            "MSG ",
            "default",
            " ",
            "\r\n",
            "\r",
            "\n",
            "0",
            "5",
            "65535",
            "18446744073709551615",
            "18446744073709551616",
            "wait=1",
            "bound=upper",
            "hello",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..6),
    ];
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

/// Decodes each prefix of `bytes`: once it says something else than "more", it goes on saying that.
fn check_steady(bytes: &[u8], decode: impl Fn(&[u8]) -> Decoded<String>) {
    let whole = decode(bytes);
    let mut wanted = 0;
    for length in 0..=bytes.len() {
        match decode(&bytes[..length]) {
            Decoded::More { bytes: more } => {
                assert!(more > length && more >= wanted, "{more} after {wanted} at {length}");
                wanted = more;
            }
            said => {
                assert!(length >= wanted, "{said:?} at {length}, before the {wanted} that were asked for");
                assert_eq!(said, whole);
            }
        }
    }
}

proptest! {
    #[test]
    fn the_split_of_a_stream_never_matters(bytes in nearly_protocol()) {
        check_steady(&bytes, |buffer| described(request(buffer)));
        check_steady(&bytes, |buffer| described(response(buffer)));
        check_steady(&bytes, |buffer| described(decode_envelope(buffer)));
        check_steady(&bytes, |buffer| described(decode_batch(buffer, BATCH_BYTES_DEFAULT)));
    }

    #[test]
    fn what_is_decoded_lies_in_the_buffer(bytes in nearly_protocol()) {
        if let Decoded::Whole { value, bytes: taken } = request(&bytes) {
            prop_assert!(taken > 0 && taken <= bytes.len());
            if let Ok(Request::Batch(batch)) = value {
                prop_assert_eq!(batch.bytes(), &bytes[..taken]);
                prop_assert_eq!(batch.body().len() as u64, batch.envelope().body_bytes);
            }
        }
        if let Decoded::Whole { bytes: taken, .. } = response(&bytes) {
            prop_assert!(taken > 0 && taken <= bytes.len());
        }
    }

    #[test]
    fn no_bytes_break_a_reader(bytes in nearly_protocol(), delta in 0..200_usize) {
        let read: Vec<Message<'_>> = Messages::starting_at(&bytes, delta).map_while(Result::ok).collect();
        for message in read {
            prop_assert_eq!(&bytes[message.start..message.start + message.bytes.len()], message.bytes);
        }
        prop_assert!(TopicInfo::parse(&bytes).count() <= bytes.len());
        prop_assert!(key_values(&bytes).count() <= bytes.len() + 1);
        let _ = ServerConfig::parse(&bytes);
    }

    #[test]
    fn a_number_is_read_as_it_is_written(number: u64, zeros in 0..4_usize) {
        let text = format!("{}{number}", "0".repeat(zeros));
        prop_assert_eq!(parse_u64(text.as_bytes()), Ok(number));
    }
}
