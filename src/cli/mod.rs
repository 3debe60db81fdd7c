//! The command line: arguments in, exit codes and text for a person out. What a command does is `app`'s work.
//!
//! Exit codes: 0 done, 1 failed while running, 2 wrong configuration or wrong usage, 3 (`explain`, `why`, `token inspect`) refused,
//! or (`diff`) access would change.

mod ask;
mod color;
mod doctor;
mod key;
mod man;
mod revoke;
mod session;
mod table;
mod tips;
mod token;
mod user;

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::app::{self, Failure};
use crate::config::{Listed, schema};
use color::Color;

/// Every key there is, with what it does; it runs as it is.
const EXAMPLE: &str = include_str!("../../gateway.example.toml");
/// The shortest file for one app.
const MINIMAL: &str = include_str!("minimal.toml");

/// An authentication gateway: verifies who is calling, decides by a rule per route, tells the app, forwards.
#[derive(Debug, Parser)]
#[command(
    name = "passgate",
    version,
    max_term_width = 110,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 done (`explain`, `why`, `token inspect`: allowed), 1 failed while running, 2 wrong configuration \
    or usage, 3 refused (`explain`, `why`, `token inspect`), or access would change (`diff`)"
)]
struct Arguments {
    /// The configuration file
    #[arg(
        short = 'c',
        long = "config",
        value_name = "FILE",
        env = "PASSGATE_CONFIG",
        default_value = "gateway.toml",
        global = true,
        display_order = 100
    )]
    file: PathBuf,
    /// Whether to write in colour
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        global = true,
        display_order = 101,
        default_value_t,
        hide_default_value = true
    )]
    color: Color,
    #[command(subcommand)]
    command: Command,
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
    Run,
    /// Validate the configuration without the network, run its tests, print the routes in match order
    Check {
        /// Print every path pattern that can be reached without signing in, in place of the route table
        #[arg(long)]
        public: bool,
        /// How the routes are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show the whole decision for one request, step by step; exit 0 if it is allowed, 3 if it is refused
    Explain {
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
        /// The address of the client, for routes with `from`; without it, no network lets the request in
        #[arg(long, value_name = "ADDRESS")]
        from: Option<std::net::IpAddr>,
        /// Text for people, or JSON
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show the decision about a request that the running gateway has answered: the sources of credentials that were tried, each
    /// check, the rule and its line in the file as it was then; exit 0 if it was allowed, 3 if it was refused
    Why {
        /// The id of the request: `X-Request-Id` of the answer, or the code on the error page
        #[arg(value_name = "REQUEST_ID")]
        request_id: String,
        /// Text for people, or JSON
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// List the callers who would gain or lose access with another configuration file: the decisions that the running gateway
    /// remembers are made again by it; exit 0 if no access would change, 3 if some would
    Diff {
        /// The other configuration file
        #[arg(value_name = "NEW")]
        new: PathBuf,
        /// Text for people, or JSON
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Try what `check` cannot: providers, keys, clock, certificates, upstreams, state, disk; exit 0, or 1 if there is a problem
    Doctor(doctor::Doctor),
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
    /// Print a configuration to start from: every key there is, with what it does. It runs as it is
    Example {
        /// The shortest file for one app
        #[arg(long)]
        minimal: bool,
    },
    /// Print the JSON schema of the configuration file, for editors
    Schema,
    /// The pages where people sign in, see their sessions and read about errors
    #[command(subcommand)]
    Pages(Pages),
    /// Print the manual pages
    Man {
        /// Write the pages of all commands and gateway.toml(5) into this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Pages {
    /// Write the built-in templates into a directory, to be changed and named by `[pages] templates`
    Export {
        /// The directory; it is made where there is none
        #[arg(value_name = "DIR")]
        directory: PathBuf,
        /// Write over files that are there
        #[arg(long)]
        force: bool,
    },
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let arguments = match parse(&words) {
        Ok(arguments) => arguments,
        // For `--help` and `--version` it is no error, and 0.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    app::set_color(arguments.color.of(&std::io::stderr()));
    let file = arguments.file.as_path();
    let done = match arguments.command {
        Command::Run => Ok(ExitCode::from(app::run(file))),
        Command::Check { public, format } => check(file, public, format),
        Command::Explain {
            method,
            url,
            headers,
            subject,
            roles,
            scopes,
            claims,
            from,
            format,
        } => explain(
            file,
            &app::ExplainRequest {
                method,
                url,
                headers,
                subject,
                roles,
                scopes,
                claims,
                from,
            },
            format,
        ),
        Command::Why { request_id, format } => why(file, &request_id, format),
        Command::Diff { new, format } => diff(file, &new, format),
        Command::Doctor(doctor) => doctor.run(file),
        Command::Token(command) => command.run(file),
        Command::User(command) => command.run(file),
        Command::Session(command) => command.run(file),
        Command::Key(command) => command.run(file),
        Command::Revoke(revoke) => revoke.run(file),
        Command::HashPassword => hash_password(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "passgate", &mut text);
            print(text)
        }
        Command::Example { minimal } => print(if minimal { MINIMAL } else { EXAMPLE }),
        Command::Schema => print(format!("{:#}\n", schema::json_schema())),
        Command::Pages(Pages::Export { directory, force }) => export_pages(&directory, force),
        Command::Man { dir } => man::run(dir.as_deref()),
    };
    done.unwrap_or_else(|failure| {
        let _ = write!(std::io::stderr(), "{}", failure.text());
        ExitCode::from(failure.exit_code())
    })
}

/// The arguments in `words`, which begin with the name of the program.
fn parse(words: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = Arguments::command().color(Color::typed(words));
    let parsed = command
        .try_get_matches_from_mut(words)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    parsed.map_err(|mut error| {
        let words: Vec<String> = words
            .iter()
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        tips::add(&mut error, &words);
        error
    })
}

/// What `check --format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    routes: &'a [app::CheckedRoute],
    problems: Vec<Listed<'a>>,
}

fn check(file: &Path, public: bool, format: Format) -> Result<ExitCode, Failure> {
    let checked = app::check(file);
    if format == Format::Json {
        let (routes, problems) = match &checked {
            Ok(checked) => (checked.routes.as_slice(), checked.problems.list()),
            Err(Failure::Problems(problems)) => (&[][..], problems.list()),
            Err(Failure::Unreadable(unreadable)) => (&[][..], vec![unreadable.listed()]),
            Err(_) => return checked.map(|_| ExitCode::SUCCESS),
        };
        let printed = match &checked {
            Ok(checked) if public => {
                let public = &checked.public;
                print_json(&serde_json::json!({ "public": public, "problems": problems }))?
            }
            _ if public => print_json(&serde_json::json!({ "public": [], "problems": problems }))?,
            _ => print_json(&Report { routes, problems })?,
        };
        return Ok(if checked.is_ok() {
            printed
        } else {
            ExitCode::from(2)
        });
    }
    let checked = checked?;
    let _ = write!(std::io::stderr(), "{}", checked.remarks());
    if public {
        let rows = checked.public.iter().map(|path| {
            [
                path.place.clone().unwrap_or_else(|| "-".to_owned()),
                path.host.clone(),
                path.path.clone(),
                path.methods.join(", "),
                path.why.clone(),
            ]
        });
        return print(table::render(["LINE", "HOST", "PATH", "METHODS", "WHY"], rows));
    }
    let rows = checked.routes.iter().map(|route| {
        [
            route.place.clone(),
            route.host.clone(),
            route.path.clone(),
            route.methods.join(", "),
            match &route.rate_limit {
                Some(limit) => format!("{}; {limit}", route.who_text),
                None => route.who_text.clone(),
            },
            route.upstream.clone(),
        ]
    });
    let mut text = table::render(["LINE", "HOST", "PATH", "METHODS", "WHO", "UPSTREAM"], rows);
    text.push_str(&format!(
        "\n{}: {}, {} passed\n",
        file.display(),
        table::count(checked.routes.len(), "route"),
        table::count(checked.tests, "test")
    ));
    print(text)
}

fn explain(file: &Path, question: &app::ExplainRequest, format: Format) -> Result<ExitCode, Failure> {
    warn_of_commas(&question.roles);
    let explanation = app::explain(file, question)?;
    match format {
        Format::Text => print(explanation.text)?,
        Format::Json => print_json(&explanation.json)?,
    };
    Ok(if explanation.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

fn why(file: &Path, request_id: &str, format: Format) -> Result<ExitCode, Failure> {
    let why = app::why(file, request_id)?;
    match format {
        Format::Text => print(why.text)?,
        Format::Json => print_json(&why.json)?,
    };
    Ok(if why.allowed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(3)
    })
}

fn diff(file: &Path, new: &Path, format: Format) -> Result<ExitCode, Failure> {
    let diff = app::diff(file, new)?;
    match format {
        Format::Text => print(&diff.text)?,
        Format::Json => print_json(&diff.json)?,
    };
    Ok(if diff.changes {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    })
}

fn hash_password() -> Result<ExitCode, Failure> {
    let password = ask::new_password(|_| Ok(()))?;
    print(format!("{}\n", app::hash_password(&password)?))
}

fn export_pages(directory: &Path, force: bool) -> Result<ExitCode, Failure> {
    let written = app::export_pages(directory, force)?;
    let shown = directory.display();
    let mut text = String::new();
    for file in &written {
        text.push_str(&format!("wrote `{shown}/{file}`\n"));
    }
    text.push_str(&format!(
        "\nname the directory in the configuration, and delete what you do not change:\n\n  [pages]\n  templates = \"{shown}\"\n"
    ));
    print(text)
}

/// Something that works and surprises; standard output stays for what was asked for.
fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// A token may hold a role with a comma in its name, and rarely does.
fn warn_of_commas(roles: &[String]) {
    if let Some(role) = roles.iter().find(|role| role.contains(',')) {
        warn(&format!("`{role}` is one role; repeat the option for several"));
    }
}

/// Standard output; a reader that has gone (`| head`) is no failure.
fn print(text: impl AsRef<[u8]>) -> Result<ExitCode, Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(error).into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result<ExitCode, Failure> {
    let mut text = serde_json::to_vec_pretty(value).map_err(anyhow::Error::from)?;
    text.push(b'\n');
    print(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}
