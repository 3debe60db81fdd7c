//! A code becomes a profile: the token endpoint, then the ID token and userinfo, or userinfo alone with OAuth2.
//!
//! Input: the code that a browser came back with, and the secrets of its attempt. Output: [`Profile`], or a refusal with a
//! line in the log. Invariants: with OpenID Connect, no claim counts before the ID token has passed.

use serde_json::{Map, Value};

use super::attempt::Secrets;
use super::config::{OAuth2, ProviderPlan};
use super::id_token::IdTokenVerifier;
use super::metadata::Metadata;
use super::oauth2;
use super::profile::{Profile, SignInFacts, standard};
use super::token_endpoint::{TokenFault, Tokens, request_tokens};
use super::userinfo;
use crate::clock::UnixSeconds;
use crate::refusal::Refusal;

/// What an exchange needs of its provider.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) plan: &'a ProviderPlan,
    pub(super) metadata: &'a Metadata,
    pub(super) claims: ClaimSource<'a>,
    pub(super) now: UnixSeconds,
}

/// Where claims come from.
#[derive(Debug)]
pub(super) enum ClaimSource<'a> {
    IdToken(IdTokenVerifier<'a>),
    OAuth2(&'a OAuth2),
}

/// What a refresh grant says.
pub(super) enum Fresh {
    Profile(Box<Profile>),
    /// Nothing: there is no ID token, and the provider has no userinfo.
    Nothing,
    /// It is about another subject.
    OfAnother,
}

impl Exchange<'_> {
    /// # Errors
    /// `ProviderUnavailable`, `ProviderRefused`, `IdTokenRefused`, `SignInNotAllowed`.
    pub(super) async fn run(
        &self,
        code: &str,
        secrets: &Secrets,
        redirect_uri: &str,
    ) -> Result<Profile, Refusal> {
        let mut grant = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
        ];
        if self.plan.pkce {
            grant.push(("code_verifier", &secrets.verifier));
        }
        let tokens = request_tokens(self.plan, &self.metadata.token, &grant, self.now).await?;
        self.profile_of(tokens, Some(&secrets.nonce)).await
    }

    /// The user whose tokens these are. `nonce` is that of the sign-in; `None` for a refresh grant.
    ///
    /// # Errors
    /// As [`Exchange::run`].
    pub(super) async fn profile_of(&self, tokens: Tokens, nonce: Option<&str>) -> Result<Profile, Refusal> {
        let plan = self.plan;
        let id_tokens = match &self.claims {
            ClaimSource::IdToken(id_tokens) => id_tokens,
            ClaimSource::OAuth2(oauth2) => return oauth2::profile(plan, oauth2, tokens).await,
        };
        let Some(id_token) = &tokens.id_token else {
            let reason = "it has no `id_token`";
            tracing::warn!(
                provider = plan.name,
                reason,
                "the answer of a token endpoint cannot be used"
            );
            return Err(Refusal::ProviderRefused);
        };
        let access_token = tokens.access_token.as_deref().map(String::as_str);
        let verified = id_tokens.verify(id_token, access_token, nonce).await?;
        let subject = verified.subject;
        let facts = SignInFacts::of_id_token(&verified.claims);
        let mut claims = standard(&plan.claims, verified.claims);
        if let Some(token) = access_token
            && let Some(url) = &self.metadata.userinfo
            && self.lacks(&claims)
        {
            let found = userinfo::fetch_of(plan, url, token, &subject).await?;
            userinfo::merge(&mut claims, standard(&plan.claims, found));
        }
        Ok(Profile::of_claims(plan, subject, claims, facts, tokens))
    }

    /// Exchanges a refresh token (RFC 6749 section 6).
    ///
    /// # Errors
    /// See [`TokenFault`].
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, TokenFault> {
        let grant = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        request_tokens(self.plan, &self.metadata.token, &grant, self.now).await
    }

    /// What a refresh grant says about `subject` now: by the ID token, by userinfo, or by both.
    ///
    /// # Errors
    /// As [`Exchange::run`].
    pub(super) async fn fresh(&self, tokens: Tokens, subject: &str) -> Result<Fresh, Refusal> {
        let plan = self.plan;
        if tokens.id_token.is_some() || matches!(self.claims, ClaimSource::OAuth2(_)) {
            let profile = self.profile_of(tokens, None).await?;
            return Ok(if profile.subject == subject {
                Fresh::Profile(Box::new(profile))
            } else {
                Fresh::OfAnother
            });
        }
        let (Some(token), Some(url)) = (&tokens.access_token, &self.metadata.userinfo) else {
            return Ok(Fresh::Nothing);
        };
        let claims = userinfo::fetch(plan, url, token).await?;
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Ok(Fresh::OfAnother);
        }
        let claims = standard(&plan.claims, claims);
        let facts = SignInFacts::default();
        let profile = Profile::of_claims(plan, subject.to_owned(), claims, facts, tokens);
        Ok(Fresh::Profile(Box::new(profile)))
    }

    /// Whether userinfo may have more.
    fn lacks(&self, claims: &Map<String, Value>) -> bool {
        let plan = self.plan;
        let asks_for = |scope: &str| plan.scope.split(' ').any(|asked| asked == scope);
        let lacks = |name: &str| !claims.contains_key(name);
        let groups = plan.groups_claims.iter().filter(|_| plan.needs_groups);
        (asks_for("email") && (lacks("email") || lacks("email_verified")))
            || (asks_for("profile") && lacks("name"))
            || plan
                .roles_claims
                .iter()
                .chain(groups)
                .any(|path| path.find(claims).is_none())
    }
}
