//! What is wrong is told: checkpoints that cannot be read or do not fit, stores that are not there, secrets that are not.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use logd_cli::Exit;
use logd_client::{Anchor, Checkpoint};

use super::{NOWHERE, Store, cells, file_of, first_crc, json, key, orders, position};
use crate::support::{Finished, TestServer, command, run};

const DAMAGED: i32 = Exit::Damaged.code() as i32;

fn text(finished: &Finished) -> &str {
    std::str::from_utf8(&finished.stdout).unwrap()
}

#[test]
fn unreadable_ones_are_told_and_only_replaced_if_told() {
    let server = TestServer::start();
    orders(&server);
    let store = Store::file();
    let (billing, mail) = (key("default", "orders", "billing"), key("default", "orders", "mail"));
    store.put(&billing, &Checkpoint::at(position("0")));
    store.put(&mail, &Checkpoint::at(position("0")));
    let file = file_of(&store, "default/orders/billing.ckpt");
    fs::write(&file, "").unwrap();

    let listed = store.cli(NOWHERE, &["ls"]);
    assert_eq!(listed.code, DAMAGED);
    let lines: Vec<&str> = text(&listed).lines().collect();
    assert_eq!(cells(lines[1])[..2], ["default/orders/mail", "0.0"]);
    assert!(lines[2].starts_with("default/orders/billing  unreadable: "), "{}", lines[2]);
    let objects = json(text(&store.cli(NOWHERE, &["ls", "--json"])));
    assert!(objects[0]["error"].is_string() && objects[1]["error"].is_null(), "{objects:?}");
    store.cli(NOWHERE, &["show", "orders/billing"]).failed_with(Exit::Damaged);
    for command in ["lag", "verify"] {
        let told = store.cli(&server.host(), &[command]);
        assert_eq!(told.code, DAMAGED);
        assert!(text(&told).lines().nth(1).unwrap().contains("unreadable: "), "{}", text(&told));
        assert_eq!(store.cli(&server.host(), &[command, "orders/mail"]).code, 0);
    }
    let refused = store.cli(&server.host(), &["set", "orders/billing", "0"]);
    assert!(refused.failed_with(Exit::Damaged).contains("`--force`"), "{}", refused.stderr);
    assert_eq!(fs::read(&file).unwrap(), b"");
    let reset = store.done(&server.host(), &["reset", "orders/billing", "--to", "earliest", "--yes"]);
    assert_eq!(reset, "default/orders/billing: unreadable -> 0.0\n");
    assert_eq!(store.cli(NOWHERE, &["ls"]).code, 0);
    fs::write(&file, "").unwrap();
    store.done(NOWHERE, &["set", "orders/billing", "7", "--force"]);
    assert_eq!(store.stored(&billing).unwrap().next, position("7"));
}

#[test]
fn checkpoints_that_do_not_fit_are_told() {
    let server = TestServer::start();
    let positions = orders(&server);
    let crc = first_crc(&server);
    let anchored = |text: &str, offset: &str, crc| {
        let mut checkpoint = Checkpoint::at(position(text));
        checkpoint.anchor = Some(Anchor { offset: position(offset).offset, crc });
        checkpoint
    };
    let (third, end) = (positions[2].as_str(), positions[4].as_str());
    for (name, checkpoint, verdict, finding) in [
        ("orders/good", anchored(third, "0", crc), "ok", ""),
        ("orders/end", anchored(end, "0", crc), "ok", ""),
        ("orders/anchor", anchored(third, "0", crc ^ 1), "other", "another topic: its batch at `0` has the"),
        ("orders/between", anchored(third, "1", crc), "other", "another topic: no batch begins at `1`"),
        ("orders/beyond", Checkpoint::at(position("9999")), "other", "another topic: it ends at `"),
        (
            "orders/message",
            Checkpoint::at(position("0.1")),
            "misplaced",
            "misplaced: no message starts at `0.1`",
        ),
        ("orders/batch", Checkpoint::at(position("1")), "misplaced", "misplaced: no message starts at `1.0`"),
        ("gone/reader", Checkpoint::at(position("7")), "other", "another topic: it is not there"),
        ("later/reader", Checkpoint::at(position("0")), "ok", ""),
    ] {
        let (topic, consumer) = name.split_once('/').unwrap();
        let store = Store::sqlite();
        store.put(&key("default", topic, consumer), &checkpoint);
        check(&server, &store, name, verdict, finding);
    }
}

