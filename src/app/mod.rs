//! The composition root: turns a file into a gateway, and runs it. The only room that knows every other.

mod accounts;
mod admin_client;
mod build;
mod commands;
mod config;
mod config_tests;
mod console;
mod decisions;
mod diff;
mod doctor;
mod egress;
mod explain;
mod file_watch;
mod guarded;
mod key_store;
mod login_services;
mod offline;
mod overview;
mod reload;
mod run;
mod settings;
mod sockets;
mod state_sync;
mod status;
mod why;
mod worker;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Serialize;

use crate::authorize::Who;
use crate::clock::UnixSeconds;
use crate::config::{Listed, Problems};
use crate::login;
use crate::pages;
use crate::rate_limit::ShownRateLimit;

pub(crate) use accounts::{
    Account, Directory, Identity, ImportMode, Imported, RolesChange, Session, hash_password,
};
pub use build::{Joined, gateway};
pub(crate) use commands::{TokenRequest, inspect, mint, revoke, rotate_signing_key, signing_keys};
pub use config::load;
pub(crate) use diff::diff;
pub(crate) use doctor::{DoctorRequest, Finding, Level, doctor};
pub use explain::{ExplainRequest, explain};
pub(crate) use run::run;
pub(crate) use why::why;

/// Why a command ends without having done its work.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for cannot be used; the text is complete. Exit code 2.
    Config(String),
    /// What was asked for is not done; the text is complete. Exit code 1.
    Refused(String),
    /// The configuration has errors. Exit code 2.
    Problems(Box<Problems>),
    /// The configuration cannot be read at all. Exit code 2.
    Unreadable(Unreadable),
    /// Something failed while running. Exit code 1.
    Runtime(anyhow::Error),
}

/// A configuration without a text to point at.
#[derive(Debug)]
pub struct Unreadable {
    /// The file as it was named on the command line.
    pub file: String,
    /// The line that it cannot be read beyond, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Unreadable {
    /// The same as one of the problems of a file that can be read.
    #[must_use]
    pub fn listed(&self) -> Listed<'_> {
        Listed {
            level: "error",
            file: &self.file,
            line: self.line,
            column: None,
            message: &self.message,
            hint: Some(&self.hint),
        }
    }
}

impl Failure {
    fn problems(problems: Problems) -> Self {
        Self::Problems(Box::new(problems))
    }

    /// What to tell a person, with a line break at the end.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Config(text) | Self::Refused(text) => text.clone(),
            Self::Problems(problems) => problems.render(has_color()),
            Self::Unreadable(Unreadable { message, hint, .. }) => format!("error: {message}\nhint: {hint}\n"),
            Self::Runtime(error) => format!("error: {}\n", chain_text(error)),
        }
    }

    /// The same in one line: of several problems, the first.
    #[must_use]
    fn summary(&self) -> String {
        match self {
            Self::Config(text) | Self::Refused(text) => {
                let line = text.lines().next().unwrap_or_default();
                line.trim_start_matches("error: ").to_owned()
            }
            Self::Problems(problems) => match problems.list().first() {
                Some(Listed {
                    file,
                    line: Some(line),
                    message,
                    ..
                }) => format!("{file}:{line}: {message}"),
                _ => "the configuration has errors".to_owned(),
            },
            Self::Unreadable(Unreadable { message, .. }) => message.clone(),
            Self::Runtime(error) => chain_text(error),
        }
    }

    /// The hash of a configuration with problems.
    fn sha256(&self) -> Option<String> {
        match self {
            Self::Problems(problems) => Some(config::sha256(problems)),
            _ => None,
        }
    }

    /// The files that a configuration with problems names.
    fn files(&self) -> &[PathBuf] {
        match self {
            Self::Problems(problems) => problems.files(),
            _ => &[],
        }
    }

    /// How the process ends.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Problems(_) | Self::Unreadable(_) => 2,
            Self::Refused(_) | Self::Runtime(_) => 1,
        }
    }
}

/// What failed while running.
fn failed(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Runtime(error.into())
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Runtime(error)
    }
}

/// An error and its causes in one line, without a cause that is part of what was said before it.
#[must_use]
pub(crate) fn chain_text(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |text, cause| match text.as_str() {
            "" => cause,
            said if said.contains(&cause) => text,
            _ => format!("{text}: {cause}"),
        })
}

/// Whether standard error is written in colour.
static COLOR: OnceLock<bool> = OnceLock::new();

/// Says once, before anything else is called here, whether what goes to standard error is in colour; it is not unless
/// this says so.
pub(crate) fn set_color(color: bool) {
    // A second call would be a second opinion.
    let _ = COLOR.set(color);
}

fn has_color() -> bool {
    COLOR.get().copied().unwrap_or_default()
}

