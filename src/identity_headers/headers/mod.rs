//! Headers that identify the caller: removed from every request, then set from the verified caller alone. Headers that only
//! a proxy may send are removed as well.

mod names;

use http::{HeaderMap, HeaderName};

use super::foreign;
use super::forwarded::{self, FORWARDING, is_read, is_set};
use super::presets::{self, Preset};
use crate::config::raw::RawConfig;
use crate::config::{Problems, Spanned};
use crate::http::headers::{Entry, FoldedNames, FoldedTable, remove_if};
use crate::identity::{Caller, ClaimPath};
use crate::refusal::Refusal;
use crate::values::{Alias, FieldName};

use names::Names;

/// The preset unless another is named.
const DEFAULT_PRESET: &str = "passgate";
/// Names that no configured claim may be written to: framing, routing, credentials, and what
/// [`super::forwarded::set_forwarded`] sets itself.
const RESERVED: [&str; 22] = [
    "Authorization",
    "Connection",
    "Content-Length",
    "Cookie",
    "Expect",
    "Forwarded",
    "Host",
    "HTTP2-Settings",
    "Keep-Alive",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-Real-IP",
    "X-Request-Id",
];

/// Names that no `keep_headers` and no `trusted_headers` may have, besides those that passgate sets: framing, routing,
/// credentials, and every name by which passgate identifies the caller.
const RESERVED_ALWAYS: [&str; 15] = [
    "Authorization",
    "Connection",
    "Content-Length",
    "Cookie",
    "Expect",
    "Host",
    "HTTP2-Settings",
    "Keep-Alive",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "X-Auth-*",
];

/// Names that say where a message ends. In their own spelling every reader of the message sees them; in another
/// spelling only an app that folds names does, and it would read another request than the gateway wrote.
const FRAMING: [&str; 2] = ["Content-Length", "Transfer-Encoding"];

/// Kinds of names in [`IdentityHeaders::table`], one bit each.
mod kind {
    /// What passgate says itself, under some preset or as the file has it: never a client's or a proxy's.
    pub(super) const OURS: u8 = 1;
    /// Where the request came from.
    pub(super) const FORWARDING: u8 = 1 << 1;
    /// What other products say ([`super::foreign`]).
    pub(super) const FOREIGN: u8 = 1 << 2;
    /// Where a message ends.
    pub(super) const FRAMING: u8 = 1 << 3;
}

/// Whose word counts about one request, for [`IdentityHeaders::strip`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Passing<'a> {
    /// The peer is a trusted proxy.
    pub peer_is_trusted: bool,
    /// `keep_headers` of the route.
    pub kept: &'a [HeaderName],
    /// The field of a credential that was verified and that the app is to have.
    pub credential: Option<&'a HeaderName>,
}

/// `[identity]`, ready to use.
#[derive(Clone, Debug)]
pub struct IdentityHeaders {
    names: Names,
    assertion: Option<HeaderName>,
    unverified_email: bool,
    /// Every name that a client may not send, or not in every spelling, by its [`kind`].
    table: FoldedTable,
    /// `server.trusted_headers`
    trusted: Vec<HeaderName>,
}

