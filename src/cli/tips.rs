//! What to type instead, where a command line is near to a right one.

use std::path::Path;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words that are no commands, by the command that they stand behind, and what does what they ask for.
const COMMANDS: [(&str, &[&str], &str); 26] = [
    (
        "",
        &["serve", "server", "start", "up", "daemon"],
        "`passgate run` serves",
    ),
    ("", &["version"], "`passgate --version` prints the version"),
    (
        "",
        &[
            "validate",
            "verify",
            "lint",
            "test",
            "configtest",
            "config",
            "routes",
        ],
        "`passgate check` validates the configuration and prints the routes",
    ),
    (
        "",
        &["reload"],
        "SIGHUP makes a running gateway read its file again: `systemctl reload passgate`",
    ),
    (
        "",
        &["stop", "restart", "down"],
        "SIGTERM ends a running gateway: `systemctl stop passgate`",
    ),
    (
        "",
        &["status", "health", "ready"],
        "a running gateway answers `/health` and `/ready` on its admin port",
    ),
    (
        "",
        &["init", "new", "setup"],
        "`passgate example > gateway.toml` writes a first file",
    ),
    (
        "",
        &["users", "account", "accounts"],
        "`passgate user` has the accounts",
    ),
    (
        "",
        &["adduser", "useradd"],
        "`passgate user add EMAIL` makes an account",
    ),
    (
        "",
        &["passwd"],
        "`passgate user password EMAIL` changes a password",
    ),
    ("", &["sessions"], "`passgate session` has the sessions"),
    ("", &["keys"], "`passgate key` has the signing keys"),
    (
        "",
        &["tokens", "mint", "inspect", "jwt"],
        "`passgate token mint` and `passgate token inspect`",
    ),
    (
        "",
        &["logout", "kick"],
        "`passgate session revoke --all EMAIL` ends the sessions of an account",
    ),
    (
        "",
        &["completion"],
        "`passgate completions SHELL` prints completions",
    ),
    (
        "",
        &["page", "templates"],
        "`passgate pages export DIR` writes the built-in templates",
    ),
    (
        "user",
        &["rm", "remove", "del", "destroy"],
        "`passgate user delete EMAIL` deletes an account",
    ),
    (
        "user",
        &["create", "new", "register"],
        "`passgate user add EMAIL` makes an account",
    ),
    ("user", &["ls", "all"], "`passgate user list` lists the accounts"),
    (
        "user",
        &["get", "info", "view"],
        "`passgate user show EMAIL` shows an account",
    ),
    (
        "user",
        &["passwd", "set-password", "reset-password"],
        "`passgate user password EMAIL` changes a password",
    ),
    (
        "user",
        &["role", "grant", "set-roles", "edit", "update"],
        "`passgate user roles EMAIL --add ROLE` changes roles",
    ),
    (
        "user",
        &["lock", "block", "ban", "unlock", "unblock"],
        "`passgate user disable EMAIL` and `passgate user enable EMAIL`",
    ),
    (
        "session",
        &["rm", "end", "kill", "delete", "close"],
        "`passgate session revoke ID` ends a session",
    ),
    (
        "key",
        &["new", "add", "create", "generate"],
        "`passgate key rotate` makes a new key",
    ),
    (
        "token",
        &["create", "new", "sign", "issue"],
        "`passgate token mint --subject SUBJECT` signs a token",
    ),
];

/// Options that there are not, and what does what they ask for.
const OPTIONS: [(&str, &str); 6] = [
    ("--json", "`--format json`"),
    ("--output", "`--format json`"),
    (
        "--password",
        "a password is no argument: it is asked for, or is the first line of standard input",
    ),
    (
        "--secret",
        "a secret is no argument: it is asked for, or is the first line of standard input",
    ),
    (
        "--token",
        "a token is no argument: it is read from standard input, or from a file",
    ),
    ("--roles", "`--role ROLE`, once for each role"),
];

/// Puts a tip into `error`, which `words`, without the name of the program, led to.
pub(super) fn add(error: &mut clap::Error, words: &[String]) {
    let tip = match (
        error.kind(),
        error.get(ContextKind::InvalidSubcommand),
        error.get(ContextKind::InvalidArg),
    ) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(typed)), _) => command(typed, words),
        (ErrorKind::UnknownArgument, _, Some(ContextValue::String(typed))) => argument(typed, words),
        _ => None,
    };
    let Some(tip) = tip else { return };
    // What is spelt like it is another thing.
    error.remove(ContextKind::SuggestedSubcommand);
    error.remove(ContextKind::SuggestedArg);
    error.insert(
        ContextKind::Suggested,
        ContextValue::StyledStrs(vec![StyledStr::from(tip)]),
    );
}

fn command(typed: &str, words: &[String]) -> Option<String> {
    let at = words.iter().position(|word| word == typed)?;
    let group = words[..at]
        .iter()
        .rev()
        .find(|word| COMMANDS.iter().any(|(group, ..)| group == word));
    let group = group.map_or("", String::as_str);
    if group.is_empty() && names_a_configuration(typed) {
        return Some(format!(
            "`passgate run -c {typed}` serves with this file, `passgate check -c {typed}` validates it"
        ));
    }
    let known = COMMANDS
        .iter()
        .find(|(behind, names, _)| *behind == group && names.contains(&typed));
    let list = (typed == "ls" && !group.is_empty()).then(|| format!("`passgate {group} list`"));
    known.map(|(_, _, tip)| (*tip).to_owned()).or(list)
}

fn argument(typed: &str, words: &[String]) -> Option<String> {
    let takes_only_a_file = ["run", "check"]
        .iter()
        .any(|command| words.iter().any(|word| word == command));
    if !typed.starts_with('-') && (takes_only_a_file || names_a_configuration(typed)) {
        return Some(format!("the configuration is named by an option: `-c {typed}`"));
    }
    let name = typed.split('=').next().unwrap_or(typed);
    OPTIONS
        .iter()
        .find(|(option, _)| *option == name)
        .map(|(_, tip)| (*tip).to_owned())
}

fn names_a_configuration(typed: &str) -> bool {
    Path::new(typed)
        .extension()
        .is_some_and(|extension| extension == "toml")
}
