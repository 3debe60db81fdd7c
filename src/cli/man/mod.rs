//! `passgate man`: manual pages of every command and of the configuration file, made from what the program itself knows.
//!
//! Input: the commands, and the schema of the TOML file. Output: pages in the language of man(7).

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_mangen::Man;

use super::{Arguments, Failure, MINIMAL, print};
use crate::config::schema::{TABLES, header};

/// The examples of each page: blocks of its name and commands, each behind a line with `#` that says what it does or the
/// command before it. A command without a block fails a test.
const EXAMPLES: &str = include_str!("examples.txt");

const FILES: &[(&str, &str)] = &[
    (
        "gateway.toml",
        "The configuration, in the working directory, unless --config or $PASSGATE_CONFIG names another; see gateway.toml(5).",
    ),
    (
        "passgate.db",
        "The state: accounts, sessions, revocations, signing keys. [state] url names another place.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "PASSGATE_CONFIG",
        "The configuration file, where --config does not name one.",
    ),
    (
        "PASSGATE_LOG",
        "Which diagnostics are written to standard error: error, warn, info, debug or trace.",
    ),
    (
        "CREDENTIALS_DIRECTORY",
        "Where the secrets { credential = \"…\" } are; systemd sets it for a service.",
    ),
    (
        "NO_COLOR, CLICOLOR_FORCE, TERM",
        "With --color auto: no colour if NO_COLOR is not empty; else colour if CLICOLOR_FORCE is not empty and not 0; else none if TERM is dumb.",
    ),
];

const EXIT: &[(&str, &str)] = &[
    (
        "0",
        "Done; of explain, why and token inspect: allowed; of diff: no access would change.",
    ),
    ("1", "Failed while running."),
    ("2", "The configuration or the usage is wrong."),
    (
        "3",
        "Of explain, why and token inspect: refused; of diff: access would change.",
    ),
];

/// The pages of all commands in one text; with `directory`, these and that of the configuration as files in it.
pub(super) fn run(directory: Option<&Path>) -> Result<ExitCode, Failure> {
    let pages = pages().map_err(anyhow::Error::from)?;
    let Some(directory) = directory else {
        let of_commands = pages.into_iter().filter(|(name, _)| name.ends_with(".1"));
        return print(of_commands.map(|(_, text)| text).collect::<String>());
    };
    let failed =
        |path: &Path, error: std::io::Error| anyhow::anyhow!("cannot write `{}`: {error}", path.display());
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    for (name, text) in &pages {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    print(format!(
        "wrote {} pages into `{}`\n",
        pages.len(),
        directory.display()
    ))
}

/// The name and the text of each page, that of the program first.
fn pages() -> std::io::Result<Vec<(String, String)>> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    all(&root, &mut pages)?;
    let names: Vec<String> = pages.iter().map(|(name, _)| name.clone()).collect();
    for (name, text) in &mut pages {
        text.push_str(&see_also(name, &names));
    }
    pages.push(("gateway.toml.5".to_owned(), configuration()));
    Ok(pages)
}

fn all(command: &clap::Command, pages: &mut Vec<(String, String)>) -> std::io::Result<()> {
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name())
        .to_owned();
    pages.push((format!("{name}.1"), page(command, &name)?));
    command
        .get_subcommands()
        .try_for_each(|command| all(command, pages))
}

fn page(command: &clap::Command, name: &str) -> std::io::Result<String> {
    // What stands below the help is a section here.
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .manual("passgate");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut text = String::from_utf8_lossy(&text)
        .chars()
        .map(ascii)
        .collect::<String>();
    text.push_str(&definitions("FILES", FILES));
    text.push_str(&definitions("ENVIRONMENT", ENVIRONMENT));
    text.push_str(&definitions("EXIT STATUS", EXIT));
    text.push_str(".SH EXAMPLES\n");
    // A command that only has others below it shows theirs.
    let below = format!("{name}-");
    let own = examples().any(|(of, ..)| of == name);
    let is_shown = |of: &str| if own { of == name } else { of.starts_with(&below) };
    for (_, what, line) in examples().filter(|(of, ..)| is_shown(of)) {
        if !what.is_empty() {
            text.push_str(&format!(".PP\n{}:\n", escaped(what)));
        }
        text.push_str(&format!(".PP\n.RS 4\n.nf\n{}\n.fi\n.RE\n", escaped(line)));
    }
    Ok(text)
}

