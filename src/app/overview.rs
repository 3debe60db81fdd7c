//! What the operator's page shows, from the rooms that know it.
//!
//! Input: the running gateway. Output: plain values. Invariant: callers are named only where the client may see decisions.

use std::collections::BTreeMap;

use super::decisions;
use super::status::Status;
use crate::clock::UnixSeconds;
use crate::forward::ServerState;
use crate::http::percent::push_escape;
use crate::observe::{Durations, Remembered, STEP, STEPS, Step};
use crate::pages::{IssuerItem, Item, Overview, Reason, Refused, Total, UpstreamItem};
use crate::refusal::Refusal;
use crate::server::admin::Report as _;

/// Refused requests that are listed.
const LISTED: usize = 15;
/// Reasons that are listed.
const REASONS: usize = 12;

pub(super) fn overview(status: &Status, sees_decisions: bool, is_live: bool) -> Overview {
    let current = status.current.load();
    let settings = &current.settings;
    let now = status.state.clock.now();
    let problems = [status.health(), status.ready()];
    let problems = problems.into_iter().filter_map(Result::err).flatten().collect();
    let refused = if sees_decisions {
        status.decisions.refused(LISTED).iter().map(refused).collect()
    } else {
        Vec::new()
    };
    let certificates = settings.tls.iter().flat_map(|tls| tls.expiries(now));
    Overview {
        is_live,
        sees_decisions,
        now,
        started_at: status.started_at,
        loaded_at: status.loaded_at(),
        file: status.file.clone(),
        problems,
        reload_failure: status.reload_failure.load().as_deref().cloned(),
        notes: status.left_out_keys(),
        connections: status.metrics.open_connections(),
        upstreams: upstreams(&current.upstreams),
        issuers: issuers(status),
        certificates: certificates
            .map(|(name, state, is_good)| Item { name, state, is_good })
            .collect(),
        refused,
        ..history(&status.history.steps())
    }
}

/// The page of one decision, in words.
pub(super) fn decision_text(kept: &Remembered) -> String {
    decisions::text(&decisions::told(kept))
}

fn history(steps: &[Step]) -> Overview {
    let mut all = Durations::default();
    let mut reasons: BTreeMap<Refusal, u64> = BTreeMap::new();
    for step in steps {
        all.add(&step.answered);
        for (refusal, count) in step.refused() {
            *reasons.entry(refusal).or_default() += count;
        }
    }
    let refused_in = |step: &Step| step.refused().map(|(_, count)| count).sum::<u64>();
    let mut reasons: Vec<(Refusal, u64)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(refusal, count)| (std::cmp::Reverse(*count), *refusal));
    let reasons = reasons.into_iter().take(REASONS).map(|(refusal, count)| {
        let of = |step: &Step| {
            step.refused()
                .find(|(other, _)| *other == refusal)
                .map_or(0, |(_, count)| count)
        };
        Reason {
            name: refusal.reason(),
            status: refusal.status().as_u16(),
            count,
            counts: steps.iter().map(|step| Some(rate(of(step)))).collect(),
        }
    });
    Overview {
        steps_of_hour: STEPS,
        requests: steps.iter().map(|step| Some(rate(step.requests))).collect(),
        refusals: steps.iter().map(|step| Some(rate(refused_in(step)))).collect(),
        p50: steps.iter().map(|step| step.answered.quantile(0.5)).collect(),
        p99: steps.iter().map(|step| step.answered.quantile(0.99)).collect(),
        total: Total {
            requests: steps.iter().map(|step| step.requests).sum(),
            refused: steps.iter().map(refused_in).sum(),
            p50: all.quantile(0.5),
            p99: all.quantile(0.99),
        },
        reasons: reasons.collect(),
        ..Overview::default()
    }
}

/// In a second.
#[expect(clippy::cast_precision_loss, reason = "it is drawn")]
fn rate(count: u64) -> f64 {
    count as f64 / STEP.as_secs_f64()
}

fn upstreams(upstreams: &[std::sync::Arc<crate::forward::Upstream>]) -> Vec<UpstreamItem> {
    let items = upstreams.iter().map(|upstream| {
        let state = |state| match state {
            ServerState::Up if upstream.has_health_check() => ("healthy", true),
            ServerState::Up => ("in use", true),
            ServerState::Down => ("down", false),
            ServerState::LeftOut => ("left out after failures", false),
        };
        let mut servers: Vec<Item> = upstream
            .server_states()
            .map(|(name, found)| {
                let (state, is_good) = state(found);
                Item {
                    name: name.to_owned(),
                    state: state.to_owned(),
                    is_good,
                }
            })
            .collect();
        if servers.is_empty() {
            servers.push(Item {
                name: "built in".to_owned(),
                state: "in use".to_owned(),
                is_good: true,
            });
        }
        UpstreamItem {
            name: upstream.name.to_string(),
            servers,
        }
    });
    items.collect()
}

fn issuers(status: &Status) -> Vec<IssuerItem> {
    let current = status.current.load();
    let issuers = current.gateway.verifier.issuers();
    let others = issuers
        .iter()
        .filter(|issuer| &*issuer.name != crate::identity::SESSION_ISSUER);
    others
        .map(|issuer| {
            let fetched = issuer.source.as_ref().map(|source| source.status());
            IssuerItem {
                name: issuer.name.to_string(),
                issuer: issuer.issuer.to_string(),
                keys: fetched.as_ref().map_or_else(
                    || issuer.keys.now().set.as_ref().map_or(0, |set| set.len()),
                    |status| status.keys,
                ),
                fetched_at: fetched.as_ref().and_then(|status| status.last_success),
                is_fetched: fetched.is_some(),
                error: fetched.and_then(|status| status.last_error),
            }
        })
        .collect()
}

fn refused(kept: &Remembered) -> Refused {
    let mut href = "/decisions/".to_owned();
    for byte in kept.request_id().bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => href.push(char::from(byte)),
            byte => push_escape(&mut href, byte),
        }
    }
    let subject = kept.caller.as_ref().map(|caller| caller.identity.subject.clone());
    Refused {
        request_id: kept.request_id().to_owned(),
        href,
        at: UnixSeconds::try_from(kept.time / 1000).unwrap_or_default(),
        method: kept.method().to_owned(),
        path: kept.path().to_owned(),
        subject,
        status: kept.status,
        reason: kept.reason.unwrap_or_default().to_owned(),
        rule: kept.rule.as_ref().map(|rule| {
            let file = rule.place.file.rsplit('/').next().unwrap_or_default();
            format!("{} ({file}:{})", rule.text, rule.place.line)
        }),
    }
}
