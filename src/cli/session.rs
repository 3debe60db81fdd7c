//! `passgate session`: what is open, and ending it.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigFile, Format, print, print_json, table};
use crate::app::{Directory, Failure, Session};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the open sessions, the one last seen first
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Only those of the account with this email address or id
        #[arg(value_name = "EMAIL")]
        email: Option<String>,
        /// How they are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// End a session: a running gateway refuses its tokens and closes its open connections within two seconds
    Revoke {
        #[command(flatten)]
        file: ConfigFile,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The id of the session
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// All sessions of the account with this email address or id
    #[arg(long, value_name = "EMAIL")]
    all: Option<String>,
}

impl Command {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::List { file, email, format } => {
                let directory = Directory::open(&file.config)?;
                let of = email.map(|email| directory.account(&email)).transpose()?;
                let sessions = directory.sessions(of.as_ref())?;
                match format {
                    Format::Json => print_json(&sessions),
                    Format::Text => print(text(&sessions, true).as_bytes()),
                }
            }
            Self::Revoke { file, which } => {
                let directory = Directory::open(&file.config)?;
                match which.all {
                    Some(email) => {
                        let account = directory.account(&email)?;
                        let ended = table::count(directory.end_sessions(&account)?, "session");
                        print(format!("ended {ended} of `{}`\n", account.email).as_bytes())
                    }
                    None => {
                        let id = which.id.unwrap_or_default();
                        directory.end_session(&id)?;
                        print(format!("ended the session `{id}`\n").as_bytes())
                    }
                }
            }
        }
    }
}

/// A table of sessions, with the column of their accounts or without.
pub(super) fn text(sessions: &[Session], with_account: bool) -> String {
    let cells = |session: &Session| {
        [
            session.id.clone(),
            session.kind.to_owned(),
            session.created_at.clone(),
            session.last_seen_at.clone(),
            session.expires_at.clone(),
            session.address.clone(),
            session.user_agent.clone(),
        ]
    };
    let header @ [id, a, b, c, d, e, f] = ["ID", "KIND", "SIGNED IN", "LAST SEEN", "EXPIRES", "ADDRESS", "DEVICE"];
    if !with_account {
        return table::render(header, sessions.iter().map(cells));
    }
    let rows = sessions.iter().map(|session| {
        let [id, a, b, c, d, e, f] = cells(session);
        [id, session.email.clone(), a, b, c, d, e, f]
    });
    table::render([id, "EMAIL", a, b, c, d, e, f], rows)
}
