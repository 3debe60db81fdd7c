//! Rules that need more than one table of the file: names that must exist, and things that must not be there twice.
//!
//! Input: a file that parses. Output: problems. Every rule is linear in the size of the file, but for names that are
//! close to each other, which are looked for among a bounded number of roles.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use super::raw::{RawConfig, RawRoute, Spanned};
use super::values::{did_you_mean, echo};
use super::{Problems, nearest, sign_in};
use crate::identity::SESSION_ISSUER;
use crate::values::{Builtin, Listen};

/// Above this many different roles the file is generated, and no misspellings are looked for.
const MAX_ROLES: usize = 1000;

/// Judges what `raw` says as a whole.
pub(crate) fn check(raw: &RawConfig, problems: &mut Problems) {
    addresses(raw, problems);
    sockets_of_systemd(raw, problems);
    admin(raw, problems);
    proxy_in_front(raw, problems);
    networks_behind_a_proxy(raw, problems);
    proxy_that_asks(raw, problems);
    issuers(raw, problems);
    upstreams(raw, problems);
    providers(raw, problems);
    callers(raw, problems);
    roles(raw, problems);
    commas(raw, problems);
    sign_in::check(raw, problems);
}

/// No address is listened on twice.
fn addresses(raw: &RawConfig, problems: &mut Problems) {
    let mut seen: HashMap<String, &Range<usize>> = HashMap::new();
    for listen in raw
        .server
        .listen
        .iter()
        .chain(&raw.server.redirect_http)
        .chain(raw.admin.iter().map(|admin| &admin.listen))
    {
        let name = match &listen.value {
            // The system chooses another one each time.
            Listen::Tcp(address) if address.port() == 0 => continue,
            Listen::Tcp(address) => address.to_string(),
            Listen::Unix(path) => format!("unix:{}", path.display()),
            Listen::Systemd(None) => "systemd".to_owned(),
            Listen::Systemd(Some(name)) => format!("systemd:{name}"),
        };
        if let Some(first) = seen.insert(name.clone(), &listen.span) {
            problems
                .error(&listen.span, format!("`{}` is listened on twice", echo(&name)))
                .also(first.clone(), "first here")
                .hint("remove one of them");
        }
    }
}

/// `systemd` alone is all sockets, also one that another listener names.
fn sockets_of_systemd(raw: &RawConfig, problems: &mut Problems) {
    let others = raw.server.redirect_http.iter();
    let others = others.chain(raw.admin.iter().map(|admin| &admin.listen));
    let mut named = raw.server.listen.iter().chain(others);
    let named = named.find(|listen| matches!(listen.value, Listen::Systemd(Some(_))));
    let mut listed = raw.server.listen.iter();
    let all = listed.find(|listen| listen.value == Listen::Systemd(None));
    if let (Some(all), Some(named)) = (all, named) {
        problems
            .error(&all.span, "`systemd` is all sockets of systemd, and one of them is named elsewhere")
            .also(named.span.clone(), "named here")
            .hint("name this one as well, like `systemd:passgate.socket`: the name of its unit, or its `FileDescriptorName=`");
    }
}

/// The admin port answers every client that can reach it, and asks for no credential.
fn admin(raw: &RawConfig, problems: &mut Problems) {
    let Some(admin) = &raw.admin else { return };
    if let Listen::Tcp(address) = &admin.listen.value
        && address.ip().is_unspecified()
    {
        problems
            .warning(
                &admin.listen.span,
                format!("the admin port listens on all interfaces, at `{address}`"),
            )
            .label("it answers without a credential")
            .hint(format!(
                "write `\"127.0.0.1:{}\"`, the address of a private network, or `\"unix:…\"`",
                address.port()
            ));
    }
}

