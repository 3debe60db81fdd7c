//! Which headers say who is calling: removed from every request, then set from the verified caller alone.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::forwarded::{is_forwarding, is_forwarding_text, is_plainly_spelt};
use super::presets::{self, Preset};
use super::value;
use crate::config::raw::RawIdentity;
use crate::config::{At, Problems, nearest};
use crate::http::headers::{FoldedNames, remove_if};
use crate::identity::{Caller, ClaimPath, Identity};
use crate::refusal::Refusal;

/// The preset unless another is named.
const DEFAULT_PRESET: &str = "passgate";
/// The most that one identity header may hold, in bytes: nginx reads lines up to 8 KiB.
const MAX_VALUE: usize = 8 * 1024;
/// The most that all of them together may hold, in bytes: Node.js reads 16 KiB of headers.
const MAX_TOTAL: usize = 16 * 1024;

/// Names that no configured claim may be written to: framing, routing, credentials, and what
/// [`super::forwarded::set_forwarded`] sets itself.
const RESERVED: [&str; 20] = [
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
    "X-Forwarded-Proto",
    "X-Real-IP",
    "X-Request-Id",
];

/// Names that say where a message ends. In the spelling that says so they are for whoever reads the message; in another
/// one they say it to an app alone that folds names, and it would read another request than we wrote.
const FRAMING: [&str; 2] = ["Content-Length", "Transfer-Encoding"];

/// `[identity]`, ready to use.
#[derive(Clone, Debug)]
pub struct Naming {
    user: HeaderName,
    email: Option<HeaderName>,
    name: Option<HeaderName>,
    roles: Option<HeaderName>,
    issuer: Option<HeaderName>,
    claims: Vec<(HeaderName, ClaimPath)>,
    assertion: Option<HeaderName>,
    /// Removed from what a client sent, whoever sent it.
    ours: FoldedNames,
    /// Removed in every spelling but the plain one.
    framing: FoldedNames,
}

