//! The commands that read or change the state: tokens, keys, revocations.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::accounts::Directory;
use super::config::{Outline, load, outline};
use super::offline::{offline, open_recorded};
use super::{Failure, failed, time_text};
use crate::audit::{self, Event, Origin};
use crate::clock::Clock;
use crate::config::raw::RawIssuer;
use crate::identity::SESSION_ISSUER;
use crate::refusal::Refusal;
use crate::revocation::{Revocation, Target};
use crate::signing::{MintRequest, SigningKeys, VerifyingKey};
use crate::values::{SigningAlgorithm, did_you_mean};
use crate::verify;

/// How long signatures of a retired key count at least: longer than any token of ours lives by default (7 days of a
/// session). What lives longer has been noted in the state ([`note_token`](crate::state::SigningKeyStore::note_token)).
const KEEP_RETIRED_KEYS: i64 = 8 * DAY;

const DAY: i64 = 24 * 60 * 60;

/// The claims of a token to mint.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    /// `sub`
    pub subject: String,
    /// `roles`
    pub roles: Vec<String>,
    /// `scope`
    pub scopes: Vec<String>,
    /// `email`
    pub email: Option<String>,
    /// `name`
    pub name: Option<String>,
    /// Further claims.
    pub claims: Vec<(String, Value)>,
    /// From now to `exp`.
    pub lifetime: Duration,
}

/// An access token by our own key.
///
/// # Errors
/// The file or the state cannot be used, or a claim cannot be given.
pub(crate) fn mint(file: &Path, request: TokenRequest) -> Result<String, Failure> {
    let outline = outline(file)?;
    let state = open_recorded(&outline, file)?;
    let now = Clock::system().now();
    let keys = SigningKeys::load_or_create(&*state, outline.signing_algorithm(), now).map_err(failed)?;
    let request = MintRequest {
        subject: request.subject,
        roles: request.roles,
        scopes: request.scopes,
        email: request.email,
        name: request.name,
        lifetime: i64::try_from(request.lifetime.as_secs()).unwrap_or(i64::MAX),
        claims: request.claims.into_iter().collect::<Map<_, _>>(),
        public_url: outline.public_url.to_string(),
    };
    let token = keys
        .mint(&request, now)
        .map_err(|error| Failure::Config(format!("error: {error}\n")))?;
    // Before the token is printed, so that no rotation can be too early for it.
    let expires_at = now.saturating_add(request.lifetime);
    state.note_token(keys.key_id(), expires_at).map_err(failed)?;
    let minted = Event::TokenMinted {
        subject: audit::text(&request.subject),
        roles: request.roles.iter().map(|role| audit::text(role)).collect(),
        key: keys.key_id().to_string(),
        expires: audit::rfc3339(expires_at),
    };
    outline
        .audit(file)
        .record(&Origin::command(), &[minted])
        .map_err(failed)?;
    Ok(token)
}

/// All our signing keys. A state without one gets its first.
///
/// # Errors
/// The file or the state cannot be used.
pub(crate) fn signing_keys(file: &Path) -> Result<Vec<VerifyingKey>, Failure> {
    let outline = outline(file)?;
    let state = open_recorded(&outline, file)?;
    let keys = SigningKeys::load_or_create(&*state, outline.signing_algorithm(), Clock::system().now());
    Ok(keys.map_err(failed)?.verifying_keys().to_vec())
}

/// Makes a new key the active one, for `algorithm`, or for the configured one. Returns all keys.
///
/// # Errors
/// The file or the state cannot be used.
pub(crate) fn rotate_signing_key(
    file: &Path,
    algorithm: Option<SigningAlgorithm>,
) -> Result<Vec<VerifyingKey>, Failure> {
    let outline = outline(file)?;
    let state = open_recorded(&outline, file)?;
    let algorithm = algorithm.unwrap_or_else(|| outline.signing_algorithm());
    let keep_for = KEEP_RETIRED_KEYS.max(outline.session_settings().lifetime.saturating_add(DAY));
    let keys = SigningKeys::rotate(&*state, algorithm, Clock::system().now(), keep_for);
    Ok(keys.map_err(failed)?.verifying_keys().to_vec())
}

