//! `passgate diff`: who would gain or lose access with another configuration file.
//!
//! Input: the decisions that the running gateway remembers, and the other file. Output: the changes, as text and as JSON.
//! Invariants: a decision is made again by [`decide`](crate::gateway::decide), with the caller, the address and the time of
//! then; nothing is sent to an app, and nothing changes in the gateway.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Map, Value, json};

use super::config::{Plan, load};
use super::{Failure, admin_client, config_tests};
use crate::clock::UnixSeconds;
use crate::gateway::{Credentials, Decision, Policy, RequestHead, Silent, decide_at_once};
use crate::http::headers::request_host;
use crate::identity::{Caller, SESSION_ISSUER};
use crate::refusal::Refusal;
use crate::values::RequestLine;

/// What would change.
#[derive(Debug)]
pub(crate) struct Diff {
    /// Whether a request would gain or lose access.
    pub(crate) changes: bool,
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) json: Value,
}

/// Compares the file `new` with what the gateway that runs with `file` decided.
///
/// # Errors
/// A file cannot be used, or no gateway runs.
pub(crate) fn diff(file: &Path, new: &Path) -> Result<Diff, Failure> {
    let (plan, _) = load(new)?;
    let told = admin_client::ask(file, "/decisions")?;
    let told = told.as_ref().and_then(|told| told["decisions"].as_array());
    let mut report = Report::default();
    for decision in told.into_iter().flatten() {
        report.add(&plan, decision);
    }
    Ok(report.finish(new))
}

/// What a request got, or would get.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Access {
    is_allowed: bool,
    status: Option<u16>,
    reason: Option<String>,
    rule: Option<String>,
    /// Of the rule.
    place: Option<String>,
    route: Option<String>,
    route_place: Option<String>,
}

impl Access {
    fn json(&self) -> Value {
        json!({
            "decision": if self.is_allowed { "allow" } else { "refuse" },
            "status": self.status,
            "reason": self.reason,
            "rule": self.rule,
            "place": self.place,
            "route": self.route,
            "route_place": self.route_place,
        })
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status, &self.reason) {
            _ if self.is_allowed => f.write_str("allowed")?,
            (Some(status), Some(reason)) => write!(f, "{status} {reason}")?,
            _ => f.write_str("answered by the gateway itself")?,
        }
        match (&self.rule, &self.place, &self.route, &self.route_place) {
            (Some(rule), Some(place), ..) => write!(f, " by {rule} ({place})"),
            (_, _, Some(route), Some(place)) => write!(f, " on {route} ({place})"),
            _ => Ok(()),
        }
    }
}

/// Requests of one caller to one route that change in the same way.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    method: String,
    route: String,
    subject: Option<String>,
    issuer: Option<String>,
    roles: Vec<String>,
    before: Access,
    after: Access,
    is_unread: bool,
}

#[derive(Debug)]
struct Group {
    requests: usize,
    /// The path of the last of them.
    example: String,
}

#[derive(Debug, Default)]
struct Report {
    gain: BTreeMap<Key, Group>,
    lose: BTreeMap<Key, Group>,
    unchanged: usize,
    left_out: BTreeMap<&'static str, usize>,
}

impl Report {
    fn add(&mut self, plan: &Plan, told: &Value) {
        let (before, after, is_unread) = match replay(plan, told) {
            Ok(replayed) => replayed,
            Err(why) => {
                *self.left_out.entry(why).or_default() += 1;
                return;
            }
        };
        let changed = match (before.is_allowed, after.is_allowed) {
            (false, true) => &mut self.gain,
            (true, false) => &mut self.lose,
            _ => {
                self.unchanged += 1;
                return;
            }
        };
        let path = text(&told["path"]);
        let key = Key {
            method: text(&told["method"]),
            route: before
                .route
                .clone()
                .or_else(|| after.route.clone())
                .unwrap_or_else(|| path.clone()),
            subject: told["subject"].as_str().map(str::to_owned),
            issuer: told["issuer"].as_str().map(str::to_owned),
            roles: texts(&told["roles"]),
            before,
            after,
            is_unread,
        };
        let example = format!("{}{path}", text(&told["host"]));
        let group = changed.entry(key).or_insert(Group { requests: 0, example });
        group.requests += 1;
    }

