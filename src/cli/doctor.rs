//! `passgate doctor`: what was tried, line by line.

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{Format, print, print_json, table};
use crate::app::{self, DoctorRequest, Failure, Finding, Level};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// An address with a port at which no app may answer; may be repeated. Without it: the addresses of the upstreams
    #[arg(long, value_name = "HOST:PORT")]
    around: Vec<String>,
    /// The address of this machine from which they are tried, such as its address in the clients' network
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    ok: bool,
    findings: &'a [Finding],
}

impl Doctor {
    /// Exit code 1 where there is a problem.
    pub(super) fn run(self, file: &Path) -> Result<ExitCode, Failure> {
        let request = DoctorRequest {
            around: self.around,
            from: self.from,
        };
        let findings = app::doctor(file, &request)?;
        let problems = count(&findings, Level::Problem);
        match self.format {
            Format::Text => print(text(file, &findings))?,
            Format::Json => print_json(&Report {
                ok: problems == 0,
                findings: &findings,
            })?,
        };
        Ok(if problems == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

fn text(file: &Path, findings: &[Finding]) -> String {
    let rows = findings.iter().flat_map(|finding| {
        let hint = finding
            .hint
            .iter()
            .map(|hint| ["", "", &format!("hint: {hint}")].map(str::to_owned));
        let first = [finding.level.as_str(), finding.check, &finding.message].map(str::to_owned);
        std::iter::once(first).chain(hint)
    });
    let mut text = table::body(rows);
    let summary: Vec<String> = [(Level::Problem, "problem"), (Level::Warning, "warning")]
        .map(|(level, word)| table::count(count(findings, level), word))
        .to_vec();
    let (ok, unknown) = (count(findings, Level::Ok), count(findings, Level::Unknown));
    text.push_str(&format!(
        "\n{}: {}, {unknown} unknown, {ok} ok\n",
        file.display(),
        summary.join(", ")
    ));
    text
}
