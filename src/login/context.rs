//! One request for one of our own endpoints, and the services that answer it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::Map;
use zeroize::Zeroizing;

use super::bounces::{Bounces, Page};
use super::form::{Fields, Kind, parameter};
use super::provider::grants::{Grants, NewGrant};
use super::provider::registry::Providers;
use super::response::{EndpointError, EndpointResponse, field_of};
use super::setup_token::SetupToken;
use super::sites::{Place, ReturnTo, Site, Sites};
use super::then::Then;
use super::throttle::{ClientAddress, Throttle};
use crate::account::{Accounts, Hasher, LoginAttempt, fold_email};
use crate::audit::{self, Actor, Audit, Event, Origin, Whom};
use crate::authorize::{SignInClaims, StepUp};
use crate::blocking::Blocking;
use crate::clock::UnixSeconds;
use crate::http::headers::Host;
use crate::http::origin::Unforged;
use crate::http::{cookie, origin, reply};
use crate::identity::{Caller, Identity, SESSION_ISSUER};
use crate::identity_headers::scheme::Scheme;
use crate::pages::{FormError, Pages, Person};
use crate::refusal::Refusal;
use crate::session::{Device, RefreshCookie, Sessions};
use crate::state::{AccountRow, Authentication, EndCause, SessionSelector, StateError};
use crate::values::RedirectUri;

/// The services behind sign-in. `throttle` and `setup` are the process's, and outlive a configuration.
#[derive(Clone, Debug)]
pub struct Login {
    /// The accounts.
    pub accounts: Arc<Accounts>,
    /// The sessions.
    pub sessions: Arc<Sessions>,
    /// Hashes passwords.
    pub hasher: Arc<Hasher>,
    /// Runs work on the state.
    pub blocking: Arc<Blocking>,
    /// The audit log.
    pub(crate) audit: Audit,
    /// The hosts with sessions.
    pub sites: Arc<Sites>,
    /// The pages.
    pub pages: Arc<Pages>,
    /// Limits attempts.
    pub throttle: Arc<Throttle>,
    /// Notices sign-ins in a row whose sessions do not count.
    pub bounces: Arc<Bounces>,
    /// The link of the first run.
    pub setup: Arc<SetupToken>,
    /// Cookies of other issuers' tokens (`credentials.sources`), each with the `Set-Cookie` that deletes it.
    pub other_cookies: Arc<[(String, HeaderValue)]>,
    /// The providers that people can sign in with.
    pub(crate) providers: Arc<Providers>,
    /// What they granted for sessions, where it is kept.
    pub(crate) grants: Option<Arc<Grants>>,
    /// `session.redirect_uris`
    pub redirect_uris: Arc<[RedirectUri]>,
    /// Whether local accounts can sign in.
    pub password: bool,
    /// The cookie with the refresh token of a sign-in by JSON, where it is one (`session.refresh_cookie`).
    pub refresh_cookie: Option<RefreshCookie>,
    /// `password.registration`
    pub registration: bool,
    /// `password.admin_role`: the role that the link of the first run gives.
    pub admin_role: String,
}

/// What routes ask of a sign-in, as the gateway knows it.
pub trait SignInRules: std::fmt::Debug + Sync {
    /// What the route of a page asks; `host` as `Host::name` spells it, `path` with its query.
    fn step_up(&self, host: &str, path: &str) -> Option<&StepUp>;
}

/// A request for one of our own endpoints, as the gateway has understood it.
#[derive(Debug)]
pub struct EndpointRequest<'a> {
    /// One that the endpoint has.
    pub method: &'a Method,
    /// The raw query.
    pub query: Option<&'a str>,
    /// As sent.
    pub headers: &'a HeaderMap,
    /// No page of another site made it: such a page must not sign a browser in to an account of its choice either.
    pub unforged: Unforged,
    /// Whether it names its origin, which is the gateway's own or a listed one.
    pub is_of_known_origin: bool,
    /// The host.
    pub host: &'a Host,
    /// By which scheme, as the browser sees it.
    pub scheme: Scheme,
    /// Whether `public_url` is `https://`; `None` where the file has none.
    pub https: Option<bool>,
    /// The client's address, as a trusted proxy may have named it.
    pub client: IpAddr,
    /// Whether it is that of a local peer which is no trusted proxy, and so may be one that was not listed.
    pub may_be_proxy: bool,
    /// Whether the client wants a page (`http::reply::wants_page`).
    pub browser: bool,
    /// The id in the log line.
    pub request_id: &'a str,
    /// The caller, where one was found, as [`Access`](super::Access) says.
    pub caller: Option<Arc<Caller>>,
    /// Whether `caller` is by the session cookie.
    pub by_cookie: bool,
    /// What the route of the page after the sign-in asks of it.
    pub rules: &'a dyn SignInRules,
}