    fn finish(self, new: &Path) -> Diff {
        let changes = !(self.gain.is_empty() && self.lose.is_empty());
        let sum = |groups: &BTreeMap<Key, Group>| groups.values().map(|group| group.requests).sum::<usize>();
        let (gain, lose) = (sum(&self.gain), sum(&self.lose));
        let mut text = format!(
            "with `{}`: {} would lose access, {} would gain it, and {} would be decided as before\n",
            new.display(),
            requests(lose),
            requests(gain),
            requests(self.unchanged)
        );
        for (title, groups) in [("lose access", &self.lose), ("gain access", &self.gain)] {
            if !groups.is_empty() {
                // Writing into a string does not fail.
                let _ = writeln!(text, "\n{title}");
            }
            for (key, group) in groups {
                let _ = write!(text, "{}", shown(key, group));
            }
        }
        if !self.left_out.is_empty() {
            text.push_str("\nnot compared\n");
        }
        for (why, count) in &self.left_out {
            let _ = writeln!(text, "  {}: {why}", requests(*count));
        }
        let list = |groups: &BTreeMap<Key, Group>| -> Vec<Value> {
            groups.iter().map(|(key, group)| listed(key, group)).collect()
        };
        let json = json!({
            "lose": list(&self.lose),
            "gain": list(&self.gain),
            "unchanged": self.unchanged,
            "not_compared": self.left_out,
        });
        Diff { changes, text, json }
    }
}

fn requests(count: usize) -> String {
    format!("{count} {}", if count == 1 { "request" } else { "requests" })
}

fn shown(key: &Key, group: &Group) -> String {
    let caller = match &key.subject {
        Some(subject) if key.roles.is_empty() => format!("`{subject}` (no roles)"),
        Some(subject) => format!("`{subject}` (`{}`)", key.roles.join("`, `")),
        None => "no caller".to_owned(),
    };
    let unread = if key.is_unread {
        "; no credential was looked for then"
    } else {
        ""
    };
    let text = format!(
        "  {} {}, {caller}: {}, such as {}\n    now:  {}\n    then: {}{unread}\n",
        key.method,
        key.route,
        requests(group.requests),
        group.example,
        key.before,
        key.after,
    );
    let is_shown = |char: &char| *char == '\n' || !char.is_control();
    text.chars().filter(is_shown).collect()
}