/// A role with a comma in it is rarely one role.
fn commas(raw: &RawConfig, problems: &mut Problems) {
    for role in all_roles(raw).filter(|role| role.contains(',')) {
        let several: Vec<String> = role
            .split(',')
            .map(str::trim)
            .filter(|role| !role.is_empty())
            .map(|role| format!("\"{role}\""))
            .collect();
        problems
            .warning(
                &role.span,
                format!("`{}` is one role, with a comma in its name", echo(role)),
            )
            .hint(format!("several roles are `[{}]`", echo(&several.join(", "))));
    }
}

/// Where browsers see https and there is no TLS here, a proxy is in front; unless it is listed, its word on the client is
/// ignored.
fn proxy_in_front(raw: &RawConfig, problems: &mut Problems) {
    let server = &raw.server;
    let Some(public_url) = server.public_url.as_ref().filter(|url| url.is_tls()) else {
        return;
    };
    let is_unknown = ["tls", "trusted_proxies"]
        .iter()
        .any(|key| raw.failed.has("server", key));
    if server.tls.is_none() && server.trusted_proxies.is_empty() && !is_unknown {
        problems
            .warning(&public_url.span, "`public_url` is `https://`, without `[server.tls]` and without `trusted_proxies`")
            .label("all clients of the proxy that ends TLS count as one address")
            .hint("list the proxy: `trusted_proxies = [\"127.0.0.1\"]`, or `[\"unix\"]` where it connects by a unix socket");
    }
}

/// A rule on networks of clients, where every client has the address of a proxy that is not listed: one that ends TLS, or one on
/// this machine, where nothing else reaches the listeners.
fn networks_behind_a_proxy(raw: &RawConfig, problems: &mut Problems) {
    let server = &raw.server;
    let is_unknown = ["tls", "trusted_proxies", "listen"]
        .iter()
        .any(|key| raw.failed.has("server", key));
    if is_unknown || !server.trusted_proxies.is_empty() {
        return;
    }
    let is_tls_elsewhere = server.tls.is_none() && server.public_url.as_ref().is_some_and(|url| url.is_tls());
    let is_local = |listen: &Spanned<Listen>| match &listen.value {
        Listen::Tcp(address) => address.ip().is_loopback(),
        Listen::Unix(_) => true,
        Listen::Systemd(_) => false,
    };
    // Where `public_url` is on this machine as well, it is for trying things out.
    let is_proxied = server.public_url.as_ref().is_some_and(|url| !url.is_loopback())
        && server.listen.iter().all(is_local);
    if !is_tls_elsewhere && !is_proxied {
        return;
    }
    let alternatives = |route: &RawRoute| {
        let any = route.any.as_ref()?;
        any.iter().find_map(|one| one.from.first().cloned())
    };
    let first = raw.routes.iter().find_map(|route| {
        let own = route.from.first().or(route.none_from.first()).cloned();
        own.or_else(|| alternatives(route))
    });
    if let Some(network) = first {
        problems
            .warning(
                &network.span,
                "clients are told apart by network here, and `trusted_proxies` is empty",
            )
            .label("behind a proxy, every client has the address of the proxy")
            .hint("list the proxy: `trusted_proxies = [\"127.0.0.1\"]`, or `[\"unix\"]` where it connects by a unix socket");
    }
}

/// Where another proxy serves routes, it has to be listed: no other peer may ask about requests.
fn proxy_that_asks(raw: &RawConfig, problems: &mut Problems) {
    let mut builtins = raw
        .upstreams
        .iter()
        .filter_map(|(_, upstream)| upstream.builtin.as_ref());
    let Some(served) = builtins.find(|builtin| builtin.value == Builtin::ForwardAuth) else {
        return;
    };
    if raw.server.trusted_proxies.is_empty() && !raw.failed.has("server", "trusted_proxies") {
        problems
            .warning(
                &served.span,
                "no proxy may ask about requests: `trusted_proxies` is empty",
            )
            .hint(
                "list the proxy that serves these routes: `trusted_proxies = [\"127.0.0.1\"]` in `[server]`",
            );
    }
}

