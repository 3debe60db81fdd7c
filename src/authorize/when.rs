//! The condition of a route: `when`.
//!
//! Input: the condition, the parameters of the route's path; then the caller and the request. Output: yes, or why not. Invariant:
//! an unverified `email` is no claim here, as for every other rule.

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use super::facts::RequestFacts;
use crate::identity::Identity;
use crate::values::{Condition, Variables};

/// A condition, and where the parameters that it reads are in a path.
#[derive(Clone, Debug)]
pub(super) struct When {
    condition: Condition,
    /// Names, and which segment each is.
    parameters: Vec<(Box<str>, usize)>,
}

impl When {
    /// `parameters`: those of the route's path, in their order, each with the number of its segment.
    pub(super) fn new(condition: Condition, mut parameters: Vec<(Box<str>, usize)>) -> Self {
        parameters.retain(|(name, _)| condition.path().has(name));
        Self {
            condition,
            parameters,
        }
    }

    /// As it is written.
    pub(super) fn text(&self) -> &str {
        self.condition.text()
    }

    /// Whether the condition holds.
    ///
    /// # Errors
    /// Why it has no answer.
    pub(super) fn evaluate(&self, identity: &Identity, facts: &RequestFacts<'_>) -> Result<bool, String> {
        let is_read = |name: &str| {
            self.condition.claims().has(name) && (name != "email" || identity.is_email_verified())
        };
        let claims = identity.claims.iter().filter(|(name, _)| is_read(name));
        self.condition.evaluate(&Variables {
            claims: claims.map(|(name, claim)| (name.as_str(), claim)).collect(),
            host: facts.host,
            issuer: &identity.issuer,
            method: facts.method,
            path: self.parameters_of(facts.path),
            roles: &identity.roles,
            scopes: &identity.scopes,
            subject: &identity.subject,
        })
    }

    /// The parameters of `path`, as an app reads them. One that is not UTF-8 is as good as none.
    fn parameters_of<'p>(&'p self, path: &'p str) -> BTreeMap<&'p str, Cow<'p, str>> {
        let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').enumerate();
        let mut found = BTreeMap::new();
        for (name, number) in &self.parameters {
            let segment = segments.find(|(at, _)| at == number);
            if let Some((_, segment)) = segment
                && let Ok(text) = percent_decode_str(segment).decode_utf8()
            {
                found.insert(&**name, text);
            }
        }
        found
    }
}
