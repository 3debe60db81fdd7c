//! Our own endpoints: signing in and out, registering, one's own account and sessions, and our public keys.
//!
//! Enters: a request for one of them, as [`find`] told it apart, and who the gateway found the caller to be. Leaves: the
//! whole answer, or a [`EndpointError`] for which the gateway has the words; and who has just signed in. What must never happen
//! here: something is changed because another site asked for it, a worker waits for the state or for a hash, or an
//! answer that is one person's is kept for another.
//!
//! JSON is answered with JSON, a form with a page or a redirect. To add an endpoint: a path in `endpoint.rs`, a line in
//! [`Endpoints::answer`], a file for what it does.

mod arrival;
mod attempt;
mod context;
mod endpoint;
mod form;
mod password;
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

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Body;

use crate::account::{Accounts, Hasher};
use crate::blocking::Blocking;
use crate::clock::Clock;
use crate::http::origin;
use crate::pages::Pages;
use crate::refusal::Refusal;
use crate::session::Sessions;
use crate::signing::SigningKeys;

pub use attempt::Attempt;
pub use context::EndpointRequest;
pub use endpoint::{Endpoint, JWKS_PATH, find, is_own};
pub use response::{EndpointError, EndpointResponse};
pub use return_to::{login_location, login_then};
pub use setup_token::SetupToken;
pub use sites::{Place, Site, Sites};
pub use throttle::{ClientAddress, Throttle};

use context::EndpointContext;

/// What signing in takes. `throttle` and `setup` are the process's, and outlive a configuration.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who there is.
    pub accounts: Arc<Accounts>,
    /// Who is signed in.
    pub sessions: Arc<Sessions>,
    /// Where passwords are hashed.
    pub hasher: Arc<Hasher>,
    /// Where the state is waited for.
    pub blocking: Arc<Blocking>,
    /// On which hosts.
    pub sites: Arc<Sites>,
    /// What people see.
    pub pages: Arc<Pages>,
    /// How often one may try.
    pub throttle: Arc<Throttle>,
    /// The link of the first run.
    pub setup: Arc<SetupToken>,
    /// Cookies of other issuers' tokens (`credentials.sources`), each with the `Set-Cookie` that deletes it.
    pub other_cookies: Arc<[(String, HeaderValue)]>,
    /// `password.registration`: whether everybody may make an account.
    pub registration: bool,
    /// `password.admin_role`: what the link of the first run gives.
    pub admin_role: String,
}

/// Our own endpoints, ready to answer.
#[derive(Debug)]
pub struct Endpoints {
    prefix: String,
    keys: Arc<ArcSwap<SigningKeys>>,
    pages: Arc<Pages>,
    clock: Clock,
    login: Option<Login>,
}

impl Endpoints {
    /// Endpoints below `prefix` (`/auth`), and the public halves of `keys`; without `login` nothing but these and the
    /// pictures of `pages`.
    #[must_use]
    pub fn new(
        prefix: impl Into<String>,
        keys: Arc<ArcSwap<SigningKeys>>,
        pages: Arc<Pages>,
        clock: Clock,
        login: Option<Login>,
    ) -> Self {
        Self {
            prefix: prefix.into(),
            keys,
            pages,
            clock,
            login,
        }
    }

    /// `own_prefix`
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether one can sign in here.
    #[must_use]
    pub fn is_sign_in(&self) -> bool {
        self.login.is_some()
    }

    /// What signing in takes, for who renews sessions and ends them.
    #[must_use]
    pub fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// The answer. Of `body` no more is read than 16 KiB in ten seconds, and nothing where the endpoint takes none.
    ///
    /// # Errors
    /// The refusal, and for a form that was filled in wrongly the form.
    pub async fn answer<B: Body<Data = Bytes>>(
        &self,
        asked: EndpointRequest<'_>,
        body: B,
    ) -> Result<EndpointResponse, Box<EndpointError>> {
        match asked.endpoint {
            Endpoint::Jwks => return Ok(self.key_set().into()),
            Endpoint::Logo => return Ok(self.pages.logo().ok_or(Refusal::RouteMissing)?.into()),
            Endpoint::Icon => return Ok(self.pages.icon().into()),
            _ => {}
        }
        let login = self.login.as_ref().ok_or(Refusal::RouteMissing)?;
        // Before anything is read or counted, whatever the credential: a page elsewhere must not even sign somebody in,
        // as somebody else.
        if origin::is_unsafe(asked.method)
            && origin::is_cross_origin(asked.headers, asked.host.as_sent(), asked.https)
        {
            return Err(Refusal::CrossSite.into());
        }
        let site = login.sites.site(asked.host, asked.scheme);
        let visit = EndpointContext {
            asked,
            login,
            site,
            prefix: &self.prefix,
            now: self.clock.now(),
        };
        match dispatch(&visit, body).await {
            Ok(mut answered) => {
                response::seal(&mut answered.response);
                Ok(answered)
            }
            Err(mut failure) => {
                failure.page.as_mut().map(response::seal);
                Err(failure)
            }
        }
    }

    fn key_set(&self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.keys.load().jwks(self.clock.now()).to_string()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        // A new key is published when it starts to sign, so a copy of the set must not live long.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=30"));
        response
    }
}

/// Email and password as [`Endpoints::answer`] reads them out of a body: a door for the fuzz targets, and for nobody else.
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

async fn dispatch<B: Body<Data = Bytes>>(
    visit: &EndpointContext<'_>,
    body: B,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let is_post = *visit.asked.method == Method::POST;
    let fields = async { form::read(visit.asked.headers, body).await };
    match visit.asked.endpoint {
        Endpoint::Login if is_post => sign_in::submit(visit, fields.await?).await,
        Endpoint::Login => sign_in::page(visit).await,
        Endpoint::Continue => arrival::land(visit).await,
        Endpoint::Register if is_post => register::submit(visit, fields.await?).await,
        Endpoint::Register => register::page(visit).await,
        Endpoint::Refresh => tokens::refresh(visit, fields.await?).await,
        Endpoint::Logout if is_post => tokens::logout(visit, fields.await?).await,
        Endpoint::Logout => Ok(visit.login.pages.sign_out(visit.known_person().as_ref()).into()),
        Endpoint::Account => Ok(EndpointResponse::see_other(visit.to("/sessions"))),
        Endpoint::Me => user_sessions::me(visit).await,
        Endpoint::Password if is_post => password::submit(visit, fields.await?).await,
        Endpoint::Password => password::page(visit),
        Endpoint::Sessions => user_sessions::list(visit).await,
        Endpoint::Session(id) => user_sessions::end(visit, id, false).await,
        Endpoint::EndSession(id) => {
            let in_browser = !visit.speaks_json(&fields.await?);
            user_sessions::end(visit, id, in_browser).await
        }
        // Answered before: they are for everybody.
        Endpoint::Jwks | Endpoint::Logo | Endpoint::Icon => Err(Refusal::RouteMissing.into()),
    }
}
