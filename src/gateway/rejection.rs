//! Why the gateway answers instead of the app, and all that the answer and the log line need of it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response};

use super::route::Route;
use crate::authorize::{RuleName, StepUp};
use crate::identity::Caller;
use crate::rate_limit::Quota;
use crate::refusal::Refusal;

/// What a request was matched with.
#[derive(Clone, Copy, Debug, Default)]
pub enum Matched<'g> {
    /// Nothing.
    #[default]
    Nothing,
    /// An endpoint of the gateway's own, or a path that is kept for one.
    Builtin,
    /// A route; for a method that it has not, one of its path.
    Route(&'g Route),
}

impl<'g> Matched<'g> {
    /// The route.
    #[must_use]
    pub fn route(self) -> Option<&'g Route> {
        match self {
            Self::Route(route) => Some(route),
            Self::Nothing | Self::Builtin => None,
        }
    }
}

/// How a proxy that asked about a request can take a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Whether it understands 401 and 403 alone.
    pub is_strict: bool,
    /// Whether it hands a redirect on to the browser.
    pub redirects: bool,
    /// What the answer is.
    pub form: Form,
}

/// What the answer to a proxy that asked is.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A response of HTTP.
    Http,
    /// A message of gRPC with a response for the client.
    Grpc {
        /// Whether the client wants a page.
        is_browser: bool,
    },
    /// A status of gRPC, because the question cannot be read.
    GrpcFault(GrpcFault),
}

/// Why a question by gRPC cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcFault {
    /// It is too long, not whole, or no `CheckRequest`.
    Invalid,
    /// It is compressed.
    Compressed,
}

impl GrpcFault {
    /// The status: `INVALID_ARGUMENT` or `UNIMPLEMENTED`.
    pub(super) fn status(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Invalid => "3",
            Self::Compressed => "12",
        })
    }
}

/// Why the gateway answers instead of the app.
#[derive(Debug)]
pub struct Rejection<'g> {
    /// The reason, and with it the status.
    pub refusal: Refusal,
    /// What the request was matched with.
    pub matched: Matched<'g>,
    /// The rule that refused it, for the log.
    pub rule: Option<Arc<RuleName>>,
    /// The methods of the path, for 405.
    pub allow: Option<HeaderValue>,
    /// What the route asks of the sign-in, where that was too little.
    pub step_up: Option<&'g StepUp>,
    /// The caller, where one is known.
    pub caller: Option<Arc<Caller>>,
    /// Whether the caller is one by a session cookie, which another sign-in replaces.
    pub by_session: bool,
    /// For the session cookie: a new one, or its deletion.
    pub set_cookie: Option<HeaderValue>,
    /// The answer, where it is a form that is shown again.
    pub page: Option<Response<Bytes>>,
    /// A sentence in the answer instead of the one for the refusal.
    pub detail: Option<String>,
    /// The sign-in page, with its destination, where a sign-in failed.
    pub sign_in: Option<String>,
    /// The form of the answer, where another proxy asked about the request.
    pub asked: Option<Asked>,
    /// For 429 and 503, in seconds.
    pub retry_after: Option<u64>,
    /// What is left of the route's `rate_limit`, where that is reached.
    pub(crate) quota: Option<Quota<'g>>,
}

impl Rejection<'_> {
    /// A refusal without anything else.
    #[must_use]
    pub fn new(refusal: Refusal) -> Self {
        Self {
            refusal,
            matched: Matched::Nothing,
            rule: None,
            allow: None,
            step_up: None,
            caller: None,
            by_session: false,
            set_cookie: None,
            page: None,
            detail: None,
            sign_in: None,
            asked: None,
            retry_after: None,
            quota: None,
        }
    }
}

impl From<Refusal> for Box<Rejection<'_>> {
    fn from(refusal: Refusal) -> Self {
        Self::new(Rejection::new(refusal))
    }
}
