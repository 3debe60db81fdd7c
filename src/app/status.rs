//! What the admin port tells about the running gateway.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::sync::watch;

use super::build::Current;
use super::decisions;
use super::overview::{decision_text, overview};
use super::state_sync::StateSnapshot;
use crate::clock::UnixSeconds;
use crate::forward::Upstream;
use crate::observe::metrics::{CONTENT_TYPE, CacheCounts, KeySetState, OtherCounts, ServerCounts};
use crate::observe::{AccessLog, Decisions, Diagnostics, History, Metrics, STEP};
use crate::rate_limit::RateLimits;
use crate::server::admin::{self, Tried};
use crate::server::worker::Pulse;
use crate::verify::{CacheCounters, LocalCache};

/// The sources of the numbers.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) current: Arc<ArcSwap<Current>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: Arc<AccessLog>,
    pub(super) diagnostics: Diagnostics,
    /// Of the workers, by their number.
    pub(super) pulses: Vec<Arc<Pulse>>,
    /// Of all tables of all workers.
    pub(super) caches: Vec<Arc<CacheCounters>>,
    pub(super) state: Arc<StateSnapshot>,
    pub(super) loaded_at: AtomicI64,
    /// Why the last reload failed; `None` where it did not.
    pub(super) reload_failure: ArcSwapOption<String>,
    pub(super) draining: watch::Receiver<bool>,
    pub(super) decisions: Arc<Decisions>,
    /// The counts of the last hour.
    pub(super) history: History,
    /// In seconds since 1970.
    pub(super) started_at: UnixSeconds,
    /// The configuration file as it was named.
    pub(super) file: String,
    /// Counts wrong tokens for decisions.
    pub(super) wrong_tokens: RateLimits,
}

/// The servers of an app, as metrics show them.
fn server_counts(upstream: &Upstream) -> impl Iterator<Item = ServerCounts> {
    upstream.servers().map(|(server, status)| ServerCounts {
        upstream: Arc::clone(&upstream.name),
        server: Arc::clone(server),
        is_up: status.is_up,
        ejections: status.ejections,
        retries: status.retries,
        pending: status.pending,
    })
}

impl Status {
    /// The counters of a worker's token table.
    pub(super) fn counters(cache: &Mutex<LocalCache>) -> Arc<CacheCounters> {
        Arc::clone(cache.lock().unwrap_or_else(PoisonError::into_inner).counters())
    }

    /// A text for each issuer with keys that cannot be used.
    pub(super) fn left_out_keys(&self) -> Vec<String> {
        let current = self.current.load();
        let left_out = current.gateway.verifier.issuers().iter().filter_map(|issuer| {
            let skipped = issuer.source.as_ref()?.status().skipped;
            (!skipped.is_empty())
                .then(|| format!("keys of `{}` are left out: {}", issuer.name, skipped.join("; ")))
        });
        left_out.collect()
    }

    /// When the configuration in use was read, in seconds since 1970.
    pub(super) fn loaded_at(&self) -> UnixSeconds {
        self.loaded_at.load(Ordering::Relaxed)
    }

    /// Samples the counts for the operator's page, without end.
    pub(super) async fn keep_history(self: Arc<Self>) {
        let mut turns = tokio::time::interval(STEP);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one is at once.
        turns.tick().await;
        loop {
            turns.tick().await;
            self.history.sample(&self.metrics);
        }
    }

    /// The configuration was read again, and taken unless there is a `failure`.
    pub(super) fn reloaded(&self, failure: Option<String>) {
        if failure.is_none() {
            self.loaded_at.store(self.state.clock.now(), Ordering::Relaxed);
        }
        self.reload_failure.store(failure.map(Arc::new));
    }
}

