//! `passgate token`: sign a token with the gateway's own key, look into any token.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use super::{Format, print, print_json, warn_of_commas};
use crate::app::{self, Failure, TokenRequest};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Sign an access token with the gateway's own key and print it
    Mint {
        /// Its `sub`
        #[arg(long, visible_alias = "as", value_name = "SUBJECT")]
        subject: String,
        /// A role; may be repeated
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// A scope; may be repeated
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Its `email`
        #[arg(long)]
        email: Option<String>,
        /// Its `name`
        #[arg(long)]
        name: Option<String>,
        /// A further claim, `name=value`; the value is read as JSON where it is JSON; may be repeated
        #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
        claims: Vec<(String, serde_json::Value)>,
        /// How long it is valid
        #[arg(long, default_value = "15m", value_parser = duration)]
        lifetime: Duration,
    },
    /// Show what a token says and whether the gateway would take it; the token is the first line of a file or of standard
    /// input
    Inspect {
        /// A file with the token; `-` or nothing: standard input
        #[arg(value_name = "TOKEN_FILE")]
        token: Option<std::path::PathBuf>,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::config::values::duration(text).map_err(|error| error.to_string())
}

pub(super) fn claim(text: &str) -> Result<(String, serde_json::Value), String> {
    let (name, value) = text.split_once('=').ok_or("it has the form `name=value`")?;
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok((
        name.to_owned(),
        serde_json::from_str(value).unwrap_or_else(|_| value.into()),
    ))
}

impl Command {
    pub(super) fn run(self, file: &Path) -> Result<ExitCode, Failure> {
        match self {
            Self::Mint {
                subject,
                roles,
                scopes,
                email,
                name,
                claims,
                lifetime,
            } => {
                warn_of_commas(&roles);
                let request = TokenRequest {
                    subject,
                    roles,
                    scopes,
                    email,
                    name,
                    claims,
                    lifetime,
                };
                let token = app::mint(file, request)?;
                print(format!("{token}\n"))
            }
            Self::Inspect { token, format } => {
                let mut text = String::new();
                // A token is a secret: it does not come as an argument. 64 KiB is more than any token we read.
                let read = match token.filter(|path| path.as_os_str() != "-") {
                    Some(path) => {
                        std::fs::File::open(path).and_then(|file| file.take(65_536).read_to_string(&mut text))
                    }
                    None => std::io::stdin().lock().take(65_536).read_to_string(&mut text),
                };
                read.map_err(|error| {
                    anyhow::anyhow!(
                        "cannot read the token: {error}; an argument is the name of a file that holds it, and without one \
                         it is read from standard input"
                    )
                })?;
                let report = app::inspect(file, text.lines().next().unwrap_or_default().trim())?;
                if format == Format::Json {
                    print_json(&report)?;
                } else {
                    print(report.text())?;
                }
                Ok(if report.accepted {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(3)
                })
            }
        }
    }
}
