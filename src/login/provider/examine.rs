//! Tries a provider once, without a user: what it publishes, its keys, its clock, and whether it takes the redirect URI.
//!
//! Input: a [`ProviderPlan`]. Output: [`Examined`]. Invariants: the client secret is not sent, no redirect is followed, and
//! what the provider does not show is not claimed.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};

use super::config::{Protocol, ProviderPlan};
use super::metadata::{MAX_BODY_BYTES, Metadata, shown};
use super::token_endpoint::encode;
use crate::http::url::Url;
use crate::login::form::parameters;
use crate::net::client::ClientError;
use crate::net::server_clock::seconds_ahead;
use crate::verify::{KeySet, Origin};

/// The S256 code challenge of a verifier that is not used (RFC 7636 appendix B).
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
/// What a provider answers where the request is fine and no user is signed in (OpenID Connect Core 1.0 section 3.1.2.6).
const NO_USER: [&str; 4] = [
    "login_required",
    "interaction_required",
    "consent_required",
    "account_selection_required",
];

/// What was found.
#[derive(Debug)]
pub(crate) struct Examined {
    /// The address of its discovery document; OAuth2 has none.
    pub(crate) document: Option<String>,
    /// Why the document cannot be used.
    pub(crate) metadata: Result<(), String>,
    /// How many keys it has, or why they cannot be used; `None`: not asked for.
    pub(crate) keys: Option<Result<usize, String>>,
    /// Seconds that its clock is ahead of this one, where it says the time.
    pub(crate) ahead: Option<i64>,
    /// `None`: not asked for.
    pub(crate) redirect: Option<RedirectUri>,
}

/// What a provider makes of the redirect URI.
#[derive(Debug)]
pub(crate) enum RedirectUri {
    /// It sent the browser there.
    Registered,
    /// It sent the browser there, with this error.
    Error(String),
    /// It answered with this status.
    Refused(StatusCode),
    /// It did not answer.
    NoAnswer(String),
    /// Its answer tells nothing.
    Unknown,
}

impl ProviderPlan {
    /// The name of its table.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Asks the provider.
    pub(crate) async fn examine(&self, redirect_uri: &str) -> Examined {
        let open_id = match &self.protocol {
            Protocol::OpenId(open_id) => open_id,
            Protocol::OAuth2(oauth2) => {
                return Examined {
                    document: None,
                    metadata: Ok(()),
                    keys: None,
                    ahead: None,
                    redirect: Some(self.try_redirect_uri(&oauth2.authorize, redirect_uri).await),
                };
            }
        };
        let document = self.get(&open_id.discovery, "application/json").await;
        let mut examined = Examined {
            document: Some(open_id.discovery.to_string()),
            metadata: Ok(()),
            keys: None,
            ahead: document.as_ref().ok().and_then(seconds_ahead),
            redirect: None,
        };
        let metadata = document
            .map_err(|error| error.to_string())
            .and_then(|answer| body(&open_id.discovery, answer))
            .and_then(|body| Metadata::parse(&body, open_id));
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(fault) => {
                examined.metadata = Err(fault);
                return examined;
            }
        };
        let (keys, redirect) = tokio::join!(
            self.try_keys(&metadata),
            self.try_redirect_uri(&metadata.authorization, redirect_uri)
        );
        examined.keys = keys;
        examined.redirect = Some(redirect);
        examined
    }

    async fn try_keys(&self, metadata: &Metadata) -> Option<Result<usize, String>> {
        let keys = self.client.get(metadata.keys.as_ref()?, MAX_BODY_BYTES).await;
        let keys = keys.map_err(|error| error.to_string());
        let set = keys.and_then(|text| KeySet::from_jwks(&text, Origin::Fetched));
        Some(set.map(|(set, _)| set.len()))
    }

    async fn get(&self, url: &Url, accept: &'static str) -> Result<Response<Bytes>, ClientError> {
        let mut request = Request::new(Bytes::new());
        let accept = HeaderValue::from_static(accept);
        request.headers_mut().insert(header::ACCEPT, accept);
        self.client.send(url, request, MAX_BODY_BYTES).await
    }

    /// An authorization request that may not show anything to a user: a provider that knows the redirect URI sends the
    /// browser there with an error, and must not otherwise (RFC 6749 section 4.1.2.1).
    async fn try_redirect_uri(&self, authorization: &Url, redirect_uri: &str) -> RedirectUri {
        let mut query = vec![
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", redirect_uri),
            ("scope", &self.scope),
            ("state", "passgate-doctor"),
            ("nonce", "passgate-doctor"),
            ("prompt", "none"),
        ];
        if self.pkce {
            query.extend([("code_challenge", CHALLENGE), ("code_challenge_method", "S256")]);
        }
        let query: Vec<String> = query
            .into_iter()
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        let query = query.join("&");
        let url = authorization.as_str();
        let separator = if url.contains('?') { '&' } else { '?' };
        let Ok(url) = format!("{url}{separator}{query}").parse::<Url>() else {
            return RedirectUri::Unknown;
        };
        match self.get(&url, "text/html").await {
            // The page may be longer than what is read; that tells nothing.
            Err(ClientError::Body(..)) => RedirectUri::Unknown,
            Err(error) => RedirectUri::NoAnswer(error.to_string()),
            Ok(answer) => judge(&answer, redirect_uri),
        }
    }
}

