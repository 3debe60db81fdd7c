//! From the raw file to ready parts: every table compiled, every name resolved, every problem collected.
//!
//! Input: a [`RawConfig`]. Output: a [`Plan`], which is complete, or problems. Reads key and certificate files; contacts no
//! host and opens no state.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use http::{HeaderName, HeaderValue, Method};

use super::settings::{self, Settings};
use super::{Failure, Unreadable, egress, guarded};
use crate::account::Policy;
use crate::audit::Audit;
use crate::authorize::{Auth, Rules};
use crate::config::raw::{RawConfig, RawPassword, RawRoute, RawTest};
use crate::config::schema::{Written, or_default};
use crate::config::{self, Problems, Spanned};
use crate::credential::Sources;
use crate::forward::{Address, Upstream};
use crate::gateway::{Cors, Label, Maintenance, Prefix, Route};
use crate::http::target::{PathLeniency, Target, canonical_prefix};
use crate::http::url::Url;
use crate::identity_headers::IdentityHeaders;
use crate::login;
use crate::login::provider::{ProviderPlan, Sealing};
use crate::net::tls_roots::system_files;
use crate::observe::{RouteLabel, RouteOrigin};
use crate::pages::Pages;
use crate::rate_limit::RateLimit;
use crate::route::{Builder, HostPattern, Lookup, NamedHosts, Pattern, Table};
use crate::server::listen::Address as Listen;
use crate::session;
use crate::state::Authorities;
use crate::values::{Aliases, RedirectUri, SigningAlgorithm};
use crate::verify::{Issuers, Verifier};

/// Everything that a file says, ready to be put to work.
#[derive(Debug)]
pub struct Plan {
    /// The process.
    pub settings: Arc<Settings>,
    /// The routes.
    pub routes: Table<Route>,
    /// The hosts that they name.
    pub named_hosts: NamedHosts,
    /// The upstreams, for health checks.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The issuers.
    pub issuers: Issuers,
    /// Where credentials may be.
    pub sources: Sources,
    /// What the app is told.
    pub naming: IdentityHeaders,
    /// Whether assertions are sent.
    pub assertion: bool,
    /// How people sign in, where they can.
    pub sign_in: Option<SignInPlan>,
    /// What people see.
    pub pages: Arc<Pages>,
    /// The file's own tests.
    pub tests: Vec<Spanned<RawTest>>,
    /// The files that it depends on, without the configuration file itself.
    pub(crate) files: Vec<PathBuf>,
    /// The SHA-256 hash of the configuration file, in hexadecimal digits.
    pub(crate) sha256: String,
    /// The tables that a reload compares.
    pub(crate) written: Written,
    /// The verifier of the configuration before, where the issuers are the same.
    pub(crate) verifier: Option<Verifier>,
}

/// `[session]` and `[password]`, ready to be put to work.
#[derive(Debug)]
pub struct SignInPlan {
    /// What sessions are like.
    pub session: session::Settings,
    /// What accounts and passwords are held to.
    pub policy: Policy,
    /// The cookie with the refresh token of a sign-in by JSON, where it is one.
    pub refresh_cookie: Option<session::RefreshCookie>,
    /// Where sign-ins of native clients may return.
    pub redirect_uris: Arc<[RedirectUri]>,
    /// Whether registration is open.
    pub registration: bool,
    /// `password.admin_role`
    pub admin_role: String,
    /// Whether local accounts can sign in.
    pub password: bool,
    /// The providers.
    pub(crate) providers: Vec<ProviderPlan>,
    /// Whether a route hands tokens of providers to its app.
    pub(crate) forwards_tokens: bool,
    /// What tokens of providers are encrypted by.
    pub(crate) sealing: Sealing,
}