/// Revokes at an issuer, which is named as in the file or by its `iss`. Returns what to tell the operator.
///
/// # Errors
/// The file or the state cannot be used, or no such issuer is known.
pub(crate) fn revoke(file: &Path, issuer: &str, target: Target) -> Result<String, Failure> {
    let outline = outline(file)?;
    let now = Clock::system().now();
    let (name, key, expires_at) = if issuer == SESSION_ISSUER || issuer == outline.public_url.as_str() {
        (SESSION_ISSUER.to_owned(), SESSION_ISSUER.to_owned(), None)
    } else {
        let has_iss = |table: &RawIssuer| table.issuer.as_ref().is_some_and(|iss| iss.value == issuer);
        let named = outline.raw.issuers.iter().find(|(name, _)| name.value == issuer);
        let (name, table) = named
            .or_else(|| outline.raw.issuers.iter().find(|(_, table)| has_iss(table)))
            .ok_or_else(|| unknown_issuer(&outline, file, issuer))?;
        // A revocation is kept under the `iss`: it holds whatever the file calls the issuer later.
        let iss = table
            .issuer
            .as_ref()
            .expect("a file without problems names it")
            .value
            .clone();
        (name.value.clone(), iss, verify::revocation_expiry(table, now))
    };
    let said = match &target {
        Target::Token(id) => format!("revoked: the token `{id}` of `{name}`"),
        Target::Session(id) => format!("revoked: the session `{id}` of `{name}`"),
        Target::Subject(subject) | Target::Stale { subject, .. } => {
            format!("revoked: everything that `{name}` issued to `{subject}` until now")
        }
    };
    if matches!(&target, Target::Subject(text) | Target::Token(text) if text.is_empty()) {
        return Err(Failure::Config(
            "error: the subject or token id is empty\n".to_owned(),
        ));
    }
    let state = open_recorded(&outline, file)?;
    let revocation = Revocation {
        issuer: key,
        target,
        revoked_at: now,
        expires_at,
    };
    state.revoke(&revocation).map_err(failed)?;
    let mut said = format!("{said}; a running gateway refuses it within a second\n");
    if let (SESSION_ISSUER, Target::Subject(subject)) = (revocation.issuer.as_str(), &revocation.target) {
        // A session that went on would get new tokens.
        said.push_str(&Directory::new(state, Clock::system(), &outline).revoke_subject(subject)?);
    }
    Ok(said)
}

fn unknown_issuer(outline: &Outline, file: &Path, typed: &str) -> Failure {
    let names: Vec<&str> = outline
        .raw
        .issuers
        .iter()
        .map(|(name, _)| name.as_str())
        .chain([SESSION_ISSUER])
        .collect();
    let hint = did_you_mean(typed, names.iter().copied())
        .unwrap_or_else(|| format!("there are `{}`", names.join("`, `")));
    Failure::Config(format!(
        "error: `{}` has no issuer `{typed}`\nhint: {hint}\n",
        file.display()
    ))
}

/// What `token inspect` found.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    /// Whether a request with this token would have a caller.
    pub accepted: bool,
    /// The reason, where not.
    pub reason: Option<&'static str>,
    /// The header, unverified; `None` where it cannot be read.
    pub header: Option<Map<String, Value>>,
    /// The claims, unverified; `None` where they cannot be read.
    pub claims: Option<Map<String, Value>>,
    /// Each check and its verdict.
    pub checks: Vec<Check>,
}

/// One check of `token inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    /// Its name.
    pub name: &'static str,
    /// Whether it passed.
    pub passed: bool,
    /// What was found.
    pub detail: String,
}

impl Inspection {
    /// For people.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (title, part) in [("header", &self.header), ("claims", &self.claims)] {
            if let Some(part) = part {
                let json = serde_json::to_string_pretty(part).unwrap_or_default();
                text.push_str(&format!("{title} {json}\n"));
            }
        }
        for name in ["iat", "nbf", "exp"] {
            let time = self.claims.as_ref().and_then(|claims| claims.get(name)?.as_i64());
            if let Some(at) = time {
                text.push_str(&format!("{name} is {}\n", time_text(at)));
            }
        }
        for Check { name, passed, detail } in &self.checks {
            let mark = if *passed { "✓" } else { "✗" };
            text.push_str(&format!("{mark} {name}: {detail}\n"));
        }
        match self.reason {
            None => text.push_str("accepted\n"),
            Some(reason) => text.push_str(&format!("refused: {reason}\n")),
        }
        text
    }
}

/// Looks into a token with the keys that are known without the network: those in files, and those that a gateway with
/// this state has fetched.
///
/// # Errors
/// The file or the state cannot be used. A bad token is no error.
pub(crate) fn inspect(file: &Path, token: &str) -> Result<Inspection, Failure> {
    let (plan, _) = load(file)?;
    let gateway = offline(plan, file)?.gateway;
    let mut checks = Vec::new();
    let verdict = gateway
        .verifier
        .examine(token, Clock::system().now(), &mut |step| {
            checks.push(Check {
                name: step.name,
                passed: step.outcome.is_ok(),
                detail: step.detail,
            });
        });
    let (header, claims) = verify::read_unverified(token)
        .map(|read| (read.header, read.claims))
        .ok()
        .unzip();
    Ok(Inspection {
        accepted: verdict.is_ok(),
        reason: verdict.err().map(Refusal::reason),
        header,
        claims,
        checks,
    })
}
