use std::fs;

use tempfile::TempDir;

use super::*;
use crate::testing::batch;

/// More than any test puts.
const BYTES_MAX: u64 = 1 << 20;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Opens a directory in which everything is as it should be.
fn open(dir: &Path) -> Spool {
    let (spool, findings) = Spool::open(dir, BYTES_MAX).unwrap();
    assert_eq!(findings, SpoolFindings::default());
    spool
}

/// The names in the directory, in order, without the lock's.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort_unstable();
    names
}

/// Takes every batch out, in order.
fn drain(spool: &mut Spool) -> Vec<(u64, u64, Batch)> {
    let mut batches = Vec::new();
    while let Some(Spooled { batch, key }) = spool.first().unwrap() {
        spool.remove(key).unwrap();
        batches.push((key.run, key.number, batch));
    }
    batches
}

fn name(run: u64, number: u64) -> String {
    format!("{run:020}-{number:020}.batch")
}

#[test]
fn batches_come_back_by_run_and_number() {
    let folder = folder();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|text| batch(&[text]));
    open(folder.path()).put_all(&[(10, b.clone()), (9, a.clone())]).unwrap();
    let mut spool = open(folder.path());
    spool.put(2, &d).unwrap();
    spool.put(1, &c).unwrap();
    assert_eq!(drain(&mut spool), [(1, 9, a), (1, 10, b), (2, 1, c), (2, 2, d)]);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn file_is_the_batch_byte_for_byte() {
    let folder = folder();
    let batch = batch(&["hello", "world!"]);
    open(folder.path()).put(u64::MAX, &batch).unwrap();
    let path = folder.path().join("00000000000000000001-18446744073709551615.batch");
    assert_eq!(fs::read(path).unwrap(), batch.bytes()[..]);
}

