//! Carrying out requests, but for READ and TAIL.

use std::sync::Arc;

use logd_protocol::{BatchError, Bound, Offset, RawBatch, Reason, Request, Response, TopicName, TopicRef};

use super::reading::Read;
use super::scratch::with_scratch;
use super::{Next, Shared};
use crate::control;
use crate::log::{Moment, ReadError};
use crate::send::Output;
use crate::topic::Topic;
use crate::topics::Begun;

/// Appends a batch that has come in whole. `may_block` as for [`Topic::append`].
pub(super) async fn append(
    shared: &Arc<Shared>,
    batch: &RawBatch<'_>,
    may_block: bool,
) -> Result<Offset, Reason> {
    let checked = batch.check().map_err(BatchError::reason)?;
    let name = checked.topic();
    if !shared.topics.is_allowed(name) {
        shared.stats.topic_disallowed();
        return Err(Reason::TopicNotAllowed);
    }
    let topic = match shared.topics.get(name) {
        Some(topic) => topic,
        None => create(shared, TopicName::from(name)).await?,
    };
    topic.append(&checked, may_block).await
}

/// Creates the topic of a first batch. That takes syncs of directories, so another thread does it.
async fn create(shared: &Arc<Shared>, name: TopicName) -> Result<Arc<Topic>, Reason> {
    let right = match shared.topics.get_or_begin(name.as_topic()).await? {
        Begun::There(topic) => return Ok(topic),
        Begun::New(right) => right,
    };
    let work = Arc::clone(shared);
    let created = shared.host.block(move || work.topics.create(&name, right)).await;
    created.unwrap_or(Err(Reason::StorageFailed))
}

/// Answers a request that is not a batch; a READ or TAIL is left to the caller.
pub(super) fn answer(shared: &Shared, request: &Request<'_>, output: &mut Output<'_>) -> Next {
    let topic = |name: TopicRef<'_>| shared.topics.get(name).ok_or_else(|| TopicName::from(name));
    let command = request.command();
    match *request {
        Request::Read { topic: name, offset, messages, wait } => {
            return Next::Read(Read { command, topic: topic(name), offset: Some(offset), messages, wait });
        }
        Request::Tail { topic: name, messages } => {
            return Next::Read(Read { command, topic: topic(name), offset: None, messages, wait: None });
        }
        Request::Head { topic: name } => match topic(name) {
            Ok(topic) => {
                let extent = topic.log().view().extent();
                output.put(&Response::Found { offset: extent.next, batches: extent.batches });
            }
            Err(_) => {
                shared.stats.error(Some(command));
                output.put(&Response::Error(Reason::NotFound));
            }
        },
        Request::At { topic: name, time_ms, bound } => {
            let found = topic(name).map_err(|_| Reason::NotFound);
            let response = match found.and_then(|topic| at(&topic, time_ms, bound)) {
                Ok(Moment { offset, has_batch }) => Response::Found { offset, batches: u64::from(has_batch) },
                Err(reason) => {
                    shared.stats.error(Some(command));
                    Response::Error(reason)
                }
            };
            output.put(&response);
        }
        Request::Topics => output.put(&Response::Lines(&control::topics(&shared.topics))),
        Request::Stats => {
            output.put(&Response::Lines(shared.stats.lines(shared.topics.count()).as_bytes()));
        }
        Request::Config => output.put(&Response::Lines(control::config(&shared.config).as_bytes())),
        Request::Ping => output.put(&Response::Ok),
        Request::Close => {
            output.put(&Response::Ok);
            return Next::Close;
        }
        // Batches have been dealt with before: they are the one request that is carried out while it waits.
        Request::Batch(_) => {}
    }
    Next::Request
}

/// docs/protocol.md, "Time".
fn at(topic: &Topic, time_ms: u64, bound: Bound) -> Result<Moment, Reason> {
    with_scratch(|scratch| topic.log().view().at(time_ms, bound, scratch)).map_err(|error| match error {
        ReadError::NotFound => Reason::NotFound,
        ReadError::Io(error) => {
            if let Some(held_back) = topic.unreadable().pass() {
                tracing::error!(topic = %topic.name(), %error, held_back, "a time was not looked up");
            }
            Reason::StorageFailed
        }
    })
}
