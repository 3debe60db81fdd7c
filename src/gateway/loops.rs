//! Loops: the element of `CDN-Loop` (RFC 8586) by which the gateway recognizes a request that it has forwarded before.
//!
//! The element holds a key of this process, so that a client can neither make the gateway refuse requests of others nor
//! hide a loop. Answers never carry it.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use subtle::ConstantTimeEq;

use crate::refusal::Refusal;

static CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// The most elements of others that pass on.
const MOST: usize = 8;
/// The name of the gateway in its element.
const NAME: &str = "passgate";

/// What this gateway adds to `CDN-Loop`.
#[derive(Clone)]
pub struct LoopMark {
    /// 16 random bytes in hexadecimal.
    key: String,
    element: HeaderValue,
}

impl fmt::Debug for LoopMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoopMark")
    }
}

impl LoopMark {
    /// A mark with a new key.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let key: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let element =
            HeaderValue::try_from(format!("{NAME};k={key}")).expect("hexadecimal digits are visible ASCII");
        Ok(Self { key, element })
    }

    /// Whether an element is this one, as others may have written it anew.
    fn is(&self, element: &str) -> bool {
        let mut parts = element.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case(NAME))
            && parts
                .filter_map(|parameter| parameter.split_once('='))
                .any(|(name, key)| {
                    let key = key.trim().trim_matches('"');
                    name.trim() == "k" && bool::from(key.as_bytes().ct_eq(self.key.as_bytes()))
                })
    }
}

/// Adds the gateway's element to a request.
///
/// # Errors
/// [`Refusal::LoopDetected`] where the element is there already, or so many others are that there is a loop of theirs.
pub(super) fn mark(mark: &LoopMark, headers: &mut HeaderMap) -> Result<(), Refusal> {
    if !headers.contains_key(&CDN_LOOP) {
        headers.insert(CDN_LOOP.clone(), mark.element.clone());
        return Ok(());
    }
    check(mark, headers)?;
    let line = joined(headers, |_| true)
        .into_iter()
        .chain([mark.element.as_bytes().to_vec()])
        .collect::<Vec<_>>();
    if let Ok(line) = HeaderValue::try_from(line.join(&b", "[..])) {
        headers.insert(CDN_LOOP.clone(), line);
    }
    Ok(())
}

/// Whether a request has been here before, or has passed through too many others.
///
/// # Errors
/// [`Refusal::LoopDetected`] where it has.
pub(super) fn check(mark: &LoopMark, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut others = 0;
    for element in headers.get_all(&CDN_LOOP).iter().flat_map(elements) {
        if std::str::from_utf8(element).is_ok_and(|element| mark.is(element)) {
            return Err(Refusal::LoopDetected);
        }
        others += 1;
    }
    if others > MOST {
        Err(Refusal::LoopDetected)
    } else {
        Ok(())
    }
}

/// Removes the gateway's element from an answer: an app that echoes the request would reveal the key.
pub(super) fn unmark(mark: &LoopMark, headers: &mut HeaderMap) {
    if !headers.contains_key(&CDN_LOOP) {
        return;
    }
    let is_other = |element: &[u8]| !std::str::from_utf8(element).is_ok_and(|element| mark.is(element));
    let others = joined(headers, is_other);
    headers.remove(&CDN_LOOP);
    if !others.is_empty()
        && let Ok(line) = HeaderValue::try_from(others.join(&b", "[..]))
    {
        headers.insert(CDN_LOOP.clone(), line);
    }
}

fn joined(headers: &HeaderMap, is_kept: impl Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
    headers
        .get_all(&CDN_LOOP)
        .iter()
        .flat_map(elements)
        .filter(|element| is_kept(element))
        .map(<[u8]>::to_vec)
        .collect()
}

/// The elements of a list (RFC 9110 section 5.6.1); a comma in a quoted string divides nothing.
fn elements(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    line.as_bytes()
        .split(move |byte| {
            let divides = *byte == b',' && !is_quoted;
            if *byte == b'"' && !is_escaped {
                is_quoted = !is_quoted;
            }
            is_escaped = is_quoted && *byte == b'\\' && !is_escaped;
            divides
        })
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CDN_LOOP.clone(), HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<&str> {
        headers
            .get_all(&CDN_LOOP)
            .iter()
            .map(|line| line.to_str().unwrap())
            .collect()
    }

    #[test]
    fn own_element_is_recognized_in_every_spelling_and_no_other_is() {
        let ours = LoopMark::new().unwrap();
        let other = LoopMark::new().unwrap();
        let element = |mark: &LoopMark| mark.element.to_str().unwrap().to_owned();
        for line in [
            element(&ours),
            format!("a.example, {}", element(&ours)),
            format!("{} , a.example", element(&ours)),
            format!("PASSGATE ; k = \"{}\"", ours.key),
            format!("passgate; x=y; k={}", ours.key),
            format!("a; p=\"\\\",\", {}", element(&ours)),
        ] {
            assert_eq!(
                mark(&ours, &mut headers(&[&line])),
                Err(Refusal::LoopDetected),
                "{line}"
            );
            assert_eq!(
                mark(&ours, &mut headers(&["a", &line])),
                Err(Refusal::LoopDetected),
                "{line}"
            );
        }
        for line in [
            element(&other),
            "passgate".to_owned(),
            "passgate;k=".to_owned(),
            "passgate;k=00000000000000000000000000000000".to_owned(),
            format!("other;k={}", ours.key),
            format!("a; p=\", {} ,\"", element(&ours)),
            ours.key.clone(),
        ] {
            let mut headers = headers(&[&line]);
            assert_eq!(mark(&ours, &mut headers), Ok(()), "{line}");
            assert_eq!(lines(&headers), [format!("{line}, {}", element(&ours))]);
        }
    }

    #[test]
    fn eight_others_pass_and_nine_do_not() {
        let ours = LoopMark::new().unwrap();
        let mut eight = headers(&["a, b,, c", "d, e, f, g, h"]);
        assert_eq!(mark(&ours, &mut eight), Ok(()));
        assert!(
            lines(&eight)[0].starts_with("a, b, c, d, e, f, g, h, passgate;k="),
            "{eight:?}"
        );
        assert_eq!(
            mark(&ours, &mut headers(&["a, b, c, d", "e, f, g, h, i"])),
            Err(Refusal::LoopDetected)
        );
    }

    #[test]
    fn answers_do_not_reveal_the_key() {
        let ours = LoopMark::new().unwrap();
        let mut answer = headers(&["a"]);
        mark(&ours, &mut answer).unwrap();
        unmark(&ours, &mut answer);
        assert_eq!(lines(&answer), ["a"]);
        let mut answer = HeaderMap::new();
        mark(&ours, &mut answer).unwrap();
        unmark(&ours, &mut answer);
        assert!(answer.is_empty());
        assert_eq!(format!("{ours:?}"), "LoopMark");
    }
}
