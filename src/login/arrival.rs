//! A browser comes back from the sign-in page of `public_url` to the host that sent it there, with a one-time code.
//!
//! Input: the code, and the nonces of the browser. Output: the session's cookie for this host, and a redirect to the page
//! that was asked for at first. Invariants: the answer does not tell why a code is not valid.

use http::HeaderValue;
use http::header::{CACHE_CONTROL, REFERRER_POLICY};

use super::context::{EndpointContext, caller};
use super::form::parameter;
use super::response::{EndpointError, EndpointResponse};
use super::then::CODE;
use crate::refusal::Refusal;
use crate::session::Arrival;
use crate::state::{EndCause, SessionSelector};

/// GET.
pub(super) async fn land(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let login = visit.login;
    // A made-up code takes no place in the queue for the state.
    let code = parameter(visit.asked.query, CODE).filter(|code| login.sessions.is_code(code));
    let code = code.ok_or(Refusal::CodeRefused)?;
    let nonces = login.sites.nonces(visit.asked.headers);
    let former = visit.browser_session();
    let arrival = Arrival {
        host: visit.site.authority.clone(),
        host_name: visit.site.name.clone(),
        nonces: nonces.iter().map(|nonce| nonce.hash).collect(),
        session_id: former.as_ref().map(|former| former.id.clone()),
        address: visit.asked.client,
    };
    let landed = visit.state(move |_, sessions| {
        let landing = sessions.redeem_code(&code, &arrival)?;
        // As at sign-in: what the browser had here before is worth nothing any more.
        if let (Some(former), Some(arrived)) = (former, &landing.arrived)
            && former.id != arrived.cookie.session_id
            && let Err(error) = sessions.end(
                SessionSelector::Own {
                    id: &former.id,
                    account_id: &former.account_id,
                },
                EndCause::Replaced,
            )
        {
            tracing::warn!(%error, session = former.id, "cannot end the session that a browser had before");
        }
        Ok(landing)
    });
    let landing = landed.await?;
    let location = HeaderValue::from_str(&landing.return_to).unwrap_or(HeaderValue::from_static("/"));
    let answered = EndpointResponse::see_other(location)
        .with(CACHE_CONTROL, HeaderValue::from_static("no-store"))
        .with(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let Some(arrived) = landing.arrived else {
        return Ok(answered);
    };
    let spent = nonces.iter().filter(|nonce| nonce.hash == arrived.nonce);
    let spent = spent.filter_map(|nonce| login.sites.delete_nonce(&nonce.name));
    let session_id = arrived.cookie.session_id.clone();
    let answered = spent.fold(
        answered.with_cookie(arrived.cookie.set_cookie),
        EndpointResponse::with_cookie,
    );
    let caller = caller(arrived.account, session_id, visit.now);
    let page = visit.page(visit.asked.host.name(), &landing.return_to);
    visit.note_opened(page, &caller.identity);
    Ok(visit.without_others(answered).by_caller(caller))
}
