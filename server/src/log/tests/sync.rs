//! What a sync does, when readers see a batch, and what follows a failed one.

use std::io::ErrorKind;

use super::*;
use crate::disk::{Cut, Fault, FaultKind};
use crate::log::AppendError;

fn synced(partition_bytes: u64) -> LogConfig {
    LogConfig { flush_batches: 1, ..config(partition_bytes) }
}

fn fail(disk: &SimDisk, kind: FaultKind) {
    disk.inject(Fault { call: disk.calls(), kind });
}

#[test]
fn with_a_sync_before_every_answer_readers_see_what_is_synced() {
    for partition_bytes in [1, 100, 1_000_000] {
        let (log, _) = open(&SimDisk::new(1), &synced(partition_bytes));
        let batches = nesting_batches();
        let offsets = starts(0, &batches);
        for (number, batch) in batches.iter().enumerate() {
            let appended = try_append(&log, batch).unwrap();
            assert!(appended.is_sync_due);
            assert_eq!(read(&log, offsets[number], 1), None, "not yet");
            assert_eq!(end(&log), offsets[number], "the end is where the hidden batch begins");
            if number > 0 {
                assert_eq!(read(&log, 0, 1000).unwrap().bytes, batches[..number].concat());
            }
            if number % 2 == 0 {
                log.maintain();
            }
            assert_eq!(log.sync().unwrap(), appended.end);
            assert!(!log.is_unsynced());
        }
        assert_holds(&log, &offsets, &batches);
        // Several that wait for one sync, over several partitions.
        let more = append_all(&log, &batches);
        assert!(more.iter().all(|offset| read(&log, *offset, 1).is_none()));
        assert_eq!(end(&log), more[0]);
        log.sync().unwrap();
        assert_holds(&log, &more, &batches);
    }
}

#[test]
fn a_sync_is_due_from_so_many_unsynced_batches_on() {
    for (flush_batches, expected) in [(0, [false; 5]), (3, [false, false, true, true, true])] {
        let (log, _) = open(&SimDisk::new(1), &LogConfig { flush_batches, ..config(100) });
        for round in 1..4 {
            let due = expected.map(|_| try_append(&log, &batch_of(5)).unwrap().is_sync_due);
            assert_eq!(due, expected);
            assert!(log.is_unsynced());
            assert_eq!(read(&log, 0, 100).unwrap().batches, round * 5, "readers do not wait for it");
            log.maintain();
            log.sync().unwrap();
            assert!(!log.is_unsynced());
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_is_appended_and_readers_go_on() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &synced(100));
    let batches = plain_batches();
    append_all(&log, &batches[..2]);
    log.sync().unwrap();
    append(&log, &batches[2]);
    fail(&disk, FaultKind::FailSync);
    log.sync().unwrap_err();
    assert!(log.failure().is_some());
    for _ in 0..3 {
        assert!(matches!(try_append(&log, &batches[0]), Err(AppendError::SyncFailed)));
        log.sync().expect_err("a later sync says nothing about what was not synced");
        log.maintain();
        log.close().unwrap_err();
    }
    assert_holds(&log, &starts(0, &batches[..2]), &batches[..2]);
    assert_eq!(count(&disk, Path::new(DIR), "index"), 0, "no index vouches for what is unknown");
    drop(log);
    let (log, _) = open(&disk.restart(Cut::LoseUnsynced), &synced(100));
    assert!(log.failure().is_none());
    assert!(read(&log, 0, 1000).unwrap().bytes.starts_with(&batches[..2].concat()));
    append(&log, &batches[0]);
    log.sync().unwrap();
}

#[test]
fn a_partition_whose_sync_has_failed_is_not_sealed() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(1));
    append_all(&log, &plain_batches());
    fail(&disk, FaultKind::FailSync);
    log.sync().unwrap_err();
    log.maintain();
    assert_eq!(count(&disk, Path::new(DIR), "index"), 0);
}

#[test]
fn a_failed_sync_while_sealing_ends_the_writer() {
    // The sync of the file, that of the index, and that of the directory, which has the names of new partitions, too.
    for number in 0..3 {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(1));
        append_all(&log, &plain_batches()[..2]);
        let first = disk.calls();
        log.maintain();
        let calls = disk.calls() - first;
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(1));
        append_all(&log, &plain_batches()[..2]);
        let first = disk.calls();
        let syncs = [first, first + 3, first + calls - 1];
        disk.inject(Fault { call: syncs[number], kind: FaultKind::FailSync });
        log.maintain();
        assert_eq!(log.failure().is_some(), number != 1, "sync {number}: an index can be written again");
        log.maintain();
        assert_eq!(names(&disk).contains(&"0.index".to_owned()), number > 0, "sync {number}");
    }
}

#[test]
fn what_a_killed_process_left_unsynced_is_synced_before_it_is_read_or_vouched_for() {
    for flush_batches in [0, 1, 5] {
        let config = LogConfig { flush_batches, ..config(100) };
        let batches = [plain_batches(), plain_batches()].concat();
        let offsets = starts(0, &batches);
        let disk = SimDisk::new(1);
        append_all(&open(&disk, &config).0, &batches);
        let disk = disk.restart(Cut::KeepAll);
        let (log, _) = open(&disk, &config);
        assert_holds(&log, &offsets, &batches);
        let disk = if flush_batches == 0 {
            assert!(log.is_unsynced());
            log.close().unwrap();
            disk.restart(Cut::LoseUnsynced)
        } else {
            disk.restart(Cut::LoseUnsynced)
        };
        let (log, findings) = open(&disk, &config);
        assert_eq!(findings, [], "flush_batches {flush_batches}");
        assert_holds(&log, &offsets, &batches);
    }
}

