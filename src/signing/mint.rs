//! Access tokens made by hand: `passgate token mint`.

use serde_json::{Map, Value};

use super::{Kind, SigningError, SigningKeys};
use crate::clock::UnixSeconds;
use crate::identity::new_id;

/// The claims that a request has fields for, and those that decide when a token counts.
const OWN_CLAIMS: [&str; 11] = [
    "iss", "aud", "sub", "email", "name", "roles", "scope", "jti", "iat", "nbf", "exp",
];

/// What the token is to say.
#[derive(Clone, Debug)]
pub struct MintRequest {
    /// `server.public_url`: `iss` and `aud` of our own tokens.
    pub public_url: String,
    /// `sub`.
    pub subject: String,
    /// `roles`.
    pub roles: Vec<String>,
    /// `email`.
    pub email: Option<String>,
    /// `name`.
    pub name: Option<String>,
    /// `scope`, joined by spaces (RFC 8693 section 4.2); left out where there are none.
    pub scopes: Vec<String>,
    /// Seconds from now to `exp`.
    pub lifetime: UnixSeconds,
    /// Further claims.
    pub claims: Map<String, Value>,
}

impl MintRequest {
    /// A token for `subject` with no roles, for a quarter of an hour.
    #[cfg(test)]
    pub fn new(public_url: impl Into<String>, subject: impl Into<String>) -> Self {
        Self {
            public_url: public_url.into(),
            subject: subject.into(),
            roles: Vec::new(),
            email: None,
            name: None,
            scopes: Vec::new(),
            lifetime: 900,
            claims: Map::new(),
        }
    }
}

/// Why a token is not minted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MintError {
    /// A token without a subject.
    #[error("the subject is empty; name who the token is for")]
    SubjectEmpty,
    /// Would be refused at once.
    #[error("the lifetime must be at least a second")]
    LifetimeTooShort,
    /// Has an option of its own.
    #[error("the claim `{0}` is set by passgate; use the option for it where there is one")]
    OwnClaim(String),
    /// A scope is one word (RFC 6749 section 3.3).
    #[error("the scope `{0}` is not one word of visible ASCII without `\"` and `\\`")]
    ScopeMalformed(String),
    /// It could not be signed.
    #[error(transparent)]
    Signing(#[from] SigningError),
}

impl SigningKeys {
    /// Signs an access token as `request` describes it.
    ///
    /// # Errors
    /// The request asks for something no verifier would take, or signing fails.
    pub fn mint(&self, request: &MintRequest, now: UnixSeconds) -> Result<String, MintError> {
        if request.subject.is_empty() {
            return Err(MintError::SubjectEmpty);
        }
        if request.lifetime < 1 {
            return Err(MintError::LifetimeTooShort);
        }
        if let Some(name) = request
            .claims
            .keys()
            .find(|name| OWN_CLAIMS.contains(&name.as_str()))
        {
            return Err(MintError::OwnClaim(name.clone()));
        }
        if let Some(scope) = request.scopes.iter().find(|scope| !is_scope(scope)) {
            return Err(MintError::ScopeMalformed(scope.clone()));
        }
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), request.public_url.as_str().into());
        claims.insert("aud".to_owned(), request.public_url.as_str().into());
        claims.insert("sub".to_owned(), request.subject.as_str().into());
        if let Some(email) = &request.email {
            claims.insert("email".to_owned(), email.as_str().into());
        }
        if let Some(name) = &request.name {
            claims.insert("name".to_owned(), name.as_str().into());
        }
        claims.insert("roles".to_owned(), request.roles.clone().into());
        if !request.scopes.is_empty() {
            claims.insert("scope".to_owned(), request.scopes.join(" ").into());
        }
        claims.extend(request.claims.clone());
        let token_id = new_id(now).map_err(|_| SigningError::Cryptography {
            action: "make a token id",
        })?;
        claims.insert("jti".to_owned(), token_id.to_string().into());
        claims.insert("iat".to_owned(), now.into());
        claims.insert("exp".to_owned(), now.saturating_add(request.lifetime).into());
        Ok(self.sign(Kind::Access, &claims)?)
    }
}

/// RFC 6749 appendix A.4.
fn is_scope(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}
