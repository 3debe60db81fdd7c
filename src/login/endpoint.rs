//! Which paths are ours, and what they take.
//!
//! Enters: a method and a target. Leaves: an [`Endpoint`], a refusal, or `None` for everything that belongs to a route.
//! Everything below the prefix is ours, whether or not there is anything: an app must never answer under the address
//! where people type their passwords. So a path below it that is spelled oddly is refused here, whatever the routes accept.

use http::{HeaderValue, Method};

use crate::http::target::{PathLeniency, Target};
use crate::refusal::Refusal;

/// The public keys of our own tokens (RFC 7517 section 5).
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// The longest id of a session that is looked for, in bytes. Ours are UUIDs, of 36.
const MAX_ID: usize = 64;

/// What there is under `own_prefix`, and the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/.well-known/jwks.json`
    Jwks,
    /// `/login`
    Login,
    /// `/register`
    Register,
    /// `/refresh`
    Refresh,
    /// `/logout`
    Logout,
    /// `/me`
    Me,
    /// `/password`
    Password,
    /// `/sessions`
    Sessions,
    /// `/sessions/{id}`, DELETE
    Session(String),
    /// `/sessions/{id}/end`, POST: the same for a form
    EndSession(String),
    /// `/logo`
    Logo,
    /// `/continue`: a one-time code of a sign-in on another host
    Continue,
    /// `/favicon`
    Icon,
    /// The prefix itself, with or without a slash: it leads to the account page.
    Account,
}

impl Endpoint {
    /// Its methods, as `Allow` lists them (RFC 9110 section 10.2.1).
    #[must_use]
    pub const fn allow(&self) -> &'static str {
        match self {
            Self::Jwks | Self::Me | Self::Sessions | Self::Logo | Self::Icon | Self::Account => "GET, HEAD",
            // HEAD would spend the code.
            Self::Continue => "GET",
            Self::Login | Self::Register | Self::Password | Self::Logout => "GET, HEAD, POST",
            Self::Refresh | Self::EndSession(_) => "POST",
            Self::Session(_) => "DELETE",
        }
    }

    /// Whether there is nothing for who has no session.
    #[must_use]
    pub const fn needs_caller(&self) -> bool {
        matches!(
            self,
            Self::Me | Self::Password | Self::Sessions | Self::Session(_) | Self::EndSession(_)
        )
    }

    /// The endpoint whose path, below the prefix, is `rest`.
    fn below(rest: &str) -> Option<Self> {
        Some(match rest {
            "/login" => Self::Login,
            "/register" => Self::Register,
            "/refresh" => Self::Refresh,
            "/logout" => Self::Logout,
            "/me" => Self::Me,
            "/password" => Self::Password,
            "/sessions" => Self::Sessions,
            "/logo" => Self::Logo,
            "/continue" => Self::Continue,
            "/favicon" => Self::Icon,
            "" | "/" => Self::Account,
            _ => {
                let id = rest.strip_prefix("/sessions/")?;
                match id.strip_suffix("/end") {
                    Some(id) => Self::EndSession(session_id(id)?),
                    None => Self::Session(session_id(id)?),
                }
            }
        })
    }
}

fn session_id(text: &str) -> Option<String> {
    let is_one = !text.is_empty()
        && text.len() <= MAX_ID
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_one.then(|| text.to_owned())
}

