//! A user of a provider becomes an identity of ours, where the provider's `allow` names the user.
//!
//! Input: what the provider says about a user. Output: the identity with its roles, or nothing, with a line in the log.
//! Invariant: a sign-in and a refresh of claims are judged alike.

use super::config::ProviderPlan;
use super::profile::Profile;
use super::rules::Subject;
use crate::state::IdentityRow;

/// The identity of a user whom `allow` names, with the roles that the rules give.
pub(super) fn admitted(plan: &ProviderPlan, profile: Profile) -> Option<IdentityRow> {
    let subject = Subject {
        verified_email: profile.email.as_deref().filter(|_| profile.email_verified),
        groups: &profile.groups,
    };
    if !plan.rules.is_allowed(subject) {
        tracing::warn!(
            provider = plan.name,
            subject = ?profile.subject,
            email_verified = profile.email_verified,
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
        email_verified: profile.email_verified,
        name: profile.name,
        updated_at: 0,
    })
}
