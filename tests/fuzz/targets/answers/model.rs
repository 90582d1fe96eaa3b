//! What a server answers, by the description of the protocol and a list of batches for each topic.

use std::collections::BTreeMap;

use super::machine::NOW;
use super::{BATCH_BYTES_MAX, MESSAGES_MAX, TOPICS_MAX};
use crate::targets::reference::{Asked, Read, line, number, request, wrongs};

/// The longest body that is thrown away.
const SKIP_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// These bytes.
    Exactly(Vec<u8>),
    /// `ERR` with one of these reasons.
    Error(Vec<&'static str>),
    /// Lines, the first words of which are these.
    Lines(Vec<String>),
}

/// The batches of a topic, with offsets and identities, and where it ends.
#[derive(Debug, Default)]
struct Topic {
    batches: Vec<Batch>,
    end: u64,
}

#[derive(Debug)]
struct Batch {
    offset: u64,
    bytes: Vec<u8>,
    messages: u64,
    id: Option<(u64, u64)>,
}

/// A server.
#[derive(Debug)]
pub(super) struct Model {
    topics: BTreeMap<Vec<u8>, Topic>,
}

/// The batch with an identity that was refused last on a connection, and why.
type Refused = Option<(Vec<u8>, (u64, u64), Vec<&'static str>)>;

impl Model {
    pub(super) fn new() -> Self {
        Self { topics: BTreeMap::from([(b"default".to_vec(), Topic::default())]) }
    }

    /// The answers to all that is said on a connection.
    pub(super) fn answers(&mut self, said: &[u8]) -> Vec<Answer> {
        let mut answers = Vec::new();
        let mut refused = None;
        let mut at = 0;
        while let Some(rest) = said.get(at..) {
            match request(rest, BATCH_BYTES_MAX as u64, MESSAGES_MAX) {
                Read::More => break,
                Read::Broken => {
                    answers.push(Answer::Error(vec!["invalid protocol"]));
                    break;
                }
                Read::Refused { reasons, bytes, skip } => {
                    answers.push(Answer::Error(reasons));
                    let Some(skip) = usize::try_from(skip).ok().filter(|_| skip <= SKIP_BYTES_MAX) else {
                        break;
                    };
                    at += bytes + skip;
                }
                Read::Taken { request, bytes } => {
                    answers.push(self.answer(&request, &rest[..bytes], &mut refused));
                    if request.command == "CLOSE" {
                        break;
                    }
                    at += bytes;
                }
            }
        }
        answers
    }

    fn answer(&mut self, asked: &Asked<'_>, bytes: &[u8], refused: &mut Refused) -> Answer {
        let topic = self.topics.get(asked.topic);
        match (asked.command, topic) {
            ("BATCH", _) => self.append(asked, bytes, refused),
            ("PING" | "CLOSE", _) => Answer::Exactly(b"OK\r\n".to_vec()),
            ("STATS", _) => Answer::Lines(vec!["bytes.in:".to_owned()]),
            ("CONFIG", _) => Answer::Lines(vec!["Host:".to_owned(), "Timeout:".to_owned()]),
            ("TOPICS", _) => {
                Answer::Lines(self.topics.iter().map(|(name, topic)| topic.line(name)).collect())
            }
            (_, None) => Answer::Error(vec!["not found"]),
            ("READ", Some(topic)) => topic.read(asked.numbers[0], asked.numbers[1]),
            ("TAIL", Some(topic)) => topic.read(0, asked.numbers[0]),
            ("HEAD", Some(topic)) => found(topic.end, topic.batches.len()),
            // Everything arrived at the same time.
            ("AT", Some(topic)) => {
                let is_passed =
                    asked.numbers[0] > NOW || (asked.extension.is_some() && asked.numbers[0] == NOW);
                if is_passed || topic.batches.is_empty() { found(topic.end, 0) } else { found(0, 1) }
            }
            (other, _) => panic!("`{other}` is no command"),
        }
    }

    fn append(&mut self, asked: &Asked<'_>, bytes: &[u8], refused: &mut Refused) -> Answer {
        if let (Some((topic, before, reasons)), Some(id)) = (&*refused, asked.id)
            && (topic.as_slice(), before.0) == (asked.topic, id.0)
            && before.1 < id.1
        {
            return Answer::Error(reasons.clone());
        }
        let mut reasons = wrongs(asked);
        let is_new = !self.topics.contains_key(asked.topic);
        if reasons.is_empty() && is_new && self.topics.len() >= TOPICS_MAX {
            reasons.push("maximum topics allowed");
        }
        if !reasons.is_empty() {
            if let Some(id) = asked.id {
                *refused = Some((asked.topic.to_vec(), id, reasons.clone()));
            }
            return Answer::Error(reasons);
        }
        if refused.as_ref().is_some_and(|(topic, id, _)| topic == asked.topic && Some(*id) == asked.id) {
            *refused = None;
        }
        let topic = self.topics.entry(asked.topic.to_vec()).or_default();
        if asked.id.is_some()
            && let Some(stored) = topic.batches.iter().find(|batch| batch.id == asked.id)
        {
            return found(stored.offset, 1);
        }
        let offset = topic.end;
        topic.end += bytes.len() as u64;
        topic.batches.push(Batch { offset, bytes: bytes.to_vec(), messages: asked.numbers[1], id: asked.id });
        found(offset, 1)
    }

    /// Asks for everything that is there.
    pub(super) fn questions(&self) -> Vec<u8> {
        let mut all = b"TOPICS\r\n".to_vec();
        for (name, topic) in &self.topics {
            let name = String::from_utf8_lossy(name);
            for batch in &topic.batches {
                all.extend_from_slice(format!("READ {name} {} 1\r\n", batch.offset).as_bytes());
            }
            all.extend_from_slice(format!("TAIL {name} {MESSAGES_MAX}\r\nHEAD {name}\r\n").as_bytes());
        }
        all
    }
}

impl Topic {
    /// As few batches as hold so many messages.
    fn read(&self, offset: u64, messages: u64) -> Answer {
        let Some(first) = self.batches.iter().position(|batch| batch.offset == offset) else {
            return Answer::Error(vec!["not found"]);
        };
        let (mut bytes, mut count, mut held) = (Vec::new(), 0, 0);
        for batch in &self.batches[first..] {
            bytes.extend_from_slice(&batch.bytes);
            count += 1;
            held += batch.messages;
            if held >= messages {
                break;
            }
        }
        Answer::Exactly([format!("OK {offset} {count}\r\n").as_bytes(), &bytes].concat())
    }

    fn line(&self, name: &[u8]) -> String {
        format!("{} 0 {} {} ", String::from_utf8_lossy(name), self.end, self.end)
    }
}

fn found(offset: u64, batches: usize) -> Answer {
    Answer::Exactly(format!("OK {offset} {batches}\r\n").into_bytes())
}

/// Checks that these are the answers, and nothing else.
pub(super) fn check(asked: &[u8], mut said: &[u8], expected: &[Answer]) {
    for (count, answer) in expected.iter().enumerate() {
        let rest = rest_behind(said, answer);
        let context = || {
            let said = String::from_utf8_lossy(said).into_owned();
            format!("answer {count} to `{}` is `{said}` instead of {answer:?}", asked.escape_ascii())
        };
        said = rest.unwrap_or_else(|| panic!("{}", context()));
    }
    assert!(said.is_empty(), "`{}` is said beyond all answers", said.escape_ascii());
}

/// What follows the answer, if it is there.
fn rest_behind<'a>(said: &'a [u8], answer: &Answer) -> Option<&'a [u8]> {
    match answer {
        Answer::Exactly(bytes) => said.strip_prefix(bytes.as_slice()),
        Answer::Error(reasons) => {
            reasons.iter().find_map(|reason| said.strip_prefix(format!("ERR {reason}\r\n").as_bytes()))
        }
        Answer::Lines(starts) => {
            let (text, length) = line(said).ok()??;
            let bytes = usize::try_from(number(text.strip_prefix(b"MOK ")?).ok()?).ok()?;
            let lines = said.get(length..length + bytes)?;
            let mut each = lines.split_inclusive(|byte| *byte == b'\n');
            let begin =
                starts.iter().all(|start| each.next().is_some_and(|line| line.starts_with(start.as_bytes())));
            let is_right = begin && lines.ends_with(b"\r\n");
            said.get(length + bytes..)?.strip_prefix(b"\r\n").filter(|_| is_right)
        }
    }
}
