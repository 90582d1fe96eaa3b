//! The binaries of the workspace, next to the test that runs them.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::wait::wait_until;

/// The path of the workspace's binary `name`, `logd` or `log-cli`, of the same profile as the running test.
///
/// Once in a process it is built, unless `LOGD_TEST_BUILT` says that it has been: `cargo test` does not build the
/// binaries of other packages, and a stale one would be tested without a word.
///
/// # Panics
/// When it cannot be built.
pub fn binary(name: &str) -> PathBuf {
    static SERVER: OnceLock<PathBuf> = OnceLock::new();
    static CLI: OnceLock<PathBuf> = OnceLock::new();
    let path = match name {
        "logd" => SERVER.get_or_init(|| built("logd-server", name)),
        "log-cli" => CLI.get_or_init(|| built("logd-cli", name)),
        _ => panic!("the workspace has no binary `{name}`"),
    };
    path.clone()
}

fn built(package: &str, name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile_folder = test.ancestors().nth(2).expect("a test is in <target>/<profile>/deps");
    if std::env::var_os("LOGD_TEST_BUILT").is_none() {
        build(package, name, profile_folder);
    }
    let path = profile_folder.join(name);
    assert!(path.is_file(), "there is no binary `{}`", path.display());
    path
}

fn build(package: &str, name: &str, profile_folder: &Path) {
    let profile = match profile_folder.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let target = profile_folder.parent().expect("a profile's folder is in the target folder");
    let output = Command::new(option_env!("CARGO").unwrap_or("cargo"))
        .args(["build", "--package", package, "--bin", name, "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .expect("cargo can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{name}` cannot be built:\n{said}");
}

/// A command that is free of what the environment could say about logd.
pub(crate) fn command(name: &str) -> Command {
    command_under(&[], name)
}

/// As [`command`], started by `wrapper`, a program and its arguments.
pub(crate) fn command_under(wrapper: &[String], name: &str) -> Command {
    let mut command = match wrapper {
        [] => Command::new(binary(name)),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary(name));
            command
        }
    };
    // A relative path, such as the default working directory, must not lead into the source.
    command.current_dir(std::env::temp_dir());
    for (key, _) in std::env::vars_os() {
        if key
            .to_str()
            .is_some_and(|key| key.starts_with("LOGD") || key == "RUST_LOG" || key == "RUST_BACKTRACE")
        {
            command.env_remove(key);
        }
    }
    command
}

/// What a process said, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error, as text.
    pub stderr: String,
    /// From its start to its end.
    pub time: Duration,
}

impl Finished {
    /// The exit code; `None` when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

/// Runs a binary with `arguments` to its end.
///
/// # Panics
/// When it has not ended within `bound`; it is killed then.
pub fn run<A: AsRef<OsStr>>(name: &str, arguments: &[A], bound: Duration) -> Finished {
    let mut command = command(name);
    command.args(arguments).stdin(Stdio::null());
    run_command(command, None, bound)
}

/// Runs `command` to its end, with `input` on its standard input if there is one.
pub(crate) fn run_command(mut command: Command, input: Option<Vec<u8>>, bound: Duration) -> Finished {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let start = Instant::now();
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be started");
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        // A process can end before it has read everything: how it ended is what the test looks at.
        thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    }
    let mut child = KillOnDrop(child);
    let mut status = None;
    wait_until(&format!("`{command:?}` ends"), bound, || {
        status = child.0.try_wait().expect("a child can be waited for");
        status.is_some()
    });
    Finished {
        status: status.expect("the process has ended"),
        stdout: stdout.join().expect("stdout was read"),
        stderr: String::from_utf8_lossy(&stderr.join().expect("stderr was read")).into_owned(),
        time: start.elapsed(),
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        }
        bytes
    })
}

/// A child that does not outlive the test.
#[derive(Debug)]
pub(crate) struct KillOnDrop(pub(crate) Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
