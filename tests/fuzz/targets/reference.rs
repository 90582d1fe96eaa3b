//! The protocol once more, read from `docs/protocol.md` and written to be obvious rather than fast, to compare with.
//!
//! Where the description does not say which of several things that are wrong is told, every one of them is right.

/// The longest line, its `\r\n` included.
const LINE_BYTES_MAX: usize = 4096;

/// The most digits that the length of a message can have, leading zeros among them.
const DIGITS_MAX: usize = 25;

/// The longest wait that READ can ask for, in milliseconds.
const WAIT_MAX: u64 = 60_000;

/// What a server makes of the beginning of what it has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// More has to come.
    More,
    /// The connection ends.
    Broken,
    /// An answer `ERR` with one of these reasons. So many bytes were taken, and so many more are thrown away.
    Refused { reasons: Vec<&'static str>, bytes: usize, skip: u64 },
    /// A request of so many bytes.
    Taken { request: Asked<'a>, bytes: usize },
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    pub(crate) command: &'a str,
    pub(crate) topic: &'a [u8],
    /// What follows the topic: offset and messages, or messages, or a time; of a batch what its envelope says of the
    /// checksum and of the number of messages.
    pub(crate) numbers: Vec<u64>,
    /// The wait, or 1 for the upper bound.
    pub(crate) extension: Option<u64>,
    /// The identity of a batch.
    pub(crate) id: Option<(u64, u64)>,
    pub(crate) body: &'a [u8],
}

/// The line at the beginning, without its end, and its length with it.
pub(crate) fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, ()> {
    let Some(end) = bytes.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LINE_BYTES_MAX { Ok(None) } else { Err(()) };
    };
    if end > 0 && bytes[end - 1] == b'\r' { Ok(Some((&bytes[..end - 1], end + 1))) } else { Err(()) }
}

/// A number as the protocol writes it: `Err(true)` for one that is too large.
pub(crate) fn number(word: &[u8]) -> Result<u64, bool> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return Err(false);
    }
    let digits: Vec<u8> = word.iter().copied().skip_while(|byte| *byte == b'0').collect();
    let text = String::from_utf8(digits).expect("digits are ASCII");
    if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| true) }
}

pub(crate) fn is_topic(name: &[u8]) -> bool {
    let is_right = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=255).contains(&name.len()) && name[0] != b'.' && name.iter().all(is_right)
}

/// What a server makes of these bytes.
pub(crate) fn request(bytes: &[u8], batch_bytes_max: u64, messages_max: u64) -> Read<'_> {
    let (text, length) = match line(bytes) {
        Ok(Some(line)) => line,
        Ok(None) => return Read::More,
        Err(()) => return Read::Broken,
    };
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
    let (command, arguments) = match words[0] {
        b"BATCH" => return batch(&words, bytes, length, batch_bytes_max),
        b"READ" => ("READ", 3),
        b"TAIL" => ("TAIL", 2),
        b"HEAD" => ("HEAD", 1),
        b"AT" => ("AT", 2),
        b"TOPICS" => ("TOPICS", 0),
        b"PING" => ("PING", 0),
        b"STATS" => ("STATS", 0),
        b"CONFIG" => ("CONFIG", 0),
        b"CLOSE" => ("CLOSE", 0),
        _ => return Read::Broken,
    };
    if words.len() <= arguments || words[1..].iter().any(|word| word.is_empty()) {
        return Read::Broken;
    }
    let mut reasons = Vec::new();
    let topic = if arguments > 0 { words[1] } else { b"" };
    if arguments > 0 && !is_topic(topic) {
        reasons.push("topic not allowed");
    }
    let mut numbers: Vec<u64> =
        words[1..=arguments].iter().skip(1).map(|word| number(word).unwrap_or(u64::MAX)).collect();
    let are_numbers = words[1..=arguments].iter().skip(1).all(|word| number(word).is_ok());
    let is_within = match (command, numbers.last_mut()) {
        ("READ", Some(messages)) => (1..=messages_max).contains(messages),
        ("TAIL", Some(messages)) => {
            *messages = (*messages).max(1);
            *messages <= messages_max.max(1)
        }
        _ => true,
    };
    let extension = extension(command, &words[arguments + 1..]);
    if !are_numbers || !is_within || extension.is_err() {
        reasons.push("invalid request");
    }
    if !reasons.is_empty() {
        return Read::Refused { reasons, bytes: length, skip: 0 };
    }
    let extension = extension.unwrap_or_default();
    Read::Taken { request: Asked { command, topic, numbers, extension, id: None, body: b"" }, bytes: length }
}

