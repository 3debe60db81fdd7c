//! The ways to sign in to an account: its identities at providers, and its password.
//!
//! Input: a caller with a session. Output: the list; the way to a provider that is to be linked; an identity that is removed.
//! Invariants: only a request of our own page begins a link, in the browser of the account; an identity of another account is
//! neither shown nor removed, and cannot be told from one that does not exist; the last way to sign in stays.

use http::StatusCode;
use serde_json::{Value, json};

use super::context::{EndpointContext, OwnSession};
use super::form::Fields;
use super::provider::flow;
use super::response::{EndpointError, EndpointResponse};
use super::return_to;
use super::user_sessions::rfc3339;
use crate::clock::UnixSeconds;
use crate::pages::{LinkItem, ProviderLink};
use crate::refusal::Refusal;
use crate::state::{EndCause, IdentityRow, SessionSelector, Unlinked, Ways};

/// How long ago the sign-in may be by which a session links a provider, in seconds: a stolen cookie must not become a way to
/// sign in.
const MOST_AGE: UnixSeconds = 10 * 60;

/// What an identity is called in an address: half a hash, so that no address and no log has the subject.
fn id_of(identity: &IdentityRow) -> String {
    let hash = blake3::Hasher::new()
        .update(identity.provider.as_bytes())
        .update(b" ")
        .update(identity.subject.as_bytes())
        .finalize();
    hash.to_hex()[..32].to_owned()
}

/// What a provider is called; its name where the configuration has it no more.
fn label<'a>(visit: &'a EndpointContext<'_>, provider: &'a str) -> &'a str {
    let mut choices = visit.login.providers.choices();
    let found = choices.find(|choice| choice.name == provider);
    found.map_or(provider, |choice| choice.label)
}

/// GET.
pub(super) async fn list(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let own = visit.require_session()?;
    if visit.asked.browser && !visit.has_forms() {
        let url = visit.at_home("/links");
        return Ok(visit.elsewhere(StatusCode::OK, &url).into());
    }
    let (account, identities) = visit
        .state(move |accounts, _| {
            let account = accounts.by_id(&own.account_id)?.ok_or(Refusal::Revoked)?;
            Ok((account, accounts.identities(&own.account_id)?))
        })
        .await?;
    let has_password = account.password_hash.is_some();
    if !visit.asked.browser {
        let links: Vec<Value> = identities.iter().map(|of| to_json(visit, of)).collect();
        return Ok(EndpointResponse::json(
            StatusCode::OK,
            &json!({"links": links, "password": has_password}),
        ));
    }
    let links: Vec<LinkItem> = identities.into_iter().map(|of| to_item(visit, of)).collect();
    let providers: Vec<ProviderLink> = visit
        .login
        .providers
        .choices()
        .map(|choice| ProviderLink {
            label: choice.label.to_owned(),
            url: format!("{}/links/{}", visit.prefix, choice.name),
        })
        .collect();
    let ways = (&links[..], has_password);
    let pages = &visit.login.pages;
    Ok(pages
        .links(&visit.person(), ways, &providers, visit.now, notice(visit))
        .into())
}

/// What has just been done, where our own redirect says so.
fn notice(visit: &EndpointContext<'_>) -> Option<&'static str> {
    match visit.done()?.as_str() {
        "linked" => Some("The provider was linked."),
        "removed" => Some("Removed. All other sessions were signed out."),
        _ => None,
    }
}

fn to_json(visit: &EndpointContext<'_>, identity: &IdentityRow) -> Value {
    json!({
        "id": id_of(identity),
        "provider": identity.provider,
        "name": label(visit, &identity.provider),
        "email": identity.email,
        "emailVerified": identity.email_verified,
        "lastSignInAt": rfc3339(identity.updated_at),
    })
}

fn to_item(visit: &EndpointContext<'_>, identity: IdentityRow) -> LinkItem {
    LinkItem {
        id: id_of(&identity),
        label: label(visit, &identity.provider).to_owned(),
        email: identity.email,
        seen_at: identity.updated_at,
    }
}

/// POST: 303 to the provider, and for a script the address to go to. The browser comes back to the endpoint of a sign-in.
pub(super) async fn begin(
    visit: &EndpointContext<'_>,
    fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    let speaks_json = visit.speaks_json(&fields);
    if !visit.has_forms() {
        return Err(visit.refuse_form(&visit.at_home("/links")));
    }
    // The way back is one of the browser, which has no other credential there.
    let own = visit.browser_session().ok_or(Refusal::CredentialMissing)?;
    if !is_fresh(visit, &own).await? {
        if speaks_json {
            return Err(Refusal::SignInTooOld.into());
        }
        let page = format!("{}/links", visit.prefix);
        let location = return_to::login_then(visit.prefix, &page);
        return Ok(EndpointResponse::see_other(location));
    }
    let (location, cookies) = flow::begin_link(visit, own).await?;
    let answered = if speaks_json {
        let location = String::from_utf8_lossy(location.as_bytes());
        EndpointResponse::json(StatusCode::OK, &json!({"location": location}))
    } else {
        EndpointResponse::see_other(location)
    };
    Ok(cookies.into_iter().fold(answered, EndpointResponse::with_cookie))
}

/// Whether the session is so young that what was copied of it is not likely to be another user's.
async fn is_fresh(visit: &EndpointContext<'_>, own: &OwnSession) -> Result<bool, Refusal> {
    let (own, now) = (own.clone(), visit.now);
    visit
        .state(move |_, sessions| {
            let all = sessions.list(&own.account_id)?;
            let found = all.iter().find(|session| session.id == own.id);
            let age = found.map(|session| now.saturating_sub(session.created_at));
            Ok(age.is_some_and(|age| age <= MOST_AGE))
        })
        .await
}

/// DELETE of one.
pub(super) async fn remove(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    end(visit).await?;
    Ok(EndpointResponse::empty())
}

/// The POST that a form sends for it.
pub(super) async fn remove_by_form(
    visit: &EndpointContext<'_>,
    fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    if visit.speaks_json(&fields) {
        return remove(visit).await;
    }
    match end(visit).await {
        Ok(()) => Ok(EndpointResponse::see_other(visit.to("/links?done=removed"))),
        // It may have been removed in another window; the list shows that.
        Err(Refusal::RouteMissing) => Ok(EndpointResponse::see_other(visit.to("/links"))),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The other sessions end: they may have been opened by what is removed.
async fn end(visit: &EndpointContext<'_>) -> Result<(), Refusal> {
    let own = visit.require_session()?;
    let wanted = visit.id.to_owned();
    let ways = Ways {
        password: visit.login.password,
        providers: visit
            .login
            .providers
            .choices()
            .map(|choice| choice.name.to_owned())
            .collect(),
    };
    visit
        .state(move |accounts, sessions| {
            let all = accounts.identities(&own.account_id)?;
            let found = all.iter().find(|of| id_of(of) == wanted);
            let found = found.ok_or(Refusal::RouteMissing)?;
            match accounts.unlink_identity(found, &ways, sessions.revoked_until())? {
                Unlinked::Done => {}
                Unlinked::Missing => return Err(Refusal::RouteMissing),
                Unlinked::Last => return Err(Refusal::LastSignIn),
            }
            sessions.end(
                SessionSelector::Others {
                    account_id: &own.account_id,
                    keep: &own.id,
                },
                EndCause::LinkRemoved,
            )?;
            Ok(())
        })
        .await
}