/// Each example: its page, what it does or nothing, the command.
fn examples() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    EXAMPLES.split("\n\n").flat_map(|block| {
        let (name, lines) = block.split_once('\n').unwrap_or((block, ""));
        let mut what = "";
        lines
            .lines()
            .filter_map(move |line| match line.strip_prefix("# ") {
                Some(text) => {
                    what = text;
                    None
                }
                None => Some((name, std::mem::take(&mut what), line)),
            })
    })
}

/// The pages of the commands one step above and below, and that of the configuration.
fn see_also(name: &str, names: &[String]) -> String {
    let stem = name.trim_end_matches(".1");
    let depth = |name: &str| name.matches('-').count();
    let is_near = |other: &str| {
        let (above, below) = if depth(stem) < depth(other) {
            (stem, other)
        } else {
            (other, stem)
        };
        below.starts_with(&format!("{above}-"))
    };
    let near = names
        .iter()
        .map(|name| name.trim_end_matches(".1"))
        .filter(|other| is_near(other));
    let pages: Vec<String> = near
        .map(|name| format!("{name}(1)"))
        .chain(["gateway.toml(5)".to_owned()])
        .collect();
    format!(".SH \"SEE ALSO\"\n{}\n", escaped(&pages.join(", ")))
}

/// gateway.toml(5): every table and key of the example, with what its comments say.
fn configuration() -> String {
    let mut text = format!(
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH GATEWAY.TOML 5 \"\" \"passgate {}\" \"passgate\"\n",
        env!("CARGO_PKG_VERSION")
    );
    text.push_str(".SH NAME\ngateway.toml \\- the configuration of passgate\n");
    text.push_str(".SH DESCRIPTION\n");
    for paragraph in [
        "One TOML file (https://toml.io) says where passgate listens, whose tokens and which accounts it accepts, and what it \
         lets through to which app. Unknown keys are errors. passgate-check(1) reports every problem of a file with its line, and \
         a running gateway reads the file again on SIGHUP; a file with errors never takes the place of one without.",
        "A value shown is the default where its text does not name another. Durations are written \"250ms\", \"30s\", \"5m\", \
         \"24h\", \"7d\" or \"1h30m\"; sizes \"512B\", \"32KiB\" or \"1MiB\" (1024), \"1MB\" (1000). Relative paths start from the \
         directory of the file. A secret never stands in it: write { file = \"…\" }, { env = \"…\" } or { credential = \"…\" }.",
    ] {
        text.push_str(&format!(".PP\n{}\n", escaped(paragraph)));
    }
    text.push_str(&sections());
    text.push_str(&definitions("FILES", FILES));
    text.push_str(&definitions("ENVIRONMENT", ENVIRONMENT));
    text.push_str(&format!(
        ".SH EXAMPLES\n.PP\n{}:\n.PP\n.nf\n{}\n.fi\n",
        escaped("Accounts in front of one app, as `passgate example --minimal` prints it"),
        escaped(MINIMAL.trim_end())
    ));
    text.push_str(".SH \"SEE ALSO\"\npassgate(1), passgate\\-check(1), passgate\\-example(1)\n");
    text
}

/// One section for each table, with its keys.
fn sections() -> String {
    let mut text = String::new();
    for table in TABLES.iter().filter(|table| !table.path.is_empty()) {
        let title = match table.path {
            "secret" => "SECRETS".to_owned(),
            path => header(path),
        };
        text.push_str(&format!(
            ".SH \"{}\"\n.PP\n{}\n",
            escaped(&title),
            escaped(table.doc)
        ));
        for key in table.keys {
            let value = if key.default.is_empty() {
                key.example
            } else {
                key.default
            };
            let value = if value.is_empty() {
                String::new()
            } else {
                format!(" = {}", escaped(value))
            };
            text.push_str(&format!(
                ".TP\n\\fB{}\\fR{value}\n{}\n",
                escaped(key.name),
                escaped(key.doc)
            ));
        }
    }
    text
}

