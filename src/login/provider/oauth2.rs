//! Who signs in, at a provider with OAuth2 and without OpenID Connect.
//!
//! Input: the answer of the token endpoint. Output: [`Profile`], or a refusal with a line in the log. Invariants: identity
//! hangs on a value that cannot change hands; an address is verified only if the provider says so about this very address;
//! no URL of an answer is asked, and the number of requests is bounded.

use serde_json::{Map, Value};

use super::config::{OAuth2, ProviderPlan};
use super::profile::{Profile, SignInFacts, is_true, standard};
use super::token_endpoint::Tokens;
use super::userinfo::{ask, fetch, refuse};
use crate::config::preset::PresetEmails;
use crate::http::url::Url;
use crate::identity::ClaimPath;
use crate::refusal::Refusal;

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 255;
/// The entries of a page of a list, and the most pages.
const PAGE: usize = 100;
const MOST_PAGES: usize = 5;

/// # Errors
/// `ProviderUnavailable`, `ProviderRefused`.
pub(super) async fn profile(
    plan: &ProviderPlan,
    oauth2: &OAuth2,
    tokens: Tokens,
) -> Result<Profile, Refusal> {
    let Some(access_token) = tokens.access_token.as_deref() else {
        return Err(refuse(plan, "the token endpoint gave no `access_token`"));
    };
    let found = fetch(plan, &oauth2.userinfo, access_token).await?;
    let subject = subject(oauth2.subject.as_ref(), &found).map_err(|reason| refuse(plan, reason))?;
    let mut claims = standard(&plan.claims, found);
    if let Some((url, form)) = &oauth2.emails {
        // An address in a public profile is any one that the user likes to show.
        claims.remove("email");
        let listed = ask(plan, url, access_token).await?;
        let email = primary_email(form, &listed).map_err(|reason| refuse(plan, reason))?;
        claims.insert("email_verified".to_owned(), Value::Bool(email.is_some()));
        claims.extend(email.map(|email| ("email".to_owned(), Value::String(email))));
    }
    if plan.needs_groups && !oauth2.groups.is_empty() {
        let mut groups = Vec::new();
        for (url, names) in &oauth2.groups {
            groups.extend(list(plan, url, names, access_token).await?);
        }
        claims.insert("groups".to_owned(), Value::Array(groups));
    }
    Ok(Profile::of_claims(
        plan,
        subject,
        claims,
        SignInFacts::default(),
        tokens,
    ))
}

/// The subject: text or a whole number.
fn subject(path: Option<&ClaimPath>, claims: &Map<String, Value>) -> Result<String, &'static str> {
    let found = match path {
        Some(path) => path.find(claims),
        None => claims.get("id").or_else(|| claims.get("sub")),
    };
    let subject = match found {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) if number.is_u64() || number.is_i64() => number.to_string(),
        Some(_) => return Err("its subject is neither text nor a whole number"),
        None => return Err("it has no subject"),
    };
    if subject.trim().is_empty() || subject.len() > MAX_SUBJECT || subject.chars().any(char::is_control) {
        return Err("its subject is empty, longer than 255 bytes, or has control characters");
    }
    Ok(subject)
}

/// The address that is both primary and verified.
fn primary_email(form: &PresetEmails, document: &[u8]) -> Result<Option<String>, &'static str> {
    let document: Value =
        serde_json::from_slice(document).map_err(|_| "its list of addresses is not JSON")?;
    let listed = match &form.list {
        Some(name) => document.get(name),
        None => Some(&document),
    };
    let entries = listed
        .and_then(Value::as_array)
        .ok_or("its list of addresses is not a list")?;
    let is = |entry: &Value, name: &str| entry.get(name).is_some_and(is_true);
    let primary = entries
        .iter()
        .find(|entry| is(entry, &form.primary) && is(entry, &form.verified));
    let email = primary.and_then(|entry| entry.get("email")?.as_str());
    Ok(email.map(str::to_owned))
}

