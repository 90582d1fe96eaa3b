//! The form of a record's file. Pure.
//!
//! ```text
//! logd-state 1 5f0e4d21 118
//! {"claimant":"…","fence":"7-…","owner":"host-1"}
//! {"logd-checkpoint":1,"next":"60.12"}
//! ```
//!
//! The first line has the form's version, a checksum and the number of bytes behind the line; the checksum is that of
//! `logd-state 1` with its newline and of everything behind the first line. The second line has the fence, and the
//! lease as far as it is held; the third the checkpoint, if there is one. The first line is the same in every version, so
//! that damage is not taken for a later one. Fields of the second line that are not known are kept.

use logd_protocol::{checksum, parse_u64};
use serde_json::{Map, Value};

use crate::body::BodyError;
use crate::checkpoint::Checkpoint;
use crate::fence::{Claimant, Fence};
use crate::record::{Lease, Record};

/// The most bytes of a file that are read: more than the largest checkpoint and what is written beside it.
pub(super) const BYTES_MAX: usize = 512 * 1024;

const NAME: &str = "logd-state";
const VERSION: u64 = 1;

/// What a file has.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Stored {
    pub(super) record: Record,
    /// What a later version keeps in the second line.
    pub(super) extra: Map<String, Value>,
}

fn corrupt(what: impl Into<String>) -> BodyError {
    BodyError::Corrupt { what: what.into() }
}

pub(super) fn encode(stored: &Stored) -> Result<Vec<u8>, BodyError> {
    let Stored { record: Record { checkpoint, fence, lease }, extra } = stored;
    let mut fields = extra.clone();
    if !fence.is_none() {
        fields.insert("fence".into(), fence.to_string().into());
    }
    if let Some(Lease { owner, .. }) = lease {
        fields.insert("owner".into(), owner.name.as_str().into());
        fields.insert("claimant".into(), format!("{:032x}", owner.id).into());
    }
    let mut content = Value::Object(fields).to_string().into_bytes();
    content.push(b'\n');
    if let Some(checkpoint) = checkpoint {
        content.extend(checkpoint.encode()?);
        content.push(b'\n');
    }
    Ok(seal(VERSION, &content))
}

pub(super) fn decode(file: &[u8]) -> Result<Stored, BodyError> {
    if file.is_empty() {
        return Err(corrupt("it is empty"));
    }
    if file.len() > BYTES_MAX {
        return Err(corrupt(format!("it has more than `{BYTES_MAX}` bytes")));
    }
    let (_, content) = split_line(file).ok_or_else(|| corrupt("its first line has no end"))?;
    let version =
        version(file).ok_or_else(|| corrupt(format!("it does not start with `{NAME}` and a version")))?;
    if seal(version, content) != file {
        return Err(corrupt("its checksum or length is not that of its content"));
    }
    match version {
        VERSION => content_of(content),
        0 => Err(corrupt("its version is `0`")),
        _ => Err(BodyError::Newer { version }),
    }
}

/// The file with the first line that belongs to its content.
pub(super) fn seal(version: u64, content: &[u8]) -> Vec<u8> {
    let mut summed = format!("{NAME} {version}\n").into_bytes();
    summed.extend_from_slice(content);
    let line = format!("{NAME} {version} {:08x} {}\n", checksum(&summed), content.len());
    let mut file = line.into_bytes();
    file.extend_from_slice(content);
    file
}

fn version(file: &[u8]) -> Option<u64> {
    let rest = file.strip_prefix(NAME.as_bytes())?.strip_prefix(b" ")?;
    parse_u64(rest.split(|byte| *byte == b' ').next()?).ok()
}

fn content_of(content: &[u8]) -> Result<Stored, BodyError> {
    let (fields, rest) = split_line(content).ok_or_else(|| corrupt("its second line has no end"))?;
    let mut fields: Map<String, Value> =
        serde_json::from_slice(fields).map_err(|error| corrupt(format!("its second line: {error}")))?;
    let fence = text(&mut fields, "fence", fence)?.unwrap_or_default();
    let name = text(&mut fields, "owner", |name| Some(name.to_owned()))?;
    let id = text(&mut fields, "claimant", |id| u128::from_str_radix(id, 16).ok())?;
    let lease = match (name, id) {
        (Some(name), Some(id)) => Some(Lease { owner: Claimant { name, id }, until: None }),
        (None, None) => None,
        _ => return Err(corrupt("it has `owner` or `claimant` without the other")),
    };
    let checkpoint = match rest {
        [] => None,
        [body @ .., b'\n'] => Some(Checkpoint::decode(body)?),
        _ => return Err(corrupt("its last line has no end")),
    };
    Ok(Stored { record: Record { checkpoint, fence, lease }, extra: fields })
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((line, rest.get(1..)?))
}

fn text<T>(
    fields: &mut Map<String, Value>,
    name: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, BodyError> {
    let Some(value) = fields.remove(name) else { return Ok(None) };
    let parsed = value.as_str().and_then(parse);
    parsed.map(Some).ok_or_else(|| corrupt(format!("`{name}` cannot be `{value}`")))
}

fn fence(text: &str) -> Option<Fence> {
    let (epoch, nonce) = text.split_once('-')?;
    Some(Fence { epoch: parse_u64(epoch.as_bytes()).ok()?, nonce: u128::from_str_radix(nonce, 16).ok()? })
}
