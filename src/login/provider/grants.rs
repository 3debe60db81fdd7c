//! What providers granted for sessions: kept encrypted, and used to read claims afresh.
//!
//! Input: the tokens of a sign-in; later the session as it is used. Output: the account with the claims of now, the end of a
//! session whose grant is gone, and an access token for an app. Invariants: a refresh token is exchanged by one process at a
//! time, and the next one is kept before anything else is asked; a provider that is down ends no session; no log has a token.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use moka::sync::Cache;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::admission::admitted;
use super::exchange::Fresh;
use super::registry::{Provider, Providers};
use super::seal::SealingKey;
use super::token_endpoint::{TokenFault, Tokens};
use crate::account::Accounts;
use crate::blocking::Blocking;
use crate::clock::{Clock, UnixSeconds};
use crate::refusal::Refusal;
use crate::session::Sessions;
use crate::state::{EndCause, GrantRow, Lease, SessionSelector, State};

/// How many grants are renewed at a time.
const AT_ONCE: usize = 8;
/// The longest wait until a session that another process has renewed is noticed.
const POLL: Duration = Duration::from_secs(5);
/// For how many seconds one process alone renews a grant; longer than it waits for a provider.
const LEASE: UnixSeconds = 60;
/// After how many seconds a provider that is down is asked again.
const RETRY: UnixSeconds = 5;
/// Seconds before its end from which an access token is not handed out any more.
const MARGIN: UnixSeconds = 10;
/// How long an access token is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// The most sessions whose access token is remembered.
const MOST_REMEMBERED: u64 = 10_000;

/// The grants of all sessions.
pub(crate) struct Grants {
    providers: Arc<Providers>,
    state: Arc<dyn State>,
    accounts: Arc<Accounts>,
    sessions: Arc<Sessions>,
    blocking: Arc<Blocking>,
    key: Arc<SealingKey>,
    clock: Clock,
    /// Whether a route hands access tokens to its app.
    forwards: bool,
    remembered: Cache<String, Arc<OnceCell<Option<HeaderValue>>>>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants")
            .field("forwards", &self.forwards)
            .finish_non_exhaustive()
    }
}

/// What grants are kept with.
pub(crate) struct GrantServices {
    pub(crate) providers: Arc<Providers>,
    pub(crate) state: Arc<dyn State>,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) blocking: Arc<Blocking>,
    pub(crate) clock: Clock,
}

/// The tokens of a grant, and when the access token ends; `None`: the provider has not said.
struct GrantTokens {
    refresh: Option<Zeroizing<String>>,
    access: Option<Zeroizing<String>>,
    access_until: Option<UnixSeconds>,
}

/// What a sign-in gave, for the session that it is about to open.
pub(in crate::login) struct NewGrant {
    grants: Arc<Grants>,
    provider: String,
    subject: String,
    tokens: GrantTokens,
}

/// Why a grant was not renewed.
enum Failure {
    /// For now: others try later.
    Later,
    /// The session must end.
    Over(&'static str),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::SignInNotAllowed => Self::Over("`tenants` of its provider names other tenants"),
            _ => Self::Later,
        }
    }
}

impl GrantTokens {
    fn of(tokens: &Tokens, now: UnixSeconds) -> Self {
        let until = |seconds| now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX));
        Self {
            refresh: tokens.refresh_token.clone(),
            access: tokens.access_token.clone(),
            access_until: tokens.expires_in.map(until),
        }
    }

    fn write(&self) -> Zeroizing<Vec<u8>> {
        let refresh = self.refresh.as_ref().map(|token| token.as_str());
        let access = self.access.as_ref().map(|token| token.as_str());
        let content = (refresh, access, self.access_until);
        Zeroizing::new(serde_json::to_vec(&content).unwrap_or_default())
    }

    fn read(content: &[u8]) -> Option<Self> {
        type Content = (Option<String>, Option<String>, Option<UnixSeconds>);
        let (refresh, access, access_until): Content = serde_json::from_slice(content).ok()?;
        Some(Self {
            refresh: refresh.map(Zeroizing::new),
            access: access.map(Zeroizing::new),
            access_until,
        })
    }

    /// The access token for an app, where it is good for a while.
    fn for_app(&self, now: UnixSeconds) -> Option<HeaderValue> {
        let is_good = self
            .access_until
            .is_none_or(|until| now.saturating_add(MARGIN) < until);
        let mut value = HeaderValue::from_str(self.access.as_deref().filter(|_| is_good)?).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl NewGrant {
    /// Keeps it for a session that has just been opened. Blocks.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(in crate::login) fn keep(&self, session_id: &str, account_id: &str) -> Result<(), Refusal> {
        let grants = &self.grants;
        let row = GrantRow {
            session_id: session_id.to_owned(),
            account_id: account_id.to_owned(),
            provider: self.provider.clone(),
            subject: self.subject.clone(),
            sealed: grants.seal(session_id, &self.tokens)?,
            refreshes: self.tokens.refresh.is_some(),
            read_at: grants.clock.now(),
        };
        grants.state.add_grant(&row)?;
        Ok(())
    }
}

