//! The form in which every store keeps a checkpoint.
//!
//! A JSON object on one line:
//!
//! ```json
//! {"logd-checkpoint":1,"next":"60.12","anchor":"0 2499380544","done":["80.0 90.0"],"head_attempts":1,
//!  "user":"base64","written_at":1764000000000}
//! ```
//!
//! `logd-checkpoint` is the version of the form: a program that knows only lower ones refuses it, and writes nothing over
//! it. Fields that are not known are kept. Positions and checksums are text, since many readers of JSON take large numbers
//! for fractions. Only the version and `next` must be there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use logd_protocol::{Offset, parse_u64};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::checkpoint::{Anchor, Checkpoint, Done};
use crate::position::Position;

/// The version of the form.
const VERSION: u64 = 1;
/// The name of the version's field, which says what all of it is.
const NAME: &str = "logd-checkpoint";
/// The most bytes of a body that are read: several times what a checkpoint can take.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// Why something is no body of a checkpoint, or cannot become one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is not what any version has ever stored.
    #[error("it is no checkpoint: {what}")]
    Corrupt {
        /// What is wrong with it.
        what: String,
    },
    /// A later version of the program has stored it.
    #[error("it has the form `{version}` of a later version: this one knows up to `{VERSION}`")]
    Newer {
        /// The version of the form.
        version: u64,
    },
    /// The ranges in `done` are not behind `next`, in order.
    #[error("its done ranges are not behind `next`, in order and without overlap")]
    Disordered,
    /// It has more of something than a checkpoint can.
    #[error("it has `{count}` {what}: at most `{max}` can be stored")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many it has.
        count: usize,
        /// How many there can be.
        max: usize,
    },
}

fn corrupt(what: impl Into<String>) -> BodyError {
    BodyError::Corrupt { what: what.into() }
}

pub(crate) fn encode(checkpoint: &Checkpoint) -> Result<Vec<u8>, BodyError> {
    let Checkpoint { next, anchor, done, head_attempts, user, written_at, extra } = checkpoint;
    let bounds = [
        ("done ranges", done.len(), Checkpoint::DONE_MAX),
        ("user bytes", user.len(), Checkpoint::USER_BYTES_MAX),
    ];
    for (what, count, max) in bounds {
        if count > max {
            return Err(BodyError::TooLarge { what, count, max });
        }
    }
    if !is_ordered(*next, done) {
        return Err(BodyError::Disordered);
    }
    let mut fields = extra.clone();
    let mut put = |name: &str, value: Value| fields.insert(name.into(), value);
    put(NAME, VERSION.into());
    put("next", next.to_string().into());
    if let Some(Anchor { offset, crc }) = anchor {
        put("anchor", format!("{offset} {crc}").into());
    }
    if !done.is_empty() {
        let ranges = done.iter().map(|Done { from, to }| Value::from(format!("{from} {to}")));
        put("done", ranges.collect());
    }
    if *head_attempts > 0 {
        put("head_attempts", (*head_attempts).into());
    }
    if !user.is_empty() {
        put("user", STANDARD.encode(user).into());
    }
    if *written_at > 0 {
        put("written_at", (*written_at).into());
    }
    Ok(Value::Object(fields).to_string().into_bytes())
}

