//! The claims of a token whose signature is good: are they for us, now, and about whom.
//!
//! Enters: claims that the issuer signed. Leaves: an [`Identity`], or a [`Refusal`]. A claim of the wrong JSON type is
//! never read as if it were absent, where a check depends on it.

use serde_json::{Map, Value};

use super::issuer::{Issuer, Issuers};
use super::tenant::Tenants;
use super::trace::Steps;
use crate::clock::UnixSeconds;
use crate::identity::{ClaimPath, Identity, SESSION_ISSUER, is_email_verified};
use crate::refusal::Refusal;

/// 9999-12-31T23:59:59Z. An `exp` after it was written in other units than seconds, and would never come.
const LATEST_EXPIRY: UnixSeconds = 253_402_300_799;

/// The largest number that every reader of JSON takes for the same one (RFC 8259 section 6): two larger ones may have
/// been one number to the signer, and would be two callers here.
const LARGEST_ROW: u64 = (1 << 53) - 1;

/// The identity in `claims`, and the last moment at which it may still be answered from a cache: neither past `exp` nor
/// past `max_age`, both without leeway.
pub(super) fn check(
    mut claims: Map<String, Value>,
    issuer: &Issuer,
    now: UnixSeconds,
    steps: &mut Steps<'_>,
) -> Result<(Identity, UnixSeconds), Refusal> {
    let expires = steps.check("expires", expires(&claims, issuer, now), || {
        format!("{}, leeway is {} s", moment(&claims, "exp", now), issuer.leeway)
    })?;
    steps.check("not-before", starts(&claims, "nbf", issuer, now), || {
        format!("{}, leeway is {} s", moment(&claims, "nbf", now), issuer.leeway)
    })?;
    let issued = steps.check("issued-at", starts(&claims, "iat", issuer, now), || {
        format!("{}, leeway is {} s", moment(&claims, "iat", now), issuer.leeway)
    })?;
    let issued_at = issued.flatten();
    if let Some(max_age) = issuer.max_age {
        steps.check(
            "max-age",
            not_too_old(issued_at, max_age, issuer.leeway, now),
            || format!("{}, the greatest age is {max_age} s", moment(&claims, "iat", now)),
        )?;
    }
    steps.check("audience", audience(&claims, issuer), || {
        format!(
            "`{}` is {}, accepted are {:?}",
            issuer.audience_claim.as_str(),
            issuer
                .audience_claim
                .find(&claims)
                .map_or_else(|| "missing".to_owned(), Value::to_string),
            issuer.audiences
        )
    })?;
    let subject = steps.check("subject", subject(&claims, issuer), || {
        let found = issuer.subject_claims.iter().map(|claim| {
            let found = claim
                .find(&claims)
                .map_or_else(|| "missing".to_owned(), Value::to_string);
            format!("`{}` is {found}", claim.as_str())
        });
        let found = found.collect::<Vec<_>>().join(", ");
        match subject(&claims, issuer) {
            // What revocations are made by, where it is not the claim itself.
            Ok(subject) if issuer.subject_claims.len() > 1 || issuer.has_many_tenants() => {
                format!("{found}: `{subject}`")
            }
            _ => found,
        }
    })?;
    let token_id = steps
        .check("token-id", token_id(&claims), || {
            format!("`jti` is {}", shown(&claims, "jti"))
        })?
        .flatten();
    steps.verdict()?;

    // All of them passed, so that none of these is missing.
    let (Some(expires_at), Some(subject)) = (expires, subject) else {
        return Err(Refusal::Internal);
    };
    let age_limit = issuer
        .max_age
        .zip(issued_at)
        .map_or(UnixSeconds::MAX, |(age, iat)| iat.saturating_add(age));
    if issuer.has_many_tenants() {
        // What a tenant says about an address is its own word; `xms_edov` is the issuer's.
        let is_verified = claims.get("xms_edov") == Some(&Value::Bool(true));
        claims.insert("email_verified".to_owned(), Value::Bool(is_verified));
    }
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let identity = Identity {
        issuer: issuer.name.clone(),
        subject,
        email: text("email"),
        name: text("name"),
        roles: roles_of(&claims, &issuer.roles_claims),
        scopes: scopes(&claims),
        token_id,
        session_id: if &*issuer.name == SESSION_ISSUER {
            text("sid")
        } else {
            None
        },
        issued_at,
        expires_at,
        claims,
    };
    Ok((identity, expires_at.min(age_limit)))
}

