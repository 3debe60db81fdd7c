//! A route, ready to run, and the route of a request.
//!
//! Input: the table of routes and the canonical target. Output: the one route that takes the request, or 400, 404 or 405.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};

use super::refuse::{Matched, Rejection};
use super::trace::Trace;
use crate::authorize::Rules;
use crate::config::Place;
use crate::forward::Upstream;
use crate::http::target::{PathLeniency, QueryEdit, Target};
use crate::observe::RouteLabel;
use crate::refusal::Refusal;
use crate::route::{Lookup, Table};

/// A route, ready to run.
#[derive(Debug)]
pub struct Route {
    /// Its pattern, as log lines and metrics name it.
    pub label: Label,
    /// Its `[[routes]]` line.
    pub place: Place,
    /// Host, path and methods as written, for `check`.
    pub pattern: (Option<String>, String, Option<String>),
    /// Who may.
    pub rules: Rules,
    /// Odd paths that it takes.
    pub accept: PathLeniency,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// Cut off the front of the path.
    pub strip_prefix: Option<Prefix>,
    /// Whether addresses of the app in its answers become public ones.
    pub rewrite_responses: bool,
    /// Set on the request to the app.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What other products say to apps, and passes from clients on this route.
    pub keep_headers: Vec<HeaderName>,
    /// Whether the app gets the credential as well.
    pub forward_credential: bool,
}

/// What a route cuts off the front of paths.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// As [`crate::http::target::canonical_prefix`] made it.
    pub path: String,
    /// The same for `X-Forwarded-Prefix`.
    pub value: HeaderValue,
}

/// How log lines and metrics name a route.
#[derive(Clone, Debug)]
pub struct Label {
    /// Methods, host and path as written.
    pub text: Arc<str>,
    /// The series that its requests are counted in.
    pub series: RouteLabel,
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The route for a target, if it accepts the spelling of the path.
///
/// # Errors
/// 400 for a path whose spelling is not accepted, 404, 405.
pub(super) fn locate<'g, T: Trace>(
    routes: &'g Table<Route>,
    host: &str,
    target: &Target,
    method: &Method,
    trace: &mut T,
) -> Result<&'g Route, Box<Rejection<'g>>> {
    let unless = |accepted| target.oddities().refusal_unless(accepted);
    match routes.find(host, target.matching(), method) {
        Lookup::Found(route) => {
            let refusal = unless(route.accept)
                .or_else(|| cannot_be_forwarded(route, target))
                .or_else(|| hides_another_route(routes, host, target, method, route));
            let Some(refusal) = refusal else {
                trace.step("route", true, || format!("{} ({})", route.label, route.place));
                return Ok(route);
            };
            Err(misspelled(route, refusal, None, trace))
        }
        Lookup::MethodRefused { allow, some } => match unless(some.accept) {
            Some(refusal) => Err(misspelled(some, refusal, Some(allow), trace)),
            None => {
                trace.step("route", false, || {
                    let allow = allow.to_str().unwrap_or_default();
                    format!(
                        "{} ({}) covers the path, for {allow} only",
                        some.label, some.place
                    )
                });
                Err(Box::new(Rejection {
                    matched: Matched::Route(some),
                    allow: Some(allow.clone()),
                    ..Rejection::new(Refusal::MethodRefused)
                }))
            }
        },
        Lookup::Missing => {
            trace.step("route", false, || {
                "no route covers this path on this host".to_owned()
            });
            Err(unless(PathLeniency::default())
                .unwrap_or(Refusal::RouteMissing)
                .into())
        }
    }
}

fn misspelled<'g, T: Trace>(
    route: &'g Route,
    refusal: Refusal,
    allow: Option<&HeaderValue>,
    trace: &mut T,
) -> Box<Rejection<'g>> {
    trace.step("route", false, || {
        format!(
            "{} ({}) does not accept a path spelled like this: {refusal}",
            route.label, route.place
        )
    });
    Box::new(Rejection {
        matched: Matched::Route(route),
        allow: allow.cloned(),
        ..Rejection::new(refusal)
    })
}

/// Where the route's prefix is cut off and the rest begins with an empty segment, there is no target to forward.
fn cannot_be_forwarded(route: &Route, target: &Target) -> Option<Refusal> {
    if target.oddities().is_none() {
        return None;
    }
    let prefix = route.strip_prefix.as_ref().map(|prefix| &*prefix.path);
    target
        .rewritten(prefix, "", QueryEdit::Keep)
        .is_err()
        .then_some(Refusal::PathEmptySegment)
}

/// An app may read an odd path in its own way: it decodes `%2f` before it matches, say. Where it would take the path for one
/// of another route, which asks for more than this one or does not have the method, the decision made here would not be
/// about what the app does.
fn hides_another_route(
    routes: &Table<Route>,
    host: &str,
    target: &Target,
    method: &Method,
    route: &Route,
) -> Option<Refusal> {
    let hides = target.other_readings().any(|reading| {
        let Ok(path) = reading else { return true };
        match routes.find(host, &path, method) {
            Lookup::Found(other) => !route.rules.cover(&other.rules),
            Lookup::MethodRefused { .. } => true,
            Lookup::Missing => false,
        }
    });
    let harmless = PathLeniency {
        empty_segment: true,
        path_parameter: true,
        ..PathLeniency::default()
    };
    hides.then(|| {
        target
            .oddities()
            .refusal_unless(harmless)
            .unwrap_or(Refusal::PathEncodedSlash)
    })
}

impl Route {
    /// Whether the route's prefix is cut off this path.
    #[must_use]
    pub fn cuts(&self, target: &Target) -> bool {
        self.strip_prefix
            .as_ref()
            .is_some_and(|prefix| target.begins_with(&prefix.path))
    }

    /// Which fields of an answer to a request for `target` are rewritten, and what becomes of them, for people.
    #[must_use]
    pub fn rewritten(&self, target: &Target) -> Vec<(&'static str, String)> {
        if !self.rewrite_responses || self.upstream.is_builtin() {
            return Vec::new();
        }
        let prefix = self
            .strip_prefix
            .as_ref()
            .filter(|_| self.cuts(target))
            .map_or("", |prefix| &prefix.path);
        let path = match (self.upstream.base(), prefix) {
            ("", "") => None,
            ("", prefix) => Some(format!("`/…` becomes `{prefix}/…`")),
            (base, prefix) => Some(format!("`{base}/…` becomes `{prefix}/…`")),
        };
        let place = match &path {
            Some(path) => format!("{path}; the address of a server is taken out"),
            None => "the address of a server is taken out".to_owned(),
        };
        let mut fields: Vec<_> = ["Location", "Content-Location", "Refresh"]
            .map(|name| (name, place.clone()))
            .into();
        fields.extend(path.map(|path| ("Set-Cookie", format!("in `Path`, {path}"))));
        fields
    }
}