pub(crate) fn decode(body: &[u8]) -> Result<Checkpoint, BodyError> {
    if body.is_empty() {
        return Err(corrupt("it is empty"));
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(corrupt(format!("it has `{}` bytes", body.len())));
    }
    let value: Value = serde_json::from_slice(body).map_err(|error| corrupt(error.to_string()))?;
    let Value::Object(mut fields) = value else { return Err(corrupt("it is no JSON object")) };
    match fields.remove(NAME).as_ref().and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(version @ VERSION..) => return Err(BodyError::Newer { version }),
        _ => return Err(corrupt(format!("`{NAME}` does not name its version"))),
    }
    let next = text(&mut fields, "next")?.ok_or_else(|| corrupt("`next` is missing"))?;
    let next = position(&next)?;
    let anchor = text(&mut fields, "anchor")?.map(|text| anchor(&text)).transpose()?;
    let done = match fields.remove("done") {
        None => Vec::new(),
        Some(Value::Array(ranges)) => ranges.iter().map(range).collect::<Result<_, _>>()?,
        Some(_) => return Err(corrupt("`done` is no list")),
    };
    if done.len() > Checkpoint::DONE_MAX {
        return Err(corrupt("`done` has too many ranges"));
    }
    if !is_ordered(next, &done) {
        return Err(corrupt("the ranges of `done` are not in order"));
    }
    let head_attempts = number(&mut fields, "head_attempts")?;
    let user = text(&mut fields, "user")?.unwrap_or_default();
    let user = STANDARD.decode(user).map_err(|_| corrupt("`user` is not base64"))?;
    if user.len() > Checkpoint::USER_BYTES_MAX {
        return Err(corrupt("`user` is too long"));
    }
    Ok(Checkpoint {
        next,
        anchor,
        done,
        head_attempts: u32::try_from(head_attempts).map_err(|_| corrupt("`head_attempts` is too large"))?,
        user,
        written_at: number(&mut fields, "written_at")?,
        extra: fields,
    })
}

/// Whether the ranges are behind `next`, in order: others would make a reader skip what is not done.
fn is_ordered(next: Position, done: &[Done]) -> bool {
    let starts = done.iter().map(|done| done.from);
    let ends = std::iter::once(next).chain(done.iter().map(|done| done.to));
    ends.zip(starts).all(|(end, from)| end <= from) && done.iter().all(|done| done.from < done.to)
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, BodyError> {
    match fields.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(corrupt(format!("`{name}` is no text"))),
    }
}

fn number(fields: &mut Map<String, Value>, name: &str) -> Result<u64, BodyError> {
    match fields.remove(name) {
        None => Ok(0),
        Some(value) => value.as_u64().ok_or_else(|| corrupt(format!("`{name}` is no number"))),
    }
}

fn position(text: &str) -> Result<Position, BodyError> {
    text.parse().map_err(|_| corrupt(format!("`{text}` is no position")))
}

fn anchor(text: &str) -> Result<Anchor, BodyError> {
    let parse = || {
        let (offset, crc) = text.split_once(' ')?;
        let offset = Offset::new(parse_u64(offset.as_bytes()).ok()?);
        Some(Anchor { offset, crc: crc.parse().ok()? })
    };
    parse().ok_or_else(|| corrupt(format!("`{text}` is no anchor")))
}

