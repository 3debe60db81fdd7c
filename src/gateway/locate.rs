//! The route of a request.
//!
//! Input: the table of routes and the canonical target. Output: the one route that takes the request, or 400, 404 or 405.

use http::{HeaderValue, Method};

use super::rejection::{Matched, Rejection};
use super::route::Route;
use super::trace::Trace;
use crate::http::target::{PathLeniency, QueryEdit, Target};
use crate::refusal::Refusal;
use crate::route::{Lookup, Table};

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
