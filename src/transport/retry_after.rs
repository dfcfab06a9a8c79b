//! [`retry_after`]: how long a server asks its clients to wait.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

const DAY: u64 = 24 * 60 * 60;

/// Returns how long the server asks to wait from `now` on, by `Retry-After` in seconds or as a date (RFC 9110 §10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(read_http_date(value)?.duration_since(now).unwrap_or_default()),
    }
}

/// Returns the time of an IMF-fixdate, the preferred form (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`. Times before 1970 and the
/// two obsolete forms are `None`.
fn read_http_date(text: &str) -> Option<SystemTime> {
    let (_, text) = text.split_once(", ")?;
    let mut parts = text.strip_suffix(" GMT")?.split([' ', ':']);
    let mut number = |digits: usize| parts.next().filter(|part| part.len() == digits)?.parse::<u64>().ok();
    let day = number(2)?;
    let month = text.get(3..6)?;
    let month = MONTHS.iter().position(|known| *known == month)?;
    // The name of the month was read above.
    let _ = number(3);
    let (year, hour, minute, second) = (number(4)?, number(2)?, number(2)?, number(2)?);
    let is_valid = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !is_valid || parts.next().is_some() {
        return None;
    }
    let seconds = days_since_1970(year, month as u64 + 1, day)? * DAY + hour * 3_600 + minute * 60 + second;
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Counts the days of the Gregorian calendar. The year is taken to begin in March, so that the leap day is its last day.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    use super::{read_http_date, retry_after};

    fn seconds(text: &str) -> Option<u64> {
        read_http_date(text).map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_secs())
    }

    /// The numbers are those of `date -u -d … +%s`.
    #[test]
    fn dates_are_read_as_date_reads_them() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784_111_777),
            ("Tue, 29 Feb 2000 23:59:59 GMT", 951_868_799),
            ("Wed, 01 Mar 2000 00:00:00 GMT", 951_868_800),
            ("Sun, 29 Nov 2026 04:00:00 GMT", 1_795_924_800),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
        ] {
            assert_eq!(seconds(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_700);
        for (value, expected) in [
            ("120", Some(120)),
            (" 4 ", Some(4)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(77)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn anything_else_is_no_date() {
        for text in [
            "",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37:00 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
        ] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
