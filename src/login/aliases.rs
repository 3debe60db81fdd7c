//! The addresses of oauth2-proxy, for apps and proxies that were set up with it: each leads to the endpoint of the gateway.
//!
//! Input: a request for one of them. Output: a redirect on the same host, or who the caller is. Invariant: signing out takes
//! the page that asks, because any site can make a browser send a GET.

use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::context::EndpointContext;
use super::form::parameter;
use super::response::{EndpointError, EndpointResponse};
use super::return_to;
use crate::refusal::Refusal;

/// GET `/oauth2/start` and `/oauth2/sign_in`: the sign-in page, with the return address that was given as `rd`.
pub(super) async fn start(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let mut location = format!("{}/login", visit.prefix);
    if let Some(return_to) = parameter(visit.asked.query, return_to::OTHER_NAME) {
        location.push('?');
        location.push_str(return_to::PARAMETER);
        location.push('=');
        return_to::encode(&return_to, &mut location);
    }
    found(&location)
}

/// GET `/oauth2/sign_out`: the page that asks whether to sign out.
pub(super) async fn sign_out(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    found(&format!("{}/logout", visit.prefix))
}

/// GET `/oauth2/callback`, which may still be registered at the provider: its return, where there is one provider.
pub(super) async fn callback(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let mut choices = visit.login.providers.choices();
    let (Some(only), None) = (choices.next(), choices.next()) else {
        return Err(Refusal::RouteMissing.into());
    };
    let query = visit.asked.query.unwrap_or_default();
    found(&format!("{}/login/{}/return?{query}", visit.prefix, only.name))
}

/// GET `/oauth2/userinfo`: who the caller is.
pub(super) async fn userinfo(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let caller = visit.asked.caller.as_ref().ok_or(Refusal::CredentialMissing)?;
    let identity = &caller.identity;
    let answer = json!({
        "user": identity.subject,
        "email": identity.told_email(false),
        "groups": identity.roles,
        "preferredUsername": identity.claims.get("preferred_username"),
    });
    Ok(EndpointResponse::json(StatusCode::OK, &answer))
}

fn found(location: &str) -> Result<EndpointResponse, Box<EndpointError>> {
    let mut location = HeaderValue::try_from(location).map_err(|_| Refusal::FormMalformed)?;
    location.set_sensitive(true);
    Ok(EndpointResponse::found(location))
}