/// Two issuers with one `iss` could not be told apart.
fn issuers(raw: &RawConfig, problems: &mut Problems) {
    let mut seen: HashMap<&str, (&str, &Range<usize>)> = HashMap::new();
    for (name, issuer) in &raw.issuers {
        let Some(iss) = &issuer.issuer else { continue };
        if let Some((first, span)) = seen.get(iss.as_str()) {
            problems
                .error(
                    &iss.span,
                    format!("`{}` and `{first}` have the same `issuer`", name.value),
                )
                .also((*span).clone(), "first here")
                .hint("a token is matched to its issuer by `iss`: merge the two tables");
        } else {
            seen.insert(iss, (name, &iss.span));
        }
    }
}

/// Each route leads to an upstream that exists; each upstream is led to.
fn upstreams(raw: &RawConfig, problems: &mut Problems) {
    let names: HashSet<&str> = raw.upstreams.iter().map(|(name, _)| name.as_str()).collect();
    let mut used: HashSet<&str> = HashSet::new();
    // One problem for each unknown name, however many routes have it.
    let mut unknown: BTreeMap<&str, Vec<&Range<usize>>> = BTreeMap::new();
    for upstream in raw.routes.iter().filter_map(|route| route.upstream.as_ref()) {
        if names.contains(upstream.as_str()) {
            used.insert(upstream);
        } else {
            unknown.entry(upstream).or_default().push(&upstream.span);
        }
    }
    // The name that a route uses may stand in a table that could not be read.
    if raw.failed.has("", "upstreams") {
        return;
    }
    for (name, spans) in unknown {
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => {
                used.insert(near);
                format!("did you mean `{near}`?")
            }
            None if names.is_empty() => format!("add `[upstreams.{}]`", echo(name)),
            None => {
                let names = raw.upstreams.iter().take(20).map(|(name, _)| name.as_str());
                format!("the upstreams are `{}`", names.collect::<Vec<_>>().join("`, `"))
            }
        };
        let problem = problems
            .error(spans[0], format!("unknown upstream `{}`", echo(name)))
            .hint(hint);
        match spans.len() - 1 {
            0 => {}
            1 => drop(problem.label("and in one more route")),
            more => drop(problem.label(format!("and in {more} more routes"))),
        }
    }
    if raw.failed.has("", "routes") || raw.failed.has("routes", "upstream") {
        return;
    }
    for (name, _) in raw
        .upstreams
        .iter()
        .filter(|(name, _)| !used.contains(name.as_str()))
    {
        problems
            .warning(&name.span, format!("no route uses upstream `{}`", name.value))
            .hint("remove it, or add a route");
    }
}

/// The providers that routes and tests name exist.
fn providers(raw: &RawConfig, problems: &mut Problems) {
    if raw.failed.has("", "providers") {
        return;
    }
    let names = || raw.providers.iter().map(|(name, _)| name.as_str());
    let of_routes = raw.routes.iter().filter_map(|route| route.provider.as_ref());
    let callers = raw.tests.iter().filter_map(|test| test.caller.as_ref());
    for provider in of_routes.chain(callers.filter_map(|caller| caller.provider.as_ref())) {
        if names().any(|name| name == provider.as_str()) {
            continue;
        }
        let hint = did_you_mean(provider, names())
            .unwrap_or_else(|| format!("add `[providers.{}]`, or name one that is there", echo(provider)));
        problems
            .error(&provider.span, format!("unknown provider `{}`", echo(provider)))
            .hint(hint);
    }
}

/// The issuers that tests name exist.
fn callers(raw: &RawConfig, problems: &mut Problems) {
    if raw.failed.has("", "issuers") {
        return;
    }
    let names = || {
        raw.issuers
            .iter()
            .map(|(name, _)| name.as_str())
            .chain([SESSION_ISSUER])
    };
    for issuer in raw
        .tests
        .iter()
        .filter_map(|test| test.caller.as_ref()?.issuer.as_ref())
    {
        if names().any(|name| name == issuer.as_str()) {
            continue;
        }
        let hint = did_you_mean(issuer, names()).unwrap_or_else(|| {
            let names: Vec<_> = names().take(20).collect();
            format!("the issuers are `{}`", names.join("`, `"))
        });
        problems
            .error(&issuer.span, format!("unknown issuer `{}`", echo(issuer)))
            .hint(hint);
    }
}

