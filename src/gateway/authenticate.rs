//! The credentials of a request: the kinds of them in their order, until one is good.
//!
//! Input: the head of a request. Output: a [`Found`], which may hold an [`Authenticated`] caller, or a refusal. Invariants:
//! an invalid credential in a header or the query never counts as none; a credential that browsers send by themselves
//! proves nothing about a request of another site.
//!
//! A kind of credential is a function here, or in a file of its own, that returns [`Found`], and a line in [`KINDS`].

use std::sync::Arc;

use http::HeaderValue;
use http::header::ORIGIN;

use super::Gateway;
use super::head::RequestHead;
use super::session_cookie::SessionCredential;
use super::tokens::{SignatureGuard, Tokens};
use super::trace::{Silent, Trace};
use crate::credential::{self, Source};
use crate::http::origin::{self, ListedOrigins, Unforged};
use crate::identity::Caller;
use crate::login::BouncePage;
use crate::observe::Attempt;
use crate::refusal::Refusal;
use crate::session::Sessions;
use crate::verify::Verified;

/// The kinds of credentials, in the order in which they are looked for.
const KINDS: [Kind; 2] = [Kind::Token, Kind::Session];

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A token in one of `credentials.sources`.
    Token,
    /// The session cookie.
    Session,
}

impl Kind {
    async fn find<'g, T: Trace>(
        self,
        head: &RequestHead<'_>,
        sent: &Sent<'g>,
        listed: Option<&ListedOrigins>,
        trace: &mut T,
    ) -> Result<Found<'g>, Refusal> {
        match self {
            Self::Token => find_token(head, sent, trace).await,
            Self::Session => find_session(head, sent, listed, trace).await,
        }
    }
}

/// How the credentials of a request are verified.
#[derive(Clone, Debug)]
pub enum Credentials<'g> {
    /// Those that the request holds.
    Sent(Sent<'g>),
    /// None is read; this is the caller.
    Given(Option<Arc<Caller>>),
    /// None is read; they are refused for this reason.
    Refused(Refusal),
}

/// What verifies the credentials that a request holds.
#[derive(Clone, Debug)]
pub struct Sent<'g> {
    pub(super) gateway: &'g Gateway,
    /// For tokens of the sources.
    pub(super) tokens: Tokens<'g>,
    /// For the session cookie.
    pub(super) session_tokens: Tokens<'g>,
}

impl<'g> Sent<'g> {
    /// What keeps the client from having many badly signed tokens verified.
    fn guard(&self, head: &RequestHead<'_>) -> SignatureGuard<'g> {
        SignatureGuard {
            rate_limits: &self.gateway.rate_limits,
            client: head.client_ip,
        }
    }
}

impl<'g> Credentials<'g> {
    /// Credentials that are verified step by step, without caches and without the network. A session whose token has
    /// expired is looked up in `sessions`, and not renewed.
    #[must_use]
    pub fn examined(gateway: &'g Gateway, sessions: Option<&'g Sessions>) -> Self {
        Self::Sent(Sent {
            gateway,
            tokens: Tokens::Examined(sessions),
            session_tokens: Tokens::Examined(sessions),
        })
    }
}

/// A caller, and the credential that named them.
#[derive(Clone, Debug)]
pub struct Authenticated<'g> {
    /// What the credential grants.
    pub(super) grant: Grant,
    /// Where the credential was; `None` for the session cookie.
    pub source: Option<&'g Source>,
}

impl Authenticated<'_> {
    /// The caller. Its identity has the name of the issuer and the time until which the credential is good.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        self.grant.caller()
    }

    /// Whether browsers send the credential by themselves.
    pub(super) fn is_by_cookie(&self) -> bool {
        self.source
            .is_none_or(|source| source.kind() == credential::Kind::Cookie)
    }
}

/// What a good credential grants, until it is revoked.
#[derive(Clone, Debug)]
pub(super) enum Grant {
    /// A token of an issuer, or of a session.
    Token(Arc<Verified>),
    /// A caller without a credential, which nothing revokes.
    Given(Arc<Caller>),
}

impl Grant {
    pub(super) fn caller(&self) -> &Arc<Caller> {
        match self {
            Self::Token(verified) => &verified.caller,
            Self::Given(caller) => caller,
        }
    }

    /// The key that revocations of the credential are kept under.
    pub(super) fn revocation_key(&self) -> Option<&str> {
        match self {
            Self::Token(verified) => Some(verified.issuer.revocation_key()),
            Self::Given(_) => None,
        }
    }
}

/// What the credentials of a request came to.
#[derive(Debug, Default)]
pub struct Found<'g> {
    /// The caller; `None` where there is no credential, or none that counts.
    pub authenticated: Option<Authenticated<'g>>,
    /// For the session cookie: a new one, or its deletion.
    pub set_cookie: Option<HeaderValue>,
}

