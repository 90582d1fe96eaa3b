//! `log-cli state copy`: from any store to any other.

use logd_cli::Exit;
use logd_client::{Checkpoint, ConsumerKey};

use super::{NOWHERE, Store, cells, json, key, position};
use crate::support::{Finished, run};

fn copy(from: &Store, to: &Store, more: &[&str]) -> Finished {
    let mut arguments = vec!["state", "copy", "--from", &from.url, "--to", &to.url];
    arguments.extend(more);
    run(NOWHERE, &arguments, b"")
}

fn copied(from: &Store, to: &Store, more: &[&str]) -> String {
    let finished = copy(from, to, more);
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{} to {}", from.url, to.url);
    String::from_utf8(finished.stdout).unwrap()
}

/// What a store has, without its epochs, which are its own.
fn all(store: &Store) -> Vec<(ConsumerKey, Checkpoint)> {
    store.list().into_iter().map(|entry| (entry.key, entry.checkpoint.unwrap().unwrap())).collect()
}

fn fill(store: &Store) {
    let later = br#"{"logd-checkpoint":1,"next":"18446744073709551615.18446744073709551615","anchor":"0 4294967295","done":[],"user":"AP8=","written_at":1764000000000,"of a later version":{"a":[1,"x"]}}"#;
    store.put(&key("default", "orders", "billing"), &Checkpoint::at(position("60.12")).written_now());
    store.put(&key("ä/b %", "orders", "c\u{a0}d/"), &Checkpoint::decode(later).unwrap());
    store.put(&key("default", "orders", "new"), &Checkpoint::default());
}

#[test]
fn export_then_import_is_the_identity_through_every_store() {
    let [file, sqlite, redis, postgres] = Store::every();
    fill(&file);
    let expected = all(&file);
    assert_eq!(expected.len(), 3);
    let back = Store::file();
    for (from, to) in [(&file, &sqlite), (&sqlite, &redis), (&redis, &postgres), (&postgres, &back)] {
        let told = copied(from, to, &[]);
        assert!(told.lines().skip(1).all(|line| line.ends_with("copied")), "{told}");
        assert_eq!(all(to), expected, "{}", to.url);
        let epochs: Vec<u64> = to.list().iter().map(|entry| entry.epoch).collect();
        assert_eq!(epochs, [0; 3], "what was not there is made without a lease");
        let again = json(&copied(from, to, &["--json"]));
        assert!(again.iter().all(|object| object["result"] == "unchanged"), "{again:?}");
    }
}

#[test]
fn what_differs_is_written_over_only_if_told() {
    for (from, to) in [(Store::file(), Store::sqlite()), (Store::sqlite(), Store::file())] {
        fill(&from);
        let billing = key("default", "orders", "billing");
        to.put(&billing, &Checkpoint::at(position("999")));
        let refused = copy(&from, &to, &[]);
        let line = refused.failed_with(Exit::Failed);
        let named = "`default/orders/billing` (`999.0` there, `60.12` here); nothing was copied";
        assert!(line.contains(named), "{line}");
        assert_eq!(to.list().len(), 1, "nothing was copied");
        assert_eq!(to.stored(&billing).unwrap().next, position("999"));
        let told = copied(&from, &to, &["--overwrite"]);
        let row = cells(told.lines().find(|line| line.starts_with("default/orders/billing")).unwrap());
        assert_eq!(row[1..], ["60.12", "copied", "over", "999.0"]);
        assert_eq!(all(&to), all(&from));
        to.done(NOWHERE, &["set", "orders/billing", "777", "--force"]);
        let objects = json(&copied(&from, &to, &["--overwrite", "--json"]));
        assert_eq!((&objects[0]["result"], &objects[0]["replaced"]), (&"copied".into(), &"777.0".into()));
        assert_eq!((&objects[1]["result"], objects[1]["replaced"].is_null()), (&"unchanged".into(), true));
    }
}

#[test]
fn what_cannot_be_read_is_told_and_the_others_are_copied() {
    let (from, to) = (Store::file(), Store::sqlite());
    fill(&from);
    std::fs::write(super::file_of(&from, "default/orders/billing.ckpt"), "").unwrap();
    let finished = copy(&from, &to, &[]);
    assert_eq!(finished.code, i32::from(Exit::Damaged.code()), "{}", finished.stderr);
    let text = String::from_utf8(finished.stdout).unwrap();
    let row = cells(text.lines().find(|line| line.starts_with("default/orders/billing")).unwrap());
    assert_eq!(row[1..3], ["-", "unreadable:"]);
    assert_eq!(to.list().len(), 2);
}
