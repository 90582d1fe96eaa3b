//! `log-cli topics`: the topics as a table for people.

use std::fmt::Write as _;

use logd_client::TopicSummary;

use crate::args::Common;
use crate::connect::connect;
use crate::exit::{Exit, Failure};
use crate::output::print;

pub(crate) async fn run(common: &Common) -> Result<Exit, Failure> {
    let topics = connect(common).await?.topics().await?;
    print(table(&topics).as_bytes()).await?;
    Ok(Exit::Success)
}

/// Names to the left, numbers to the right.
fn table(topics: &[TopicSummary]) -> String {
    let head = ["TOPIC", "OLDEST", "NEXT", "BYTES", "PARTITIONS"].map(String::from);
    let rows: Vec<[String; 5]> = std::iter::once(head)
        .chain(topics.iter().map(|topic| {
            [
                topic.name.to_string(),
                topic.oldest.to_string(),
                topic.next.to_string(),
                topic.bytes.to_string(),
                topic.partitions.to_string(),
            ]
        }))
        .collect();
    let [name, oldest, next, bytes, partitions] = rows.iter().fold([0; 5], |mut widths, row| {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
        widths
    });
    let mut text = String::new();
    for [a, b, c, d, e] in &rows {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{a:<name$}  {b:>oldest$}  {c:>next$}  {d:>bytes$}  {e:>partitions$}");
    }
    text
}

#[cfg(test)]
mod tests {
    use logd_client::{Offset, TopicName};

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let topic = |name, oldest, next| TopicSummary {
            name: TopicName::new(name).unwrap(),
            oldest: Offset::new(oldest),
            next: Offset::new(next),
            bytes: next - oldest,
            partitions: 1,
        };
        let table = table(&[topic("default", 0, 60), topic("requests.slow", 1_000_000, 1_200_000)]);
        let expected = "\
TOPIC           OLDEST     NEXT   BYTES  PARTITIONS
default              0       60      60           1
requests.slow  1000000  1200000  200000           1
";
        assert_eq!(table, expected);
    }

    #[test]
    fn no_topics_are_a_headline() {
        assert_eq!(table(&[]), "TOPIC  OLDEST  NEXT  BYTES  PARTITIONS\n");
    }
}
