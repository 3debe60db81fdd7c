//! Path patterns: how they are read and what they cover.

use std::str::FromStr;

use super::BadValue;
use crate::http::target::canonical_pattern_segment;
use crate::refusal::Refusal;

/// The most segments that a pattern may have.
pub(crate) const MAX_SEGMENTS: usize = 64;

/// A `path` of a route: segments of which each is literal or `{name}`, and perhaps a `*` at the end.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    /// Without the leading slash, split at the others: `/a/` is `a` and an empty literal. A final `*` is not in here.
    segments: Vec<Segment>,
    /// Ends with `*`: covers the path so far and everything below it.
    subtree: bool,
}

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// This text, in its matching spelling; empty only at the end.
    Literal(Box<str>),
    /// Any one segment that is not empty.
    Parameter,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not start with `/`.
    #[error("a path starts with `/`")]
    NoSlash(String),
    /// `//` somewhere.
    #[error("a path has no empty segment")]
    EmptySegment,
    /// `*` before the end.
    #[error("`*` stands only at the end of a path")]
    StarNotLast,
    /// A `*` beside other characters.
    #[error("`*` stands for itself in no part of a segment: `{0}`")]
    StarInSegment(String),
    /// `{…}` that is not a whole segment with a name in it.
    #[error("`{0}` is no parameter")]
    Parameter(String),
    /// A name that stands twice.
    #[error("two parameters are called `{0}`")]
    ParameterTwice(String),
    /// `:name`, as other routers write a parameter.
    #[error("`{0}` is not how a parameter is written")]
    Colon(String),
    /// A segment in another spelling than that in which paths are matched, and the whole path in that one.
    #[error("no path has the spelling `{0}` when it is matched")]
    Spelling(String, String),
    /// A query or a fragment.
    #[error("`{0}` is no part of a path")]
    Query(String),
    /// A segment that no path may hold.
    #[error("no path can hold the segment `{0}`: {1}")]
    Segment(String, Refusal),
    /// More than [`MAX_SEGMENTS`].
    #[error("a path has {MAX_SEGMENTS} segments at most")]
    TooLong,
}

impl PatternError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NoSlash(text) => without_slash(text),
            Self::EmptySegment => "write one `/` between segments".to_owned(),
            Self::StarNotLast => "write `{name}` for one segment in the middle of a path".to_owned(),
            Self::StarInSegment(segment) if segment.starts_with("*.") => format!(
                "a pattern covers whole segments, and no endings: put what ends with `{}` below one path, like \
                 `/static/*`, or name each file",
                &segment[1..]
            ),
            Self::StarInSegment(segment) if matches!(segment.as_str(), "**" | ".*" | "(.*)") => {
                "write `/*`, which covers everything below".to_owned()
            }
            Self::StarInSegment(_) => {
                "a pattern covers whole segments: write `{name}` for any one segment, `/*` for everything below; a star \
                 itself is written `%2A`"
                    .to_owned()
            }
            Self::Query(query) => {
                format!("the query takes no part in matching: leave `{query}` out, the route covers every query")
            }
            Self::Spelling(segment, _) if segment.contains(['^', '|', '[', ']']) => {
                "a pattern is no regular expression: write a route for each path, `{name}` for any one segment, `/*` for \
                 everything below"
                    .to_owned()
            }
            Self::Spelling(_, canonical) => format!("write `{canonical}`"),
            Self::Parameter(segment) if segment.contains("...") => "write `*` for the rest of a path".to_owned(),
            Self::Parameter(_) => {
                "write `{name}` as a whole segment, with letters, digits and `_`; a brace itself is `%7B` or `%7D`"
                    .to_owned()
            }
            Self::ParameterTwice(_) => "give them different names".to_owned(),
            Self::Colon(segment) => format!("write `{{{}}}`; a colon itself is written `%3A`", &segment[1..]),
            Self::Segment(_, Refusal::TargetByte) => {
                "the query takes no part in matching; write other special characters as `%XX`".to_owned()
            }
            Self::Segment(_, Refusal::PathParameter) => {
                "parameters are left out of the match; a semicolon itself is written `%3B`".to_owned()
            }
            Self::Segment(_, Refusal::PathBadEncoding) => "a percent sign itself is written `%25`".to_owned(),
            Self::Segment(_, _) => "requests with such a path are refused before routes are looked at".to_owned(),
            Self::TooLong => "cover deeper paths with `*`".to_owned(),
        }
    }
}