/// Reads and compiles `file`. The problems come with the plan, because there may be warnings, and tests to be run.
///
/// # Errors
/// [`Failure::Problems`] with all problems, [`Failure::Unreadable`].
pub fn load(file: &Path) -> Result<(Plan, Problems), Failure> {
    let (raw, mut problems) = parse(file)?;
    if raw.failed.is_everything() {
        return Err(Failure::problems(problems));
    }
    let plan = compile(&raw, &mut problems);
    match plan {
        Some(plan) if problems.errors().is_empty() => Ok((plan, problems)),
        _ => Err(Failure::problems(problems)),
    }
}

/// What the commands that only change the state need of a file. They work where its secrets cannot be read, in the shell
/// of an operator beside a service that gets them from systemd.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) state_url: String,
    pub(super) public_url: Url,
    pub(super) raw: RawConfig,
}

impl Outline {
    /// What sessions are like.
    pub(super) fn session_settings(&self) -> session::Settings {
        settings::session(&self.raw.session, &self.public_url)
    }

    /// The audit log, whose path is relative to `file`.
    pub(super) fn audit(&self, file: &Path) -> Audit {
        let written = self.raw.audit.file.as_ref();
        Audit::at(written.map(|path| file.parent().unwrap_or(Path::new("")).join(&path.value)))
    }

    /// The algorithm of a new signing key.
    pub(super) fn signing_algorithm(&self) -> SigningAlgorithm {
        settings::signing_algorithm(&self.raw)
    }

    /// What accounts and passwords are held to.
    pub(super) fn policy(&self) -> Policy {
        match &self.raw.password {
            Some(raw) => settings::policy(raw),
            None => settings::policy(&RawPassword::default()),
        }
    }
}

/// Reads `file`, and no other one.
///
/// # Errors
/// [`Failure::Problems`] with the problems of the file's text, [`Failure::Unreadable`].
pub(super) fn outline(file: &Path) -> Result<Outline, Failure> {
    let (raw, problems) = parse(file)?;
    if !problems.errors().is_empty() {
        return Err(Failure::problems(problems));
    }
    Ok(Outline {
        state_url: settings::state_url(&raw, &problems),
        public_url: settings::public_url(&raw.server, &problems),
        raw,
    })
}

fn parse(file: &Path) -> Result<(RawConfig, Problems), Failure> {
    let shown = file.display().to_string();
    let source = guarded::read(file)?;
    let source = String::from_utf8(source).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        let message = format!("`{shown}:{line}` is not UTF-8 text");
        Failure::Unreadable(Unreadable {
            file: shown,
            line: Some(line),
            message,
            hint: "save the file as UTF-8".to_owned(),
        })
    })?;
    let mut problems = Problems::new(file, &source);
    let raw = config::read(&mut problems);
    Ok((raw, problems))
}

