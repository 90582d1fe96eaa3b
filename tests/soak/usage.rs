//! Whether what a process uses grows.

use logd_tests::Usage;

type Figure = (&'static str, fn(&Usage) -> u64, u64);

/// The last quarter uses no more than the second one, but for a little: the first is there to warm up.
pub(crate) fn expect_flat(name: &str, usages: &[Usage]) {
    let quarter = usages.len() / 4;
    assert!(quarter >= 2, "there are {} looks at {name}", usages.len());
    let median = |part: &[Usage], figure: fn(&Usage) -> u64| {
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