impl Pattern {
    /// Reads a pattern. Literal segments are brought to the spelling that `Target::matching` has.
    ///
    /// # Errors
    /// What is wrong with it, which [`PatternError::hint`] has an answer to.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let path = text
            .strip_prefix('/')
            .ok_or_else(|| PatternError::NoSlash(text.to_owned()))?;
        if let Some(query) = path.find(['?', '#']) {
            return Err(PatternError::Query(path[query..].to_owned()));
        }
        let mut pattern = Self {
            text: text.into(),
            segments: Vec::new(),
            subtree: false,
        };
        let mut names = Vec::new();
        let mut segments = path.split('/').peekable();
        while let Some(segment) = segments.next() {
            let last = segments.peek().is_none();
            match segment {
                "*" if last => pattern.subtree = true,
                "*" => return Err(PatternError::StarNotLast),
                "" if last => pattern.segments.push(Segment::Literal("".into())),
                "" => return Err(PatternError::EmptySegment),
                _ => match read_segment(segment, &mut names) {
                    Err(PatternError::Spelling(segment, _)) => {
                        return Err(PatternError::Spelling(segment, canonical_path(path)));
                    }
                    segment => pattern.segments.push(segment?),
                },
            }
        }
        if pattern.segments.len() > MAX_SEGMENTS {
            return Err(PatternError::TooLong);
        }
        Ok(pattern)
    }

    /// The text it was written as.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments; a final `*` is none.
    #[must_use]
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends with `*`.
    #[must_use]
    pub(crate) fn is_subtree(&self) -> bool {
        self.subtree
    }

    /// Whether this covers `path`, which is spelled as `Target::matching` does. For requests there is `Table::find`.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else {
            return false;
        };
        let mut sent = path.split('/');
        for segment in &self.segments {
            match (segment, sent.next()) {
                (Segment::Literal(wanted), Some(found)) if **wanted == *found => {}
                (Segment::Parameter, Some(found)) if !found.is_empty() => {}
                _ => return false,
            }
        }
        self.subtree || sent.next().is_none()
    }

    /// A path that this covers.
    #[must_use]
    pub fn example(&self) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            path.push_str(match segment {
                Segment::Literal(literal) => literal,
                Segment::Parameter => "x",
            });
        }
        if path.is_empty() {
            path.push('/');
        }
        path
    }

    /// The names of its parameters, each with the number of its segment, from 0.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, usize)> {
        let segments = self.text.split('/').skip(1).enumerate();
        segments.filter_map(|(number, segment)| {
            let name = segment.strip_prefix('{')?.strip_suffix('}')?;
            Some((name, number))
        })
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

impl From<PatternError> for BadValue {
    fn from(error: PatternError) -> Self {
        Self::new(format!("`path`: {error}"), error.hint())
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn read_segment<'a>(segment: &'a str, names: &mut Vec<&'a str>) -> Result<Segment, PatternError> {
    if segment.contains(['{', '}']) {
        let name = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .unwrap_or_default();
        if name.is_empty()
            || !name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err(PatternError::Parameter(segment.to_owned()));
        }
        if names.contains(&name) {
            return Err(PatternError::ParameterTwice(name.to_owned()));
        }
        names.push(name);
        return Ok(Segment::Parameter);
    }
    if segment.contains('*') {
        return Err(PatternError::StarInSegment(segment.to_owned()));
    }
    if segment.starts_with(':') {
        return Err(PatternError::Colon(segment.to_owned()));
    }
    match canonical_pattern_segment(segment) {
        // Of two spellings in the file, a reader takes one for another path: `/%61uth` is `/auth`.
        Ok(literal) if !is_spelt_so(segment) => {
            Err(PatternError::Spelling(segment.to_owned(), literal.into_owned()))
        }
        Ok(literal) => Ok(Segment::Literal(literal.into())),
        Err(refusal) => Err(PatternError::Segment(segment.to_owned(), refusal)),
    }
}

