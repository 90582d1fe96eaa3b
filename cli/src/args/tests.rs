use super::*;

fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("log-cli").chain(arguments.iter().copied()))
}

fn read(arguments: &[&str]) -> Read {
    match parse(arguments).unwrap().command {
        Command::Read(read) => read,
        other => panic!("{other:?} is not `read`"),
    }
}

#[test]
fn definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn host_has_a_port() {
    for text in ["127.0.0.1:1774", "logs.example.org:1", "[::1]:65535"] {
        assert_eq!(host(text).as_deref(), Ok(text));
    }
    assert_eq!(host(":1774").as_deref(), Ok("127.0.0.1:1774"));
    for text in ["", ":", ":0", "127.0.0.1", "logs:", "logs:0", "logs:65536", "::1", "::1:1774", "[x]:1"] {
        assert!(host(text).is_err(), "{text:?} was taken for a host and a port");
    }
}

#[test]
fn sizes_are_plain_or_have_a_unit() {
    for (text, bytes) in [("512", 512), ("512B", 512), ("64KiB", 65536), ("64 KiB", 65536), ("1MiB", 1 << 20)]
    {
        assert_eq!(batch_bytes(text), Ok(bytes), "{text:?}");
    }
    assert_eq!(batch_bytes("64MiB"), Ok(BATCH_BYTES_MAX));
    for text in
        ["", "KiB", "-1", "1.5KiB", "64kb", "64 K", "0x200", "511", "65MiB", "99999999999999999999MiB"]
    {
        assert!(batch_bytes(text).is_err(), "{text:?} was taken for a size");
    }
}

#[test]
fn time_limits_are_longer_than_zero() {
    assert_eq!(time_limit("1m 500ms"), Ok(Duration::from_millis(60_500)));
    for text in ["0s", "", "5", "-1s", "25h", "100000000years"] {
        assert!(time_limit(text).is_err(), "{text:?} was taken for a time limit");
    }
}

#[test]
fn intervals_can_be_zero() {
    assert_eq!(interval("0s"), Ok(Duration::ZERO));
    assert_eq!(interval("24h"), Ok(TIME_MAX));
    assert!(interval("24h 1ns").is_err());
}

#[test]
fn multiplier_is_at_least_one() {
    assert_eq!(multiplier("1.5"), Ok(1.5));
    for text in ["0.9", "NaN", "inf", "x"] {
        assert!(multiplier(text).is_err(), "{text:?} was taken for a multiplier");
    }
}

#[test]
fn common_options_can_stand_before_and_after_the_command() {
    for arguments in [["--batch-size", "1KiB", "-c", "read"], ["read", "--batch-size", "1KiB", "-c"]] {
        let common = parse(&arguments).unwrap().common;
        assert_eq!((common.batch_size, common.count, common.verbose), (1024, true, false));
    }
}

#[test]
fn offset_is_a_batch_or_a_message_in_it() {
    assert_eq!(read(&["read"]).offset, None);
    assert_eq!(read(&["read", "--offset", "60"]).offset, Some("60.0".parse().unwrap()));
    assert_eq!(read(&["read", "--offset", "60.14"]).offset, Some("60.14".parse().unwrap()));
    for offset in ["60.", "-1", "x", "18446744073709551616"] {
        assert!(
            parse(&["read", &format!("--offset={offset}")]).is_err(),
            "{offset:?} was taken for an offset"
        );
    }
}

#[test]
fn times_begin_and_end_a_read() {
    let read = read(&["read", "--since", "1h30m", "--until", "2026-11-24T08:00:00Z"]);
    assert_eq!(read.since, Some(When::Ago(Duration::from_secs(5400))));
    assert!(matches!(read.until, Some(When::At { .. })));
    assert!(parse(&["read", "--since", "10m", "--offset", "60"]).is_err());
    assert!(parse(&["read", "--until", "10m", "--offset", "60"]).is_ok());
    let error = parse(&["read", "--since", "yesterday"]).unwrap_err().to_string();
    assert!(error.contains("`2026-11-24T08:00:00Z`"), "{error}");
}

#[test]
fn topics_are_checked() {
    assert!(parse(&["read", "--topic", "../x"]).is_err());
    assert_eq!(read(&["read", "--topic", "a.b-c_D"]).topic.as_str(), "a.b-c_D");
}

#[test]
fn messages_and_an_input_exclude_each_other() {
    assert!(parse(&["write", "hello", "--input", "x"]).is_err());
    assert!(parse(&["write", "hello", "world"]).is_ok());
    assert!(parse(&["write", "--", "-x"]).is_ok());
}

#[test]
fn retries_follow_the_first_attempt() {
    let retry = read(&["read", "--retries", "3", "--retry-interval", "1s"]).retry;
    let expected = RetryPolicy::default().attempts(Some(4)).interval(Duration::from_secs(1));
    assert_eq!(retry.policy(Some(RETRIES_DEFAULT)), expected);
    let retry = read(&["read"]).retry;
    assert_eq!(retry.policy(Some(RETRIES_DEFAULT)), RetryPolicy::default());
    assert_eq!(retry.policy(None), RetryPolicy::default().attempts(None));
}

#[test]
fn help_lists_the_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    for exit in Exit::ALL {
        assert!(help.contains(exit.meaning()), "the help does not tell `{}`", exit.meaning());
    }
}

#[test]
fn completions_are_there_for_every_shell() {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
        let script = String::from_utf8(completions(shell)).unwrap();
        assert!(script.contains("log-cli") && script.contains("read-forever"), "{shell}");
    }
}
