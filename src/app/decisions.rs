//! A remembered decision for people and programs.
//!
//! Input: a [`Remembered`] decision. Output: JSON, and text in the style of `explain`. Invariants: nothing is decided here: what
//! rules said is asked of the rules that the decision went by, about what it went by. No token is in either.

use std::fmt::Write as _;

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::authorize::{Auth, RequestFacts, Step};
use crate::clock::UnixSeconds;
use crate::http::headers::Host;
use crate::http::target::Target;
use crate::observe::{Attempt, Deciding, Remembered};
use crate::refusal::Refusal;

/// A decision as JSON; `steps` has the fields of those of `explain`.
pub(super) fn told(kept: &Remembered) -> Value {
    let identity = kept.caller.as_ref().map(|caller| &caller.identity);
    let route = kept.route.as_ref();
    json!({
        "request_id": kept.request_id(),
        "time": time(kept.time),
        "time_ms": kept.time,
        "client": kept.client.to_string(),
        "client_known": kept.is_client_known,
        "peer_trusted": kept.is_peer_trusted,
        "method": kept.method(),
        "host": kept.host(),
        "path": kept.path(),
        "cut": kept.is_cut,
        "forward_auth": kept.is_forward_auth,
        "decision": kept.decision.as_str(),
        "status": kept.status,
        "reason": kept.reason,
        "rule": kept.rule.as_ref().map(|rule| &*rule.text),
        "place": kept.rule.as_ref().map(|rule| rule.place.to_string()),
        "shadow": kept.is_only_logged,
        "route": route.map(|route| &*route.text),
        "route_place": route.and_then(|route| Some(route.place.as_ref()?.to_string())),
        "issuer": identity.map(|identity| &*identity.issuer),
        "subject": identity.map(|identity| &*identity.subject),
        "roles": identity.map(|identity| &identity.roles),
        "scopes": identity.map(|identity| &identity.scopes),
        "claims": identity.map(|identity| &identity.claims),
        "deciding": deciding(kept.deciding),
        "refusal": kept.refusal.map(Refusal::reason),
        "credentials_read": kept.attempts.is_read,
        "credential": credential(kept),
        "credential_refused": refused_credential(kept).map(Refusal::reason),
        "caller_left_out": kept.is_caller_left_out,
        "steps": steps(kept),
    })
}

/// The decision in the style of `explain`, from its JSON.
pub(super) fn text(told: &Value) -> String {
    let word = |name: &str| told[name].as_str().unwrap_or_default();
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Writing into a string does not fail.
        let _ = writeln!(text, "{arguments}");
    };
    let cut = if told["cut"] == true { "…" } else { "" };
    let host = match word("host") {
        "" => "(none)",
        host => host,
    };
    let plain = |text: &str| {
        text.chars()
            .map(|char| if char.is_control() { '\u{fffd}' } else { char })
            .collect()
    };
    let (method, path, host): (String, String, String) =
        (plain(word("method")), plain(word("path")), plain(host));
    line(format_args!("{method} {path}{cut} on host {host}"));
    let asked = if told["forward_auth"] == true {
        "; another proxy asked about it"
    } else {
        ""
    };
    line(format_args!(
        "at {} from {}, request id {}{asked}",
        word("time"),
        word("client"),
        word("request_id")
    ));
    let mut part = "";
    for step in told["steps"].as_array().into_iter().flatten() {
        let name = step["step"].as_str().unwrap_or_default();
        if name != part {
            part = name;
            line(format_args!("{part}"));
        }
        let mark = if step["passed"] == true { "✓" } else { "✗" };
        let detail: String = plain(step["detail"].as_str().unwrap_or_default());
        line(format_args!("  {mark} {detail}"));
    }
    let status = told["status"].as_u64().unwrap_or_default();
    let title = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let title = title
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default();
    match (word("decision"), word("reason")) {
        ("allow", "") if told["route_place"].is_null() => {
            line(format_args!(
                "allowed: answered by the gateway itself with {status} {title}"
            ));
        }
        ("allow", "") => line(format_args!("allowed: the answer was {status} {title}")),
        ("allow", reason) => line(format_args!(
            "allowed: the answer was {status} {title} ({reason})"
        )),
        ("error", "") => line(format_args!("failed: {status} {title}")),
        ("error", reason) => line(format_args!("failed: {status} {title} ({reason})")),
        (_, reason) => line(format_args!("refused: {status} {title} ({reason})")),
    }
    text
}

