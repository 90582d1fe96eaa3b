//! What a store of checkpoints reads and is given: `Checkpoint::decode`, positions, the names of readers, URLs.
//!
//! - what is taken for a checkpoint is within its bounds and in order, and is written as the same; what a later version has
//!   added is handed on
//! - a position, a name and a URL without its secrets are what they were when they are read again

use logd_statehandlers::{BodyError, Checkpoint, ConsumerKey, Position, redact};

pub(crate) const WORDS: &[&[u8]] = &[
    b"{\"logd-checkpoint\":1,\"next\":\"60.12\"}",
    b"\"logd-checkpoint\":1,",
    b"\"next\":\"0.0\"",
    b"\"anchor\":\"0 2499380544\"",
    b"\"done\":[\"80.0 90.0\"]",
    b"\"head_attempts\":1",
    b"\"user\":\"aGk=\"",
    b"\"written_at\":1764000000000",
    b"18446744073709551615.18446744073709551615",
    b"redis://anna:secret@host:6379/0?password=x&",
    b"[[[[",
    b"\\u0000",
    b"1e308",
];

/// The most bytes that are read as a checkpoint.
const BODY_BYTES_MAX: usize = 256 * 1024;

pub(crate) fn run(bytes: &[u8]) {
    match Checkpoint::decode(bytes) {
        Ok(checkpoint) => check_body(bytes, &checkpoint),
        Err(BodyError::Newer { version }) => assert!(version > 1, "version {version} is not newer"),
        Err(BodyError::Corrupt { .. }) => {}
        Err(other) => panic!("{other} where something is read"),
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for word in text.split(['\n', ' ', '"']) {
        check_word(word);
    }
}

fn check_body(bytes: &[u8], checkpoint: &Checkpoint) {
    assert!(bytes.len() <= BODY_BYTES_MAX, "{} bytes were read", bytes.len());
    assert!(
        checkpoint.done.len() <= Checkpoint::DONE_MAX && checkpoint.user.len() <= Checkpoint::USER_BYTES_MAX
    );
    let mut end = checkpoint.next;
    for done in &checkpoint.done {
        assert!(end <= done.from && done.from < done.to, "{done:?} is out of order behind {end}");
        end = done.to;
    }
    let written = checkpoint.encode().expect("what was read can be written");
    assert_eq!(Checkpoint::decode(&written).as_ref(), Ok(checkpoint), "it was written as another one");
    assert_eq!(checkpoint.encode().as_ref(), Ok(&written), "it is not always written alike");
    let mut bare = Checkpoint::at(checkpoint.next);
    bare.user = vec![7; 3];
    let extended = bare.with_extra_of(checkpoint);
    let again = extended.encode().map(|body| Checkpoint::decode(&body));
    assert_eq!(again, Ok(Ok(extended)), "what a later version has added is not handed on");
}

fn check_word(word: &str) {
    if let Ok(position) = word.parse::<Position>() {
        assert_eq!(position.to_string().parse(), Ok(position), "`{word}` is another position");
        assert!(word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "`{word}` is no position");
    }
    let topic = "orders".parse().expect("a topic");
    if let Ok(key) = ConsumerKey::new(topic, word).and_then(|key| key.in_namespace(word)) {
        assert_eq!((key.consumer(), key.namespace()), (word, word));
        assert!(
            (1..=80).contains(&word.len()) && !word.chars().any(char::is_control),
            "`{word:?}` is no name"
        );
    }
    let redacted = redact(word);
    assert_eq!(redact(&redacted), redacted, "`{word}` still has a secret");
    if let Some((_, rest)) = word.split_once("://")
        && let Some((user, _)) = rest.rsplit_once('@')
        && let Some((_, secret)) = user.split_once(':')
    {
        // What stands there twice may be a name the first time.
        let is_left_out = word.matches(secret).count() > 1 || !redacted.contains(&format!(":{secret}@"));
        assert!(is_left_out || secret.contains("***"), "`{redacted}` has a secret");
    }
}
