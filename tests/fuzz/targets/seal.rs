//! Makes batches whole again that were changed: otherwise hardly any changed batch would get behind the check of its
//! length and its checksum.

use super::reference::checksum;

/// The input itself. One that begins with `!` has the lengths and checksums of its batches made right, one that begins
/// with `#` their numbers of messages as well.
pub(crate) fn unsealed(bytes: &[u8]) -> Vec<u8> {
    match bytes {
        [b'!', rest @ ..] => sealed(rest, false),
        [b'#', rest @ ..] => sealed(rest, true),
        _ => bytes.to_vec(),
    }
}

/// The bytes with right lengths and checksums in every envelope that has as many words as one, and with right numbers of
/// messages if they are to be counted.
pub(crate) fn sealed(bytes: &[u8], is_counted: bool) -> Vec<u8> {
    let mut starts: Vec<usize> = (0..bytes.len()).filter(|at| is_start(bytes, *at)).collect();
    starts.push(bytes.len());
    let mut all = bytes[..starts[0]].to_vec();
    for (start, end) in starts.iter().zip(&starts[1..]) {
        all.extend(sealed_batch(&bytes[*start..*end], is_counted));
    }
    all
}

/// Whether an envelope begins here that is not the beginning of a message.
fn is_start(bytes: &[u8], at: usize) -> bool {
    if !bytes[at..].starts_with(b"BATCH ") {
        return false;
    }
    let Some(before) = bytes[..at].strip_suffix(b"\r\n") else { return true };
    let line = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    !before[line..].starts_with(b"MSG ")
}

fn sealed_batch(batch: &[u8], is_counted: bool) -> Vec<u8> {
    let Some(end) = batch.windows(2).position(|pair| pair == b"\r\n") else { return batch.to_vec() };
    let (line, body) = (&batch[..end], &batch[end + 2..]);
    // What follows the last batch can be other requests.
    let body = &body[..body_end(body)];
    let mut words: Vec<Vec<u8>> = line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    if words.len() < 5 {
        return batch.to_vec();
    }
    words[1] = body.len().to_string().into_bytes();
    words[3] = checksum(body).to_string().into_bytes();
    if is_counted {
        let count = super::reference::messages(body).map_or(1, |messages| messages.len());
        words[4] = count.to_string().into_bytes();
    }
    let mut all = words.join(&b' ');
    all.extend_from_slice(&batch[end..]);
    all
}

/// Where the row of whole messages ends that a body begins with; all of it where there is none.
fn body_end(body: &[u8]) -> usize {
    let mut end = 0;
    while let Some(header) = body[end..].windows(2).position(|pair| pair == b"\r\n") {
        let length = body[end..end + header].strip_prefix(b"MSG ").map(super::reference::number);
        let Some(Ok(length)) = length else { break };
        let start = end + header + 2;
        let Some(next) =
            usize::try_from(length).ok().and_then(|length| start.checked_add(length)?.checked_add(2))
        else {
            break;
        };
        if body.get(next - 2..next) != Some(b"\r\n") {
            break;
        }
        end = next;
    }
    if end == 0 { body.len() } else { end }
}
