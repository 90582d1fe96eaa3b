//! Opening: what is refused, and how; what is warned of.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use logd_statehandlers::{Fence, RedisState, StateErrorKind, StateHandler, open};

use super::rules::{at, key};
use super::server::RedisServer;

#[tokio::test]
async fn url_opens_the_store() {
    let server = RedisServer::start().unwrap();
    let state = open(&format!("{}/2?response_timeout=5s&connect_timeout=500ms", server.url())).await.unwrap();
    state.complete(&key("billing"), &at(5), Fence::NONE).await.unwrap();
    assert_eq!(
        open(&format!("{}/2", server.url())).await.unwrap().get(&key("billing")).await.unwrap(),
        Some(at(5))
    );
    assert_eq!(open(&server.url()).await.unwrap().get(&key("billing")).await.unwrap(), None);
}

#[tokio::test]
async fn user_and_password_are_checked_and_not_told() {
    let password = "p@ss/wörd:#%";
    let encoded = "p%40ss%2Fw%C3%B6rd%3A%23%25";
    let server =
        RedisServer::start_with(&["--user", "anna", "on", &format!(">{password}"), "~logd:*", "+@all"])
            .unwrap();
    let url = |user: &str, password: &str| format!("redis://{user}:{password}@127.0.0.1:{}", server.port());
    let state = RedisState::open(url("anna", encoded)).await.unwrap();
    state.complete(&key("billing"), &at(5), Fence::NONE).await.unwrap();
    let shown = format!("{state:?} {:?}", RedisState::builder(url("anna", encoded)));
    assert!(shown.contains("anna:***@") && !shown.contains(encoded) && !shown.contains(password), "{shown}");
    let without = format!("redis://anna@127.0.0.1:{}", server.port());
    for url in [url("anna", "hunter2"), url("bert", encoded), url("anna", ""), without] {
        let error = RedisState::open(url).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Failed, "{error}");
        assert!(
            !format!("{error} {error:?}").contains("hunter2") && !error.to_string().contains(password),
            "{error}"
        );
    }
}

#[tokio::test]
async fn server_that_repeats_the_password_is_not_repeated() {
    let secret = "hunter2hunter2";
    // An unknown command is answered with its arguments, of which the password is one.
    let server = RedisServer::start_with(&["--rename-command", "HELLO", "BONJOUR"]).unwrap();
    for user in ["default", ""] {
        let url = format!("redis://{user}:{secret}@127.0.0.1:{}", server.port());
        let error = RedisState::open(url).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Failed, "{error}");
        assert!(!format!("{error} {error:?} {error:#?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn word_of_the_server_that_is_the_password_is_not_told() {
    let user = ["--user", "anna", "on", ">evalsha", "~logd:*", "+@all", "-evalsha"];
    let server = RedisServer::start_with(&user).unwrap();
    let state = RedisState::open(format!("redis://anna:evalsha@127.0.0.1:{}", server.port())).await.unwrap();
    let error = state.complete(&key("billing"), &at(5), Fence::NONE).await.unwrap_err();
    assert_eq!(error.kind(), StateErrorKind::Failed, "{error}");
    assert!(error.to_string().contains("'***'") && !format!("{error:?}").contains("evalsha"), "{error:?}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_without_echo() {
    for url in [
        "redis://",
        "redis:hunter2",
        "redis://a:hunter2@",
        "redis://a:hunter2@host:port",
        "redis://a:hunter2@host/hunter2",
        "redis://a:hunter2@host/0/hunter2",
        "redis://a:hunter2@host?password=hunter2",
        "redis://a:hunter2@host#hunter2",
        "rediss://a:hunter2@host#insecure",
        "redis://a:hunter2@host?response_timeout=hunter2",
        "redis://a:hunter2@host?response_timeout=1ms",
        "redis://a:hunter2@host?connect_timeout=1000s",
        "redis://a:hunter2@host?ca=/etc/hostname",
        "rediss://a:hunter2@host?ca=/does/not/exist",
        "rediss://a:hunter2@host?ca=/etc/hostname",
        "unix:///hunter2",
        "valkey://a:hunter2@host",
    ] {
        let error = RedisState::open(url).await.unwrap_err();
        assert_eq!(error.kind(), StateErrorKind::Invalid, "{url}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
    let builder = RedisState::builder("redis://host").response_timeout(Duration::ZERO);
    assert_eq!(builder.open().await.unwrap_err().kind(), StateErrorKind::Invalid);
}

/// Each for what it is for, whoever has set it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timeouts_count_as_they_are_set() {
    const SLACK: Duration = Duration::from_secs(4);
    let (connect, response) = (Duration::from_millis(200), Duration::from_secs(5));
    let server = RedisServer::start().unwrap();
    let url = |rest: &str| RedisState::builder(format!("{}{rest}", server.url()));
    let default = Duration::from_secs(3);
    let builders = [
        (url("").connect_timeout(connect).response_timeout(response), connect, response),
        (url("?connect_timeout=200ms&response_timeout=5s"), connect, response),
        (
            url("?connect_timeout=60s&response_timeout=200ms")
                .connect_timeout(connect)
                .response_timeout(response),
            connect,
            response,
        ),
        (url(""), default, default),
    ];
    let mut states = Vec::new();
    for (builder, connect, response) in builders {
        let state = builder.open().await.unwrap();
        // By its name from now on, in one exchange.
        state.complete(&key("billing"), &at(5), Fence::NONE).await.unwrap();
        states.push((state, connect, response));
    }
    server.pause().unwrap();
    let calls = states.into_iter().map(|(state, connect, response)| {
        tokio::spawn(async move {
            // The first is sent, and the second finds no connection.
            for (kind, timeout) in
                [(StateErrorKind::Ambiguous, response), (StateErrorKind::Unavailable, connect)]
            {
                let begin = Instant::now();
                let error = state.complete(&key("billing"), &at(6), Fence::NONE).await.unwrap_err();
                assert_eq!(error.kind(), kind, "{error}");
                let taken = begin.elapsed();
                assert!((timeout..timeout + SLACK).contains(&taken), "{taken:?} instead of {timeout:?}");
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn eviction_is_warned_of() {
    let server =
        RedisServer::start_with(&["--user", "anna", "on", ">pw", "~logd:*", "+@all", "-config"]).unwrap();
    for (policy, warned) in [
        ("noeviction", None),
        ("allkeys-lru", Some("drops checkpoints")),
        ("volatile-ttl", Some("ends leases early")),
    ] {
        server.command(&["CONFIG", "SET", "maxmemory-policy", policy]).unwrap();
        for (user, is_told) in [("", true), ("anna:pw@", false)] {
            let log = Log::default();
            let writer = log.clone();
            let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
            let _guard = tracing::subscriber::set_default(subscriber);
            RedisState::open(format!("redis://{user}127.0.0.1:{}", server.port())).await.unwrap();
            let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            match warned.filter(|_| is_told) {
                Some(text) => {
                    assert!(log.contains("WARN") && log.contains(text) && log.contains(policy), "{log}");
                }
                None => assert!(!log.contains("WARN"), "{log}"),
            }
        }
    }
}