fn listed(key: &Key, group: &Group) -> Value {
    json!({
        "method": key.method,
        "route": key.route,
        "subject": key.subject,
        "issuer": key.issuer,
        "roles": key.roles,
        "before": key.before.json(),
        "after": key.after.json(),
        "credentials_read": !key.is_unread,
        "requests": group.requests,
        "example": group.example,
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    let values = value.as_array().into_iter().flatten();
    values
        .filter_map(|value| value.as_str().map(str::to_owned))
        .collect()
}

fn refusal(reason: &Value) -> Option<Refusal> {
    let reason = reason.as_str()?;
    Refusal::ALL
        .iter()
        .copied()
        .find(|refusal| refusal.reason() == reason)
}

/// What a request got, what it would get, and whether its credentials are not known.
///
/// # Errors
/// Why that cannot be said.
fn replay(plan: &Plan, told: &Value) -> Result<(Access, Access, bool), &'static str> {
    let before = before(told)?;
    let (credentials, is_unread) = credentials(plan, told)?;
    let line = RequestLine::parse(&text(&told["method"]), &text(&told["path"]))
        .map_err(|_| "the path has no single meaning")?;
    let client = told["client"].as_str().and_then(|client| client.parse().ok());
    let client = client.filter(|_| told["client_known"] == true);
    let (mut parts, sender) =
        config_tests::head(&line, &plan.settings.public_url, HeaderMap::new(), false, client);
    let host = text(&told["host"])
        .parse()
        .map_err(|_| "the host has no single meaning")?;
    parts.headers.insert(http::header::HOST, host);
    let host = request_host(&parts);
    let milliseconds = told["time_ms"].as_i64().unwrap_or_default();
    let policy = Policy {
        routes: &plan.routes,
        own_prefix: &plan.settings.own_prefix,
        aliases: plan.settings.aliases,
        has_sign_in: plan.sign_in.is_some(),
        public_https: plan.settings.public_https,
        origins: &plan.settings.origins,
        forwards: told["forward_auth"] != true,
        proxies: &plan.settings.trusted_proxies,
        now: milliseconds / 1000,
        rate_limits: None,
        ignores_maintenance: false,
    };
    let head = RequestHead::parse(parts, host, sender, &mut Silent)
        .map_err(|_| "the target has no single meaning")?;
    let decided = decide_at_once(policy, &head, &credentials, &mut Silent);
    let mut after = Access {
        is_allowed: false,
        status: None,
        reason: None,
        rule: None,
        place: None,
        route: None,
        route_place: None,
    };
    let route = match decided {
        Ok(Decision::Forward(allowed)) => {
            after.is_allowed = true;
            Some(allowed.route)
        }
        Ok(Decision::Preflight(route)) => Some(route),
        Ok(Decision::Builtin(..) | Decision::ForwardAuth(_)) => None,
        Err(rejection) => {
            after.status = Some(rejection.refusal.status().as_u16());
            after.reason = Some(rejection.refusal.reason().to_owned());
            after.rule = rejection.rule.as_ref().map(|rule| rule.text.to_string());
            after.place = rejection.rule.as_ref().map(|rule| rule.place.to_string());
            rejection.matched.route()
        }
    };
    after.route = route.map(|route| route.label.to_string());
    after.route_place = route.map(|route| route.place.to_string());
    let is_unread = is_unread && after.reason.as_deref() == Some(Refusal::CredentialMissing.reason());
    Ok((before, after, is_unread))
}

/// What a request got, as far as a configuration decides it.
fn before(told: &Value) -> Result<Access, &'static str> {
    if told["route"].is_string() && told["route_place"].is_null() {
        return Err("the gateway itself answered");
    }
    let reason = refusal(&told["refusal"]);
    let is_allowed = match told["deciding"].as_str() {
        Some("allowed") => true,
        Some("refused") => false,
        Some("own") => return Err("the gateway itself answered"),
        Some("preflight") => return Err("the preflight of a page"),
        _ => return Err("refused before a route was looked for"),
    };
    match reason {
        Some(Refusal::ConditionRefused | Refusal::ConditionUnknown) => {
            return Err("refused by a condition of another proxy");
        }
        Some(
            Refusal::RateLimited
            | Refusal::SignaturesThrottled
            | Refusal::KeysUnavailable
            | Refusal::StateUnavailable
            | Refusal::Overloaded
            | Refusal::Internal,
        ) => return Err("refused by a limit or a failure, and not by a rule"),
        _ if told["cut"] == true => return Err("the path is too long to be remembered"),
        _ => {}
    }
    let known = |name: &str| told[name].as_str().filter(|_| !is_allowed).map(str::to_owned);
    Ok(Access {
        is_allowed,
        status: reason
            .filter(|_| !is_allowed)
            .map(|reason| reason.status().as_u16()),
        reason: reason
            .filter(|_| !is_allowed)
            .map(|reason| reason.reason().to_owned()),
        rule: known("rule"),
        place: known("place"),
        route: told["route"].as_str().map(str::to_owned),
        route_place: told["route_place"].as_str().map(str::to_owned),
    })
}

/// The caller of then, and whether no credential was looked for.
fn credentials(plan: &Plan, told: &Value) -> Result<(Credentials<'static>, bool), &'static str> {
    if told["credentials_read"] != true {
        return Ok((Credentials::Given(None), true));
    }
    if told["caller_left_out"] == true {
        return Err("the caller is not remembered, because the claims take too much memory");
    }
    if let Some(refusal) = refusal(&told["credential_refused"]) {
        return Ok((Credentials::Refused(refusal), false));
    }
    let (Some(subject), Some(issuer)) = (told["subject"].as_str(), told["issuer"].as_str()) else {
        return Ok((Credentials::Given(None), false));
    };
    // The other file may look for it in other places.
    let source = told["credential"].as_str().unwrap_or_default();
    let is_cookie_of_session = plan
        .sign_in
        .as_ref()
        .is_some_and(|sign_in| source == format!("session cookie `{}`", sign_in.session.cookie));
    let is_looked_at = is_cookie_of_session
        || plan
            .sources
            .as_slice()
            .iter()
            .any(|known| known.to_string() == source);
    if !is_looked_at {
        return Ok((Credentials::Given(None), false));
    }
    if issuer != SESSION_ISSUER && plan.issuers.by_name(issuer).is_none() {
        return Ok((Credentials::Refused(Refusal::IssuerUnknown), false));
    }
    let claims = told["claims"].as_object().cloned().unwrap_or_else(Map::new);
    let mut identity = config_tests::identity(
        issuer,
        subject,
        texts(&told["roles"]),
        texts(&told["scopes"]),
        claims,
    );
    identity.expires_at = UnixSeconds::MAX;
    Ok((Credentials::Given(Some(Arc::new(Caller::new(identity)))), false))
}