impl Grants {
    pub(crate) fn new(services: GrantServices, key: Arc<SealingKey>, forwards: bool) -> Self {
        Self {
            providers: services.providers,
            state: services.state,
            accounts: services.accounts,
            sessions: services.sessions,
            blocking: services.blocking,
            clock: services.clock,
            key,
            forwards,
            remembered: Cache::builder()
                .max_capacity(MOST_REMEMBERED)
                .time_to_live(REMEMBERED_FOR)
                .build(),
        }
    }

    /// What is to be kept of a sign-in; `None`: nothing.
    pub(super) fn of_sign_in(
        self: &Arc<Self>,
        provider: &Provider,
        subject: &str,
        tokens: &Tokens,
    ) -> Option<NewGrant> {
        let plan = &provider.plan;
        let mut kept = GrantTokens::of(tokens, self.clock.now());
        if !plan.refresh {
            kept.refresh = None;
        } else if kept.refresh.is_none() {
            tracing::warn!(
                provider = plan.name,
                "the provider gave no refresh token, so that claims are not read afresh; it may need the scope `offline_access`"
            );
        }
        if !self.forwards {
            kept.access = None;
        }
        (kept.refresh.is_some() || kept.access.is_some()).then(|| NewGrant {
            grants: Arc::clone(self),
            provider: plan.name.clone(),
            subject: subject.to_owned(),
            tokens: kept,
        })
    }

    /// Renews grants of sessions that are in use, for ever.
    pub(crate) async fn keep_fresh(self: Arc<Self>) {
        loop {
            let leased = self.lease_due().await;
            if leased.is_empty() {
                let _ = tokio::time::timeout(POLL, self.sessions.renewed()).await;
                continue;
            }
            let mut renewing = JoinSet::new();
            for row in leased {
                let grants = Arc::clone(&self);
                renewing.spawn(async move { drop(grants.renew(row).await) });
            }
            renewing.join_all().await;
        }
    }

    async fn lease_due(&self) -> Vec<GrantRow> {
        let (state, lease) = (Arc::clone(&self.state), self.lease());
        let before = lease.now.saturating_sub(self.sessions.token_lifetime());
        let leased = self
            .blocking
            .run(move || state.lease_due_grants(before, lease, AT_ONCE))
            .await;
        leased
            .map_err(|refusal| refusal.to_string())
            .and_then(|leased| leased.map_err(|error| error.to_string()))
            .unwrap_or_else(|error| {
                tracing::warn!(error, "cannot look for grants of providers");
                Vec::new()
            })
    }

    fn lease(&self) -> Lease {
        let now = self.clock.now();
        Lease {
            now,
            until: now.saturating_add(LEASE),
        }
    }

    /// The access token of a session for an app.
    pub(crate) async fn access_token(self: &Arc<Self>, session_id: &str) -> Option<HeaderValue> {
        let cell = match self.remembered.get(session_id) {
            Some(cell) => cell,
            None => self.remembered.get_with(session_id.to_owned(), Arc::default),
        };
        cell.get_or_init(|| self.find_access_token(session_id))
            .await
            .clone()
    }

    async fn find_access_token(self: &Arc<Self>, session_id: &str) -> Option<HeaderValue> {
        let (state, id) = (Arc::clone(&self.state), session_id.to_owned());
        let row = self.blocking.run(move || state.grant(&id)).await.ok()?.ok()??;
        if let Some(value) = self.open(&row)?.for_app(self.clock.now()) {
            return Some(value);
        }
        let (state, id, lease) = (Arc::clone(&self.state), row.session_id, self.lease());
        let row = self
            .blocking
            .run(move || state.lease_grant(&id, lease))
            .await
            .ok()?
            .ok()??;
        self.renew(row).await?.for_app(self.clock.now())
    }

