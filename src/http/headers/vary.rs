//! `Vary` of an answer.
//!
//! Input: what the app says, and what the gateway adds. Output: one field with each name once.

use http::header::VARY;
use http::{HeaderMap, HeaderValue};

/// Adds the names in `ours` to what the app says that its answer depends on (RFC 9110 section 12.5.5), in one line.
pub(crate) fn add_vary(headers: &mut HeaderMap, ours: &HeaderValue) {
    if !headers.contains_key(VARY) {
        headers.insert(VARY, ours.clone());
        return;
    }
    let mut names = String::new();
    let values = headers.get_all(VARY).iter().chain([ours]);
    for name in values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
    {
        if name == "*" {
            return;
        }
        let is_there = names.split(", ").any(|there| there.eq_ignore_ascii_case(name));
        if !name.is_empty() && !is_there {
            if !names.is_empty() {
                names.push_str(", ");
            }
            names.push_str(name);
        }
    }
    if let Ok(names) = HeaderValue::try_from(names) {
        headers.insert(VARY, names);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn vary_is_one_line_with_each_name_once() {
        for (theirs, expected) in [
            (&[][..], "Cookie, Authorization"),
            (&["Accept-Encoding"], "Accept-Encoding, Cookie, Authorization"),
            (
                &["accept-encoding,cookie"],
                "accept-encoding, cookie, Authorization",
            ),
            (
                &["Origin", "AUTHORIZATION , Cookie"],
                "Origin, AUTHORIZATION, Cookie",
            ),
            (&[""], "Cookie, Authorization"),
            (&["*"], "*"),
        ] {
            let mut headers = HeaderMap::new();
            for value in theirs {
                headers.append(VARY, HeaderValue::from_static(value));
            }
            add_vary(&mut headers, &HeaderValue::from_static("Cookie, Authorization"));
            let found: Vec<_> = headers.get_all(VARY).iter().collect();
            assert_eq!(found, [expected], "{theirs:?}");
        }
    }
}
