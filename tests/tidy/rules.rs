//! Rules of the source, a row each.

use crate::code::{has_path, has_word};
use crate::{Source, sources};

/// Files may be longer than this only if they are in [`LONG_FILES`].
const LINES_MAX: usize = 500;

/// Files that are longer, each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// A rule, and what shows that it works.
struct Rule {
    /// What must hold, as a sentence.
    name: &'static str,
    is_broken: fn(&Source) -> bool,
    /// Path and text that break it.
    bad: (&'static str, &'static str),
    /// Path and text that do not, though they look like it.
    good: (&'static str, &'static str),
}

const RULES: &[Rule] = &[
    Rule {
        name: "the protocol knows no runtime and no sockets",
        is_broken: |source| {
            source.path.starts_with("protocol/src/")
                && (has_word(&source.code, "tokio") || has_path(&source.code, "std", "net"))
        },
        bad: ("protocol/src/line.rs", "use tokio::net::TcpStream;"),
        good: ("protocol/src/line.rs", "//! Knows nothing of tokio.\nuse std::io;"),
    },
    Rule {
        name: "the storage engine knows no runtime and no sockets",
        is_broken: |source| {
            source.path.starts_with("server/src/log/")
                && (has_word(&source.code, "tokio") || has_path(&source.code, "std", "net"))
        },
        bad: ("server/src/log/writer.rs", "use std::{io, net::TcpStream};"),
        good: ("server/src/log/writer.rs", "use std::io;\nconst NAME: &str = \"tokio\";"),
    },
    Rule {
        name: "the storage engine knows nothing of the connections above it",
        is_broken: |source| {
            source.path.starts_with("server/src/log/")
                && ["connection", "control", "server", "topics", "shutdown"]
                    .iter()
                    .any(|module| has_path(&source.code, "crate", module))
        },
        bad: ("server/src/log/writer.rs", "use crate::connection::Connection;"),
        good: ("server/src/log/writer.rs", "use crate::disk::Disk;"),
    },
    Rule {
        name: "only args.rs knows clap",
        is_broken: |source| {
            let is_args = source.path.ends_with("/args.rs") || source.path.contains("/args/");
            !is_args && (has_word(&source.code, "clap") || has_word(&source.code, "clap_complete"))
        },
        bad: ("cli/src/main.rs", "use clap::Parser;"),
        good: ("cli/src/args.rs", "use clap::Parser;"),
    },
    Rule {
        name: "only disk/os.rs, the stores in files, certificates, the spool, the CLI, examples, benches and tests touch files",
        is_broken: |source| {
            let homes = [
                "server/src/disk/os.rs",
                "statehandlers/src/file/",
                "statehandlers/src/sqlite/place.rs",
                "statehandlers/src/redis/settings.rs",
                "client/src/spool/",
                "cli/",
                "examples/",
                "benches/",
            ];
            let may = source.is_test() || homes.iter().any(|home| source.path.starts_with(home));
            let touches = ["std", "tokio"].iter().any(|root| has_path(&source.code, root, "fs"));
            !may && touches
        },
        bad: ("server/src/log/writer.rs", "use std::{fs::File, io};"),
        good: ("server/src/disk/os.rs", "use std::fs::File;"),
    },
    Rule {
        name: "a database is known to its one folder, and to examples and benches",
        is_broken: |source| {
            let homes = [
                ("rusqlite", "statehandlers/src/sqlite"),
                ("redis", "statehandlers/src/redis"),
                ("tokio_postgres", "statehandlers/src/postgres"),
                ("deadpool_postgres", "statehandlers/src/postgres"),
            ];
            // The crate that has the stores names their modules as it likes.
            let may = source.is_test()
                || source.path.starts_with("examples/")
                || source.path.starts_with("benches/")
                || source.path == "statehandlers/src/lib.rs";
            !may && homes.iter().any(|(driver, home)| {
                source.code.contains(&format!("{driver}::")) && !source.path.starts_with(home)
            })
        },
        bad: ("client/src/lib.rs", "use rusqlite::Connection;"),
        good: ("statehandlers/src/sqlite.rs", "use rusqlite::Connection;"),
    },
    Rule {
        name: "what server and client do depends on no chance that a simulation cannot decide",
        is_broken: |source| {
            let is_part = source.path.starts_with("server/src/") || source.path.starts_with("client/src/");
            // The process waits for the signals that come, in whatever order.
            let may = source.is_test() || source.path == "server/src/main.rs";
            let is_fair = source.code.split("select!").skip(1).any(|rest| {
                let inner = rest.trim_start().trim_start_matches(['{', '(']).trim_start();
                !inner.starts_with("biased")
            });
            let is_watch = source.path.starts_with("server/src/") && source.code.contains("sync::watch");
            is_part && !may && (is_fair || is_watch)
        },
        bad: ("server/src/server.rs", "tokio::select! {\n    () = one => {}\n    () = other => {}\n}"),
        good: ("client/src/writer/row.rs", "tokio::select! {\n    biased;\n    () = one => {}\n}"),
    },
    Rule {
        name: "nothing is left to do",
        is_broken: |source| {
            ["todo", "unimplemented"].iter().any(|word| {
                source.code.match_indices(word).any(|(at, _)| {
                    source.code.get(at + word.len()..).is_some_and(|rest| rest.starts_with('!'))
                })
            })
        },
        bad: ("server/src/main.rs", "fn main() { todo!() }"),
        good: ("server/src/main.rs", "//! No todo!() here.\nfn main() { todo() }"),
    },
    Rule {
        name: "lints are expected with a reason, never allowed",
        is_broken: |source| source.code.contains("[allow("),
        bad: ("server/src/main.rs", "#![allow(dead_code)]"),
        good: ("server/src/main.rs", "#![expect(dead_code, reason = \"[allow(\")]"),
    },
    Rule {
        name: "no test is left out",
        is_broken: |source| source.code.contains("#[ignore"),
        bad: ("server/src/log/tests.rs", "#[test]\n#[ignore]\nfn a() {}"),
        good: ("server/src/log/tests.rs", "#[test]\nfn ignore() {}"),
    },
    Rule {
        name: "a file has at most 500 lines, or a reason to have more",
        is_broken: |source| {
            let has_reason = LONG_FILES.iter().any(|(path, _)| *path == source.path);
            source.text.lines().count() > LINES_MAX && !has_reason
        },
        bad: ("server/src/main.rs", LONG_TEXT),
        good: ("server/src/main.rs", LONGEST_TEXT),
    },
    Rule {
        name: "a file opens with what it is",
        is_broken: |source| !source.text.starts_with("//! ") && !source.path.ends_with("tests.rs"),
        bad: ("server/src/main.rs", "use std::io;\n//! Something."),
        good: ("server/src/main.rs", "//! Something.\nuse std::io;"),
    },
];

