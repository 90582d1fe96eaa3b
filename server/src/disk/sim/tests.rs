//! Faults and cuts. Seeds are in the messages of what can fail, so that a failure can be repeated.

use std::collections::BTreeSet;
use std::io::ErrorKind;

use super::*;

const SEEDS: u64 = 300;

fn create(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    disk.open(Path::new(path), OpenMode::CreateNew).unwrap()
}

fn contents(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path), OpenMode::Read).ok()?;
    let mut buffer = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_full_at(&mut buffer, 0).unwrap(), buffer.len());
    Some(buffer)
}

/// A disk with the file `a` whose name and first five bytes are synced.
fn with_synced_file(seed: u64) -> (SimDisk, Arc<dyn File>) {
    let disk = SimDisk::new(seed);
    let file = create(&disk, "a");
    file.write_all_at(b"hello", 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    (disk, file)
}

/// What a file can be after a cut, over many seeds.
fn outcomes(make: impl Fn(u64) -> SimDisk, path: &str) -> BTreeSet<Option<Vec<u8>>> {
    (0..SEEDS).map(|seed| contents(&make(seed).restart(Cut::Seeded(seed)), path)).collect()
}

#[test]
fn losing_what_is_unsynced_keeps_what_is_synced() {
    let (disk, file) = with_synced_file(1);
    file.write_all_at(b" world", 5).unwrap();
    file.write_all_at(b"J", 0).unwrap();
    create(&disk, "b").sync().unwrap();
    let disk = disk.restart(Cut::LoseUnsynced);
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello"[..]));
    assert_eq!(contents(&disk, "b"), None, "its name was not synced");
}

#[test]
fn a_synced_name_without_synced_contents_is_an_empty_file() {
    let disk = SimDisk::new(1);
    create(&disk, "a").write_all_at(b"hello", 0).unwrap();
    disk.sync_dir(Path::new("")).unwrap();
    assert_eq!(contents(&disk.restart(Cut::LoseUnsynced), "a"), Some(Vec::new()));
}

#[test]
fn a_kill_keeps_all_and_leaves_it_unsynced() {
    let (disk, file) = with_synced_file(1);
    file.write_all_at(b" world", 5).unwrap();
    drop(create(&disk, "b"));
    let disk = disk.restart(Cut::KeepAll);
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello world"[..]));
    assert_eq!(contents(&disk, "b"), Some(Vec::new()));
    let disk = disk.restart(Cut::LoseUnsynced);
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello"[..]));
    assert_eq!(contents(&disk, "b"), None);
}

#[test]
fn an_unsynced_removal_or_rename_can_come_back() {
    let (disk, _file) = with_synced_file(1);
    disk.rename(Path::new("a"), Path::new("b")).unwrap();
    disk.remove(Path::new("b")).unwrap();
    let disk = disk.restart(Cut::LoseUnsynced);
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello"[..]));
    disk.remove(Path::new("a")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(contents(&disk.restart(Cut::LoseUnsynced), "a"), None);
}

#[test]
fn names_in_a_directory_that_is_lost_are_lost() {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("topic")).unwrap();
    let file = create(&disk, "topic/0.log");
    file.write_all_at(b"x", 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("topic")).unwrap();
    assert!(disk.restart(Cut::LoseUnsynced).list(Path::new("/")).unwrap().is_empty());
}

#[test]
fn a_seeded_cut_keeps_drops_and_tears_writes() {
    let outcomes = outcomes(
        |seed| {
            let (disk, file) = with_synced_file(seed);
            file.write_all_at(b"1234", 5).unwrap();
            file.write_all_at(b"5678", 9).unwrap();
            disk
        },
        "a",
    );
    for expected in [
        &b"hello"[..],
        b"hello12345678",
        b"hello1234",
        b"hello12",
        b"hello\0\0\0\x005678",
        b"hello\0\0\0\0",
        b"hello123456",
    ] {
        assert!(outcomes.contains(&Some(expected.to_vec())), "{expected:?} in {outcomes:?}");
    }
    for outcome in outcomes {
        let outcome = outcome.expect("the name is synced");
        assert!(outcome.starts_with(b"hello"), "{outcome:?}");
        let is_right = |(index, byte): (usize, &u8)| *byte == 0 || *byte == b"hello12345678"[index];
        assert!(outcome.iter().enumerate().all(is_right), "{outcome:?}");
    }
}

#[test]
fn a_seeded_cut_leaves_holes_in_long_writes() {
    let (before, after) = (vec![1; 512], vec![2; 512]);
    let outcomes = outcomes(
        |seed| {
            let (disk, file) = with_synced_file(seed);
            file.write_all_at(&[&before[..], &after[..]].concat(), 0).unwrap();
            disk
        },
        "a",
    );
    let hole = [&b"hello"[..], &[0; 507], &after[..]].concat();
    assert!(outcomes.contains(&Some(hole)));
}

#[test]
fn a_seeded_cut_keeps_the_first_changes_of_a_directory() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        for name in ["1", "2", "3"] {
            create(&disk, name);
        }
        disk.rename(Path::new("3"), Path::new("4")).unwrap();
        let entries = disk.restart(Cut::Seeded(seed)).list(Path::new("/")).unwrap();
        seen.insert(entries.into_iter().map(|entry| entry.name).collect::<String>());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["", "1", "12", "123", "124"]);
}