#[test]
fn a_failed_write_leaves_nothing_and_the_next_one_works() {
    let faults = [
        FaultKind::Fail(ErrorKind::Other),
        FaultKind::DiskFull { written: 0 },
        FaultKind::DiskFull { written: 1 },
        FaultKind::DiskFull { written: 30 },
    ];
    for fault in faults {
        for cuts_fail in [false, true] {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk, &config(1_000_000));
            let batches = plain_batches();
            append_all(&log, &batches[..2]);
            fail(&disk, fault);
            if cuts_fail {
                // The cut that follows the write, or the write's second part, fails, too; and the one after it.
                for call in 1..5 {
                    disk.inject(Fault { call: disk.calls() + call, kind: FaultKind::Fail(ErrorKind::Other) });
                }
            }
            let error = try_append(&log, &batches[2]).unwrap_err();
            assert_eq!(
                matches!(error, AppendError::DiskFull(_)),
                matches!(fault, FaultKind::DiskFull { .. }),
                "{error}"
            );
            assert_holds(&log, &starts(0, &batches[..2]), &batches[..2]);
            let mut refused = 0;
            while try_append(&log, &batches[2]).is_err() {
                refused += 1;
                assert!(refused < 5);
            }
            append(&log, &batches[3]);
            assert_holds(&log, &starts(0, &batches), &batches);
            assert_eq!(file(&disk, "0.log"), Some(batches.concat()));
        }
    }
}

/// A later batch that is shorter than what a failed write has left must not have that behind it.
#[test]
fn remains_of_a_failed_write_are_not_behind_a_shorter_batch() {
    let (long, short) = (batch(&[&batch_of(10), &batch_of(10)]), batch_of(1));
    for is_cut_at_once in [true, false] {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(1_000_000));
        append(&log, &short);
        fail(&disk, FaultKind::DiskFull { written: long.len() - 5 });
        if !is_cut_at_once {
            disk.inject(Fault { call: disk.calls() + 2, kind: FaultKind::Fail(ErrorKind::Other) });
        }
        try_append(&log, &long).unwrap_err();
        assert_eq!(file(&disk, "0.log") == Some(short.clone()), is_cut_at_once);
        append(&log, &short);
        assert_eq!(file(&disk, "0.log"), Some(short.repeat(2)));
        drop(log);
        assert_eq!(open(&disk, &config(1_000_000)).1, []);
    }
}

#[test]
fn a_full_disk_refuses_and_a_disk_with_room_takes_again() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &config(200));
    let batches = vec![batch_of(20); 20];
    let mut held = 0;
    for capacity in (0..2500).step_by(50) {
        disk.set_capacity(Some(capacity));
        while held < batches.len() {
            match try_append(&log, &batches[held]) {
                Ok(appended) => {
                    assert_eq!(appended.offset.as_u64(), starts(0, &batches)[held]);
                    held += 1;
                }
                Err(AppendError::DiskFull(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        log.maintain();
        assert_holds(&log, &starts(0, &batches)[..held], &batches[..held]);
    }
    assert_eq!(held, batches.len());
    drop(log);
    let (log, findings) = open(&disk, &config(200));
    assert!(findings.iter().all(|finding| matches!(finding, Finding::IndexRebuilt { .. })), "{findings:?}");
    assert_holds(&log, &starts(0, &batches), &batches);
}

#[test]
fn an_index_on_the_disk_is_of_a_partition_that_is_on_the_disk() {
    let batches: Vec<_> = (0..40).map(|number| batch_of(50 + number)).collect();
    let write = |disk: &SimDisk| {
        // Where the power is gone, nothing comes of it.
        let Ok((log, _)) = Log::open(Arc::new(disk.clone()), Path::new(DIR), config(400)) else { return };
        for batch in &batches {
            let _ = try_append(&log, batch);
            log.maintain();
        }
    };
    let whole = SimDisk::new(1);
    write(&whole);
    let mut indexes = 0;
    for call in 0..whole.calls() {
        let disk = SimDisk::new(call);
        disk.inject(Fault { call, kind: FaultKind::PowerCut });
        write(&disk);
        for cut in [Cut::LoseUnsynced, Cut::Seeded(call)] {
            let disk = disk.restart(cut);
            for entry in disk.list(Path::new(DIR)).unwrap_or_default() {
                let Some(start) = entry.name.strip_suffix(".index") else { continue };
                let partition = format!("{start}.log");
                let context = format!("{partition}, power cut at call {call}, {cut:?}");
                assert!(file(&disk, &partition) == file(&whole, &partition), "{context}");
                indexes += 1;
            }
        }
    }
    assert!(indexes > 100, "{indexes} indexes");
}

#[test]
fn an_error_names_the_file_that_it_is_about() {
    // A rotation creates a partition, and then the batch is written to it.
    for (call, expected) in [(0, "cannot create `topic/60.log`: "), (1, "cannot write to `topic/60.log`: ")] {
        for kind in [FaultKind::Fail(ErrorKind::Other), FaultKind::DiskFull { written: 0 }] {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk, &config(1));
            append(&log, &plain_batches()[0]);
            disk.inject(Fault { call: disk.calls() + call, kind });
            let error = try_append(&log, &plain_batches()[0]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
    let disk = SimDisk::new(1);
    let (log, _) = open(&disk, &synced(1000));
    append(&log, &plain_batches()[0]);
    fail(&disk, FaultKind::FailSync);
    let error = log.sync().unwrap_err().to_string();
    assert!(error.contains("cannot sync `topic/0.log`: "), "{error}");
}