/// `/` and `path` with each segment in the spelling in which it is matched.
fn canonical_path(path: &str) -> String {
    path.split('/').fold(
        String::new(),
        |written, segment| match canonical_pattern_segment(segment) {
            Ok(literal) if !is_spelt_so(segment) => written + "/" + &literal,
            _ => written + "/" + segment,
        },
    )
}

/// Whether `segment` holds neither a character that paths have only escaped, nor the escape of a letter or digit, which a
/// reader of the file takes for another path. `%7E` and the like are how older standards spell the marks of RFC 3986
/// section 2.3, and letters outside ASCII may stand in a file, where people read them.
fn is_spelt_so(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let escapes_letter = bytes.windows(3).any(|escape| {
        let digits = std::str::from_utf8(&escape[1..])
            .ok()
            .filter(|_| escape[0] == b'%');
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        value.is_some_and(|value| value.is_ascii_alphanumeric())
    });
    !escapes_letter && !bytes.iter().any(|byte| b" \"<>[]^`|".contains(byte))
}

/// What to write instead of `text`, which is no path.
fn without_slash(text: &str) -> String {
    if text.contains("://") {
        return "write the path alone, like `/…`; the host goes into `host`".to_owned();
    }
    let is_expression = text.starts_with(['^', '~']) || text.contains(".*") || text.ends_with('$');
    let plain = text
        .trim_start_matches(['^', '~', ' ', '*'])
        .trim_end_matches(['$', ')', '?']);
    let whole = text.ends_with('$') && !text.contains(".*");
    let plain = ["(/.*", "/.*", "/?", ".*", "/"]
        .iter()
        .find_map(|end| plain.strip_suffix(end))
        .unwrap_or(plain);
    let path = format!("/{}", plain.trim_matches('/'));
    let suggested = if whole || path == "/" {
        path.clone()
    } else {
        format!("{path}/*")
    };
    match Pattern::parse(&suggested) {
        Ok(_) if is_expression => format!("a pattern is no regular expression: write `{suggested}`"),
        Ok(_) if text == "*" || text == "**" => "write `/*` for every path".to_owned(),
        Ok(_) if !text.starts_with('*') => format!("write `{path}`; the host goes into `host`"),
        _ => "a pattern covers whole segments, like `/static/*`: endings and expressions are not possible"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_pattern_covers_whole_segments() {
        for (text, covered, others) in [
            ("/", &["/"][..], &["/a", "//", ""][..]),
            ("/*", &["/", "/a", "/a/", "/a/b"], &["", "a"]),
            ("/a", &["/a"], &["/", "/a/", "/a/b", "/ab", "/A"]),
            ("/a/", &["/a/"], &["/a", "/a/b", "/a//"]),
            (
                "/admin/*",
                &["/admin", "/admin/", "/admin/x", "/admin/x/y/"],
                &["/administrator", "/", "/adminx/", "/Admin"],
            ),
            ("/{x}", &["/a", "/%2F", "/:x"], &["/", "/a/", "/a/b"]),
            ("/{x}/", &["/a/"], &["/a", "//", "/a/b"]),
            (
                "/t/{id}/x",
                &["/t/1/x"],
                &["/t//x", "/t/1", "/t/1/x/", "/t/1/2/x"],
            ),
            ("/t/{id}/*", &["/t/1", "/t/1/", "/t/1/x"], &["/t", "/t/", "/t//x"]),
            ("/caf%c3%a9", &["/caf%C3%A9"], &["/caf"]),
            ("/café/%40me", &["/caf%C3%A9/@me"], &[]),
            ("/%2A/%7Bx%7D/%3Ay", &["/*/%7Bx%7D/:y"], &["/a/b/c"]),
        ] {
            for path in covered {
                assert!(pattern(text).matches(path), "{text} should cover {path}");
            }
            for path in others {
                assert!(!pattern(text).matches(path), "{text} should not cover {path}");
            }
            assert!(
                pattern(text).matches(&pattern(text).example()),
                "{text} should cover its example"
            );
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_pattern_says_why_and_what_to_write() {
        let segment = |text: &str, refusal| PatternError::Segment(text.to_owned(), refusal);
        let parameter = |text: &str| PatternError::Parameter(text.to_owned());
        let no_slash = |text: &str| PatternError::NoSlash(text.to_owned());
        let spelling =
            |text: &str, canonical: &str| PatternError::Spelling(text.to_owned(), canonical.to_owned());
        for (text, error) in [
            ("", no_slash("")),
            ("admin", no_slash("admin")),
            ("*", no_slash("*")),
            ("^/api", no_slash("^/api")),
            ("//", PatternError::EmptySegment),
            ("/a//b", PatternError::EmptySegment),
            ("/*/a", PatternError::StarNotLast),
            ("/*/", PatternError::StarNotLast),
            ("/a*", PatternError::StarInSegment("a*".to_owned())),
            ("/**", PatternError::StarInSegment("**".to_owned())),
            ("/*.js", PatternError::StarInSegment("*.js".to_owned())),
            ("/{}", parameter("{}")),
            ("/a{b}", parameter("a{b}")),
            ("/{a}b", parameter("{a}b")),
            ("/{a}{b}", parameter("{a}{b}")),
            ("/{a", parameter("{a")),
            ("/a}", parameter("a}")),
            ("/{a-b}", parameter("{a-b}")),
            ("/{rest...}", parameter("{rest...}")),
            ("/{a}/{a}", PatternError::ParameterTwice("a".to_owned())),
            ("/users/:id", PatternError::Colon(":id".to_owned())),
            ("/a/../b", segment("..", Refusal::PathDotSegment)),
            ("/%2e%2e", segment("%2e%2e", Refusal::PathDotSegment)),
            ("/a?b", PatternError::Query("?b".to_owned())),
            ("/search?q=*", PatternError::Query("?q=*".to_owned())),
            ("/a#b", PatternError::Query("#b".to_owned())),
            ("/a b", spelling("a b", "/a%20b")),
            ("/%61uth/*", spelling("%61uth", "/auth/*")),
            ("/{x}/%7Ea/c d", spelling("c d", "/{x}/%7Ea/c%20d")),
            ("/(v1|v2)/x", spelling("(v1|v2)", "/(v1%7Cv2)/x")),
            ("/a;b", segment("a;b", Refusal::PathParameter)),
            ("/a\\b", segment("a\\b", Refusal::PathBackslash)),
            ("/100%", segment("100%", Refusal::PathBadEncoding)),
        ] {
            let found = Pattern::parse(text).err();
            assert_eq!(found.as_ref(), Some(&error), "{text}");
            assert!(!error.hint().is_empty() && !error.to_string().ends_with('.'));
        }
        assert!(Pattern::parse(&"/a".repeat(MAX_SEGMENTS)).is_ok());
        assert_eq!(
            Pattern::parse(&"/a".repeat(MAX_SEGMENTS + 1)).err(),
            Some(PatternError::TooLong)
        );
        assert_eq!(
            PatternError::Colon(":id".to_owned()).hint(),
            "write `{id}`; a colon itself is written `%3A`"
        );
        for (text, hint) in [
            ("^/api", "write `/api/*`"),
            ("^/api/.*$", "write `/api/*`"),
            ("^/api/?$", "write `/api`"),
            ("^/api(/.*)?", "write `/api/*`"),
            ("~ ^/api", "write `/api/*`"),
            ("api/v1", "write `/api/v1`"),
            ("*", "write `/*`"),
            ("*.css", "whole segments"),
            ("https://a.example/x", "`host`"),
            ("/*.css", "`/static/*`"),
            ("/api/.*", "`/*`"),
            ("/**", "write `/*`"),
            ("/v*", "`{name}`"),
            ("/search?q=*", "leave `?q=*` out"),
            ("/a b", "write `/a%20b`"),
            ("/%61uth/*", "write `/auth/*`"),
            ("/(v1|v2)/x", "no regular expression"),
        ] {
            let found = Pattern::parse(text).unwrap_err().hint();
            assert!(found.contains(hint), "{text}: {found}");
        }
    }
}
