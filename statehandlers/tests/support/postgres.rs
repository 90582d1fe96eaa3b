//! A PostgreSQL server of a test's own, from the system's packages, in a temporary folder and on a free port.
//!
//! It runs as the user `postgres` where the tests run as root, which the server refuses. It ends with the last owner, and with
//! the process of the tests, however that ends. Only processes that were started here are ever stopped or killed.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The password of the user `postgres`, over TCP.
pub(crate) const PASSWORD: &str = "correct-horse-7";

const WAIT_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A certificate and its key, both PEM.
pub(crate) struct Certificate {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

#[derive(Debug)]
pub(crate) struct Server {
    folder: TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    process: Mutex<Option<Child>>,
    has_tls: bool,
}

impl Server {
    pub(crate) fn start(tls: Option<&Certificate>) -> Result<Self> {
        let bin = bin()?;
        let folder = tempfile::tempdir()?;
        let root = folder.path();
        let own = |path: &Path| match owner() {
            Some((user, group)) => chown(path, Some(user), Some(group)),
            None => Ok(()),
        };
        own(root)?;
        let password = root.join("password");
        fs::write(&password, PASSWORD)?;
        own(&password)?;
        let mut initdb = as_owner(&bin.join("initdb"));
        initdb.args(["--no-sync", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        initdb.args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(root.join("data"));
        let made = initdb.current_dir(root).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into());
        }
        if let Some(Certificate { certificate, key }) = tls {
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                let path = root.join("data").join(name);
                fs::write(&path, text)?;
                fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
                own(&path)?;
            }
        }
        let mut server = Self { folder, bin, port: 0, process: Mutex::new(None), has_tls: tls.is_some() };
        for _ in 0..5 {
            // Somebody else may take the port before the server does.
            server.port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            if server.run().is_ok() {
                return Ok(server);
            }
        }
        Err(server.log().into())
    }

    fn socket(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of the database `postgres` over TCP, up to its parameters.
    pub(crate) fn url(&self) -> String {
        url(self.port)
    }

    /// The URL of the same database over the server's socket, where no password is asked for, up to its parameters.
    pub(crate) fn local_url(&self) -> String {
        let socket = self.socket().to_string_lossy().replace('/', "%2F");
        format!("postgres://postgres@{socket}:{}/postgres", self.port)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn run(&self) -> Result<()> {
        let root = self.folder.path();
        let mut server = as_owner(&self.bin.join("postgres"));
        let log = fs::File::create(root.join("log"))?;
        server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(root);
        server.arg("-D").arg(root.join("data")).args(["-c", "listen_addresses=127.0.0.1"]);
        server.arg("-p").arg(self.port.to_string()).arg("-k").arg(root);
        server.args(["-c", "max_connections=200", "-c", "fsync=on", "-c", "shared_buffers=16MB"]);
        if self.has_tls {
            server.args(["-c", "ssl=on"]);
        }
        let mut child = spawn(server)?;
        let begin = Instant::now();
        while !self.is_ready() {
            if child.try_wait()?.is_some() || begin.elapsed() > WAIT_MAX {
                kill("KILL", &[child.id()])?;
                child.wait()?;
                return Err(format!("the server has not started: {}", self.log()).into());
            }
            thread::sleep(LOOK_EVERY);
        }
        *self.process() = Some(child);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        let state = fs::read_to_string(self.folder.path().join("data/postmaster.pid")).unwrap_or_default();
        state.lines().nth(7).is_some_and(|line| line.trim() == "ready")
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server and the processes it has started.
    fn processes(&self) -> Result<Vec<u32>> {
        let server = self.process().as_ref().ok_or("the server does not run")?.id();
        let mut all = vec![server];
        for entry in fs::read_dir("/proc")? {
            let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // The name in parentheses can have anything in it.
            let state = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            let parent = state.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
            if parent.is_some_and(|parent| parent == server.to_string()) {
                all.push(process);
            }
        }
        Ok(all)
    }

    /// Lets it accept connections, and answer nothing.
    pub(crate) fn pause(&self) -> Result<()> {
        kill("STOP", &self.processes()?)
    }

    pub(crate) fn resume(&self) -> Result<()> {
        kill("CONT", &self.processes()?)
    }

    /// Ends it as the system's own scripts do: open transactions are rolled back.
    pub(crate) fn stop(&self) -> Result<()> {
        self.end("INT", false)
    }

    /// Kills all of it at once, as a loss of power would.
    pub(crate) fn kill(&self) -> Result<()> {
        self.end("KILL", true)
    }

    fn end(&self, signal: &str, with_children: bool) -> Result<()> {
        let processes = self.processes()?;
        let Some(mut child) = self.process().take() else { return Ok(()) };
        kill(signal, if with_children { &processes } else { processes.get(..1).unwrap_or_default() })?;
        child.wait()?;
        Ok(())
    }

    /// Starts it again on the same data and port.
    pub(crate) fn start_again(&self) -> Result<()> {
        let begin = Instant::now();
        // What was killed may take a moment to be gone.
        while let Err(error) = self.run() {
            if begin.elapsed() > WAIT_MAX {
                return Err(error);
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be stopped already; then there is nothing to do.
        let _ = self.resume();
        let _ = self.end("QUIT", false);
    }
}

/// The URL of the database `postgres` at a port of this machine, up to its parameters.
pub(crate) fn url(port: u16) -> String {
    format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres")
}

fn bin() -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).collect())
        .unwrap_or_default();
    found.sort();
    found.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let has_server = |path: &PathBuf| path.join("postgres").exists() && path.join("initdb").exists();
    found
        .into_iter()
        .find(has_server)
        .ok_or_else(|| "PostgreSQL is not installed (`apt-get install postgresql`)".into())
}

/// Whom the server runs as, where the tests run as root.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let user = users.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = user.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn as_owner(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if let Some((user, group)) = owner() {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups");
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(program);
    command
}

/// Starts a process that ends with this one. The system ends it with the thread that has started it, so that thread stays.
fn spawn(mut command: Command) -> Result<Child> {
    let (send, receive) = channel();
    thread::spawn(move || {
        let _ = send.send(command.spawn());
        loop {
            thread::park();
        }
    });
    Ok(receive.recv()??)
}

fn kill(signal: &str, processes: &[u32]) -> Result<()> {
    let names: Vec<String> = processes.iter().map(ToString::to_string).collect();
    // One that has ended meanwhile is no failure.
    Command::new("kill").arg(format!("-{signal}")).args(names).stderr(Stdio::null()).status()?;
    Ok(())
}
