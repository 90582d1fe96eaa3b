//! The settings of a server with any bytes as command line, environment and configuration file: `args::read`.
//!
//! - whatever is taken is within its bounds, and is the same when it is written into a file and read again
//! - what is refused is told in one line that names a setting or a place

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use logd_server::Config;
use logd_server::args::{self, Task, UsageError};

use super::files::files;
use super::scratch::dir;

pub(crate) const WORDS: &[&[u8]] = &[
    b"--- arguments\n",
    b"\n--- environment\n",
    b"\n--- file\n",
    b"--batch-size=",
    b"--flush-interval=-1",
    b"LOGD_PARTITIONS=",
    b"host = ",
    b"timeout = \"",
    b"topics-whitelist = [\"a\", \"b\"]\n",
    b"check",
    b"64KiB",
    b"1m30s",
    b"500ms",
    b"0640",
    b"127.0.0.1:1774",
];

/// The longest text that is taken from an input for an argument or a variable.
const TEXT_BYTES_MAX: usize = 1000;

pub(crate) fn run(input: &[u8]) {
    let files = files(input);
    let text = |name: &str| files.iter().find(|file| file.name == name).map(|file| &file.bytes[..]);
    let lines = |name: &str| -> Vec<OsString> {
        let lines = text(name).unwrap_or_default().split(|byte| *byte == b'\n');
        lines
            .filter(|line| line.len() <= TEXT_BYTES_MAX)
            .map(|line| OsString::from_vec(line.to_vec()))
            .collect()
    };
    let scratch = dir();
    let path = scratch.path().join("logd.toml");
    let mut arguments = vec![OsString::from("logd")];
    // The file is that of the input, and no other.
    arguments.extend(lines("arguments").into_iter().filter(|line| !line.to_string_lossy().contains("conf")));
    if let Some(bytes) = text("file") {
        fs::write(&path, bytes).expect("a file can be written");
        arguments.insert(1, format!("--config={}", path.display()).into());
    }
    let variables = lines("environment");
    let environment = |name: &str| {
        let prefix = format!("{name}=");
        let found = variables.iter().find_map(|line| line.as_encoded_bytes().strip_prefix(prefix.as_bytes()));
        found.filter(|_| name != "LOGD_CONFIG").map(|value| OsString::from_vec(value.to_vec()))
    };
    let Some(read) = args::read(arguments.clone(), environment) else { return };
    let again = args::read(arguments, environment).map(|again| format!("{again:?}"));
    assert_eq!(again, Some(format!("{read:?}")), "it is read in another way the second time");
    match read {
        Ok(Task::Serve(invocation)) => {
            assert_eq!(invocation.config.validate(), Ok(()));
            check_written(&invocation.config, scratch.path());
        }
        Ok(Task::Check(_)) => {}
        Err(error) => check_told(&error),
    }
}

fn check_told(error: &UsageError) {
    let text = error.to_string();
    assert!(text.contains('`'), "nothing is named by: {text}");
}

/// Writes every setting into a file, and reads it again.
fn check_written(config: &Config, dir: &Path) {
    let time = Config::duration_text;
    let Some(workdir) = config.workdir.to_str() else { return };
    let quoted = |text: &str| format!("\"{}\"", text.escape_default().to_string().replace("\\'", "'"));
    // What TOML writes in another way than Rust is left out.
    if !(workdir.is_ascii() && config.host.is_ascii()) || workdir.contains(char::is_control) {
        return;
    }
    if config.host.contains(char::is_control) {
        return;
    }
    let names: Vec<String> = config.topics_whitelist.iter().map(|name| quoted(name.as_str())).collect();
    let interval = config.flush_interval.map_or_else(|| "-1".to_owned(), |interval| quoted(&time(interval)));
    let lines = [
        format!("host = {}", quoted(&config.host)),
        format!("timeout = {}", quoted(&time(config.timeout))),
        format!("idle-timeout = {}", quoted(&time(config.idle_timeout))),
        format!("shutdown-timeout = {}", quoted(&time(config.shutdown_timeout))),
        format!("workdir = {}", quoted(workdir)),
        format!("file-mode = \"{:o}\"", config.file_mode),
        format!("batch-size = {}", config.batch_bytes),
        format!("partition-size = {}", config.partition_bytes),
        format!("partitions = {}", config.partitions),
        format!("flush-batches = {}", config.flush_batches),
        format!("flush-interval = {interval}"),
        format!("max-messages = {}", config.max_messages),
        format!("topics = {}", config.topics),
        format!("topics-whitelist = [{}]", names.join(", ")),
        format!("max-connections = {}", config.max_connections),
    ];
    let path = dir.join("written.toml");
    fs::write(&path, lines.join("\n")).expect("a file can be written");
    let arguments = ["logd".into(), format!("--config={}", path.display()).into()];
    match args::read(arguments, |_| None) {
        Some(Ok(Task::Serve(again))) => {
            assert_eq!(again.config, *config, "written as:\n{}", lines.join("\n"));
        }
        other => panic!("{other:?} is read of:\n{}", lines.join("\n")),
    }
}
