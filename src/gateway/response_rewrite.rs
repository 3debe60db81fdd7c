//! The app's answer becomes the gateway's.
//!
//! Input: the head of an answer without hop-by-hop fields. Output: the same head with addresses and cookie paths as the
//! client has to see them, with what caches have to know, and without what is between the gateway and the app. Bodies
//! are never touched. Invariants: no field of the app becomes
//! the address of another host, and no cache may give one caller's answer to another.

use http::header::{CACHE_CONTROL, CONTENT_LOCATION, EXPIRES, LOCATION, PRAGMA, REFRESH, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::decide::Allowed;
use super::route::Route;
use super::{Gateway, loops, security_headers, set_cookie, sticky};
use crate::authorize::Auth;
use crate::http::headers::add_vary;
use crate::http::location::{Origin, PublicPaths};
use crate::http::origin;
use crate::http::target::Target;
use crate::identity_headers::forwarded::forwarded_host;
use crate::rate_limit::Quota;

/// What a request says about the rewriting of its answer.
#[derive(Debug)]
pub(super) struct ResponseRewrite<'a> {
    route: &'a Route,
    /// Whether the route's prefix was cut off this request's path.
    is_cut: bool,
    /// Whether the caller is known.
    is_known: bool,
    /// The names that the app was told it is asked by: the Host, and what a trusted proxy in front said.
    hosts: [Option<HeaderValue>; 2],
    /// What is left of the route's `rate_limit`.
    quota: Option<Quota<'a>>,
    /// The origin of the page that asks, on a route with `cors`.
    origin: Option<HeaderValue>,
    /// Whether the browser asks by HTTPS, for a host without a port, on a route with `security_headers`.
    is_https: bool,
}

impl<'a> ResponseRewrite<'a> {
    /// `headers` are those that the app gets. `is_https`: the browser asks by HTTPS, for a host without a port.
    pub(super) fn of(
        allowed: &Allowed<'a>,
        target: &Target,
        host: &HeaderValue,
        headers: &HeaderMap,
        is_https: bool,
    ) -> Self {
        Self {
            route: allowed.route,
            is_cut: allowed.route.cuts(target),
            is_known: allowed.permit.caller().is_some(),
            hosts: [Some(host.clone()), forwarded_host(headers).cloned()],
            quota: allowed.quota,
            origin: allowed
                .route
                .cors
                .as_ref()
                .and_then(|_| origin::only(headers))
                .cloned(),
            is_https,
        }
    }

    /// Turns the head of the app's answer into the gateway's.
    pub(super) fn apply(&self, gateway: &Gateway, headers: &mut HeaderMap) {
        if let Some(sign_in) = &gateway.sign_in {
            let dropped = sign_in.strip_set_cookie(headers);
            self.route.upstream.note_dropped_cookies(dropped, &sign_in.cookie);
        }
        if gateway.has_sticky_cookies {
            let dropped = set_cookie::strip(headers, sticky::is_our_name);
            let upstream = &self.route.upstream;
            upstream.note_dropped_cookies(dropped, upstream.cookie_name());
        }
        loops::unmark(&gateway.loop_mark, headers);
        if self.route.rewrite_responses && headers.keys().any(|name| REWRITTEN.contains(name)) {
            self.rewrite(gateway, headers);
        }
        let rules = &self.route.rules;
        if (self.is_known || rules.read_address()) && !says_something_to_caches(headers) {
            headers.insert(CACHE_CONTROL, PRIVATE.clone());
        }
        if rules.auth() != Auth::None && !rules.needs_caller() {
            add_vary(headers, &gateway.vary);
        }
        if let Some(quota) = &self.quota {
            quota.apply(headers);
        }
        if let Some(cors) = &self.route.cors {
            cors.apply(self.origin.as_ref(), headers);
        }
        if self.route.security_headers {
            security_headers::add(headers, self.is_https);
        }
    }

    fn rewrite(&self, gateway: &Gateway, headers: &mut HeaderMap) {
        let text = |host: &HeaderValue| Origin::public(host.to_str().ok()?);
        let public: Vec<Origin> = self
            .hosts
            .iter()
            .flatten()
            .filter_map(text)
            .chain(gateway.public_origin.clone())
            .collect();
        let paths = PublicPaths {
            prefix: self
                .route
                .strip_prefix
                .as_ref()
                .filter(|_| self.is_cut)
                .map_or("", |prefix| prefix.path.as_str()),
            base: self.route.upstream.base(),
            servers: self.route.upstream.origins(),
            public: &public,
        };
        rewrite(headers, &paths);
    }
}

/// The fields of an answer that name a place of the app.
const REWRITTEN: [HeaderName; 4] = [LOCATION, CONTENT_LOCATION, REFRESH, SET_COOKIE];

static PRIVATE: HeaderValue = HeaderValue::from_static("private");

fn rewrite(headers: &mut HeaderMap, paths: &PublicPaths<'_>) {
    for name in REWRITTEN {
        let http::header::Entry::Occupied(mut field) = headers.entry(&name) else {
            continue;
        };
        for value in field.iter_mut() {
            let Ok(text) = std::str::from_utf8(value.as_bytes()) else {
                continue;
            };
            let public = if name == SET_COOKIE {
                paths.set_cookie(text)
            } else if name == REFRESH {
                paths.refresh(text)
            } else {
                paths.location(text)
            };
            if let Some(public) = public.and_then(|public| HeaderValue::try_from(public).ok()) {
                *value = public;
            }
        }
    }
}

/// Whether the app has said what caches may do (RFC 9111 sections 5.2 to 5.4).
fn says_something_to_caches(headers: &HeaderMap) -> bool {
    [CACHE_CONTROL, EXPIRES, PRAGMA]
        .iter()
        .any(|name| headers.contains_key(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            })
    }

    #[test]
    fn every_line_of_a_field_is_rewritten_and_other_fields_are_not() {
        let mut headers = headers(&[
            ("location", "/x"),
            ("content-location", "/y"),
            ("refresh", "0; url=/z"),
            ("set-cookie", "a=1; Path=/"),
            ("set-cookie", "b=2; Path=/b"),
            ("link", "</style.css>; rel=preload"),
        ]);
        rewrite(
            &mut headers,
            &PublicPaths {
                prefix: "/api",
                base: "",
                servers: &[],
                public: &[],
            },
        );
        let all = |name: &str| {
            headers
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(all("location"), ["/api/x"]);
        assert_eq!(all("content-location"), ["/api/y"]);
        assert_eq!(all("refresh"), ["0; url=/api/z"]);
        assert_eq!(all("set-cookie"), ["a=1; Path=/api", "b=2; Path=/api/b"]);
        assert_eq!(all("link"), ["</style.css>; rel=preload"]);
    }
}
