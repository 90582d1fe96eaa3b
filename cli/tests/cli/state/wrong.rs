//! What is wrong is told: checkpoints that cannot be read or do not fit, stores that are not there, secrets that are not.

use std::fs;
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
    for (name, checkpoint, lag, verdict) in [
        ("orders/good", anchored(third, "0", crc), "", "ok"),
        ("orders/end", anchored(end, "0", crc), "", "ok"),
        ("orders/anchor", anchored(third, "0", crc ^ 1), "not `", "not `"),
        ("orders/between", anchored(third, "1", crc), "no batch starts at `1`", "no batch starts at `1`"),
        ("orders/beyond", Checkpoint::at(position("9999")), "the topic ends at `", "the topic ends at `"),
        ("orders/message", Checkpoint::at(position("0.1")), "", "no message starts at `0.1`"),
        ("orders/batch", Checkpoint::at(position("1")), "", "no message starts at `1.0`"),
        ("gone/reader", Checkpoint::at(position("7")), "the topic is not there", "the topic is not there"),
        ("later/reader", Checkpoint::at(position("0")), "", "ok"),
    ] {
        let (topic, consumer) = name.split_once('/').unwrap();
        let store = Store::sqlite();
        store.put(&key("default", topic, consumer), &checkpoint);
        for (command, expected) in [("lag", lag), ("verify", verdict)] {
            let told = store.cli(&server.host(), &[command, name]);
            let is_good = ["", "ok"].contains(&expected);
            assert_eq!(told.code, if is_good { 0 } else { DAMAGED }, "{name}: {command}: {}", told.stderr);
            assert!(text(&told).lines().nth(1).unwrap().contains(expected), "{name}: {}", text(&told));
        }
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