/// Whether a path of a route, or of a request, is ours.
#[must_use]
pub fn is_own(path: &str, prefix: &str) -> bool {
    path == JWKS_PATH
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Which of our endpoints a request is for: `None` where it belongs to a route. Without `sign_in` there are only the key
/// set and the pictures of the error pages, and the rest of the prefix is kept free for the day when there is.
///
/// # Errors
/// Inside: `RouteMissing`, `MethodRefused` with the methods that the path has, and what is odd about the path.
#[must_use]
pub fn find(
    method: &Method,
    target: &Target,
    prefix: &str,
    sign_in: bool,
) -> Option<Result<Endpoint, (Refusal, Option<HeaderValue>)>> {
    let path = target.matching();
    if !is_own(path, prefix) {
        return None;
    }
    if let Some(refusal) = target.oddities().refusal_unless(PathLeniency::default()) {
        return Some(Err((refusal, None)));
    }
    let endpoint = match path {
        JWKS_PATH => Some(Endpoint::Jwks),
        _ => path
            .strip_prefix(prefix)
            .and_then(Endpoint::below)
            .filter(|endpoint| sign_in || matches!(endpoint, Endpoint::Logo | Endpoint::Icon)),
    };
    Some(match endpoint {
        None => Err((Refusal::RouteMissing, None)),
        Some(endpoint)
            if endpoint
                .allow()
                .split(", ")
                .any(|allowed| allowed == method.as_str()) =>
        {
            Ok(endpoint)
        }
        Some(endpoint) => Err((
            Refusal::MethodRefused,
            Some(HeaderValue::from_static(endpoint.allow())),
        )),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(
        method: &str,
        path: &str,
        sign_in: bool,
    ) -> Option<Result<Endpoint, (Refusal, Option<HeaderValue>)>> {
        let target = Target::parse(&path.parse().unwrap()).unwrap();
        find(
            &Method::from_bytes(method.as_bytes()).unwrap(),
            &target,
            "/auth",
            sign_in,
        )
    }

    #[test]
    fn every_endpoint_has_its_methods_and_names_them_to_the_others() {
        let id = || "0197-ab".to_owned();
        for (path, endpoint, methods) in [
            ("/.well-known/jwks.json", Endpoint::Jwks, &["GET", "HEAD"][..]),
            ("/auth/login", Endpoint::Login, &["GET", "HEAD", "POST"]),
            ("/auth/register", Endpoint::Register, &["GET", "HEAD", "POST"]),
            ("/auth/refresh", Endpoint::Refresh, &["POST"]),
            ("/auth/logout", Endpoint::Logout, &["GET", "HEAD", "POST"]),
            ("/auth", Endpoint::Account, &["GET", "HEAD"]),
            ("/auth/", Endpoint::Account, &["GET", "HEAD"]),
            ("/auth/favicon", Endpoint::Icon, &["GET", "HEAD"]),
            ("/auth/me", Endpoint::Me, &["GET", "HEAD"]),
            ("/auth/password", Endpoint::Password, &["GET", "HEAD", "POST"]),
            ("/auth/sessions", Endpoint::Sessions, &["GET", "HEAD"]),
            ("/auth/sessions/0197-ab", Endpoint::Session(id()), &["DELETE"]),
            (
                "/auth/sessions/0197-ab/end",
                Endpoint::EndSession(id()),
                &["POST"],
            ),
            ("/auth/logo", Endpoint::Logo, &["GET", "HEAD"]),
            ("/auth/continue", Endpoint::Continue, &["GET"]),
        ] {
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get"] {
                let expected = if methods.contains(&method) {
                    Ok(endpoint.clone())
                } else {
                    Err((
                        Refusal::MethodRefused,
                        Some(HeaderValue::try_from(methods.join(", ")).unwrap()),
                    ))
                };
                assert_eq!(found(method, path, true), Some(expected), "{method} {path}");
            }
        }
        assert_eq!(
            found("GET", "/auth/login?return_to=/x", true),
            Some(Ok(Endpoint::Login))
        );
        assert_eq!(
            found("POST", "/auth/%6cogin", true),
            Some(Ok(Endpoint::Login)),
            "the canonical spelling counts"
        );
    }

    #[test]
    fn what_is_not_there_below_the_prefix_is_missing_and_never_an_apps() {
        let missing = Some(Err((Refusal::RouteMissing, None)));
        for path in [
            "/auth/login/",
            "/auth/login/x",
            "/auth/LOGIN",
            "/auth/sessions/",
            "/auth/sessions/a.b",
            "/auth/sessions/a/b",
            "/auth/sessions/a/end/",
            "/auth/sessions/%20",
        ] {
            assert_eq!(found("GET", path, true), missing, "{path}");
        }
        let long = format!("/auth/sessions/{}", "a".repeat(MAX_ID + 1));
        assert_eq!(found("DELETE", &long, true), missing);
        assert_eq!(
            found("POST", "/auth/login", false),
            missing,
            "without sign-in there is none"
        );
        assert_eq!(found("GET", "/auth/", false), missing);
        assert_eq!(
            found("GET", "/.well-known/jwks.json", false),
            Some(Ok(Endpoint::Jwks))
        );
        assert_eq!(
            found("GET", "/auth/favicon", false),
            Some(Ok(Endpoint::Icon)),
            "error pages show it"
        );
        assert_eq!(found("GET", "/auth/logo", false), Some(Ok(Endpoint::Logo)));
    }

    #[test]
    fn other_paths_belong_to_the_routes() {
        for path in [
            "/",
            "/authors",
            "/authlogin",
            "/x/auth/login",
            "/auth%2Flogin",
            "/x;y/authors",
            "/.well-known",
        ] {
            assert_eq!(found("GET", path, true), None, "{path}");
        }
    }

    #[test]
    fn an_odd_spelling_of_ours_is_refused_and_never_an_apps() {
        for (path, refusal) in [
            ("/auth/login;x", Refusal::PathParameter),
            ("/auth;x/login", Refusal::PathParameter),
            ("/auth;x", Refusal::PathParameter),
            ("/auth//login", Refusal::PathEmptySegment),
            ("/auth/login%2F", Refusal::PathEncodedSlash),
            ("/auth/sessions/a%2Fb", Refusal::PathEncodedSlash),
            ("/.well-known/jwks.json;x", Refusal::PathParameter),
        ] {
            assert_eq!(found("GET", path, true), Some(Err((refusal, None))), "{path}");
            assert_eq!(found("GET", path, false), Some(Err((refusal, None))), "{path}");
        }
    }
}
