//! `passgate doctor`: tries what a file needs of its surroundings.
//!
//! Input: a file that can be used. Output: one [`Finding`] or several for each thing that was tried, in a fixed order. Invariants: every
//! check has an end, a bounded number of them runs at once, nothing is changed, and no finding has a secret.

mod certificates;
mod place;
mod providers;
mod upstreams;

use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Failure;
use super::config::{Plan, load};
use crate::config::Problems;

/// The longest time for everything.
const TIME_LIMIT: Duration = Duration::from_secs(25);
/// How many checks run at once.
const MOST_AT_ONCE: usize = 16;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It cannot be told from here.
    Unknown,
    /// It works, and may not be meant so, or not for long.
    Warning,
    /// It does not work.
    Problem,
}

impl Level {
    /// The word for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    /// How it went.
    pub(crate) level: Level,
    /// What was tried: `provider`, `upstream` and the like.
    pub(crate) check: &'static str,
    /// What is so.
    pub(crate) message: String,
    /// What to do.
    pub(crate) hint: Option<String>,
}

impl Finding {
    fn new(level: Level, check: &'static str, message: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            level,
            check,
            message: message.into(),
            hint,
        }
    }

    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(Level::Ok, check, message, None)
    }

    fn unknown(check: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Level::Unknown, check, message, Some(hint.into()))
    }

    fn warning(check: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, message, Some(hint.into()))
    }

    fn problem(check: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Level::Problem, check, message, Some(hint.into()))
    }
}

/// What is to be tried besides what the file names.
#[derive(Clone, Debug, Default)]
pub(crate) struct DoctorRequest {
    /// Addresses, each with a port, at which no app may answer; without them those of the upstreams.
    pub(crate) around: Vec<String>,
    /// The address of this machine that these are tried from.
    pub(crate) from: Option<IpAddr>,
}

/// A check, and what to call it where it has no end.
struct Check {
    kind: &'static str,
    what: String,
    work: Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>,
}

/// The checks, in the order of their findings.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add(
        &mut self,
        kind: &'static str,
        what: impl Into<String>,
        work: impl Future<Output = Vec<Finding>> + Send + 'static,
    ) {
        self.0.push(Check {
            kind,
            what: what.into(),
            work: Box::pin(work),
        });
    }

    /// The same for work that blocks.
    fn add_blocking(
        &mut self,
        kind: &'static str,
        what: impl Into<String>,
        work: impl FnOnce() -> Vec<Finding> + Send + 'static,
    ) {
        self.add(kind, what, async move {
            let done = tokio::task::spawn_blocking(work).await;
            done.unwrap_or_else(|error| {
                let hint = "this is an error of passgate; please report it";
                vec![Finding::problem(kind, format!("the check failed: {error}"), hint)]
            })
        });
    }

    async fn run(self) -> Vec<Finding> {
        let deadline = Instant::now() + TIME_LIMIT;
        let places = Arc::new(Semaphore::new(MOST_AT_ONCE));
        let mut found = vec![Vec::new(); self.0.len()];
        let mut running = JoinSet::new();
        for (at, Check { kind, what, work }) in self.0.into_iter().enumerate() {
            let places = Arc::clone(&places);
            running.spawn(async move {
                let work = async {
                    let _place = places.acquire().await;
                    work.await
                };
                let done = timeout_at(deadline, work).await.unwrap_or_else(|_elapsed| {
                    let text = format!("{what}: no result within {} seconds", TIME_LIMIT.as_secs());
                    vec![Finding::problem(
                        kind,
                        text,
                        "look at the network and at the name server of this machine",
                    )]
                });
                (at, done)
            });
        }
        while let Some(done) = running.join_next().await {
            if let Ok((at, findings)) = done
                && let Some(place) = found.get_mut(at)
            {
                *place = findings;
            }
        }
        found.into_iter().flatten().collect()
    }
}

/// Tries everything.
///
/// # Errors
/// The file cannot be used, as for [`check`](super::check); or the system has no thread left.
pub(crate) fn doctor(file: &Path, request: &DoctorRequest) -> Result<Vec<Finding>, Failure> {
    let (plan, problems) = load(file)?;
    // Each fails only if a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let _ = crate::verify::PROVIDER.install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?;
    let mut findings = configuration(&problems);
    findings.extend(runtime.block_on(checks(&plan, file, request).run()));
    // A name server that does not answer holds a thread; the end of the process takes it along.
    runtime.shutdown_background();
    Ok(findings)
}

fn checks(plan: &Plan, file: &Path, request: &DoctorRequest) -> Checks {
    let mut checks = Checks::default();
    place::add(&mut checks, plan, file);
    certificates::add(&mut checks, &plan.settings);
    providers::add(&mut checks, plan);
    upstreams::add(&mut checks, plan, request);
    checks
}

/// What `check` warns of, among it files of secrets that others can read.
fn configuration(problems: &Problems) -> Vec<Finding> {
    let warnings = problems.list();
    if warnings.is_empty() {
        let text = format!("`{}` has no problem", problems.file());
        return vec![Finding::ok("configuration", text)];
    }
    let finding = |listed: &crate::config::Listed<'_>| {
        let line = listed.line.map_or_else(String::new, |line| format!(":{line}"));
        let text = format!("{} (`{}{line}`)", listed.message, listed.file);
        Finding::new(
            Level::Warning,
            "configuration",
            text,
            listed.hint.map(str::to_owned),
        )
    };
    warnings.iter().map(finding).collect()
}
