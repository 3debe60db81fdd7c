//! `passgate revoke`: revokes a token, or everything that was issued to a subject until now.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::print;
use crate::app::{self, Failure};
use crate::revocation::Target;

#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// Name of the issuer in the configuration, or its `iss`; `session` for the gateway's own tokens
    #[arg(long, value_name = "ISSUER")]
    issuer: String,
    #[command(flatten)]
    what: What,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// Revoke all tokens of this `sub` that were issued until now
    #[arg(long, value_name = "SUB")]
    subject: Option<String>,
    /// Revoke the token with this `jti`
    #[arg(long, value_name = "JTI")]
    token_id: Option<String>,
}

impl Revoke {
    pub(super) fn run(self, file: &Path) -> Result<ExitCode, Failure> {
        let target = match (self.what.subject, self.what.token_id) {
            (Some(subject), _) => Target::Subject(subject),
            (None, token_id) => Target::Token(token_id.unwrap_or_default()),
        };
        print(app::revoke(file, &self.issuer, target)?)
    }
}
