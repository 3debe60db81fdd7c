//! The request target: the one spelling of the path on which a request is matched and with which it is forwarded.
//!
//! Input: the `http::Uri` of a request. Output: a [`Target`], or the refusal of a path that two servers could read
//! differently. Invariants: no dot segment, backslash or control byte passes in any spelling; the query is not changed; the
//! path that routes match is the path that is forwarded.
//!
//! `http::Uri` cuts off a raw `#` and what follows, so that `server` has to look for it in the bytes of the request. It
//! refuses control bytes, spaces, `<`, `>` and backticks in a path itself.

mod canonical;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;

use crate::refusal::Refusal;

/// The longest target that is read and that is forwarded, path and query together, in bytes. RFC 9110 section 4.1 asks for 8000 at least.
pub(crate) const MAX_TARGET_BYTES: usize = 8192;

static ROOT: PathAndQuery = PathAndQuery::from_static("/");

/// What is odd about a path, and refused unless the route accepts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathLeniency {
    /// `%2F` somewhere outside a parameter.
    pub encoded_slash: bool,
    /// `//`, also one that shows only when parameters are dropped or `%2F` is decoded.
    pub empty_segment: bool,
    /// `;` somewhere.
    pub path_parameter: bool,
    /// Escapes somewhere that do not decode to UTF-8 (`%FF`): some apps leave such bytes out.
    pub not_utf8: bool,
    /// `%25` and behind it the escape of an unreserved character (`%2561`, `%252561`): the same path as `%61` to an app
    /// behind a server that decodes what it forwards.
    pub double_encoding: bool,
}

impl PathLeniency {
    /// The names under which a route accepts them (`accept = […]`).
    pub const NAMES: [&'static str; 5] = [
        "encoded-slash",
        "empty-segment",
        "path-parameter",
        "not-utf8",
        "double-encoding",
    ];

    /// These and the one that is called `name`; `None` where none is called so.
    #[must_use]
    pub fn with_name(mut self, name: &str) -> Option<Self> {
        match name {
            "encoded-slash" => self.encoded_slash = true,
            "empty-segment" => self.empty_segment = true,
            "path-parameter" => self.path_parameter = true,
            "not-utf8" => self.not_utf8 = true,
            "double-encoding" => self.double_encoding = true,
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
        } else if self.not_utf8 && !accepted.not_utf8 {
            Some(Refusal::PathNotUtf8)
        } else if self.double_encoding && !accepted.double_encoding {
            Some(Refusal::PathDoubleEncoding)
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
    oddities: PathLeniency,
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
        // A `:path` of nothing but a fragment is left without a byte, which shows as `/` and would be written as nothing.
        if !sent.as_str().starts_with('/') || (sent.as_str() == "/" && *sent != ROOT) {
            return Err(Refusal::TargetForm);
        }
        let mut survey = canonical::survey(sent.path().as_bytes())?;
        let forwarded = if survey.rewrite {
            join("", &canonical::canonical(sent.path()), sent.query())?
        } else {
            sent.clone()
        };
        // Escapes make a path longer than it was sent.
        if forwarded.as_str().len() > MAX_TARGET_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        // In the canonical spelling, because `%25%36%31` is `%2561` as well.
        survey.oddities.double_encoding =
            survey.has_escaped_percent && canonical::is_double_encoded(forwarded.path().as_bytes());
        let matching = survey
            .unlike_matching
            .then(|| canonical::matching(forwarded.path()).into_boxed_str());
        Ok(Self {
            forwarded,
            matching,
            oddities: survey.oddities,
        })
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

    /// The paths that routes would see if they read this one as some apps do: each escaped slash divides segments, as for
    /// apps that decode a path before they match it (CGI, WSGI); bytes that are not UTF-8 are left out; the path is
    /// decoded once more. Each way that is to be had, and each combination; none for a path without such oddities.
    ///
    /// # Errors
    /// A reading for which no route could be asked, because it is refused as a path: a dot segment that shows then.
    pub fn other_readings(&self) -> impl Iterator<Item = Result<String, Refusal>> {
        let PathLeniency {
            encoded_slash,
            not_utf8,
            double_encoding,
            ..
        } = self.oddities;
        let ways = [double_encoding, not_utf8, encoded_slash];
        let can = (0..3).fold(0, |can, way| can | u8::from(ways[way]) << way);
        (1..=can)
            .filter(move |chosen| chosen & !can == 0)
            .map(|chosen| self.read_as(chosen))
    }

    fn read_as(&self, ways: u8) -> Result<String, Refusal> {
        let mut path = Cow::Borrowed(self.path());
        if ways & 1 != 0 {
            path = canonical::decoded_again(&path).into();
        }
        if ways & 2 != 0 {
            path = canonical::without_foreign_bytes(&path).into();
        }
        // A server that decodes twice decodes `%252F` too.
        if ways & 5 != 0 {
            path = path.replace("%2F", "/").into();
        }
        // What shows now has not been looked at.
        canonical::survey(path.as_bytes())?;
        Ok(canonical::matching(&canonical::canonical(&path)))
    }

    /// The query, byte for byte; `Some("")` for a bare `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.forwarded.query()
    }

    /// What a route has to accept for this path to pass.
    #[must_use]
    pub fn oddities(&self) -> PathLeniency {
        self.oddities
    }

    /// What is forwarded: the target as it came wherever that was canonical.
    #[must_use]
    pub fn path_and_query(&self) -> PathAndQuery {
        self.forwarded.clone()
    }

    /// The same as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.forwarded.as_str()
    }

