//! Providers and issuers: what they publish, the redirect URI, and their clocks.

use std::sync::Arc;

use super::{Checks, Finding};
use crate::app::config::Plan;
use crate::login::provider::{Examined, ProviderPlan, RedirectUri};
use crate::verify::Issuer;

/// The largest difference of clocks that is none, in seconds; the default `leeway` of tokens.
const LARGEST_SKEW: u64 = 30;

pub(super) fn add(checks: &mut Checks, plan: &Plan) {
    let settings = &plan.settings;
    for provider in plan.sign_in.iter().flat_map(|sign_in| &sign_in.providers) {
        let provider: ProviderPlan = provider.clone();
        let name = provider.name().to_owned();
        let redirect_uri = format!(
            "{}{}/login/{name}/return",
            settings.public_url, settings.own_prefix
        );
        checks.add("provider", format!("provider `{name}`"), async move {
            let examined = provider.examine(&redirect_uri).await;
            judge(&name, &examined, &redirect_uri)
        });
    }
    for issuer in plan.issuers.iter().filter(|issuer| issuer.source.is_some()) {
        let issuer = Arc::clone(issuer);
        checks.add("issuer", format!("issuer `{}`", issuer.name), async move {
            examine_issuer(&issuer).await
        });
    }
}

fn judge(name: &str, examined: &Examined, redirect_uri: &str) -> Vec<Finding> {
    const CHECK: &str = "provider";
    let mut findings = Vec::new();
    let said = |text: String| format!("provider `{name}`: {text}");
    match (&examined.metadata, &examined.document) {
        (Ok(()), None) => {}
        (Ok(()), Some(document)) => findings.push(Finding::ok(
            CHECK,
            said(format!("the discovery document at `{document}` is of its issuer")),
        )),
        (Err(fault), _) => findings.push(Finding::problem(
            CHECK,
            said(fault.clone()),
            "compare `issuer` with the provider's documentation, and ask for the document from this machine with `curl -v`",
        )),
    }
    match &examined.keys {
        None => {}
        Some(Ok(keys)) => findings.push(Finding::ok(CHECK, said(format!("keys: {keys}")))),
        Some(Err(fault)) => findings.push(Finding::problem(
            CHECK,
            said(format!("its keys cannot be used: {fault}")),
            "without keys no ID token can be verified; ask for `jwks_uri` of the discovery document with `curl -v`",
        )),
    }
    let register =
        format!("register `{redirect_uri}` at the provider for this `client_id`, letter for letter");
    match &examined.redirect {
        None => {}
        Some(RedirectUri::Registered) => {
            findings.push(Finding::ok(
                CHECK,
                said(format!("the redirect URI `{redirect_uri}` is registered")),
            ));
        }
        Some(RedirectUri::Refused(status)) => findings.push(Finding::problem(
            CHECK,
            said(format!(
                "it answers a sign-in with {status}: the redirect URI or the `client_id` is not registered"
            )),
            register,
        )),
        Some(RedirectUri::Error(error)) => findings.push(Finding::problem(
            CHECK,
            said(format!(
                "the redirect URI is registered, and a sign-in ends with the error `{error}`"
            )),
            "allow the authorization code flow with PKCE and all of `scopes` for this client at the provider",
        )),
        Some(RedirectUri::NoAnswer(fault)) => findings.push(Finding::problem(
            CHECK,
            said(format!("the authorization endpoint does not answer: {fault}")),
            "browsers are redirected there; look at the network between them, this machine and the provider",
        )),
        Some(RedirectUri::Unknown) => findings.push(Finding::unknown(
            CHECK,
            said("whether the redirect URI is registered cannot be told without a user".to_owned()),
            register,
        )),
    }
    match examined.ahead {
        None if examined.metadata.is_err() || examined.document.is_none() => {}
        None => findings.push(Finding::unknown(
            "clock",
            said("its answer has no time".to_owned()),
            "`timedatectl` shows whether the clock of this machine is synchronized",
        )),
        Some(ahead) => findings.push(judge_clock(&format!("provider `{name}`"), ahead)),
    }
    findings
}

/// `ahead`: seconds by which the other clock is ahead of this one.
fn judge_clock(of: &str, ahead: i64) -> Finding {
    const CHECK: &str = "clock";
    let direction = if ahead < 0 { "ahead of" } else { "behind" };
    let text = format!(
        "the clock of this machine is {} s {direction} that of {of}",
        ahead.unsigned_abs()
    );
    if ahead.unsigned_abs() <= LARGEST_SKEW {
        return Finding::ok(CHECK, text);
    }
    Finding::problem(
        CHECK,
        text,
        "synchronize the clock (`timedatectl set-ntp true`): tokens are refused as expired or as not valid yet",
    )
}

async fn examine_issuer(issuer: &Issuer) -> Vec<Finding> {
    const CHECK: &str = "issuer";
    let Some(source) = &issuer.source else {
        return Vec::new();
    };
    let (name, url) = (&issuer.name, source.location().url());
    let keys = match source.fetch(&issuer.issuer).await {
        Ok((_, keys, skipped)) if skipped.is_empty() => Finding::ok(
            CHECK,
            format!("issuer `{name}`: keys from `{url}`: {}", keys.len()),
        ),
        Ok((_, keys, skipped)) => Finding::warning(
            CHECK,
            format!(
                "issuer `{name}`: keys from `{url}`: {}; left out: {}",
                keys.len(),
                skipped.join("; ")
            ),
            "tokens that were signed by a key that is left out are refused",
        ),
        Err(fault) => Finding::problem(
            CHECK,
            format!("issuer `{name}`: {fault}"),
            "its tokens are refused until the keys can be fetched; ask for the address from this machine with `curl -v`",
        ),
    };
    let ahead = source.seconds_ahead().await;
    let clock = ahead.map(|ahead| judge_clock(&format!("issuer `{name}`"), ahead));
    [keys].into_iter().chain(clock).collect()
}