fn body(url: &Url, answer: Response<Bytes>) -> Result<Bytes, String> {
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(ClientError::Status(url.to_string(), status).to_string()),
    }
}

fn judge(answer: &Response<Bytes>, redirect_uri: &str) -> RedirectUri {
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return RedirectUri::NoAnswer(format!("it answered {status}"));
    }
    if status.is_client_error() {
        return RedirectUri::Refused(status);
    }
    let location = answer.headers().get(header::LOCATION);
    let location = location.and_then(|location| location.to_str().ok());
    let Some(rest) = location.and_then(|location| location.strip_prefix(redirect_uri)) else {
        return RedirectUri::Unknown;
    };
    let Some(query) = rest.strip_prefix('?') else {
        return RedirectUri::Unknown;
    };
    match parameters(Some(query), ["error"]) {
        Some([Some(error)]) if NO_USER.contains(&error.as_str()) => RedirectUri::Registered,
        Some([Some(error)]) => RedirectUri::Error(shown(&error)),
        _ => RedirectUri::Unknown,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(status: u16, headers: &[(&str, &str)]) -> Response<Bytes> {
        let mut answer = Response::builder().status(status);
        for (name, value) in headers {
            answer = answer.header(*name, *value);
        }
        answer.body(Bytes::new()).unwrap()
    }

    #[test]
    fn redirect_uri_is_registered_where_the_provider_leads_there_alone() {
        let uri = "https://app.example.com/auth/login/main/return";
        let to = |location: &str| format!("{:?}", judge(&answer(303, &[("location", location)]), uri));
        assert_eq!(to(&format!("{uri}?error=login_required&state=s")), "Registered");
        assert_eq!(
            to(&format!("{uri}?error=invalid_scope")),
            "Error(\"invalid_scope\")"
        );
        for elsewhere in [
            "https://id.example.com/login",
            "https://app.example.com/auth/login/main/returned?error=login_required",
            &format!("https://id.example.com/?redirect_uri={uri}?error=login_required"),
            uri,
        ] {
            assert_eq!(to(elsewhere), "Unknown", "{elsewhere}");
        }
        let status = |status| format!("{:?}", judge(&answer(status, &[]), uri));
        assert_eq!(status(400), "Refused(400)");
        assert_eq!(status(200), "Unknown");
        assert!(status(503).starts_with("NoAnswer") && status(429).starts_with("NoAnswer"));
    }
}