    /// Renews a grant that was leased. On the control runtime, where it goes on also if the caller does not wait any more: the
    /// next refresh token must not be lost.
    async fn renew(self: &Arc<Self>, row: GrantRow) -> Option<GrantTokens> {
        let grants = Arc::clone(self);
        let asked = self.providers.ask(None, async move {
            let (provider, session) = (row.provider.clone(), row.session_id.clone());
            let account = row.account_id.clone();
            match grants.exchange(row).await {
                Ok(tokens) => Ok(Some(tokens)),
                Err(Failure::Later) => {
                    grants.try_again(session).await?;
                    Ok(None)
                }
                Err(Failure::Over(reason)) => {
                    tracing::warn!(provider, session, reason, "a session is ended");
                    grants.end(session, account).await?;
                    Ok(None)
                }
            }
        });
        asked.await.unwrap_or_else(|refusal| {
            tracing::warn!(%refusal, "cannot renew the grant of a provider");
            None
        })
    }

    async fn try_again(&self, session: String) -> Result<(), Refusal> {
        let state = Arc::clone(&self.state);
        let at = self.clock.now().saturating_add(RETRY);
        let postpone = move || match state.grant(&session)? {
            Some(row) => state.save_grant(&row, at),
            None => Ok(false),
        };
        self.blocking.run(postpone).await??;
        Ok(())
    }

    async fn end(&self, session: String, account: String) -> Result<(), Refusal> {
        let sessions = Arc::clone(&self.sessions);
        let end = move || {
            sessions.end(
                SessionSelector::Own {
                    id: &session,
                    account_id: &account,
                },
                EndCause::Provider,
            )
        };
        self.blocking.run(end).await??;
        Ok(())
    }

    async fn exchange(&self, mut row: GrantRow) -> Result<GrantTokens, Failure> {
        let provider = self
            .providers
            .find(&row.provider)
            .ok_or(Failure::Over("its provider is not in the configuration any more"))?;
        let kept = self.open(&row).ok_or(Failure::Over(
            "the tokens of its provider were encrypted by another key",
        ))?;
        let refresh = kept.refresh.as_ref().ok_or(Failure::Later)?;
        let metadata = provider.metadata().await?;
        let now = self.clock.now();
        let exchange = provider.exchange(&metadata, now);
        let tokens = exchange.refresh(refresh).await.map_err(|fault| match fault {
            TokenFault::InvalidGrant => Failure::Over("its provider has withdrawn the grant"),
            TokenFault::Unavailable | TokenFault::Refused | TokenFault::Internal => Failure::Later,
        })?;
        let mut next = GrantTokens::of(&tokens, now);
        // A provider that gives no other one goes on with this (RFC 6749 section 6).
        next.refresh = next.refresh.or(kept.refresh);
        if !self.forwards {
            next.access = None;
        }
        row.sealed = self.seal(&row.session_id, &next)?;
        self.save(row.clone(), self.lease().until).await?;

        let profile = match exchange.fresh(tokens, &row.subject).await? {
            Fresh::Profile(profile) => *profile,
            Fresh::Nothing => {
                tracing::warn!(
                    provider = row.provider,
                    "the provider has no userinfo and gives no ID token with a refresh token, so that claims are not read afresh"
                );
                row.read_at = now;
                self.save(row, 0).await?;
                return Ok(next);
            }
            Fresh::OfAnother => return Err(Failure::Over("its provider names another user")),
        };
        let Some(mut identity) = admitted(&provider.plan, profile) else {
            return Err(Failure::Over("`allow` of its provider names other users"));
        };
        identity.account_id.clone_from(&row.account_id);
        let (accounts, sessions) = (Arc::clone(&self.accounts), Arc::clone(&self.sessions));
        let updated = self
            .blocking
            .run(move || accounts.update_identity(identity, sessions.revoked_until()))
            .await?
            .map_err(Refusal::from)?;
        if updated.is_none_or(|account| account.disabled) {
            return Err(Failure::Over(
                "its account does not belong to the provider's user any more",
            ));
        }
        row.read_at = now;
        let session = row.session_id.clone();
        self.save(row, 0).await?;
        self.remembered.invalidate(&session);
        Ok(next)
    }

    async fn save(&self, row: GrantRow, leased_until: UnixSeconds) -> Result<(), Refusal> {
        let state = Arc::clone(&self.state);
        self.blocking
            .run(move || state.save_grant(&row, leased_until))
            .await??;
        Ok(())
    }

    fn seal(&self, session_id: &str, tokens: &GrantTokens) -> Result<Vec<u8>, Refusal> {
        self.key.seal(session_id, &tokens.write()).map_err(|()| {
            tracing::error!("cannot encrypt the tokens of a provider");
            Refusal::Internal
        })
    }

    fn open(&self, row: &GrantRow) -> Option<GrantTokens> {
        let content = self.key.open(&row.session_id, &row.sealed)?;
        GrantTokens::read(&content)
    }
}
