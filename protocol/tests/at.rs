//! The request AT: a topic, a time, and which bound.

use logd_protocol::limits::{BATCH_BYTES_DEFAULT, READ_MESSAGES_DEFAULT};
use logd_protocol::{Bound, Broken, Command, Decoded, Reason, Rejection, Request, TopicRef, decode_request};

fn request(line: &str) -> Decoded<Result<Request<'_>, Rejection>> {
    decode_request(line.as_bytes(), BATCH_BYTES_DEFAULT, READ_MESSAGES_DEFAULT)
}

#[test]
fn a_time_is_read_and_written_with_its_bound() {
    for (line, time_ms, bound) in [
        ("AT default 0\r\n", 0, Bound::Lower),
        ("AT default 1795500000123\r\n", 1_795_500_000_123, Bound::Lower),
        ("AT default 1795500000123 bound=upper\r\n", 1_795_500_000_123, Bound::Upper),
        ("AT default 18446744073709551615 bound=upper\r\n", u64::MAX, Bound::Upper),
    ] {
        let topic = TopicRef::parse(b"default").unwrap();
        let value = Request::At { topic, time_ms, bound };
        assert_eq!(request(line), Decoded::Whole { value: Ok(value), bytes: line.len() });
        assert_eq!(value.command(), Command::At);
        let mut written = Vec::new();
        value.put(&mut written);
        assert_eq!(written, line.as_bytes());
        for end in 0..line.len() {
            assert!(matches!(request(&line[..end]), Decoded::More { .. }), "{:?}", &line[..end]);
        }
    }
    assert_eq!(Bound::default(), Bound::Lower);
}

#[test]
fn what_is_no_time_or_no_bound_is_refused() {
    for arguments in [
        "x",
        "-1",
        "+1",
        "1.5",
        "18446744073709551616",
        "2026-11-24",
        "bound=upper",
        "1 wait=1",
        "1 upper",
        "1 bound=",
        "1 bound=UPPER",
        "1 bound=lower",
        "1 bound=upper bound=upper",
        "1 bound=upper x=1",
    ] {
        let line = format!("AT default {arguments}\r\n");
        let expected = Rejection { command: Command::At, reason: Reason::InvalidRequest, body_bytes: 0 };
        assert_eq!(request(&line), Decoded::Whole { value: Err(expected), bytes: line.len() }, "{line:?}");
    }
}

#[test]
fn a_line_that_lacks_a_part_ends_the_connection() {
    for (line, broken) in [
        ("AT\r\n", Broken::MissingArgument),
        ("AT default\r\n", Broken::MissingArgument),
        ("AT default \r\n", Broken::EmptyToken),
        ("AT  default 1\r\n", Broken::EmptyToken),
        ("AT default 1 \r\n", Broken::EmptyToken),
        ("AT default 1  bound=upper\r\n", Broken::EmptyToken),
        ("at default 1\r\n", Broken::UnknownCommand),
    ] {
        assert_eq!(request(line), Decoded::Broken(broken), "{line:?}");
    }
}
