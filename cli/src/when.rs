//! Times as people write them: `10m` ago, or a date and a time of day.
//!
//! Pure: what is meant depends on the text, the time zone, and on the present where it is asked for. So the times of
//! one command line are all taken at the same moment.
//!
//! A time of day that a change of the clocks leaves out or repeats means two times: the earlier one to begin at, the
//! later one to end at.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::Time;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;

/// What is said about a text that is no time.
const FORMS: &str = "it is not a time: write how long ago as `10m`, `1h30m` or `2d`, or a date and time as `2026-11-24`, \
                     `2026-11-24T08:00`, `2026-11-24T08:00:00Z` or `2026-11-24T08:00:00+01:00`";

/// A time, as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// So long before the present.
    Ago(Duration),
    /// A date and a time of day.
    At {
        /// The earliest time that is meant.
        earliest: SystemTime,
        /// The latest, which is the same but where the clocks are changed.
        latest: SystemTime,
    },
}

impl When {
    /// Reads a time; one that names no time zone is in that of this machine, or in UTC where it has none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::parse_in(text, TimeZone::system)
    }

    fn parse_in(text: &str, zone: impl FnOnce() -> TimeZone) -> Result<Self, String> {
        if let Ok(duration) = humantime::parse_duration(text) {
            return Ok(Self::Ago(duration));
        }
        Self::parse_date(text, zone).ok_or_else(|| FORMS.into())
    }

    fn parse_date(text: &str, zone: impl FnOnce() -> TimeZone) -> Option<Self> {
        let pieces = Pieces::parse(text).ok()?;
        // A name of a time zone in brackets is not one of the forms, and must not be taken for nothing.
        if pieces.time_zone_annotation().is_some() {
            return None;
        }
        let local = pieces.date().to_datetime(pieces.time().unwrap_or(Time::midnight()));
        let (earliest, latest) = if let Some(offset) = pieces.to_numeric_offset() {
            let time = offset.to_timestamp(local).ok()?;
            (time, time)
        } else {
            let zone = zone();
            let meant = || zone.to_ambiguous_timestamp(local);
            (meant().earlier().ok()?, meant().later().ok()?)
        };
        Some(Self::At { earliest: earliest.try_into().ok()?, latest: latest.try_into().ok()? })
    }

    /// The time to begin at. What is before 1970 is taken for 1970: nothing is older.
    pub(crate) fn earliest(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(duration) => before(now, duration),
            Self::At { earliest, .. } => earliest.max(UNIX_EPOCH),
        }
    }

    /// The time to end at.
    pub(crate) fn latest(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ago(duration) => before(now, duration),
            Self::At { latest, .. } => latest.max(UNIX_EPOCH),
        }
    }
}

