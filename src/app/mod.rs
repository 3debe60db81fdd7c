//! The composition root: turns a file into a gateway, and runs it. The only room that knows every other.

mod accounts;
mod assemble;
mod commands;
mod control;
mod explain;
mod key_store;
mod open;
mod plan;
mod process;
mod report;
mod services;
mod settings;
mod trial;

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use crate::clock::UnixSeconds;
use crate::config::Problems;
use crate::observe::Metrics;

pub use accounts::{Account, Directory, ImportMode, Imported, NewUser, RolesChange, Session, hash_password};
pub use commands::{Inspection, Revoked, TokenRequest, inspect, mint, revoke, signing_keys};
pub use explain::{Explanation, Question, explain};
pub use plan::{Plan, SignInPlan, load};
pub use process::run;
pub use settings::Settings;

/// Why a command ends without having done its work.
#[derive(Debug)]
pub enum Failure {
    /// The configuration or the request cannot be used; the text is complete. Exit code 2.
    Config(String),
    /// Something failed while running. Exit code 1.
    Runtime(anyhow::Error),
}

impl Failure {
    fn problems(problems: &Problems) -> Self {
        Self::Config(problems.render(is_terminal()))
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

/// An error and its causes in one line, without a cause that is part of what was said before it.
#[must_use]
pub fn chain_text(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        said if said.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// Whether problems are printed in colour.
fn is_terminal() -> bool {
    std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

/// A time as people and programs read it: RFC 3339, UTC, seconds.
#[must_use]
pub fn time_text(seconds: UnixSeconds) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// What `check` found in a file that is good.
#[derive(Debug)]
pub struct Checked {
    /// The routes in match order.
    pub routes: Vec<CheckedRoute>,
    /// How many of the file's own tests passed.
    pub tests: usize,
    /// Warnings, rendered; empty where there is none.
    pub remarks: String,
}

/// One route as `check` prints it.
#[derive(Debug, Serialize)]
pub struct CheckedRoute {
    /// `gateway.toml:12`
    pub place: String,
    /// `*` for every host.
    pub host: String,
    /// The pattern.
    pub path: String,
    /// `*` for every method.
    pub methods: String,
    /// Who may.
    pub who: String,
    /// The upstream's name.
    pub upstream: String,
}

/// Validates `file` and runs its tests.
///
/// # Errors
/// [`Failure::Config`] with every problem.
pub fn check(file: &Path) -> Result<Checked, Failure> {
    let (plan, mut problems) = load(file, &Metrics::new())?;
    let tests = trial::run_tests(&plan, &mut problems);
    if !problems.errors().is_empty() {
        return Err(Failure::problems(&problems));
    }
    let routes = plan
        .routes
        .in_order()
        .map(|route| CheckedRoute {
            place: route.place.to_string(),
            host: route.pattern.0.clone().unwrap_or_else(|| "*".to_owned()),
            path: route.pattern.1.clone(),
            methods: route.pattern.2.clone().unwrap_or_else(|| "*".to_owned()),
            who: route.rules.to_string(),
            upstream: route.upstream.name.to_string(),
        })
        .collect();
    let remarks = if problems.warnings().is_empty() { String::new() } else { problems.render(is_terminal()) };
    Ok(Checked { routes, tests, remarks })
}
