//! A code becomes a profile: the token endpoint, the ID token, and userinfo, one after the other.
//!
//! Input: the code that a browser came back with, and the secrets of its attempt. Output: [`Profile`], or a refusal with a
//! line in the log. Invariants: no claim counts before the ID token has passed.

use serde_json::{Map, Value};

use super::attempt::Secrets;
use super::id_token::IdTokenVerifier;
use super::profile::{Profile, SignInFacts};
use super::token_endpoint::{Tokens, request_tokens};
use super::userinfo;
use crate::refusal::Refusal;

/// What an exchange needs of its provider.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) id_tokens: IdTokenVerifier<'a>,
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