#[test]
fn counts_follow_puts_removals_and_opens() {
    let folder = folder();
    let (one, two) = (batch(&["a"]), batch(&["b", "c"]));
    let (one_bytes, two_bytes) = (one.bytes().len() as u64, two.bytes().len() as u64);
    let counts = |spool: &Spool| (spool.len(), spool.bytes(), spool.messages(), spool.is_empty());
    let mut spool = open(folder.path());
    assert_eq!(counts(&spool), (0, 0, 0, true));
    spool.put_all(&[(1, one), (2, two)]).unwrap();
    assert_eq!(counts(&spool), (2, one_bytes + two_bytes, 3, false));
    drop(spool);
    let mut spool = open(folder.path());
    assert_eq!(counts(&spool), (2, one_bytes + two_bytes, 3, false));
    let key = spool.first_key().unwrap();
    spool.remove(key).unwrap();
    spool.remove(key).unwrap();
    assert_eq!(counts(&spool), (1, two_bytes, 2, false));
    spool.clear().unwrap();
    assert_eq!(counts(&spool), (0, 0, 0, true));
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn directories_are_made_as_needed() {
    let folder = folder();
    let dir = folder.path().join("a/b/c");
    open(&dir).put(1, &batch(&["a"])).unwrap();
    assert_eq!(open(&dir).len(), 1);
}

#[test]
fn bound_is_kept_to_the_byte_and_all_or_nothing() {
    let folder = folder();
    let batch = batch(&["hello"]);
    let bytes = batch.bytes().len() as u64;
    let (mut spool, _) = Spool::open(folder.path(), 2 * bytes).unwrap();
    spool.put(1, &batch).unwrap();
    let error = spool.put_all(&[(2, batch.clone()), (3, batch.clone())]).unwrap_err();
    assert!(
        matches!(error, SpoolError::Full { bytes: asked, bytes_kept, bytes_max, .. }
            if (asked, bytes_kept, bytes_max) == (2 * bytes, bytes, 2 * bytes)),
        "{error}"
    );
    assert_eq!(names(folder.path()), [name(1, 1)]);
    spool.put(2, &batch).unwrap();
    assert!(matches!(spool.put(3, &batch), Err(SpoolError::Full { .. })));
    spool.remove(spool.key(1)).unwrap();
    spool.put(3, &batch).unwrap();
    drop(spool);
    let (mut smaller, _) = Spool::open(folder.path(), bytes).unwrap();
    assert_eq!(smaller.len(), 2);
    assert!(matches!(smaller.put(1, &batch), Err(SpoolError::Full { .. })));
}

#[test]
fn number_is_taken_once_in_a_run() {
    let folder = folder();
    let (one, other) = (batch(&["a"]), batch(&["b"]));
    let mut spool = open(folder.path());
    spool.put(1, &one).unwrap();
    for batches in [vec![(1, other.clone())], vec![(2, one.clone()), (3, one.clone()), (2, other)]] {
        assert!(matches!(spool.put_all(&batches), Err(SpoolError::Duplicate { .. })));
    }
    assert_eq!(drain(&mut spool), [(1, 1, one)]);
}

#[test]
fn batch_that_could_not_be_read_again_is_refused() {
    let folder = folder();
    let mut builder = crate::BatchBuilder::new(&TopicName::default(), 2 * BATCH_BYTES_MAX);
    builder.push(&vec![0; BATCH_BYTES_MAX]).unwrap();
    let large = builder.finish().unwrap();
    let (mut spool, _) = Spool::open(folder.path(), u64::MAX).unwrap();
    assert!(matches!(spool.put(1, &large), Err(SpoolError::TooLarge { .. })));
    assert!(spool.is_empty());
}

#[test]
fn second_holder_is_refused_until_the_first_is_gone() {
    let folder = folder();
    let first = open(folder.path());
    let error = Spool::open(folder.path(), BYTES_MAX).unwrap_err();
    assert!(matches!(error, SpoolError::Locked { .. }));
    assert_eq!(
        error.to_string(),
        format!("the spool `{}` is in use by another writer or program", folder.path().display())
    );
    drop(first);
    open(folder.path());
}

#[test]
fn unfinished_batch_is_removed() {
    let folder = folder();
    open(folder.path()).put(1, &batch(&["a"])).unwrap();
    fs::write(folder.path().join(name(1, 2) + ".new"), batch(&["b"]).bytes()).unwrap();
    let (spool, findings) = Spool::open(folder.path(), BYTES_MAX).unwrap();
    assert_eq!(findings, SpoolFindings { unfinished: 1, ..SpoolFindings::default() });
    assert_eq!((spool.len(), names(folder.path())), (1, vec![name(1, 1)]));
}

#[test]
fn every_truncation_is_found_and_set_aside() {
    let whole = batch(&["hello", "world!"]);
    for length in 0..whole.bytes().len() {
        let folder = folder();
        let mut spool = open(folder.path());
        spool.put(1, &whole).unwrap();
        spool.put(2, &whole).unwrap();
        let part = whole.bytes().slice(..length);
        fs::write(folder.path().join(name(1, 1)), &part).unwrap();
        let truncated = Damage::Truncated { bytes: length as u64 };
        assert!(matches!(spool.first(), Err(SpoolError::Damaged { damage, .. }) if damage == truncated));
        drop(spool);
        let (mut spool, findings) = Spool::open(folder.path(), BYTES_MAX).unwrap();
        let path = folder.path().join(name(1, 1) + ".damaged");
        assert_eq!(fs::read(&path).unwrap(), part);
        assert_eq!(findings.damaged, [DamagedFile { path, damage: truncated }]);
        assert_eq!(drain(&mut spool), [(1, 2, whole.clone())]);
    }
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let whole = batch(&["hello", "world!"]);
    let folder = folder();
    let mut spool = open(folder.path());
    spool.put(1, &whole).unwrap();
    let body = whole.bytes().len() - whole.body().len();
    for at in 0..whole.bytes().len() {
        let mut bytes = whole.bytes().to_vec();
        bytes[at] ^= 0x10;
        fs::write(folder.path().join(name(1, 1)), bytes).unwrap();
        match spool.first() {
            // The topic's name is all that no checksum covers.
            Ok(first) => assert!(at < body && first.unwrap().batch.topic() != whole.topic(), "byte {at}"),
            Err(error) => assert!(matches!(error, SpoolError::Damaged { .. }), "byte {at}: {error}"),
        }
    }
}

#[test]
fn what_is_no_batch_is_set_aside() {
    let whole = batch(&["hello"]);
    let mut trailing = whole.bytes().to_vec();
    trailing.push(b'x');
    let folder = folder();
    let place = |number| folder.path().join(name(7, number));
    fs::write(place(1), &trailing).unwrap();
    fs::write(place(2), "no batch at all\r\n").unwrap();
    fs::create_dir(place(3)).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place(4)).unwrap();
    let too_long = BATCH_BYTES_MAX as u64 + 1;
    fs::File::create(place(5)).unwrap().set_len(too_long).unwrap();
    fs::write(place(6), whole.bytes()).unwrap();

    let (mut spool, findings) = Spool::open(folder.path(), BYTES_MAX).unwrap();
    let damages: Vec<Damage> = findings.damaged.iter().map(|file| file.damage).collect();
    assert_eq!(damages[0], Damage::Trailing { bytes: 1 });
    assert!(matches!(damages[1], Damage::Broken(_)), "{damages:?}");
    assert_eq!(damages[2..], [Damage::NotAFile, Damage::NotAFile, Damage::TooLong { bytes: too_long }]);
    assert_eq!(drain(&mut spool), [(7, 6, whole.clone())]);
    drop(spool);
    // What was set aside keeps its run from being given again.
    let mut spool = open(folder.path());
    spool.put(1, &whole).unwrap();
    assert_eq!(drain(&mut spool), [(8, 1, whole)]);
    assert_eq!(names(folder.path()), [1, 2, 3, 4, 5].map(|number| name(7, number) + ".damaged"));
}