/// 501 lines.
const LONG_TEXT: &str = lines(&[b'\n'; LINES_MAX + 1]);

/// 500 lines.
const LONGEST_TEXT: &str = lines(&[b'\n'; LINES_MAX]);

const fn lines(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => "",
    }
}

#[test]
fn every_rule_holds() {
    let sources = sources();
    let broken: Vec<String> = RULES
        .iter()
        .flat_map(|rule| {
            let broken = sources.iter().filter(|source| (rule.is_broken)(source));
            broken.map(|source| format!("`{}`: {}", source.path, rule.name))
        })
        .collect();
    assert!(broken.is_empty(), "rules are broken:\n{}", broken.join("\n"));
}

#[test]
fn every_rule_can_fail() {
    for rule in RULES {
        let (bad, good) = (Source::new(rule.bad.0, rule.bad.1), Source::new(rule.good.0, rule.good.1));
        assert!((rule.is_broken)(&bad), "the bad sample does not break: {}", rule.name);
        assert!(!(rule.is_broken)(&good), "the good sample breaks: {}", rule.name);
    }
}

#[test]
fn every_long_file_is_there_and_long() {
    let sources = sources();
    for (path, reason) in LONG_FILES {
        assert!(!reason.is_empty(), "`{path}` has no reason");
        let source = sources.iter().find(|source| source.path == *path);
        let lines = source.map_or(0, |source| source.text.lines().count());
        assert!(lines > LINES_MAX, "`{path}` need not be on the list: it has {lines} lines");
    }
}
