//! The small commands.

use crate::support::{TestServer, run};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn topics_are_a_table() {
    let server = TestServer::start();
    server.done(&["write", "--topic", "requests", "hello", "world!"], b"");
    let table = text(server.done(&["topics"], b""));
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["TOPIC", "OLDEST", "NEXT", "BYTES", "PARTITIONS"]);
    assert_eq!(rows[1][..3], ["default", "0", "0"]);
    assert_eq!(rows[2][..4], ["requests", "0", "91", "91"]);
}

#[test]
fn head_is_the_next_offset_and_the_number_of_batches() {
    let server = TestServer::start();
    server.done(&["write", "hello", "world!"], b"");
    assert_eq!(text(server.done(&["head"], b"")), "next: 90\nbatches: 1\n");
}

#[test]
fn stats_and_config_are_lines_of_keys_and_values() {
    let server = TestServer::start();
    server.done(&["write", "hello"], b"");
    let stats = text(server.done(&["stats"], b""));
    assert!(stats.lines().any(|line| line == "requests.batch: 1"), "{stats}");
    let config = text(server.done(&["config"], b""));
    assert!(config.lines().any(|line| line == "MaxBatchSize: 65536"), "{config}");
}

#[test]
fn ping_says_ok_and_the_time() {
    let server = TestServer::start();
    let answer = text(server.done(&["ping"], b""));
    let milliseconds = answer.strip_prefix("ok ").and_then(|rest| rest.strip_suffix(" ms\n"));
    assert!(milliseconds.is_some_and(|number| number.parse::<f64>().is_ok()), "{answer:?}");
}

#[test]
fn version_completions_and_help_need_no_server() {
    let nowhere = "127.0.0.1:1";
    let version = run(nowhere, &["version"], b"");
    assert_eq!(text(version.stdout), format!("log-cli {}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let script = run(nowhere, &["completions", shell], b"");
        assert_eq!(script.code, 0);
        assert!(text(script.stdout).contains("log-cli"));
    }
    let help = run(nowhere, &["write", "--help"], b"");
    assert_eq!(help.code, 0);
    assert!(text(help.stdout).contains("130  ended by SIGINT"));
}

#[test]
fn bash_completes_the_options_of_a_subcommand() {
    let script = run("127.0.0.1:1", &["completions", "bash"], b"");
    let ask = "
        COMP_WORDS=(log-cli read --lim); COMP_CWORD=2
        complete=($(complete -p log-cli)); while [[ ${complete[0]} != -F ]]; do complete=(\"${complete[@]:1}\"); done
        ${complete[1]} log-cli --lim read; echo \"${COMPREPLY[@]}\"";
    let shell =
        std::process::Command::new("bash").args(["-c", &(text(script.stdout) + ask)]).output().unwrap();
    assert_eq!(text(shell.stdout), "--limit\n", "{}", text(shell.stderr));
}

#[test]
fn verbose_tells_on_standard_error_what_is_done() {
    let server = TestServer::start();
    assert_eq!(server.cli(&["read"], b"").stderr, "");
    let verbose = server.cli(&["read", "--verbose"], b"");
    assert!(verbose.stderr.contains("the server is there"), "{}", verbose.stderr);
    assert_eq!((verbose.code, verbose.stdout), (0, Vec::new()));
}