#[test]
fn other_files_are_left_alone() {
    let folder = folder();
    let others = ["00000000000000000001-1.batch", "1-1.batch", "notes.new", "x.batch", "x.batch.damaged"];
    for other in others {
        fs::write(folder.path().join(other), "x").unwrap();
    }
    assert!(open(folder.path()).is_empty());
    assert_eq!(names(folder.path()), others);
    assert_eq!(Spool::list(folder.path()).unwrap(), SpoolListing::default());
}

#[test]
fn batch_damaged_while_open_is_set_aside_on_request() {
    let folder = folder();
    let (one, other) = (batch(&["a"]), batch(&["b"]));
    let mut spool = open(folder.path());
    spool.put_all(&[(1, one.clone()), (2, one), (3, other.clone())]).unwrap();
    fs::write(folder.path().join(name(1, 1)), "BATCH").unwrap();
    fs::remove_file(folder.path().join(name(1, 2))).unwrap();
    let aside = folder.path().join(name(1, 1) + ".damaged");
    for (number, gone, expected) in [(1, false, Some(aside)), (2, true, None)] {
        let Err(SpoolError::Damaged { key, damage }) = spool.first() else { panic!("damage was not found") };
        assert_eq!((key.number, damage == Damage::Gone), (number, gone));
        assert_eq!(spool.set_aside(key, Aside::Damaged).unwrap(), expected);
    }
    assert_eq!(drain(&mut spool), [(1, 3, other)]);
}

