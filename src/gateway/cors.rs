//! CORS of a route (Fetch standard, "CORS protocol"): whose pages may read its answers.
//!
//! Input: `cors` of a route; the `Origin` of a request. Output: the answer to a preflight, and the fields of every other
//! answer of the route, the gateway's own refusals included. Invariants: an origin that is not listed gets no field; no
//! field of the app about this stays; caches keep answers for different origins apart.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::raw::{RawCors, RawCorsOrigin};
use crate::config::schema::or_default;
use crate::http::headers::add_vary;
use crate::http::origin::ListedOrigins;

/// The fields of the protocol in an answer.
const FIELDS: [HeaderName; 7] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    HeaderName::from_static("access-control-allow-private-network"),
];
/// The methods that a page may use on a route for all methods.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
const ANY: HeaderValue = HeaderValue::from_static("*");

/// `cors` of a route.
#[derive(Debug)]
pub(crate) struct Cors {
    /// `None`: all of them.
    origins: Option<ListedOrigins>,
    credentials: bool,
    methods: HeaderValue,
    /// The fields that a page may send; `None`: those that it asks for.
    headers: Option<HeaderValue>,
    expose: HeaderValue,
    max_age: HeaderValue,
}

impl Cors {
    /// `methods` are those of the route.
    pub(crate) fn compile(raw: &RawCors, methods: Option<&str>) -> Option<Self> {
        let urls = raw.origins.iter().filter_map(|origin| match &origin.value {
            RawCorsOrigin::Any => None,
            RawCorsOrigin::Listed(url) => Some(url),
        });
        let is_any = raw
            .origins
            .iter()
            .any(|origin| origin.value == RawCorsOrigin::Any);
        let list = |names: Vec<String>| HeaderValue::try_from(names.join(", ")).ok();
        let methods = match (&raw.methods, methods) {
            (Some(named), _) => list(named.iter().map(|method| method.to_string()).collect())?,
            (None, Some(of_route)) => HeaderValue::try_from(of_route).ok()?,
            (None, None) => METHODS,
        };
        let headers = raw
            .headers
            .iter()
            .map(|name| name.to_string())
            .collect::<Vec<_>>();
        let expose: Vec<String> = or_default(None, "routes.cors", "expose");
        let expose = match &raw.expose {
            Some(named) => named.iter().map(|name| name.to_string()).collect(),
            None => expose,
        };
        let max_age: std::time::Duration = or_default(raw.max_age.as_ref(), "routes.cors", "max_age");
        Some(Self {
            origins: (!is_any).then(|| ListedOrigins::new(urls)),
            credentials: or_default(raw.credentials.as_ref(), "routes.cors", "credentials"),
            methods,
            headers: if headers.is_empty() {
                None
            } else {
                Some(list(headers)?)
            },
            expose: list(expose)?,
            max_age: HeaderValue::from(max_age.as_secs()),
        })
    }

    /// The origins whose pages may use the cookies of the browser.
    pub(crate) fn with_credentials(&self) -> Option<&ListedOrigins> {
        self.origins.as_ref().filter(|_| self.credentials)
    }

    /// The origin that is told to the page of `origin`; `None` where it may read nothing.
    pub(crate) fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            None => origin.map(|_| ANY),
            Some(listed) => origin.filter(|origin| listed.contains(origin)).cloned(),
        }
    }

    /// Whether the page may use the cookies of the browser.
    pub(crate) fn has_credentials(&self) -> bool {
        self.credentials
    }

    /// Adds what an answer says to the page of `origin`, in place of what the app says.
    pub(crate) fn apply(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        for name in &FIELDS {
            headers.remove(name);
        }
        self.vary(headers);
        if let Some(origin) = self.allowed(origin) {
            allow(headers, origin, self.credentials);
            if !self.expose.is_empty() {
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
            }
        }
    }

    /// The fields of the answer to the preflight `request` of the page of `origin`.
    pub(crate) fn preflight(&self, origin: Option<&HeaderValue>, request: &HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        self.vary(&mut headers);
        let Some(origin) = self.allowed(origin) else {
            return headers;
        };
        allow(&mut headers, origin, self.credentials);
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
        if let Some(names) = self.headers.as_ref().or(asked) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        if self.headers.is_none() {
            add_vary(&mut headers, &HeaderValue::from(ACCESS_CONTROL_REQUEST_HEADERS));
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        headers
    }

    fn vary(&self, headers: &mut HeaderMap) {
        if self.origins.is_some() {
            add_vary(headers, &HeaderValue::from(ORIGIN));
        }
    }
}

/// The method that a preflight asks about (Fetch standard, "CORS-preflight request").
pub(crate) fn preflight_method(method: &Method, headers: &HeaderMap) -> Option<Method> {
    let asked = (method == Method::OPTIONS).then(|| headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD));
    let asked = asked.flatten().filter(|_| headers.contains_key(ORIGIN))?;
    Method::from_bytes(asked.as_bytes()).ok()
}

/// Lets the page of `origin` read the answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue, credentials: bool) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    if credentials {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}
