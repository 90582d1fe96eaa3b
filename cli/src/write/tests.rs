use logd_client::{AppendError, ClientConfig, RetryPolicy};

use super::*;

/// Fills batches from `input`, read a few bytes at a time, and returns their messages and how it ended.
fn fill(batch_bytes: usize, input: &[u8]) -> (Vec<Vec<u8>>, End, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    std::fs::write(&path, input).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (input, _stop) = Source::open(Some(&path)).unwrap().start();
        let (queue, mut batches) = mpsc::channel(QUEUED_BATCHES);
        let builder = BatchBuilder::new(&"default".parse().unwrap(), batch_bytes);
        let filler = Filler::new(builder, batch_bytes, Duration::from_secs(60), queue);
        let take = async {
            let mut messages = Vec::new();
            let mut count = 0;
            while let Some(filled) = batches.recv().await {
                assert!(filled.batch.bytes().len() <= batch_bytes);
                let found: Vec<Vec<u8>> =
                    filled.batch.messages_from(0).map(|message| message.bytes.to_vec()).collect();
                assert_eq!(filled.message_bytes, found.iter().map(|message| message.len() as u64).sum());
                messages.extend(found);
                count += 1;
            }
            (messages, count)
        };
        let (end, (messages, count)) = tokio::join!(filler.take_lines(input), take);
        (messages, end, count)
    })
}

#[test]
fn batches_hold_the_lines_in_order() {
    let lines: Vec<Vec<u8>> = (0..1000).map(|number| vec![b'x'; number % 97]).collect();
    let input = lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect::<Vec<u8>>();
    let (messages, end, batches) = fill(512, &input);
    assert_eq!(messages, lines);
    assert!(matches!(end, End::Whole) && batches > 100, "{end:?} after {batches} batches");
}

#[test]
fn line_that_is_too_long_ends_the_input_and_all_before_it_is_queued() {
    for (length, text) in [
        (481, "line 3 has `481` bytes: the longest that fits a batch of `512` bytes has `4"),
        (300_000, "line 3 has more than `"),
    ] {
        let input = [b"one\n\n".to_vec(), vec![b'x'; length], b"\nfour\n".to_vec()].concat();
        let (messages, end, _) = fill(512, &input);
        assert_eq!(messages, [&b"one"[..], b""]);
        let End::Failed(failure) = end else { panic!("{end:?}") };
        assert!(failure.to_string().starts_with(text), "{failure}");
    }
}

#[test]
fn longest_line_fits() {
    let (_, end, _) = fill(512, &[b'x'; 500]);
    let End::Failed(failure) = end else { panic!("{end:?}") };
    let longest: usize = failure.to_string().split('`').nth(5).unwrap().parse().unwrap();
    assert_eq!(fill(512, &vec![b'x'; longest]).0, [vec![b'x'; longest]]);
    assert!(matches!(fill(512, &vec![b'x'; longest + 1]).1, End::Failed(_)));
}

/// A real error of the client: nothing listens at this address.
fn client_error() -> logd_client::Error {
    let config = ClientConfig::new("127.0.0.1:1").retry(RetryPolicy::none());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Client::connect(config)).unwrap_err()
}

#[test]
fn failed_batch_names_the_first_line_that_was_not_delivered() {
    let undelivered = |outcome| {
        let failure = AppendError { error: client_error(), outcome };
        tell(Some(Err(Undelivered { failure, messages: 10 })), 120, "line").unwrap_err()
    };
    let failure = undelivered(Outcome::NotWritten);
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(
        failure
            .to_string()
            .ends_with("; `120` messages were delivered, line `121` is the first that was not"),
        "{failure}"
    );
    let failure = undelivered(Outcome::Unknown).to_string();
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
