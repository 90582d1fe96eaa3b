//! What a process uses.

use std::fs;
use std::time::Duration;

/// A process at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Its physical memory.
    pub resident_kib: u64,
    /// Its open files and sockets.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
    /// The time of a processor that it has had, in steps of 10 ms.
    pub cpu: Duration,
}

impl Usage {
    /// Of the process `pid`.
    ///
    /// # Panics
    /// When it is not there.
    pub fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a status has it");
            line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("it is a number")
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is there").count();
        Self {
            resident_kib: number("VmRSS:"),
            descriptors: descriptors as u64,
            threads: number("Threads:"),
            cpu: cpu_of(pid),
        }
    }
}

/// The time in user and in kernel mode, which the kernel tells in hundredths of a second.
fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is there");
    // Behind the name, which can hold anything, in parentheses.
    let words: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks =
        |index: usize| words.get(index).and_then(|word| word.parse::<u64>().ok()).expect("it is told");
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
