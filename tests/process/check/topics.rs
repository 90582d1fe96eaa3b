//! Topics of a real server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use logd_tests::{BOUND, Finished, TestServer, batch, binary, run};
use tempfile::TempDir;

use super::{FOUND, SOUND, Snapshot, UNCHECKED, USAGE, assert_mends, cut, flip, said};
use crate::refusal;

/// A partition takes two of the batches.
const OPTIONS: [&str; 6] = ["--partition-size", "1300", "--batch-size", "1000", "--partitions", "100"];

/// The directory of a server that was ended in order, and what is in its topic.
struct Stored {
    folder: TempDir,
    /// Offsets and batches.
    batches: Vec<(u64, Vec<u8>)>,
}

impl Stored {
    /// Nine batches of five partitions.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a directory can be made");
        let mut server = TestServer::start_in(&folder.path().join("logs"), &OPTIONS);
        let mut peer = server.peer();
        let batches = (0..9)
            .map(|number: usize| {
                let text = number.to_string().repeat(500);
                let batch = batch("default", &[text.as_bytes(), b"and more"]);
                (peer.append(&batch), batch)
            })
            .collect();
        assert!(server.terminate().status.success());
        Self { folder, batches }
    }

    fn workdir(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    fn offset(&self, number: usize) -> u64 {
        self.batches[number].0
    }

    /// The file of the partition that begins with batch `number`.
    fn file(&self, number: usize, extension: &str) -> PathBuf {
        self.workdir().join("default").join(format!("{}.{extension}", self.offset(number)))
    }

    fn check(&self, arguments: &[&str]) -> Finished {
        check(&self.workdir(), arguments)
    }

    /// Checks and repairs; then a server serves all but the batches `lost`, as they were.
    fn assert_mends(&self, lost: &[usize]) -> (String, String) {
        let told = assert_mends(&self.workdir(), |arguments| self.check(arguments));
        let server = TestServer::start_in(&self.workdir(), &OPTIONS);
        for word in ["damaged", "made anew", "cut off", "removed"] {
            assert!(!server.stderr().contains(word), "the server finds something:\n{}", server.stderr());
        }
        let mut peer = server.peer();
        let is_lost = |number: &usize| lost.contains(number);
        for (_, (offset, batch)) in self.batches.iter().enumerate().filter(|(number, _)| !is_lost(number)) {
            let found = peer.find(&format!("READ default {offset} 1")).batches();
            assert_eq!(found, (*offset, vec![batch.clone()]));
        }
        let more = batch("default", &[b"hello"]);
        let offset = peer.append(&more);
        assert_eq!(peer.find(&format!("READ default {offset} 1")).batches(), (offset, vec![more]));
        told
    }
}

fn check(workdir: &Path, arguments: &[&str]) -> Finished {
    let workdir = workdir.to_str().expect("the paths of tests are text");
    run("logd", &[&["check", workdir], arguments].concat(), BOUND)
}

#[test]
fn nothing_is_found_where_a_server_was_ended_in_order() {
    let stored = Stored::new();
    let before = Snapshot::of(&stored.workdir());
    let text = said(&stored.check(&[]), SOUND);
    let bytes: usize = stored.batches.iter().map(|(_, batch)| batch.len()).sum();
    assert_eq!(
        text,
        format!("checked 1 topic, 5 partitions, 9 batches, 18 messages, {bytes} bytes; 0 bytes damaged\n")
    );
    said(&stored.check(&["--repair"]), SOUND);
    assert_eq!(Snapshot::of(&stored.workdir()), before, "neither has changed anything");
}

#[test]
fn a_killed_server_leaves_nothing_that_is_lost() {
    let folder = tempfile::tempdir().expect("a directory can be made");
    let workdir = folder.path().join("logs");
    let mut server = TestServer::start_in(&workdir, &[]);
    server.peer().append(&batch("default", &[b"hello"]));
    server.kill9();
    let text = said(&check(&workdir, &[]), SOUND);
    assert!(text.starts_with("note ") && text.contains("was not ended in order"), "{text}");
}

#[test]
fn a_flipped_byte_costs_its_batch_only() {
    // In an envelope, in a body, at the beginning of a partition, in its last batch, and in the head.
    for (partition, batch, at) in [(2, 2, 10), (2, 2, 200), (0, 0, 0), (4, 5, 700), (8, 8, 40)] {
        let stored = Stored::new();
        flip(&stored.file(partition, "log"), at);
        let (checked, _) = stored.assert_mends(&[batch]);
        let (from, to) = (stored.offset(batch), stored.offset(batch) + stored.batches[batch].1.len() as u64);
        let expected = format!(
            "offsets {from} to {to} are no batches ({} bytes): 1 batch with 2 messages lost",
            to - from
        );
        assert!(checked.contains(&expected), "byte {at} of batch {batch}:\n{checked}");
    }
}

#[test]
fn a_torn_tail_is_cut_off_and_kept() {
    let stored = Stored::new();
    let head = stored.file(8, "log");
    let end = fs::read(&head).expect("the head can be read").len() as u64 + stored.offset(8);
    let mut options = fs::File::options();
    let mut file = options.append(true).open(&head).expect("the head can be opened");
    io::Write::write_all(&mut file, b"BATCH 4000 default 1 1\r\nMSG").expect("the head can be written");
    let (checked, repaired) = stored.assert_mends(&[]);
    assert!(
        checked.contains(&format!("ends in 27 bytes that are no batch, from offset {end} on")),
        "{checked}"
    );
    assert!(repaired.contains(&format!("cut off, kept in `{end}.torn`")), "{repaired}");
    let torn = fs::read(stored.workdir().join(format!("default/{end}.torn"))).expect("it is kept");
    assert_eq!(torn, b"BATCH 4000 default 1 1\r\nMSG");
}

