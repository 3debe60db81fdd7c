//! The gateway's own answers: a refusal as a problem document (RFC 9457) or, for a browser, as a page.
//!
//! Input: a [`Refusal`] and what the client may know. Output: a response whose text says no more than its status means.
//! Invariant: the reason is never in the response; it is in the log under the same request id.

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, REFERRER_POLICY, RETRY_AFTER, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::refusal::Refusal;

/// What the answer depends on besides the refusal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorContext<'a> {
    /// The id that the log line has.
    pub request_id: &'a str,
    /// Whether the client wants a page.
    pub browser: bool,
    /// What pages look like; without them a browser gets a problem document too.
    pub pages: Option<&'a dyn ErrorPages>,
    /// The visitor, where the page depends on it.
    pub visitor: Option<Visitor<'a>>,
    /// Said instead of the words for the refusal: words of ours, or of the operator.
    pub detail: Option<&'a str>,
    /// The methods of the path, for 405 (RFC 9110 section 15.5.6).
    pub allow: Option<&'a HeaderValue>,
    /// Whether the connection ends with this answer (HTTP/1 only).
    pub close: bool,
    /// The `realm` of the challenge: visible ASCII without `"` and `\`.
    pub realm: &'a str,
    /// The parameters of the challenge for a sign-in that is not enough, each after a comma (RFC 9470 section 3).
    pub step_up: Option<&'a str>,
    /// After how many seconds it makes sense to ask again, for 429 and 503.
    pub retry_after: Option<u64>,
}

/// The visitor of the page of a refusal.
#[derive(Clone, Copy, Debug)]
pub enum Visitor<'a> {
    /// Authenticated, and not allowed.
    NoAccess {
        /// What the account is called.
        account: &'a str,
        /// The path of the sign-in page that leads back here, where people can sign in.
        sign_in: Option<&'a str>,
    },
    /// A visitor whose session ended before a form was sent.
    SessionEnded {
        /// The path of the sign-in page that leads back to the form.
        sign_in: &'a str,
    },
    /// A visitor whose sign-in failed.
    NotSignedIn {
        /// The path of the sign-in page that leads to the same destination.
        sign_in: &'a str,
    },
}

/// What the page of a refusal says.
#[derive(Clone, Copy, Debug)]
pub struct ErrorPage<'a> {
    /// Of the answer.
    pub status: StatusCode,
    /// What it is called.
    pub title: &'a str,
    /// What it means.
    pub detail: &'a str,
    /// The id that the log line has; empty: none.
    pub request_id: &'a str,
    /// The visitor, where the page depends on it.
    pub visitor: Option<Visitor<'a>>,
}

/// Pages of the operator's design.
pub(crate) trait ErrorPages {
    /// The whole of the page.
    fn page(&self, page: &ErrorPage<'_>) -> Bytes;

    /// Its Content-Security-Policy.
    fn policy(&self) -> &HeaderValue;
}

impl std::fmt::Debug for dyn ErrorPages + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ErrorPages")
    }
}

/// The answer for `refusal`.
#[must_use]
pub(crate) fn refuse(refusal: Refusal, about: ErrorContext<'_>) -> Response<Bytes> {
    let status = refusal.status();
    let detail = about.detail.unwrap_or_else(|| detail(refusal));
    let pages = about.pages.filter(|_| about.browser);
    let body = match pages {
        Some(pages) => {
            let (title, request_id, visitor) = (title(status), about.request_id, about.visitor);
            pages.page(&ErrorPage {
                status,
                title,
                detail,
                request_id,
                visitor,
            })
        }
        None => problem(refusal, detail, about.request_id).into(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(pages) = pages {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, pages.policy().clone());
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    }
    headers.insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    set_error_headers(headers, refusal, about.request_id, about.realm, about.step_up);
    match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(
                ALLOW,
                about.allow.cloned().unwrap_or(HeaderValue::from_static("")),
            );
        }
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            headers.insert(RETRY_AFTER, HeaderValue::from(about.retry_after.unwrap_or(5)));
        }
        _ => {}
    }
    if about.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The last step of every answer of the gateway's own, in both versions of HTTP: the body that goes out with `head` in
/// answer to `method`. `Content-Length` is that of the answer to a GET. HEAD, and a status that has no content, get no
/// body (RFC 9110 sections 6.4.1 and 8.6): the HTTP library would send one over HTTP/2.
#[must_use]
pub(crate) fn finish(method: &Method, head: &mut http::response::Parts, body: Bytes) -> Bytes {
    let status = head.status;
    if status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return Bytes::new();
    }
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    if *method == Method::HEAD {
        Bytes::new()
    } else {
        body
    }
}

