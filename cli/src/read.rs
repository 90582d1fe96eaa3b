//! `log-cli read`: the messages of a topic as lines.
//!
//! Messages go to the output byte for byte, each followed by `\n`, in large blocks; a block that is not full is handed
//! over when there is nothing to read just now. So output is fast, and a follower sees a message as soon as it is there.
//!
//! What is missing or damaged is told on standard error and skipped; the exit code remembers it. A signal ends the read
//! at once, after a whole line. A closed output ends it too, and is no failure.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use logd_client::{Client, Error, Message, Offset, Position, Scanner, Start};
use tokio::time::timeout;

use crate::args::{Common, RETRIES_DEFAULT, Read};
use crate::connect::settings;
use crate::counts::Counts;
use crate::exit::{Exit, Failure};
use crate::head::no_topic;
use crate::output::{Output, complain};
use crate::progress::Progress;
use crate::signals::Signals;

/// How long the reader of the output is given, after a signal, to take what was read already.
const INTERRUPTED_TIME_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn run(common: &Common, args: &Read, signals: &mut Signals) -> Result<Exit, Failure> {
    let span = Span::new(args, SystemTime::now())?;
    // Fails at once where the server is not there. The scanner would try again.
    tokio::select! {
        server = settings(common) => server?,
        exit = signals.next() => return Ok(exit),
    };
    let mut scanner = scanner(common, args, span)?;
    let mut output = Output::stdout()?;
    let status = Status {
        counts: Counts::default(),
        progress: Progress::new(output.is_terminal()),
        last_batch: Cell::new(None),
        is_damaged: Cell::new(false),
    };
    let (read, mut signal) = tokio::select! {
        read = print_all(&mut scanner, &mut output, args.numbers, &status) => (read, None),
        exit = signals.next() => (Ok(()), Some(exit)),
        never = status.progress.run(&status.counts) => match never {},
    };
    let read = match read {
        Err(error) => Err(explain(common, args, error).await),
        Ok(()) => Ok(()),
    };
    let written = match signal {
        Some(_) => timeout(INTERRUPTED_TIME_MAX, output.finish()).await.unwrap_or(Ok(())),
        // A pager can keep the last lines for long.
        None => tokio::select! {
            written = output.finish() => written,
            exit = signals.next() => {
                signal = Some(exit);
                Ok(())
            }
        },
    };
    status.progress.clear();
    if common.count {
        status.counts.report();
    }
    read.and(written)?;
    match signal {
        Some(exit) => Ok(exit),
        None if status.is_damaged.get() => {
            Err(Failure::new(Exit::Damaged, "some batches are missing or damaged, and were left out"))
        }
        None => Ok(Exit::Success),
    }
}

/// From when and until when to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    since: Option<SystemTime>,
    until: Option<SystemTime>,
}

impl Span {
    fn new(args: &Read, now: SystemTime) -> Result<Self, Failure> {
        let since = args.since.map(|since| since.earliest(now));
        let until = args.until.map(|until| until.latest(now));
        if since.zip(until).is_some_and(|(since, until)| since > until) {
            return Err(Failure::new(Exit::Usage, "`--since` is later than `--until`"));
        }
        Ok(Self { since, until })
    }
}

fn scanner(common: &Common, args: &Read, span: Span) -> Result<Scanner, Error> {
    let retries = if args.read_forever { None } else { Some(RETRIES_DEFAULT) };
    let start = match (args.offset, span.since) {
        (Some(position), _) => Start::At(position),
        (None, Some(time)) => Start::Time(time),
        (None, None) => Start::Earliest,
    };
    let mut builder = Scanner::builder(common.client_config().retry(args.retry.policy(retries)))
        .topic(args.topic.clone())
        .start(start)
        .follow(args.read_forever);
    if let Some(time) = span.until {
        builder = builder.until(time);
    }
    match args.limit {
        0 => builder.open(),
        limit => builder.limit(limit).open(),
    }
}

/// What has been read so far.
struct Status {
    counts: Counts,
    progress: Progress,
    last_batch: Cell<Option<Offset>>,
    is_damaged: Cell<bool>,
}

impl Status {
    fn add(&self, message: &Message) {
        self.counts.add_messages(1, message.bytes.len() as u64);
        let batch = Some(message.position.offset);
        if self.last_batch.replace(batch) != batch {
            self.counts.add_batch();
        }
    }

    fn warn(&self, damage: &Error) {
        self.progress.clear();
        complain(&format_args!("warning: {damage}"));
        self.is_damaged.set(true);
    }
}

/// Prints until there is nothing more to read, or nobody who wants it.
///
/// When the future is dropped, what was read and is not handed over yet is still in the output.
async fn print_all(
    scanner: &mut Scanner,
    output: &mut Output,
    numbers: bool,
    status: &Status,
) -> Result<(), Error> {
    loop {
        let next = match scanner.next().now_or_never() {
            Some(next) => next,
            None => {
                if output.flush().await.is_err() {
                    return Ok(());
                }
                scanner.next().await
            }
        };
        match next {
            None => return Ok(()),
            Some(Ok(message)) => {
                status.add(&message);
                put(output, &message, numbers);
                if output.is_full() && output.flush().await.is_err() {
                    return Ok(());
                }
            }
            Some(Err(error)) if error.is_skippable() => status.warn(&error),
            Some(Err(error)) => return Err(error),
        }
    }
}

fn put(output: &mut Output, message: &Message, numbers: bool) {
    if numbers {
        output.put(format!("{} ", message.position).as_bytes());
    }
    output.put(&message.bytes);
    output.put(b"\n");
}

/// Says what `not found` means: no such topic, or no such offset in it.
async fn explain(common: &Common, args: &Read, error: Error) -> Failure {
    if !error.is_not_found() {
        return error.into();
    }
    let topic = &args.topic;
    let mut client = Client::new(common.client_config());
    match (client.head(topic).await, args.offset) {
        (Err(error), _) if error.is_not_found() => no_topic(topic, &common.host),
        (Ok(head), Some(Position { offset, .. })) => {
            let oldest = client.tail(topic, 1).await.map_or(head.next, |answer| answer.offset);
            let place = if offset < oldest {
                format!("its oldest batch starts at `{oldest}`")
            } else if offset >= head.next {
                format!("it ends at `{}`", head.next)
            } else {
                format!("it has batches from `{oldest}` to `{}`, and `read --numbers` shows where", head.next)
            };
            Failure::failed(format!("no batch of topic `{topic}` starts at offset `{offset}`: {place}"))
        }
        _ => error.into(),
    }
}
