//! `[issuers.*]` into issuers that are ready.
//!
//! Input: the tables as they were read. Output: [`Issuers`], and every problem with its place. Files are read here;
//! nothing is fetched. What could not work, or would work and protect nothing, is an error now and not at the first
//! request.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use super::algorithm::{Algorithm, Family};
use super::issuer::{Issuer, Issuers, LEEWAY};
use super::jwks::Origin;
use super::key_source::{KeySource, Location, REFRESH_COOLDOWN, REFRESH_INTERVAL};
use super::keys::KeySet;
use super::tenant::{IssuerName, Tenants};
use crate::clock::UnixSeconds;
use crate::config::raw::{Named, RawIssuer, RawTenants};
use crate::config::{Problems, Spanned, load_secret};
use crate::identity::ClaimPath;
use crate::net::client::{self, Client};
use crate::net::egress::Egress;
use crate::values::MissingClaim;

/// The longest key file that is read, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 1024 * 1024;

impl Issuers {
    /// Makes the issuers of a file ready. An issuer with an error is left out; the configuration is not used then.
    pub fn compile(raw: &[Named<RawIssuer>], egress: &Egress, problems: &mut Problems) -> Self {
        let mut issuers = Self::default();
        one_without_iss(raw, problems);
        for (name, raw) in raw {
            let Some(issuer) = issuer(name, raw, egress, problems) else {
                continue;
            };
            if issuer.may_lack_iss && issuers.without_iss().is_some() {
                continue;
            }
            if let Err(message) = issuers.add(issuer) {
                problems
                    .error(&name.span, message)
                    .hint("a token names its issuer by `iss` alone: make one table of both");
            }
        }
        issuers
    }
}

/// A token without `iss` can be of one issuer only: which keys verify it must not depend on the order of the file.
fn one_without_iss(raw: &[Named<RawIssuer>], problems: &mut Problems) {
    let mut first: Option<(&str, &Range<usize>)> = None;
    for (name, raw) in raw {
        let Some(iss) = raw
            .missing_claims
            .iter()
            .find(|claim| claim.value == MissingClaim::Iss)
        else {
            continue;
        };
        match first {
            Some((other, span)) => {
                problems
                    .error(
                        &iss.span,
                        format!("`{other}` and `{}` both take tokens without `iss`", name.value),
                    )
                    .also(span.clone(), "the other one")
                    .hint("such a token can belong to one issuer only: remove `iss` from one of them");
            }
            None => first = Some((name, &iss.span)),
        }
    }
}

/// From when on a revocation made at `now` says nothing more: where tokens have a greatest age, one that is issued now
/// is refused for its age from then on. `None`: never.
#[must_use]
pub(crate) fn revocation_expiry(raw: &RawIssuer, now: UnixSeconds) -> Option<UnixSeconds> {
    let age = seconds(raw.max_age.as_ref()?.value);
    let leeway = raw.leeway.as_ref().map_or(LEEWAY, |leeway| seconds(leeway.value));
    Some(now.saturating_add(age).saturating_add(2 * leeway))
}

fn issuer(
    name: &Spanned<String>,
    raw: &RawIssuer,
    egress: &Egress,
    problems: &mut Problems,
) -> Option<Issuer> {
    let errors = problems.errors().len();
    check_missing_claims(raw, problems);
    let tenants = tenants(raw, problems);
    let algorithms = algorithms(raw);
    let subject_claims = subject_claims(raw, tenants.as_ref(), problems);
    check_max_age(raw, problems);
    let (keys, source) = key_origin(raw, &algorithms, egress, problems);
    if problems.errors().len() > errors {
        return None;
    }

    let mut issuer = Issuer::new(name, raw.issuer.as_ref()?.value.clone(), keys);
    issuer.audiences = raw
        .audiences
        .iter()
        .map(|audience| audience.value.clone())
        .collect();
    issuer.algorithms = algorithms;
    issuer.place = Some(problems.place(&name.span));
    issuer.source = source;
    if let Some(claim) = &raw.audience_claim {
        issuer.audience_claim = claim.value.clone();
    }
    if !subject_claims.is_empty() {
        issuer.subject_claims = subject_claims;
    }
    issuer.tenants = tenants;
    issuer.may_lack_iss = may_lack(raw, MissingClaim::Iss);
    issuer.may_lack_aud = may_lack(raw, MissingClaim::Aud);
    if !raw.roles_claims.is_empty() {
        issuer.roles_claims = raw.roles_claims.iter().map(|claim| claim.value.clone()).collect();
    }
    if let Some(leeway) = &raw.leeway {
        issuer.leeway = seconds(leeway.value);
    }
    issuer.max_age = raw.max_age.as_ref().map(|age| seconds(age.value));
    Some(issuer)
}

