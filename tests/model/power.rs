//! The power goes at every call.

use logd_server::disk::{Cut, Fault, FaultKind};

use crate::topic::{disk, try_open};
use crate::workload::{OnError, SEEDS, Workload, check_restarted, config};

/// How many seeded cuts are tried at every call.
const CUTS: u64 = 6;

fn cuts() -> impl Iterator<Item = Cut> {
    [Cut::KeepAll, Cut::LoseUnsynced].into_iter().chain((0..CUTS).map(Cut::Seeded))
}

/// The workload until the power goes at the call `call`.
fn cut_at(seed: u64, call: u64) -> Workload {
    let disk = disk(call);
    disk.inject(Fault { call: disk.calls() + call, kind: FaultKind::PowerCut });
    let mut workload = Workload::new(seed, disk, OnError::Stop, Cut::LoseUnsynced);
    workload.run();
    workload
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_call() {
    for (seed, call) in
        SEEDS.into_iter().flat_map(|seed| (0..Workload::calls(seed)).map(move |call| (seed, call)))
    {
        let workload = cut_at(seed, call);
        for cut in cuts() {
            let context = format!("workload {seed}, power cut at call {call}, {cut:?}");
            check_restarted(&workload.disk.restart(cut), &workload.journal, &context);
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_second_power_cut_while_it_is_recovered() {
    let seed = SEEDS[0];
    for call in (0..Workload::calls(seed)).step_by(3) {
        let workload = cut_at(seed, call);
        let cut = Cut::Seeded(call);
        for second in 0.. {
            let disk = workload.disk.restart(cut);
            disk.inject(Fault { call: second, kind: FaultKind::PowerCut });
            let is_open = try_open(&disk, &config()).is_ok();
            for cut in [Cut::LoseUnsynced, Cut::Seeded(second)] {
                let context =
                    format!("power cut at call {call}, {cut:?}, again at call {second} of the start");
                check_restarted(&disk.restart(cut), &workload.journal, &context);
            }
            if is_open {
                break;
            }
        }
    }
}
