//! Who of a provider's users may sign in, and which roles they get.
//!
//! Input: what the provider says about a user. Output: a decision, and roles. Invariants: an address that the provider has
//! not verified matches no rule, and neither does one of a subdomain.

use crate::config::raw::{RawAllow, RawGrant, RawWho};
use crate::values;

/// What rules are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    /// The address, where it is verified.
    pub(super) verified_email: Option<&'a str>,
    /// All groups.
    pub(super) groups: &'a [String],
    /// Those of them that are roles: the values of `roles_claims`.
    pub(super) roles: &'a [String],
}

/// `roles` and `allow` of a provider.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    grants: Vec<(String, RawWho)>,
    /// `None`: every user of the provider.
    allow: Option<Vec<RawWho>>,
}

impl Rules {
    pub(super) fn new(grants: &[RawGrant], allow: Option<&RawAllow>) -> Self {
        Self {
            grants: grants
                .iter()
                .map(|grant| (grant.role.value.clone(), grant.who.clone()))
                .collect(),
            allow: match allow {
                None | Some(RawAllow::Anyone) => None,
                Some(RawAllow::Listed(who)) => Some(who.clone()),
            },
        }
    }

    /// Whether one of them is about groups.
    pub(super) fn name_groups(&self) -> bool {
        let granted = self.grants.iter().map(|(_, who)| who);
        let mut all = granted.chain(self.allow.iter().flatten());
        all.any(|who| matches!(who, RawWho::Group(_)))
    }

    pub(super) fn is_allowed(&self, subject: Subject<'_>) -> bool {
        self.allow
            .as_ref()
            .is_none_or(|allow| allow.iter().any(|who| is_meant(who, subject)))
    }

    /// In order, each once: those that `roles` gives, then those of the provider; as many as fit into a token.
    pub(super) fn roles(&self, subject: Subject<'_>) -> Vec<String> {
        let granted = self.grants.iter().filter(|(_, who)| is_meant(who, subject));
        let all = granted
            .map(|(role, _)| role)
            .chain(subject.roles)
            .filter(|role| values::role(role).is_ok() && !role.chars().any(char::is_control));
        let mut roles: Vec<String> = Vec::new();
        for role in all {
            if roles.contains(role) {
                continue;
            }
            roles.push(role.clone());
            if !values::roles_fit(roles.iter().map(String::as_str)) {
                roles.pop();
                tracing::warn!(
                    "a user of a provider has more roles than a token can hold; the last ones are left out"
                );
                break;
            }
        }
        roles.sort_unstable();
        roles
    }
}

fn is_meant(who: &RawWho, subject: Subject<'_>) -> bool {
    let email = subject.verified_email;
    match who {
        // Not as accounts are compared: that takes different mailboxes for one (`ß` and `ss`), and this gives rights.
        RawWho::Email(wanted) => email.is_some_and(|email| email.eq_ignore_ascii_case(wanted)),
        RawWho::Domain(wanted) => email
            .and_then(|email| email.rsplit_once('@'))
            .is_some_and(|(_, domain)| domain.eq_ignore_ascii_case(wanted)),
        RawWho::Group(wanted) => subject.groups.contains(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[RawWho]) -> Rules {
        Rules {
            grants: vec![
                ("admin".to_owned(), RawWho::Email("Ann@example.com".to_owned())),
                ("admin".to_owned(), RawWho::Email("ass@example.com".to_owned())),
                ("user".to_owned(), RawWho::Domain("example.com".to_owned())),
                ("ops".to_owned(), RawWho::Group("sre".to_owned())),
            ],
            allow: Some(allow.to_vec()),
        }
    }

    fn subject<'a>(verified_email: Option<&'a str>, groups: &'a [String]) -> Subject<'a> {
        Subject {
            verified_email,
            groups,
            roles: groups,
        }
    }

    #[test]
    fn address_and_domain_match_verified_addresses_alone_and_whole() {
        let rules = rules(&[RawWho::Domain("example.com".to_owned())]);
        for (email, roles, allowed) in [
            (Some("ann@EXAMPLE.com"), &["admin", "user"][..], true),
            (Some("bob@example.com"), &["user"], true),
            (Some("bob@sub.example.com"), &[], false),
            (Some("bob@notexample.com"), &[], false),
            (Some("bob@example.com@evil.example"), &[], false),
            (Some("bob@example.com."), &[], false),
            (Some("a\u{17f}s@example.com"), &["user"], true),
            (None, &[], false),
        ] {
            let subject = subject(email, &[]);
            assert_eq!(rules.roles(subject), roles, "{email:?}");
            assert_eq!(rules.is_allowed(subject), allowed, "{email:?}");
        }
    }

    #[test]
    fn groups_are_roles_and_give_roles() {
        let rules = rules(&[RawWho::Group("sre".to_owned())]);
        let groups = ["sre".to_owned(), "a,b\n".to_owned(), "sre".to_owned()];
        assert_eq!(rules.roles(subject(None, &groups)), ["ops", "sre"]);
        assert!(rules.is_allowed(subject(None, &groups)));
        assert!(!rules.is_allowed(subject(None, &["SRE".to_owned()])));
        assert!(Rules::default().is_allowed(subject(None, &[])));
    }

    #[test]
    fn group_that_is_no_role_gives_roles_by_rules_alone() {
        let rules = rules(&[RawWho::Group("sre".to_owned())]);
        assert!(rules.name_groups() && !Rules::default().name_groups());
        let groups = ["sre".to_owned(), "admin".to_owned()];
        let subject = Subject {
            verified_email: None,
            groups: &groups,
            roles: &[],
        };
        assert_eq!(rules.roles(subject), ["ops"]);
        assert!(rules.is_allowed(subject));
    }

    #[test]
    fn more_groups_than_a_token_holds_are_left_out_after_those_of_rules() {
        let groups: Vec<String> = (0..1000).map(|number| format!("g{number}")).collect();
        let roles = rules(&[]).roles(subject(Some("ann@example.com"), &groups));
        assert!(roles.len() <= values::MOST_ROLES && roles.contains(&"admin".to_owned()));
    }
}
