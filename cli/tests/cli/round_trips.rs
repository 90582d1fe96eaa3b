//! What `write` takes, `read` gives: byte for byte.

use crate::support::{TestServer, run};

/// Writes `input`, reads it back, and compares; a last line without `\n` gets one.
fn check(server: &TestServer, topic: &str, input: &[u8], options: &[&str]) {
    server.done(&[&["write", "--topic", topic], options].concat(), input);
    let mut expected = input.to_vec();
    if expected.last().is_some_and(|byte| *byte != b'\n') {
        expected.push(b'\n');
    }
    let read = server.done(&["read", "--topic", topic], b"");
    assert!(read == expected, "topic {topic}: {} bytes were read, not {}", read.len(), expected.len());
}

/// Bytes of every value in lines of every length up to `line_bytes_max`, from a seed.
fn bytes(mut seed: u64, count: usize, line_bytes_max: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    };
    let mut bytes = Vec::with_capacity(count);
    while bytes.len() < count {
        for _ in 0..next() % (line_bytes_max + 1) {
            let byte = u8::try_from(next() % 256).unwrap();
            bytes.push(if byte == b'\n' { b'\r' } else { byte });
        }
        bytes.push(b'\n');
    }
    bytes
}

/// The numbers below `end`, a line each, of at least `digits` digits.
fn numbers(end: usize, digits: usize) -> String {
    (0..end).flat_map(|number| [format!("{number:0digits$}"), "\n".into()]).collect()
}

#[test]
fn small_inputs_come_back_byte_for_byte() {
    let server = TestServer::start_with(|config| config.topics = 0);
    let inputs: [&[u8]; 8] = [
        b"\n",
        b"\n\n\n",
        b"no end",
        b"one\r\ntwo\r\n\r\n",
        b"\r",
        b"\xff\xfe\0\x80\n\0\n",
        b"MSG 3\r\nBATCH 29 default 2499380544 2\r\n",
        b"one\n\nthree",
    ];
    for (number, input) in inputs.iter().enumerate() {
        check(&server, &format!("topic{number}"), input, &[]);
    }
}

#[test]
fn empty_input_writes_nothing() {
    let server = TestServer::start();
    assert_eq!(server.done(&["write", "--topic", "empty"], b""), b"");
    let finished = server.cli(&["read", "--topic", "empty"], b"");
    assert_eq!(finished.code, 1, "the topic must not have come into being");
}

#[test]
fn many_lines_of_every_length_come_back_in_batches_of_every_size() {
    let server = TestServer::start_with(|config| config.topics = 0);
    for (number, size) in ["512", "4KiB", "64KiB"].iter().enumerate() {
        check(&server, &format!("topic{number}"), &bytes(7, 400_000, 400), &["--batch-size", size]);
    }
    check(&server, "long", &bytes(8, 3_000_000, 65_000), &[]);
}

#[test]
fn lines_longer_than_a_block_fit_large_batches() {
    let server = TestServer::start_with(|config| config.batch_bytes = 4 << 20);
    let input = [vec![b'a'; 3_000_000], b"\n\n".to_vec(), vec![b'b'; 1_000_000]].concat();
    check(&server, "large", &input, &["--batch-size", "4MiB"]);
}

#[test]
fn server_with_smaller_batches_than_asked_for_is_given_those() {
    let server = TestServer::start_with(|config| config.batch_bytes = 512);
    check(&server, "small", &bytes(9, 20_000, 400), &[]);
}

#[test]
fn every_batch_has_its_offset_printed_and_can_be_read_from_there() {
    let server = TestServer::start();
    let input = numbers(50, 100);
    let offsets = server.done(&["write", "--batch-size", "512"], input.as_bytes());
    let offsets: Vec<&str> = std::str::from_utf8(&offsets).unwrap().lines().collect();
    assert!(offsets.len() > 10 && offsets[0] == "0", "{offsets:?}");
    for offset in offsets {
        let read = server.done(&["read", "--offset", offset], b"");
        assert!(!read.is_empty() && input.as_bytes().ends_with(&read), "from offset {offset}");
    }
}

#[test]
fn offsets_go_to_a_file_and_messages_come_from_one() {
    let server = TestServer::start();
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    std::fs::write(&input, "one\ntwo\n").unwrap();
    let (input, output_name) = (input.to_str().unwrap(), output.to_str().unwrap());
    let printed = server.done(&["write", "--input", input, "--output", output_name], b"not this");
    assert_eq!((printed.as_slice(), std::fs::read(&output).unwrap().as_slice()), (&b""[..], &b"0\n"[..]));
    assert_eq!(server.done(&["read"], b""), b"one\ntwo\n");
}

#[test]
fn arguments_are_messages_as_they_are() {
    let server = TestServer::start();
    server.done(&["write", "one", "", "two\nlines\r", "--", "-x"], b"not this");
    assert_eq!(server.done(&["read"], b""), b"one\n\ntwo\nlines\r\n-x\n");
}

#[test]
fn limit_is_exact_and_zero_is_none() {
    let server = TestServer::start();
    let input = numbers(1000, 1);
    server.done(&["write", "--batch-size", "512"], input.as_bytes());
    for limit in [1, 2, 499, 999, 1000, 5000] {
        let read = server.done(&["read", "--limit", &limit.to_string()], b"");
        let expected = numbers(limit.min(1000), 1);
        assert_eq!(String::from_utf8(read).unwrap(), expected);
    }
    assert_eq!(server.done(&["read", "--limit", "0"], b""), input.as_bytes());
}

#[test]
fn numbers_are_positions_to_read_from() {
    let server = TestServer::start();
    server.done(&["write", "hello", "world!"], b"");
    server.done(&["write", "again"], b"");
    let numbered = server.done(&["read", "--numbers"], b"");
    assert_eq!(String::from_utf8(numbered).unwrap(), "0.0 hello\n0.14 world!\n90.0 again\n");
    assert_eq!(server.done(&["read", "--offset", "0.14"], b""), b"world!\nagain\n");
    assert_eq!(server.done(&["read", "--offset", "90", "-n"], b""), b"90.0 again\n");
}

#[test]
fn topic_that_is_there_and_empty_reads_as_nothing() {
    let server = TestServer::start();
    assert_eq!(server.done(&["read"], b""), b"");
    server.done(&["write", "one"], b"");
    let head = server.done(&["head"], b"");
    let next = String::from_utf8(head).unwrap().lines().next().unwrap().replace("next: ", "");
    assert_eq!(server.done(&["read", "--offset", &next], b""), b"");
}

#[test]
fn counts_are_told_on_standard_error() {
    let server = TestServer::start();
    let counts = "messages: 3\nbatches: 1\nbytes: 8\n";
    let written = server.cli(&["write", "--count"], b"one\n\nthree");
    assert_eq!((written.stderr.as_str(), written.stdout.as_slice()), (counts, &b"0\n"[..]));
    assert_eq!(run(&server.host(), &["-c", "read"], b"").stderr, counts);
}
