//! Runs every set that needs nothing but logd, for a moment, and looks whether each figure is there. What the figures are
//! is not looked at: no test asserts a time.

use std::collections::BTreeMap;
use std::process::Command;

use logd_tests::binary;
use serde_json::{Map, Value};

/// The tables, and how many lines each has with the options below.
const TABLES: &[(&str, usize)] = &[
    ("Write", 2),
    ("Read", 2),
    ("Sync", 2),
    ("Sync, one topic, by connections", 2),
    ("Messages", 2),
    ("Latency", 2),
    ("Head", 2),
    ("Memory", 2),
    ("Start", 1),
    ("Scale", 12),
];

#[test]
fn every_figure_is_there() {
    // The floor is beside it already; logd is of another package.
    let logd = binary("logd");
    let program = env!("CARGO_BIN_EXE_side-by-side");
    assert_eq!(logd.parent(), std::path::Path::new(program).parent());
    let output = Command::new(program)
        .args(["--quick", "--json", "--seconds", "0.02", "--start-gb", "0.005"])
        .args(["--only", "write,read,sync,messages,latency,head,memory,scale"])
        .output()
        .expect("`side-by-side` can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`side-by-side` has failed: {said}");

    let mut lines: BTreeMap<String, usize> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let row: Map<String, Value> = serde_json::from_str(line).expect("each line is an object");
        let table = row.get("table").and_then(Value::as_str).expect("each line names its table");
        *lines.entry(table.to_owned()).or_default() += 1;
        for (column, figure) in &row {
            // In a moment less may be done than the clock of processors tells, and of nothing there is no ratio.
            let may_be_missing = column.contains("ten times as much");
            assert!(may_be_missing || is_there(figure), "`{column}` is missing in {line}");
        }
    }
    let expected: BTreeMap<String, usize> =
        TABLES.iter().map(|(table, count)| ((*table).to_owned(), *count)).collect();
    assert_eq!(lines, expected);
}

/// A figure that could not be computed is `null`.
fn is_there(figure: &Value) -> bool {
    match figure {
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(ends) => ends.len() == 2 && ends.iter().all(Value::is_number),
        _ => false,
    }
}
