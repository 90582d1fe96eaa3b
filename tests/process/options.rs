//! The command line: what is refused, and how.

use std::process::Command;

use logd_tests::{BOUND, binary, run};

use crate::refusal;

/// Exit code for a command line that cannot be meant.
const USAGE: i32 = 2;

#[test]
fn impossible_values_are_refused_by_name() {
    let impossible: &[(&str, &[&str])] = &[
        ("--host", &["", "nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x"]),
        ("--timeout", &["0s", "-1s", "x", "15", "", "999999999999999999999s", "48h"]),
        ("--idle-timeout", &["0s", "-1s", "x"]),
        ("--shutdown-timeout", &["0s", "-1s", "x"]),
        ("--workdir", &[""]),
        ("--file-mode", &["0", "999", "rw", "01777", "0444"]),
        ("--batch-size", &["0", "10", "511", "-1", "x", "67108865", "18446744073709551616", "64 parsecs"]),
        ("--partition-size", &["0", "1000", "-1", "x", "18446744073709551616"]),
        ("--partitions", &["0", "-1", "x", "100001"]),
        ("--flush-batches", &["-1", "x", "1000001"]),
        ("--flush-interval", &["0s", "x", "-2"]),
        ("--max-messages", &["0", "-1", "x", "18446744073709551616"]),
        ("--topics", &["-1", "x", "100001"]),
        ("--topics-whitelist", &["../x", "a,b/c", ".hidden"]),
        ("--max-connections", &["0", "-1", "x", "1000001"]),
    ];
    let folder = tempfile::tempdir().expect("a directory can be made");
    let workdir = folder.path().to_str().expect("the paths of tests are text");
    for (option, values) in impossible {
        for value in *values {
            // Should the value be taken, the server must not be in the way of others.
            let harmless = ["--host", "127.0.0.1:0", "--workdir", workdir];
            let harmless = harmless.chunks(2).filter(|pair| pair.first() != Some(option)).flatten();
            let given = format!("{option}={value}");
            let arguments: Vec<&str> = harmless.copied().chain([given.as_str()]).collect();
            let refused = refusal(&arguments, USAGE);
            let name = option.trim_start_matches('-');
            assert!(refused.stderr.contains(name), "`{given}`: it said:\n{}", refused.stderr);
        }
    }
}

#[test]
fn unknown_option_is_refused_by_name() {
    assert!(refusal(&["--nope"], USAGE).stderr.contains("--nope"));
    assert!(refusal(&["word"], USAGE).stderr.contains("word"));
}

#[test]
fn option_without_its_value_is_refused_by_name() {
    assert!(refusal(&["--batch-size"], USAGE).stderr.contains("--batch-size"));
}

#[test]
fn help_names_every_option_with_its_default() {
    let help = run("logd", &["--help"], BOUND);
    assert_eq!(help.code(), Some(0));
    let text = String::from_utf8(help.stdout).expect("a help is text");
    let options = [
        ("--host", "127.0.0.1:1774"),
        ("--timeout", "15s"),
        ("--idle-timeout", "30s"),
        ("--shutdown-timeout", "15s"),
        ("--workdir", "logs/"),
        ("--file-mode", "0600"),
        ("--batch-size", "65536"),
        ("--partition-size", "2097152000"),
        ("--partitions", "8"),
        ("--flush-batches", "0"),
        ("--flush-interval", "-1"),
        ("--max-messages", "50000"),
        ("--topics", "8"),
        ("--topics-whitelist", "default"),
        ("--max-connections", "4096"),
    ];
    for (option, default) in options {
        let (_, description) =
            text.split_once(&format!("{option} ")).unwrap_or_else(|| panic!("the help has no `{option}`"));
        let description = description.split("\n      --").next().unwrap_or_default();
        assert!(
            description.contains(default),
            "the help of `{option}` does not say `{default}`: {description}"
        );
    }
}

#[test]
fn version_is_a_line() {
    let version = run("logd", &["--version"], BOUND);
    assert_eq!(version.code(), Some(0));
    let text = String::from_utf8(version.stdout).expect("a version is text");
    assert!(text.starts_with("logd ") && text.lines().count() == 1, "it said `{text}`");
}

#[test]
fn help_into_a_closed_pipe_is_no_crash() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let help =
        Command::new(binary("logd")).arg("--help").stdout(writer).output().expect("`logd` can be started");
    let said = String::from_utf8_lossy(&help.stderr);
    assert!(help.status.code().is_some(), "a signal ended it: {}", help.status);
    assert!(!said.contains("panicked"), "it said:\n{said}");
}
