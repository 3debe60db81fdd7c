//! A time in words, "2 hours ago", and exactly, in UTC.
//!
//! Input: seconds since 1970. Output: text. The pages run no script that knows the time zone of the reader: relative words
//! are the same everywhere, and the exact time names its zone. Not by jiff's friendly printer, which writes every unit of a
//! span ("2 hours 1 minute 40 seconds ago"): to round to one unit takes more code than [`count`].

use jiff::Timestamp;
use jiff::fmt::strtime;

use crate::clock::UnixSeconds;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How long before `now` a time is. A time ahead, of a clock that was set back, is "just now".
pub(super) fn ago(then: UnixSeconds, now: UnixSeconds) -> String {
    match now.saturating_sub(then) {
        ..MINUTE => "just now".to_owned(),
        past @ MINUTE..HOUR => count(past / MINUTE, "minute") + " ago",
        past @ HOUR..DAY => count(past / HOUR, "hour") + " ago",
        past => count(past / DAY, "day") + " ago",
    }
}

/// How long after `now` a time is.
pub(super) fn ahead(then: UnixSeconds, now: UnixSeconds) -> String {
    match then.saturating_sub(now) {
        ..=0 => "now".to_owned(),
        left @ 1..HOUR => "in ".to_owned() + &count((left / MINUTE).max(1), "minute"),
        left @ HOUR..DAY => "in ".to_owned() + &count(left / HOUR, "hour"),
        left => "in ".to_owned() + &count(left / DAY, "day"),
    }
}

/// For people: `22 November 2026, 01:18 UTC`. Empty for a time that no calendar has.
pub(super) fn exact(at: UnixSeconds) -> String {
    Timestamp::from_second(at)
        .ok()
        .and_then(|at| strtime::format("%-d %B %Y, %H:%M UTC", at).ok())
        .unwrap_or_default()
}

/// The time of day in UTC: `01:18:09`. Empty for a time that no calendar has.
pub(super) fn clock(at: UnixSeconds) -> String {
    Timestamp::from_second(at)
        .ok()
        .and_then(|at| strtime::format("%H:%M:%S", at).ok())
        .unwrap_or_default()
}

/// For machines: RFC 3339 in UTC. Empty for a time that no calendar has.
pub(super) fn machine(at: UnixSeconds) -> String {
    Timestamp::from_second(at)
        .map(|at| at.to_string())
        .unwrap_or_default()
}

fn count(number: i64, unit: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {unit}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_told_in_the_largest_whole_unit() {
        let now = 1_800_000_000;
        for (seconds, words) in [
            (-5, "just now"),
            (0, "just now"),
            (59, "just now"),
            (60, "1 minute ago"),
            (119, "1 minute ago"),
            (3_599, "59 minutes ago"),
            (3_600, "1 hour ago"),
            (7_300, "2 hours ago"),
            (86_399, "23 hours ago"),
            (86_400, "1 day ago"),
            (6 * 86_400, "6 days ago"),
        ] {
            assert_eq!(ago(now - seconds, now), words, "{seconds}");
        }
    }

    #[test]
    fn the_future_is_told_in_the_same_way() {
        for (seconds, words) in [
            (-5, "now"),
            (0, "now"),
            (1, "in 1 minute"),
            (3_600, "in 1 hour"),
            (2 * 86_400 + 5, "in 2 days"),
        ] {
            assert_eq!(ahead(seconds, 0), words, "{seconds}");
        }
    }

    #[test]
    fn the_exact_time_names_its_zone_and_no_number_is_too_odd() {
        assert_eq!(exact(1_795_310_280), "22 November 2026, 01:18 UTC");
        assert_eq!(machine(1_795_310_280), "2026-11-22T01:18:00Z");
        for odd in [i64::MIN, i64::MAX] {
            assert_eq!((exact(odd), machine(odd)), (String::new(), String::new()));
            ago(odd, 0);
            ago(0, odd);
            ahead(odd, -1);
        }
    }
}