#[test]
fn a_head_that_has_become_shorter_has_lost_what_its_index_had() {
    let stored = Stored::new();
    cut(&stored.file(8, "log"), 100);
    let (checked, _) = stored.assert_mends(&[8]);
    assert!(checked.contains("1 batch with 2 messages lost"), "{checked}");
}

#[test]
fn indexes_are_made_anew() {
    let stored = Stored::new();
    fs::remove_file(stored.file(0, "index")).expect("an index can be removed");
    fs::copy(stored.file(0, "log"), stored.file(2, "index")).expect("a file can be copied");
    fs::copy(stored.file(6, "index"), stored.file(4, "index")).expect("a file can be copied");
    flip(&stored.file(6, "index"), 100);
    let (checked, _) = stored.assert_mends(&[]);
    let of_another = format!("the index file is that of the partition at {}", stored.offset(6));
    for text in ["0.index: has no index", "the index file is damaged", &of_another] {
        assert!(checked.contains(text), "{checked}");
    }
}

#[test]
fn a_partition_that_is_missing_in_the_middle_is_told() {
    let stored = Stored::new();
    fs::remove_file(stored.file(4, "log")).expect("a partition can be removed");
    let (checked, _) = stored.assert_mends(&[4, 5]);
    let (from, to) = (stored.offset(4), stored.offset(6));
    let missing = to - from;
    let expected = format!(
        "offsets {from} to {to} are no batches ({missing} bytes, of which {missing} are missing): 2 batches with 4 messages lost"
    );
    assert!(checked.contains(&expected), "{checked}");
}

#[test]
fn a_partition_that_was_emptied_is_taken_out_of_use() {
    let stored = Stored::new();
    cut(&stored.file(4, "log"), 0);
    let (checked, _) = stored.assert_mends(&[4, 5]);
    assert!(checked.contains("a partition without a byte"), "{checked}");
}

#[test]
fn what_is_not_of_logd_is_noted_and_left_alone() {
    let stored = Stored::new();
    let topic = stored.workdir().join("default");
    for name in ["README", "x.log", "lost+found"] {
        fs::write(topic.join(name), "mine").expect("a file can be made");
        fs::write(stored.workdir().join(name), "mine").expect("a file can be made");
    }
    fs::create_dir(stored.workdir().join("no topic")).expect("a directory can be made");
    let before = Snapshot::of(&stored.workdir());
    for arguments in [&[][..], &["--repair"]] {
        let text = said(&stored.check(arguments), SOUND);
        assert_eq!(text.matches("is none of logd's files").count(), 7, "{text}");
        assert_eq!(Snapshot::of(&stored.workdir()), before);
    }
}

#[test]
fn a_running_server_is_left_alone() {
    let server = TestServer::start(&[]);
    server.peer().append(&batch("default", &[b"hello"]));
    let before = Snapshot::of(server.workdir());
    for arguments in [&[][..], &["--repair"]] {
        let refused = check(server.workdir(), arguments);
        assert!(said(&refused, UNCHECKED).is_empty());
        let pid = server.pid().to_string();
        for text in ["in use", pid.as_str(), server.workdir().to_str().expect("a path is text")] {
            assert!(refused.stderr.contains(text), "it said:\n{}", refused.stderr);
        }
    }
    assert_eq!(Snapshot::of(server.workdir()), before);
    server.peer().ask(b"HEAD default\r\n", b"OK 45 1\r\n");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    refusal(&["check"], USAGE);
    refusal(&["check", "--nope", "logs"], USAGE);
    refusal(&["--verbose", "check", "logs"], USAGE);
    let folder = tempfile::tempdir().expect("a directory can be made");
    let nowhere = folder.path().join("nowhere");
    let refused = refusal(&["check", nowhere.to_str().expect("a path is text")], UNCHECKED);
    assert!(refused.stderr.contains("nowhere"), "it said:\n{}", refused.stderr);
    assert!(!nowhere.exists());
}

#[test]
fn memory_does_not_grow_with_the_partition() {
    const KIB_MAX: u32 = 48 * 1024;
    let folder = tempfile::tempdir().expect("a directory can be made");
    fs::create_dir(folder.path().join("default")).expect("a directory can be made");
    let path = folder.path().join("default/0.log");
    let some = batch("default", &[&vec![b'x'; 1 << 16]]).repeat(16);
    let mut file = fs::File::create(&path).expect("a file can be made");
    for _ in 0..100 {
        io::Write::write_all(&mut file, &some).expect("the file can be written");
    }
    // And a stretch without batches, of zeros that take no room.
    let end = file.metadata().expect("a file has a length").len() + (200 << 20);
    file.set_len(end).expect("the file can be made longer");
    fs::write(folder.path().join(format!("default/{end}.log")), &some).expect("a file can be made");
    let limited = Command::new("sh")
        .args(["-c", "ulimit -v \"$1\" && exec \"$2\" check \"$3\"", "sh", &KIB_MAX.to_string()])
        .arg(binary("logd"))
        .arg(folder.path())
        .output()
        .expect("a shell can be started");
    let text = String::from_utf8_lossy(&limited.stdout);
    let code = limited.status.code();
    assert_eq!(code, Some(FOUND), "{text}{}", String::from_utf8_lossy(&limited.stderr));
    assert!(text.contains(&format!("{} bytes damaged", 200 << 20)), "{text}");
}
