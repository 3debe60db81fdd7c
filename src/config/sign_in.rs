//! Rules for sign-in: the session cookie is not readable on the network, and no source of tokens has its name.
//!
//! Input: a file that parses. Output: problems. Invariants: a file with sign-in over plain HTTP from another machine has
//! an error.

use std::ops::Range;

use super::Problems;
use super::raw::{RawConfig, RawCorsOrigin, RawPassword, RawProvider, RawSession, RawSource, Spanned};
use super::values::{self, echo};

use crate::http::origin;
use crate::http::url::Url;
use crate::values::{Auth, Listen};

/// Judges what `raw` says about sessions and their cookie.
pub(super) fn check(raw: &RawConfig, problems: &mut Problems) {
    lifetimes(&raw.session, problems);
    origins(raw, problems);
    authorities(raw, problems);
    allow(raw, problems);
    form_post(raw, problems);
    provider_tokens(raw, problems);
    if let Some(password) = &raw.password {
        addresses(password, raw, problems);
    }
    let way = match (&raw.password, raw.providers.first()) {
        (Some(password), _) => ("[password]", &password.span),
        (None, Some((name, _))) => ("[providers]", &name.span),
        (None, None) => return,
    };
    // An address that could not be read says nothing about where the cookie goes.
    let unknown = ["listen", "public_url", "tls"]
        .iter()
        .any(|key| raw.failed.has("server", key));
    let is_plain = !unknown && transport(raw, way, problems);
    if !unknown && !is_plain {
        prefix(&raw.session, problems);
    }
    another_cookie(raw, is_plain, problems);
    refresh_cookie(raw, problems);
}

/// A route can hand on only what a provider gave for a caller.
fn provider_tokens(raw: &RawConfig, problems: &mut Problems) {
    for route in &raw.routes {
        let Some(key) = route.forward_provider_token.as_ref().filter(|key| key.value) else {
            continue;
        };
        if raw.providers.is_empty() && !raw.failed.has("", "providers") {
            problems
                .error(&key.span, "there is no provider whose token could be forwarded")
                .hint("add `[providers.NAME]`, or remove `forward_provider_token`");
        } else if route.auth.as_ref().is_some_and(|auth| auth.value == Auth::None) {
            problems
                .error(
                    &key.span,
                    "with `auth = \"none\"` there is no caller with a token of a provider",
                )
                .hint("write `auth = \"optional\"`, or remove `forward_provider_token`");
        }
    }
}

/// Over HTTPS, a cookie without the prefix can be set by every other host of the domain (RFC 6265bis section 4.1.3.2).
fn prefix(session: &RawSession, problems: &mut Problems) {
    let Some(name) = session
        .cookie
        .as_ref()
        .filter(|name| !name.starts_with("__Host-"))
    else {
        return;
    };
    let bare = name.strip_prefix("__Secure-").unwrap_or(name);
    problems
        .warning(
            &name.span,
            format!("other hosts of the domain can set the cookie `{}`", echo(name)),
        )
        .hint(format!(
            "write `\"__Host-{}\"`, which browsers accept from this host only",
            echo(bare)
        ));
}

/// What was not written yields to what was: tokens end with their session at the latest.
fn lifetimes(session: &RawSession, problems: &mut Problems) {
    let Some(lifetime) = &session.lifetime else { return };
    for (key, written, also, hint) in [
        (
            "token_lifetime",
            &session.token_lifetime,
            "every session is over then, and its tokens with it",
            "a session has many tokens, one after the other: `\"7d\"` and `\"15m\"` are usual",
        ),
        (
            "idle_timeout",
            &session.idle_timeout,
            "every session is over then",
            "remove it, or make it shorter",
        ),
    ] {
        if let Some(written) = written.as_ref().filter(|written| written.value > lifetime.value) {
            problems
                .warning(
                    &written.span,
                    format!("`{key}` is longer than `lifetime` and changes nothing"),
                )
                .also(lifetime.span.clone(), also)
                .hint(hint);
        }
    }
}