/// The SHA-256 hash of the text that was read.
pub(super) fn sha256(problems: &Problems) -> String {
    let hash = digest::digest(&digest::SHA256, problems.source().as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles all tables. `None` only where there are errors.
fn compile(raw: &RawConfig, problems: &mut Problems) -> Option<Plan> {
    let settings = Settings::compile(raw, problems);
    // The authorities that servers and issuers are trusted by, where no `ca_file` is written.
    for file in system_files() {
        problems.depends_on(&file);
    }
    let workers = settings::workers(&raw.server);
    let upstreams: Vec<Arc<Upstream>> = raw
        .upstreams
        .iter()
        .map(|(name, upstream)| Arc::new(Upstream::compile(name, upstream, workers, problems)))
        .collect();
    if !raw.failed.has("server", "listen") {
        check_loops(raw, &settings, &upstreams, problems);
    }
    let naming = IdentityHeaders::compile(raw, problems);
    let environment = |name: &str| std::env::var(name).ok();
    let egress = egress::compile(raw.server.egress_proxy.as_ref(), &environment, problems);
    let issuers = Issuers::compile(&raw.issuers, &egress, problems);
    check_own_name(raw, settings.public_url.as_str(), problems);
    check_callers(raw, problems);
    let sources = Sources::compile(raw.sources.as_deref(), problems);
    let routes = compile_routes(raw, &settings, &upstreams, problems);
    let hosts = raw.routes.iter().filter_map(|route| route.host.as_ref());
    let named_hosts = NamedHosts::new(hosts.map(|host| &host.value));
    let authorities = raw.providers.iter().flat_map(|(name, provider)| {
        let domains = provider.authoritative_domains.iter();
        domains.map(|domain| (domain.value.clone(), name.value.clone()))
    });
    let authorities = Arc::new(Authorities::new(authorities));
    let providers = ProviderPlan::compile(&raw.providers, &authorities, &egress, problems);
    let sealing = Sealing::compile(&raw.state, &settings.state_url, problems);
    let without_password = RawPassword::default();
    let has_sign_in = raw.password.is_some() || !raw.providers.is_empty();
    let password = raw.password.as_ref().map(|password| &password.value);
    let password = password.unwrap_or(&without_password);
    let sign_in = has_sign_in.then(|| SignInPlan {
        session: session::Settings {
            trust_unconfirmed_email: or_default(
                password.trust_unconfirmed_email.as_ref(),
                "password",
                "trust_unconfirmed_email",
            ),
            authorities: Arc::clone(&authorities),
            ..settings::session(&raw.session, &settings.public_url)
        },
        policy: settings::policy(password),
        redirect_uris: raw
            .session
            .redirect_uris
            .iter()
            .map(|listed| listed.value.clone())
            .collect(),
        refresh_cookie: or_default::<bool>(raw.session.refresh_cookie.as_ref(), "session", "refresh_cookie")
            .then(|| session::RefreshCookie::new(&settings.own_prefix, settings.public_url.is_tls())),
        registration: or_default(password.registration.as_ref(), "password", "registration"),
        admin_role: or_default(password.admin_role.as_ref(), "password", "admin_role"),
        password: raw.password.is_some(),
        providers,
        forwards_tokens: raw
            .routes
            .iter()
            .any(|route| route.forward_provider_token.as_ref().is_some_and(|key| key.value)),
        sealing,
    });
    let pages = compile_pages(raw, &settings, sign_in.as_ref(), &named_hosts, problems);
    Some(Plan {
        files: problems.files().to_vec(),
        sha256: sha256(problems),
        written: raw.written.clone(),
        verifier: None,
        pages: Arc::new(pages),
        sign_in,
        named_hosts,
        routes: routes?,
        upstreams,
        issuers,
        sources,
        naming,
        assertion: or_default(raw.identity.assertion.as_ref(), "identity", "assertion"),
        tests: raw.tests.clone(),
        settings: Arc::new(settings),
    })
}

/// Pages are there in any case, at least for errors.
fn compile_pages(
    raw: &RawConfig,
    settings: &Settings,
    sign_in: Option<&SignInPlan>,
    named: &NamedHosts,
    problems: &mut Problems,
) -> Pages {
    let registration = sign_in.is_some_and(|sign_in| sign_in.registration);
    let pages = Pages::compile(
        &raw.pages,
        &settings.own_prefix,
        &settings.realm(),
        registration,
        problems,
    );
    // Where there is one host, forms stay there.
    let pages = if named.is_empty() {
        pages
    } else {
        pages.with_forms_to(settings.public_url.as_str())
    };
    match sign_in {
        Some(sign_in) => pages.with_min_length(sign_in.policy.min_length as u64),
        None => pages,
    }
}

/// `public_url` is the `iss` of our own tokens: no other issuer may have it, and an app that checks it relies on it.
fn check_own_name(raw: &RawConfig, public_url: &str, problems: &mut Problems) {
    for iss in raw
        .issuers
        .iter()
        .filter_map(|(_, issuer)| issuer.issuer.as_ref())
    {
        if iss.value == public_url {
            problems
                .error(
                    &iss.span,
                    format!("`{public_url}` is the issuer of the gateway's own tokens"),
                )
                .hint("another issuer has another `issuer`; the gateway's own is `public_url` in `[server]`");
        }
    }
    if let Some(assertion) = raw
        .identity
        .assertion
        .as_ref()
        .filter(|assertion| assertion.value)
        && raw.server.public_url.is_none()
        && !raw.failed.has("server", "public_url")
    {
        problems
            .warning(
                &assertion.span,
                format!("without `public_url`, assertions have the `iss` `{public_url}`"),
            )
            .hint("apps compare it: set `public_url` in `[server]`, so that it stays when `listen` changes");
    }
    // A file that was cut short while it was written must not take the place of a whole one.
    if raw.routes.is_empty() && !raw.failed.has("", "routes") {
        let what = if problems.source().trim().is_empty() {
            "the file is empty"
        } else {
            "the file has no `[[routes]]`"
        };
        problems.error(&(0..0), what).hint(
            "add `[[routes]]` with `path = \"/*\"` and an `upstream`; `passgate example` prints a file to start from",
        );
    }
}

/// A route that needs a caller, in a file that names no way to become one.
fn check_callers(raw: &RawConfig, problems: &mut Problems) {
    let is_unknown = ["issuers", "password", "providers"]
        .iter()
        .any(|table| raw.failed.has("", table));
    if is_unknown
        || raw.failed.has("routes", "auth")
        || !raw.issuers.is_empty()
        || raw.password.is_some()
        || !raw.providers.is_empty()
    {
        return;
    }
    let needs_caller = |route: &&Spanned<RawRoute>| {
        route
            .auth
            .as_ref()
            .is_none_or(|auth| auth.value == Auth::Required)
    };
    if let Some(route) = raw.routes.iter().find(needs_caller) {
        let span = route.auth.as_ref().map_or(&route.span, |auth| &auth.span);
        problems.warning(span, "this route needs a caller, and no way to sign in is configured").hint(
            "add `[password]` for local accounts, `[providers.NAME]` or `[issuers.NAME]` for tokens; until then only tokens of `passgate \
             token mint` are accepted",
        );
    }
}

/// An upstream that is the gateway itself: a request would come back until something breaks.
fn check_loops(raw: &RawConfig, settings: &Settings, upstreams: &[Arc<Upstream>], problems: &mut Problems) {
    for (upstream, (_, table)) in upstreams.iter().zip(&raw.upstreams) {
        // Where one of the servers could not be compiled, that is said, and the two lists are not alike.
        for (address, written) in upstream.addresses().zip(&table.servers) {
            let Some(place) = settings.listen.iter().position(|listen| is_same(address, listen)) else {
                continue;
            };
            let problem = problems
                .error(
                    &written.span,
                    format!(
                        "upstream `{}` is the gateway itself: requests would loop",
                        upstream.name
                    ),
                )
                .label(format!("the gateway listens on `{}`", settings.listen[place]))
                .hint("name the address of the app; it and the gateway cannot share a port");
            if let Some(listen) = raw.server.listen.get(place) {
                problem.also(listen.span.clone(), "the gateway listens here");
            }
        }
    }
}

/// Whether connections to `server` arrive at the listener `listen`, as far as this machine can tell without asking for
/// names. A port of the system's choice and the sockets of systemd are not known yet.
fn is_same(server: &Address, listen: &Listen) -> bool {
    match (server, listen) {
        (Address::Unix(server), Listen::Unix(listen)) => server == listen,
        (Address::Ip(server), Listen::Tcp(listen)) => {
            server.port() == listen.port() && reaches(server.ip(), listen.ip())
        }
        (Address::Name { host, port }, Listen::Tcp(listen)) => {
            let is_here =
                host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
            *port == listen.port() && is_here && (listen.ip().is_unspecified() || listen.ip().is_loopback())
        }
        _ => false,
    }
}

fn reaches(server: IpAddr, listen: IpAddr) -> bool {
    let (server, listen) = (server.to_canonical(), listen.to_canonical());
    // A connection to `0.0.0.0` or `[::]` goes to this machine.
    let is_here = || {
        server.is_loopback() || server.is_unspecified()
            // Only an address of this machine can be bound to.
            || std::net::UdpSocket::bind((server, 0)).is_ok()
    };
    server == listen
        || (server.is_ipv4() == listen.is_ipv4()
            && ((listen.is_unspecified() && is_here()) || (server.is_unspecified() && listen.is_loopback())))
}

fn compile_routes(
    raw: &RawConfig,
    settings: &Settings,
    upstreams: &[Arc<Upstream>],
    problems: &mut Problems,
) -> Option<Table<Route>> {
    let upstreams: HashMap<&str, &Arc<Upstream>> = upstreams
        .iter()
        .map(|upstream| (&*upstream.name, upstream))
        .collect();
    let mut builder = Builder::new();
    let mut spans = Vec::new();
    let security_headers = raw.server.scalars.get("server", "security_headers");
    for raw in &raw.routes {
        let route = compile_route(raw, settings, &upstreams, security_headers, problems);
        if let (Some(route), Some(path)) = (route, &raw.path) {
            let host = raw.host.as_ref().map(|host| host.value.clone());
            builder.add(host, path.value.clone(), methods(raw), route);
            spans.push(path.span.clone());
        }
    }
    match builder.build() {
        Ok(table) => {
            for route in &raw.routes {
                warn_of_the_other_slash(route, &table, problems);
            }
            warn_of_method_override(&table, &spans, problems);
            Some(table)
        }
        Err(conflicts) => {
            for conflict in conflicts {
                problems
                    .error(
                        &spans[conflict.second],
                        format!("two routes tie: both match `{}`, for the same method", conflict.example),
                    )
                    .label("this one")
                    .also(spans[conflict.first].clone(), "and this one")
                    .hint("give them different hosts, paths or `methods` (named methods come before all methods), or make them one route");
            }
            None
        }
    }
}

/// `/admin` and `/admin/` are two paths here and one to many apps. A route for one of them alone, where the other one
/// falls to a route that asks for less, protects nothing there.
fn warn_of_the_other_slash(route: &RawRoute, table: &Table<Route>, problems: &mut Problems) {
    let Some(path) = &route.path else { return };
    let text = path.as_str();
    if text == "/" || text.ends_with('*') {
        return;
    }
    let host = match route.host.as_ref().map(|host| &host.value) {
        None => "x.invalid".to_owned(),
        Some(HostPattern::Exact(name)) => name.to_string(),
        Some(HostPattern::Below(suffix)) => format!("x{suffix}"),
    };
    let segments = text
        .split('/')
        .map(|segment| if segment.starts_with('{') { "x" } else { segment });
    let here = segments.collect::<Vec<_>>().join("/");
    let there = here
        .strip_suffix('/')
        .map_or_else(|| format!("{here}/"), str::to_owned);
    let leads_to = |path: &str, method: &Method| {
        let target = path.parse().ok().and_then(|uri| Target::parse(&uri).ok())?;
        match table.find(&host, target.matching(), method) {
            Lookup::Found(route) => Some(route),
            Lookup::MethodRefused { .. } | Lookup::Missing => None,
        }
    };
    for method in methods(route).as_deref().unwrap_or(&[Method::GET]) {
        let (Some(meant), Some(other)) = (leads_to(&here, method), leads_to(&there, method)) else {
            continue;
        };
        if !other.rules.cover(&meant.rules) {
            problems
                .warning(
                    &path.span,
                    format!(
                        "`{there}` is not this path: it belongs to `{}`, which asks for less",
                        other.label
                    ),
                )
                .label("many apps take the two for one")
                .hint(format!(
                    "write `{}/*`, or add a route for the other one",
                    text.trim_end_matches('/')
                ));
            return;
        }
    }
}

/// Rules of one path that differ by method hold for the method that the request has. Many frameworks let a form send POST
/// and name another method in a field of its body (`_method`), where the gateway does not look; and answer HEAD as GET.
/// `spans` are those of the routes' paths, by index.
fn warn_of_method_override(table: &Table<Route>, spans: &[Range<usize>], problems: &mut Problems) {
    const SENT: [Method; 2] = [Method::POST, Method::HEAD];
    // In the order in which they are told; HEAD is answered as GET by nearly every app, the others take a middleware.
    let methods = [
        SENT[0].clone(),
        SENT[1].clone(),
        Method::DELETE,
        Method::PUT,
        Method::PATCH,
        Method::GET,
    ];
    for [post, head, others @ ..] in table.by_method(&methods) {
        let weaker = |sent: Option<usize>, other: Option<usize>| {
            let (sent, other) = (sent.filter(|sent| Some(*sent) != other)?, other?);
            let (asked, wanted) = (table.get(sent)?, table.get(other)?);
            (!asked.rules.cover(&wanted.rules)).then_some((sent, other))
        };
        let found = others
            .iter()
            .zip(&methods[SENT.len()..])
            .find_map(|(other, method)| {
                let (sent, other) = weaker(post, *other)?;
                Some((sent, other, method))
            });
        if let Some((post, other, method)) = found {
            problems
                .warning(&spans[post], format!("POST asks for less here than {method} on the same path"))
                .label("this route takes POST")
                .also(spans[other].clone(), format!("{method} asks for more"))
                .hint(format!(
                    "an app that takes the method from a form field (`_method`) runs {method} for a POST: ask POST for the same, or switch that off in the app"
                ));
        }
        if let Some((head, get)) = weaker(head, others[3]) {
            problems
                .warning(&spans[head], "HEAD asks for less here than GET on the same path")
                .label("this route takes HEAD")
                .also(spans[get].clone(), "GET asks for more")
                .hint("apps answer HEAD as they answer GET, without the body: add `HEAD` to the methods of the other route");
        }
    }
}

fn methods(route: &RawRoute) -> Option<Vec<Method>> {
    let methods = route.methods.as_ref()?;
    Some(methods.iter().map(|method| method.value.clone()).collect())
}

fn compile_route(
    route: &Spanned<RawRoute>,
    settings: &Settings,
    upstreams: &HashMap<&str, &Arc<Upstream>>,
    security_headers: bool,
    problems: &mut Problems,
) -> Option<Route> {
    let rules = Rules::compile(route, problems);
    let path = route.path.as_ref()?;
    // In the spelling that it is matched in, too; an example has a name of its own in place of a parameter.
    let is_literal = !path.as_str().contains('{');
    let own_prefix = &settings.own_prefix;
    let is_among = |aliases| {
        let is_own = |path: &str| login::is_own(path, own_prefix, aliases);
        is_own(path.as_str()) || is_literal && is_own(&path.example())
    };
    if is_among(settings.aliases) && !login::is_well_known(path.as_str()) {
        let hint = if is_among(Aliases::default()) {
            format!("if the app needs `{own_prefix}`, set `own_prefix` in `[server]`")
        } else {
            "if the app needs it, take the product out of `aliases` in `[forward_auth]`".to_owned()
        };
        problems
            .error(
                &path.span,
                format!("`{}` is where the gateway itself answers", path.value),
            )
            .hint(format!(
                "a wider route (`/*`) yields to the gateway's own endpoints; {hint}"
            ));
    }
    check_reachable(path, route.accept, problems);
    let strip_prefix = compile_strip_prefix(route, problems);
    let upstream = upstreams.get(route.upstream.as_ref()?.as_str())?;
    let host = route.host.as_ref().map(|host| host.to_string());
    let methods = methods(route);
    let methods = |separator: &str| {
        let names: Vec<&str> = methods.as_ref()?.iter().map(Method::as_str).collect();
        Some(names.join(separator))
    };
    let text = format!(
        "{}{}{}",
        methods(",").map_or_else(String::new, |names| names + " "),
        host.as_deref().unwrap_or_default(),
        path.value
    );
    let rate_limit = route.rate_limit.as_ref();
    let rate_limit = rate_limit.and_then(|raw| RateLimit::compile(raw, &text, problems));
    let of_route = methods(", ");
    let cors = route.cors.as_ref();
    let cors = cors.and_then(|raw| Cors::compile(raw, of_route.as_deref()));
    let maintenance = route.maintenance.as_ref();
    let maintenance = maintenance.and_then(|raw| Maintenance::compile(raw, problems));
    Some(Route {
        label: Label {
            series: RouteLabel::NONE,
            // What decisions are remembered by is filled in where the gateway is built.
            origin: Arc::new(RouteOrigin {
                text: text.into(),
                place: None,
                rules: None,
                sources: Arc::default(),
            }),
        },
        place: problems.place(&route.span),
        pattern: (host, path.to_string(), of_route),
        rules: Arc::new(rules),
        accept: route.accept,
        upstream: Arc::clone(upstream),
        strip_prefix,
        rewrite_responses: or_default(route.rewrite_responses.as_ref(), "routes", "rewrite_responses"),
        headers: route
            .headers
            .iter()
            .map(|(name, value)| (HeaderName::clone(name), value.value.0.clone()))
            .collect(),
        keep_headers: route
            .keep_headers
            .iter()
            .map(|name| HeaderName::clone(name))
            .collect(),
        forward_credential: or_default(route.forward_credential.as_ref(), "routes", "forward_credential"),
        forward_provider_token: or_default(
            route.forward_provider_token.as_ref(),
            "routes",
            "forward_provider_token",
        ),
        rate_limit,
        cors,
        security_headers: route
            .security_headers
            .as_ref()
            .map_or(security_headers, |own| own.value),
        maintenance,
    })
}

/// A path that no request can have on this route, because each one that would match is refused first.
fn check_reachable(path: &Spanned<Pattern>, accept: PathLeniency, problems: &mut Problems) {
    let Ok(uri) = path.example().parse() else {
        return;
    };
    let refusal = |accept: PathLeniency| match Target::parse(&uri) {
        Ok(target) => target.oddities().refusal_unless(accept),
        Err(refusal) => Some(refusal),
    };
    let passes = |accept: PathLeniency| refusal(accept).is_none();
    let Some(refusal) = refusal(accept) else { return };
    let problem = problems.error(
        &path.span,
        format!("no request can match `{}`: {refusal}", path.value),
    );
    match PathLeniency::NAMES
        .iter()
        .find(|name| accept.with_name(name).is_some_and(passes))
    {
        Some(name) => problem.hint(format!(
            "add `accept = [\"{name}\"]` to the route, or write another path"
        )),
        None => problem
            .hint("requests with such a path are refused before routes are looked at: write another path"),
    };
}

/// The prefix must stand in front of the route's own path, or it would never be cut off.
fn compile_strip_prefix(route: &RawRoute, problems: &mut Problems) -> Option<Prefix> {
    let prefix = route.strip_prefix.as_ref()?;
    let path = route.path.as_ref()?;
    let cut = prefix.value.trim_end_matches('/');
    let covers = path
        .as_str()
        .strip_prefix(cut)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !prefix.value.starts_with('/') || !covers || cut.contains(['{', '*']) {
        problems
            .error(
                &prefix.span,
                format!(
                    "`strip_prefix` is not in front of the route's path `{}`",
                    path.value
                ),
            )
            .hint("write the leading segments of `path`, such as `/admin` for `/admin/*`");
        return None;
    }
    // In the spelling that paths are matched in. Where it has none, nor has the route's path, and that is said there.
    let path = canonical_prefix(cut).ok().filter(|path| !path.is_empty())?;
    Some(Prefix {
        value: HeaderValue::try_from(&path).ok()?,
        path,
    })
}