/// Which tenants are taken, where `issuer` has a place for one.
fn tenants(raw: &RawIssuer, problems: &mut Problems) -> Option<Tenants> {
    const HINT: &str = "`tenants = [\"…\"]` with their ids, or `\"any\"`, which accepts every tenant";
    let iss = raw.issuer.as_ref()?;
    let Some(name) = IssuerName::parse(iss) else {
        problems
            .error(
                &iss.span,
                "`{tid}` must be one whole segment of the path of `issuer`, once",
            )
            .hint("such as `https://login.microsoftonline.com/{tid}/v2.0`");
        return None;
    };
    match (name.is_template(), &raw.tenants) {
        (true, None) => {
            problems
                .error(
                    &iss.span,
                    "`issuer` has a place for a tenant, and no `tenants` are named",
                )
                .hint(HINT);
            None
        }
        (true, Some(_)) if may_lack(raw, MissingClaim::Iss) => {
            problems
                .error(&iss.span, "a token without `iss` says nothing about its tenant")
                .hint("take `iss` out of `missing_claims`, or write one tenant into `issuer`");
            None
        }
        (
            true,
            Some(Spanned {
                value: RawTenants::Any,
                ..
            }),
        ) => Some(Tenants::Any),
        (
            true,
            Some(Spanned {
                value: RawTenants::Listed(tenants),
                ..
            }),
        ) => Some(Tenants::Listed(tenants.clone())),
        (false, Some(tenants)) => {
            problems
                .error(&tenants.span, "`issuer` has no place for a tenant")
                .also(iss.span.clone(), "here")
                .hint("write `{tid}` where the tenant stands, such as `https://login.microsoftonline.com/{tid}/v2.0`");
            None
        }
        (false, None) if iss.contains("{tenantid}") => {
            problems
                .warning(&iss.span, "`{tenantid}` is taken literally")
                .hint("write `{tid}` where the tenant stands, and `tenants`");
            None
        }
        (false, None) => None,
    }
}

/// The claims that say who a token is about. Each stands once, and none looks like the beginning of another one's values.
fn subject_claims(raw: &RawIssuer, tenants: Option<&Tenants>, problems: &mut Problems) -> Vec<ClaimPath> {
    let mut claims: Vec<ClaimPath> = Vec::new();
    for written in &raw.subject_claims {
        if tenants.is_some_and(Tenants::are_many) && !["sub", "oid"].contains(&written.as_str()) {
            problems
                .error(
                    &written.span,
                    format!("`{}` may be the same for people of two tenants", written.as_str()),
                )
                .hint("with more than one tenant, `subject_claim` is `sub` or `oid`");
        }
        if claims.contains(&written.value) {
            problems
                .error(&written.span, format!("`{}` appears twice", written.as_str()))
                .hint("remove one of them");
            continue;
        }
        claims.push(written.value.clone());
    }
    claims
}

fn may_lack(raw: &RawIssuer, claim: MissingClaim) -> bool {
    raw.missing_claims.iter().any(|missing| missing.value == claim)
}

/// `iss` and `aud` say whose token it is and for whom. Where the keys are kept here alone, the signature may say it.
fn check_missing_claims(raw: &RawIssuer, problems: &mut Problems) {
    let Some(first) = raw.missing_claims.first() else {
        return;
    };
    let discovers = raw.discovery.as_ref().is_some_and(|discovery| discovery.value);
    if raw.jwks_url.is_some() || discovers {
        problems
            .error(
                &first.span,
                "`missing_claims` needs keys that are kept here, and these are fetched",
            )
            .hint(
                "a published key set signs for many apps: a token without `aud` can be meant for any of them",
            );
    }
    let other = raw
        .audience_claim
        .as_ref()
        .filter(|claim| claim.as_str() != "aud");
    if let (Some(claim), Some(missing)) = (
        other,
        raw.missing_claims
            .iter()
            .find(|claim| claim.value == MissingClaim::Aud),
    ) {
        problems
            .error(
                &missing.span,
                format!(
                    "`aud` may be missing, and `{}` is compared instead of it",
                    claim.as_str()
                ),
            )
            .also(claim.span.clone(), "here")
            .hint("keep one of them");
    }
    if raw.max_age.is_none() && may_lack(raw, MissingClaim::Aud) {
        problems
            .warning(
                &first.span,
                "whatever else is signed with these keys is taken as well",
            )
            .label("refresh tokens and links to reset a password, for instance")
            .hint("`max_age`, as long as its access tokens live, refuses those that are older");
    }
}

