//! `log-cli head`: where a topic ends.

use crate::args::{Common, Head};
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::output::print;

pub(crate) async fn run(common: &Common, args: &Head) -> Result<Exit, Failure> {
    let topic = &args.topic;
    let head =
        connect(common).await?.head(topic).await.map_err(|error| {
            if error.is_not_found() { no_topic(topic, &common.host) } else { error.into() }
        })?;
    print(format!("next: {}\nbatches: {}\n", head.next, head.batches).as_bytes()).await?;
    Ok(Exit::Success)
}

/// What to say of a topic that the server does not have.
pub(crate) fn no_topic(topic: &logd_client::TopicName, host: &str) -> Failure {
    Failure::failed(format!("`{host}` has no topic `{topic}`"))
}