impl Naming {
    /// Reads `[identity]`. `route_headers` are the names that any route sets: a client may not send them either, and
    /// they may not be identity names. What is wrong goes to `problems`; the result is then of no use.
    pub fn compile<'a>(
        raw: &RawIdentity,
        route_headers: impl IntoIterator<Item = &'a At<String>>,
        problems: &mut Problems,
    ) -> Self {
        let presets = presets::all();
        let preset = raw.preset.as_ref().and_then(|name| {
            let found = presets.get(&name.value);
            if found.is_none() {
                let known = presets.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let hint = match nearest(&name.value, presets.keys().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`? there are {known}"),
                    None => format!("there are {known}"),
                };
                problems.error(&name.span, format!("there is no identity preset `{}`", name.value)).hint(hint);
            }
            found
        });
        let preset = preset.unwrap_or(&presets[DEFAULT_PRESET]);

        let taken: Vec<&str> = presets[DEFAULT_PRESET].header_names().chain(preset.header_names()).collect();
        let configured = compile_claims(&raw.headers, &FoldedNames::new(taken.iter().copied()), problems);
        let identity_names = taken.into_iter().chain(configured.iter().map(|(name, _)| name.as_str()));
        let identity = FoldedNames::new(identity_names.clone());
        let route_headers: Vec<&At<String>> = route_headers.into_iter().collect();
        for name in route_headers.iter().filter(|name| identity.matches_text(name)) {
            problems
                .error(&name.span, format!("`{}` says who is calling, and a route cannot set it", name.value))
                .hint("choose another name, or write a claim to it in `identity.headers`");
        }
        // The names of all presets, not of the active one alone: an app that once stood behind another proxy may still
        // read that proxy's names, and nobody but us may say who is calling.
        let of_presets = presets.values().flat_map(Preset::header_names);
        // Of those that say where a request came from, a trusted proxy's are left as on any other route.
        let of_routes = route_headers.iter().map(|name| name.value.as_str()).filter(|name| !is_forwarding_text(name));
        let ours = FoldedNames::new(identity_names.chain(of_presets).chain(of_routes));

        let name = |text: &String| HeaderName::try_from(text).expect("a test reads the embedded presets");
        let path = |text: &String| ClaimPath::parse(text).expect("a test reads the embedded presets");
        Self {
            user: name(&preset.user),
            email: preset.email.as_ref().map(name),
            name: preset.name.as_ref().map(name),
            roles: preset.roles.as_ref().map(name),
            issuer: preset.issuer.as_ref().map(name),
            claims: preset.claims.iter().map(|(header, claim)| (name(header), path(claim))).chain(configured).collect(),
            assertion: raw.assertion.as_ref().is_some_and(|on| on.value).then(|| name(&preset.assertion)),
            ours,
            framing: FoldedNames::new(FRAMING),
        }
    }

    /// Removes from the headers of a client's request what only we may say, in every spelling that an app could fold to
    /// it: always who is calling, and where the request came from unless the peer is a trusted proxy. Of a trusted
    /// proxy the plain spelling alone is left, because a client could have slipped another one past it. The same holds
    /// for what says where the request ends.
    pub fn strip(&self, headers: &mut HeaderMap, peer_is_trusted: bool) {
        remove_if(headers, |name| {
            self.ours.matches(name)
                || (is_forwarding(name) && !(peer_is_trusted && is_plainly_spelt(name)))
                || (self.framing.matches(name) && !is_plainly_spelt(name))
        });
    }

    /// Whether a client may not send this name: for trailers of a request, which arrive after [`Naming::strip`].
    #[must_use]
    pub fn is_protected(&self, name: &HeaderName) -> bool {
        self.ours.matches(name) || is_forwarding(name) || self.framing.matches(name)
    }

    /// Sets who is calling, after [`Naming::strip`]. Nothing for nobody. The values are made at a caller's first request
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
                let rendered = self.render(&caller.identity)?;
                caller.headers.get_or_init(|| rendered)
            }
        };
        for (name, value) in rendered {
            headers.insert(name.clone(), value.clone());
        }
        Ok(())
    }

    /// The header that takes the assertion; `None`: it is not switched on.
    #[must_use]
    pub fn assertion_header(&self) -> Option<&HeaderName> {
        self.assertion.as_ref()
    }

    fn render(&self, identity: &Identity) -> Result<Vec<(HeaderName, HeaderValue)>, Refusal> {
        let text = |text: &Option<String>| text.as_deref().and_then(value::text);
        let fields = [
            (Some(&self.user), value::text(&identity.subject)),
            (self.email.as_ref(), text(&identity.email)),
            (self.name.as_ref(), text(&identity.name)),
            (self.roles.as_ref(), value::list(identity.roles.iter().map(String::as_str))),
            (self.issuer.as_ref(), value::text(&identity.issuer)),
        ];
        let claims = self.claims.iter().map(|(name, path)| (Some(name), identity.claim(path).and_then(value::claim)));
        let mut rendered = Vec::with_capacity(fields.len() + self.claims.len());
        let mut total = 0;
        for (name, value) in fields.into_iter().chain(claims) {
            let (Some(name), Some(value)) = (name, value) else { continue };
            total += name.as_str().len() + value.len();
            if value.len() > MAX_VALUE || total > MAX_TOTAL {
                return Err(Refusal::HeadersTooLarge);
            }
            let value = HeaderValue::try_from(value).expect("encoded values are visible ASCII");
            rendered.push((name.clone(), value));
        }
        Ok(rendered)
    }
}

fn compile_claims(
    raw: &[(At<String>, At<String>)],
    taken: &FoldedNames,
    problems: &mut Problems,
) -> Vec<(HeaderName, ClaimPath)> {
    let reserved = FoldedNames::new(RESERVED);
    let mut claims = Vec::with_capacity(raw.len());
    for (place, (header, claim)) in raw.iter().enumerate() {
        let Ok(name) = HeaderName::try_from(header.as_str()) else {
            problems
                .error(&header.span, format!("`{}` is not a header name", header.value))
                .hint("letters, digits and hyphens, like `X-Tenant`");
            continue;
        };
        let spelling = FoldedNames::new([header.as_str()]);
        if reserved.matches(&name) {
            problems
                .error(&header.span, format!("`{}` has another meaning in a request", header.value))
                .hint("choose a name of its own, like `X-Tenant`");
        } else if taken.matches(&name) {
            problems
                .error(&header.span, format!("`{}` is set already and cannot hold another claim", header.value))
                .hint("choose a name of its own, like `X-Tenant`");
        } else if let Some((first, _)) = raw[..place].iter().find(|(first, _)| spelling.matches_text(first)) {
            problems
                .error(&header.span, format!("`{}` and `{}` are one name to many apps", first.value, header.value))
                .also(first.span.clone(), "first here")
                .hint("choose names that differ in more than case and punctuation");
        }
        match ClaimPath::parse(claim) {
            Some(path) => claims.push((name, path)),
            None => {
                problems
                    .error(&claim.span, format!("`{}` is not a claim path", claim.value))
                    .hint("names of claims joined by dots, like `tenant` or `realm_access.roles`");
            }
        }
    }
    claims
}

#[cfg(test)]
mod tests;