/// The algorithms, each once. The reader takes no other name.
fn algorithms(raw: &RawIssuer) -> Vec<Algorithm> {
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for written in &raw.algorithms {
        match Algorithm::parse(written) {
            Some(algorithm) if !algorithms.contains(&algorithm) => algorithms.push(algorithm),
            _ => {}
        }
    }
    algorithms
}

fn check_max_age(raw: &RawIssuer, problems: &mut Problems) {
    if let Some(age) = raw.max_age.as_ref().filter(|age| age.as_secs() == 0) {
        problems
            .error(&age.span, "`max_age` is shorter than a second")
            .hint("tokens count in whole seconds");
    }
}

/// The keys, or where they will be fetched from.
fn key_origin(
    raw: &RawIssuer,
    algorithms: &[Algorithm],
    egress: &Egress,
    problems: &mut Problems,
) -> (Option<KeySet>, Option<KeySource>) {
    let discovers = raw.discovery.as_ref().is_some_and(|discovery| discovery.value);
    let fetched = raw.jwks_url.is_some() || discovers;
    if fetched {
        return (None, key_source(raw, egress, problems));
    }
    check_unused(raw, problems);
    (key_files(raw, algorithms, problems), None)
}

/// Keys of the table that change nothing, because nothing is fetched.
fn check_unused(raw: &RawIssuer, problems: &mut Problems) {
    for (key, span) in [
        ("jwks_token", raw.jwks_token.as_ref().map(|at| &at.span)),
        ("ca_file", raw.ca_file.as_ref().map(|at| &at.span)),
        ("allow_http", raw.allow_http.as_ref().map(|at| &at.span)),
        (
            "refresh_interval",
            raw.refresh_interval.as_ref().map(|at| &at.span),
        ),
        (
            "refresh_cooldown",
            raw.refresh_cooldown.as_ref().map(|at| &at.span),
        ),
    ] {
        if let Some(span) = span {
            problems
                .warning(span, format!("`{key}` changes nothing here"))
                .hint("the keys of this issuer are not fetched");
        }
    }
}

fn key_source(raw: &RawIssuer, egress: &Egress, problems: &mut Problems) -> Option<KeySource> {
    let allow_http = raw.allow_http.as_ref().is_some_and(|allow| allow.value);
    const HTTP_HINT: &str = "use `https://`; `allow_http = true` is for a network that no attacker can reach";
    let location = if let Some(url) = &raw.jwks_url {
        match client::url(url, allow_http) {
            Ok(url) => Some(Location::Jwks(url)),
            Err(fault) => {
                problems
                    .error(&url.span, format!("`jwks_url` is {fault}"))
                    .hint(HTTP_HINT);
                None
            }
        }
    } else {
        let iss = raw.issuer.as_ref()?;
        match Location::discovery(iss, allow_http) {
            Ok(location) => Some(location),
            Err(fault) => {
                problems
                    .error(
                        &iss.span,
                        format!("with `discovery`, `issuer` is where the keys are found, and it is {fault}"),
                    )
                    .hint(HTTP_HINT);
                None
            }
        }
    };
    let ca_file = raw.ca_file.as_ref().map(|file| problems.resolve(file));
    let client = match Client::new(ca_file.as_deref(), allow_http) {
        Ok(client) => Some(client),
        Err(fault) => {
            let file = raw.ca_file.as_ref().expect("only the reading of a file fails");
            problems
                .error(&file.span, format!("`{}` {fault}", file.display()))
                .hint("a PEM file of certificate authorities");
            None
        }
    };
    let (location, client) = (location?, client?.through(egress.clone()));
    let client = match &raw.jwks_token {
        None => client,
        Some(token) if !location.url().is_private() => {
            problems
                .error(
                    &token.span,
                    format!("`jwks_token` would go to `{}` in plain HTTP", location.url()),
                )
                .hint("it could be read on the network path: use `https://`");
            return None;
        }
        Some(token) => {
            if let Err(fault) = load_secret(token, problems) {
                problems
                    .error(&token.span, format!("`jwks_token` cannot be used: {fault}"))
                    .hint("a file, `{ file = \"…\" }`, or an environment variable, `{ env = \"…\" }`");
                return None;
            }
            let (token, directory) = (token.value.clone(), problems.directory().to_owned());
            client.with_token(location.url().clone(), move || {
                let token = token.load(&directory);
                token
                    .and_then(|token| client::bearer(token.expose()))
                    .map_err(|fault| format!("`jwks_token`: {fault}"))
            })
        }
    };
    let interval = raw
        .refresh_interval
        .as_ref()
        .map_or(REFRESH_INTERVAL, |at| at.value);
    let cooldown = raw
        .refresh_cooldown
        .as_ref()
        .map_or(REFRESH_COOLDOWN, |at| at.value);
    Some(KeySource::new(location, client, interval, cooldown))
}