impl IdentityHeaders {
    /// Reads `[identity]`, and what the rest of the file says about header names: the `headers` of routes, which a client
    /// may not send either and which may not be identity names, `keep_headers` and `trusted_headers`. What is wrong goes
    /// to `problems`; the result is then of no use.
    pub fn compile(file: &RawConfig, problems: &mut Problems) -> Self {
        let raw = &file.identity;
        let presets = presets::all();
        let preset = raw.preset.as_ref().and_then(|name| presets.get(&name.value));
        let preset = preset.unwrap_or(&presets[DEFAULT_PRESET]);

        let taken: Vec<&str> = presets[DEFAULT_PRESET]
            .header_names()
            .chain(preset.header_names())
            .collect();
        let configured = compile_claims(&raw.headers, &FoldedNames::new(taken.iter().copied()), problems);
        let identity_names = taken
            .into_iter()
            .chain(configured.iter().map(|(name, _)| name.as_str()));
        let identity = FoldedNames::new(identity_names.clone());
        let route_headers = || {
            file.routes
                .iter()
                .flat_map(|route| &route.headers)
                .map(|(name, _)| name)
        };
        for name in route_headers().filter(|name| identity.matches(name)) {
            problems
                .error(
                    &name.span,
                    format!("`{}` says who is calling, and a route cannot set it", name.value),
                )
                .hint("choose another name, or write a claim to it in `identity.headers`");
        }
        // The names of all presets, not of the active one alone: an app that once stood behind another proxy may still
        // read that proxy's names, and only the gateway may identify the caller.
        let of_presets = presets.values().flat_map(Preset::header_names);
        // Of those that say where a request came from, a trusted proxy's are left as on any other route.
        let of_routes = route_headers()
            .map(|name| name.as_str())
            .filter(|name| !FORWARDING.matches_text(name));
        let foreign = foreign::names();
        let ours: Vec<&str> = identity_names.chain(of_presets).chain(of_routes).collect();
        let table = FoldedTable::new(
            ours.iter()
                .map(|name| (Entry::Name(name), kind::OURS))
                .chain(forwarded_entries().map(|entry| (entry, kind::FORWARDING)))
                .chain(foreign.iter().map(|name| (Entry::pattern(name), kind::FOREIGN)))
                .chain(FRAMING.map(|name| (Entry::Name(name), kind::FRAMING))),
        );
        check_passing(file, &table, problems);
        let encoding = raw.encoding.as_ref().map(|encoding| encoding.as_str());
        let name = |text: &String| HeaderName::try_from(text).expect("a test reads the embedded presets");
        Self {
            names: Names::of(preset, encoding).with_claims(configured),
            assertion: raw
                .assertion
                .as_ref()
                .is_some_and(|on| on.value)
                .then(|| name(&preset.assertion)),
            unverified_email: raw.unverified_email.as_ref().is_some_and(|on| on.value),
            table,
            trusted: file
                .server
                .trusted_headers
                .iter()
                .map(|name| HeaderName::clone(name))
                .collect(),
        }
    }

    /// Removes from the headers of a client's request what the client may not say, in every spelling that an app could fold
    /// to it: the caller, where the request came from, and what other products say about either. `passing` says what may
    /// stay, in the plain spelling alone, because a client could have slipped another one past a proxy. The same holds for
    /// what says where the request ends. Nothing lets through what passgate says itself.
    pub fn strip(&self, headers: &mut HeaderMap, passing: Passing<'_>) {
        remove_if(headers, |name| match self.table.bits(name.as_str()) {
            0 => false,
            kinds => !self.may_stay(name, kinds, passing),
        });
    }

    fn may_stay(&self, name: &HeaderName, kinds: u8, passing: Passing<'_>) -> bool {
        if kinds & kind::OURS != 0 {
            return false;
        }
        if passing.credential == Some(name) {
            return true;
        }
        if kinds == kind::FRAMING {
            return is_plainly_spelt(name.as_str());
        }
        // Both lists hold plain spellings alone.
        passing.peer_is_trusted && (is_read(name) || self.trusted.contains(name))
            || kinds == kind::FOREIGN && passing.kept.contains(name)
    }

    /// Whether a client may not send this name: for trailers of a request, which arrive after [`IdentityHeaders::strip`].
    #[must_use]
    pub fn is_protected(&self, name: &HeaderName) -> bool {
        self.table.bits(name.as_str()) != 0
    }

    /// What a trusted proxy says besides where the request came from: `server.trusted_headers`.
    #[must_use]
    pub fn trusted_headers(&self) -> &[HeaderName] {
        &self.trusted
    }

    /// Whether apps are told an email address that the token calls unverified.
    #[must_use]
    pub fn tells_unverified_email(&self) -> bool {
        self.unverified_email
    }

