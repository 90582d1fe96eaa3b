//! What thousands of connections cost with which nothing happens.

use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use logd_tests::{BOUND, Usage, wait_until};

use crate::{ALONE, crowd, has_descriptors, server};

const CLIENTS: usize = 2000;
const TIME: Duration = Duration::from_secs(2);
/// A fortieth of a processor.
const CPU_MAX: Duration = Duration::from_millis(50);

#[test]
fn waiting_readers_cost_no_processor() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !has_descriptors(CLIENTS) {
        return;
    }
    let server = server(CLIENTS + 20);
    let app = crowd("waiting", &server, CLIENTS);
    wait_until("all of them wait", BOUND, || server.peer().stats().count("requests.read") >= CLIENTS as u64);
    let before = Usage::of(server.pid());
    thread::sleep(TIME);
    let cpu = Usage::of(server.pid()).cpu.saturating_sub(before.cpu);
    eprintln!("{CLIENTS} waiting readers: {cpu:?} of a processor in {TIME:?}");
    drop(app);
    assert!(cpu <= CPU_MAX, "{cpu:?} in {TIME:?}");
}
