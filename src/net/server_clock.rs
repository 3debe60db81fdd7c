//! The clock of a server, as its answers tell.
//!
//! Input: an answer. Output: by how many seconds the clock of the server is ahead.

use bytes::Bytes;
use http::{Response, header};

use crate::clock::{Clock, UnixSeconds};

/// How many seconds the clock of the server is ahead, as far as an answer tells: `Date`, and the time that a cache has kept it
/// (RFC 9110 section 6.6.1, RFC 9111 section 5.1).
pub(crate) fn seconds_ahead(answer: &Response<Bytes>) -> Option<i64> {
    let text = |name| answer.headers().get(name)?.to_str().ok();
    let date = jiff::fmt::rfc2822::parse(text(header::DATE)?).ok()?;
    let age: UnixSeconds = match text(header::AGE) {
        Some(age) => age.trim().parse().ok()?,
        None => 0,
    };
    let date = date.timestamp().as_second().checked_add(age)?;
    date.checked_sub(Clock::system().now())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(headers: &[(&str, &str)]) -> Response<Bytes> {
        let mut answer = Response::builder();
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(Bytes::new()).unwrap()
    }

    #[test]
    fn clock_is_compared_with_date_and_age() {
        let now = Clock::system().now();
        let date = |ahead: i64| {
            let time = jiff::Timestamp::from_second(now + ahead).unwrap();
            time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
        };
        let ahead = seconds_ahead(&answer(&[("date", &date(100))])).unwrap();
        assert!((98..=100).contains(&ahead), "{ahead}");
        let ahead = seconds_ahead(&answer(&[("date", &date(-300)), ("age", "300")])).unwrap();
        assert!((-2..=0).contains(&ahead), "{ahead}");
        for unknown in [
            &[][..],
            &[("date", "yesterday")],
            &[("date", &date(0)), ("age", "x")],
        ] {
            assert_eq!(seconds_ahead(&answer(unknown)), None, "{unknown:?}");
        }
    }
}