fn key_files(raw: &RawIssuer, algorithms: &[Algorithm], problems: &mut Problems) -> Option<KeySet> {
    if let Some(secret) = &raw.secret {
        let hmac: Vec<_> = algorithms
            .iter()
            .copied()
            .filter(|a| a.family() == Family::Hmac)
            .collect();
        let loaded =
            load_secret(secret, problems).map_err(|fault| format!("a secret that cannot be used: {fault}"));
        return match loaded.and_then(|bytes| KeySet::from_secret(bytes.expose(), &hmac)) {
            Ok(set) => Some(set),
            Err(fault) => {
                let hint = if fault.contains("bytes") {
                    "`openssl rand -base64 64` makes a good one"
                } else if fault.contains("CREDENTIALS_DIRECTORY") {
                    "beside a running service, `CREDENTIALS_DIRECTORY=/run/credentials/passgate.service passgate …` has them"
                } else {
                    "a file, `{ file = \"…\" }`, or an environment variable, `{ env = \"…\" }`"
                };
                problems
                    .error(&secret.span, format!("this is {fault}"))
                    .hint(hint);
                None
            }
        };
    }
    let (file, set) = if let Some(file) = &raw.jwks_file {
        (
            file,
            read(&problems.resolve(file)).and_then(|text| KeySet::from_jwks(&text, Origin::File)),
        )
    } else {
        let file = raw.public_key_file.as_ref()?;
        let set = read(&problems.resolve(file)).and_then(|text| KeySet::from_pem(&text));
        (file, set.map(|set| (set, Vec::new())))
    };
    let (set, skipped) = match set {
        Ok(set) => set,
        Err(fault) => {
            problems
                .error(
                    &file.span,
                    format!("`{}` cannot be used: {fault}", file.display()),
                )
                .hint(key_file_hint(&fault));
            return None;
        }
    };
    for reason in &skipped {
        problems
            .warning(
                &file.span,
                format!("`{}` has a key that is left out", file.display()),
            )
            .label(reason.clone())
            .hint(
                "tokens signed with it are refused; remove it from the file, or replace it with a usable key",
            );
    }
    let is_usable = set
        .keys()
        .iter()
        .any(|key| key.algorithms().any(|algorithm| algorithms.contains(&algorithm)));
    if !is_usable && !algorithms.is_empty() {
        let offered: Vec<_> = set.keys().iter().map(|key| key.family().as_str()).collect();
        problems
            .error(
                &file.span,
                format!(
                    "`{}` has no key for the `algorithms` of this issuer",
                    file.display()
                ),
            )
            .label(if offered.is_empty() {
                "no usable key at all".to_owned()
            } else {
                format!("it has {}", offered.join(", "))
            })
            .hint("name the algorithms that the issuer signs with, or give its keys");
    }
    Some(set)
}

fn key_file_hint(fault: &str) -> &'static str {
    if fault.contains("private key") {
        "`openssl pkey -in private.pem -pubout` writes the public half; take the private one off this machine"
    } else if fault.contains("bits") {
        "let the issuer make a key of 2048 bits or more"
    } else {
        "the file is relative to the directory of this TOML file"
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_KEY_FILE_BYTES {
        return Err(format!(
            "it is {length} bytes long, more than {MAX_KEY_FILE_BYTES}"
        ));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
