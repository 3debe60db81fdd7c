//! A credential in a header field: `Authorization: Bearer …`, or a field of its own.
//!
//! Invariants: two lines of the field are never taken for one, and a token after a scheme other than the configured one is
//! never read.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::{Found, token_of};
use crate::config::raw::RawSource;
use crate::refusal::Refusal;

/// A header field, and the scheme before the token.
#[derive(Clone, Debug)]
pub struct Header {
    name: HeaderName,
    scheme: Option<Box<str>>,
}

/// Schemes are compared without case (RFC 9110 section 11.1).
impl PartialEq for Header {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && match (&self.scheme, &other.scheme) {
                (Some(mine), Some(theirs)) => mine.eq_ignore_ascii_case(theirs),
                (None, None) => true,
                _ => false,
            }
    }
}

impl Eq for Header {}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "header `{}`", self.name)?;
        match &self.scheme {
            Some(scheme) => write!(f, " with scheme `{scheme}`"),
            None => Ok(()),
        }
    }
}

impl Header {
    pub(super) fn bearer() -> Self {
        Self {
            name: AUTHORIZATION,
            scheme: Some("Bearer".into()),
        }
    }

    pub(super) fn compile(raw: &RawSource) -> Option<Self> {
        let RawSource::Header { name, scheme } = raw else {
            return None;
        };
        Some(Self {
            name: name.clone(),
            scheme: scheme.as_deref().map(Into::into),
        })
    }

    pub(super) fn read<'a>(&self, headers: &'a HeaderMap, _query: Option<&'a str>) -> Found<'a> {
        let mut lines = headers.get_all(&self.name).iter();
        let Some(line) = lines.next() else {
            return Found::Absent("there is no such header");
        };
        if lines.next().is_some() {
            return Found::Refused(Refusal::CredentialRepeated);
        }
        let token = match &self.scheme {
            None => line.as_bytes().trim_ascii(),
            Some(scheme) => match after_scheme(line.as_bytes(), scheme) {
                Some(token) => token,
                None => return Found::Absent("the header has another scheme"),
            },
        };
        match token_of(token) {
            Some(token) => Found::Token(token.into()),
            None => Found::Refused(Refusal::CredentialMalformed),
        }
    }

    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        let ours = match &self.scheme {
            None => true,
            Some(scheme) => headers
                .get_all(&self.name)
                .iter()
                .any(|line| after_scheme(line.as_bytes(), scheme).is_some()),
        };
        if ours {
            headers.remove(&self.name);
        }
    }

    #[expect(clippy::unused_self, reason = "every kind answers this")]
    pub(super) fn query_name(&self) -> Option<&str> {
        None
    }

    #[expect(clippy::unnecessary_wraps, reason = "every kind answers this")]
    pub(super) fn header_name(&self) -> Option<&HeaderName> {
        Some(&self.name)
    }
}

/// The rest of `line` behind `scheme` and its spaces; `None` where `line` begins with something else. A tab behind the scheme
/// is no separator (RFC 9110 section 11.4), but the scheme is there, so that the tab is left in what is returned.
fn after_scheme<'a>(line: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let line = line.trim_ascii();
    let (found, rest) = line.split_at_checked(scheme.len())?;
    if !found.eq_ignore_ascii_case(scheme.as_bytes()) {
        return None;
    }
    match rest.first() {
        None | Some(b'\t') => Some(rest),
        Some(b' ') => {
            let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
            Some(&rest[spaces..])
        }
        Some(_) => None,
    }
}
