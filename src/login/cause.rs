//! Why a browser that was signed in has no session that counts, and the page that says so.
//!
//! Input: a request for the sign-in page, or the way back from a provider. Output: the likely cause, in words for the user and
//! for the log; a redirect to the host of `public_url`. Invariant: no redirect leads anywhere else.

use http::HeaderValue;

use super::context::EndpointContext;
use super::form::parameter;
use super::response::{EndpointError, EndpointResponse};
use super::then::Then;
use crate::identity_headers::scheme::Scheme;
use crate::pages::StopPage;
use crate::refusal::Refusal;

/// The parameter by which a browser that was sent to `public_url` is known.
const MOVED: &str = "moved";

/// Why the sessions do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The browser does not send the cookie.
    CookieBlocked,
    /// It sends two.
    CookieRepeated,
    /// Another gateway made it.
    CookieForeign,
    /// It is sent, and not valid at this time.
    Clock,
    /// The browser uses plain HTTP, over which it keeps no `Secure` cookie.
    Http,
    /// The host of the browser is not that of `public_url`.
    Domain,
}

impl Cause {
    /// Why no session of the browser of this request counts. `counts_here`: it does for the sign-in page, on the same host.
    fn of(visit: &EndpointContext<'_>, refused: Option<Refusal>, counts_here: bool) -> Self {
        match refused {
            _ if counts_here => Self::Clock,
            Some(Refusal::CredentialMalformed) => Self::CookieRepeated,
            Some(Refusal::NotYetValid | Refusal::Expired | Refusal::TooOld) => Self::Clock,
            Some(_) => Self::CookieForeign,
            None => Self::of_no_cookie(visit),
        }
    }

    /// Why the browser of this request sends no cookie.
    pub(super) fn of_no_cookie(visit: &EndpointContext<'_>) -> Self {
        let (asked, sites) = (&visit.asked, &visit.login.sites);
        // A browser sends `Sec-Fetch-*` over HTTPS, and over plain HTTP never (Fetch Metadata section 2).
        let may_be_http = asked.may_be_proxy || asked.scheme != Scheme::Https;
        if sites.is_https() && may_be_http && !asked.headers.contains_key("sec-fetch-mode") {
            Self::Http
        } else if asked.host.name() != sites.home() {
            Self::Domain
        } else {
            Self::CookieBlocked
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::CookieBlocked => "cookie-blocked",
            Self::CookieRepeated => "cookie-repeated",
            Self::CookieForeign => "cookie-foreign",
            Self::Clock => "clock",
            Self::Http => "http",
            Self::Domain => "domain",
        }
    }

    /// What the user reads; `site` is where people sign in, `host` is what the page was asked under.
    pub(super) fn words(self, site: &str, host: &str) -> String {
        match self {
            Self::CookieBlocked => format!(
                "The browser does not send the cookie of the sign-in. It blocks the cookies of {host}, or an extension removes \
                 them. Allow cookies for {host}, then try again."
            ),
            Self::CookieRepeated => format!(
                "The browser sends two different session cookies, and neither counts. Delete the cookies of {host}, then try again."
            ),
            Self::CookieForeign => format!(
                "The session cookie was made by another gateway, or for another account of it. Delete the cookies of {host}, then \
                 try again. If that does not help, the gateways behind {host} do not share one state."
            ),
            Self::Clock => "The session counts as expired, too old or not yet valid as soon as it is opened: the clocks of the \
                            servers differ. The operator of this site can correct that."
                .to_owned(),
            Self::Http => format!(
                "The page was opened over http, where the browser does not keep the session cookie. Open {site} in its place. If \
                 the address already begins with https, the proxy in front does not tell the gateway."
            ),
            Self::Domain => format!(
                "The page was opened as {host}, and the sign-in is at {site}: the cookie of one does not count at the other. Open \
                 {site} in its place. If that is the address already, a proxy in front changes the host."
            ),
        }
    }

