//! `passgate session`: lists and ends sessions.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Format, print, print_json, table};
use crate::app::{Directory, Failure, Session};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List open sessions, most recently seen first. `--format json` has every field
    List {
        /// Only sessions of the account with this email address or id
        #[arg(value_name = "EMAIL")]
        email: Option<String>,
        /// Output format
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// End a session: a running gateway refuses its tokens and closes its open connections within two seconds
    Revoke {
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Id of the session
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// All sessions of the account with this email address or id
    #[arg(long, value_name = "EMAIL")]
    all: Option<String>,
}

impl Command {
    pub(super) fn run(self, file: &Path) -> Result<ExitCode, Failure> {
        match self {
            Self::List { email, format } => {
                let directory = Directory::open(file)?;
                let of = email.map(|email| directory.account(&email)).transpose()?;
                let sessions = directory.sessions(of.as_ref())?;
                match format {
                    Format::Json => print_json(&sessions),
                    Format::Text => print(text(&sessions, true)),
                }
            }
            Self::Revoke { which } => {
                let directory = Directory::open(file)?;
                match which.all {
                    Some(email) => {
                        let account = directory.account(&email)?;
                        let ended = table::count(directory.end_sessions(&account)?, "session");
                        print(format!("ended {ended} of `{}`\n", account.called()))
                    }
                    None => {
                        let id = which.id.unwrap_or_default();
                        directory.end_session(&id)?;
                        print(format!("ended the session `{id}`\n"))
                    }
                }
            }
        }
    }
}

/// The widest line of a table of sessions, in characters.
const WIDEST: usize = 100;

/// A table of sessions, with the column of their accounts or without. What does not fit is cut.
pub(super) fn text(sessions: &[Session], with_account: bool) -> String {
    let row = |session: &Session| {
        let day = session.expires_at.get(..10).unwrap_or_default();
        let cells = match with_account {
            true => [&*session.id, &session.email, &session.last_seen],
            false => [&*session.id, &session.last_seen, day],
        };
        let [first, second, third] = cells;
        [first, second, third, &session.address, &session.device].map(str::to_owned)
    };
    let rows = sessions.iter().map(row);
    let has_provider = sessions.iter().any(|session| session.provider.is_some());
    if with_account && has_provider {
        let rows = sessions.iter().map(|session| {
            let provider = session.provider.as_deref().unwrap_or("-");
            [
                &*session.id,
                &session.email,
                provider,
                &session.last_seen,
                &session.address,
                &session.device,
            ]
            .map(str::to_owned)
        });
        let header = ["ID", "EMAIL", "PROVIDER", "SEEN", "ADDRESS", "DEVICE"];
        return table::fitted(header, rows, [1, 2, 4, 5], WIDEST);
    }
    if with_account {
        let header = ["ID", "EMAIL", "SEEN", "ADDRESS", "DEVICE"];
        return table::fitted(header, rows, [1, 3, 4], WIDEST);
    }
    let header = ["ID", "SEEN", "EXPIRES", "ADDRESS", "DEVICE"];
    table::fitted(header, rows, [3, 4], WIDEST)
}
