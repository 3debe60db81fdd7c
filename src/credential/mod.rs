//! Where a credential may be in a request, and taking it from there.
//!
//! Input: `credentials.sources` when the configuration is compiled; the headers and the query of every request. Output:
//! the token of the first source that holds one, with the kind of its source, or the refusal of a credential that is
//! there and bad. Invariants: an invalid credential in a header or the query never counts as none;
//! of two credentials in one place none is picked; no token is written into a message.
//!
//! A kind is one file, which offers a type with the functions that the macro `kinds` calls, and one line in its list below.

mod cookie;
mod header;
mod query;
#[cfg(test)]
mod tests;
mod websocket_protocol;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::raw::RawSource;
use crate::config::{Problems, Spanned};
use crate::http::headers::{FoldedNames, remove_if};
use crate::refusal::Refusal;

/// What one source held.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// Nothing, or nothing that is a credential here; the text says what, for `explain`.
    Absent(&'static str),
    /// A token, not verified yet.
    Token(Cow<'a, str>),
    /// A credential that is no good, which ends the search.
    Refused(Refusal),
}

impl std::fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent(why) => f.debug_tuple("Absent").field(why).finish(),
            Self::Token(_) => f.write_str("Token(…)"),
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
        }
    }
}

/// Makes [`Kind`] and [`Source`] from the list of kinds. Each type has
/// - `compile(&RawSource) -> Option<Self>`: the source, where the entry is of this kind;
/// - `read(&self, &HeaderMap, Option<&str>) -> Found`;
/// - `strip(&self, &mut HeaderMap)`: takes the credential out of the headers;
/// - `query_name(&self) -> Option<&str>`: the query parameter to take out of the target;
/// - `PartialEq`: two entries that mean the same place; and `Display`: the place, for people.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $source:ty;)*) => {
        /// The kinds of places for a credential.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $name,)* }

        /// One place for a credential.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Source { $($(#[$doc])* $name($source),)* }

        impl Source {
            fn compile(raw: &RawSource) -> Option<Self> {
                None$(.or_else(|| <$source>::compile(raw).map(Self::$name)))*
            }

            /// Which kind of place this is.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)* }
            }

            fn read<'a>(&self, headers: &'a HeaderMap, query: Option<&'a str>) -> Found<'a> {
                match self { $(Self::$name(source) => source.read(headers, query),)* }
            }

            fn strip(&self, headers: &mut HeaderMap) {
                match self { $(Self::$name(source) => source.strip(headers),)* }
            }

            fn query_name(&self) -> Option<&str> {
                match self { $(Self::$name(source) => source.query_name(),)* }
            }

            /// The field that it is read from; `None` for other kinds.
            #[must_use]
            pub fn header_name(&self) -> Option<&HeaderName> {
                match self { $(Self::$name(source) => source.header_name(),)* }
            }
        }

        impl std::fmt::Display for Source {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$name(source) => source.fmt(f),)* }
            }
        }
    };
}

kinds! {
    /// A header field, with or without a scheme before the token.
    Header = header::Header;
    /// A cookie, which browsers send by themselves.
    Cookie = cookie::Cookie;
    /// A query parameter.
    Query = query::Query;
    /// An entry of the protocols of a WebSocket handshake.
    WebSocketProtocol = websocket_protocol::WebSocketProtocol;
}

/// A token as it was sent, and where.
#[derive(Clone)]
pub struct Credential<'s, 'a> {
    /// The token, not empty, of visible ASCII characters. Not verified yet.
    pub token: Cow<'a, str>,
    /// The kind of `source`.
    pub kind: Kind,
    /// Where it was.
    pub source: &'s Source,
}

impl std::fmt::Debug for Credential<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("source", self.source)
            .finish_non_exhaustive()
    }
}

/// The places for a credential, in the order they are looked at.
#[derive(Clone, Debug)]
pub struct Sources {
    sources: Vec<Source>,
    /// The names of headers that can be spelled in more than one way.
    names: FoldedNames,
}

