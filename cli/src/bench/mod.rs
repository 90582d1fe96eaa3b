//! `log-cli bench`: how fast a running server is.
//!
//! A run has a phase of writing and one of reading. In each, every connection is a task with a tally of its own;
//! `batches` and `messages` are what such a task does, `stop` tells it when to end, `report` prints the sums. The
//! requests are those that Go logd knows too.
//!
//! The first failure ends the phase on every connection: a rate over connections that are partly gone would say nothing.
//! It is told, counted, and the exit code; what was measured before is printed. A signal ends it early in the same way.

mod batches;
mod messages;
mod plan;
mod report;
mod stop;
mod tally;

use std::error::Error as _;
use std::io;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use logd_client::{Batch, Client, ClientConfig, Error, Offset, Scanner, TopicName};
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::batches::{Part, read_failure};
use self::messages::Counted;
use self::plan::{Plan, Work};
use self::report::Report;
use self::stop::{Stop, Stopper, stop};
use self::tally::Tally;
use crate::args::Common;
use crate::args::bench::Bench;
use crate::connect::settings;
use crate::exit::{Exit, Failure};
use crate::output::print;
use crate::signals::Signals;

/// How many connections are made at the same time: fewer than a server lets wait to be accepted.
const CONNECTING_MAX: usize = 64;
/// How long requests under way are waited for after a signal.
const INTERRUPTED_TIME_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn run(common: &Common, args: &Bench, signals: &mut Signals) -> Result<Exit, Failure> {
    let plan = Plan::new(common, args)?;
    let server = tokio::select! {
        server = settings(common) => server?,
        exit = signals.next() => return Ok(exit),
    };
    plan.check(&server)?;
    let mut report = Report::new(&plan, server);
    let mut signal = None;
    for work in plan.phases() {
        let measured = measure(&plan, work, signals).await;
        match measured {
            Ok((tally, exit)) => {
                signal = exit;
                report.add(work, tally);
            }
            Err(failure) => report.fail(failure),
        }
        if signal.is_some() || report.failure().is_some() {
            break;
        }
    }
    report.interrupt(signal.is_some());
    print(report.text(args.json).as_bytes()).await?;
    match (signal, report.into_failure()) {
        (_, Some(failure)) => Err(failure),
        (Some(exit), None) => Ok(exit),
        (None, None) => Ok(Exit::Success),
    }
}

/// Carries out a phase. A signal ends it early and is returned.
async fn measure(plan: &Plan, work: Work, signals: &mut Signals) -> Result<(Tally, Option<Exit>), Failure> {
    let mut sum = Tally::new()?;
    let connected = tokio::select! {
        connected = connect(plan, work) => connected,
        exit = signals.next() => return Ok((sum, Some(exit))),
    };
    let loads = connected?;
    let (stopper, stop) = stop();
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for load in loads {
        let part = Part { start, stop: stop.clone(), tally: Tally::new()? };
        tasks.spawn(load.run(part));
    }
    let exit = attend(&mut tasks, &stopper, &stop, plan.duration, &mut sum, signals).await;
    Ok((sum, exit))
}

/// Waits for the end of all tasks, and ends them when it is time, when one has failed, or at a signal.
async fn attend(
    tasks: &mut JoinSet<Tally>,
    stopper: &Stopper,
    stop: &Stop,
    duration: Duration,
    sum: &mut Tally,
    signals: &mut Signals,
) -> Option<Exit> {
    let mut signal = None;
    let mut time = pin!(sleep(duration));
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => return signal,
                Some(Ok(tally)) => {
                    if tally.failure.is_some() {
                        stopper.end();
                    }
                    sum.add(tally);
                }
                Some(Err(error)) => {
                    stopper.end();
                    sum.fail(1, Failure::failed(format!("a connection's task ended early: {error}")));
                }
            },
            () = &mut time, if stop.is_running() || signal.is_some() => {
                if signal.is_some() {
                    stopper.abandon();
                    time.as_mut().reset(far());
                } else {
                    stopper.end();
                }
            }
            exit = signals.next() => {
                if signal.replace(exit).is_some() {
                    stopper.abandon();
                }
                stopper.end();
                time.as_mut().reset(tokio::time::Instant::now() + INTERRUPTED_TIME_MAX);
            }
        }
    }
}