fn before(now: SystemTime, duration: Duration) -> SystemTime {
    now.checked_sub(duration).map_or(UNIX_EPOCH, |time| time.max(UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-24 08:00 UTC.
    const MORNING: u64 = 1_795_507_200;

    fn unix(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Central Europe, without the help of the machine's files.
    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn parse(text: &str) -> Result<When, String> {
        When::parse_in(text, berlin)
    }

    #[test]
    fn durations_are_before_now() {
        let now = unix(MORNING);
        for (text, seconds) in [
            ("0s", 0),
            ("10m", 600),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("2d", 2 * 86400),
            ("1week", 7 * 86400),
        ] {
            let when = parse(text).unwrap();
            assert_eq!(when.earliest(now), unix(MORNING - seconds), "{text}");
            assert_eq!(when.latest(now), unix(MORNING - seconds), "{text}");
        }
        for text in ["100years", "1000000000000s", "500000000000years"] {
            assert_eq!(parse(text).unwrap().earliest(now), UNIX_EPOCH, "{text}");
        }
    }

    #[test]
    fn dates_are_local_unless_they_say_otherwise() {
        for (text, seconds) in [
            ("2026-11-24T08:00:00Z", MORNING),
            ("2026-11-24T08:00Z", MORNING),
            ("2026-11-24t08:00:00z", MORNING),
            ("2026-11-24 08:00:00Z", MORNING),
            ("2026-11-24T08:00:00+00:00", MORNING),
            ("2026-11-24T08:00:00-05:30", MORNING + 19_800),
            ("2026-11-24T09:00:00+01:00", MORNING),
            ("2026-11-24T09:00:00", MORNING),
            ("2026-11-24T09:00", MORNING),
            ("2026-11-24 09:00", MORNING),
            ("2026-11-24", MORNING - 9 * 3600),
            ("2026-07-01T02:00", 1_782_864_000),
            ("1969-12-31", 0),
        ] {
            let when = parse(text).unwrap();
            assert_eq!(when.earliest(UNIX_EPOCH), unix(seconds), "{text}");
            assert_eq!(when.latest(UNIX_EPOCH), unix(seconds), "{text}");
        }
        let fraction = parse("2026-11-24T08:00:00.123Z").unwrap();
        assert_eq!(fraction.earliest(UNIX_EPOCH), unix(MORNING) + Duration::from_millis(123));
    }

    #[test]
    fn where_the_clocks_are_changed_more_is_meant_rather_than_less() {
        // In the night of 2026-10-25, 02:30 comes twice; in that of 2026-03-29, never.
        for (text, first, hours) in [
            ("2026-10-25T02:30", 1_792_888_200, 1),
            ("2026-03-29T02:30", 1_774_744_200, 1),
            ("2026-10-25T02:30+02:00", 1_792_888_200, 0),
        ] {
            let when = parse(text).unwrap();
            assert_eq!(when.earliest(UNIX_EPOCH), unix(first), "{text}");
            assert_eq!(when.latest(UNIX_EPOCH), unix(first + hours * 3600), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told_with_the_forms() {
        for text in [
            "",
            "10",
            "-10m",
            "m",
            "yesterday",
            "08:00",
            "2026-13-01",
            "2026-02-30",
            "2026-11-24T25:00",
            "2026-11-24T08:00:00+99:00",
            "2026-11-24T08:00[America/New_York]",
            "2026-11-24T08:00:00Z[America/New_York]",
            "24.11.2026",
            "1795507200",
        ] {
            let error = parse(text).expect_err(text);
            for form in ["10m", "1h30m", "2d", "2026-11-24T08:00", "2026-11-24T08:00:00Z", "2026-11-24"] {
                assert!(error.contains(&format!("`{form}`")), "{error}");
            }
        }
    }

    /// What times are made of, and anything else.
    fn text() -> impl Strategy<Value = String> {
        let parts = "[+-]?[0-9]{1,6}(-[0-9]{1,2}){0,2}([ Tt][0-9]{1,2}(:[0-9]{1,2}){0,2}([.,][0-9]{0,10})?)?";
        let zone = "([zZ]|[+-][0-9]{1,2}(:?[0-9]{2}){0,2}|\\[[a-zA-Z/]{0,9}\\])?";
        let durations = "([0-9]{1,20} ?(ns|us|ms|s|sec|m|min|h|d|w|week|M|months|y|years)? ?){0,4}";
        let date = (parts, zone).prop_map(|(parts, zone)| parts + &zone);
        prop_oneof![date, durations, "\\PC{0,40}"]
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in text(), now in 0..u64::MAX / 4_000_000_000) {
            let now = UNIX_EPOCH + Duration::from_secs(now);
            if let Ok(when) = parse(&text) {
                let (earliest, latest) = (when.earliest(now), when.latest(now));
                prop_assert!(UNIX_EPOCH <= earliest && earliest <= latest, "{earliest:?} to {latest:?}");
                prop_assert!(latest <= now || matches!(when, When::At { .. }), "{latest:?} was not ago");
            }
        }
    }
}