/// A role that stands in the file once, close to another one, is likely misspelt: no caller would have it.
fn roles(raw: &RawConfig, problems: &mut Problems) {
    let mut named: BTreeMap<&str, Role<'_>> = BTreeMap::new();
    for role in all_roles(raw) {
        let entry = named.entry(role.as_str()).or_insert_with(|| Role::new(role));
        entry.times += 1;
        if role.span.start < entry.first.span.start {
            entry.first = role;
        }
    }
    if named.len() > MAX_ROLES {
        return;
    }
    for role in named.values().filter(|role| role.times == 1) {
        // Of two roles that stand once each, the later one is asked about.
        let near = named
            .values()
            .filter(|other| other.times > 1 || other.first.span.start < role.first.span.start)
            .filter_map(|other| role.slip(other).map(|distance| (distance, other.first)))
            .min_by_key(|(distance, other)| (*distance, other.span.start));
        if let Some((_, other)) = near {
            let line = problems.place(&other.span).line;
            problems
                .warning(
                    &role.first.span,
                    format!("role `{}` is named only here", echo(role.first)),
                )
                .hint(format!("did you mean `{}`, as on line {line}?", echo(other)));
        }
    }
}

fn all_roles(raw: &RawConfig) -> impl Iterator<Item = &Spanned<String>> {
    let rules = raw.routes.iter().filter_map(|route| route.roles.as_ref());
    let alternatives = raw.routes.iter().filter_map(|route| route.any.as_ref());
    let of_alternatives = alternatives
        .flat_map(|any| any.iter())
        .filter_map(|one| one.role.as_ref());
    let of_routes = rules
        .flat_map(|rule| [&rule.any, &rule.all, &rule.none])
        .flatten()
        .flatten();
    let of_tests = raw
        .tests
        .iter()
        .filter_map(|test| test.caller.as_ref())
        .flat_map(|caller| &caller.roles);
    let of_accounts = raw
        .password
        .iter()
        .flat_map(|password| password.default_roles.iter().chain(&password.admin_role));
    let of_providers = raw.providers.iter().flat_map(|(_, provider)| &provider.roles);
    let of_providers = of_providers.map(|grant| &grant.role);
    of_routes
        .chain(of_alternatives)
        .chain(of_tests)
        .chain(of_accounts)
        .chain(of_providers)
}

/// A role, and what is compared of it before the slow comparison.
struct Role<'r> {
    first: &'r Spanned<String>,
    times: usize,
    length: usize,
    /// A bit for each character, some sharing one.
    characters: u64,
    without_digits: String,
}

impl<'r> Role<'r> {
    fn new(role: &'r Spanned<String>) -> Self {
        Self {
            first: role,
            times: 0,
            length: role.chars().count(),
            characters: role
                .chars()
                .fold(0, |bits, char| bits | 1 << (u32::from(char) % 64)),
            without_digits: role.chars().filter(|char| !char.is_ascii_digit()).collect(),
        }
    }

    /// How many slips of the finger lie between two roles; `None` where they are both roles are intended.
    fn slip(&self, other: &Self) -> Option<usize> {
        let allowed = (self.length.min(other.length) / 3).min(2);
        // Each slip brings one character and takes one away, at most.
        let differing = (self.characters ^ other.characters).count_ones() as usize;
        if self.length.abs_diff(other.length) > allowed
            || differing > 2 * allowed
            // `team-1` and `team-2` are both meant.
            || self.without_digits == other.without_digits
        {
            return None;
        }
        let distance = strsim::damerau_levenshtein(self.first, other.first);
        (distance <= allowed).then_some(distance)
    }
}