impl admin::Report for Status {
    /// Healthy: every worker runs its tasks. The connections of a worker that does not are stuck until a restart.
    fn health(&self) -> Result<(), Vec<String>> {
        let now = std::time::Instant::now();
        let stuck = self
            .pulses
            .iter()
            .enumerate()
            .filter(|(_, pulse)| pulse.is_stuck(now));
        let reasons: Vec<String> = stuck
            .map(|(number, _)| format!("worker {number} has not responded for 5 seconds"))
            .collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn is_named(&self, name: &str) -> bool {
        let settings = &self.current.load().settings;
        settings.public_host() == name || settings.admin_hosts.iter().any(|host| host == name)
    }

    /// Ready: requests are decided. An issuer that cannot be reached does not change that, because the other routes work; `passgate_jwks_*` and the 503 of the requests concerned tell.
    fn ready(&self) -> Result<(), Vec<String>> {
        let mut reasons = Vec::new();
        if *self.draining.borrow() {
            reasons.push("shutting down".to_owned());
        }
        if !self.state.revocations.is_fresh(std::time::Instant::now()) {
            reasons
                .push("the state cannot be read: requests that need authentication are refused".to_owned());
        }
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn notes(&self) -> Vec<String> {
        let failure = self.reload_failure.load_full();
        let failure = failure.map(|failure| {
            format!("the last reload failed, and the previous configuration is in use: {failure}")
        });
        failure.into_iter().chain(self.left_out_keys()).collect()
    }

    fn metrics(&self) -> (&'static str, String) {
        let current = self.current.load();
        let verifier = &current.gateway.verifier;
        let sum =
            |count: fn(&CacheCounters) -> u64| self.caches.iter().map(|cache| count(cache)).sum::<u64>();
        let key_sets = verifier
            .issuers()
            .iter()
            .filter_map(|issuer| {
                let status = issuer.source.as_ref()?.status();
                Some(KeySetState {
                    issuer: issuer.name.to_string(),
                    keys: status.keys as u64,
                    fetched_at: status.last_success,
                    fetches: status.fetched,
                    failures: status.failed,
                })
            })
            .collect();
        let others = OtherCounts {
            cache: CacheCounts {
                hits: sum(CacheCounters::local_hits) + sum(CacheCounters::shared_hits),
                misses: sum(CacheCounters::misses),
                entries: verifier.cached()
                    + current
                        .gateway
                        .sign_in
                        .as_ref()
                        .map_or(0, |sign_in| sign_in.verifier.cached()),
            },
            key_sets,
            servers: current
                .upstreams
                .iter()
                .flat_map(|upstream| server_counts(upstream))
                .collect(),
            cookies_dropped: current
                .upstreams
                .iter()
                .map(|upstream| (upstream.name.to_string(), upstream.dropped_cookies()))
                .collect(),
            log_lines_dropped: self.log.dropped(),
            diagnostics_dropped: self.diagnostics.dropped(),
            config_loaded_at: self.loaded_at.load(Ordering::Relaxed),
            config_reload_failed: self.reload_failure.load().is_some(),
        };
        (CONTENT_TYPE, self.metrics.encode(others))
    }

    fn has_token(&self) -> bool {
        self.current.load().settings.admin_token.is_some()
    }

    fn try_token(&self, client: IpAddr, token: &[u8]) -> Tried {
        let current = self.current.load();
        let Some(right) = &current.settings.admin_token else {
            return Tried::NoneConfigured;
        };
        if self.wrong_tokens.has_bad_signatures(client) {
            return Tried::TooMany;
        }
        if right.is(token) {
            return Tried::Right;
        }
        self.wrong_tokens.note_bad_signature(client);
        Tried::Wrong
    }

    fn overview(&self, sees_decisions: bool, is_live: bool) -> Response<Bytes> {
        let overview = overview(self, sees_decisions, is_live);
        self.current.load().gateway.pages.overview(overview)
    }

    fn decision(&self, request_id: &str) -> Option<String> {
        Some(decisions::told(&self.decisions.find(request_id)?).to_string())
    }

    fn decision_page(&self, request_id: &str) -> Response<Bytes> {
        let text = self.decisions.find(request_id).map(|kept| decision_text(&kept));
        self.current
            .load()
            .gateway
            .pages
            .decision(request_id, text.as_deref())
    }

    fn decisions(&self) -> String {
        let all: Vec<_> = self.decisions.all().iter().map(decisions::told).collect();
        json!({ "decisions": all }).to_string()
    }
}