/// `iss` (RFC 7519 section 4.1.1): one string. `None`: there is no such claim, and an issuer that allows for that.
pub(super) fn issuer<'c>(
    claims: &'c Map<String, Value>,
    issuers: &Issuers,
) -> Result<Option<&'c str>, Refusal> {
    match claims.get("iss") {
        Some(Value::String(iss)) => Ok(Some(iss)),
        None if issuers.without_iss().is_some() => Ok(None),
        Some(_) | None => Err(Refusal::IssuerMalformed),
    }
}

/// `tid`, of an issuer of many tenants: the tenant that stands in `iss`, and one of those that are taken.
pub(super) fn tenant(
    claims: &Map<String, Value>,
    iss: Option<&str>,
    issuer: &Issuer,
    tenants: &Tenants,
) -> Result<(), Refusal> {
    let tenant = iss
        .and_then(|iss| issuer.iss.tenant(iss))
        .ok_or(Refusal::IssuerUnknown)?;
    match claims.get("tid") {
        Some(Value::String(tid)) if tid == tenant && tenants.have(tenant) => Ok(()),
        Some(Value::String(_)) => Err(Refusal::IssuerUnknown),
        Some(_) | None => Err(Refusal::IssuerMalformed),
    }
}

/// `exp` (RFC 7519 section 4.1.4): required, and in the future.
fn expires(claims: &Map<String, Value>, issuer: &Issuer, now: UnixSeconds) -> Result<UnixSeconds, Refusal> {
    let exp = numeric_date(claims, "exp")?.ok_or(Refusal::TimeMalformed)?;
    if exp > LATEST_EXPIRY {
        return Err(Refusal::TimeMalformed);
    }
    if now >= exp.saturating_add(issuer.leeway) {
        return Err(Refusal::Expired);
    }
    Ok(exp)
}

/// `nbf` or `iat` (RFC 7519 sections 4.1.5 and 4.1.6): not in the future, where they stand. A token that says it was
/// issued tomorrow would outlive a revocation of its subject.
fn starts(
    claims: &Map<String, Value>,
    name: &str,
    issuer: &Issuer,
    now: UnixSeconds,
) -> Result<Option<UnixSeconds>, Refusal> {
    let start = numeric_date(claims, name)?;
    if start.is_some_and(|start| start > now.saturating_add(issuer.leeway)) {
        return Err(Refusal::NotYetValid);
    }
    Ok(start)
}

fn not_too_old(iat: Option<UnixSeconds>, max_age: i64, leeway: i64, now: UnixSeconds) -> Result<(), Refusal> {
    let iat = iat.ok_or(Refusal::TimeMalformed)?;
    if now > iat.saturating_add(max_age).saturating_add(leeway) {
        return Err(Refusal::TooOld);
    }
    Ok(())
}

/// `aud` (RFC 7519 section 4.1.3), or the claim that the issuer has instead. `aud` itself must be of the right type
/// even where it is not the one that is compared.
fn audience(claims: &Map<String, Value>, issuer: &Issuer) -> Result<(), Refusal> {
    if let Some(aud) = claims.get("aud") {
        audiences(aud)?;
    }
    let named = match issuer.audience_claim.find(claims) {
        Some(named) => audiences(named)?,
        None if issuer.may_lack_aud && !claims.contains_key("aud") => return Ok(()),
        None => return Err(Refusal::AudienceMalformed),
    };
    if !named
        .iter()
        .any(|name| issuer.audiences.iter().any(|ours| ours == name))
    {
        return Err(Refusal::AudienceRefused);
    }
    Ok(())
}

fn audiences(value: &Value) -> Result<Vec<&str>, Refusal> {
    strings(value).ok_or(Refusal::AudienceMalformed)
}

