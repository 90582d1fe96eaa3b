//! What a check of a work directory says, and that it goes on when nobody listens.

use std::fs;

use super::*;

/// A pipe whose reader has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn request(dir: &Path, action: Action, format: Format) -> CheckRequest {
    CheckRequest { dir: dir.to_owned(), action, format }
}

/// A work directory whose one topic ends in bytes that are no batch.
fn torn() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("default")).unwrap();
    fs::write(dir.path().join("default/0.log"), "BATCH torn").unwrap();
    dir
}

fn said(request: &CheckRequest) -> (Verdict, String) {
    let mut out = Vec::new();
    let verdict = run(request, &mut out).unwrap();
    (verdict, String::from_utf8(out).unwrap())
}

#[test]
fn findings_are_lines_and_then_a_summary() {
    let dir = torn();
    fs::write(dir.path().join("a\nb"), "").unwrap();
    let (verdict, text) = said(&request(dir.path(), Action::Look, Format::Text));
    assert_eq!(verdict, Verdict::Found);
    let expected = "\
note      a\\nb: is none of logd's files
repair    default/0.log: ends in 10 bytes that are no batch, from offset 0 on
checked 1 topic, 1 partition, 0 batches, 0 messages, 10 bytes; 0 bytes damaged; 1 to repair; 1 noted
";
    assert_eq!(text, expected);
}

#[test]
fn findings_are_objects_for_programs() {
    let dir = torn();
    let (_, text) = said(&request(dir.path(), Action::Repair, Format::Json));
    let objects: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["kind"], "torn-tail");
    assert_eq!(objects[0]["offset"], "0");
    assert_eq!(objects[0]["done"]["kept_in"], "0.torn");
    assert_eq!(objects[1]["summary"]["findings"]["repair"], 1);
    assert_eq!(objects[1]["summary"]["repaired"], 1);
}

#[test]
fn a_reader_that_has_had_enough_does_not_end_a_repair() {
    let dir = torn();
    let verdict = run(&request(dir.path(), Action::Repair, Format::Text), &mut Closed).unwrap();
    assert_eq!(verdict, Verdict::Found);
    assert_eq!(said(&request(dir.path(), Action::Look, Format::Text)).0, Verdict::Sound);
}

#[test]
fn a_directory_of_something_else_is_refused_and_left_alone() {
    let dir = torn();
    let empty = tempfile::tempdir().unwrap();
    for (wrong, hint) in [(dir.path().join("default"), "above it"), (empty.path().to_owned(), "--workdir")] {
        let before = fs::read_dir(&wrong).unwrap().count();
        for action in [Action::Look, Action::Repair] {
            let error = run(&request(&wrong, action, Format::Text), &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains("no topics") && error.contains(hint), "{error}");
        }
        assert_eq!(fs::read_dir(&wrong).unwrap().count(), before);
    }
    let error = run(&request(&empty.path().join("no"), Action::Look, Format::Text), &mut Vec::new());
    assert!(matches!(error, Err(CheckError::Dir { .. })), "{error:?}");
}

#[test]
fn checks_share_a_directory_and_repairs_do_not() {
    let dir = torn();
    let is_in_use = |action| {
        let done = run(&request(dir.path(), action, Format::Text), &mut Vec::new());
        matches!(done, Err(CheckError::InUse { .. }))
    };
    let own = DirLock::acquire(dir.path()).unwrap().unwrap();
    assert!(is_in_use(Action::Look) && is_in_use(Action::Repair));
    drop(own);
    let shared = DirLock::share(dir.path()).unwrap();
    assert!(matches!(shared, Shared::Taken(_)));
    assert!(!is_in_use(Action::Look) && is_in_use(Action::Repair));
    assert!(DirLock::acquire(dir.path()).unwrap().is_none(), "no server starts beside a check");
}

#[test]
fn a_server_that_comes_where_no_lock_was_is_noticed() {
    let dir = torn();
    let lock = Lock::take(dir.path(), Action::Look).unwrap();
    assert!(lock.expect_kept(dir.path()).is_ok());
    let _server = DirLock::acquire(dir.path()).unwrap();
    assert!(matches!(lock.expect_kept(dir.path()), Err(CheckError::InUse { .. })));
}
