//! Registration: where `password.registration` allows it, and once by the link of the first run.
//!
//! Input: an email address, a name, a password. Output: an account, and for a browser its first session. Invariants: the link
//! makes one administrator; no client chooses its own roles.

use http::StatusCode;
use serde_json::json;
use zeroize::Zeroizing;

use super::context::EndpointContext;
use super::form::{Field, Fields, parameter};
use super::response::{EndpointError, EndpointResponse};
use super::return_to;
use super::then::Then;
use crate::account::{self, NewAccount};
use crate::pages::RegisterForm;
use crate::refusal::Refusal;
use crate::state::AccountRow;

/// GET.
pub(super) async fn page(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let setup = setup_of(visit);
    admit(visit, setup.as_ref(), visit.asked.browser).await?;
    let setup = setup.as_ref().map(|token| token.as_str());
    if !visit.has_forms() {
        return Ok(visit
            .elsewhere(StatusCode::OK, &visit.at_home(&link(setup)))
            .into());
    }
    let form = RegisterForm {
        setup,
        ..RegisterForm::default()
    };
    Ok(visit.login.pages.register(StatusCode::OK, form, None).into())
}

/// POST.
pub(super) async fn submit(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    // A form that is sent to the link itself has the token still in the query.
    let setup = fields.take(Field::SetupToken).or_else(|| setup_of(visit));
    let is_first = admit(visit, setup.as_ref(), !visit.speaks_json(&fields)).await?;
    if visit.speaks_json(&fields) {
        let account = register(visit, &mut fields, is_first).await?;
        return Ok(EndpointResponse::json(
            StatusCode::CREATED,
            &json!({"id": account.id, "email": account.email}),
        ));
    }
    if !visit.has_forms() {
        let link = link(setup.as_ref().map(|token| token.as_str()));
        return Err(visit.refuse_form(&visit.at_home(&link)));
    }
    let registered = async {
        let account = register(visit, &mut fields, is_first).await?;
        Ok(visit
            .open_browser(account, visit.by_password(), Then::start(), None)
            .await?)
    };
    registered.await.map_err(|failure: Box<EndpointError>| {
        // Of two that used the link at once, the second one.
        if is_first && failure.refusal == Refusal::RouteMissing {
            return setup_over(visit, true);
        }
        visit.show_form(failure, |pages, status, error| {
            let setup = setup.as_ref().map(|token| token.as_str());
            let form = RegisterForm {
                email: fields.peek(Field::Email),
                name: fields.peek(Field::Name),
                setup,
            };
            pages.register(status, form, Some(error))
        })
    })
}

/// This page below the prefix.
fn link(setup: Option<&str>) -> String {
    let mut link = "/register".to_owned();
    if let Some(token) = setup {
        link.push_str("?setup=");
        return_to::encode(token, &mut link);
    }
    link
}

fn setup_of(visit: &EndpointContext<'_>) -> Option<Zeroizing<String>> {
    parameter(visit.asked.query, "setup").filter(|token| !token.is_empty())
}

/// Whether the account will be the first administrator. A request with a token asks for that account and no other: a
/// void token is no ordinary registration.
///
/// # Errors
/// `RouteMissing`: there is nothing to be had here; for a person who followed the link, with a page that says why.
async fn admit(
    visit: &EndpointContext<'_>,
    setup: Option<&Zeroizing<String>>,
    is_person: bool,
) -> Result<bool, Box<EndpointError>> {
    let login = visit.login;
    match setup {
        Some(token) if login.setup.is_good(token) => {
            let role = login.admin_role.clone();
            // There may be an administrator since, by the command line.
            if visit
                .state(move |accounts, _| Ok(accounts.has_enabled(&role)?))
                .await?
            {
                login.setup.void();
                return Err(setup_over(visit, is_person));
            }
            Ok(true)
        }
        Some(_) => Err(setup_over(visit, is_person)),
        None if login.registration => Ok(false),
        None => Err(Refusal::RouteMissing.into()),
    }
}

fn setup_over(visit: &EndpointContext<'_>, is_person: bool) -> Box<EndpointError> {
    let mut failure: Box<EndpointError> = Refusal::RouteMissing.into();
    failure.page = is_person.then(|| visit.login.pages.setup_over(failure.refusal.status()));
    failure
}

async fn register(
    visit: &EndpointContext<'_>,
    fields: &mut Fields,
    is_first: bool,
) -> Result<AccountRow, Box<EndpointError>> {
    let login = visit.login;
    fields.require_all(&[Field::Email, Field::Password])?;
    let password = fields.require(Field::Password)?;
    let email = fields.peek(Field::Email).to_owned();
    let name = Some(fields.peek(Field::Name))
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    login.accounts.check_new(&email, name.as_deref(), &password)?;
    // From here on the request is expensive, and the answer tells whether the account exists.
    login
        .throttle
        .register(visit.client_address())
        .map_err(EndpointError::throttled)?;
    let hash = login
        .hasher
        .run(visit.asked.client, move || account::hash(&password))
        .await??;
    let roles = match is_first {
        true => vec![login.admin_role.clone()],
        false => login.accounts.policy().default_roles.clone(),
    };
    let new = NewAccount {
        id: None,
        email,
        name,
        roles,
        password_hash: Some(hash),
        disabled: false,
        // The link is the operator's; every other address was only typed.
        confirmed: is_first,
    };
    let first = is_first.then(|| login.admin_role.clone());
    let added = visit
        .state(move |accounts, _| Ok(accounts.add(new, first.as_deref())?))
        .await;
    if is_first && matches!(added, Ok(_) | Err(Refusal::RouteMissing)) {
        login.setup.void();
    }
    Ok(added?)
}
