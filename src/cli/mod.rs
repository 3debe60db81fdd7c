//! The command line: arguments in, exit codes and text for a person out. What a command does is `app`'s work.
//!
//! Exit codes: 0 done, 1 failed while running, 2 wrong configuration or wrong usage, 3 (`explain`, `token inspect`) refused.

mod ask;
mod key;
mod revoke;
mod session;
mod table;
mod token;
mod user;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::app::{self, Failure};

/// An authentication gateway: verifies who is calling, decides by a rule per route, tells the app, forwards.
#[derive(Debug, Parser)]
#[command(name = "passgate", version, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done (`explain`, `token inspect`: allowed), 1 failed while running, 2 wrong configuration or \
    usage, 3 refused (`explain`, `token inspect`)"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", env = "PASSGATE_CONFIG", default_value = "gateway.toml")]
    config: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM; SIGHUP takes a changed configuration file
    Run {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Validate the configuration without the network, run its tests, print the routes in match order
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// How the routes are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show the whole decision for one request, step by step; exit 0 if it is allowed, 3 if it is refused
    Explain {
        #[command(flatten)]
        file: ConfigFile,
        /// The method, `GET`
        #[arg(value_name = "METHOD")]
        method: String,
        /// A path, or a URL whose host takes part
        #[arg(value_name = "URL")]
        url: String,
        /// A header field of the request, `Name: value`; may be repeated. `-H @-` reads fields from standard input, so
        /// that a token does not show in the list of processes
        #[arg(short = 'H', long = "header", value_name = "FIELD")]
        headers: Vec<String>,
        /// Ask as this subject, without a token
        #[arg(long = "as", value_name = "SUBJECT")]
        subject: Option<String>,
        /// A role that the subject has; may be repeated
        #[arg(long = "role", value_name = "ROLE", requires = "subject")]
        roles: Vec<String>,
        /// A scope that the subject has; may be repeated
        #[arg(long = "scope", value_name = "SCOPE", requires = "subject")]
        scopes: Vec<String>,
        /// A further claim of the subject, `path=value`, such as `tenant=acme`; may be repeated
        #[arg(long = "claim", value_name = "PATH=VALUE", requires = "subject", value_parser = token::claim)]
        claims: Vec<(String, serde_json::Value)>,
    },
    /// Tokens: sign one, look into one
    #[command(subcommand)]
    Token(token::Command),
    /// Local accounts
    #[command(subcommand)]
    User(user::Command),
    /// Sessions of accounts: what is open, and ending it
    #[command(subcommand)]
    Session(session::Command),
    /// The gateway's own signing keys
    #[command(subcommand)]
    Key(key::Command),
    /// Revoke one token, or everything issued to a subject until now
    Revoke(revoke::Revoke),
    /// Hash a password, which is asked for, or is the first line of standard input, and print the hash (argon2id, PHC)
    HashPassword,
    /// Print completions for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    // clap itself ends the process for `--help` (0) and wrong usage (2).
    let done = match Arguments::parse().command {
        Command::Run { file } => app::run(&file.config).map(|()| ExitCode::SUCCESS),
        Command::Check { file, format } => check(&file, format),
        Command::Explain { file, method, url, headers, subject, roles, scopes, claims } => {
            explain(&file, &app::Question { method, url, headers, subject, roles, scopes, claims })
        }
        Command::Token(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Session(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Revoke(revoke) => revoke.run(),
        Command::HashPassword => hash_password(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "passgate", &mut text);
            print(&text)
        }
        Command::Man => man(),
    };
    done.unwrap_or_else(|failure| {
        let mut stderr = std::io::stderr().lock();
        match failure {
            Failure::Config(text) => {
                let _ = write!(stderr, "{text}");
                ExitCode::from(2)
            }
            Failure::Runtime(error) => {
                let _ = writeln!(stderr, "error: {}", app::chain_text(&error));
                ExitCode::from(1)
            }
        }
    })
}

fn check(file: &ConfigFile, format: Format) -> Result<ExitCode, Failure> {
    let checked = app::check(&file.config)?;
    let _ = write!(std::io::stderr(), "{}", checked.remarks);
    if format == Format::Json {
        return print_json(&checked.routes);
    }
    let rows = checked.routes.iter().map(|route| {
        [
            route.place.clone(),
            route.host.clone(),
            route.path.clone(),
            route.methods.clone(),
            route.who.clone(),
            route.upstream.clone(),
        ]
    });
    let mut text = table::render(["LINE", "HOST", "PATH", "METHODS", "WHO", "UPSTREAM"], rows);
    text.push_str(&format!(
        "\n{}: {}, {} passed\n",
        file.config.display(),
        table::count(checked.routes.len(), "route"),
        table::count(checked.tests, "test")
    ));
    print(text.as_bytes())
}

fn explain(file: &ConfigFile, question: &app::Question) -> Result<ExitCode, Failure> {
    let explanation = app::explain(&file.config, question)?;
    print(explanation.text.as_bytes())?;
    Ok(if explanation.allowed { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

fn hash_password() -> Result<ExitCode, Failure> {
    let password = ask::new_password(|_| Ok(()))?;
    print(format!("{}\n", app::hash_password(&password)?).as_bytes())
}

/// One page for the command and one section for each of its commands, and of theirs.
fn man() -> Result<ExitCode, Failure> {
    fn render(command: &clap::Command, text: &mut Vec<u8>) -> std::io::Result<()> {
        clap_mangen::Man::new(command.clone()).render(text)?;
        command.get_subcommands().try_for_each(|command| render(command, text))
    }
    let mut text = Vec::new();
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    render(&root, &mut text).map_err(anyhow::Error::from)?;
    print(&text)
}

/// Something that works and surprises; standard output stays for what was asked for.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// Standard output; a reader that has gone (`| head`) is no failure.
fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(anyhow::Error::from(error).into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    let mut text = serde_json::to_vec_pretty(value).map_err(anyhow::Error::from)?;
    text.push(b'\n');
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