    /// What the user reads whose sign-in with a provider has no cookie in the browser.
    pub(super) fn words_of_attempt(self, site: &str, host: &str) -> String {
        let more = match self {
            Self::CookieBlocked => format!(
                "It took longer than 10 minutes, it began in another browser, or the browser blocks the cookies of {host}. \
                 Please sign in again. If that does not help, allow cookies for {host}."
            ),
            cause => cause.words(site, host),
        };
        format!("This sign-in cannot be completed: the browser sent no cookie of it. {more}")
    }

    /// Notes it for the operator.
    pub(super) fn log(self, visit: &EndpointContext<'_>, host: &str, what: &'static str) {
        tracing::warn!(
            cause = self.name(),
            host,
            client = %visit.asked.client,
            request_id = visit.asked.request_id,
            "{what}"
        );
    }
}

impl EndpointContext<'_> {
    /// 302 to `url`, which is at `public_url`, before a browser signs in that has come by another host.
    ///
    /// # Errors
    /// `SignInElsewhere` where it was sent there once already: a proxy in front changes `Host`.
    pub(super) fn move_home(&self, url: &str) -> Result<EndpointResponse, Box<EndpointError>> {
        if parameter(self.asked.query, MOVED).is_some() {
            let host = self.asked.host.as_sent();
            Cause::Domain.log(
                self,
                host,
                "requests for the host of `public_url` come with another `Host`",
            );
            return Err(self.refuse_with_cause(Refusal::SignInElsewhere, Cause::Domain, host, (None, url)));
        }
        let separator = if url.contains('?') { '&' } else { '?' };
        let location = format!("{url}{separator}{MOVED}=1");
        let location = HeaderValue::try_from(location).map_err(|_| Refusal::Internal)?;
        Ok(EndpointResponse::found(location))
    }

    /// The refusal of a browser at the sign-in page that has come here from a sign-in for the third time in a row. It has a
    /// page with the likely cause, which leads to the page once more, and to `sign_in`. `again`: a session that counts is not
    /// enough.
    ///
    /// # Errors
    /// `SignInLoop`.
    pub(super) fn stop_loop(
        &self,
        then: &Then,
        again: bool,
        sign_in: &str,
    ) -> Result<(), Box<EndpointError>> {
        let Some(page) = self.page_after(then) else {
            return Ok(());
        };
        let is_here = matches!(then, Then::Page(_));
        let counts_here = is_here && self.browser_session().is_some();
        if counts_here && !again {
            return Ok(());
        }
        let by_session = is_here && !counts_here;
        let Some(stopped) = self.login.bounces.came_back(page, by_session, self.now) else {
            return Ok(());
        };
        let cause = Cause::of(self, stopped.refused, counts_here);
        cause.log(
            self,
            page.host,
            "a browser was signed in three times in a row, and none of the sessions counted",
        );
        let page_url = match then {
            Then::Host { destination, .. } => self.login.sites.url(&destination.host, &destination.return_to),
            Then::Page(path) => path.clone(),
        };
        Err(self.refuse_with_cause(Refusal::SignInLoop, cause, page.host, (Some(&page_url), sign_in)))
    }

    /// `refusal` with a page that names the cause, and leads on to what was asked for and to the sign-in page.
    pub(super) fn refuse_with_cause(
        &self,
        refusal: Refusal,
        cause: Cause,
        host: &str,
        (again, sign_in): (Option<&str>, &str),
    ) -> Box<EndpointError> {
        let detail = cause.words(self.login.sites.public_url(), host);
        let mut failure: Box<EndpointError> = refusal.into();
        failure.page = self.asked.browser.then(|| {
            let page = StopPage {
                status: refusal.status(),
                detail: &detail,
                request_id: self.asked.request_id,
                again,
                sign_in,
            };
            self.login.pages.sign_in_stopped(&page)
        });
        failure.detail = Some(detail);
        failure
    }
}
