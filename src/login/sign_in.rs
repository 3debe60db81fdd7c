//! Sign-in with email address and password: the page, a form, JSON.
//!
//! Input: an email address and a password. Output: a session in a new cookie, or tokens. Invariants: an unknown account, a
//! disabled one and a wrong password cannot be told apart; no page shows the password again; no redirect to another site.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use zeroize::Zeroizing;

use super::context::{EndpointContext, OwnSession, caller};
use super::form::{Field, Fields, parameter};
use super::provider::registry::Choice;
use super::response::{EndpointError, EndpointResponse};
use super::sites::{Place, ReturnTo};
use super::then::Then;
use super::{attempt, return_to, tokens};
use crate::authorize::StepUp;
use crate::pages::{FormError, ProviderLink, SignInForm};
use crate::refusal::Refusal;
use crate::state::AccountRow;

/// GET. A host that a route names redirects to the page of `public_url`; a browser with a session there passes through.
pub(super) async fn page(visit: &EndpointContext<'_>) -> Result<EndpointResponse, Box<EndpointError>> {
    let way = Way::of(visit, None, None);
    let site = &visit.site;
    if visit.has_forms() {
        let again = visit.needs_again(way.step_up.as_ref());
        if visit.asked.browser && notice(visit).is_none() {
            visit.stop_loop(&way.then, again, &way.again(visit))?;
        }
        if let Some(own) = visit
            .browser_session()
            .filter(|_| way.then.passes_through() && !again)
            && let Some(answered) = pass_through(visit, own, way.then.clone()).await?
        {
            return Ok(answered);
        }
        // With one way to sign in there is nothing to choose; a page that says what was just done stays.
        let providers = way.providers(visit);
        if !way.takes_password(visit) && providers.is_empty() {
            // None of the ways to sign in is enough for the page.
            return Err(Refusal::SignInInsufficient.into());
        }
        if let (false, [only]) = (way.takes_password(visit), &providers[..])
            && notice(visit).is_none()
            && (again || visit.known_person().is_none())
            && let Ok(location) = HeaderValue::try_from(&only.url)
        {
            return Ok(EndpointResponse::found(location));
        }
        return Ok(way.shown(visit, StatusCode::OK, "", None).into());
    }
    // With a form to be expected, a page says where it is.
    if site.place == Place::Other && site.keeps_cookie && !visit.login.password {
        return visit.move_home(&way.link(visit));
    }
    if site.place != Place::Named || !site.keeps_cookie {
        return Ok(visit.elsewhere(StatusCode::OK, &way.link(visit)).into());
    }
    let Some(path) = way.path_here() else {
        // To another host, which begins its own attempt.
        let location = HeaderValue::try_from(way.link(visit));
        return Ok(EndpointResponse::see_other(
            location.unwrap_or(HeaderValue::from_static("/")),
        ));
    };
    let sites = &visit.login.sites;
    let present = sites.nonce_names(visit.asked.headers);
    let attempt = sites.begin(visit.prefix, visit.asked.host, path, present, visit.now)?;
    Ok(attempt.set_cookies.into_iter().fold(
        EndpointResponse::see_other(attempt.location),
        EndpointResponse::with_cookie,
    ))
}