/// Checks what `lag` and `verify` tell of a checkpoint, to people and to programs.
fn check(server: &TestServer, store: &Store, name: &str, verdict: &str, finding: &str) {
    let is_good = verdict == "ok";
    for command in ["lag", "verify"] {
        let told = store.cli(&server.host(), &[command, name]);
        assert_eq!(told.code, if is_good { 0 } else { DAMAGED }, "{name}: {command}: {}", told.stderr);
        let line = text(&told).lines().nth(1).unwrap();
        assert!(line.contains(finding), "{name}: {command}: {line}");
        assert_eq!(line.contains(": "), !is_good, "{name}: {command}: {line}");
        let object = json(text(&store.cli(&server.host(), &[command, name, "--json"]))).remove(0);
        assert_eq!((&object["verdict"], object["finding"].is_null()), (&verdict.into(), is_good), "{object}");
    }
}

#[test]
fn damage_on_the_servers_disk_does_not_make_it_another_topic() {
    // In the body, which the server does not look at, and in the envelope, which it does.
    for (from, to) in [("one", "ONE"), ("BATCH", "BUTCH")] {
        let server = TestServer::start();
        let positions = orders(&server);
        let mut checkpoint = Checkpoint::at(position(&positions[2]));
        checkpoint.anchor = Some(Anchor { offset: position("0").offset, crc: first_crc(&server) });
        let store = Store::file();
        store.put(&key("default", "orders", "billing"), &checkpoint);
        store.put(&key("default", "orders", "new"), &Checkpoint::default());
        check(&server, &store, "orders/billing", "ok", "");
        let path = server.partition("orders");
        let bytes = fs::read(&path).unwrap();
        let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(to.as_bytes(), place as u64).unwrap();
        check(
            &server,
            &store,
            "orders/billing",
            "damaged",
            "damaged: its batch at `0` cannot be read any more",
        );
        check(&server, &store, "orders/new", "damaged", "damaged: its batch at `0` cannot be read any more");
    }
}

#[test]
fn topic_that_is_not_there_is_no_place_for_a_checkpoint() {
    let server = TestServer::start();
    let store = Store::sqlite();
    let host = server.host();
    let billing = key("default", "orders", "billing");
    store.cli(&host, &["set", "orders/billing", "0"]).failed_with(Exit::Failed);
    assert_eq!(store.stored(&billing), None, "a mistyped key is made");
    store.put(&billing, &Checkpoint::at(position("7")));
    for to in ["earliest", "latest", "1h"] {
        let refused = store.cli(&host, &["reset", "orders/billing", "--to", to, "--yes"]);
        let expected = format!(
            "log-cli: `{host}` has no topic `orders`; `--to 0` begins with whatever is its first message"
        );
        assert_eq!(refused.failed_with(Exit::Failed), expected);
        assert_eq!(store.stored(&billing).unwrap().next, position("7"));
    }
    store.done(&host, &["reset", "orders/billing", "--to", "0", "--yes"]);
    assert_eq!(store.stored(&billing).unwrap().next, position("0"));
    store.done(NOWHERE, &["set", "orders/new", "0", "--force"]);
}

#[test]
fn store_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    fs::write(&path, "no database").unwrap();
    let url = format!("sqlite:{}", path.display());
    let finished = run(NOWHERE, &["state", "ls", "--state", &url], b"");
    let line = finished.failed_with(Exit::Damaged);
    assert!(line.starts_with(&format!("log-cli: the store `{url}` cannot be opened: ")), "{line}");
    // PostgreSQL connects when it is asked first.
    for url in ["redis://anna:hunter2@127.0.0.1:1/0", "postgres://anna:hunter2@127.0.0.1:1/state"] {
        let finished = run(NOWHERE, &["state", "ls", "--state", url], b"");
        let line = finished.failed_with(Exit::Unreachable);
        assert!(line.contains(&url.replace("hunter2", "***")), "{line}");
    }
}

#[test]
fn no_server_is_unreachable_where_one_is_asked() {
    let store = Store::file();
    store.put(&key("default", "orders", "billing"), &Checkpoint::at(position("7")));
    for arguments in [
        &["lag"][..],
        &["verify"],
        &["set", "orders/billing", "60"],
        &["reset", "orders/billing", "--to", "earliest", "--yes"],
    ] {
        store.cli(NOWHERE, arguments).failed_with(Exit::Unreachable);
    }
    assert_eq!(store.stored(&key("default", "orders", "billing")).unwrap().next, position("7"));
}

