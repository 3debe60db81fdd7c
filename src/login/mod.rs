//! Our own endpoints: signing in and out, registration, the account page and its sessions, and our public keys.
//!
//! Input: a request for one of them, as [`find`] recognized it, and its caller. Output: the whole answer, or an
//! [`EndpointError`] that the gateway renders; and the caller who has just signed in. Invariants: a request of another site
//! changes nothing; a worker waits neither for the state nor for a hash; no cache keeps the answer of one person for another.
//!
//! JSON is answered with JSON, a form with a page or a redirect. `endpoint.rs` has the table of all endpoints.

mod aliases;
mod arrival;
mod attempt;
mod bounces;
mod cause;
mod client_code;
mod context;
mod endpoint;
mod form;
mod links;
mod password;
pub(crate) mod provider;
mod public;
mod refusal;
mod register;
mod response;
mod return_to;
mod setup_token;
mod shared_address;
mod sign_in;
mod sites;
#[cfg(test)]
mod tests;
mod then;
mod throttle;
mod tokens;
mod user_sessions;

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;

use crate::clock::Clock;
use crate::pages::Pages;
use crate::refusal::Refusal;
use crate::signing::SigningKeys;

pub(crate) use bounces::Bounces;
pub(crate) use bounces::Page as BouncePage;
pub(crate) use context::{EndpointRequest, Login, SignInRules};
pub(crate) use endpoint::{
    Access, Asking, Endpoint, JWKS_PATH, find, is_own, is_well_known, methods_for_listed, preflight,
    public_endpoints,
};
pub(crate) use response::{EndpointError, EndpointResponse};
pub(crate) use return_to::login_then;
pub(crate) use setup_token::SetupToken;
pub(crate) use sites::Place;
pub use sites::Sites;
pub(crate) use throttle::Throttle;

use context::EndpointContext;
use endpoint::Handler;
pub(crate) use public::IssuerAddress;
use public::PublicFiles;

/// Our own endpoints, ready to answer.
#[derive(Debug)]
pub struct Endpoints {
    prefix: String,
    public: PublicFiles,
    login: Option<Login>,
}

impl Endpoints {
    /// Endpoints below `prefix` (`/auth`), and the public halves of `keys`, which `issuer` describes; without `login` nothing
    /// but these and the pictures of `pages`.
    #[must_use]
    pub fn new(
        prefix: impl Into<String>,
        issuer: IssuerAddress,
        keys: Arc<ArcSwap<SigningKeys>>,
        pages: Arc<Pages>,
        clock: Clock,
        login: Option<Login>,
    ) -> Self {
        Self {
            prefix: prefix.into(),
            public: PublicFiles {
                issuer,
                keys,
                pages,
                clock,
            },
            login,
        }
    }

    /// `own_prefix`
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The answer. Of `body` at most 16 KiB are read, for ten seconds, and nothing where the endpoint takes none.
    ///
    /// # Errors
    /// The refusal; for a form with wrong input also the form.
    pub async fn answer<B: Body<Data = Bytes>>(
        &self,
        endpoint: &Endpoint,
        asked: EndpointRequest<'_>,
        body: B,
    ) -> Result<EndpointResponse, Box<EndpointError>> {
        if let Handler::Public(handler) = endpoint.handler() {
            return Ok(handler(&self.public)?.into());
        }
        let login = self.login.as_ref().ok_or(Refusal::RouteMissing)?;
        let site = login.sites.site(asked.host, asked.scheme);
        let visit = EndpointContext {
            id: endpoint.id(),
            asked,
            login,
            site,
            prefix: &self.prefix,
            now: self.public.clock.now(),
            presented: OnceLock::new(),
        };
        let answered = match endpoint.handler() {
            Handler::Form(handler) => match form::read(visit.asked.headers, body).await {
                Ok(fields) => handler(&visit, fields).await,
                Err(failure) => Err(failure.into()),
            },
            Handler::Plain(handler) => handler(&visit).await,
            Handler::Public(_) | Handler::ForwardAuth(_) => Err(Refusal::RouteMissing.into()),
        };
        match answered {
            Ok(mut answered) => {
                response::seal(&mut answered.response);
                Ok(answered)
            }
            Err(mut failure) => {
                // Overload and a state that fails are no judgement.
                let is_judged = !matches!(
                    failure.refusal,
                    Refusal::StateUnavailable | Refusal::Overloaded | Refusal::Internal
                );
                if is_judged && let Err(refusal) = visit.note_refused(failure.refusal).await {
                    failure = refusal.into();
                }
                failure.page.as_mut().map(response::seal);
                Err(failure)
            }
        }
    }
}

/// Email and password as [`Endpoints::answer`] reads them out of a body: for the fuzz targets only.
///
/// # Errors
/// As the endpoints refuse it.
#[doc(hidden)]
pub async fn read_credentials<B: Body<Data = Bytes>>(
    headers: &HeaderMap,
    body: B,
) -> Result<[Option<zeroize::Zeroizing<String>>; 2], Refusal> {
    let mut fields = form::read(headers, body).await?;
    Ok([form::Field::Email, form::Field::Password].map(|field| fields.take(field)))
}

/// Where a browser is led after a sign-in with this return address; `None` where it is not accepted: for the fuzz targets only.
#[doc(hidden)]
#[must_use]
pub fn return_location(sites: &Sites, prefix: &str, return_to: &str) -> Option<String> {
    match then::Then::new(sites, prefix, Some(sites.accept(return_to, prefix)?), None) {
        then::Then::Page(location) => Some(location),
        then::Then::Host { .. } => None,
    }
}
