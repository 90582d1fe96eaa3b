//! Lines as the logs of servers have them, from a seed, and what they are counted by.

use crate::random::Random;

const HOSTS: &[&str] = &["web-1", "web-2", "db-1", "mail"];
const USERS: &[&str] = &["root", "admin", "webmaster", "test", "oracle", "git"];
const LEVELS: &[&str] = &["INFO", "INFO", "INFO", "WARN", "ERROR"];
const CLASSES: &[&str] =
    &["QuorumPeer[myid=1]", "SendWorker:188", "NIOServerCxn.Factory", "FastLeaderElection", "LearnerHandler"];
const PATHS: &[&str] = &["/index.html", "/orders", "/orders/7", "/static/logo.png", "/login"];

/// The next line: of a daemon, of a web server, or of a Java service.
pub fn log_line(random: &mut Random, number: usize) -> String {
    let (hours, minutes, seconds) = (number / 3600 % 24, number / 60 % 60, number % 60);
    let port = 1024 + random.below(60_000);
    let address = format!("10.0.{}.{}", random.below(4), random.below(16));
    match random.below(3) {
        0 => {
            let what = random.one_of(&["Failed password for", "Accepted password for", "Invalid user"]);
            let (host, user) = (random.one_of(HOSTS), random.one_of(USERS));
            format!(
                "Dec 10 {hours:02}:{minutes:02}:{seconds:02} {host} sshd[{port}]: {what} {user} from {address}"
            )
        }
        1 => {
            let status = *random.one_of(&[&200, &200, &200, &301, &404, &500]);
            let path = random.one_of(PATHS);
            format!(
                "{address} - - [10/Dec/2025:{hours:02}:{minutes:02}:{seconds:02} +0000] \"GET {path} HTTP/1.1\" \
                 {status} {port}"
            )
        }
        _ => {
            let (level, class) = (random.one_of(LEVELS), random.one_of(CLASSES));
            format!(
                "2025-12-10 {hours:02}:{minutes:02}:{seconds:02},{:03} - {level} [{class}] - Connection {port} broken",
                number % 1000
            )
        }
    }
}

/// What a line is counted by: host and user, path and status, or level and class.
pub fn key_of(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let word = |index: usize| words.get(index).copied().unwrap_or_default();
    if word(4).starts_with("sshd[") {
        let user = words.iter().rev().nth(2).copied().unwrap_or_default();
        return format!("{} {user}", word(3));
    }
    if word(5) == "\"GET" { format!("{} {}", word(6), word(8)) } else { format!("{} {}", word(3), word(4)) }
}