/// Pages of listed origins, and whether browsers send them our cookies.
fn origins(raw: &RawConfig, problems: &mut Problems) {
    let (session, server) = (&raw.session, &raw.server);
    let is_unknown = ["public_url", "tls"]
        .iter()
        .any(|key| raw.failed.has("server", key));
    let is_https = match &server.public_url {
        Some(url) => url.is_tls(),
        None => server.tls.is_some(),
    };
    let is_none = session.is_same_site_none();
    if let Some(word) = session
        .same_site
        .as_ref()
        .filter(|_| is_none && !is_https && !is_unknown)
    {
        problems
            .error(
                &word.span,
                "`same_site = \"none\"` needs an `https://` `public_url`",
            )
            .label("browsers accept such a cookie only with `Secure`")
            .hint("write the `https://` origin that browsers see in `public_url`, or leave `same_site` out");
    }
    let Some(public_url) = &server.public_url else {
        return;
    };
    let of_routes = raw.routes.iter().filter_map(|route| route.cors.as_ref());
    let with_credentials = of_routes.filter(|cors| cors.credentials.as_ref().is_some_and(|key| key.value));
    let of_routes: Vec<Spanned<Url>> = with_credentials
        .flat_map(|cors| &cors.origins)
        .filter_map(|origin| match &origin.value {
            RawCorsOrigin::Any => None,
            RawCorsOrigin::Listed(url) => Some(Spanned::new(url.clone(), origin.span.clone())),
        })
        .collect();
    for origin in session.origins.iter().chain(&of_routes) {
        if public_url.is_tls() && !origin.is_tls() && !is_this_machine(origin) {
            problems
                .error(
                    &origin.span,
                    "an origin beside an `https://` `public_url` must be `https://`",
                )
                .label("an attacker on the network can change the pages of this origin")
                .hint("serve the page over HTTPS; only an origin of this machine may be `http://`");
        } else if !is_none && !origin::is_same_site(origin, public_url) {
            problems
                .warning(&origin.span, format!("`{}` is another site than `public_url`", echo(origin.as_str())))
                .label("most browsers send no cookie of the gateway from its pages")
                .hint(
                    "serve the page from the site of `public_url`, or use tokens; `same_site = \"none\"` has browsers send \
                     the session cookie, where they take cookies of other sites at all",
                );
        }
    }
}

/// A form of another site brings only cookies with `SameSite=None`, which browsers take with `Secure` alone.
fn form_post(raw: &RawConfig, problems: &mut Problems) {
    let server = &raw.server;
    let is_unknown = ["public_url", "tls"]
        .iter()
        .any(|key| raw.failed.has("server", key));
    let is_https = match &server.public_url {
        Some(url) => url.is_tls(),
        None => server.tls.is_some(),
    };
    if is_https || is_unknown {
        return;
    }
    for span in raw
        .providers
        .iter()
        .filter_map(|(_, provider)| provider.form_post())
    {
        problems
            .error(span, "answers by `form_post` need an `https://` `public_url`")
            .label("the browser sends the cookie of the attempt with `Secure` only")
            .hint("write the `https://` origin that browsers see in `public_url`, also for this machine");
    }
}

/// Where people make accounts for themselves, their addresses are only typed.
fn addresses(password: &Spanned<RawPassword>, raw: &RawConfig, problems: &mut Problems) {
    let Some(registration) = password.registration.as_ref().filter(|open| open.value) else {
        return;
    };
    match &password.trust_unconfirmed_email {
        Some(trust) if trust.value => {
            problems
                .warning(&trust.span, "apps get unverified email addresses")
                .label("an attacker can register with the address of another person")
                .hint("an app that knows people by their address lets them into that person's account: remove it");
        }
        Some(_) => {}
        None if raw.failed.has("password", "trust_unconfirmed_email") => {}
        None => {
            problems
                .warning(&registration.span, "apps do not get the address of an account that was registered until it is confirmed")
                .hint("`passgate user confirm EMAIL` confirms one; `trust_unconfirmed_email = false` takes this warning away");
        }
    }
}

/// Google says of each account whether an organisation manages it.
fn is_google(provider: &RawProvider) -> bool {
    let written = provider.issuer.as_ref().map(|issuer| issuer.as_str());
    let preset = provider
        .preset
        .as_ref()
        .and_then(|preset| preset.issuer.as_deref());
    written.or(preset) == Some("https://accounts.google.com")
}

/// A domain has one provider that is authoritative for its addresses, and a provider of the public is authoritative for none.
fn authorities(raw: &RawConfig, problems: &mut Problems) {
    let mut known: Vec<(&str, &str)> = Vec::new();
    for (name, provider) in &raw.providers {
        if let Some(first) = provider.authoritative_domains.first()
            && provider.is_public()
            && !is_google(provider)
        {
            problems
                .error(
                    &first.span,
                    format!("`{}` does not assign the addresses of a domain", echo(name)),
                )
                .hint("the public can have accounts there with addresses of any domain: remove `authoritative_domains`");
        }
        for domain in &provider.authoritative_domains {
            match known.iter().find(|(other, _)| *other == domain.as_str()) {
                Some((_, other)) => {
                    problems
                        .error(
                            &domain.span,
                            format!(
                                "`{}` is a domain of the provider `{}` already",
                                echo(domain),
                                echo(other)
                            ),
                        )
                        .hint("remove it from one of them");
                }
                None => known.push((domain.as_str(), name.as_str())),
            }
        }
    }
}

