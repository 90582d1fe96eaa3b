//! `log-cli write`: messages to the client's `Writer`, the offsets of its receipts to the output.
//!
//! [`fill`] hands the input's messages to the writer, which has several batches under way at once. [`receipts`] counts
//! what was acknowledged and prints it. The writer's buffer is small and takes as long as it takes: what is not
//! delivered yet stays in the input, and nothing is dropped.
//!
//! The writer halts at the first batch that it gives up: every message before it is in the topic, and none behind it
//! is, so that the user can be told from which line to write again.
//!
//! A signal ends the input. What was read is still sent, for [`INTERRUPTED_TIME_MAX`] at most or until a second signal.

mod fill;
mod lines;
mod receipts;

use std::ffi::OsString;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use logd_client::{Backlog, FailedBatch, Outcome, TaskRuntime, WhenFailed, Writer};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::fill::{End, Filler};
use self::receipts::{Lengths, Receipts, receipts};
use crate::args::{Common, RETRIES_DEFAULT, Write};
use crate::connect::settings;
use crate::counts::Counts;
use crate::exit::{Exit, Failure};
use crate::input::{Input, Source, Stop};
use crate::output::{Output, complain};
use crate::progress::Progress;
use crate::signals::Signals;

/// How many batches are under way at once: enough that the server has the next one when it has answered one.
const IN_FLIGHT: usize = 4;
/// How many full batches the writer holds: those under way, one that waits to be sent, and one that fills. A message for
/// which there is no room waits in the input, so that more would only be more memory.
const BUFFERED_BATCHES: usize = IN_FLIGHT + 2;
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

    let (pusher, receipts) = receipts();
    let config = common.client_config().retry(args.retry.policy(Some(RETRIES_DEFAULT)));
    let writer = Writer::builder(config)
        // A second signal ends it at once: the last handle must not wait for a thread.
        .runtime(TaskRuntime::Current)
        .topic(args.topic)
        .batch_bytes(batch_bytes)
        .wait_interval(common.wait_interval)
        .in_flight(IN_FLIGHT)
        .buffer_bytes(batch_bytes.saturating_mul(BUFFERED_BATCHES))
        .budget(Duration::MAX)
        .when_failed(WhenFailed::Halt)
        .state_pusher(pusher)
        .open()?;

    let what = messages.what();
    let (messages, stop) = messages.start();
    let work = deliver(&writer, batch_bytes, messages, receipts, &counts, output);
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

/// The first batch that was given up, which ended the writer.
#[derive(Debug)]
struct Undelivered {
    failure: Failure,
    /// How many messages were delivered, all before it.
    delivered: u64,
    /// How many messages behind those may be delivered, as far as can be known.
    in_doubt: u64,
}

/// What came of it: why the messages ended, and whether the offsets could be printed.
type Delivered = Result<(End, Result<(), Failure>), Undelivered>;

/// Writes the messages and prints the receipts, until all is delivered or a batch is given up.
async fn deliver(
    writer: &Writer,
    batch_bytes: usize,
    messages: Messages<Input>,
    receipts: Receipts,
    counts: &Counts,
    mut output: Output,
) -> Delivered {
    let backlog = writer.backlog();
    let lengths = Lengths::default();
    let halted = Notify::new();
    let write = async {
        let filler = Filler::new(writer, batch_bytes, &lengths);
        let fill = async {
            match messages {
                Messages::Arguments(messages) => filler.take_messages(messages).await,
                Messages::Lines(input) => filler.take_lines(input).await,
            }
        };
        let end = tokio::select! {
            end = fill => end,
            // Without this, the failure would be told only when the next line comes. How the input ends is not told
            // then.
            () = halted.notified() => End::Whole,
        };
        // What was given up is in the backlog.
        let _ = writer.close().await;
        end
    };
    let all = async {
        let (end, ()) = tokio::join!(write, receipts.print(&lengths, counts, &mut output));
        (end, output.finish().await)
    };
    let mut all = pin!(all);
    let first = tokio::select! {
        Some(first) = backlog.next() => first,
        delivered = &mut all => {
            // A writer that has halted has ended, too.
            let first = backlog.take();
            return first.map_or(Ok(delivered), |first| Err(undelivered(first, &backlog)));
        }
    };
    halted.notify_one();
    // The offsets of what was delivered are worth a wait; that they cannot be printed is the lesser failure.
    let _ = timeout(INTERRUPTED_TIME_MAX, all).await;
    Err(undelivered(first, &backlog))
}

/// What is to be told of the first batch that was given up; those behind it are in the backlog.
fn undelivered(first: FailedBatch, backlog: &Backlog) -> Undelivered {
    let delivered = backlog.stats().delivered;
    let is_in_doubt = first.outcome == Outcome::Unknown;
    let failure = Failure::from(first.error.clone());
    let in_doubt = if is_in_doubt { messages_in_doubt(std::iter::once(first).chain(backlog)) } else { 0 };
    Undelivered { failure, delivered, in_doubt }
}

/// The messages up to the last batch of which it is not known whether it was written.
fn messages_in_doubt(failed: impl Iterator<Item = FailedBatch>) -> u64 {
    let mut messages = 0;
    let mut in_doubt = 0;
    for FailedBatch { batch, outcome, .. } in failed {
        messages += batch.messages();
        if outcome == Outcome::Unknown {
            in_doubt = messages;
        }
    }
    in_doubt
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
        Some(Err(Undelivered { failure, delivered, in_doubt })) => {
            let first = delivered + 1;
            let doubt = if in_doubt == 0 {
                String::new()
            } else {
                let last = delivered + in_doubt;
                format!(" for sure: those up to {what} `{last}` were sent, and no answer tells")
            };
            Err(failure.and(format_args!(
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
