//! Every call fails once.

use std::io::ErrorKind;

use logd_server::disk::{Cut, Fault, FaultKind};

use crate::topic::disk;
use crate::workload::{OnError, SEEDS, Workload, check_restarted};

/// Runs the workload with one fault at every call in turn and checks what is left, then and after a power cut.
/// Returns in how many of the runs an append, a sync and an open have failed.
fn fail_every_call(kind: FaultKind) -> [usize; 3] {
    let mut failed = [0; 3];
    for (seed, call) in
        SEEDS.into_iter().flat_map(|seed| (0..Workload::calls(seed)).map(move |call| (seed, call)))
    {
        let disk = disk(call);
        disk.inject(Fault { call: disk.calls() + call, kind });
        let mut workload = Workload::new(seed, disk, OnError::GoOn, Cut::Seeded(call));
        workload.run();
        let context = format!("workload {seed}, {kind:?} at call {call}");
        let (disk, journal) = (&workload.disk, &workload.journal);
        assert!(journal.acknowledged.len() > 20, "{context}: the workload goes on");
        let errors = [journal.append_errors, journal.sync_errors, journal.open_errors];
        assert!(errors.iter().sum::<usize>() <= 1, "{context}: one fault is one error");
        for cut in [Cut::KeepAll, Cut::LoseUnsynced, Cut::Seeded(call)] {
            check_restarted(&disk.restart(cut), journal, &format!("{context}, then {cut:?}"));
        }
        for (count, errors) in failed.iter_mut().zip(errors) {
            *count += errors;
        }
    }
    failed
}

#[test]
fn any_read_can_fail_once() {
    let mut failed_opens = 0;
    for (seed, read) in
        SEEDS.into_iter().flat_map(|seed| (0..Workload::reads(seed)).map(move |read| (seed, read)))
    {
        let disk = disk(read);
        disk.fail_read(disk.reads() + read);
        let mut workload = Workload::new(seed, disk, OnError::GoOn, Cut::Seeded(read));
        workload.run();
        let context = format!("workload {seed}, read {read} fails");
        let (disk, journal) = (&workload.disk, &workload.journal);
        assert!(journal.acknowledged.len() > 20, "{context}: the workload goes on");
        assert!(journal.append_errors + journal.sync_errors <= 1, "{context}: one fault is one error");
        for cut in [Cut::KeepAll, Cut::LoseUnsynced] {
            check_restarted(&disk.restart(cut), journal, &format!("{context}, then {cut:?}"));
        }
        failed_opens += journal.open_errors;
    }
    assert!(failed_opens > 20, "{failed_opens} opens");
}

#[test]
fn any_call_can_fail_once() {
    let [appends, syncs, opens] = fail_every_call(FaultKind::Fail(ErrorKind::Other));
    assert!(appends > 25 && syncs > 12 && opens > 5, "{appends} appends, {syncs} syncs, {opens} opens");
}

#[test]
fn any_sync_can_fail_once() {
    let [appends, syncs, _] = fail_every_call(FaultKind::FailSync);
    assert!(appends == 0 && syncs > 12, "{appends} appends, {syncs} syncs");
}

#[test]
fn the_disk_can_be_full_at_any_call() {
    for written in [0, 1, 100] {
        let [appends, _, _] = fail_every_call(FaultKind::DiskFull { written });
        assert!(appends > 20, "{appends} appends");
    }
}

#[test]
fn a_write_that_is_cut_short_is_continued() {
    assert_eq!(fail_every_call(FaultKind::ShortWrite { written: 3 }), [0; 3]);
}