/// The session of ours that a caller has.
#[derive(Clone, Debug)]
pub(super) struct OwnSession {
    pub(super) id: String,
    pub(super) account_id: String,
}

/// What was asked, and by what it is answered.
#[derive(Debug)]
pub(super) struct EndpointContext<'a> {
    pub(super) asked: EndpointRequest<'a>,
    /// The id that the path names.
    pub(super) id: &'a str,
    pub(super) login: &'a Login,
    /// The host that was asked, as signing in sees it.
    pub(super) site: Site,
    pub(super) prefix: &'a str,
    pub(super) now: UnixSeconds,
    /// What was presented to sign in, once it is to be judged.
    pub(super) presented: OnceLock<Presented>,
}

/// What was presented to sign in, for the audit log.
#[derive(Clone, Debug, Default)]
pub(super) struct Presented {
    /// As it was typed, or as the provider named it.
    pub(super) email: Option<String>,
    /// The provider; `None`: a password, or a code.
    pub(super) provider: Option<String>,
}

impl EndpointContext<'_> {
    /// The session that the caller has with us. A caller without one – by a token of another issuer, or by one
    /// that was minted by hand – has nothing to show or to end here.
    pub(super) fn own_session(&self) -> Option<OwnSession> {
        let identity = &self.asked.caller.as_ref()?.identity;
        let id = identity
            .session_id
            .clone()
            .filter(|_| &*identity.issuer == SESSION_ISSUER)?;
        Some(OwnSession {
            id,
            account_id: identity.subject.clone(),
        })
    }

    /// The same where nothing can be done without.
    ///
    /// # Errors
    /// `CredentialMissing`, which redirects a browser to the sign-in page.
    pub(super) fn require_session(&self) -> Result<OwnSession, Refusal> {
        self.own_session().ok_or(Refusal::CredentialMissing)
    }

    /// The session of the cookie, which a browser gives up when it gets another one.
    pub(super) fn browser_session(&self) -> Option<OwnSession> {
        self.own_session().filter(|_| self.asked.by_cookie)
    }

    /// The account that pages name.
    pub(super) fn person(&self) -> Person {
        let identity = self.asked.caller.as_ref().map(|caller| &caller.identity);
        let (email, name) = identity
            .map(|who| (who.email.clone(), who.name.clone()))
            .unwrap_or_default();
        Person {
            email: email.unwrap_or_default(),
            name,
        }
    }

    /// The same where there is a session.
    pub(super) fn known_person(&self) -> Option<Person> {
        self.own_session().map(|_| self.person())
    }

    /// What is asked of the sign-in before a page at `to`.
    pub(super) fn step_up(&self, to: &ReturnTo<'_>) -> Option<StepUp> {
        let (host, path) = match to {
            ReturnTo::Here(path) => (self.asked.host.clone(), path),
            ReturnTo::Home(path) => (Host::parse(self.login.sites.home()).ok()?, path),
            ReturnTo::Named { authority, path } => (Host::parse(authority).ok()?, path),
        };
        self.asked.rules.step_up(host.name(), path).cloned()
    }

    /// Whether there is a session, and its sign-in is not enough for `step_up`.
    pub(super) fn needs_again(&self, step_up: Option<&StepUp>) -> bool {
        let own = self.own_session().and(self.asked.caller.as_ref());
        own.zip(step_up)
            .is_some_and(|(caller, step_up)| !step_up.is_met(SignInClaims::of(&caller.identity), self.now))
    }

    /// What our own redirect says was just done: a link on another site must not make the page say that a password was
    /// changed, or that the session has ended.
    pub(super) fn done(&self) -> Option<Zeroizing<String>> {
        let done = parameter(self.asked.query, "done")?;
        (!origin::is_cross_origin(self.asked.headers, self.asked.host.as_sent(), self.asked.https))
            .then_some(done)
    }

    /// Whether who sent `fields` reads JSON. A form is a browser's, and where nothing was sent the head decides: some
    /// clients call nothing a form.
    pub(super) fn speaks_json(&self, fields: &Fields) -> bool {
        match fields.kind() {
            Kind::Json => true,
            Kind::Form => fields.is_nothing() && reply::is_program(self.asked.headers),
            Kind::Empty => !self.asked.browser,
        }
    }

    /// What attempts are counted against, besides the account.
    pub(super) fn client_address(&self) -> ClientAddress {
        ClientAddress {
            ip: self.asked.client,
            may_be_proxy: self.asked.may_be_proxy,
        }
    }

    pub(super) fn device(&self) -> Device {
        let agent = self
            .asked
            .headers
            .get(USER_AGENT)
            .map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        Device {
            user_agent: agent.unwrap_or_default().into_owned(),
            address: self.asked.client,
        }
    }

    /// A path of ours as a `Location`.
    pub(super) fn to(&self, rest: &'static str) -> HeaderValue {
        HeaderValue::try_from(format!("{}{rest}", self.prefix)).unwrap_or(HeaderValue::from_static("/"))
    }

    /// The path of a page of this host, which a route names, where `return_to` is its absolute address; else `return_to`.
    pub(super) fn path_of_this_host(&self, return_to: Zeroizing<String>) -> Zeroizing<String> {
        let path = match self.login.sites.accept(&return_to, self.prefix) {
            Some(ReturnTo::Named { authority, path })
                if self.site.place == Place::Named && authority == self.site.authority =>
            {
                path.to_owned()
            }
            _ => return return_to,
        };
        Zeroizing::new(path)
    }

    /// Whether there is a form here that gives a browser a session: on the host of `public_url` alone, and by a scheme over
    /// which the browser keeps the cookie.
    pub(super) fn has_forms(&self) -> bool {
        self.site.place == Place::Home && self.site.keeps_cookie
    }

    /// The page in place of a form, with a link to where the form is.
    pub(super) fn elsewhere(&self, status: StatusCode, url: &str) -> Response<Bytes> {
        self.login
            .pages
            .elsewhere(status, self.login.sites.public_url(), url)
    }

    /// The refusal of a form that was sent to a host, or over a scheme, where the session's cookie could not be kept.
    pub(super) fn refuse_form(&self, url: &str) -> Box<EndpointError> {
        let mut failure: Box<EndpointError> = Refusal::SignInElsewhere.into();
        failure.page = Some(self.elsewhere(StatusCode::FORBIDDEN, url));
        failure
    }

    /// The failure with the form to try again, where the input of the form is the reason.
    pub(super) fn show_form(
        &self,
        mut failure: Box<EndpointError>,
        page: impl FnOnce(&Pages, StatusCode, FormError<'_>) -> Response<Bytes>,
    ) -> Box<EndpointError> {
        if let Some(words) = failure.words(self.login.accounts.policy().min_length) {
            let error = FormError {
                message: &words,
                field: failure.field.or(field_of(failure.refusal)),
            };
            let mut page = page(&self.login.pages, failure.refusal.status(), error);
            if let Some(seconds) = failure.retry_after {
                page.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            failure.page = Some(page);
        }
        failure
    }

    /// An endpoint of ours at `public_url`.
    pub(super) fn at_home(&self, rest: &str) -> String {
        format!("{}{}{rest}", self.login.sites.public_url(), self.prefix)
    }

    /// 303 to the sign-in page, which says so, for a browser that has no session any more: its cookie goes, and with it the copies that
    /// the browser keeps of pages, so that the back button shows none of them. (`no-store` does that for our own pages;
    /// what apps allow to be kept, and pages kept for the back button, end by `Clear-Site-Data`.) Cookies and storage
    /// of the apps stay: they are theirs.
    ///
    /// From another host that is the page at `public_url`, without an attempt: signed in again at once, by another session
    /// that the browser has there, would not be signed out.
    pub(super) fn signed_out(&self) -> EndpointResponse {
        let (sites, site) = (&self.login.sites, &self.site);
        let location = match site.place {
            Place::Home => self.to("/login?done=signed-out"),
            Place::Named => sites.sign_in_url(self.prefix, Some((&site.authority, "/")), None),
            Place::Other => sites.sign_in_url(self.prefix, None, None),
        };
        self.without_cookie(EndpointResponse::see_other(location))
    }

    /// Takes the cookies of other issuers' tokens from a browser that has one: it would go before the session, so that who
    /// signs in would stay who it says, and who signs out would not be signed out.
    pub(super) fn without_others(&self, answered: EndpointResponse) -> EndpointResponse {
        let has = |name: &str| cookie::values(self.asked.headers, name).next().is_some();
        let deletions = self.login.other_cookies.iter().filter(|(name, _)| has(name));
        deletions.fold(answered, |answered, (_, deletion)| {
            answered.with_cookie(deletion.clone())
        })
    }

    /// The same as [`EndpointContext::signed_out`] for an answer that leads nowhere.
    pub(super) fn without_cookie(&self, answered: EndpointResponse) -> EndpointResponse {
        const CLEAR: http::HeaderName = http::HeaderName::from_static("clear-site-data");
        let answered = self.without_others(answered);
        answered
            .with_cookie(self.login.sessions.clear_cookie())
            .with(CLEAR, HeaderValue::from_static(r#""cache""#))
    }

    /// `Set-Cookie` that deletes the cookie with a refresh token, where there is such a cookie.
    pub(super) fn clear_refresh_cookie(&self) -> Option<HeaderValue> {
        self.login.refresh_cookie.as_ref().and_then(RefreshCookie::clear)
    }

    /// A password that was proven in this request.
    pub(super) fn by_password(&self) -> Authentication {
        Authentication::password(self.now)
    }

    /// Runs `work` on the state, on threads apart from the workers.
    pub(super) async fn state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Accounts, &Sessions) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.state_by(self.origin(), work).await
    }

    /// The same for another origin than the caller. What `work` does is in the audit log when this returns; where that cannot
    /// be written, sessions that it opened end.
    ///
    /// # Errors
    /// Those of `work`; `StateUnavailable` where the audit log cannot be written; `Overloaded`.
    pub(super) async fn state_by<T: Send + 'static>(
        &self,
        origin: Origin,
        work: impl FnOnce(&Accounts, &Sessions) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let (accounts, sessions) = (Arc::clone(&self.login.accounts), Arc::clone(&self.login.sessions));
        let audit = self.login.audit.clone();
        let recorded = move || match audit.scoped(&origin, || work(&accounts, &sessions)) {
            Ok(done) => done,
            Err(unrecorded) => {
                for id in unrecorded.opened {
                    if let Err(error) = sessions.end(SessionSelector::One(&id), EndCause::NotRecorded) {
                        tracing::error!(%error, session = id, "cannot end a session whose sign-in is not in the audit log");
                    }
                }
                Err(Refusal::StateUnavailable)
            }
        };
        self.login.blocking.run(recorded).await?
    }

    /// Who asks, and from where, for the audit log.
    pub(super) fn origin(&self) -> Origin {
        let actor = match self.own_session() {
            Some(own) => Actor::Account(Whom::new(
                &own.account_id,
                Some(&self.person().email)
                    .filter(|email| !email.is_empty())
                    .map(|email| email.as_str()),
            )),
            None => Actor::Client,
        };
        Origin {
            actor,
            client: Some(self.asked.client),
            request_id: Some(audit::text(self.asked.request_id)),
        }
    }

    /// Writes to the audit log that what was presented to sign in is refused. Attempts beyond the limits of the throttle are
    /// refused before anything is presented, and leave no line.
    ///
    /// # Errors
    /// `StateUnavailable` where it cannot be written; `Overloaded`.
    pub(super) async fn note_refused(&self, refusal: Refusal) -> Result<(), Refusal> {
        let Some(presented) = self.presented.get().filter(|_| self.login.audit.is_on()) else {
            return Ok(());
        };
        let foreign = |text: &Option<String>| text.as_deref().map(audit::text);
        let event = Event::SignInRefused {
            email: foreign(&presented.email),
            provider: foreign(&presented.provider),
            reason: refusal.reason(),
        };
        let (audit, origin) = (self.login.audit.clone(), self.origin());
        let write = move || audit.record(&origin, &[event]);
        self.login
            .blocking
            .run(write)
            .await?
            .map_err(|_| Refusal::StateUnavailable)
    }

    /// Verifies a password. Counted against `email` and the client's address before anything is looked up;
    /// what is done then, and how long it takes, does not depend on whether there is such an account.
    ///
    /// # Errors
    /// `Throttled`, `LoginRefused`, `Overloaded`, `StateUnavailable`.
    pub(super) async fn prove(
        &self,
        email: &str,
        password: Zeroizing<String>,
        begin: impl FnOnce(&Accounts) -> Result<LoginAttempt, StateError> + Send + 'static,
    ) -> Result<AccountRow, Box<EndpointError>> {
        let counted = self
            .login
            .throttle
            .attempt(&throttle_key(email), self.client_address())
            .map_err(EndpointError::throttled)?;
        let _ = self.presented.set(Presented {
            email: Some(email.to_owned()),
            provider: None,
        });
        let verified = async {
            let attempt = self.state(|accounts, _| Ok(begin(accounts)?)).await?;
            let verify = move || attempt.verify(&password);
            Ok::<_, Refusal>(self.login.hasher.run(self.asked.client, verify).await?)
        };
        match verified.await {
            Ok(Some(proof)) => {
                counted.succeeded(&proof.account.id);
                let account = proof.account.clone();
                if proof.rehash.is_some() {
                    let done = self.state(move |accounts, _| Ok(accounts.rehash(&proof)?)).await;
                    // The present hash stays valid, and the next sign-in tries again.
                    if let Err(refusal) = done {
                        tracing::warn!(%refusal, account = account.id, "cannot replace an outdated hash");
                    }
                }
                Ok(account)
            }
            Ok(None) => Err(Refusal::LoginRefused.into()),
            Err(refusal) => {
                counted.not_made();
                Err(refusal.into())
            }
        }
    }

    pub(super) fn page<'a>(&'a self, host: &'a str, path: &'a str) -> Page<'a> {
        Page {
            client: self.asked.client,
            headers: self.asked.headers,
            host,
            path,
        }
    }

    /// The page that the browser is sent to; `None` for one of another host, which begins an attempt of its own.
    pub(super) fn page_after<'a>(&'a self, then: &'a Then) -> Option<Page<'a>> {
        match then {
            Then::Page(path) if path.starts_with('/') => Some(self.page(self.asked.host.name(), path)),
            Then::Page(_) => None,
            Then::Host { destination, .. } => {
                Some(self.page(without_port(&destination.host), &destination.return_to))
            }
        }
    }

    /// A session was opened for a browser, which is led to `page` with its cookie.
    pub(super) fn note_opened(&self, page: Page<'_>, caller: &Identity) {
        let session_id = caller.session_id.as_deref().unwrap_or_default();
        self.login
            .bounces
            .opened(page, &caller.subject, session_id, self.now);
    }

    /// Opens a browser's session on this host, authenticated as `how` says, and leads on to `then`.
    ///
    /// Every sign-in opens a new session, and the former one of the browser ends: an id that another person planted or saw
    /// is worth nothing afterwards.
    ///
    /// # Errors
    /// `LoginRefused` where the account has changed meanwhile, `StateUnavailable`, `Overloaded`.
    pub(super) async fn open_browser(
        &self,
        account: AccountRow,
        how: Authentication,
        then: Then,
        grant: Option<NewGrant>,
    ) -> Result<EndpointResponse, Refusal> {
        let (device, former, now) = (self.device(), self.browser_session(), self.now);
        let host = self.site.name.clone();
        let here = matches!(then, Then::Page(_)).then(|| then.clone());
        let answered = self.state(move |_, sessions| {
            let cookie = sessions.open_browser(&account, how, &device, &host)?;
            if let Some(grant) = grant {
                grant.keep(&cookie.session_id, &account.id)?;
            }
            if let Some(former) = former
                && let Err(error) = sessions.end(SessionSelector::Own { id: &former.id, account_id: &former.account_id }, EndCause::Replaced)
            {
                // Its cookie is replaced all the same, and it ends by its limits.
                tracing::warn!(%error, session = former.id, "cannot end the session that a browser had before");
            }
            let location = then.location(sessions, &cookie.session_id, &account.id)?;
            let answered = EndpointResponse::see_other(location).with_cookie(cookie.set_cookie);
            Ok(answered.by_caller(caller(account, cookie.session_id, now)))
        });
        let answered = answered.await?;
        // On another host the session arrives with the code.
        if let (Some(page), Some(caller)) = (
            here.as_ref().and_then(|then| self.page_after(then)),
            &answered.caller,
        ) {
            self.note_opened(page, &caller.identity);
        }
        Ok(self.without_others(answered))
    }
}

/// The caller who has just signed in, for the log line.
pub(super) fn caller(account: AccountRow, session_id: String, now: UnixSeconds) -> Caller {
    Caller::new(Identity {
        issuer: SESSION_ISSUER.into(),
        roles: account.all_roles(),
        subject: account.id,
        email: Some(account.email).filter(|email| !email.is_empty()),
        name: account.name,
        scopes: Vec::new(),
        token_id: None,
        session_id: Some(session_id),
        issued_at: Some(now),
        expires_at: now,
        claims: Map::new(),
    })
}

/// What an account is called in the throttle. Another spelling is no other account; and all that is too long to be an
/// address is one, so that no time is spent on it.
fn throttle_key(email: &str) -> String {
    const LONGEST: usize = 254;
    if email.trim().len() > LONGEST {
        String::new()
    } else {
        fold_email(email)
    }
}

/// The name in an authority as `Sites::authority` spells it.
fn without_port(authority: &str) -> &str {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match authority.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => authority,
    }
}
