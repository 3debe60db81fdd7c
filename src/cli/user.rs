//! `passgate user`: local accounts.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{Format, ask, print, print_json, session, table, warn};
use crate::account::NewAccount;
use crate::app::{Account, Directory, Failure, Identity, ImportMode, Imported, RolesChange, Session};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add an account. The password is prompted for, or is the first line of standard input
    Add {
        /// Email address for sign-in
        #[arg(value_name = "EMAIL")]
        email: String,
        /// Display name
        #[arg(long)]
        name: Option<String>,
        /// Role (repeatable, or separated by commas)
        #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
        roles: Vec<String>,
        /// Set no password: sign-in by password is refused until `user password` sets one
        #[arg(long)]
        no_password: bool,
        /// Output format
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// List all accounts
    List {
        /// Output format
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show an account and its open sessions
    Show {
        #[command(flatten)]
        who: Who,
        /// Output format
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show or change the roles of an account
    Roles {
        #[command(flatten)]
        who: Who,
        /// Role to add (repeatable, or separated by commas)
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        add: Vec<String>,
        /// Role to remove (repeatable, or separated by commas)
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        remove: Vec<String>,
        /// Role to set in place of all present roles (repeatable, or separated by commas)
        #[arg(long, value_name = "ROLE", value_delimiter = ',', conflicts_with_all = ["add", "remove"])]
        set: Vec<String>,
        /// Output format
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Set a new password, which is prompted for, or is the first line of standard input. All sessions of the account end
    Password {
        #[command(flatten)]
        who: Who,
    },
    /// Confirm that the email address of an account belongs to its owner. Until then, apps do not get the address of a
    /// registered account, and no rule on email matches it
    Confirm {
        /// Email addresses or ids of the accounts
        #[arg(value_name = "EMAIL", required_unless_present = "all")]
        emails: Vec<String>,
        /// Confirm every existing account
        #[arg(long, conflicts_with = "emails")]
        all: bool,
    },
    /// Disable an account: sign-in is refused, and all its sessions end
    Disable {
        #[command(flatten)]
        who: Who,
    },
    /// Enable a disabled account
    Enable {
        #[command(flatten)]
        who: Who,
    },
    /// Delete an account and end all its sessions. A later account with the same address has a new id
    Delete {
        #[command(flatten)]
        who: Who,
        /// Do not ask for confirmation (a terminal only asks)
        #[arg(long)]
        yes: bool,
    },
    /// Import accounts from JSON lines, with password hashes (bcrypt, argon2) of another program. All lines are checked
    /// first; if one is invalid, nothing is imported
    Import {
        /// File with one JSON object per line: `{"email": …, "passwordHash": …, "name": …, "roles": […], "id": …}`
        /// [default: standard input]
        #[arg(value_name = "LINES")]
        lines: Option<PathBuf>,
        /// Update existing accounts (matched by email address) instead of reporting them. Their sessions end where the hash
        /// changes or the account is disabled
        #[arg(long)]
        update: bool,
        /// Report invalid lines and import the others
        #[arg(long)]
        skip_bad: bool,
        /// Check the lines and print what would change, without writing
        #[arg(long)]
        dry_run: bool,
    },
}

/// An existing account.
#[derive(Debug, Args)]
pub(super) struct Who {
    /// Email address or id of the account
    #[arg(value_name = "EMAIL")]
    email: String,
}

impl Who {
    fn open(&self, file: &Path) -> Result<(Directory, Account), Failure> {
        let directory = Directory::open(file)?;
        let account = directory.account(&self.email)?;
        Ok((directory, account))
    }
}

impl Command {
    pub(super) fn run(self, file: &Path) -> Result<ExitCode, Failure> {
        match self {
            Self::Add {
                email,
                name,
                roles,
                no_password,
                format,
            } => add(
                &Directory::open(file)?,
                NewAccount {
                    id: None,
                    email,
                    name,
                    roles,
                    password_hash: None,
                    disabled: false,
                    // The operator knows whose address it is.
                    confirmed: true,
                },
                no_password,
                format,
            ),
            Self::List { format } => list(&Directory::open(file)?.list()?, format),
            Self::Show { who, format } => {
                let (directory, account) = who.open(file)?;
                let sessions = directory.sessions(Some(&account))?;
                show(account, sessions, format)
            }
            Self::Roles {
                who,
                add,
                remove,
                set,
                format,
            } => {
                let (directory, account) = who.open(file)?;
                let change = match (set.is_empty(), add.is_empty() && remove.is_empty()) {
                    (false, _) => RolesChange::Set(set),
                    (true, false) => RolesChange::Edit { add, remove },
                    (true, true) => return print_roles(&account.roles, format),
                };
                change_roles(&directory, &account, change, format)
            }
            Self::Password { who } => {
                let (directory, account) = who.open(file)?;
                directory.check_local(&account)?;
                let password =
                    ask::new_password(|password| directory.check_password(&account.email, password))?;
                let ended = directory.change_password(&account, &password)?;
                warn_of_missing_table(&directory);
                print(format!(
                    "changed the password of `{}`; {}\n",
                    account.email,
                    ended_text(ended)
                ))
            }
            Self::Confirm { emails, all } => confirm(&Directory::open(file)?, &emails, all),
            Self::Disable { who } => {
                let (directory, account) = who.open(file)?;
                let ended = directory.disable(&account)?;
                print(format!("disabled `{}`; {}\n", account.called(), ended_text(ended)).as_bytes())
            }
            Self::Enable { who } => {
                let (directory, account) = who.open(file)?;
                directory.enable(&account)?;
                print(format!("enabled `{}`\n", account.called()))
            }
            Self::Delete { who, yes } => {
                let (directory, account) = who.open(file)?;
                delete(&directory, &account, yes)
            }
            Self::Import {
                lines,
                update,
                skip_bad,
                dry_run,
            } => import(
                &Directory::open(file)?,
                lines.as_deref(),
                ImportMode {
                    update,
                    skip_bad,
                    dry_run,
                },
            ),
        }
    }
}

/// What `user add --format json` prints.
#[derive(Serialize)]
struct Added<'a> {
    id: &'a str,
    email: &'a str,
}

fn add(
    directory: &Directory,
    new: NewAccount,
    no_password: bool,
    format: Format,
) -> Result<ExitCode, Failure> {
    // Check everything else before the password is typed.
    directory.check_new(&new)?;
    let password = match no_password {
        true => None,
        false => Some(ask::new_password(|password| {
            directory.check_password(&new.email, password)
        })?),
    };
    let account = directory.add(new, password.as_ref())?;
    if password.is_some() {
        warn_of_missing_table(directory);
    }
    if format == Format::Json {
        return print_json(&Added {
            id: &account.id,
            email: &account.email,
        });
    }
    print(format!(
        "added `{}` with the id `{}`{}\n",
        account.email,
        account.id,
        roles_text(&account.roles)
    ))
}

fn warn_of_missing_table(directory: &Directory) {
    if !directory.by_password() {
        warn("the configuration has no `[password]`, so sign-in by password is off");
    }
}

fn roles_text(roles: &[String]) -> String {
    match roles {
        [] => " and no roles".to_owned(),
        [role] => format!(" and the role {role}"),
        roles => format!(" and the roles {}", roles.join(", ")),
    }
}

fn ended_text(ended: usize) -> String {
    match ended {
        0 => "it had no open sessions".to_owned(),
        1 => "its 1 session has ended".to_owned(),
        ended => format!("its {ended} sessions have ended"),
    }
}

fn list(accounts: &[Account], format: Format) -> Result<ExitCode, Failure> {
    if format == Format::Json {
        return print_json(&accounts);
    }
    let rows = accounts.iter().map(|account| {
        [
            account.email.clone(),
            account.id.clone(),
            account.name.clone().unwrap_or_default(),
            account.roles.join(", "),
            state(account).to_owned(),
            account.password_hash.clone().unwrap_or_else(|| "none".to_owned()),
            providers(account),
            account.created_at.clone(),
        ]
    });
    print(table::render(
        [
            "EMAIL",
            "ID",
            "NAME",
            "ROLES",
            "STATE",
            "PASSWORD",
            "PROVIDERS",
            "CREATED",
        ],
        rows,
    ))
}

/// The providers that it signs in with, each once.
fn providers(account: &Account) -> String {
    let mut names: Vec<&str> = account.identities.iter().map(|of| &*of.provider).collect();
    names.dedup();
    names.join(", ")
}

/// The account in one word.
fn state(account: &Account) -> &'static str {
    match (account.disabled, account.confirmed) {
        (true, _) => "disabled",
        (false, true) => "active",
        (false, false) => "unconfirmed",
    }
}

/// Looks all accounts up before it confirms the first one.
fn confirm(directory: &Directory, emails: &[String], all: bool) -> Result<ExitCode, Failure> {
    let accounts = match all {
        true => directory.list()?,
        false => emails
            .iter()
            .map(|email| directory.account(email))
            .collect::<Result<_, _>>()?,
    };
    let mut text = String::new();
    for account in &accounts {
        let _ = match directory.confirm(account)? {
            true => writeln!(text, "confirmed `{}`", account.called()),
            false if all => continue,
            false => writeln!(text, "`{}` was confirmed already", account.called()),
        };
    }
    if text.is_empty() {
        text.push_str("all accounts were confirmed already\n");
    }
    print(text)
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    account: Account,
    sessions: Vec<Session>,
}

fn show(account: Account, sessions: Vec<Session>, format: Format) -> Result<ExitCode, Failure> {
    if format == Format::Json {
        return print_json(&Shown { account, sessions });
    }
    let rows = [
        ["email", &account.email],
        ["id", &account.id],
        ["name", account.name.as_deref().unwrap_or_default()],
        ["roles", &account.roles.join(", ")],
        ["granted", &account.granted_roles.join(", ")],
        [
            "state",
            if account.disabled {
                "disabled: sign-in is refused"
            } else {
                "active"
            },
        ],
        [
            "confirmed",
            if account.confirmed {
                "yes"
            } else {
                "no: apps do not get the address"
            },
        ],
        [
            "password",
            account
                .password_hash
                .as_deref()
                .unwrap_or("none: sign-in by password is refused"),
        ],
        [
            "made by",
            &account
                .provider
                .as_ref()
                .map_or_else(|| "local".to_owned(), |provider| format!("provider {provider}")),
        ],
        ["created", &account.created_at],
        ["sessions", &sessions.len().to_string()],
    ];
    let mut text = table::body(rows.into_iter().map(|row| row.map(str::to_owned)));
    if !account.identities.is_empty() {
        text.push('\n');
        text.push_str(&identities(&account.identities));
    }
    if !sessions.is_empty() {
        text.push('\n');
        text.push_str(&session::text(&sessions, false));
    }
    print(text)
}

/// A table of identities at providers.
fn identities(identities: &[Identity]) -> String {
    let rows = identities.iter().map(|identity| {
        [
            identity.provider.clone(),
            identity.subject.clone(),
            identity.email.clone().unwrap_or_default(),
            if identity.email_verified { "yes" } else { "no" }.to_owned(),
            identity.last_sign_in_at.clone(),
        ]
    });
    table::render(["PROVIDER", "SUBJECT", "EMAIL", "VERIFIED", "LAST SIGN-IN"], rows)
}

fn change_roles(
    directory: &Directory,
    account: &Account,
    change: RolesChange,
    format: Format,
) -> Result<ExitCode, Failure> {
    let account = directory.change_roles(account, change)?;
    if !directory.sessions(Some(&account))?.is_empty() {
        warn(&format!(
            "its open sessions continue and get these roles within two seconds; \
             `passgate session revoke --all {}` ends them",
            account.found_by()
        ));
    }
    print_roles(&account.roles, format)
}

fn print_roles(roles: &[String], format: Format) -> Result<ExitCode, Failure> {
    if format == Format::Json {
        return print_json(&roles);
    }
    print(table::body(roles.iter().map(|role| [role.clone()])))
}

fn delete(directory: &Directory, account: &Account, yes: bool) -> Result<ExitCode, Failure> {
    // Without a terminal there is no prompt: the command line itself is the confirmation.
    if !yes && std::io::stdin().is_terminal() {
        let question = format!("Permanently delete `{}` (id `{}`)?", account.called(), account.id);
        if !ask::confirm(&question)? {
            return Err(Failure::Runtime(anyhow::anyhow!("nothing was deleted")));
        }
    }
    let ended = directory.delete(account)?;
    print(format!("deleted `{}`; {}\n", account.called(), ended_text(ended)).as_bytes())
}

fn import(directory: &Directory, lines: Option<&Path>, mode: ImportMode) -> Result<ExitCode, Failure> {
    let imported = match lines {
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| {
                Failure::Config(format!(
                    "error: cannot read `{}`: {error}\nhint: name a file of JSON lines, or pipe them in\n",
                    path.display()
                ))
            })?;
            directory.import(std::io::BufReader::new(file), mode)?
        }
        None => directory.import(std::io::stdin().lock(), mode)?,
    };
    let mut said = String::new();
    for (line, text) in &imported.problems {
        let _ = writeln!(said, "line {line}: {text}");
    }
    let bad = table::count(imported.problems.len(), "bad line");
    if !mode.skip_bad && !imported.problems.is_empty() {
        let _ = writeln!(said, "error: {bad}; nothing was imported");
        let _ = writeln!(
            said,
            "hint: correct them, or pass `--skip-bad` to import the others"
        );
        return Err(Failure::Config(said));
    }
    let _ = std::io::stderr().write_all(said.as_bytes());
    if !imported.ignored.is_empty() {
        let fields: Vec<_> = imported
            .ignored
            .iter()
            .map(|field| format!("`{field}`"))
            .collect();
        warn(&format!("unknown fields were ignored: {}", fields.join(", ")));
    }
    let Imported {
        added,
        updated,
        unchanged,
        ..
    } = imported;
    let would = if mode.dry_run { "would have " } else { "" };
    let mut text = format!("{would}added {}", table::count(added, "account"));
    if mode.update {
        let _ = write!(text, ", changed {updated}, {unchanged} unchanged");
    }
    if !imported.problems.is_empty() {
        let _ = write!(text, ", left out {bad}");
    }
    text.push('\n');
    print(text)
}
