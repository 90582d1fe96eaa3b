//! Where values come from, how they are read, and what is said about wrong ones.

use std::collections::HashMap;
use std::os::unix::ffi::OsStringExt;

use proptest::prelude::*;

use super::*;

/// A run of the program: its arguments, its environment, and what is in the file `logd.toml`, if there is one.
#[derive(Default)]
struct Run<'a> {
    arguments: &'a [&'a str],
    environment: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
}

impl Run<'_> {
    fn resolve(&self) -> Result<Invocation, UsageError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logd.toml");
        let mut arguments = vec!["logd".to_owned()];
        arguments.extend(self.arguments.iter().map(|argument| (*argument).to_owned()));
        if let Some(text) = self.file {
            std::fs::write(&path, text).unwrap();
            arguments.extend(["--config".to_owned(), path.to_str().unwrap().to_owned()]);
        }
        let environment: HashMap<&str, &str> = self.environment.iter().copied().collect();
        let matches = command().try_get_matches_from(arguments).unwrap();
        resolve(&matches, |variable| environment.get(variable).map(OsString::from))
    }

    fn config(&self) -> Config {
        self.resolve().unwrap().config
    }

    /// The error, with the directory of the file taken out.
    fn error(&self) -> String {
        let text = self.resolve().unwrap_err().to_string();
        match (text.find("`/"), text.find("logd.toml")) {
            (Some(start), Some(end)) => format!("{}`{}", &text[..start], &text[end..]),
            _ => text,
        }
    }
}

fn run<'a>(arguments: &'a [&'a str]) -> Run<'a> {
    Run { arguments, ..Run::default() }
}

fn file(text: &str) -> Run<'_> {
    Run { file: Some(text), ..Run::default() }
}

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}

#[test]
fn nothing_given_is_the_default() {
    assert_eq!(run(&[]).resolve().unwrap(), Invocation { config: Config::default(), verbose: false });
    assert!(run(&["-v"]).resolve().unwrap().verbose);
}

#[test]
fn every_help_names_the_default_that_holds() {
    for setting in SETTINGS {
        let Some((_, default)) = setting.help.split_once("The default is ") else {
            assert!(setting.help.ends_with("which is the default."), "{}", setting.name);
            continue;
        };
        let mut config = Config::default();
        (setting.set)(&mut config, default.strip_suffix('.').unwrap()).unwrap();
        assert_eq!(config, Config::default(), "{}", setting.name);
    }
}