/// The one word that can follow the arguments.
fn extension(command: &str, words: &[&[u8]]) -> Result<Option<u64>, ()> {
    match (command, words) {
        (_, []) => Ok(None),
        ("AT", [b"bound=upper"]) => Ok(Some(1)),
        ("READ", [word]) => {
            let wait = word.strip_prefix(b"wait=").and_then(|wait| number(wait).ok());
            wait.filter(|wait| *wait <= WAIT_MAX).map(Some).ok_or(())
        }
        _ => Err(()),
    }
}

fn batch<'a>(words: &[&'a [u8]], bytes: &'a [u8], line_bytes: usize, bytes_max: u64) -> Read<'a> {
    if words.len() < 5 || words.iter().any(|word| word.is_empty()) {
        return Read::Broken;
    }
    let body_bytes = match number(words[1]) {
        Ok(body_bytes) => body_bytes,
        Err(true) => u64::MAX,
        Err(false) => return Read::Broken,
    };
    if body_bytes.saturating_add(line_bytes as u64) > bytes_max {
        return Read::Refused { reasons: vec!["too large"], bytes: line_bytes, skip: body_bytes };
    }
    let length = line_bytes + usize::try_from(body_bytes).expect("it is below the bound");
    let Some(body) = bytes.get(line_bytes..length) else { return Read::More };
    let mut reasons = Vec::new();
    if !is_topic(words[2]) {
        reasons.push("topic not allowed");
    }
    let (crc, messages) = (number(words[3]), number(words[4]));
    if crc.is_err() || crc.is_ok_and(|crc| u32::try_from(crc).is_err()) || messages.is_err() {
        reasons.push("invalid protocol");
    }
    let id = identity(&words[5..]);
    if id.is_err() {
        reasons.push("invalid request");
    }
    if !reasons.is_empty() {
        return Read::Refused { reasons, bytes: length, skip: 0 };
    }
    let numbers = vec![crc.unwrap_or_default(), messages.unwrap_or_default()];
    let id = id.unwrap_or_default();
    let request = Asked { command: "BATCH", topic: words[2], numbers, extension: None, id, body };
    Read::Taken { request, bytes: length }
}

/// `writer=<16 hex> seq=<n>`, in any order.
fn identity(words: &[&[u8]]) -> Result<Option<(u64, u64)>, ()> {
    let [one, other] = words else { return if words.is_empty() { Ok(None) } else { Err(()) } };
    let (writer, seq) = if one.starts_with(b"writer=") { (one, other) } else { (other, one) };
    let writer = writer.strip_prefix(b"writer=").ok_or(())?;
    let seq = seq.strip_prefix(b"seq=").ok_or(())?;
    if writer.len() != 16 || !writer.iter().all(u8::is_ascii_hexdigit) {
        return Err(());
    }
    let text = String::from_utf8(writer.to_vec()).expect("hexadecimal digits are ASCII");
    let writer = u64::from_str_radix(&text, 16).expect("16 digits are a number of 64 bits");
    Ok(Some((writer, number(seq).map_err(|_| ())?)))
}

/// The messages of a body; `None` where it is not a row of whole ones.
pub(crate) fn messages(mut body: &[u8]) -> Option<Vec<&[u8]>> {
    let mut messages = Vec::new();
    while !body.is_empty() {
        let end = body.windows(2).position(|pair| pair == b"\r\n")?;
        let bytes = usize::try_from(number(body[..end].strip_prefix(b"MSG ")?).ok()?).ok()?;
        if end > 4 + DIGITS_MAX {
            return None;
        }
        let rest = &body[end + 2..];
        messages.push(rest.get(..bytes)?);
        body = rest.get(bytes..)?.strip_prefix(b"\r\n")?;
    }
    Some(messages)
}

/// CRC-32 (IEEE), a bit at a time.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// Why a batch that has come in whole is not taken; empty where it is.
pub(crate) fn wrongs(batch: &Asked<'_>) -> Vec<&'static str> {
    let mut wrongs = Vec::new();
    if batch.body.is_empty() || batch.numbers[1] == 0 {
        wrongs.push("invalid request");
    }
    if u64::from(checksum(batch.body)) != batch.numbers[0] {
        wrongs.push("checksum mismatch");
    }
    if messages(batch.body).is_none_or(|messages| messages.len() as u64 != batch.numbers[1]) {
        wrongs.push("invalid protocol");
    }
    wrongs
}