fn range(value: &Value) -> Result<Done, BodyError> {
    let text = value.as_str().unwrap_or_default();
    let (from, to) = text.split_once(' ').ok_or_else(|| corrupt(format!("`{value}` is no range")))?;
    Ok(Done { from: position(from)?, to: position(to)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full() -> Checkpoint {
        let at = |offset, delta| Position { offset: Offset::new(offset), delta };
        Checkpoint {
            next: at(9_007_199_254_740_993, 12),
            anchor: Some(Anchor { offset: Offset::new(u64::MAX), crc: u32::MAX }),
            done: vec![
                Done { from: at(u64::MAX - 1, 0), to: at(u64::MAX - 1, 7) },
                Done { from: at(u64::MAX, 0), to: at(u64::MAX, 1) },
            ],
            head_attempts: u32::MAX,
            user: (0..=255).collect(),
            written_at: 1_764_000_000_000,
            extra: Map::new(),
        }
    }

    #[test]
    fn the_form_is_kept() {
        let body = r#"{"logd-checkpoint":1,"next":"60.12","anchor":"0 2499380544","done":["80.0 90.0"],"head_attempts":1,"user":"aGk=","written_at":5}"#;
        let checkpoint = decode(body.as_bytes()).unwrap();
        assert_eq!(checkpoint.next.to_string(), "60.12");
        assert_eq!(checkpoint.anchor, Some(Anchor { offset: Offset::ZERO, crc: 2_499_380_544 }));
        assert_eq!(
            (checkpoint.user.as_slice(), checkpoint.head_attempts, checkpoint.written_at),
            (&b"hi"[..], 1, 5)
        );
        assert_eq!(decode(br#"{"logd-checkpoint":1,"next":"0.0"}"#), Ok(Checkpoint::default()));
        assert_eq!(decode(&encode(&full()).unwrap()), Ok(full()));
    }

    #[test]
    fn what_a_later_version_has_added_is_handed_on() {
        let body = br#"{"logd-checkpoint":1,"next":"0.0","colour":{"deep":[1,2.5,null]}}"#;
        let checkpoint = decode(body).unwrap();
        let again = Checkpoint { head_attempts: 3, ..checkpoint };
        let text = String::from_utf8(encode(&again).unwrap()).unwrap();
        assert!(text.contains(r#""colour":{"deep":[1,2.5,null]}"#), "{text}");
        let numbers = r#"{"colour":[65535e300,0.1,1e-320],"logd-checkpoint":1,"next":"0.0"}"#;
        let again = encode(&decode(numbers.as_bytes()).unwrap()).unwrap();
        assert_eq!(decode(&again), decode(numbers.as_bytes()), "{}", String::from_utf8_lossy(&again));
    }

    #[test]
    fn what_is_no_checkpoint_is_never_taken_for_one() {
        for (body, why) in [
            ("", "empty"),
            ("{", "EOF"),
            ("[]", "no JSON object"),
            (r#"{"next":"0.0"}"#, "version"),
            (r#"{"logd-checkpoint":0,"next":"0.0"}"#, "version"),
            (r#"{"logd-checkpoint":1}"#, "`next` is missing"),
            (r#"{"logd-checkpoint":1,"next":0}"#, "no text"),
            (r#"{"logd-checkpoint":1,"next":"x"}"#, "no position"),
            (r#"{"logd-checkpoint":1,"next":"5.0","done":["4.0 6.0"]}"#, "in order"),
            (r#"{"logd-checkpoint":1,"next":"5.0","done":["6.0 6.0"]}"#, "in order"),
            (r#"{"logd-checkpoint":1,"next":"5.0","user":"?"}"#, "base64"),
            (r#"{"logd-checkpoint":1,"next":"5.0","anchor":"1"}"#, "anchor"),
            (r#"{"logd-checkpoint":1,"next":"5.0","written_at":-1}"#, "no number"),
        ] {
            let error = decode(body.as_bytes()).unwrap_err();
            assert!(matches!(&error, BodyError::Corrupt { what } if what.contains(why)), "{body}: {error}");
        }
        let newer = decode(br#"{"logd-checkpoint":2,"whatever":1}"#);
        assert_eq!(newer, Err(BodyError::Newer { version: 2 }));
        let body = encode(&full()).unwrap();
        for length in 0..body.len() {
            assert!(decode(&body[..length]).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_checkpoint_has_bounds() {
        let user = Checkpoint { user: vec![0; 4097], ..Checkpoint::default() };
        assert_eq!(
            encode(&user).unwrap_err().to_string(),
            "it has `4097` user bytes: at most `4096` can be stored"
        );
        let range = full().done[0];
        let done = Checkpoint { done: vec![range; 257], ..Checkpoint::default() };
        assert!(matches!(encode(&done), Err(BodyError::TooLarge { count: 257, .. })));
        let twice = Checkpoint { done: vec![range; 2], ..Checkpoint::default() };
        assert_eq!(encode(&twice), Err(BodyError::Disordered));
        let before = Checkpoint { done: vec![range], next: range.to, ..Checkpoint::default() };
        assert_eq!(encode(&before), Err(BodyError::Disordered));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&body);
        }
    }
}
