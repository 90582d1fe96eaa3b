//! A server in the test's own process, a scripted one, and ways to run the binary.
//!
//! Every wait has a bound and says in its panic what it waited for.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use logd_cli::Exit;
use logd_server::{Config, Server};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// How long a test waits for what should come at once.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A real server on a free port, in a directory of its own.
pub(crate) struct TestServer {
    address: SocketAddr,
    config: Config,
    running: Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>,
    folder: TempDir,
}

impl TestServer {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts a server whose settings `change` changes.
    pub(crate) fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config =
            Config { host: "127.0.0.1:0".into(), workdir: folder.path().join("logs"), ..Config::default() };
        change(&mut config);
        let (address, running) = launch(config.clone());
        config.host = address.to_string();
        Self { address, config, running: Some(running), folder }
    }

    /// Ends the server; its directory stays.
    pub(crate) fn stop(&mut self) {
        if let Some((shutdown, thread)) = self.running.take() {
            drop(shutdown);
            thread.join().unwrap();
        }
    }

    /// Starts the server again after a stop, on the same port.
    pub(crate) fn start_again(&mut self) {
        assert!(self.running.is_none(), "the server runs");
        self.running = Some(launch(self.config.clone()).1);
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// The file of a topic that has one partition.
    pub(crate) fn partition(&self, topic: &str) -> PathBuf {
        self.folder.path().join("logs").join(topic).join("0.log")
    }

    /// Runs `log-cli` with `arguments` for this server, `input` being its standard input.
    pub(crate) fn cli(&self, arguments: &[&str], input: &[u8]) -> Finished {
        run(&self.host(), arguments, input)
    }

    /// Runs `log-cli`, which must succeed, and returns what it printed.
    pub(crate) fn done(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let finished = self.cli(arguments, input);
        assert_eq!(finished.code, i32::from(Exit::Success.code()), "{arguments:?}: {}", finished.stderr);
        finished.stdout
    }

    /// Starts `log-cli` with `arguments` for this server.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Running {
        Running::start(&self.host(), arguments)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(config: Config) -> (SocketAddr, (oneshot::Sender<()>, thread::JoinHandle<()>)) {
    let (shutdown, ended) = oneshot::channel();
    let (sender, address) = mpsc::channel();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::bind(config).await.unwrap();
            sender.send(server.local_addr()).unwrap();
            let shutdown = async {
                let _ = ended.await;
            };
            server.run(shutdown).await.unwrap();
        });
    });
    (address.recv_timeout(BOUND).expect("the server listens"), (shutdown, thread))
}

/// What a scripted server does with a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Script {
    /// Answers this.
    Answer(&'static str),
    /// Closes the connection without a word.
    Close,
    /// Keeps silent.
    Silence,
}

/// A server that answers CONFIG as Go logd does, and each batch, in order, as the script says. It closes on anything
/// else. Returns its address, and where it notes the messages of the batches.
pub(crate) fn scripted(script: &[Script]) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&bodies);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (script, noted) = (Arc::clone(&script), Arc::clone(&noted));
            thread::spawn(move || serve_script(stream.unwrap(), &script, &noted));
        }
    });
    (host, bodies)
}

fn serve_script(
    stream: TcpStream,
    script: &Mutex<VecDeque<Script>>,
    noted: &Mutex<Vec<String>>,
) -> Option<()> {
    const CONFIG: &str = "Host: x\r\nTimeout: 15s\r\nIdleTimeout: 30s\r\nMaxBatchSize: 65536\r\n";
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["CONFIG"] => write!(writer, "MOK {}\r\n{CONFIG}\r\n", CONFIG.len()).ok()?,
            ["BATCH", bytes, ..] => {
                let mut body = vec![0; bytes.parse().unwrap()];
                reader.read_exact(&mut body).ok()?;
                noted.lock().unwrap().push(String::from_utf8_lossy(&body).into_owned());
                let step = script.lock().unwrap().pop_front().expect("the script has no more batches");
                match step {
                    Script::Answer(answer) => writer.write_all(answer.as_bytes()).ok()?,
                    Script::Close => return None,
                    Script::Silence => {}
                }
            }
            _ => return None,
        }
    }
}

/// What a run of the binary said, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit code; -1 when a signal killed it.
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Finished {
    /// Checks the exit code, and that there is one line on standard error, which is returned.
    pub(crate) fn failed_with(&self, exit: Exit) -> &str {
        assert_eq!(self.code, i32::from(exit.code()), "{}", self.stderr);
        let line = self.stderr.strip_suffix('\n').expect("a failure is told in a line");
        assert!(!line.contains('\n'), "a failure is told in one line: {line}");
        line
    }
}

/// Runs `log-cli` to its end.
pub(crate) fn run(host: &str, arguments: &[&str], input: &[u8]) -> Finished {
    let mut running = Running::start(host, arguments);
    let mut stdin = running.stdin.take().unwrap();
    let input = input.to_vec();
    // It can end before it has read everything: how it ended is what the test looks at.
    thread::spawn(move || stdin.write_all(&input));
    running.finish()
}

/// The command `log-cli` with the arguments, free of what the environment says.
pub(crate) fn command(host: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_log-cli"));
    command.args(arguments).env("LOGD_HOST", host).env_remove("RUST_LOG");
    command
}

/// A running `log-cli`, killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<Vec<u8>>,
    stderr: Option<thread::JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(host: &str, arguments: &[&str]) -> Self {
        let mut child = command(host, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).unwrap() > 0 {
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        let stderr = thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, stderr: Some(stderr) }
    }

    /// Writes to its standard input.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(BOUND).expect("a line is printed");
        String::from_utf8(line).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end. Its standard input stays open, unless the test has closed it.
    pub(crate) fn finish(mut self) -> Finished {
        let status = wait_for("log-cli ends", || self.child.try_wait().unwrap());
        let stderr = self.stderr.take().unwrap().join().unwrap();
        Finished { code: status.code().unwrap_or(-1), stdout: self.lines.iter().flatten().collect(), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again until there is an answer.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < BOUND, "waited {BOUND:?} in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