impl Default for Sources {
    /// `Authorization: Bearer`.
    fn default() -> Self {
        Self::new(vec![Source::Header(header::Header::bearer())])
    }
}

impl Sources {
    fn new(sources: Vec<Source>) -> Self {
        let names = sources
            .iter()
            .filter_map(Source::header_name)
            .map(HeaderName::as_str);
        let names =
            FoldedNames::new(names.filter(|name| !name.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        Self { sources, names }
    }

    /// The sources of the file; [`Sources::default`] where it names none.
    pub fn compile(raw: Option<&[Spanned<RawSource>]>, problems: &mut Problems) -> Self {
        let Some(raw) = raw else { return Self::default() };
        let mut sources: Vec<(Source, &Spanned<RawSource>)> = Vec::with_capacity(raw.len());
        for entry in raw {
            let Some(source) = Source::compile(entry) else {
                continue;
            };
            if let Some((_, earlier)) = sources.iter().find(|(earlier, _)| *earlier == source) {
                problems
                    .error(&entry.span, format!("the source {source} appears twice"))
                    .also(earlier.span.clone(), "first here")
                    .hint("remove one of them");
                continue;
            }
            sources.push((source, entry));
        }
        Self::new(sources.into_iter().map(|(source, _)| source).collect())
    }

    /// The token of the first source that holds one.
    ///
    /// # Errors
    /// As [`Sources::find_after`].
    pub fn find<'s, 'a>(
        &'s self,
        headers: &'a HeaderMap,
        query: Option<&'a str>,
    ) -> Result<Option<Credential<'s, 'a>>, Refusal> {
        self.find_after(None, headers, query)
    }

    /// The token of the first source behind `after` that holds one.
    ///
    /// # Errors
    /// `CredentialRepeated` where a header or query parameter of any source came twice, also behind the first token;
    /// `CredentialMalformed` where the first source that holds anything holds no token.
    pub fn find_after<'s, 'a>(
        &'s self,
        after: Option<&Source>,
        headers: &'a HeaderMap,
        query: Option<&'a str>,
    ) -> Result<Option<Credential<'s, 'a>>, Refusal> {
        let mut first = None;
        let mut is_behind = after.is_none();
        for (source, found) in self.each(headers, query) {
            match found {
                Found::Absent(_) => {}
                // What was sent has no single meaning, whichever source was looked at first.
                Found::Refused(Refusal::CredentialRepeated) => return Err(Refusal::CredentialRepeated),
                _ if !is_behind => {}
                Found::Refused(refusal) => first = first.or(Some(Err(refusal))),
                Found::Token(token) => {
                    first = first.or_else(|| {
                        Some(Ok(Credential {
                            token,
                            kind: source.kind(),
                            source,
                        }))
                    });
                }
            }
            is_behind |= after.is_some_and(|after| std::ptr::eq(after, source));
        }
        first.transpose()
    }

    /// What [`Sources::find_after`] read, for people: a sentence for each source up to the one that decided, and whether
    /// it passed.
    #[must_use]
    pub fn told(
        &self,
        after: Option<&Source>,
        headers: &HeaderMap,
        query: Option<&str>,
    ) -> Vec<(bool, String)> {
        let is_repeated = |found: &Found<'_>| *found == Found::Refused(Refusal::CredentialRepeated);
        if let Some((source, _)) = self.each(headers, query).find(|(_, found)| is_repeated(found)) {
            return vec![(false, format!("{source}: {}", Refusal::CredentialRepeated))];
        }
        let behind = after
            .and_then(|after| self.sources.iter().position(|source| std::ptr::eq(source, after)))
            .map_or(0, |index| index + 1);
        let mut told = Vec::new();
        for (source, found) in self.each(headers, query).skip(behind) {
            match found {
                Found::Absent(why) => told.push((true, format!("{source}: {why}"))),
                Found::Token(_) => {
                    told.push((true, format!("{source}: a token")));
                    break;
                }
                Found::Refused(refusal) => {
                    told.push((false, format!("{source}: {refusal}")));
                    break;
                }
            }
        }
        told
    }

    /// Every source in order with what it holds: what [`Sources::find`] decides by.
    fn each<'s, 'a>(
        &'s self,
        headers: &'a HeaderMap,
        query: Option<&'a str>,
    ) -> impl Iterator<Item = (&'s Source, Found<'a>)> {
        self.sources
            .iter()
            .map(move |source| (source, source.read(headers, query)))
    }

    /// The fields that a credential may come in, for `Vary`: those that it comes in as a rule, and the configured ones.
    #[must_use]
    pub fn vary(&self) -> HeaderValue {
        let mut names = vec!["Cookie", "Authorization"];
        for name in self
            .sources
            .iter()
            .filter_map(Source::header_name)
            .map(HeaderName::as_str)
        {
            if !names.iter().any(|there| there.eq_ignore_ascii_case(name)) {
                names.push(name);
            }
        }
        HeaderValue::try_from(names.join(", ")).expect("names of fields are visible ASCII")
    }

    /// The names of the cookies among the sources.
    pub fn cookie_names(&self) -> impl Iterator<Item = &str> {
        self.sources.iter().filter_map(|source| match source {
            Source::Cookie(cookie) => Some(cookie.name()),
            Source::Header(_) | Source::Query(_) | Source::WebSocketProtocol(_) => None,
        })
    }

    /// The protocol under which a WebSocket handshake brings a credential, as the client spells it: what the client waits
    /// for where the app chooses none.
    #[must_use]
    pub fn websocket_protocol(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        self.sources.iter().find_map(|source| match source {
            Source::WebSocketProtocol(protocol) => protocol.offered(headers),
            Source::Header(_) | Source::Cookie(_) | Source::Query(_) => None,
        })
    }

    /// The sources in order.
    #[must_use]
    pub fn as_slice(&self) -> &[Source] {
        &self.sources
    }

    /// Removes what was not read, and what an app could take for a credential that was: a header of a source in another
    /// spelling (`x_token`). To be called also where the app is to have the credential.
    pub fn strip_lookalikes(&self, headers: &mut HeaderMap) {
        let is_read = |name: &HeaderName| {
            self.sources
                .iter()
                .filter_map(Source::header_name)
                .any(|read| read == name)
        };
        remove_if(headers, |name| self.names.matches(name) && !is_read(name));
    }

    /// Takes every header and cookie of a source out of `headers`, but for those of `kept`: an app that is to have the
    /// credential must not find one that was not verified beside it. A header with a scheme goes only where one of its
    /// lines has a scheme that is configured for it: `Basic` is for the app if we read `Bearer`.
    pub fn strip(&self, headers: &mut HeaderMap, kept: Option<&Source>) {
        for source in self.sources.iter().filter(|source| kept != Some(*source)) {
            source.strip(headers);
        }
    }

    /// The query without the parameters of sources other than `kept`, all other bytes as they came. The outer `None`:
    /// nothing is to be changed; the inner one: nothing is left of it. Names are compared as apps decode them.
    #[must_use]
    pub fn strip_query(&self, query: Option<&str>, kept: Option<&Source>) -> Option<Option<String>> {
        let query = query?;
        let named = |pair: &str| {
            let stripped = self.sources.iter().filter(|source| kept != Some(*source));
            stripped
                .filter_map(Source::query_name)
                .any(|name| query::is_named(query::name_of(pair), name))
        };
        if !query.split('&').any(named) {
            return None;
        }
        let kept: Vec<&str> = query.split('&').filter(|pair| !named(pair)).collect();
        Some((!kept.is_empty()).then(|| kept.join("&")))
    }
}

/// A token that is not empty and holds only visible ASCII, as every token in RFC 6750 section 2.1 does.
fn token_of(bytes: &[u8]) -> Option<&str> {
    // No early end: so the compiler looks at many bytes at once, and nearly every token is good to its end.
    let is_visible = bytes
        .iter()
        .fold(true, |so_far, byte| so_far & byte.is_ascii_graphic());
    if bytes.is_empty() || !is_visible {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}