/// Milliseconds since 1970 as RFC 3339, UTC.
fn time(milliseconds: u64) -> String {
    let time = i64::try_from(milliseconds)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok());
    time.map_or_else(|| milliseconds.to_string(), |time| format!("{time:.3}"))
}

fn deciding(deciding: Deciding) -> &'static str {
    match deciding {
        Deciding::NotBegun => "not-begun",
        Deciding::Allowed => "allowed",
        Deciding::Own => "own",
        Deciding::Preflight => "preflight",
        Deciding::Refused => "refused",
    }
}

/// The place of the credential that counted.
fn credential(kept: &Remembered) -> Option<&str> {
    let attempt = kept.attempts.iter().find(|attempt| attempt.refusal.is_none())?;
    source(kept, attempt)
}

fn source(kept: &Remembered, attempt: Attempt) -> Option<&str> {
    let sources = &kept.route.as_ref()?.sources;
    let source = match attempt.source {
        Attempt::SESSION => sources.last(),
        place => sources.get(usize::from(place)),
    };
    source.map(String::as_str)
}

/// Why the credentials ended the decision.
fn refused_credential(kept: &Remembered) -> Option<Refusal> {
    let last = kept
        .attempts
        .ended_by()
        .filter(|_| kept.deciding == Deciding::Refused)?;
    (kept.refusal == Some(last)).then_some(last)
}

struct Steps(Vec<Value>);

impl Steps {
    fn add(&mut self, part: &str, passed: bool, detail: impl Into<String>) {
        self.0
            .push(json!({ "step": part, "passed": passed, "detail": detail.into() }));
    }

    /// Returns whether all of them passed.
    fn add_rules(&mut self, part: &str, rules: &[Step]) -> bool {
        for rule in rules {
            self.add(part, rule.passed(), format!("{}: {}", rule.rule, rule.detail));
        }
        rules.iter().all(Step::passed)
    }
}

fn steps(kept: &Remembered) -> Vec<Value> {
    let mut steps = Steps(Vec::new());
    walk(kept, &mut steps);
    steps.0
}

fn walk(kept: &Remembered, steps: &mut Steps) {
    let why = || kept.reason.unwrap_or("it ended").to_owned();
    if kept.deciding == Deciding::NotBegun {
        let passed = kept.is_allowed();
        let detail = match kept.route.as_ref().filter(|_| passed) {
            Some(_) => "it was sent on to `public_url`".to_owned(),
            None => format!("before a route was looked for: {}", why()),
        };
        return steps.add("target", passed, detail);
    }
    let cut = if kept.is_cut { "… (cut)" } else { "" };
    steps.add("target", true, format!("canonical path {}{cut}", kept.path()));

    let refusal = kept.refusal.filter(|_| kept.deciding == Deciding::Refused);
    let Some(route) = &kept.route else {
        let detail = match refusal {
            Some(Refusal::RouteMissing) => "no route covers this path on this host".to_owned(),
            _ => why(),
        };
        return steps.add("route", false, detail);
    };
    let (Some(place), Some(rules)) = (&route.place, &route.rules) else {
        steps.add(
            "route",
            true,
            "the gateway itself answers here; no app gets this request",
        );
        credentials(kept, steps);
        if let Some(refusal) = kept.refusal {
            steps.add("endpoint", false, refusal.reason());
        }
        return;
    };
    let shown = format!("{} ({place})", route.text);
    match refusal {
        // Before any rule, and before a credential is looked for.
        Some(refusal) if kept.rule.is_none() && !kept.attempts.is_read => {
            return steps.add("route", false, format!("{shown}: {}", refusal.reason()));
        }
        _ => steps.add("route", true, shown),
    }
    if kept.deciding == Deciding::Preflight {
        return steps.add("route", true, "the preflight of a page, which has no credential");
    }
    let target = kept.path().parse().ok().and_then(|uri| Target::parse(&uri).ok());
    let host = Host::parse(kept.host()).ok();
    let facts = RequestFacts {
        method: kept.method(),
        host: host.as_ref().map_or("", Host::name),
        path: target.as_ref().map_or("", Target::matching),
        client: kept.is_client_known.then_some(kept.client),
        now: UnixSeconds::try_from(kept.time / 1000).unwrap_or(UnixSeconds::MAX),
    };
    if !steps.add_rules("network", &rules.network_steps(&facts)) {
        return;
    }
    let rule = || {
        kept.rule
            .as_ref()
            .map_or_else(String::new, |rule| format!("{rule}: "))
    };
    if rules.auth() == Auth::None {
        steps.add("credential", true, "`auth = \"none\"`: none is looked for");
    } else if !kept.attempts.is_read {
        // What holds for every caller: `maintenance`, and limits by address.
        return steps.add("rules", false, format!("{}{}", rule(), why()));
    }
    if !credentials(kept, steps) {
        return;
    }
    let passed = if kept.is_caller_left_out {
        steps.add(
            "rules",
            refusal.is_none(),
            format!(
                "{}the caller is not kept, because the claims take too much memory",
                rule()
            ),
        );
        refusal.is_none()
    } else {
        steps.add_rules("rules", &rules.steps(kept.caller.as_deref(), &facts))
    };
    if passed && !kept.is_allowed() {
        let part = if refusal.is_some() { "rules" } else { "answer" };
        steps.add(part, false, format!("{}{}", rule(), why()));
    }
}