/// Gives a session that is there a code for the host that sent its browser here. `None` where it is over.
async fn pass_through(
    visit: &EndpointContext<'_>,
    own: OwnSession,
    then: Then,
) -> Result<Option<EndpointResponse>, Refusal> {
    match visit
        .state(move |_, sessions| then.location(sessions, &own.id, &own.account_id))
        .await
    {
        Ok(location) => Ok(Some(EndpointResponse::see_other(location))),
        Err(Refusal::CredentialMissing) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// What has just been done, where our own redirect says so.
fn notice(visit: &EndpointContext<'_>) -> Option<&'static str> {
    visit
        .done()
        .filter(|done| done.as_str() == "signed-out")
        .map(|_| "You are signed out.")
}

/// POST. A session that is there already is replaced.
pub(super) async fn submit(
    visit: &EndpointContext<'_>,
    mut fields: Fields,
) -> Result<EndpointResponse, Box<EndpointError>> {
    if !visit.login.password {
        return Err(Refusal::RouteMissing.into());
    }
    if visit.speaks_json(&fields) {
        let account = prove(visit, &mut fields).await?;
        return Ok(open_client(visit, account).await?);
    }
    // A form that is sent to the address of the page itself has both still in the query.
    let way = Way::of(visit, fields.take(Field::ReturnTo), fields.take(Field::Attempt));
    if !visit.has_forms() {
        return Err(visit.refuse_form(&way.link(visit)));
    }
    let signed_in = async {
        let account = prove(visit, &mut fields).await?;
        Ok(visit
            .open_browser(account, visit.by_password(), way.then.clone(), None)
            .await?)
    };
    signed_in.await.map_err(|failure: Box<EndpointError>| {
        visit.show_form(failure, |_, status, error| {
            way.shown(visit, status, fields.peek(Field::Email), Some(error))
        })
    })
}

/// The destination after sign-in, as it was written and as it is meant.
pub(super) struct Way {
    /// A return address that is fine.
    pub(super) return_to: Option<Zeroizing<String>>,
    /// The hash of a nonce, in its one spelling.
    pub(super) attempt: Option<Zeroizing<String>>,
    pub(super) then: Then,
    /// What the route of the return address asks of the sign-in.
    pub(super) step_up: Option<StepUp>,
}

impl Way {
    /// What a form says, else the query.
    pub(super) fn of(
        visit: &EndpointContext<'_>,
        return_to: Option<Zeroizing<String>>,
        attempt: Option<Zeroizing<String>>,
    ) -> Self {
        let or_query =
            |said: Option<Zeroizing<String>>, name| said.or_else(|| parameter(visit.asked.query, name));
        Self::new(
            visit,
            or_query(return_to, return_to::PARAMETER)
                .or_else(|| parameter(visit.asked.query, return_to::OTHER_NAME)),
            or_query(attempt, attempt::PARAMETER),
        )
    }

    /// What is said, and nothing else.
    pub(super) fn new(
        visit: &EndpointContext<'_>,
        return_to: Option<Zeroizing<String>>,
        attempt: Option<Zeroizing<String>>,
    ) -> Self {
        let sites = &visit.login.sites;
        // A page of the host that was asked, by its absolute address, is one by its path.
        let return_to = return_to.map(|text| visit.path_of_this_host(text));
        let accepted = return_to
            .as_ref()
            .and_then(|text| sites.accept(text, visit.prefix));
        let step_up = accepted.as_ref().and_then(|to| visit.step_up(to));
        let nonce = attempt.as_ref().and_then(|text| attempt::parse(text));
        let (is_fine, is_attempt) = (
            accepted.is_some(),
            matches!(accepted, Some(ReturnTo::Named { .. })) && nonce.is_some(),
        );
        let then = Then::new(sites, visit.prefix, accepted, nonce);
        Self {
            return_to: return_to.filter(|_| is_fine),
            attempt: attempt.filter(|_| is_attempt),
            then,
            step_up,
        }
    }

    /// The path, where it is one of the host that was asked.
    fn path_here(&self) -> Option<&str> {
        let written = self
            .return_to
            .as_ref()
            .map_or("/", |return_to| return_to.as_str());
        written.starts_with('/').then_some(written)
    }

    /// The providers, each with the way there and back.
    fn providers(&self, visit: &EndpointContext<'_>) -> Vec<ProviderLink> {
        let link = |choice: Choice<'_>| ProviderLink {
            label: choice.label.to_owned(),
            url: self.address(format!("{}/login/{}", visit.prefix, choice.name)),
        };
        let only = self
            .step_up
            .as_ref()
            .and_then(|step_up| step_up.provider.as_deref());
        let choices = visit.login.providers.choices();
        choices
            .filter(|choice| only.is_none_or(|only| only == choice.name))
            .map(link)
            .collect()
    }

    /// The sign-in page of this host, with the same destination.
    pub(super) fn again(&self, visit: &EndpointContext<'_>) -> String {
        self.address(format!("{}/login", visit.prefix))
    }

    /// `path` with the destination in its query.
    fn address(&self, path: String) -> String {
        let mut url = path;
        let parameters = [
            (return_to::PARAMETER, &self.return_to),
            (attempt::PARAMETER, &self.attempt),
        ];
        for (name, value) in parameters {
            let Some(value) = value else { continue };
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(name);
            url.push('=');
            return_to::encode(value, &mut url);
        }
        url
    }

    /// Whether a password is a way to the page.
    fn takes_password(&self, visit: &EndpointContext<'_>) -> bool {
        visit.login.password && self.step_up.as_ref().is_none_or(StepUp::takes_password)
    }

    /// The page with the form.
    fn shown(
        &self,
        visit: &EndpointContext<'_>,
        status: StatusCode,
        email: &str,
        error: Option<FormError<'_>>,
    ) -> Response<Bytes> {
        let text = |text: &'_ Option<Zeroizing<String>>| text.as_ref().map(|text| text.to_string());
        let (return_to, attempt) = (text(&self.return_to), text(&self.attempt));
        // The notice and the present account are shown only where nothing went wrong since.
        let again = visit.needs_again(self.step_up.as_ref());
        let person = visit.known_person().filter(|_| error.is_none() && !again);
        let providers = self.providers(visit);
        let form = SignInForm {
            providers: &providers,
            providers_only: !self.takes_password(visit),
            again,
            email,
            return_to: return_to.as_deref(),
            attempt: attempt.as_deref(),
            notice: notice(visit).filter(|_| error.is_none()),
            person: person.as_ref(),
        };
        visit.login.pages.sign_in(status, form, error)
    }

    /// The sign-in page at `public_url`, with the return address; without an attempt, which is of one host. A host that
    /// takes part, where the browser came by the wrong scheme, begins one once it is asked by the right one.
    fn link(&self, visit: &EndpointContext<'_>) -> String {
        let (sites, site) = (&visit.login.sites, &visit.site);
        let mut link = match site.place {
            Place::Named if !site.keeps_cookie => {
                sites.url(&site.authority, &format!("{}/login", visit.prefix))
            }
            Place::Named | Place::Home | Place::Other => visit.at_home("/login"),
        };
        // A path is one of the host that the link is to, or of the same page at `public_url`.
        let return_to = match (self.path_here(), &self.return_to) {
            (Some(path), _) if site.place == Place::Named && site.keeps_cookie => {
                sites.url(&site.authority, path)
            }
            (Some("/"), _) | (None, None) => return link,
            (Some(path), _) => path.to_owned(),
            (None, Some(address)) => address.to_string(),
        };
        link.push('?');
        link.push_str(return_to::PARAMETER);
        link.push('=');
        return_to::encode(&return_to, &mut link);
        link
    }
}

async fn prove(visit: &EndpointContext<'_>, fields: &mut Fields) -> Result<AccountRow, Box<EndpointError>> {
    fields.require_all(&[Field::Email, Field::Password])?;
    let password = fields.require(Field::Password)?;
    let email = fields.peek(Field::Email).to_owned();
    visit
        .prove(&email.clone(), password, move |accounts| accounts.attempt(&email))
        .await
}

async fn open_client(visit: &EndpointContext<'_>, account: AccountRow) -> Result<EndpointResponse, Refusal> {
    let (device, how, now) = (visit.device(), visit.by_password(), visit.now);
    let (opened, account) = visit
        .state(move |_, sessions| Ok((sessions.open_client(&account, how, &device)?, account)))
        .await?;
    let answered = tokens::answer(&opened, visit.login.refresh_cookie.as_ref())?;
    Ok(answered.by_caller(caller(account, opened.session_id, now)))
}
