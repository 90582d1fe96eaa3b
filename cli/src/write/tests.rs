use logd_client::{BatchBuilder, Client, ClientConfig, ErrorKind, RetryPolicy};

use super::*;

/// Hands the lines of `input`, in small batches, to a writer whose server is not there, and returns why they ended.
/// It must not be more than the writer holds.
fn fill(batch_bytes: usize, input: &[u8]) -> (End, u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    std::fs::write(&path, input).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (input, _stop) = Source::open(Some(&path)).unwrap().start();
        let writer = Writer::builder(ClientConfig::new("127.0.0.1:1"))
            .runtime(TaskRuntime::Current)
            .batch_bytes(batch_bytes)
            .wait_interval(Duration::from_secs(60))
            .open()
            .unwrap();
        let lengths = Lengths::default();
        let end = Filler::new(&writer, batch_bytes, &lengths).take_lines(input).await;
        (end, writer.stats().written, lengths.take(u64::MAX))
    })
}

#[test]
fn every_line_is_written_with_its_length() {
    let lines: Vec<Vec<u8>> = (0..1000).map(|number| vec![b'x'; number % 97]).collect();
    let input = lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect::<Vec<u8>>();
    let (end, messages, bytes) = fill(512, &input);
    assert!(matches!(end, End::Whole), "{end:?}");
    assert_eq!((messages, bytes), (1000, input.len() as u64 - 1000));
}

#[test]
fn line_that_is_too_long_ends_the_input_behind_those_before_it() {
    for (length, text) in [
        (481, "line 3 has `481` bytes: the longest that fits a batch of `512` bytes has `4"),
        (300_000, "line 3 has more than `"),
    ] {
        let input = [b"one\n\n".to_vec(), vec![b'x'; length], b"\nfour\n".to_vec()].concat();
        let (end, messages, _) = fill(512, &input);
        assert_eq!(messages, 2);
        let End::Failed(failure) = end else { panic!("{end:?}") };
        assert!(failure.to_string().starts_with(text), "{failure}");
    }
}

#[test]
fn longest_line_fits() {
    let (end, ..) = fill(512, &[b'x'; 500]);
    let End::Failed(failure) = end else { panic!("{end:?}") };
    let longest: usize = failure.to_string().split('`').nth(5).unwrap().parse().unwrap();
    assert!(matches!(fill(512, &vec![b'x'; longest]), (End::Whole, 1, _)));
    assert!(matches!(fill(512, &vec![b'x'; longest + 1]), (End::Failed(_), 0, _)));
}

/// A real error of the client: nothing listens at this address.
fn client_error() -> logd_client::Error {
    let config = ClientConfig::new("127.0.0.1:1").retry(RetryPolicy::none());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Client::connect(config)).unwrap_err()
}

fn failed(messages: usize, outcome: Outcome) -> FailedBatch {
    let mut builder = BatchBuilder::new(&"default".parse().unwrap(), 65536);
    for _ in 0..messages {
        builder.push(b"x").unwrap();
    }
    FailedBatch { batch: builder.finish().unwrap(), error: client_error(), outcome, attempts: 1 }
}

#[test]
fn doubt_reaches_to_the_last_batch_that_may_be_written() {
    use Outcome::{NotWritten, Unknown};
    let in_doubt = |outcomes: &[Outcome]| {
        messages_in_doubt(outcomes.iter().zip(1..).map(|(outcome, messages)| failed(messages, *outcome)))
    };
    assert_eq!(in_doubt(&[Unknown]), 1);
    assert_eq!(in_doubt(&[Unknown, Unknown, NotWritten]), 3);
    assert_eq!(in_doubt(&[Unknown, NotWritten, Unknown, NotWritten]), 6);
}

#[test]
fn failed_batch_names_the_first_line_that_was_not_delivered() {
    let undelivered = |in_doubt| {
        let failure = Failure::from(client_error());
        // What was counted can be less, where the offsets could not be printed.
        tell(Some(Err(Undelivered { failure, delivered: 120, in_doubt })), 100, "line").unwrap_err()
    };
    assert_eq!(client_error().kind(), ErrorKind::Connect);
    let failure = undelivered(0);
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(
        failure
            .to_string()
            .ends_with("; `120` messages were delivered, line `121` is the first that was not"),
        "{failure}"
    );
    let failure = undelivered(10).to_string();
    assert!(
        failure.ends_with("was not for sure: those up to line `130` were sent, and no answer tells"),
        "{failure}"
    );
}

#[test]
fn end_of_the_input_is_told_only_when_it_is_not_whole() {
    assert_eq!(tell(Some(Ok((End::Whole, Ok(())))), 5, "line"), Ok(()));
    let told = tell(Some(Ok((End::Stopped { left_out: 0 }, Ok(())))), 5, "line").unwrap_err();
    assert_eq!(told.to_string(), "interrupted: `5` messages were delivered");
    let told = tell(Some(Ok((End::Stopped { left_out: 7 }, Ok(())))), 5, "line").unwrap_err();
    assert!(told.to_string().contains("`7` bytes of line `6` were left out"), "{told}");
    let told = tell(Some(Ok((End::Whole, Err(Failure::failed("cannot write"))))), 5, "line").unwrap_err();
    assert_eq!(told.to_string(), "cannot write; all `5` messages were delivered");
}
