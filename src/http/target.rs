//! The request target: the one spelling of the path on which a request is matched and with which it is forwarded.
//!
//! Enters: the `http::Uri` of a request. Leaves: a [`Target`], or the refusal of a path that two servers could read
//! differently. What must never happen here: a dot segment, a backslash or a control byte in any spelling gets through;
//! the query is changed; the path that routes see leads elsewhere than the path that is forwarded.
//!
//! `http::Uri` cuts a raw `#` and what follows off before we see it, so that `server` has to look for it in the bytes of
//! the request. It refuses control bytes, spaces, `<`, `>` and backticks in a path itself.

mod canonical;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

use crate::refusal::Refusal;

/// The longest target that is read, path and query together, in bytes. RFC 9110 section 4.1 asks for 8000 at least.
pub const MAX_TARGET_BYTES: usize = 8192;

/// What is odd about a path, and refused unless the route accepts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities {
    /// `%2F` somewhere outside a parameter.
    pub encoded_slash: bool,
    /// `//`, also one that shows only when parameters are dropped or `%2F` is decoded.
    pub empty_segment: bool,
    /// `;` somewhere.
    pub path_parameter: bool,
}

impl Oddities {
    /// The names under which a route accepts them (`accept = […]`).
    pub const NAMES: [&'static str; 3] = ["encoded-slash", "empty-segment", "path-parameter"];

    /// These and the one that is called `name`; `None` where none is called so.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Option<Self> {
        match name {
            "encoded-slash" => self.encoded_slash = true,
            "empty-segment" => self.empty_segment = true,
            "path-parameter" => self.path_parameter = true,
            _ => return None,
        }
        Some(self)
    }

    /// Whether nothing is odd.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// The refusal of the first oddity that is not among `accepted`; `None` where the path may pass.
    #[must_use]
    pub fn refusal_unless(self, accepted: Self) -> Option<Refusal> {
        if self.encoded_slash && !accepted.encoded_slash {
            Some(Refusal::PathEncodedSlash)
        } else if self.empty_segment && !accepted.empty_segment {
            Some(Refusal::PathEmptySegment)
        } else if self.path_parameter && !accepted.path_parameter {
            Some(Refusal::PathParameter)
        } else {
            None
        }
    }
}

/// What becomes of the query when a target is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryEdit<'a> {
    /// It stays as it came.
    Keep,
    /// This one instead; `None`: no query and no `?`.
    Replace(Option<&'a str>),
}

/// A path with one meaning, and the query as it came.
///
/// A target that came in its canonical spelling shares the bytes of the request; nothing is allocated for it.
#[derive(Clone, Debug)]
pub struct Target {
    forwarded: PathAndQuery,
    /// `None` where it is the path of `forwarded`.
    matching: Option<Box<str>>,
    oddities: Oddities,
}

