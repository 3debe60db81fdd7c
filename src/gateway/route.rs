//! A route, ready to run.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::cors::Cors;
use super::maintenance::Maintenance;
use crate::authorize::Rules;
use crate::config::Place;
use crate::forward::Upstream;
use crate::http::target::{PathLeniency, Target};
use crate::observe::{RouteLabel, RouteOrigin};
use crate::rate_limit::RateLimit;

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
    pub rules: Arc<Rules>,
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
    /// Whether the app gets the access token of the provider that the user signed in with.
    pub forward_provider_token: bool,
    /// The limit on requests.
    pub(crate) rate_limit: Option<RateLimit>,
    /// Whose pages may read its answers.
    pub(crate) cors: Option<Cors>,
    /// Whether answers of the app get the fields that it leaves out.
    pub security_headers: bool,
    /// What is answered in place of the app.
    pub(crate) maintenance: Option<Maintenance>,
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
    /// The route as decisions are remembered by it; its text is methods, host and path as written.
    pub origin: Arc<RouteOrigin>,
    /// The series that its requests are counted in.
    pub series: RouteLabel,
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.origin.text)
    }
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
