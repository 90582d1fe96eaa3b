//! Bounds, each from both sides.

use std::time::Duration;

use super::*;

fn with(change: impl FnOnce(&mut Config)) -> Result<(), ConfigError> {
    let mut config = Config::default();
    change(&mut config);
    config.validate()
}

fn refused(option: &str, change: impl FnOnce(&mut Config)) {
    let error = with(change).expect_err(option);
    assert_eq!(error.option, option, "{error}");
}

#[test]
fn the_default_is_valid() {
    assert_eq!(Config::default().validate(), Ok(()));
}

#[test]
fn an_error_names_option_value_and_bounds() {
    let error = with(|config| config.batch_bytes = 100).unwrap_err();
    assert_eq!(error.to_string(), "`batch-size` cannot be `100`: it must be from 512 to 67108864 bytes");
    let error = with(|config| config.partition_bytes = 1000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`partition-size` cannot be `1000`: it must be at least the 65536 bytes of `batch-size` and at most \
         1152921504606846976 bytes"
    );
    let error = with(|config| config.file_mode = 0o400).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`file-mode` cannot be `0400`: it must be octal permissions of at most `0777` with `0600` among them"
    );
    let error = with(|config| config.timeout = Duration::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "`timeout` cannot be `0s`: it must be from `1ms` to `24h`");
}

#[test]
fn numbers_are_taken_up_to_their_bounds() {
    type Set = fn(&mut Config, u64);
    let cases: [(&str, u64, u64, Set); 7] = [
        ("batch-size", 512, 64 * 1024 * 1024, |c, v| c.batch_bytes = usize::try_from(v).unwrap()),
        ("partition-size", 65536, 1 << 60, |c, v| c.partition_bytes = v),
        ("partitions", 1, 100_000, |c, v| c.partitions = usize::try_from(v).unwrap()),
        ("flush-batches", 0, 1_000_000, |c, v| c.flush_batches = v),
        ("max-messages", 1, 10_000_000, |c, v| c.max_messages = v),
        ("topics", 0, 100_000, |c, v| c.topics = usize::try_from(v).unwrap()),
        ("max-connections", 1, 1_000_000, |c, v| c.max_connections = usize::try_from(v).unwrap()),
    ];
    for (option, min, max, set) in cases {
        assert_eq!(with(|config| set(config, min)), Ok(()), "{option}");
        assert_eq!(with(|config| set(config, max)), Ok(()), "{option}");
        refused(option, |config| set(config, max + 1));
        if let Some(below) = min.checked_sub(1) {
            refused(option, |config| set(config, below));
        }
    }
}

#[test]
fn times_are_taken_up_to_their_bounds() {
    type Set = fn(&mut Config, Duration);
    let cases: [(&str, Set); 4] = [
        ("timeout", |c, v| c.timeout = v),
        ("idle-timeout", |c, v| c.idle_timeout = v),
        ("shutdown-timeout", |c, v| c.shutdown_timeout = v),
        ("flush-interval", |c, v| c.flush_interval = Some(v)),
    ];
    let (min, max) = (Duration::from_millis(1), Duration::from_secs(86_400));
    for (option, set) in cases {
        assert_eq!(with(|config| set(config, min)), Ok(()), "{option}");
        assert_eq!(with(|config| set(config, max)), Ok(()), "{option}");
        refused(option, |config| set(config, Duration::from_nanos(999_999)));
        refused(option, |config| set(config, max + Duration::from_nanos(1)));
    }
}

#[test]
fn a_partition_holds_at_least_one_batch() {
    let sizes = |batch, partition| {
        with(|config| {
            config.batch_bytes = batch;
            config.partition_bytes = partition;
        })
    };
    assert_eq!(sizes(1024, 1024), Ok(()));
    assert_eq!(sizes(1024, 1023).unwrap_err().option, "partition-size");
}

#[test]
fn a_file_can_be_read_and_written_by_its_owner() {
    for mode in [0o600, 0o640, 0o666, 0o777] {
        assert_eq!(with(|config| config.file_mode = mode), Ok(()), "{mode:o}");
    }
    for mode in [0, 0o200, 0o400, 0o177, 0o1600, 0o10000] {
        refused("file-mode", |config| config.file_mode = mode);
    }
}

#[test]
fn a_host_has_an_address_and_a_port() {
    for host in ["127.0.0.1:1774", "[::1]:0", "localhost:65535", ":1774"] {
        assert_eq!(with(|config| config.host = host.into()), Ok(()), "{host}");
    }
    for host in ["", "127.0.0.1", "localhost:", "localhost:65536", "localhost:http"] {
        refused("host", |config| config.host = host.into());
    }
}

#[test]
fn an_empty_workdir_is_refused() {
    refused("workdir", |config| config.workdir = PathBuf::new());
}

#[test]
fn times_are_written_in_the_largest_unit_that_is_exact() {
    let cases = [
        (Duration::ZERO, "0s"),
        (Duration::from_secs(15), "15s"),
        (Duration::from_secs(90), "90s"),
        (Duration::from_millis(500), "500ms"),
        (Duration::from_millis(1500), "1500ms"),
        (Duration::from_micros(7), "7us"),
        (Duration::from_nanos(1_000_001), "1000001ns"),
    ];
    for (duration, text) in cases {
        assert_eq!(Config::duration_text(duration), text);
        assert_eq!(humantime::parse_duration(text), Ok(duration));
    }
}