/// The names in a list of several pages.
async fn list(
    plan: &ProviderPlan,
    url: &Url,
    names: &[ClaimPath],
    access_token: &str,
) -> Result<Vec<Value>, Refusal> {
    let mut found = Vec::new();
    for number in 1..=MOST_PAGES {
        let page = format!("{url}?per_page={PAGE}&page={number}").parse();
        let page: Url = page.map_err(|_| Refusal::Internal)?;
        let entries: Vec<Map<String, Value>> = serde_json::from_slice(&ask(plan, &page, access_token).await?)
            .map_err(|_| refuse(plan, "its list of groups is not a list of objects"))?;
        found.extend(entries.iter().filter_map(|entry| group(names, entry)));
        if entries.len() < PAGE {
            return Ok(found);
        }
    }
    tracing::warn!(
        provider = plan.name,
        "a user is in more groups than are read; the last ones are left out"
    );
    Ok(found)
}

/// The name of a group: the values of all paths, with `/` between.
fn group(names: &[ClaimPath], entry: &Map<String, Value>) -> Option<Value> {
    // A `/` in a part would make one group look like another.
    let part = |path: &ClaimPath| {
        let text = path.find(entry)?.as_str()?;
        (!text.is_empty() && !text.contains('/')).then(|| text.to_owned())
    };
    let parts: Option<Vec<String>> = names.iter().map(part).collect();
    Some(Value::String(parts?.join("/")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn subject_is_text_or_a_whole_number_and_never_empty() {
        let of = |claims: Value| subject(None, claims.as_object().unwrap());
        assert_eq!(of(json!({ "id": 583_231, "sub": "x" })).unwrap(), "583231");
        assert_eq!(of(json!({ "sub": "x-1" })).unwrap(), "x-1");
        let largest = u64::MAX;
        assert_eq!(of(json!({ "id": largest })).unwrap(), largest.to_string());
        for wrong in [
            json!({}),
            json!({ "id": null, "sub": "x" }),
            json!({ "id": "" }),
            json!({ "id": " " }),
            json!({ "id": "a\nb" }),
            json!({ "id": 1.5 }),
            json!({ "id": 1e30 }),
            json!({ "id": true }),
            json!({ "id": ["x"] }),
            json!({ "id": { "x": 1 } }),
            json!({ "id": "x".repeat(256) }),
            json!({ "login": "octocat" }),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
        let path = ClaimPath::parse("data.id").unwrap();
        let claims = json!({ "data": { "id": "2244994945" } });
        assert_eq!(
            subject(Some(&path), claims.as_object().unwrap()).unwrap(),
            "2244994945"
        );
    }

    #[test]
    fn address_counts_only_as_primary_and_verified() {
        let form = PresetEmails {
            path: "/emails".to_owned(),
            list: None,
            primary: "primary".to_owned(),
            verified: "verified".to_owned(),
        };
        let of = |document: Value| primary_email(&form, document.to_string().as_bytes());
        let entry = |email: &str, primary: bool, verified: bool| json!({ "email": email, "primary": primary, "verified": verified });
        assert_eq!(
            of(json!([
                entry("a@b", false, true),
                entry("c@d", true, true),
                entry("e@f", false, false)
            ]))
            .unwrap()
            .unwrap(),
            "c@d"
        );
        for none in [
            json!([]),
            json!([entry("a@b", true, false)]),
            json!([entry("a@b", false, true)]),
            json!([{ "email": "a@b" }]),
            json!([1]),
        ] {
            assert_eq!(of(none.clone()).unwrap(), None, "{none}");
        }
        assert!(of(json!({ "message": "Not Found" })).is_err());
        let in_list = PresetEmails {
            list: Some("values".to_owned()),
            ..form
        };
        let document = json!({ "values": [entry("a@b", true, true)] }).to_string();
        assert_eq!(
            primary_email(&in_list, document.as_bytes()).unwrap().unwrap(),
            "a@b"
        );
    }

    #[test]
    fn group_has_all_its_parts_and_no_slash_in_one() {
        let names: Vec<ClaimPath> = ["organization.login", "slug"]
            .iter()
            .filter_map(|path| ClaimPath::parse(path))
            .collect();
        let of = |entry: Value| group(&names, entry.as_object().unwrap());
        assert_eq!(
            of(json!({ "slug": "sre", "organization": { "login": "acme" } })),
            Some(json!("acme/sre"))
        );
        for none in [
            json!({ "slug": "sre" }),
            json!({ "slug": "", "organization": { "login": "acme" } }),
            json!({ "slug": "x/sre", "organization": { "login": "acme" } }),
            json!({ "slug": 1, "organization": { "login": "acme" } }),
        ] {
            assert_eq!(of(none.clone()), None, "{none}");
        }
    }
}
