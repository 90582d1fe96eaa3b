//! What a process uses, and whether that grows.

use std::fs;

/// A process at a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    resident_kib: u64,
    descriptors: u64,
    threads: u64,
}

type Figure = (&'static str, fn(&Usage) -> u64, u64);

impl Usage {
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a status has it");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("it is a number")
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there").count();
        Self { resident_kib: number("VmRSS:"), descriptors: descriptors as u64, threads: number("Threads:") }
    }

    /// The last quarter uses no more than the second one, but for a little: the first is there to warm up.
    pub(crate) fn expect_flat(name: &str, usages: &[Self]) {
        let quarter = usages.len() / 4;
        assert!(quarter >= 2, "there are {} looks at {name}", usages.len());
        let median = |part: &[Self], figure: fn(&Self) -> u64| {
            let mut figures: Vec<u64> = part.iter().map(figure).collect();
            figures.sort_unstable();
            figures.get(figures.len() / 2).copied().expect("there are some")
        };
        let early = usages.get(quarter..2 * quarter).expect("there are enough");
        let late = usages.get(usages.len() - quarter..).expect("there are enough");
        // What is looked at, and how much more of it is none.
        let figures: [Figure; 3] = [
            ("KiB resident", |usage| usage.resident_kib, 4096),
            ("descriptors", |usage| usage.descriptors, 16),
            ("threads", |usage| usage.threads, 8),
        ];
        for (what, figure, more) in figures {
            let (early, late) = (median(early, figure), median(late, figure));
            eprintln!("{name}: {early} {what} in the second quarter, {late} in the last");
            assert!(late <= early + early / 4 + more, "{name}: {late} {what}, {early} before");
        }
    }
}
