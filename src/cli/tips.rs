//! What to type instead, where a command line is near to a right one.

use std::path::Path;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Words that are no commands: a line for the command that they stand behind, the words, and what does what they ask for.
const COMMANDS: &str = include_str!("tips.txt");

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
    let mut rows = COMMANDS.lines().filter_map(|line| {
        let mut cells = line.splitn(3, '|').map(str::trim);
        Some((cells.next()?, cells.next()?, cells.next()?))
    });
    let group = words[..at]
        .iter()
        .rev()
        .find(|word| rows.clone().any(|(group, ..)| group == word.as_str()));
    let group = group.map_or("", String::as_str);
    if group.is_empty() && names_a_configuration(typed) {
        return Some(format!(
            "`passgate run -c {typed}` serves with this file, `passgate check -c {typed}` validates it"
        ));
    }
    let known =
        rows.find(|(behind, names, _)| *behind == group && names.split(' ').any(|name| name == typed));
    let list = (typed == "ls" && !group.is_empty()).then(|| format!("`passgate {group} list`"));
    known.map(|(_, _, tip)| tip.to_owned()).or(list)
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