/// Without `allow`, all that a provider knows may sign in; for a public one that is everyone.
fn allow(raw: &RawConfig, problems: &mut Problems) {
    const WHO: &str = "`allow = [{ domain = \"example.com\" }]` names the users who may; ";
    if raw.failed.has("providers.*", "allow") {
        return;
    }
    for (name, provider) in raw
        .providers
        .iter()
        .filter(|(_, provider)| provider.allow.is_none())
    {
        if provider.is_public() {
            problems
                .error(
                    &name.span,
                    format!(
                        "`allow` is missing: the public can have accounts at the provider `{}`",
                        echo(name)
                    ),
                )
                .hint(format!("{WHO}`allow = \"anyone\"` lets everyone sign in"));
        } else {
            problems
                .warning(
                    &name.span,
                    format!("every account of the provider `{}` can sign in", echo(name)),
                )
                .hint(format!("{WHO}`allow = \"anyone\"` takes this warning away"));
        }
    }
}

/// Whether the session cookie goes over plain HTTP, which only this machine may.
fn transport(raw: &RawConfig, (table, at): (&str, &Range<usize>), problems: &mut Problems) -> bool {
    const HTTPS: &str = "write the `https://` origin that browsers see, also where a proxy in front ends TLS";
    let span = match &raw.server.public_url {
        Some(url) if url.is_tls() => return false,
        Some(url) => {
            if !is_this_machine(url) {
                problems
                    .error(
                        &url.span,
                        format!("with `{table}`, `public_url` must be `https://`"),
                    )
                    .label("session cookies and passwords would cross the network unencrypted")
                    .hint(HTTPS);
                return true;
            }
            &url.span
        }
        None if raw.server.tls.is_some() => return false,
        // The name of the site can be derived only where no other machine can reach it.
        None => match raw.server.listen.iter().find(|listen| !is_loopback(listen)) {
            Some(listen) => {
                problems
                    .error(
                        &listen.span,
                        format!("with `{table}`, `public_url` must be written"),
                    )
                    .label("other machines can connect here")
                    .hint(HTTPS);
                return true;
            }
            None => at,
        },
    };
    let name = cookie(&raw.session);
    let message = match values::cookie_on_http(name) {
        plain if plain == name => format!("the session cookie `{name}` is not `Secure`"),
        plain => format!("the session cookie is called `{plain}` instead of `{name}`, and is not `Secure`"),
    };
    problems
        .warning(span, message)
        .label("plain HTTP, for trying things out on this machine")
        .hint("an `https://` origin in `public_url` makes it so, also where a proxy in front ends TLS");
    true
}

fn cookie(session: &RawSession) -> &str {
    session
        .cookie
        .as_ref()
        .map_or(values::COOKIE, |cookie| cookie.value.as_str())
}

/// Whether a browser would say of `url` that it never leaves this machine (RFC 6761 section 6.3).
fn is_this_machine(url: &Url) -> bool {
    url.is_loopback() || url.host().to_ascii_lowercase().ends_with(".localhost")
}

fn is_loopback(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.ip().is_loopback())
}

/// No other cookie is called as that with a refresh token, by either of its names and whatever its prefix.
fn refresh_cookie(raw: &RawConfig, problems: &mut Problems) {
    let session = raw.session.cookie.as_ref();
    let session = session.map(|cookie| (cookie.value.as_str(), &cookie.span));
    let sources = raw.sources.iter().flatten().filter_map(|source| {
        let RawSource::Cookie(cookie) = &source.value else {
            return None;
        };
        Some((&**cookie, &source.span))
    });
    for (name, span) in session.into_iter().chain(sources) {
        if values::cookie_on_http(name) == values::REFRESH_COOKIE_ON_HTTP {
            problems
                .error(
                    span,
                    format!("`{}` is the name of the cookie with a refresh token", echo(name)),
                )
                .hint("call the cookie something else");
        }
    }
}

/// No source of tokens is the session cookie, by either of its names: the two hold tokens of different kinds.
fn another_cookie(raw: &RawConfig, is_plain: bool, problems: &mut Problems) {
    let name = cookie(&raw.session);
    for source in raw.sources.iter().flatten() {
        let RawSource::Cookie(cookie) = &source.value else {
            continue;
        };
        if **cookie != *name && !(is_plain && **cookie == *values::cookie_on_http(name)) {
            continue;
        }
        let problem = problems
            .error(&source.span, format!("the cookie `{}` is the session cookie", echo(cookie)))
            .hint("remove it from `sources`, or call the session cookie something else with `cookie` in `[session]`");
        if let Some(written) = &raw.session.cookie {
            problem.also(written.span.clone(), "named here");
        }
    }
}
