//! `passgate key`: the gateway's own signing keys.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde::Serialize;

use super::{Format, print, print_json, table};
use crate::app::{self, Failure, time_text};
use crate::values::SigningAlgorithm;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the keys
    List {
        /// How they are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Make a new key and sign with it from now on; the old one goes on verifying until
    /// the last token that it may have signed has expired, for 8 days at least
    Rotate {
        /// What the new key signs with; default: `[signing] algorithm`
        #[arg(long, value_parser = PossibleValuesParser::new(SigningAlgorithm::NAMES).try_map(|name| name.parse::<SigningAlgorithm>()))]
        algorithm: Option<SigningAlgorithm>,
        /// How the keys are printed
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

#[derive(Serialize)]
struct Row {
    kid: String,
    algorithm: &'static str,
    state: &'static str,
    created_at: String,
    verifies_until: Option<String>,
}

impl Command {
    pub(super) fn run(self, file: &Path) -> Result<ExitCode, Failure> {
        let (format, keys) = match self {
            Self::List { format } => (format, app::signing_keys(file)?),
            Self::Rotate { format, algorithm } => (format, app::rotate_signing_key(file, algorithm)?),
        };
        let rows: Vec<Row> = keys
            .iter()
            .map(|key| Row {
                kid: key.key_id.to_string(),
                algorithm: key.algorithm.as_str(),
                state: if key.retired_at.is_none() {
                    "active"
                } else {
                    "retired"
                },
                created_at: time_text(key.created_at),
                verifies_until: key.verify_until.map(time_text),
            })
            .collect();
        if format == Format::Json {
            return print_json(&rows);
        }
        let rows = rows.into_iter().map(|row| {
            [
                row.kid,
                row.algorithm.to_owned(),
                row.state.to_owned(),
                row.created_at,
                row.verifies_until.unwrap_or_default(),
            ]
        });
        print(table::render(
            ["KID", "ALG", "STATE", "CREATED", "VERIFIES UNTIL"],
            rows,
        ))
    }
}
