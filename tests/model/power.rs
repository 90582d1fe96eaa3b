//! The power goes at every call.

use logd_server::disk::{Cut, Fault, FaultKind};

use crate::topic::{disk, try_open};
use crate::workload::{OnError, Workload, check_restarted, config};

/// How many seeded cuts are tried at every call.
const SEEDS: u64 = 6;

fn cuts() -> impl Iterator<Item = Cut> {
    [Cut::KeepAll, Cut::LoseUnsynced].into_iter().chain((0..SEEDS).map(Cut::Seeded))
}

/// The workload until the power goes at the call `call`.
fn cut_at(call: u64) -> Workload {
    let disk = disk(call);
    disk.inject(Fault { call: disk.calls() + call, kind: FaultKind::PowerCut });
    let mut workload = Workload::new(disk, OnError::Stop, Cut::LoseUnsynced);
    workload.run();
    workload
}

fn calls() -> u64 {
    let mut workload = Workload::new(disk(1), OnError::Stop, Cut::LoseUnsynced);
    workload.run();
    let calls = workload.disk.calls();
    assert!(calls > 150 && workload.journal.acknowledged.len() > 25, "{calls} calls");
    calls
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_call() {
    for call in 0..calls() {
        let workload = cut_at(call);
        for cut in cuts() {
            let context = format!("power cut at call {call}, {cut:?}");
            check_restarted(&workload.disk.restart(cut), &workload.journal, &context);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_second_power_cut_while_it_is_recovered() {
    for call in (0..calls()) {
        let workload = cut_at(call);
        let cut = Cut::Seeded(call);
        for second in 0.. {
            let disk = workload.disk.restart(cut);
            disk.inject(Fault { call: second, kind: FaultKind::PowerCut });
            let is_open = try_open(&disk, &config()).is_ok();
            for cut in [Cut::LoseUnsynced, Cut::Seeded(second)] {
                let context = format!("power cut at call {call}, {cut:?}, again at call {second} of the start");
                check_restarted(&disk.restart(cut), &workload.journal, &context);
            }
            if is_open {
                break;
            }
        }
    }
}