#[test]
fn looking_makes_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mistyped");
    for scheme in ["file", "file://", "sqlite"] {
        let url = format!(
            "{}{}",
            if scheme.ends_with("//") { scheme.to_owned() } else { format!("{scheme}:") },
            path.display()
        );
        for arguments in
            [&["ls"][..], &["show", "orders/billing"], &["set", "orders/billing", "0", "--force"]]
        {
            let mut all = vec!["state"];
            all.extend(arguments);
            all.extend(["--state", &url]);
            run(NOWHERE, &all, b"").failed_with(Exit::Failed);
        }
    }
    assert!(!Path::new(&path).exists(), "a store was made");
}

#[test]
fn keys_that_are_not_there_are_told() {
    let store = Store::file();
    store.put(&key("default", "orders", "billing"), &Checkpoint::at(position("7")));
    for arguments in [
        &["ls", "orders/x"][..],
        &["show", "orders/x"],
        &["reset", "orders/x", "--to", "7", "--yes"],
        &["lag", "orders/x"],
    ] {
        let finished = store.cli(NOWHERE, arguments);
        assert!(
            finished.failed_with(Exit::Failed).contains("no checkpoint of `default/orders/x`"),
            "{}",
            finished.stderr
        );
    }
}

#[test]
fn arguments_are_checked_before_anything_is_done() {
    let store = Store::file();
    store.put(&key("default", "orders", "billing"), &Checkpoint::at(position("7")));
    for arguments in [
        &["reset", "orders/billing", "--to", "earliest"][..],
        &["reset", "orders/billing", "--yes"],
        &["reset", "orders/billing", "--to", "yesterday", "--yes"],
        &["set", "orders/billing", "x"],
        &["set", "orders/billing"],
        &["show", "billing"],
        &["show", "a/b/c/d"],
    ] {
        assert_eq!(store.cli(NOWHERE, arguments).code, i32::from(Exit::Usage.code()), "{arguments:?}");
    }
    assert_eq!(run(NOWHERE, &["state", "ls", "--state", "memory:"], b"").code, i32::from(Exit::Usage.code()));
    assert_eq!(store.stored(&key("default", "orders", "billing")).unwrap().next, position("7"));
}

#[test]
fn the_variable_names_the_store() {
    let store = Store::sqlite();
    store.put(&key("default", "orders", "billing"), &Checkpoint::at(position("7")));
    let output = command(NOWHERE, &["state", "ls"]).env("LOGD_STATE", &store.url).output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("default/orders/billing"));
}

#[test]
fn passwords_are_never_told() {
    const SECRET: &str = "hunter2";
    for (arguments, variable) in [
        (&["ls", "--state", "redis://a:hunter2@127.0.0.1:1/0"][..], ""),
        (&["ls", "--state=postgres://a:hunter2@127.0.0.1:1/b"], ""),
        (&["ls", "--state", "postgres://127.0.0.1:1/b?user=a&password=hunter2"], ""),
        (&["ls", "--state", "mysql://a:hunter2@127.0.0.1/b"], ""),
        (&["ls", "--state", "sqlite:/nowhere/x?password=hunter2"], ""),
        (&["ls", "redis://a:hunter2@127.0.0.1:1/0", "--state", "memory:"], ""),
        (&["ls", "--stat=redis://a:hunter2@127.0.0.1:1/0"], ""),
        (&["copy", "--from", "redis://:hunter2@127.0.0.1:1", "--to", "redis://:hunter2@127.0.0.1:1"], ""),
        (&["copy", "redis://:hunter2@127.0.0.1:1"], ""),
        (&["ls", "--verbose"], "redis://a:hunter2@127.0.0.1:1/0"),
        (&["ls", "--help"], "redis://a:hunter2@127.0.0.1:1/0"),
        (&["show"], "redis://a:hunter2@127.0.0.1:1/0"),
    ] {
        let mut all = vec!["state"];
        all.extend(arguments);
        let output = command(NOWHERE, &all).env("LOGD_STATE", variable).output().unwrap();
        let told =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!told.is_empty() && !told.contains(SECRET), "{arguments:?}: {told}");
        assert_eq!(output.status.success(), arguments.contains(&"--help"), "{arguments:?}: {told}");
    }
}