impl<'g> Found<'g> {
    /// A caller whom a session cookie names.
    pub(super) fn by_session(verified: Arc<Verified>, set_cookie: Option<HeaderValue>) -> Self {
        Self {
            authenticated: Some(Authenticated {
                grant: Grant::Token(verified),
                source: None,
            }),
            set_cookie,
        }
    }

    fn by_token(verified: Arc<Verified>, source: &'g Source) -> Self {
        Self {
            authenticated: Some(Authenticated {
                grant: Grant::Token(verified),
                source: Some(source),
            }),
            set_cookie: None,
        }
    }

    /// The caller.
    #[must_use]
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.authenticated.as_ref().map(Authenticated::caller)
    }
}

/// The first credential that is there and good. A cookie counts also where a page of a `listed` origin asks.
///
/// # Errors
/// What is wrong with a credential in a header or the query; [`Refusal::CrossSite`] for a cookie that another site made the
/// browser send; 503 where a credential cannot be verified now.
pub(super) async fn authenticate<'g, T: Trace>(
    head: &RequestHead<'_>,
    credentials: &Credentials<'g>,
    public_https: Option<bool>,
    listed: Option<&ListedOrigins>,
    trace: &mut T,
) -> Result<Found<'g>, Refusal> {
    let sent = match credentials {
        Credentials::Sent(sent) => sent,
        Credentials::Refused(refusal) => {
            trace.step("credential", false, || format!("refused as before: {refusal}"));
            return Err(*refusal);
        }
        Credentials::Given(caller) => {
            let grant = caller.clone().map(Grant::Given);
            if let Some(grant) = &grant {
                trace.step("credential", true, || {
                    format!("asked as `{}`, without a token", grant.caller().identity.subject)
                });
                // The page of an origin has the caller by a cookie.
                if head.parts.headers.contains_key(ORIGIN) {
                    unforged(head, public_https, listed, trace)?;
                }
            }
            return Ok(Found {
                authenticated: grant.map(|grant| Authenticated { grant, source: None }),
                set_cookie: None,
            });
        }
    };
    let mut set_cookie = None;
    trace.looks_for_credentials();
    for kind in KINDS {
        let found = kind.find(head, sent, listed, trace).await?;
        if let Some(authenticated) = &found.authenticated {
            if authenticated.is_by_cookie() {
                unforged(head, public_https, listed, trace).inspect_err(|refusal| {
                    trace.attempt(Attempt {
                        source: Attempt::NO_SOURCE,
                        refusal: Some(*refusal),
                    });
                })?;
            }
            return Ok(found);
        }
        set_cookie = set_cookie.or(found.set_cookie);
    }
    Ok(Found {
        authenticated: None,
        set_cookie,
    })
}

/// The proof that no page of another origin made the browser send this, but for a `listed` one.
///
/// # Errors
/// [`Refusal::CrossSite`].
pub(super) fn unforged<T: Trace>(
    head: &RequestHead<'_>,
    public_https: Option<bool>,
    listed: Option<&ListedOrigins>,
    trace: &mut T,
) -> Result<Unforged, Refusal> {
    let (method, headers) = (&head.parts.method, &head.parts.headers);
    let unforged = Unforged::check(method, headers, head.host.as_sent(), public_https, listed);
    if T::IS_READ
        && unforged.is_some()
        && let Some(origin) = listed.and_then(|listed| listed.find(headers))
    {
        trace.step("credential", true, || {
            format!(
                "a page of `{}` made the browser send this, which is a listed origin",
                String::from_utf8_lossy(origin.as_bytes())
            )
        });
    }
    unforged.ok_or_else(|| {
        trace.step("credential", false, || {
            "a page of another origin made the browser send this".to_owned()
        });
        Refusal::CrossSite
    })
}

/// The first good token of the sources. An invalid one in a cookie counts as none, because browsers send cookies by
/// themselves.
async fn find_token<'g, T: Trace>(
    head: &RequestHead<'_>,
    sent: &Sent<'g>,
    trace: &mut T,
) -> Result<Found<'g>, Refusal> {
    let sources = &sent.gateway.sources;
    let (headers, query) = (&head.parts.headers, head.target.query());
    let mut after = None;
    loop {
        let next = sources.find_after(after, headers, query);
        if T::IS_READ {
            for (passed, text) in sources.told(after, headers, query) {
                trace.step("credential", passed, || text);
            }
        }
        let next = next.inspect_err(|refusal| {
            trace.attempt(Attempt {
                source: Attempt::NO_SOURCE,
                refusal: Some(*refusal),
            });
        });
        let Some(credential) = next? else {
            return Ok(Found::default());
        };
        let verified = verify(head, sent, &credential.token, trace).await;
        let place = sources
            .as_slice()
            .iter()
            .position(|source| std::ptr::eq(source, credential.source));
        trace.attempt(Attempt {
            source: place
                .and_then(|place| u8::try_from(place).ok())
                .unwrap_or(Attempt::NO_SOURCE),
            refusal: verified.as_ref().err().copied(),
        });
        match verified {
            Ok(verified) => return Ok(Found::by_token(verified, credential.source)),
            Err(refusal) if credential.kind == credential::Kind::Cookie && refusal.is_invalid_token() => {
                trace.step("credential", true, || {
                    format!("a bad cookie is as good as none ({refusal})")
                });
                after = Some(credential.source);
            }
            Err(refusal) => return Err(refusal),
        }
    }
}

