//! What the query of a question asks for besides the rules of the route: conditions on the caller, and how a refusal may look.
//!
//! Input: the query of the question. Output: [`Conditions`], or the name of a parameter that is not known, which could be a
//! condition that does not hold.

use crate::http::percent::escape_at;
use crate::identity::Caller;

/// Further conditions on the caller; each that is there has to hold.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Conditions {
    groups: Option<Vec<String>>,
    emails: Option<Vec<String>>,
    domains: Option<Vec<String>>,
}

/// A parameter that is not known, or cannot be read.
#[derive(Debug)]
pub(super) struct Unknown(pub(super) String);

/// The pairs of a query, decoded.
fn pairs(query: Option<&str>) -> impl Iterator<Item = Result<(String, String), Unknown>> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decode(name), decode(value)) {
            (Some(name), Some(value)) => Ok((name, value)),
            _ => Err(Unknown(name.to_owned())),
        }
    })
}

fn decode(text: &str) -> Option<String> {
    let (bytes, mut at) = (text.as_bytes(), 0);
    let mut decoded = Vec::with_capacity(bytes.len());
    while let Some(&byte) = bytes.get(at) {
        let (byte, length) = match byte {
            b'+' => (b' ', 1),
            b'%' => (escape_at(bytes, at)?, 3),
            byte => (byte, 1),
        };
        decoded.push(byte);
        at += length;
    }
    String::from_utf8(decoded).ok()
}

/// Whether `wanted` is among the parameters.
///
/// # Errors
/// The first one that is neither `wanted` nor among `ignored`.
pub(super) fn has_parameter(query: Option<&str>, wanted: &str, ignored: &[&str]) -> Result<bool, Unknown> {
    let mut found = false;
    for pair in pairs(query) {
        let (name, _) = pair?;
        if name == wanted {
            found = true;
        } else if !ignored.contains(&name.as_str()) {
            return Err(Unknown(name));
        }
    }
    Ok(found)
}

impl Conditions {
    /// `allowed_groups`, `allowed_emails` and `allowed_email_domains` of `/oauth2/auth`: lists with commas, each as often as it is
    /// written.
    ///
    /// # Errors
    /// The first parameter that is none of these.
    pub(super) fn read(query: Option<&str>) -> Result<Self, Unknown> {
        let mut conditions = Self::default();
        for pair in pairs(query) {
            let (name, value) = pair?;
            let list = match name.as_str() {
                "allowed_groups" => &mut conditions.groups,
                "allowed_emails" => &mut conditions.emails,
                "allowed_email_domains" => &mut conditions.domains,
                _ => return Err(Unknown(name)),
            };
            let values = value.split(',').map(str::trim).filter(|value| !value.is_empty());
            list.get_or_insert_default().extend(values.map(str::to_owned));
        }
        Ok(conditions)
    }

    /// Whether there are none.
    pub(super) fn is_none(&self) -> bool {
        self.groups.is_none() && self.emails.is_none() && self.domains.is_none()
    }

    /// Whether all hold. An address counts only where it is verified; a list without a value holds for no caller.
    pub(super) fn hold_for(&self, caller: &Caller) -> bool {
        let identity = &caller.identity;
        let email = identity.told_email(false).unwrap_or_default();
        let is_of = |domain: &String| {
            let Some((_, host)) = email.rsplit_once('@') else {
                return false;
            };
            match domain.strip_prefix("*.").or(domain.strip_prefix('.')) {
                Some(parent) => {
                    let host = host.to_ascii_lowercase();
                    host.strip_suffix(&parent.to_ascii_lowercase())
                        .is_some_and(|rest| rest.ends_with('.'))
                }
                None => host.eq_ignore_ascii_case(domain),
            }
        };
        let groups = |wanted: &Vec<String>| wanted.iter().any(|group| identity.roles.contains(group));
        let emails = |wanted: &Vec<String>| {
            !email.is_empty() && wanted.iter().any(|wanted| email.eq_ignore_ascii_case(wanted))
        };
        let domains = |wanted: &Vec<String>| wanted.iter().any(is_of);
        self.groups.as_ref().is_none_or(groups)
            && self.emails.as_ref().is_none_or(emails)
            && self.domains.as_ref().is_none_or(domains)
    }
}