#[test]
fn failed_put_leaves_nothing() {
    for in_the_way in [name(1, 2), name(1, 2) + ".new"] {
        let folder = folder();
        let mut spool = open(folder.path());
        fs::create_dir(folder.path().join(&in_the_way)).unwrap();
        let batches = [1, 2, 3].map(|number| (number, batch(&["a"])));
        let error = spool.put_all(&batches).unwrap_err();
        assert!(
            matches!(&error, SpoolError::Io { action: "create", path, .. } if path.ends_with(&in_the_way))
        );
        assert_eq!(names(folder.path()), [in_the_way.as_str()]);
        assert_eq!((spool.len(), spool.bytes(), spool.messages()), (0, 0, 0));
        fs::remove_dir(folder.path().join(&in_the_way)).unwrap();
        spool.put_all(&batches).unwrap();
        assert_eq!(drain(&mut spool).len(), 3);
    }
}

#[test]
fn put_into_a_directory_that_is_gone_fails() {
    let folder = folder();
    let mut spool = open(&folder.path().join("spool"));
    fs::remove_dir_all(spool.dir()).unwrap();
    let error = spool.put(1, &batch(&["a"])).unwrap_err().to_string();
    let path = spool.key(1).path_new(spool.dir());
    assert_eq!(error, format!("cannot create `{}`: no such file or directory", path.display()));
    assert!(spool.is_empty());
}

#[test]
fn listing_needs_no_lock_and_changes_nothing() {
    let folder = folder();
    let batch = batch(&["a", "b"]);
    let mut spool = open(folder.path());
    spool.put_all(&[(2, batch.clone()), (1, batch.clone())]).unwrap();
    let (cut, old) = (folder.path().join(name(0, 1)), folder.path().join(name(0, 2) + ".damaged"));
    fs::write(&cut, "").unwrap();
    fs::write(&old, "").unwrap();
    fs::write(folder.path().join(name(1, 3) + ".new"), "").unwrap();
    let before = names(folder.path());
    let listing = Spool::list(folder.path()).unwrap();
    let listed = |number| ListedBatch {
        key: spool.key(number),
        topic: TopicName::default(),
        messages: 2,
        bytes: batch.bytes().len() as u64,
    };
    assert_eq!(listing.batches, [listed(1), listed(2)]);
    assert_eq!(listing.damaged, [(cut, Damage::Truncated { bytes: 0 })]);
    assert_eq!(listing.aside, [(old, Aside::Damaged)]);
    assert_eq!(names(folder.path()), before);
}

#[test]
fn highest_run_leaves_none() {
    let folder = folder();
    fs::write(folder.path().join(name(u64::MAX, 1)), batch(&["a"]).bytes()).unwrap();
    assert!(matches!(Spool::open(folder.path(), BYTES_MAX), Err(SpoolError::NoRunLeft { .. })));
}

#[test]
fn file_in_the_place_of_the_directory_is_told() {
    let folder = folder();
    let path = folder.path().join("spool");
    fs::write(&path, "").unwrap();
    assert!(matches!(Spool::open(path, BYTES_MAX), Err(SpoolError::Io { .. })));
}

/// Gives back its mount when it is dropped.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// A file system of 64 KiB; `None` where the machine does not allow mounts.
    fn mount() -> Option<Self> {
        let folder = folder();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folder.path());
        mount.output().ok()?.status.success().then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn full_disk_fails_the_put_and_leaves_what_was_there() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("not tested: this machine allows no mounts");
        return;
    };
    let mut spool = open(disk.0.path());
    let large = batch(&[&"x".repeat(30_000)]);
    spool.put(1, &large).unwrap();
    let error = spool.put_all(&[(2, batch(&["small"])), (3, large.clone())]).unwrap_err();
    assert!(matches!(&error, SpoolError::Io { action: "write", .. }), "{error}");
    assert!(error.to_string().ends_with("no space left on device"), "{error}");
    assert_eq!(names(disk.0.path()), [name(1, 1)]);
    assert_eq!(drain(&mut spool), [(1, 1, large.clone())]);
    spool.put(3, &large).unwrap();
    assert_eq!(drain(&mut spool), [(1, 3, large)]);
}