/// Who the token is about: the first of the issuer's claims that is there and not empty. `sub` (RFC 7519 section 4.1.2) is
/// a string; another claim may also be the number of a row in a database.
///
/// A value of another claim than the first has the claim's name before it, so that two kinds of subjects (people and
/// machines, say) never have one name, and a value that looks like one of another kind is refused.
fn subject(claims: &Map<String, Value>, issuer: &Issuer) -> Result<String, Refusal> {
    let mut found = None;
    for (index, claim) in issuer.subject_claims.iter().enumerate() {
        let is_sub = claim.as_str() == "sub";
        match claim.find(claims) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            // Apps would take its bearer for whom the address belongs to.
            Some(_) if claim.is_email() && !is_email_verified(claims) => {
                return Err(Refusal::SubjectMalformed);
            }
            Some(Value::String(text)) => found = found.or(Some((index, text.clone()))),
            Some(Value::Number(number)) if !is_sub => match number.as_u64() {
                Some(row) if row <= LARGEST_ROW => found = found.or_else(|| Some((index, row.to_string()))),
                _ => return Err(Refusal::SubjectMalformed),
            },
            Some(_) => return Err(Refusal::SubjectMalformed),
        }
        if found.is_some() {
            break;
        }
    }
    let (index, mut subject) = found.ok_or(Refusal::SubjectMalformed)?;
    let claim = issuer.subject_claims[index].as_str();
    if claim == "oid" && issuer.has_many_tenants() {
        // It is unique within its tenant alone; `tid` was compared with `iss`.
        let tid = claims
            .get("tid")
            .and_then(Value::as_str)
            .ok_or(Refusal::SubjectMalformed)?;
        subject = format!("{tid}:{subject}");
    }
    if index > 0 {
        subject = format!("{claim}:{subject}");
    }
    let is_of_kind = |other: &ClaimPath| {
        subject
            .strip_prefix(other.as_str())
            .is_some_and(|rest| rest.starts_with(':'))
    };
    let mut others = issuer
        .subject_claims
        .iter()
        .enumerate()
        .skip(1)
        .filter(|(other, _)| *other != index);
    if others.any(|(_, other)| is_of_kind(other)) {
        return Err(Refusal::SubjectMalformed);
    }
    Ok(subject)
}

/// `jti` (RFC 7519 section 4.1.7): a string where there is one; by anything else the token could not be revoked.
fn token_id(claims: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    match claims.get("jti") {
        None => Ok(None),
        Some(Value::String(jti)) => Ok(Some(jti.clone())),
        Some(_) => Err(Refusal::TokenMalformed),
    }
}

/// The roles under all of these paths, each once: a string, an array of strings, or the names of an object (as ZITADEL
/// writes them). A claim of another type gives none.
pub(crate) fn roles_of(claims: &Map<String, Value>, paths: &[ClaimPath]) -> Vec<String> {
    let mut roles: Vec<String> = Vec::new();
    // An address that its bearer may have made up gives no role.
    for path in paths
        .iter()
        .filter(|path| !path.is_email() || is_email_verified(claims))
    {
        let found = match path.find(claims) {
            Some(Value::Object(members)) => members.keys().map(String::as_str).collect(),
            found => found.and_then(strings).unwrap_or_default(),
        };
        for role in found {
            if !role.is_empty() && !roles.iter().any(|known| known == role) {
                roles.push(role.to_owned());
            }
        }
    }
    roles
}

/// The scopes in `scope` (RFC 9068 section 2.2.3), or else in `scp`: words of one string, or an array of strings.
fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Value::String(words)) => words
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
        Some(value) => strings(value)
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        None => Vec::new(),
    }
}

/// The strings that `value` is, one or an array; `None` where anything else is among them.
fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// A `NumericDate` (RFC 7519 section 2) in whole seconds, rounded down; what is out of range stands at its end.
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<UnixSeconds>, Refusal> {
    let number = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(Refusal::TimeMalformed),
    };
    if let Some(whole) = number.as_i64() {
        return Ok(Some(whole));
    }
    let seconds = number
        .as_f64()
        .filter(|seconds| seconds.is_finite())
        .ok_or(Refusal::TimeMalformed)?;
    // A cast from a float stops at the ends of the integer's range.
    #[allow(clippy::cast_possible_truncation)]
    Ok(Some(seconds.floor() as UnixSeconds))
}

fn shown(claims: &Map<String, Value>, name: &str) -> String {
    claims
        .get(name)
        .map_or_else(|| "missing".to_owned(), Value::to_string)
}

/// A claim that is a time, and how far it is from now.
fn moment(claims: &Map<String, Value>, name: &str, now: UnixSeconds) -> String {
    let text = format!("`{name}` is {}", shown(claims, name));
    let Some(at) = claims.get(name).and_then(Value::as_i64) else {
        return text;
    };
    let seconds = at.abs_diff(now);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let distance = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    };
    if at > now {
        format!("{text} (in {distance})")
    } else {
        format!("{text} ({distance} ago)")
    }
}
