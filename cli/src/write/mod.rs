//! `log-cli write`: messages to batches, batches to the server, offsets to the output.
//!
//! Two tasks run side by side: [`fill`] frames messages into a batch and queues it when it is full or has waited long
//! enough; [`send`] appends one queued batch after the other. Few batches wait between them, so memory is bounded.
//!
//! The client's `Writer` hands a failed batch back and goes on with those behind it. Here that would leave a hole in
//! the middle of a file, and the user could not tell from which line to write again. So this sends the batches itself
//! and stops at the first that fails: every message before it is in the topic, and none behind it is.
//!
//! A signal ends the input. What was read is still sent, for [`INTERRUPTED_TIME_MAX`] at most or until a second signal.

mod fill;
mod lines;
mod send;

use std::ffi::OsString;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use logd_client::{BatchBuilder, Client, Outcome};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use self::fill::{End, Filler};
use self::send::{Sender, Undelivered};
use crate::args::{Common, RETRIES_DEFAULT, Write};
use crate::connect::settings;
use crate::counts::Counts;
use crate::exit::{Exit, Failure};
use crate::input::{Input, Source, Stop};
use crate::output::{Output, complain};
use crate::progress::Progress;
use crate::signals::Signals;

/// How many full batches can wait to be sent.
const QUEUED_BATCHES: usize = 2;
/// How long what was read is still tried to be sent after a signal, and the offsets to be printed after a failure.
const INTERRUPTED_TIME_MAX: Duration = Duration::from_secs(5);

pub(crate) async fn run(common: &Common, mut args: Write, signals: &mut Signals) -> Result<Exit, Failure> {
    let messages = Messages::open(std::mem::take(&mut args.messages), args.input.as_deref())?;
    let server = tokio::select! {
        server = settings(common) => server?,
        exit = signals.next() => return Ok(exit),
    };
    let output = Output::create(args.output.as_deref())?;
    let progress = Progress::new(output.is_terminal());
    let counts = Counts::default();
    // A server that takes less than was asked for decides.
    let batch_bytes = usize::try_from(server.batch_bytes_max).unwrap_or(usize::MAX).min(common.batch_size);

    let what = messages.what();
    let (messages, stop) = messages.start();
    let work = deliver(common, &args, batch_bytes, messages, &counts, output);
    let (result, signal) = tokio::select! {
        ended = attend(work, stop, signals) => ended,
        never = progress.run(&counts) => match never {},
    };
    progress.clear();
    if common.count {
        counts.report();
    }
    let told = tell(result, counts.messages(), what);
    match (signal, told) {
        (Some(exit), Err(failure)) => {
            complain(&failure);
            Ok(exit)
        }
        (Some(exit), Ok(())) => Ok(exit),
        (None, told) => told.map(|()| Exit::Success),
    }
}

/// Where messages come from.
enum Messages<L> {
    Arguments(Vec<OsString>),
    Lines(L),
}

impl Messages<Source> {
    fn open(arguments: Vec<OsString>, input: Option<&Path>) -> Result<Self, Failure> {
        if arguments.is_empty() {
            Source::open(input).map(Self::Lines)
        } else {
            Ok(Self::Arguments(arguments))
        }
    }

    /// What a user counts them as.
    const fn what(&self) -> &'static str {
        match self {
            Self::Arguments(_) => "message",
            Self::Lines(_) => "line",
        }
    }

    fn start(self) -> (Messages<Input>, Option<Stop>) {
        match self {
            Self::Arguments(arguments) => (Messages::Arguments(arguments), None),
            Self::Lines(source) => {
                let (input, stop) = source.start();
                (Messages::Lines(input), Some(stop))
            }
        }
    }
}

/// What came of it: why the messages ended, and whether the offsets could be printed.
type Delivered = Result<(End, Result<(), Failure>), Undelivered>;

/// Runs both tasks. When one of them fails, the other is not waited for.
async fn deliver(
    common: &Common,
    args: &Write,
    batch_bytes: usize,
    messages: Messages<Input>,
    counts: &Counts,
    mut output: Output,
) -> Delivered {
    let (queue, batches) = mpsc::channel(QUEUED_BATCHES);
    let builder = BatchBuilder::new(&args.topic, batch_bytes);
    let filler = Filler::new(builder, batch_bytes, common.wait_interval, queue);
    let sender = Sender {
        client: Client::new(common.client_config().retry(args.retry.policy(Some(RETRIES_DEFAULT)))),
        counts,
        output: &mut output,
        retries: args.retry.retries(),
        retry_interval: args.retry.interval(),
    };
    let fill = async {
        match messages {
            Messages::Arguments(messages) => Ok(filler.take_messages(messages).await),
            Messages::Lines(input) => Ok(filler.take_lines(input).await),
        }
    };
    let sent = tokio::try_join!(fill, sender.run(batches));
    match sent {
        Ok((end, ())) => Ok((end, output.finish().await)),
        Err(undelivered) => {
            // The offsets of what was delivered are worth a wait; that they cannot be printed is the lesser failure.
            let _ = timeout(INTERRUPTED_TIME_MAX, output.finish()).await;
            Err(undelivered)
        }
    }
}

/// Waits for the end of `work`, or for a signal, which stops the input: then for the end once more, but not for long.
/// Without a result it was given up.
async fn attend<T>(
    work: impl Future<Output = T>,
    stop: Option<Stop>,
    signals: &mut Signals,
) -> (Option<T>, Option<Exit>) {
    let mut work = pin!(work);
    let exit = tokio::select! {
        result = &mut work => return (Some(result), None),
        exit = signals.next() => exit,
    };
    if let Some(stop) = stop {
        stop.stop();
    }
    let result = tokio::select! {
        result = work => Some(result),
        () = sleep(INTERRUPTED_TIME_MAX) => None,
        _ = signals.next() => None,
    };
    (result, Some(exit))
}

/// What the user has to know, when `delivered` messages are in the topic.
fn tell(result: Option<Delivered>, delivered: u64, what: &str) -> Result<(), Failure> {
    let first = delivered + 1;
    match result {
        Some(Ok((End::Whole, printed))) => printed
            .map_err(|failure| failure.and(format_args!("; all `{delivered}` messages were delivered"))),
        Some(Ok((End::Stopped { left_out }, printed))) => {
            let left_out = if left_out == 0 {
                String::new()
            } else {
                format!(", `{left_out}` bytes of {what} `{first}` were left out, since its end was not read")
            };
            let interrupted = format!("interrupted: `{delivered}` messages were delivered{left_out}");
            printed.and(Err(Failure::new(Exit::Interrupted, interrupted)))
        }
        Some(Ok((End::Failed(failure), _))) => {
            Err(failure.and(format_args!("; `{delivered}` messages were delivered")))
        }
        Some(Err(Undelivered { failure, messages })) => {
            let doubt = match failure.outcome {
                Outcome::NotWritten => String::new(),
                Outcome::Unknown => {
                    let last = delivered + messages;
                    format!(" for sure: those up to {what} `{last}` were sent, and no answer tells")
                }
            };
            Err(Failure::from(failure.error).and(format_args!(
                "; `{delivered}` messages were delivered, {what} `{first}` is the first that was not{doubt}"
            )))
        }
        None => Err(Failure::new(
            Exit::Interrupted,
            format!(
                "interrupted: `{delivered}` messages were delivered, {what} `{first}` is the first that was not for sure"
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
