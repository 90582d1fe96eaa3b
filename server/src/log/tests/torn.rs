//! Head partitions that a crash has torn.

use super::*;
use crate::disk::{Fault, FaultKind};
use crate::log::AppendError;

/// How many of the batches are whole in the first `bytes` bytes of them.
fn whole(batches: &[Vec<u8>], bytes: usize) -> usize {
    let ends = starts(0, batches).into_iter().zip(batches).map(|(start, batch)| start + batch.len() as u64);
    ends.take_while(|end| *end <= bytes as u64).count()
}

/// Opens what is torn, checks what was cut, appends, and opens again.
fn check_torn(disk: &SimDisk, batches: &[Vec<u8>], torn: &[u8], torn_files: &str) {
    let count = whole(batches, torn.len());
    let kept = batches[..count].concat().len();
    let (log, findings) = open(disk, &config(1_000_000));
    if kept < torn.len() {
        let kept_in = Path::new(DIR).join(torn_files);
        let bytes = (torn.len() - kept) as u64;
        assert_eq!(findings, [Finding::TornTail { offset: kept as u64, bytes, kept_in }]);
        assert_eq!(file(disk, torn_files).as_deref(), Some(&torn[kept..]));
    } else {
        assert_eq!(findings, []);
    }
    assert_eq!(file(disk, "0.log").as_deref(), Some(&torn[..kept]));
    let mut held = batches[..count].to_vec();
    held.push(batch(&[b"appended"]));
    assert_eq!(append(&log, held.last().unwrap()), kept as u64);
    assert_holds(&log, &starts(0, &held), &held);
    drop(log);
    let (log, findings) = open(disk, &config(1_000_000));
    assert_eq!(findings, [], "the second open finds nothing");
    assert_holds(&log, &starts(0, &held), &held);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_kept() {
    for batches in [plain_batches(), nesting_batches()] {
        let all = batches.concat();
        for cut in 0..=all.len() {
            let disk = SimDisk::new(1);
            put(&disk, "0.log", &all[..cut]);
            check_torn(
                &disk,
                &batches,
                &all[..cut],
                &format!("{}.torn", batches[..whole(&batches, cut)].concat().len()),
            );
        }
    }
}

#[test]
fn a_tail_torn_behind_what_an_index_knows_is_cut_and_kept() {
    for batches in [plain_batches(), nesting_batches()] {
        let all = batches.concat();
        let known = batches[..2].concat().len();
        for cut in known..=all.len() {
            let disk = SimDisk::new(1);
            let (log, _) = open(&disk, &config(1_000_000));
            append_all(&log, &batches[..2]);
            log.close().unwrap();
            drop(log);
            put(&disk, "0.log", &all[..cut]);
            check_torn(
                &disk,
                &batches,
                &all[..cut],
                &format!("{}.torn", batches[..whole(&batches, cut)].concat().len()),
            );
        }
    }
}

#[test]
fn a_tail_that_is_shorter_than_its_index_says_is_read_anew() {
    let batches = nesting_batches();
    let all = batches.concat();
    for cut in 0..all.len() {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(1_000_000));
        append_all(&log, &batches);
        log.close().unwrap();
        drop(log);
        put(&disk, "0.log", &all[..cut]);
        check_torn(
            &disk,
            &batches,
            &all[..cut],
            &format!("{}.torn", batches[..whole(&batches, cut)].concat().len()),
        );
        assert!(
            !names(&disk).contains(&"0.index".to_owned()),
            "an index that is wrong now must not fit one day"
        );
    }
}

#[test]
fn zeros_at_the_end_are_cut() {
    for batches in [plain_batches(), nesting_batches()] {
        let all = batches.concat();
        for cut in 0..all.len() {
            let count = whole(&batches, cut);
            let disk = SimDisk::new(1);
            // The file has got its new length, but of the last batches only a part.
            let mut torn = all[..cut].to_vec();
            torn.resize(all.len() + 100, 0);
            put(&disk, "0.log", &torn);
            let (log, findings) = open(&disk, &config(1_000_000));
            assert_eq!(findings.len(), 1, "cut at {cut}");
            let held = &batches[..count];
            // The only byte of a batch that can be lost and be zero: none. So what is whole is what was before the cut.
            assert_eq!(end(&log), held.concat().len() as u64, "cut at {cut}");
            assert_holds(&log, &starts(0, held), held);
        }
    }
}

#[test]
fn tails_cut_at_the_same_offset_are_kept_apart() {
    let disk = SimDisk::new(1);
    for (number, name) in ["0.torn", "0.1.torn", "0.2.torn"].into_iter().enumerate() {
        let torn = format!("BATCH {number}");
        put(&disk, "0.log", torn.as_bytes());
        open(&disk, &config(100));
        assert_eq!(file(&disk, name).as_deref(), Some(torn.as_bytes()));
    }
    assert_eq!(names(&disk), ["0.1.torn", "0.2.torn", "0.log", "0.torn"]);
}

#[test]
fn a_tail_that_cannot_be_kept_is_not_cut() {
    let disk = SimDisk::new(1);
    let torn = [&batch_of(20)[..], &vec![b'x'; 3000]].concat();
    put(&disk, "0.log", &torn);
    disk.set_capacity(Some(torn.len() as u64 + 1000));
    let error = Log::open(Arc::new(disk.clone()), Path::new(DIR), config(100)).unwrap_err();
    assert!(error.to_string().contains("cannot be set aside"), "{error}");
    assert_eq!(names(&disk), ["0.log"], "half a copy is not left behind");
    assert_eq!(file(&disk, "0.log"), Some(torn));
    disk.set_capacity(None);
    let (_, findings) = open(&disk, &config(100));
    assert!(matches!(findings[..], [Finding::TornTail { bytes: 3000, .. }]), "{findings:?}");
}

#[test]
fn what_a_failed_write_has_left_never_becomes_a_batch() {
    let (first, short, inner) = (batch_of(20), batch_of(200), batch(&[b"inner"]));
    // A message with a whole batch in it, which lies behind the shorter batch that is stored in its place.
    let outer = (0..short.len())
        .map(|filler| batch(&[&[&vec![b'f'; filler], &inner[..], b" and more"].concat()]))
        .find(|outer| memchr::memmem::rfind(outer, b"BATCH ") == Some(short.len()))
        .unwrap();
    for written in [outer.len() - 1, short.len() + inner.len()] {
        let disk = SimDisk::new(1);
        let (log, _) = open(&disk, &config(1_000_000));
        append(&log, &first);
        disk.inject(Fault { call: disk.calls(), kind: FaultKind::DiskFull { written } });
        assert!(matches!(try_append(&log, &outer), Err(AppendError::DiskFull(_))));
        append(&log, &short);
        // Killed: nothing more is done.
        drop(log);
        let (log, findings) = open(&disk, &config(1_000_000));
        assert_eq!(findings, [], "{written} bytes were left");
        let held = [first.clone(), short.clone()];
        assert_eq!(end(&log), held.concat().len() as u64, "{written} bytes were left");
        assert_holds(&log, &starts(0, &held), &held);
    }
}
