//! CONFIG: what a client learns of the server.

use logd_tests::TestServer;

#[test]
fn first_four_lines_are_those_of_go_logd() {
    let server = TestServer::start(&[]);
    let lines = config(&server);
    assert!(lines.first().is_some_and(|line| line.starts_with("Host: ")), "`CONFIG` says {lines:?}");
    assert_eq!(
        lines.get(1..4).unwrap_or_default(),
        ["Timeout: 15s", "IdleTimeout: 30s", "MaxBatchSize: 65536"]
    );
}

#[test]
fn host_is_the_address_that_the_server_listens_on() {
    let server = TestServer::start(&[]);
    assert_eq!(config(&server).first().map(String::as_str), Some(&*format!("Host: {}", server.host())));
}

#[test]
fn version_and_features_follow() {
    let server = TestServer::start(&[]);
    let lines = config(&server);
    let rest = lines.get(4..).unwrap_or_default();
    let version = rest.iter().find_map(|line| line.strip_prefix("Version: "));
    assert!(
        version.is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit())),
        "{lines:?}"
    );
    let features = rest.iter().find_map(|line| line.strip_prefix("Features: ")).unwrap_or_default();
    for feature in ["wait", "head", "topics", "ping"] {
        assert!(features.split(' ').any(|named| named == feature), "`{feature}` is not in `{features}`");
    }
}

#[test]
fn lines_say_what_the_options_say() {
    let options = ["--timeout", "7s", "--idle-timeout", "1s", "--batch-size", "100000"];
    let lines = config(&TestServer::start(&options));
    assert_eq!(
        lines.get(1..4).unwrap_or_default(),
        ["Timeout: 7s", "IdleTimeout: 1s", "MaxBatchSize: 100000"]
    );
}

#[test]
fn write_guarantee_is_told() {
    for (options, lines) in [
        (&[][..], ["FlushBatches: 0", "FlushInterval: 0s"]),
        (&["--flush-batches", "1"], ["FlushBatches: 1", "FlushInterval: 0s"]),
        (&["--flush-batches", "7", "--flush-interval", "2s"], ["FlushBatches: 7", "FlushInterval: 2s"]),
    ] {
        let told = config(&TestServer::start(options));
        for line in lines {
            assert!(told.iter().any(|told| told == line), "`{line}` is not in {told:?}");
        }
    }
}

#[test]
fn durations_are_such_as_go_reads_them() {
    for (option, shown) in
        [("1m 30s", "1m30s"), ("90s", "1m30s"), ("1500ms", "1.5s"), ("500ms", "500ms"), ("2m", "2m0s")]
    {
        let lines = config(&TestServer::start(&["--timeout", option]));
        let value = lines.get(1).and_then(|line| line.strip_prefix("Timeout: ")).unwrap_or_default();
        assert_eq!(
            seconds_as_go_reads(value),
            seconds_as_go_reads(shown),
            "`{option}` is shown as `{value}`"
        );
    }
}

/// The seconds of a duration in the form of Go's `time.ParseDuration`: numbers, each with its unit, without spaces.
fn seconds_as_go_reads(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !(letter.is_ascii_digit() || letter == '.'))?;
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match rest.get(..letters)? {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = rest.get(letters..)?;
    }
    Some(seconds)
}

fn config(server: &TestServer) -> Vec<String> {
    server.peer().lines("CONFIG").split_terminator("\r\n").map(str::to_owned).collect()
}
