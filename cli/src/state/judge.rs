//! What a topic says to a checkpoint, in words. The judgement is the one that a reader makes when it begins.

use logd_client::fit::{Extent, Finding, Fit, judge};
use logd_client::{Checkpoint, Client, Error, Position, TopicName};

/// The word for a checkpoint that fits.
pub(super) const OK: &str = "ok";

/// What a program is told about a finding, and what people are.
pub(super) fn told(finding: &Finding) -> (&'static str, String) {
    match finding {
        Finding::Other(why) => ("other", format!("another topic: {why}")),
        Finding::Dropped { oldest } => {
            ("dropped", format!("dropped: what comes next is gone, the oldest batch is at `{oldest}`"))
        }
        Finding::Misplaced(why) => ("misplaced", format!("misplaced: {why}")),
        Finding::Damaged(why) => ("damaged", format!("damaged: {why}")),
    }
}

/// Why nobody can read from a position on; `None` where somebody can.
pub(super) async fn position(
    client: &mut Client,
    topic: &TopicName,
    position: Position,
) -> Result<Option<String>, Error> {
    let Fit { extent, finding } = judge(client, topic, &Checkpoint::at(position)).await?;
    Ok(match (extent, finding) {
        (None, None | Some(Finding::Other(_))) => Some(format!("the server has no topic `{topic}`")),
        (Some(Extent { oldest, head }), Some(Finding::Other(_) | Finding::Dropped { .. })) => {
            Some(format!("topic `{topic}` has the offsets from `{oldest}` to `{head}`"))
        }
        (_, Some(Finding::Misplaced(_))) => {
            Some(format!("no message starts at `{position}` in topic `{topic}`"))
        }
        (_, finding) => finding.map(|finding| told(&finding).1),
    })
}