/// What every refusal has in its head, whatever its body is: the id of the request, and the challenge.
pub(crate) fn set_error_headers(
    headers: &mut HeaderMap,
    refusal: Refusal,
    request_id: &str,
    realm: &str,
    step_up: Option<&str>,
) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    if let Some(challenge) = challenge(refusal, realm, step_up) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
}

/// `WWW-Authenticate` (RFC 6750 section 3): for 401, and for a 403 that more roles or scopes would have avoided.
fn challenge(refusal: Refusal, realm: &str, step_up: Option<&str>) -> Option<HeaderValue> {
    if refusal == Refusal::AuthenticationInsufficient {
        let parameters = step_up.unwrap_or_default();
        let text = format!(
            r#"Bearer realm="{realm}", error="insufficient_user_authentication", error_description="A more recent or a stronger sign-in is required"{parameters}"#
        );
        return HeaderValue::try_from(text).ok();
    }
    let error = match refusal.status() {
        StatusCode::UNAUTHORIZED if refusal.is_invalid_token() => r#", error="invalid_token""#,
        StatusCode::UNAUTHORIZED => "",
        // No token changes these.
        StatusCode::FORBIDDEN
            if matches!(
                refusal,
                Refusal::CrossSite
                    | Refusal::SignInElsewhere
                    | Refusal::NetworkRefused
                    | Refusal::PeerUntrusted
                    | Refusal::ConditionUnknown
            ) =>
        {
            return None;
        }
        StatusCode::FORBIDDEN => r#", error="insufficient_scope""#,
        _ => return None,
    };
    HeaderValue::try_from(format!(r#"Bearer realm="{realm}"{error}"#)).ok()
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

fn detail(refusal: Refusal) -> &'static str {
    // Errors in a form may be told to the client that filled it in.
    match refusal {
        Refusal::FormMalformed => {
            return "A field is missing, or the body is not the expected JSON or form.";
        }
        Refusal::CleartextOnTls => return "This port speaks HTTPS: use an address that begins with https://",
        Refusal::EmailInvalid => return "This is not an email address.",
        Refusal::NameInvalid => return "A name has at most 128 characters, all of them visible.",
        Refusal::PasswordTooShort => return "The password has too few characters.",
        Refusal::PasswordTooLong => return "The password is longer than 4096 bytes.",
        Refusal::PasswordCommon => return "This password is too common.",
        Refusal::LoginRefused => return "There is no such account, or the password is wrong.",
        Refusal::EmailTaken => return "There is an account with this email address already.",
        Refusal::CodeRefused => {
            return "This sign-in cannot be completed: it took too long, was completed before, or began in another browser. \
                    Open the page that you wanted to see again.";
        }
        Refusal::AttemptRefused => {
            return "This sign-in cannot be completed: it took too long, was completed before, or began in another browser. \
                    Please sign in again.";
        }
        Refusal::SignInLoop => {
            return "The browser was signed in several times in a row, and none of the sessions counted.";
        }
        Refusal::ClientRequestInvalid => {
            return "What the app asked for is not valid: a parameter is missing, wrong or there twice, or its redirect URI is not \
                    listed here.";
        }
        Refusal::ProviderAnswerInvalid => {
            return "The answer of the sign-in provider cannot be used. Please sign in again.";
        }
        Refusal::SignInDenied => return "The sign-in was cancelled at the provider. Please sign in again.",
        Refusal::SignInNotAllowed => return "This account is not allowed to sign in here.",
        Refusal::SignInTooOld => return "You signed in too long ago for this. Please sign in again.",
        Refusal::AccountDisabled => return "This account is disabled.",
        Refusal::ProviderRefused | Refusal::IdTokenRefused => {
            return "The sign-in provider did not complete the sign-in. Please sign in again.";
        }
        Refusal::ProviderUnavailable => {
            return "The sign-in provider does not answer at the moment. Please try again shortly.";
        }
        Refusal::AuthenticationInsufficient => {
            return "This address requires a more recent or a stronger sign-in.";
        }
        Refusal::SignInInsufficient => {
            return "This sign-in is not enough for the page: it was too long ago, not strong enough, or with another \
                    provider.";
        }
        Refusal::IdentityTaken => {
            return "This account of the provider is linked to another account here. Nothing was changed.";
        }
        Refusal::IdentitiesTooMany => {
            return "This account has as many linked providers as it may have. Remove one first.";
        }
        Refusal::LastSignIn => {
            return "This is the last way to sign in to this account, so it stays. Link another provider first.";
        }
        Refusal::NetworkRefused => return "You are not allowed to do this.",
        Refusal::SignInElsewhere => return "There is no sign-in at this address.",
        Refusal::Maintenance => return "This page is not available at the moment; try again later.",
        Refusal::RateLimited => return "There were too many requests; try again later.",
        Refusal::CrossSite => return "The request came from another site, so it was not done.",
        _ => {}
    }
    match refusal.status().as_u16() {
        400 => "The request is malformed or ambiguous, so it was not forwarded.",
        401 => "This address requires a valid credential.",
        403 => "You are authenticated, but not allowed to do this.",
        404 => "There is nothing at this address.",
        405 => "This address does not support this method.",
        408 => "The request did not arrive in time.",
        413 => "The request body is too large.",
        414 => "The address is too long.",
        415 => "This content type is not supported: send JSON or a form.",
        429 => "There were too many attempts; try again later.",
        421 => "The connection was made for another host; connect again for this one.",
        431 => "The header fields are too large.",
        502 => "The application behind this address could not be reached or did not answer properly.",
        503 => "The service cannot answer at the moment; try again shortly.",
        504 => "The application behind this address did not answer in time.",
        _ => "Something went wrong here.",
    }
}

fn problem(refusal: Refusal, detail: &str, request_id: &str) -> String {
    let status = refusal.status();
    // The other texts are ours and hold nothing that JSON escapes; a request id is visible ASCII without quotes.
    let detail = serde_json::Value::from(detail);
    format!(
        r#"{{"status":{},"title":"{}","detail":{},"message":"{}","request_id":"{}"}}"#,
        status.as_u16(),
        title(status),
        detail,
        refusal.message(),
        request_id
    )
}

/// Whether the client is a browser that navigates, and so wants a page: it says so by `Sec-Fetch-Mode` and
/// `Sec-Fetch-Dest` or, without these, prefers HTML in `Accept`. A client that sends a credential in a header or
/// `X-Requested-With`, or asks for a WebSocket, is a program.
#[must_use]
pub(crate) fn wants_page(headers: &HeaderMap) -> bool {
    if is_said_to_be_program(headers) {
        return false;
    }
    if headers
        .get(UPGRADE)
        .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
    {
        return false;
    }
    if headers
        .get("sec-fetch-mode")
        .is_some_and(|mode| mode != "navigate")
    {
        return false;
    }
    if let Some(destination) = headers.get("sec-fetch-dest") {
        return matches!(destination.as_bytes(), b"document" | b"iframe" | b"frame");
    }
    prefers(headers, "text/html", "application/json")
}

/// Whether the client says itself that it is a program, which a form cannot: by a credential in a header, by
/// `X-Requested-With`, or by preferring JSON.
#[must_use]
pub(crate) fn is_program(headers: &HeaderMap) -> bool {
    is_said_to_be_program(headers) || prefers(headers, "application/json", "text/html")
}

fn is_said_to_be_program(headers: &HeaderMap) -> bool {
    headers.contains_key("x-requested-with") || headers.contains_key(AUTHORIZATION)
}

/// Whether `Accept` names `kind`, and `other` not before it.
fn prefers(headers: &HeaderMap, kind: &str, other: &str) -> bool {
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let mut kinds = accept.split(',').map(str::trim_start);
    kinds
        .find(|named| named.starts_with(kind) || named.starts_with(other))
        .is_some_and(|named| named.starts_with(kind))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn about(request_id: &str) -> ErrorContext<'_> {
        ErrorContext {
            request_id,
            browser: false,
            pages: None,
            visitor: None,
            detail: None,
            allow: None,
            close: false,
            realm: "app.example.com",
            step_up: None,
            retry_after: None,
        }
    }

    #[test]
    fn every_refusal_is_a_problem_document_that_says_no_more_than_its_status() {
        for refusal in Refusal::ALL {
            let response = refuse(*refusal, about("0197-id"));
            let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(response.status(), refusal.status());
            assert_eq!(body["status"], refusal.status().as_u16());
            assert_eq!(body["request_id"], "0197-id");
            assert_eq!(body["message"], refusal.message());
            assert!(
                !body.to_string().contains(refusal.reason()) || refusal.reason().len() < 9,
                "{refusal:?}"
            );
            assert_eq!(response.headers()["cache-control"], "no-store");
        }
    }

    #[test]
    fn the_challenge_tells_a_missing_token_from_a_bad_one_and_from_too_few_rights() {
        let challenge = |refusal| {
            refuse(refusal, about("x"))
                .headers()
                .get(WWW_AUTHENTICATE)
                .cloned()
        };
        assert_eq!(
            challenge(Refusal::CredentialMissing).unwrap(),
            r#"Bearer realm="app.example.com""#
        );
        assert_eq!(
            challenge(Refusal::Expired).unwrap(),
            r#"Bearer realm="app.example.com", error="invalid_token""#
        );
        let forbidden = r#"Bearer realm="app.example.com", error="insufficient_scope""#;
        assert_eq!(challenge(Refusal::RoleRefused).unwrap(), forbidden);
        assert_eq!(challenge(Refusal::CrossSite), None);
        assert_eq!(challenge(Refusal::RouteMissing), None);
    }

    struct Plain(HeaderValue);

    impl ErrorPages for Plain {
        fn page(&self, page: &ErrorPage<'_>) -> Bytes {
            format!(
                "{} {} {} {} {:?}",
                page.status, page.title, page.detail, page.request_id, page.visitor
            )
            .into()
        }

        fn policy(&self) -> &HeaderValue {
            &self.0
        }
    }

    #[test]
    fn an_answer_to_head_is_that_to_get_without_its_body() {
        for (method, status, length, body) in [
            (Method::GET, 200, Some("4"), "text"),
            (Method::HEAD, 200, Some("4"), ""),
            (Method::HEAD, 404, Some("4"), ""),
            (Method::POST, 403, Some("4"), "text"),
            (Method::GET, 204, None, ""),
            (Method::GET, 304, None, ""),
            (Method::HEAD, 304, None, ""),
        ] {
            let (mut head, ()) = Response::builder().status(status).body(()).unwrap().into_parts();
            assert_eq!(
                finish(&method, &mut head, Bytes::from_static(b"text")),
                body,
                "{method} {status}"
            );
            let sent = head
                .headers
                .get(CONTENT_LENGTH)
                .map(|length| length.to_str().unwrap());
            assert_eq!(sent, length, "{method} {status}");
        }
    }

    #[test]
    fn a_browser_gets_the_page_and_a_program_the_problem_document() {
        let pages = Plain(HeaderValue::from_static("default-src 'none'"));
        let visitor = Some(Visitor::NoAccess {
            account: "ann",
            sign_in: None,
        });
        let about = ErrorContext {
            pages: Some(&pages),
            visitor,
            ..about("abc")
        };
        let response = refuse(
            Refusal::RoleRefused,
            ErrorContext {
                browser: true,
                ..about
            },
        );
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], "default-src 'none'");
        let body = std::str::from_utf8(response.body()).unwrap();
        assert!(
            body.starts_with("403 Forbidden Forbidden") && body.contains("abc") && body.contains("ann"),
            "{body}"
        );
        let response = refuse(Refusal::RoleRefused, about);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert!(!std::str::from_utf8(response.body()).unwrap().contains("ann"));
    }

    #[test]
    fn the_fields_that_are_missing_are_named_in_place_of_the_general_words() {
        let detail = Some("The field `email` is missing.");
        let response = refuse(
            Refusal::FormMalformed,
            ErrorContext {
                detail,
                ..about("abc")
            },
        );
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            (body["detail"].as_str(), body["status"].as_u64()),
            (detail, Some(400))
        );
    }

    #[test]
    fn programs_do_not_get_pages() {
        let wants = |pairs: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(
                    HeaderName::try_from(*name).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            wants_page(&headers)
        };
        assert!(wants(&[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")]));
        assert!(wants(&[("accept", "*/*"), ("sec-fetch-dest", "document")]));
        assert!(!wants(&[("accept", "text/html"), ("sec-fetch-dest", "empty")]));
        assert!(!wants(&[
            ("accept", "text/html"),
            ("x-requested-with", "XMLHttpRequest")
        ]));
        assert!(!wants(&[("accept", "text/html"), ("authorization", "Bearer x")]));
        assert!(!wants(&[("accept", "text/html"), ("sec-fetch-mode", "cors")]));
        assert!(!wants(&[
            ("accept", "text/html"),
            ("sec-fetch-dest", "document"),
            ("sec-fetch-mode", "websocket")
        ]));
        assert!(!wants(&[("accept", "text/html"), ("upgrade", "websocket")]));
        assert!(!wants(&[("accept", "application/json, text/html;q=0.5")]));
        assert!(wants(&[
            ("accept", "text/html, application/json;q=0.5"),
            ("sec-fetch-mode", "navigate")
        ]));
        assert!(!wants(&[("accept", "*/*")]));
        assert!(!wants(&[]));
    }
}