fn definitions(title: &str, entries: &[(&str, &str)]) -> String {
    entries
        .iter()
        .fold(format!(".SH \"{title}\"\n"), |text, (name, what)| {
            text + &format!(".TP\n\\fB{}\\fR\n{}\n", escaped(name), escaped(what))
        })
}

/// `text` as roff takes it for words: no line of it is a request.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            out.push('\n');
        }
        if line.starts_with(['.', '\'', '…']) {
            out.push_str("\\&");
        }
        for letter in line.chars() {
            match letter {
                '\\' => out.push_str("\\e"),
                '-' => out.push_str("\\-"),
                '\'' => out.push_str("\\(aq"),
                '`' => out.push_str("\\(ga"),
                '^' => out.push_str("\\(ha"),
                '~' => out.push_str("\\(ti"),
                letter => out.push_str(&ascii(letter)),
            }
        }
    }
    out
}

/// A letter for readers of roff that know no others than those of ASCII.
fn ascii(letter: char) -> String {
    match letter {
        '…' => "...".to_owned(),
        letter if letter.is_ascii() => letter.to_string(),
        letter => format!("\\[u{:04X}]", u32::from(letter)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_command_has_a_page_with_examples_that_the_program_takes() {
        let pages = pages().unwrap();
        let mut root = Arguments::command().disable_help_subcommand(true);
        root.build();
        let mut open = vec![&root];
        let mut count = 1;
        while let Some(command) = open.pop() {
            count += 1;
            let name = command.get_display_name().unwrap_or("passgate");
            let (_, text) = pages
                .iter()
                .find(|(page, _)| *page == format!("{name}.1"))
                .unwrap();
            for section in ["NAME", "SYNOPSIS", "FILES", "ENVIRONMENT", "\"SEE ALSO\""] {
                assert!(
                    text.contains(&format!(".SH {section}")) || text.contains(&format!(".SH \"{section}\"")),
                    "{name}: {section}"
                );
            }
            open.extend(command.get_subcommands());
            let examples = text.split(".SH EXAMPLES\n").nth(1).unwrap();
            assert!(examples.starts_with(".PP\n"), "{name} has no examples");
        }
        assert_eq!(pages.len(), count);
        for (name, _, line) in examples() {
            assert!(
                pages.iter().any(|(page, _)| page.trim_end_matches(".1") == name),
                "{name} is no command"
            );
            let words = &line[line.rfind("passgate ").unwrap()..];
            let words = words
                .split([' '])
                .take_while(|word| !matches!(*word, ">" | "<" | "|"));
            let parsed = super::super::parse(&words.map(Into::into).collect::<Vec<_>>());
            assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
        }
    }

    #[test]
    fn the_page_of_the_configuration_has_every_key_with_words_about_it() {
        let text = configuration();
        for table in TABLES.iter().filter(|table| !table.path.is_empty()) {
            for key in table.keys {
                let has_term = text.contains(&format!(".TP\n\\fB{}\\fR", escaped(key.name)));
                assert!(has_term, "`{}` of `{}`", key.name, table.path);
            }
        }
        assert!(
            text.contains("= \"30s\"\nOn SIGTERM, how long requests under way may go on."),
            "{text}"
        );
    }

    #[test]
    fn no_word_is_a_request_of_roff() {
        assert_eq!(escaped("…"), "\\&...");
        assert!(pages().unwrap().iter().all(|(_, text)| text.is_ascii()));
        assert_eq!(escaped(".x\n'y\\-`…ä"), "\\&.x\n\\&\\(aqy\\e\\-\\(ga...\\[u00E4]");
    }
}
