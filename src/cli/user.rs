//! `passgate user`: local accounts.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{ConfigFile, Format, ask, print, print_json, session, table, warn};
use crate::app::{Account, Directory, Failure, ImportMode, Imported, NewUser, RolesChange, Session};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make an account. The password is asked for, or is the first line of standard input
    Add {
        #[command(flatten)]
        file: ConfigFile,
        /// The email address that its owner signs in with
        #[arg(value_name = "EMAIL")]
        email: String,
        /// What its owner is called
        #[arg(long)]
        name: Option<String>,
        /// A role; may be repeated, or several with commas between
        #[arg(long = "role", value_name = "ROLE", value_delimiter = ',')]
        roles: Vec<String>,
        /// Without a password: nobody can sign in to it with one until `user password` gives it one
        #[arg(long)]
        no_password: bool,
        /// How the new account is printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// List the accounts
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// How they are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show an account and its open sessions
    Show {
        #[command(flatten)]
        who: Who,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show the roles of an account, or change them
    Roles {
        #[command(flatten)]
        who: Who,
        /// A role that it is to have as well; may be repeated, or several with commas between
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        add: Vec<String>,
        /// A role that it is to have no longer; may be repeated, or several with commas between
        #[arg(long, value_name = "ROLE", value_delimiter = ',')]
        remove: Vec<String>,
        /// A role that it is to have, and no others; may be repeated, or several with commas between
        #[arg(long, value_name = "ROLE", value_delimiter = ',', conflicts_with_all = ["add", "remove"])]
        set: Vec<String>,
        /// How they are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Give an account another password, which is asked for, or is the first line of standard input. All its sessions end
    Password {
        #[command(flatten)]
        who: Who,
    },
    /// Say that the address of an account is its owner's. An account that was registered is not confirmed: apps do not get its
    /// address, and no rule on email matches it, until this is done
    Confirm {
        #[command(flatten)]
        file: ConfigFile,
        /// The email addresses or ids of the accounts
        #[arg(value_name = "EMAIL", required_unless_present = "all")]
        emails: Vec<String>,
        /// Every account that there is now
        #[arg(long, conflicts_with = "emails")]
        all: bool,
    },
    /// Let nobody sign in to an account. All its sessions end
    Disable {
        #[command(flatten)]
        who: Who,
    },
    /// Let the owner of a disabled account sign in again
    Enable {
        #[command(flatten)]
        who: Who,
    },
    /// Delete an account. All its sessions end; an account made later with the same address has another id
    Delete {
        #[command(flatten)]
        who: Who,
        /// Without asking, which is done on a terminal only
        #[arg(long)]
        yes: bool,
    },
    /// Make accounts from lines of JSON, with the password hashes (bcrypt, argon2) that another program made. All lines are
    /// checked first, and unless all are good, nothing is imported
    Import {
        #[command(flatten)]
        file: ConfigFile,
        /// A file with one JSON object a line: `{"email": …, "passwordHash": …, "name": …, "roles": […], "id": …}`;
        /// standard input unless said
        #[arg(value_name = "LINES")]
        lines: Option<PathBuf>,
        /// Change the accounts that exist (by email address) to what their lines say, instead of refusing them. Sessions
        /// end where the hash differs or the account is disabled
        #[arg(long)]
        update: bool,
        /// Report the bad lines, import the good ones
        #[arg(long)]
        skip_bad: bool,
        /// Only check the lines and say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// An account that is there.
#[derive(Debug, Args)]
pub(super) struct Who {
    #[command(flatten)]
    file: ConfigFile,
    /// The email address of the account, or its id
    #[arg(value_name = "EMAIL")]
    email: String,
}

impl Who {
    fn open(&self) -> Result<(Directory, Account), Failure> {
        let directory = Directory::open(&self.file.config)?;
        let account = directory.account(&self.email)?;
        Ok((directory, account))
    }
}

impl Command {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Add {
                file,
                email,
                name,
                roles,
                no_password,
                format,
            } => add(
                &Directory::open(&file.config)?,
                NewUser { email, name, roles },
                no_password,
                format,
            ),
            Self::List { file, format } => list(&Directory::open(&file.config)?.list()?, format),
            Self::Show { who, format } => {
                let (directory, account) = who.open()?;
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
                let (directory, account) = who.open()?;
                let change = match (set.is_empty(), add.is_empty() && remove.is_empty()) {
                    (false, _) => RolesChange::Set(set),
                    (true, false) => RolesChange::Edit { add, remove },
                    (true, true) => return print_roles(&account.roles, format),
                };
                change_roles(&directory, &account, change, format)
            }
            Self::Password { who } => {
                let (directory, account) = who.open()?;
                let password =
                    ask::new_password(|password| directory.check_password(&account.email, password))?;
                let ended = directory.change_password(&account, &password)?;
                warn_of_missing_table(&directory);
                print(
                    format!(
                        "changed the password of `{}`; {}\n",
                        account.email,
                        ended_text(ended)
                    )
                    .as_bytes(),
                )
            }
            Self::Confirm { file, emails, all } => confirm(&Directory::open(&file.config)?, &emails, all),
            Self::Disable { who } => {
                let (directory, account) = who.open()?;
                let ended = directory.disable(&account)?;
                print(format!("disabled `{}`; {}\n", account.email, ended_text(ended)).as_bytes())
            }
            Self::Enable { who } => {
                let (directory, account) = who.open()?;
                directory.enable(&account)?;
                print(format!("enabled `{}`\n", account.email).as_bytes())
            }
            Self::Delete { who, yes } => {
                let (directory, account) = who.open()?;
                delete(&directory, &account, yes)
            }
            Self::Import {
                file,
                lines,
                update,
                skip_bad,
                dry_run,
            } => import(
                &Directory::open(&file.config)?,
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

fn add(directory: &Directory, new: NewUser, no_password: bool, format: Format) -> Result<ExitCode, Failure> {
    // What can be known to be wrong is said before a password is typed.
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
    print(
        format!(
            "added `{}` with the id `{}`{}\n",
            account.email,
            account.id,
            roles_text(&account.roles)
        )
        .as_bytes(),
    )
}

fn warn_of_missing_table(directory: &Directory) {
    if !directory.by_password() {
        warn("the configuration has no `[password]`, so nobody can sign in with a password");
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
            account.created_at.clone(),
        ]
    });
    print(
        table::render(
            ["EMAIL", "ID", "NAME", "ROLES", "STATE", "PASSWORD", "CREATED"],
            rows,
        )
        .as_bytes(),
    )
}

/// The account in one word.
fn state(account: &Account) -> &'static str {
    match (account.disabled, account.confirmed) {
        (true, _) => "disabled",
        (false, true) => "active",
        (false, false) => "unconfirmed",
    }
}

/// All are looked up before the first one is confirmed.
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
            true => writeln!(text, "confirmed `{}`", account.email),
            false if all => continue,
            false => writeln!(text, "`{}` was confirmed already", account.email),
        };
    }
    if text.is_empty() {
        text.push_str("all accounts were confirmed already\n");
    }
    print(text.as_bytes())
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
        [
            "state",
            if account.disabled {
                "disabled: nobody can sign in"
            } else {
                "active"
            },
        ],
        [
            "confirmed",
            if account.confirmed {
                "yes"
            } else {
                "no: the address was only typed, and apps do not get it"
            },
        ],
        [
            "password",
            account
                .password_hash
                .as_deref()
                .unwrap_or("none: nobody can sign in with one"),
        ],
        ["created", &account.created_at],
        ["sessions", &sessions.len().to_string()],
    ];
    let mut text = table::body(rows.into_iter().map(|row| row.map(str::to_owned)));
    if !sessions.is_empty() {
        text.push('\n');
        text.push_str(&session::text(&sessions, false));
    }
    print(text.as_bytes())
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
            "its open sessions go on, and have these roles within two seconds; \
             `passgate session revoke --all {}` ends them",
            account.email
        ));
    }
    print_roles(&account.roles, format)
}

fn print_roles(roles: &[String], format: Format) -> Result<ExitCode, Failure> {
    if format == Format::Json {
        return print_json(&roles);
    }
    print(table::body(roles.iter().map(|role| [role.clone()])).as_bytes())
}

fn delete(directory: &Directory, account: &Account, yes: bool) -> Result<ExitCode, Failure> {
    // A script has nobody to ask, and has said what it wants.
    if !yes && std::io::stdin().is_terminal() {
        let question = format!("Delete `{}` (id `{}`) for good?", account.email, account.id);
        if !ask::confirm(&question)? {
            return Err(Failure::Runtime(anyhow::anyhow!("nothing was deleted")));
        }
    }
    let ended = directory.delete(account)?;
    print(format!("deleted `{}`; {}\n", account.email, ended_text(ended)).as_bytes())
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
            "hint: correct them, or add `--skip-bad` to import the others"
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
        warn(&format!(
            "fields that mean nothing here were left out: {}",
            fields.join(", ")
        ));
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
    print(text.as_bytes())
}