/// The caller whom a source names, of whatever roles: for a request to sign out.
///
/// # Errors
/// What is wrong with the credential.
pub(super) async fn find_token_to_sign_out<'g>(
    head: &RequestHead<'_>,
    sent: &Sent<'g>,
) -> Result<Found<'g>, Refusal> {
    let gateway = sent.gateway;
    let Some(credential) = gateway.sources.find(&head.parts.headers, head.target.query())? else {
        return Ok(Found::default());
    };
    let verified = match verify(head, sent, &credential.token, &mut Silent).await {
        Err(Refusal::Stale) => gateway
            .verifier
            .verify_expired(&credential.token, gateway.clock.now())?,
        verified => verified?,
    };
    Ok(Found::by_token(verified, credential.source))
}

async fn verify<T: Trace>(
    head: &RequestHead<'_>,
    sent: &Sent<'_>,
    token: &str,
    trace: &mut T,
) -> Result<Arc<Verified>, Refusal> {
    let (verifier, clock) = (&sent.gateway.verifier, &sent.gateway.clock);
    let guard = Some(sent.guard(head));
    match sent.tokens.verify(verifier, token, clock.now(), guard, trace) {
        // The issuer may have a new key; it is asked at most once a cooldown.
        Err(refused) if matches!(sent.tokens, Tokens::Cached(_)) && refused.refetch().await => {
            Ok(sent.tokens.verify(verifier, token, clock.now(), guard, trace)?)
        }
        verified => Ok(verified?),
    }
}

/// The session cookie. Pages of `listed` origins may have it sent.
pub(super) async fn find_session<'g, T: Trace>(
    head: &RequestHead<'_>,
    sent: &Sent<'g>,
    listed: Option<&ListedOrigins>,
    trace: &mut T,
) -> Result<Found<'g>, Refusal> {
    let Some(sign_in) = &sent.gateway.sign_in else {
        return Ok(Found::default());
    };
    let (headers, host) = (&head.parts.headers, head.host.name());
    if sent.gateway.ignores_session_cookie(head, listed) {
        if !matches!(sign_in.find(headers), Ok(None)) {
            trace.step("credential", true, || {
                format!(
                    "session cookie `{}`: a page of another site made the browser send it, which is as good as none",
                    sign_in.cookie
                )
            });
        }
        return Ok(Found::default());
    }
    let clock = &sent.gateway.clock;
    let presented = sign_in
        .present(sent.session_tokens, headers, host, clock, sent.guard(head), trace)
        .await;
    let outcome = match &presented {
        Ok(SessionCredential::Nothing) => None,
        Ok(SessionCredential::Good(..)) => Some(None),
        Ok(SessionCredential::Bad(refusal)) | Err(refusal) => Some(Some(*refusal)),
    };
    if let Some(refusal) = outcome {
        trace.attempt(Attempt {
            source: Attempt::SESSION,
            refusal,
        });
    }
    match presented? {
        SessionCredential::Nothing => Ok(Found::default()),
        SessionCredential::Bad(refusal) => {
            if matches!(sent.session_tokens, Tokens::Cached(_)) {
                sign_in.bounces.note_refused(page_of(head), refusal);
            }
            Ok(Found {
                authenticated: None,
                set_cookie: sign_in.clear(refusal),
            })
        }
        SessionCredential::Good(verified, set_cookie) => Ok(Found::by_session(verified, set_cookie)),
    }
}

/// The page that a request is for.
pub(super) fn page_of<'h>(head: &'h RequestHead<'_>) -> BouncePage<'h> {
    BouncePage {
        client: head.client_ip,
        headers: &head.parts.headers,
        host: head.host.name(),
        path: head.target.as_str(),
    }
}

impl Gateway {
    /// Whether the session cookie of a request counts as absent: it is `SameSite=None`, and under `Lax` the browser would not
    /// have sent it. A page of a listed origin may have it sent: of `session.origins`, or of those in `listed`.
    pub(super) fn ignores_session_cookie(
        &self,
        head: &RequestHead<'_>,
        listed: Option<&ListedOrigins>,
    ) -> bool {
        let (method, headers, host) = (&head.parts.method, &head.parts.headers, head.host.as_sent());
        self.sign_in
            .as_ref()
            .is_some_and(|sign_in| sign_in.same_site_none)
            && self.origins.find(headers).is_none()
            && listed.is_none_or(|listed| listed.find(headers).is_none())
            && origin::is_without_lax_cookies(method, headers, host, self.public_https)
    }
}