#[test]
fn every_setting_can_be_given() {
    let given: &[(&str, &str)] = &[
        ("host", "0.0.0.0:80"),
        ("timeout", "1s"),
        ("idle-timeout", "1m30s"),
        ("shutdown-timeout", "500ms"),
        ("workdir", "/var/lib/logd"),
        ("file-mode", "0640"),
        ("batch-size", "1MiB"),
        ("partition-size", "2GiB"),
        ("partitions", "9"),
        ("flush-batches", "1"),
        ("flush-interval", "100ms"),
        ("max-messages", "7"),
        ("topics", "0"),
        ("topics-whitelist", "a,b"),
        ("max-connections", "5"),
    ];
    let expected = Config {
        host: "0.0.0.0:80".into(),
        timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(90),
        shutdown_timeout: Duration::from_millis(500),
        workdir: "/var/lib/logd".into(),
        file_mode: 0o640,
        batch_bytes: 1024 * 1024,
        partition_bytes: 2 * 1024 * 1024 * 1024,
        partitions: 9,
        flush_batches: 1,
        flush_interval: Some(Duration::from_millis(100)),
        max_messages: 7,
        topics: 0,
        topics_whitelist: vec![TopicName::new("a").unwrap(), TopicName::new("b").unwrap()],
        max_connections: 5,
    };
    assert_eq!(given.len(), SETTINGS.len());

    let arguments: Vec<String> = given.iter().map(|(name, value)| format!("--{name}={value}")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(run(&arguments).config(), expected);

    let variable = |name: &str| format!("LOGD_{}", name.to_uppercase().replace('-', "_"));
    let environment: Vec<_> = given.iter().map(|(name, value)| (variable(name), *value)).collect();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(Run { environment: &environment, ..Run::default() }.config(), expected);

    let lines: Vec<_> = given.iter().map(|(name, value)| format!("{name} = \"{value}\"")).collect();
    assert_eq!(file(&lines.join("\n")).config(), expected);
}

#[test]
fn the_command_line_comes_before_the_environment_and_that_before_the_file() {
    let mut run = Run {
        arguments: &["--partitions", "1"],
        environment: &[("LOGD_PARTITIONS", "2")],
        file: Some("partitions = 3\ntopics = 4"),
    };
    assert_eq!(run.config().partitions, 1);
    run.arguments = &[];
    assert_eq!(run.config().partitions, 2);
    run.environment = &[];
    assert_eq!(run.config().partitions, 3);
    assert_eq!(run.config().topics, 4);
    run.file = None;
    assert_eq!(run.config().partitions, 8);
}

#[test]
fn the_file_can_be_named_by_the_environment() {
    let run = Run { environment: &[("LOGD_CONFIG", "/nonexistent/logd.toml")], ..Run::default() };
    assert_eq!(run.error(), "cannot read the configuration file `logd.toml`");
}

#[test]
fn a_file_has_the_types_of_toml() {
    let config = file("batch-size = 1024\nflush-interval = -1\ntopics-whitelist = [\"a\", \"b\"]").config();
    assert_eq!(config.batch_bytes, 1024);
    assert_eq!(config.flush_interval, None);
    assert_eq!(config.topics_whitelist.len(), 2);
}

#[test]
fn whitelists_are_split_and_repeated() {
    let config = run(&["--topics-whitelist", "a, b", "--topics-whitelist", "c"]).config();
    let names: Vec<_> = config.topics_whitelist.iter().map(TopicName::as_str).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let config = Run { environment: &[("LOGD_TOPICS_WHITELIST", "")], ..Run::default() }.config();
    assert!(config.topics_whitelist.is_empty());
}

#[test]
fn never_is_minus_one() {
    assert_eq!(run(&["--flush-interval", "-1"]).config().flush_interval, None);
    let config = Run {
        arguments: &["--flush-interval", "-1"],
        environment: &[("LOGD_FLUSH_INTERVAL", "5ms")],
        file: None,
    };
    assert_eq!(config.config().flush_interval, None);
}

#[test]
fn an_error_names_option_value_bounds_and_origin() {
    assert_eq!(
        run(&["--batch-size", "100"]).error(),
        "`batch-size` cannot be `100`: it must be from 512 to 67108864 bytes (given by the command line)"
    );
    assert_eq!(
        Run { environment: &[("LOGD_TIMEOUT", "15")], ..Run::default() }.error(),
        "`timeout` cannot be `15`: it must be a time with its unit, as `500ms`, `15s` or `1m30s` (given by the \
         environment variable `LOGD_TIMEOUT`)"
    );
    assert_eq!(
        file("partitions = 0").error(),
        "`partitions` cannot be `0`: it must be from 1 to 100000 (given by the configuration file `logd.toml`)"
    );
    assert_eq!(
        run(&["--batch-size=64MiB", "--partition-size=1MiB"]).error(),
        "`partition-size` cannot be `1048576`: it must be at least the 67108864 bytes of `batch-size` and at most \
         1152921504606846976 bytes (given by the command line)"
    );
}

#[test]
fn texts_that_are_no_values_are_refused() {
    let cases = [
        ("--batch-size", ["", "x", "-5", "1 2", "64 KB x", "18446744073709551616", "99999999TiB", "1.5MiB"]),
        ("--partitions", ["", "x", "-1", "+1", "1k", "18446744073709551616", " 1", "0x1"]),
        ("--timeout", ["", "5", "s", "-1s", "1s1", "5 parsecs", "15s,", "1e3s"]),
        ("--flush-interval", ["", "5", "s", "-2", "-1s", "never", "15s,", "0x1s"]),
        ("--file-mode", ["", "8", "rw", "-1", "0x1ff", "+600", "0o", "77777777777777"]),
        ("--topics-whitelist", ["a/b", ".", "..", ".a", "a b", "ä", "a,/b", "\0"]),
    ];
    for (option, values) in cases {
        for value in values {
            let argument = format!("{option}={value}");
            let error = run(&[&argument]).resolve().map_err(|error| error.to_string());
            let error = error.expect_err(&argument);
            assert!(error.contains(&format!("cannot be `{value}`")), "{error}");
        }
    }
}

#[test]
fn a_file_with_an_unknown_key_is_refused() {
    assert_eq!(
        file("batch-size = 1024\nbatchsize = 1\n").error(),
        "the configuration file `logd.toml` has the unknown key `batchsize`"
    );
    assert_eq!(
        file("config = \"x\"").error(),
        "the configuration file `logd.toml` has the unknown key `config`"
    );
}

#[test]
fn a_file_with_a_wrong_type_is_refused() {
    assert_eq!(
        file("file-mode = 600").error(),
        "the key `file-mode` in the configuration file `logd.toml` must be a string"
    );
    assert_eq!(
        file("topics = true").error(),
        "the key `topics` in the configuration file `logd.toml` must be an integer or a string"
    );
    assert_eq!(
        file("topics-whitelist = [1]").error(),
        "the key `topics-whitelist` in the configuration file `logd.toml` must be an array of strings"
    );
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    let error = file("topics = 1\n\npartitions = = 2\n").error();
    assert!(error.starts_with("line 3 of the configuration file `logd.toml` is not TOML: "), "{error}");
    let error = file("topics = 1\ntopics = 2\n").error();
    assert!(error.starts_with("line 2 of the configuration file `logd.toml` is not TOML: "), "{error}");
}

#[test]
fn an_environment_variable_that_is_not_text_is_refused() {
    let matches = command().try_get_matches_from(["logd"]).unwrap();
    let value = OsString::from_vec(vec![0xff]);
    let error = resolve(&matches, |variable| (variable == "LOGD_HOST").then(|| value.clone())).unwrap_err();
    assert_eq!(error.to_string(), "the environment variable `LOGD_HOST` is not UTF-8");
}

#[test]
fn unknown_options_and_repeated_ones_are_bad_usage() {
    for arguments in [&["logd", "--nonsense"][..], &["logd", "word"], &["logd", "--topics=1", "--topics=2"]] {
        assert_eq!(command().try_get_matches_from(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
    }
    for arguments in [["logd", "--help"], ["logd", "--version"]] {
        assert_eq!(command().try_get_matches_from(arguments).unwrap_err().exit_code(), 0, "{arguments:?}");
    }
}

#[test]
fn sizes_have_units() {
    let cases = [
        ("0", 0),
        ("65536", 65536),
        ("64KiB", 65536),
        ("64 KiB", 65536),
        ("100kB", 100_000),
        ("100KB", 100_000),
        ("5b", 5),
        ("2GiB", 2 << 30),
        ("3mb", 3_000_000),
        ("1TiB", 1 << 40),
        ("18446744073709551615", u64::MAX),
    ];
    for (text, bytes) in cases {
        assert_eq!(parse_size::<u64>(text), Ok(bytes), "{text}");
    }
}

proptest! {
    #[test]
    fn a_size_is_its_number_times_its_unit(number: u64, unit in 0..UNITS.len(), space: bool) {
        let (name, bytes) = UNITS[unit];
        let text = format!("{number}{}{name}", if space { " " } else { "" });
        prop_assert_eq!(parse_size::<u64>(&text).ok(), number.checked_mul(bytes));
    }

    #[test]
    fn no_text_breaks_a_parser(text: String) {
        for setting in SETTINGS {
            let _ = (setting.set)(&mut Config::default(), &text).is_ok();
        }
    }

    #[test]
    fn a_written_time_is_read_back(milliseconds in 0..100_000_000_u64) {
        let time = Duration::from_millis(milliseconds);
        prop_assert_eq!(parse_time(&Config::duration_text(time)), Ok(time));
    }
}