/// Returns whether the decision went on after them.
fn credentials(kept: &Remembered, steps: &mut Steps) -> bool {
    if !kept.attempts.is_read {
        return true;
    }
    let ended = refused_credential(kept);
    let names = kept
        .route
        .as_ref()
        .map(|route| &*route.sources)
        .unwrap_or_default();
    let place = |attempt: &Attempt| match attempt.source {
        Attempt::SESSION => names.len().checked_sub(1),
        Attempt::NO_SOURCE => None,
        place => Some(usize::from(place)),
    };
    let attempts: Vec<Attempt> = kept.attempts.iter().collect();
    let is_last = |attempt: &Attempt| attempt.refusal.is_none() || attempt.refusal == ended;
    let last = attempts
        .iter()
        .filter(|attempt| is_last(attempt))
        .filter_map(place)
        .next_back();
    let has_none_alone = attempts.iter().any(|attempt| place(attempt).is_none());
    for (number, name) in names.iter().enumerate() {
        if last.is_some_and(|last| number > last) {
            break;
        }
        let found = attempts.iter().find(|attempt| place(attempt) == Some(number));
        match found.map(|attempt| attempt.refusal) {
            // Which of them came twice is not known.
            None if has_none_alone && last.is_none() => {}
            None => steps.add("credential", true, format!("{name}: there is none")),
            Some(None) => steps.add("credential", true, format!("{name}: {}", whose(kept))),
            Some(refusal) if refusal == ended => {
                steps.add("credential", false, format!("{name}: {}", reason(refusal)));
            }
            Some(refusal) => steps.add(
                "credential",
                true,
                format!("{name}: a bad cookie is as good as none ({})", reason(refusal)),
            ),
        }
    }
    for attempt in attempts.iter().filter(|attempt| place(attempt).is_none()) {
        let detail = match attempt.refusal {
            Some(Refusal::CrossSite) => "a page of another origin made the browser send this",
            refusal => reason(refusal),
        };
        steps.add("credential", false, detail);
    }
    ended.is_none()
}

fn reason(refusal: Option<Refusal>) -> &'static str {
    refusal.map_or("it counts", Refusal::reason)
}

fn whose(kept: &Remembered) -> String {
    kept.caller.as_ref().map_or_else(
        || "it counts".to_owned(),
        |caller| {
            format!(
                "of the issuer `{}`, for `{}`",
                caller.identity.issuer, caller.identity.subject
            )
        },
    )
}
