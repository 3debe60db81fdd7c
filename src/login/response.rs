//! The response of an endpoint, or its error.
//!
//! Output: responses that no cache keeps (`no-store`), that browsers take for what they are (`nosniff`), and that send no
//! other site the address of a page. Invariants: no response repeats text that a client sent.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::header::{HeaderName, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use crate::account::{AccountError, HasherError};
use crate::identity::Caller;
use crate::refusal::Refusal;

/// An answer of ours.
#[derive(Debug)]
pub struct EndpointResponse {
    /// The whole of it.
    pub response: Response<Bytes>,
    /// Who has just signed in, for the log line.
    pub caller: Option<Arc<Caller>>,
}

impl EndpointResponse {
    pub(super) fn json(status: StatusCode, value: &Value) -> Self {
        let mut response = Response::new(Bytes::from(value.to_string()));
        *response.status_mut() = status;
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response.into()
    }

    pub(super) fn empty() -> Self {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.into()
    }

    /// 303: the browser gets `location` instead of sending the form again (RFC 9110 section 15.4.4).
    pub(super) fn see_other(location: HeaderValue) -> Self {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(LOCATION, location);
        response.into()
    }

    /// 302: to another site (RFC 9110 section 15.4.3).
    pub(super) fn found(location: HeaderValue) -> Self {
        let mut answered = Self::see_other(location);
        *answered.response.status_mut() = StatusCode::FOUND;
        answered
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().append(name, value);
        self
    }

    pub(super) fn with_cookie(self, set_cookie: HeaderValue) -> Self {
        self.with(SET_COOKIE, set_cookie)
    }

    pub(super) fn by_caller(mut self, caller: Caller) -> Self {
        self.caller = Some(Arc::new(caller));
        self
    }
}

impl From<Response<Bytes>> for EndpointResponse {
    fn from(response: Response<Bytes>) -> Self {
        Self {
            response,
            caller: None,
        }
    }
}

/// Why there is none.
#[derive(Debug)]
pub struct EndpointError {
    /// The reason, for log and metrics; the answer too where there is no `page`.
    pub refusal: Refusal,
    /// The answer, where it is a form that is shown again. Its status is the refusal's.
    pub page: Option<Response<Bytes>>,
    /// For 429 and 503, in seconds.
    pub retry_after: Option<u64>,
    /// What is said in the answer instead of the words for the refusal, in words of ours alone.
    pub detail: Option<String>,
    /// The field that is wrong, where it is one.
    pub field: Option<&'static str>,
    /// `Set-Cookie` of the answer.
    pub set_cookie: Option<HeaderValue>,
    /// Where the page of a sign-in that failed leads: the sign-in page, with the same destination.
    pub sign_in: Option<String>,
}

/// When to come again after 503, in seconds.
const WHEN_BUSY: u64 = 5;
/// When a minute that was full of new sessions is over for certain, in seconds.
const NEXT_MINUTE: u64 = 60;

impl From<Refusal> for Box<EndpointError> {
    fn from(refusal: Refusal) -> Self {
        let retry_after = match refusal {
            Refusal::SessionsThrottled => Some(NEXT_MINUTE),
            _ if refusal.status() == StatusCode::SERVICE_UNAVAILABLE => Some(WHEN_BUSY),
            _ => None,
        };
        Self::new(EndpointError {
            refusal,
            page: None,
            retry_after,
            detail: None,
            field: None,
            set_cookie: None,
            sign_in: None,
        })
    }
}

impl From<AccountError> for Box<EndpointError> {
    fn from(error: AccountError) -> Self {
        Refusal::from(error).into()
    }
}

impl From<HasherError> for Box<EndpointError> {
    fn from(error: HasherError) -> Self {
        Refusal::from(error).into()
    }
}

impl EndpointError {
    pub(super) fn throttled(seconds: u64) -> Box<Self> {
        let refusal = Refusal::Throttled;
        Box::new(Self {
            refusal,
            page: None,
            retry_after: Some(seconds),
            detail: None,
            field: None,
            set_cookie: None,
            sign_in: None,
        })
    }

    /// The same failure where it is this field that is wrong.
    pub(super) fn of_field(mut self: Box<Self>, field: Option<&'static str>) -> Box<Self> {
        self.field = field;
        self
    }

    /// What the form says when it is shown again; `None` where another attempt would not help.
    pub(super) fn words(&self, min_length: usize) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self.refusal {
            Refusal::FormMalformed => "A required field is missing. Please fill in the form and try again.",
            Refusal::EmailInvalid => "This is not a valid email address.",
            Refusal::NameInvalid => "The name is too long or contains control characters.",
            Refusal::PasswordTooShort => {
                return Some(
                    format!("The password is too short. It needs at least {min_length} characters.").into(),
                );
            }
            Refusal::PasswordTooLong => "The password is too long.",
            Refusal::PasswordCommon => "This password is too common. Please choose another one.",
            Refusal::LoginRefused => "The email address or the password is wrong.",
            Refusal::EmailTaken => "An account with this email address already exists.",
            Refusal::Throttled => {
                let seconds = self.retry_after.unwrap_or(1);
                let unit = if seconds == 1 { "second" } else { "seconds" };
                return Some(
                    format!("Too many attempts. Please wait {seconds} {unit} and try again.").into(),
                );
            }
            Refusal::SessionsThrottled => {
                "Too many sign-ins to this account. Please wait a minute and try again."
            }
            Refusal::Overloaded | Refusal::StateUnavailable => {
                "The service is temporarily unavailable. Please try again shortly."
            }
            _ => return None,
        }))
    }
}

/// The field of a form that a refusal is about.
pub(super) fn field_of(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::EmailInvalid | Refusal::EmailTaken => Some("email"),
        Refusal::NameInvalid => Some("name"),
        Refusal::PasswordTooShort
        | Refusal::PasswordTooLong
        | Refusal::PasswordCommon
        | Refusal::LoginRefused => Some("password"),
        _ => None,
    }
}

/// Sets the headers of every response that is not public. Headers of a page stay, but for one: under
/// `no-referrer` a browser sends our forms with `Origin: null` (Fetch standard, "append a request `Origin` header"), and
/// one that sends no `Sec-Fetch-Site` either could then not be told from another site's page. `strict-origin` says no
/// more than which site it was: no path, no query, no one-time token.
pub(super) fn seal(response: &mut Response<Bytes>) {
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    headers
        .entry(X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    headers
        .entry(REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("strict-origin"));
}