#[test]
fn a_seeded_cut_can_undo_a_truncation() {
    let outcomes = outcomes(
        |seed| {
            let (disk, file) = with_synced_file(seed);
            file.set_len(2).unwrap();
            disk
        },
        "a",
    );
    assert_eq!(outcomes, BTreeSet::from([Some(b"he".to_vec()), Some(b"hello".to_vec())]));
}

#[test]
fn the_same_seed_and_calls_give_the_same_bytes() {
    for seed in 0..SEEDS {
        let run = || {
            let (disk, file) = with_synced_file(seed);
            disk.inject(Fault { call: disk.calls() + 2, kind: FaultKind::FailSync });
            for round in 0..8_u8 {
                file.write_all_at(&[round; 700], u64::from(round) * 600).unwrap();
                let _ = file.sync().is_ok();
            }
            file.write_all_at(&[9; 3000], 100).unwrap();
            contents(&disk.restart(Cut::Seeded(seed)), "a")
        };
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn after_a_power_cut_every_call_fails_until_the_restart() {
    let (disk, file) = with_synced_file(1);
    let call = disk.calls();
    disk.inject(Fault { call: call + 1, kind: FaultKind::PowerCut });
    file.write_all_at(b"1", 5).unwrap();
    assert!(file.write_at(b"2", 6).is_err(), "the power goes at this call");
    assert_eq!(disk.calls(), call + 2);
    assert!(file.sync().is_err());
    assert!(file.len().is_err());
    assert!(file.read_at(&mut [0; 8], 0).is_err());
    assert!(disk.list(Path::new("/")).is_err());
    assert!(disk.open(Path::new("a"), OpenMode::Read).is_err());
    assert!(disk.sync_dir(Path::new("/")).is_err());
    let next = disk.restart(Cut::LoseUnsynced);
    assert_eq!(contents(&next, "a").as_deref(), Some(&b"hello"[..]));
    assert!(file.len().is_err(), "a handle of the dead process stays dead");
    assert_eq!(next.calls(), 0);
}

#[test]
fn the_call_at_which_the_power_goes_may_have_been_done() {
    let outcomes = outcomes(
        |seed| {
            let (disk, file) = with_synced_file(seed);
            disk.inject(Fault { call: disk.calls(), kind: FaultKind::PowerCut });
            assert!(file.write_at(b"!", 5).is_err());
            disk
        },
        "a",
    );
    assert!(outcomes.contains(&Some(b"hello!".to_vec())));
    assert!(outcomes.contains(&Some(b"hello".to_vec())));
}

#[test]
fn a_sync_at_which_the_power_goes_secures_nothing_for_sure() {
    let (disk, file) = with_synced_file(1);
    file.write_all_at(b"!", 5).unwrap();
    disk.inject(Fault { call: disk.calls(), kind: FaultKind::PowerCut });
    assert!(file.sync().is_err());
    assert_eq!(contents(&disk.restart(Cut::LoseUnsynced), "a").as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_failed_sync_can_lose_what_a_later_one_does_not_bring_back() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = with_synced_file(seed);
        file.write_all_at(b"12", 5).unwrap();
        disk.inject(Fault { call: disk.calls(), kind: FaultKind::FailSync });
        assert!(file.sync().is_err(), "seed {seed}");
        assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello12"[..]), "seed {seed}");
        file.write_all_at(b"3", 7).unwrap();
        file.sync().unwrap();
        seen.insert(contents(&disk.restart(Cut::LoseUnsynced), "a").unwrap());
    }
    assert!(seen.contains(&b"hello\0\x003"[..]) && seen.contains(&b"hello123"[..]), "{seen:?}");
}

#[test]
fn fail_sync_waits_for_a_sync() {
    let (disk, file) = with_synced_file(1);
    disk.inject(Fault { call: disk.calls(), kind: FaultKind::FailSync });
    file.write_all_at(b"1", 5).unwrap();
    assert!(disk.sync_dir(Path::new("/")).is_err());
    file.sync().unwrap();
}

#[test]
fn each_kind_of_call_fails_where_it_is_told_to() {
    type Call = fn(&SimDisk, &dyn File) -> io::Result<()>;
    let calls: [(&str, Call); 8] = [
        ("create", |disk, _| disk.open(Path::new("b"), OpenMode::CreateNew).map(drop)),
        ("truncate", |disk, _| disk.open(Path::new("a"), OpenMode::Truncate).map(drop)),
        ("write", |_, file| file.write_all_at(b"x", 0)),
        ("set_len", |_, file| file.set_len(1)),
        ("rename", |disk, _| disk.rename(Path::new("a"), Path::new("c"))),
        ("remove", |disk, _| disk.remove(Path::new("a"))),
        ("create_dir", |disk, _| disk.create_dir(Path::new("d"))),
        ("sync", |_, file| file.sync()),
    ];
    for (name, call) in calls {
        let (disk, file) = with_synced_file(1);
        let number = disk.calls();
        disk.inject(Fault { call: number, kind: FaultKind::Fail(ErrorKind::Other) });
        let error = call(&disk, &*file).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{name}");
        assert_eq!(disk.calls(), number + 1, "{name}");
        assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello"[..]), "{name}");
        assert_eq!(disk.list(Path::new("/")).unwrap().len(), 1, "{name}");
        call(&disk, &*file).unwrap();
    }
}

#[test]
fn a_kind_of_error_can_be_chosen() {
    let (disk, file) = with_synced_file(1);
    disk.inject(Fault { call: disk.calls(), kind: FaultKind::Fail(ErrorKind::PermissionDenied) });
    assert_eq!(file.set_len(0).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn a_read_fails_where_it_is_told_to() {
    let (disk, file) = with_synced_file(1);
    disk.fail_read(disk.reads() + 1);
    assert_eq!(file.len().unwrap(), 5);
    assert!(file.read_at(&mut [0; 5], 0).is_err());
    assert_eq!(file.read_at(&mut [0; 5], 0).unwrap(), 5);
}

#[test]
fn short_writes_are_completed_by_those_who_ask_again() {
    let (disk, file) = with_synced_file(1);
    disk.inject(Fault { call: disk.calls(), kind: FaultKind::ShortWrite { written: 2 } });
    assert_eq!(file.write_at(b"12345", 5).unwrap(), 2);
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello12"[..]));
    disk.inject(Fault { call: disk.calls(), kind: FaultKind::ShortWrite { written: 0 } });
    file.write_all_at(b"12345", 5).unwrap();
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello12345"[..]));
}

#[test]
fn a_disk_that_runs_full_takes_a_part_first() {
    let (disk, file) = with_synced_file(1);
    disk.inject(Fault { call: disk.calls(), kind: FaultKind::DiskFull { written: 3 } });
    let error = file.write_all_at(b"12345", 5).unwrap_err();
    assert!(super::super::is_disk_full(&error));
    assert_eq!(contents(&disk, "a").as_deref(), Some(&b"hello123"[..]));
    disk.inject(Fault { call: disk.calls(), kind: FaultKind::DiskFull { written: 0 } });
    assert!(super::super::is_disk_full(&file.write_all_at(b"12345", 5).unwrap_err()));
    file.write_all_at(b"12345", 5).unwrap();
}

#[test]
fn the_capacity_bounds_all_files_together() {
    let (disk, file) = with_synced_file(1);
    disk.set_capacity(Some(8));
    assert_eq!(file.write_at(b"12345", 5).unwrap(), 3);
    assert_eq!(file.write_at(b"HELLO", 0).unwrap(), 5, "what is there already costs nothing");
    assert_eq!(file.write_at(b"x", 8).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.set_len(9).unwrap_err().kind(), ErrorKind::StorageFull);
    let other = create(&disk, "b");
    assert_eq!(other.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    file.set_len(7).unwrap();
    assert_eq!(other.write_at(b"xy", 0).unwrap(), 1);
    disk.set_capacity(None);
    other.write_all_at(b"xyz", 0).unwrap();
}

#[test]
fn a_removed_file_takes_room_while_it_is_open() {
    let (disk, file) = with_synced_file(1);
    disk.set_capacity(Some(5));
    disk.remove(Path::new("a")).unwrap();
    let other = create(&disk, "b");
    assert!(other.write_at(b"x", 0).is_err());
    drop(file);
    other.write_all_at(b"12345", 0).unwrap();
}

#[test]
fn impossible_paths_and_lengths_are_errors() {
    let (disk, file) = with_synced_file(1);
    assert!(disk.open(Path::new("../a"), OpenMode::Read).is_err());
    assert!(disk.open(Path::new("/"), OpenMode::CreateNew).is_err());
    assert_eq!(file.write_at(b"x", u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(file.set_len(u64::MAX).unwrap_err().kind(), ErrorKind::FileTooLarge);
}
