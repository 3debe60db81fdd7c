//! A code becomes a profile: the token endpoint, the ID token, and userinfo, one after the other.
//!
//! Input: the code that a browser came back with, and the secrets of its attempt. Output: [`Profile`], or a refusal with a
//! line in the log. Invariants: no claim counts before the ID token has passed.

use serde_json::{Map, Value};

use super::attempt::Secrets;
use super::id_token::IdTokenVerifier;
use super::profile::{Profile, SignInFacts};
use super::token_endpoint::{TokenFault, Tokens, request_tokens};
use super::userinfo;
use crate::refusal::Refusal;

/// What an exchange needs of its provider.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) id_tokens: IdTokenVerifier<'a>,
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
    /// `ProviderUnavailable`, `ProviderRefused`, `IdTokenRefused`.
    pub(super) async fn run(
        &self,
        code: &str,
        secrets: &Secrets,
        redirect_uri: &str,
    ) -> Result<Profile, Refusal> {
        let grant = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", &secrets.verifier),
        ];
        let (plan, metadata) = (self.id_tokens.plan, self.id_tokens.metadata);
        let tokens = request_tokens(plan, &metadata.token, &grant).await?;
        self.profile_of(tokens, Some(&secrets.nonce)).await
    }

    /// The user whose tokens these are. `nonce` is that of the sign-in; `None` for a refresh grant.
    ///
    /// # Errors
    /// `ProviderUnavailable`, `ProviderRefused`, `IdTokenRefused`.
    pub(super) async fn profile_of(&self, tokens: Tokens, nonce: Option<&str>) -> Result<Profile, Refusal> {
        let (plan, metadata) = (self.id_tokens.plan, self.id_tokens.metadata);
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
        let verified = self.id_tokens.verify(id_token, access_token, nonce).await?;
        let (subject, mut claims) = (verified.subject, verified.claims);
        let facts = SignInFacts::of_id_token(&claims);
        if let Some(token) = access_token
            && let Some(url) = &metadata.userinfo
            && self.lacks(&claims)
        {
            let found = userinfo::fetch_of(plan, url, token, &subject).await?;
            userinfo::merge(&mut claims, found);
        }
        let issuer = self.id_tokens.issuer;
        Ok(Profile::of_claims(subject, claims, facts, issuer, tokens))
    }

    /// Exchanges a refresh token (RFC 6749 section 6).
    ///
    /// # Errors
    /// See [`TokenFault`].
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, TokenFault> {
        let grant = [("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let (plan, metadata) = (self.id_tokens.plan, self.id_tokens.metadata);
        request_tokens(plan, &metadata.token, &grant).await
    }

    /// What a refresh grant says about `subject` now: by the ID token, by userinfo, or by both.
    ///
    /// # Errors
    /// `ProviderUnavailable`, `ProviderRefused`, `IdTokenRefused`.
    pub(super) async fn fresh(&self, tokens: Tokens, subject: &str) -> Result<Fresh, Refusal> {
        let (plan, metadata) = (self.id_tokens.plan, self.id_tokens.metadata);
        if tokens.id_token.is_some() {
            let profile = self.profile_of(tokens, None).await?;
            return Ok(if profile.subject == subject {
                Fresh::Profile(Box::new(profile))
            } else {
                Fresh::OfAnother
            });
        }
        let (Some(token), Some(url)) = (&tokens.access_token, &metadata.userinfo) else {
            return Ok(Fresh::Nothing);
        };
        let claims = userinfo::fetch(plan, url, token).await?;
        if claims.get("sub").and_then(Value::as_str) != Some(subject) {
            return Ok(Fresh::OfAnother);
        }
        let (facts, issuer) = (SignInFacts::default(), self.id_tokens.issuer);
        let profile = Profile::of_claims(subject.to_owned(), claims, facts, issuer, tokens);
        Ok(Fresh::Profile(Box::new(profile)))
    }

    /// Whether userinfo may have more.
    fn lacks(&self, claims: &Map<String, Value>) -> bool {
        let plan = self.id_tokens.plan;
        let asks_for = |scope: &str| plan.scope.split(' ').any(|asked| asked == scope);
        let lacks = |name: &str| !claims.contains_key(name);
        (asks_for("email") && (lacks("email") || lacks("email_verified")))
            || (asks_for("profile") && lacks("name"))
            || plan.roles_claims.iter().any(|path| path.find(claims).is_none())
    }
}
