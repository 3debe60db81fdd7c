//! A user of a provider becomes an identity of ours, where the provider's `allow` names the user.
//!
//! Input: what the provider says about a user. Output: the identity with its roles, or nothing, with a line in the log.
//! Invariant: a sign-in and a refresh of claims are judged alike.

use serde_json::Value;

use super::config::ProviderPlan;
use super::profile::Profile;
use crate::state::IdentityRow;

/// Of Google, which says which of its accounts an organisation manages.
const GOOGLE: &str = "https://accounts.google.com";

/// The identity of a user whom `allow` names, with the roles that the rules give.
pub(super) fn admitted(plan: &ProviderPlan, profile: Profile) -> Option<IdentityRow> {
    let email_verified = is_verified(plan, &profile);
    let subject = profile.rule_subject(email_verified);
    if !plan.rules.is_allowed(subject) {
        tracing::warn!(
            provider = plan.name,
            subject = ?profile.subject,
            email_verified,
            "`allow` of the provider names other users"
        );
        return None;
    }
    Some(IdentityRow {
        provider: plan.name.clone(),
        roles: plan.rules.roles(subject),
        subject: profile.subject,
        account_id: String::new(),
        email: profile.email,
        email_verified,
        name: profile.name,
        updated_at: 0,
    })
}

/// Whether the address of a user counts as verified: the provider says so, and is authoritative for its domain, or no provider
/// is. A Google account that an organisation manages has its domain as `hd`; any other one may have had the address at
/// some time.
fn is_verified(plan: &ProviderPlan, profile: &Profile) -> bool {
    let Some(email) = profile.email.as_deref().filter(|_| profile.email_verified) else {
        return false;
    };
    let text = |name: &str| profile.claims.get(name).and_then(Value::as_str);
    let is_managed = || {
        let domain = email.rsplit_once('@').map(|(_, domain)| domain);
        domain
            .zip(text("hd"))
            .is_some_and(|(domain, hosted)| domain.eq_ignore_ascii_case(hosted))
    };
    plan.accepts(email) && (!plan.is_authoritative(email) || text("iss") != Some(GOOGLE) || is_managed())
}