impl Target {
    /// Reads the path and query of `uri`. Whether HTTP/1 sent it in origin form is [`request_host`]'s to check, because
    /// HTTP/2 fills in scheme and authority too.
    ///
    /// # Errors
    /// `TargetForm` for `*`, the authority form and an HTTP/2 `:path` without `/`; `TargetTooLong`; `TargetByte`; a
    /// `Path…` refusal. What [`Target::oddities`] names is not an error yet: the route decides.
    ///
    /// [`request_host`]: crate::http::headers::request_host
    pub fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let sent = uri.path_and_query().ok_or(Refusal::TargetForm)?;
        if sent.as_str().len() > MAX_TARGET_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        if !sent.as_str().starts_with('/') {
            return Err(Refusal::TargetForm);
        }
        let survey = canonical::survey(sent.path().as_bytes())?;
        let forwarded =
            if survey.rewrite { join(&canonical::canonical(sent.path()), sent.query())? } else { sent.clone() };
        let matching = survey.unlike_matching.then(|| canonical::matching(forwarded.path()).into_boxed_str());
        Ok(Self { forwarded, matching, oddities: survey.oddities })
    }

    /// The canonical path, as it is forwarded; with its parameters.
    #[must_use]
    pub fn path(&self) -> &str {
        self.forwarded.path()
    }

    /// The path that routes see: without parameters, every segment in its one spelling, no empty segment but the last.
    #[must_use]
    pub fn matching(&self) -> &str {
        self.matching.as_deref().unwrap_or_else(|| self.path())
    }

    /// The path that routes would see if each escaped slash were one that divides segments, as apps that decode a path
    /// before they match it (CGI, WSGI) have it; `None` where there is none.
    #[must_use]
    pub fn matching_with_slashes(&self) -> Option<String> {
        self.oddities.encoded_slash.then(|| canonical::matching(&self.path().replace("%2F", "/")))
    }

    /// The query, byte for byte; `Some("")` for a bare `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.forwarded.query()
    }

    /// What a route has to accept for this path to pass.
    #[must_use]
    pub fn oddities(&self) -> Oddities {
        self.oddities
    }

    /// What is forwarded: the target as it came wherever that was canonical.
    #[must_use]
    pub fn path_and_query(&self) -> PathAndQuery {
        self.forwarded.clone()
    }

    /// What is forwarded by a route that cuts a prefix off or changes the query.
    ///
    /// `strip_prefix` is as [`canonical_prefix`] made it and is compared by whole segments in their matching spelling; a
    /// path that does not begin with it stays whole. The result starts with one `/`.
    ///
    /// # Errors
    /// `Internal` where the result is no target, which canonical parts cannot bring about.
    pub fn rewritten(&self, strip_prefix: Option<&str>, query: QueryEdit<'_>) -> Result<PathAndQuery, Refusal> {
        let rest = strip_prefix.and_then(|prefix| self.without_prefix(prefix));
        let query = match query {
            QueryEdit::Keep if rest.is_none() => return Ok(self.forwarded.clone()),
            QueryEdit::Keep => self.query(),
            QueryEdit::Replace(query) => query,
        };
        match rest {
            None => join(self.path(), query),
            // More than one slash in front would read as the start of an authority (RFC 3986 section 4.2).
            Some(rest) => join(&format!("/{}", rest.trim_start_matches('/')), query),
        }
    }

    fn without_prefix(&self, prefix: &str) -> Option<&str> {
        if prefix.is_empty() {
            return None;
        }
        if self.matching.is_none() {
            return self.path().strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        }
        let mut rest = self.path();
        let mut segment = String::new();
        for wanted in prefix.split('/').skip(1) {
            rest = rest.trim_start_matches('/');
            // A segment that parameters empty is none, as in the matching spelling.
            while rest.starts_with(';') {
                rest = rest.find('/').map_or("", |end| &rest[end..]).trim_start_matches('/');
            }
            let end = rest.find('/').unwrap_or(rest.len());
            segment.clear();
            canonical::push_matching_segment(&mut segment, &rest[..end]);
            if segment != wanted {
                return None;
            }
            rest = &rest[end..];
        }
        Some(rest)
    }
}

fn join(path: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let mut target = String::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(target)).map_err(|_| Refusal::Internal)
}

/// The matching spelling of one literal segment of a route pattern, by the rules that hold for paths, so that a pattern
/// and a path that mean the same are spelled the same. Raw characters outside ASCII are escaped as UTF-8.
///
/// # Errors
/// The refusal that the segment would meet in a path; `PathParameter` for a `;`, because parameters are left out of the
/// match; `PathEmptySegment` for nothing; `TargetByte` for `/`, `?`, `#` and control characters.
pub fn canonical_pattern_segment(segment: &str) -> Result<Cow<'_, str>, Refusal> {
    if segment.is_empty() {
        return Err(Refusal::PathEmptySegment);
    }
    if segment.bytes().any(|byte| byte.is_ascii_control() || matches!(byte, b'/' | b'?' | b'#')) {
        return Err(Refusal::TargetByte);
    }
    if segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')) {
        return Ok(Cow::Borrowed(segment));
    }
    // Bytes outside ASCII are escaped first, so that the survey sees what a client would send.
    let mut sent = String::with_capacity(segment.len() + 1);
    sent.push('/');
    for character in segment.chars() {
        if character.is_ascii() {
            sent.push(character);
        } else {
            sent.push_str(&canonical::canonical(character.encode_utf8(&mut [0; 4])));
        }
    }
    let survey = canonical::survey(sent.as_bytes())?;
    if survey.oddities.path_parameter {
        return Err(Refusal::PathParameter);
    }
    if survey.oddities.empty_segment {
        return Err(Refusal::PathEmptySegment);
    }
    let mut matching = String::with_capacity(sent.len());
    canonical::push_matching_segment(&mut matching, &canonical::canonical(&sent[1..]));
    Ok(Cow::Owned(matching))
}

/// The spelling of a `strip_prefix` that [`Target::rewritten`] takes: `/admin` for `/admin` and for `/admin/`, nothing
/// for `/`.
///
/// # Errors
/// `TargetForm` where it does not start with `/`; else those of [`canonical_pattern_segment`].
pub fn canonical_prefix(prefix: &str) -> Result<String, Refusal> {
    let segments = prefix.strip_prefix('/').ok_or(Refusal::TargetForm)?;
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let mut out = String::with_capacity(prefix.len());
    if segments.is_empty() {
        return Ok(out);
    }
    for segment in segments.split('/') {
        out.push('/');
        out.push_str(&canonical_pattern_segment(segment)?);
    }
    Ok(out)
}