    /// Sets the headers of the caller, after [`IdentityHeaders::strip`]; none without a caller. The values are made at a caller's first request
    /// and shared by all others; callers must therefore not outlive the configuration that this was compiled from.
    ///
    /// # Errors
    /// [`Refusal::HeadersTooLarge`] if what the token says does not fit into 8 KiB a header or 16 KiB in all: the app
    /// would cut it or refuse it, and a shortened list of roles is another list of roles.
    pub fn set(&self, headers: &mut HeaderMap, caller: Option<&Caller>) -> Result<(), Refusal> {
        let Some(caller) = caller else { return Ok(()) };
        let rendered = match caller.headers.get() {
            Some(rendered) => rendered,
            None => {
                let rendered = self.names.render(&caller.identity, self.unverified_email)?;
                caller.headers.get_or_init(|| rendered)
            }
        };
        for (name, value) in rendered {
            headers.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    /// Every header that tells an app who is calling, and those of another product's answer.
    pub(crate) fn names(&self, alias: Option<Alias>) -> impl Iterator<Item = &HeaderName> {
        let others = alias.map(|alias| Names::of_alias(alias).all());
        self.names.all().chain(others.into_iter().flatten())
    }

    /// Sets the headers of another product's answer.
    ///
    /// # Errors
    /// As [`IdentityHeaders::set`].
    pub(crate) fn set_as(
        &self,
        alias: Alias,
        headers: &mut HeaderMap,
        caller: &Caller,
    ) -> Result<(), Refusal> {
        for (name, value) in Names::of_alias(alias).render(&caller.identity, self.unverified_email)? {
            headers.insert(name, value);
        }
        Ok(())
    }

    /// The header that takes the assertion; `None`: it is not switched on.
    #[must_use]
    pub fn assertion_header(&self) -> Option<&HeaderName> {
        self.assertion.as_ref()
    }
}

fn forwarded_entries() -> impl Iterator<Item = Entry<'static>> {
    forwarded::NAMES.into_iter().map(Entry::pattern)
}

/// Whether a name is spelt with letters, digits and hyphens alone.
fn is_plainly_spelt(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What `keep_headers` and `trusted_headers` let through must not be what passgate says itself, or what the message or its
/// credential is read from.
fn check_passing(file: &RawConfig, table: &FoldedTable, problems: &mut Problems) {
    let never = FoldedNames::of(RESERVED_ALWAYS.map(Entry::pattern));
    let kept = file
        .routes
        .iter()
        .flat_map(|route| &route.keep_headers)
        .map(|name| (name, "keep_headers"));
    let trusted = file
        .server
        .trusted_headers
        .iter()
        .map(|name| (name, "trusted_headers"));
    for (name, key) in kept.chain(trusted) {
        let kinds = table.bits(name.as_str());
        if kinds & kind::OURS != 0 || is_set(name.as_str()) || never.matches(name) {
            let hint = match key {
                "trusted_headers" if is_read(name) => "a trusted proxy's is read in any case: remove it",
                _ => {
                    "what the gateway sets or reads itself is never passed on from a client or a proxy: remove it"
                }
            };
            problems
                .error(&name.span, format!("`{key}` cannot name `{}`", name.value))
                .hint(hint);
        } else if !is_plainly_spelt(name.as_str()) {
            problems
                .error(
                    &name.span,
                    format!(
                        "`{key}` cannot name `{}`: only names of letters, digits and hyphens pass",
                        name.value
                    ),
                )
                .hint(format!("write `{}`", hyphenated(&name.to_string())));
        } else if key == "keep_headers" && kinds & kind::FORWARDING != 0 {
            problems
                .error(
                    &name.span,
                    format!(
                        "`keep_headers` cannot name `{}`, which says where a request came from",
                        name.value
                    ),
                )
                .hint("a trusted proxy's is believed where `[server] trusted_headers` names it");
        } else if kinds == 0 {
            problems
                .warning(
                    &name.span,
                    format!("`{}` is not removed from requests", name.value),
                )
                .hint(format!("it passes without `{key}`: remove it"));
        }
    }
    if let (Some(first), true) = (
        file.server.trusted_headers.first(),
        file.server.trusted_proxies.is_empty(),
    ) {
        problems
            .warning(
                &first.span,
                "`trusted_headers` has no effect without `trusted_proxies`",
            )
            .hint("name the networks of the proxies that set these headers");
    }
}

fn hyphenated(name: &str) -> String {
    name.chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                '-'
            }
        })
        .collect()
}

fn compile_claims(
    raw: &[(Spanned<FieldName>, Spanned<ClaimPath>)],
    taken: &FoldedNames,
    problems: &mut Problems,
) -> Vec<(HeaderName, ClaimPath)> {
    let reserved = FoldedNames::new(RESERVED);
    let mut claims = Vec::with_capacity(raw.len());
    for (place, (header, claim)) in raw.iter().enumerate() {
        let spelling = FoldedNames::new([header.as_str()]);
        if reserved.matches(header) {
            problems
                .error(
                    &header.span,
                    format!("`{}` has another meaning in a request", header.value),
                )
                .hint("choose a name of its own, like `X-Tenant`");
        } else if taken.matches(header) {
            problems
                .error(
                    &header.span,
                    format!("`{}` is set already and cannot hold another claim", header.value),
                )
                .hint("choose a name of its own, like `X-Tenant`");
        } else if let Some((first, _)) = raw[..place].iter().find(|(first, _)| spelling.matches(first)) {
            problems
                .error(
                    &header.span,
                    format!(
                        "`{}` and `{}` are one name to many apps",
                        first.value, header.value
                    ),
                )
                .also(first.span.clone(), "first here")
                .hint("choose names that differ in more than case and punctuation");
        }
        claims.push((HeaderName::clone(header), claim.value.clone()));
    }
    claims
}

#[cfg(test)]
mod tests;
