//! Signing in with email address and password: the page, a form, JSON.
//!
//! Enters: who somebody says to be, and their password. Leaves: a session in a new cookie, or tokens. What must never
//! happen here: unknown, wrong and disabled can be told apart; the password is shown again; somebody is led to another
//! site.

use http::{HeaderValue, StatusCode};

use super::form::{Field, Fields, parameter};
use super::outcome::{Answered, Failure};
use super::visit::{Visit, caller};
use super::{return_to, tokens};
use crate::refusal::Refusal;
use crate::state::AccountRow;

/// GET.
pub(super) fn page(visit: &Visit<'_>) -> Answered {
    let wanted = parameter(visit.asked.query, return_to::PARAMETER);
    let return_to = wanted.as_ref().and_then(|wanted| return_to::accept(wanted, visit.prefix));
    visit.login.pages.sign_in(StatusCode::OK, "", return_to, None).into()
}

/// POST. Who has a session already gets another one.
pub(super) async fn submit(visit: &Visit<'_>, mut fields: Fields) -> Result<Answered, Box<Failure>> {
    if visit.speaks_json(&fields) {
        let account = prove(visit, &mut fields).await?;
        return Ok(open_client(visit, account).await?);
    }
    // Whoever posts to the address of the page itself has the path still in there.
    let wanted = fields.take(Field::ReturnTo).or_else(|| parameter(visit.asked.query, return_to::PARAMETER));
    let return_to = wanted.as_ref().and_then(|wanted| return_to::accept(wanted, visit.prefix));
    let signed_in = async {
        let account = prove(visit, &mut fields).await?;
        let location = return_to.and_then(|path| HeaderValue::from_str(path).ok());
        Ok(visit.open_browser(account, location.unwrap_or(HeaderValue::from_static("/"))).await?)
    };
    signed_in.await.map_err(|failure: Box<Failure>| {
        failure.shown(visit, |pages, status, words| {
            pages.sign_in(status, fields.peek(Field::Email), return_to, Some(words))
        })
    })
}

async fn prove(visit: &Visit<'_>, fields: &mut Fields) -> Result<AccountRow, Box<Failure>> {
    let password = fields.require(Field::Password)?;
    let email = fields.peek(Field::Email).to_owned();
    if email.is_empty() {
        return Err(Refusal::FormMalformed.into());
    }
    visit.prove(&email.clone(), password, move |accounts| accounts.candidate(&email)).await
}

async fn open_client(visit: &Visit<'_>, account: AccountRow) -> Result<Answered, Refusal> {
    let (device, now) = (visit.device(), visit.now);
    visit
        .state(move |_, sessions| {
            let opened = sessions.open_client(&account, &device)?;
            let answered = Answered::json(StatusCode::OK, &tokens::to_json(&opened));
            Ok(answered.by_caller(caller(account, opened.session_id, now)))
        })
        .await
}