/// A time as people and programs read it: RFC 3339, UTC, seconds.
#[must_use]
pub(crate) fn time_text(seconds: UnixSeconds) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// Writes the built-in templates of pages into `directory`, which is made where there is none. Returns their names.
///
/// # Errors
/// A file is there already, unless `force` writes over it; nothing is written then. Or a file cannot be written.
pub(crate) fn export_pages(directory: &Path, force: bool) -> Result<Vec<&'static str>, Failure> {
    let failed =
        |path: &Path, error: std::io::Error| anyhow::anyhow!("cannot write `{}`: {error}", path.display());
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let there: Vec<String> = pages::BUILT_IN
        .iter()
        .map(|(file, _)| directory.join(file))
        .filter(|path| !force && path.symlink_metadata().is_ok())
        .map(|path| format!("`{}`", path.display()))
        .collect();
    if !there.is_empty() {
        return Err(Failure::Config(format!(
            "error: already there: {}\nhint: name an empty directory, or write over them with `--force`\n",
            there.join(", ")
        )));
    }
    for (file, text) in pages::BUILT_IN {
        let path = directory.join(file);
        let mut options = std::fs::File::options();
        options
            .write(true)
            .truncate(true)
            .create(force)
            .create_new(!force);
        let written = options
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| failed(&path, error))?;
    }
    Ok(pages::BUILT_IN.map(|(file, _)| file).to_vec())
}

/// What `check` found in a file that is good.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The routes in match order.
    pub routes: Vec<CheckedRoute>,
    /// How many of the file's own tests passed.
    pub tests: usize,
    /// What can be reached without signing in: the routes in match order, then the gateway's own endpoints.
    pub public: Vec<PublicPath>,
    /// The file, and its warnings.
    pub problems: Problems,
}

impl Checked {
    /// The warnings, rendered; empty where there is none.
    #[must_use]
    pub(crate) fn remarks(&self) -> String {
        self.problems.render(has_color())
    }
}

/// One route as `check` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct CheckedRoute {
    /// `*` for every host.
    pub host: String,
    /// The pattern.
    pub path: String,
    /// `*` alone for every method.
    pub methods: Vec<String>,
    /// The required role rules.
    pub who: Who,
    /// `who` in one line, for people.
    #[serde(skip)]
    pub who_text: String,
    /// The limit on requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<ShownRateLimit>,
    /// The upstream's name.
    pub upstream: String,
    /// `gateway.toml:12`
    pub place: String,
}

/// A path pattern that can be reached without signing in, as `check --public` prints it.
#[derive(Debug, Serialize)]
pub(crate) struct PublicPath {
    /// `*` for every host.
    pub host: String,
    /// The pattern.
    pub path: String,
    /// `*` alone for every method.
    pub methods: Vec<String>,
    /// Why.
    pub why: String,
    /// `gateway.toml:12`; `None` for the gateway's own endpoints.
    pub place: Option<String>,
}

fn public_paths(plan: &config::Plan) -> Vec<PublicPath> {
    let listed = |methods: &str| methods.split(", ").map(str::to_owned).collect();
    let of_routes = plan.routes.in_order().filter_map(|route| {
        let (host, path, methods) = &route.pattern;
        Some(PublicPath {
            why: route.rules.public_because()?,
            host: host.clone().unwrap_or_else(|| "*".to_owned()),
            path: path.clone(),
            methods: listed(methods.as_deref().unwrap_or("*")),
            place: Some(route.place.to_string()),
        })
    });
    let (prefix, has_sign_in) = (&plan.settings.own_prefix, plan.sign_in.is_some());
    let own = login::public_endpoints(prefix, plan.settings.aliases, has_sign_in).map(|(path, methods)| {
        PublicPath {
            host: "*".to_owned(),
            path,
            methods: listed(methods),
            why: "an endpoint of the gateway".to_owned(),
            place: None,
        }
    });
    of_routes.chain(own).collect()
}

/// Validates `file` and runs its tests.
///
/// # Errors
/// [`Failure::Problems`] with every problem, [`Failure::Unreadable`].
pub(crate) fn check(file: &Path) -> Result<Checked, Failure> {
    let (plan, mut problems) = load(file)?;
    let tests = config_tests::run_tests(&plan, &mut problems);
    if !problems.errors().is_empty() {
        return Err(Failure::problems(problems));
    }
    let routes = plan
        .routes
        .in_order()
        .map(|route| CheckedRoute {
            place: route.place.to_string(),
            host: route.pattern.0.clone().unwrap_or_else(|| "*".to_owned()),
            path: route.pattern.1.clone(),
            methods: match &route.pattern.2 {
                Some(methods) => methods.split(", ").map(str::to_owned).collect(),
                None => vec!["*".to_owned()],
            },
            who: route.rules.who(),
            who_text: route.rules.to_string(),
            rate_limit: route.rate_limit.as_ref().map(|limit| limit.shown().clone()),
            upstream: route.upstream.name.to_string(),
        })
        .collect();
    Ok(Checked {
        routes,
        tests,
        public: public_paths(&plan),
        problems,
    })
}