    /// What is forwarded by a route that cuts a prefix off or changes the query.
    ///
    /// `strip_prefix` is as [`canonical_prefix`] made it and is compared by whole segments in their matching spelling; a
    /// path that does not begin with it stays whole. `base` is of the same form, and is put in front of what is left. The
    /// result starts with one `/`.
    ///
    /// # Errors
    /// `PathEmptySegment` where the first segment of what is left is empty in another spelling (`/%2Fadmin`);
    /// `Internal` where the result is no target, which canonical parts cannot bring about.
    pub fn rewritten(
        &self,
        strip_prefix: Option<&str>,
        base: &str,
        query: QueryEdit<'_>,
    ) -> Result<PathAndQuery, Refusal> {
        let rest = strip_prefix.and_then(|prefix| self.without_prefix(prefix));
        let query = match query {
            QueryEdit::Keep if rest.is_none() && base.is_empty() => return Ok(self.forwarded.clone()),
            QueryEdit::Keep => self.query(),
            QueryEdit::Replace(query) => query,
        };
        match rest {
            None => join(base, self.path(), query),
            // More than one slash in front would read as the start of an authority (RFC 3986 section 4.2).
            Some(rest) => {
                let path = format!("/{}", rest.trim_start_matches('/'));
                if canonical::begins_with_empty_segment(path.as_bytes()) {
                    return Err(Refusal::PathEmptySegment);
                }
                join(base, &path, query)
            }
        }
    }

    /// Whether [`Target::rewritten`] cuts this prefix off.
    #[must_use]
    pub fn begins_with(&self, prefix: &str) -> bool {
        self.without_prefix(prefix).is_some()
    }

    fn without_prefix(&self, prefix: &str) -> Option<&str> {
        if prefix.is_empty() {
            return None;
        }
        if self.matching.is_none() {
            return self
                .path()
                .strip_prefix(prefix)
                .filter(|rest| rest.is_empty() || rest.starts_with('/'));
        }
        let mut rest = self.path();
        let mut segment = String::new();
        for wanted in prefix.split('/').skip(1) {
            rest = rest.trim_start_matches('/');
            // A segment that parameters empty is none, as in the matching spelling.
            while rest.starts_with(';') {
                rest = rest
                    .find('/')
                    .map_or("", |end| &rest[end..])
                    .trim_start_matches('/');
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

fn join(base: &str, path: &str, query: Option<&str>) -> Result<PathAndQuery, Refusal> {
    let mut target =
        String::with_capacity(base.len() + path.len() + query.map_or(0, |query| query.len() + 1));
    target.push_str(base);
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
    if segment
        .bytes()
        .any(|byte| byte.is_ascii_control() || matches!(byte, b'/' | b'?' | b'#'))
    {
        return Err(Refusal::TargetByte);
    }
    if segment
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~'))
    {
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
