//! A Redis server for a test: a real one, on a free port of this machine, with its files in a folder of its own.
//!
//! `redis-server` must be on the path (Debian: `redis-server`). It is ended when its `RedisServer` is dropped, whether it is
//! paused or not; nothing else is ever ended. By default every write is on the disk before it is acknowledged.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The longest that a server takes to start or to end.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often another port is tried.
const PORTS_TRIED: usize = 20;

/// A running server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    process: Child,
    port: u16,
    arguments: Vec<String>,
    folder: TempDir,
}

/// What a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(Vec<u8>),
    Number(i64),
    List(Vec<Reply>),
    None,
}

impl RedisServer {
    /// Starts a server that keeps what it acknowledges.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments, such as `["--maxmemory", "1mb"]`.
    pub(crate) fn start_with(arguments: &[&str]) -> Result<Self> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let folder = tempfile::tempdir()?;
        for _ in 0..PORTS_TRIED {
            let port = free_port()?;
            let mut process = spawn(folder.path(), port, &arguments)?;
            if is_up(&mut process, port)? {
                return Ok(Self { process, port, arguments, folder });
            }
        }
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        Err(format!("redis-server has not started: {log}").into())
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A connection of the test's own.
    pub(crate) fn connect(&self) -> Result<RedisConnection> {
        RedisConnection::open(self.port)
    }

    /// One command on a connection of its own.
    pub(crate) fn command<A: AsRef<[u8]>>(&self, words: &[A]) -> Result<Reply> {
        self.connect()?.command(words)
    }

    /// Lets it stand still: it accepts connections, and answers nothing.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal("STOP")
    }

    pub(crate) fn resume(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Ends it as an administrator does.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts one that was ended again, on the same port and files.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let begin = Instant::now();
        loop {
            self.process = spawn(self.folder.path(), self.port, &self.arguments)?;
            if is_up(&mut self.process, self.port)? {
                return Ok(());
            }
            if begin.elapsed() > WAIT_MAX {
                return Err("redis-server has not started again".into());
            }
        }
    }

    fn signal(&self, name: &str) -> Result<()> {
        let sent =
            Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()).status()?;
        if sent.success() { Ok(()) } else { Err(format!("kill -{name} has failed").into()) }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It is gone already, or there is nothing more to be done about it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody listened on just now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn spawn(folder: &Path, port: u16, arguments: &[String]) -> Result<Child> {
    let port = port.to_string();
    let process = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port, "--daemonize", "no", "--logfile", "log"])
        .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
        .arg("--dir")
        .arg(folder)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    process.map_err(|error| format!("`redis-server` cannot be run: {error}").into())
}

/// Waits until the server answers; `false` if it has ended instead.
fn is_up(process: &mut Child, port: u16) -> Result<bool> {
    let begin = Instant::now();
    while begin.elapsed() < WAIT_MAX {
        if process.try_wait()?.is_some() {
            return Ok(false);
        }
        let information = RedisConnection::open(port).and_then(|mut server| server.command(&["INFO"]));
        if let Ok(Reply::Text(text)) = information {
            let text = String::from_utf8_lossy(&text).into_owned();
            // Another server may have taken the port, and answers in its stead.
            let is_this = text.contains(&format!("process_id:{}\r\n", process.id()));
            if is_this && text.contains("\nloading:0\r\n") {
                return Ok(true);
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err("redis-server does not answer".into())
}

/// A connection that knows no more of the protocol than a test needs.
#[derive(Debug)]
pub(crate) struct RedisConnection(BufReader<TcpStream>);

impl RedisConnection {
    pub(crate) fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(WAIT_MAX))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a command, and waits for what is answered. An answer that is an error is one here.
    pub(crate) fn command<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<Reply> {
        self.send(words)?;
        self.reply()
    }

    /// Sends a command, and does not wait.
    pub(crate) fn send<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<()> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            request.extend(format!("${}\r\n", word.as_ref().len()).into_bytes());
            request.extend(word.as_ref());
            request.extend(b"\r\n");
        }
        Ok(self.0.get_mut().write_all(&request)?)
    }

    /// Waits for what the server says next.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        let Some((kind, rest)) = line.split_at_checked(1) else {
            return Err("the server has hung up".into());
        };
        match kind {
            "+" => Ok(Reply::Text(rest.into())),
            "-" => Err(rest.into()),
            ":" => Ok(Reply::Number(rest.parse()?)),
            "$" | "*" if rest == "-1" => Ok(Reply::None),
            "$" => {
                let mut text = vec![0; rest.parse::<usize>()? + 2];
                self.0.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Ok(Reply::Text(text))
            }
            "*" => (0..rest.parse::<usize>()?).map(|_| self.reply()).collect::<Result<_>>().map(Reply::List),
            _ => Err(format!("the server has answered `{line}`").into()),
        }
    }
}
