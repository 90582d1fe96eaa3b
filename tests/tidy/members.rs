//! Which member of the workspace depends on which, by the manifests.

use std::fs;

use toml::Table;

use crate::root;

/// A member, and the members and crates that it may and may not have among its dependencies.
pub(crate) struct Member {
    pub(crate) folder: &'static str,
    /// The members that it may depend on.
    may: &'static [&'static str],
    /// Those that its tests may depend on beside them.
    may_in_tests: &'static [&'static str],
    /// Crates that it must not depend on.
    never: &'static [&'static str],
}

/// The libraries, from the ground up.
const EVERYTHING: &[&str] =
    &["logd-protocol", "logd-server", "logd-statehandlers", "logd-client", "logd-cli"];

pub(crate) const MEMBERS: &[Member] = &[
    Member {
        folder: "protocol",
        may: &[],
        may_in_tests: &[],
        never: &["tokio", "futures", "clap", "async-trait", "tracing"],
    },
    Member { folder: "server", may: &["logd-protocol"], may_in_tests: &[], never: &["futures"] },
    Member { folder: "statehandlers", may: &["logd-protocol"], may_in_tests: &[], never: &["clap"] },
    Member {
        folder: "client",
        may: &["logd-protocol", "logd-statehandlers"],
        may_in_tests: &["logd-server"],
        never: &["clap", "rusqlite", "redis", "tokio-postgres"],
    },
    Member {
        folder: "cli",
        may: &["logd-protocol", "logd-statehandlers", "logd-client"],
        may_in_tests: &["logd-server"],
        never: &["rusqlite", "redis", "tokio-postgres"],
    },
    Member { folder: "examples", may: EVERYTHING, may_in_tests: &[], never: &[] },
    Member { folder: "tests", may: EVERYTHING, may_in_tests: &[], never: &[] },
    Member {
        folder: "benches",
        may: &["logd-protocol", "logd-client"],
        may_in_tests: &["logd-server", "logd-tests"],
        never: &[],
    },
];

/// The dependencies that a member must not have.
fn wrong_dependencies(member: &Member, manifest: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    for (section, is_test) in
        [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)]
    {
        for name in names(manifest, section) {
            let is_member = name.starts_with("logd-");
            let may = member.may.contains(&name.as_str())
                || (is_test && member.may_in_tests.contains(&name.as_str()));
            if (is_member && !may) || (!is_test && member.never.contains(&name.as_str())) {
                wrong.push(format!("`{}` must not depend on `{name}`", member.folder));
            }
        }
    }
    wrong
}

/// The packages that a section of a manifest names, for whatever target.
fn names(manifest: &Table, section: &str) -> Vec<String> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let tables = targets.into_iter().flat_map(Table::values).filter_map(toml::Value::as_table);
    std::iter::once(manifest)
        .chain(tables)
        .filter_map(|table| table.get(section).and_then(toml::Value::as_table))
        .flat_map(Table::iter)
        .map(|(key, value)| {
            let package = value.get("package").and_then(toml::Value::as_str);
            package.unwrap_or(key).to_owned()
        })
        .collect()
}

fn member(folder: &str) -> &'static Member {
    MEMBERS.iter().find(|member| member.folder == folder).expect("the folder is a member's")
}

fn wrong_in(folder: &str, manifest: &str) -> Vec<String> {
    wrong_dependencies(member(folder), &manifest.parse().expect("the sample is TOML"))
}

#[test]
fn members_depend_on_what_they_may() {
    let wrong: Vec<String> = MEMBERS
        .iter()
        .flat_map(|member| {
            let path = root().join(member.folder).join("Cargo.toml");
            let manifest = fs::read_to_string(path).expect("a member has a manifest");
            wrong_dependencies(member, &manifest.parse().expect("a manifest is TOML"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn members_are_those_of_the_workspace() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    let manifest: Table = manifest.parse().expect("a manifest is TOML");
    let listed = manifest.get("workspace").and_then(|workspace| workspace.get("members"));
    let mut listed: Vec<&str> = listed
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect();
    let mut known: Vec<&str> = MEMBERS.iter().map(|member| member.folder).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
}

#[test]
fn server_and_client_may_not_depend_on_each_other() {
    assert_eq!(wrong_in("server", "[dependencies]\nlogd-client.workspace = true").len(), 1);
    assert_eq!(wrong_in("server", "[dev-dependencies]\nlogd-client.workspace = true").len(), 1);
    assert_eq!(wrong_in("client", "[dependencies]\nlogd-server.workspace = true").len(), 1);
    assert_eq!(wrong_in("client", "[dev-dependencies]\nlogd-server.workspace = true").len(), 0);
}

#[test]
fn forbidden_crates_are_found_whatever_the_form() {
    let forms = [
        "[dependencies]\ntokio = \"1\"",
        "[dependencies]\ntokio.workspace = true",
        "[dependencies.tokio]\nversion = \"1\"",
        "[dependencies]\nruntime = { package = \"tokio\", version = \"1\" }",
        "[target.'cfg(unix)'.dependencies]\ntokio = \"1\"",
        "[build-dependencies]\ntokio = \"1\"",
    ];
    for form in forms {
        assert_eq!(wrong_in("protocol", form), ["`protocol` must not depend on `tokio`"], "{form}");
    }
    assert_eq!(wrong_in("protocol", "[dependencies]\nbytes = \"1\"").len(), 0);
}