/// A time that does not come while the tasks end.
fn far() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(24 * 60 * 60)
}

/// What one connection is to do.
enum Load {
    WriteBatches(Client, Batch),
    ReadBatches(Client, TopicName, Offset),
    WriteMessages(Counted, Vec<u8>),
    ReadMessages(Scanner),
}

impl Load {
    async fn run(self, part: Part) -> Tally {
        match self {
            Self::WriteBatches(client, batch) => batches::write(client, batch, part).await,
            Self::ReadBatches(client, topic, oldest) => batches::read(client, topic, oldest, part).await,
            Self::WriteMessages(counted, message) => messages::write(counted, message, part).await,
            Self::ReadMessages(scanner) => messages::read(scanner, part).await,
        }
    }
}

/// Makes the connections of a phase.
async fn connect(plan: &Plan, work: Work) -> Result<Vec<Load>, Failure> {
    let oldest = match work {
        Work::Write => Vec::new(),
        Work::Read => oldest(plan).await?,
    };
    if let Some(message_bytes) = plan.message_bytes {
        return (plan.topics.iter().cycle().take(plan.connections))
            .map(|topic| match work {
                Work::Write => Counted::open(plan, topic.clone())
                    .map(|counted| Load::WriteMessages(counted, vec![b'x'; message_bytes])),
                Work::Read => {
                    Scanner::builder(plan.config.clone()).topic(topic.clone()).open().map(Load::ReadMessages)
                }
            })
            .collect::<Result<_, Error>>()
            .map_err(failure);
    }
    let clients = clients(&plan.config, plan.connections).await?;
    Ok(match work {
        Work::Write => {
            let batches = plan.batches()?;
            let load = |(client, batch): (_, &Batch)| Load::WriteBatches(client, batch.clone());
            clients.into_iter().zip(batches.iter().cycle()).map(load).collect()
        }
        Work::Read => {
            let topics = plan.topics.iter().zip(oldest).cycle();
            let load = |(client, (topic, oldest)): (_, (&TopicName, _))| {
                Load::ReadBatches(client, topic.clone(), oldest)
            };
            clients.into_iter().zip(topics).map(load).collect()
        }
    })
}

async fn clients(config: &ClientConfig, connections: usize) -> Result<Vec<Client>, Failure> {
    stream::iter(0..connections)
        .map(|_| Client::connect(config.clone()))
        .buffer_unordered(CONNECTING_MAX)
        .try_collect()
        .await
        .map_err(failure)
}

/// A failed request as a failure of the run, with advice where the process has too many files open.
fn failure(error: Error) -> Failure {
    /// `EMFILE`.
    const TOO_MANY_FILES: i32 = 24;
    let system = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let has_too_many = system.and_then(io::Error::raw_os_error) == Some(TOO_MANY_FILES);
    let failure = Failure::from(error);
    if has_too_many {
        failure.and(
            ": this process may not open more files; choose fewer `--conns`, or raise the limit with `ulimit -n`",
        )
    } else {
        failure
    }
}

/// Where the oldest batch of each topic starts.
async fn oldest(plan: &Plan) -> Result<Vec<Offset>, Failure> {
    let mut client = Client::new(plan.config.clone());
    let mut offsets = Vec::with_capacity(plan.topics.len());
    for topic in &plan.topics {
        let answer = client.tail(topic, 1).await.map_err(|error| read_failure(topic, error))?;
        offsets.push(answer.offset);
    }
    Ok(offsets)
}
