//! The certificates of `[server.tls]`: time, name, chain, and who can read the key.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use super::{Checks, Finding};
use crate::app::settings::Settings;
use crate::clock::{Clock, UnixSeconds};
use crate::server::tls::{Certificates, Inspected};

const CHECK: &str = "certificate";

pub(super) fn add(checks: &mut Checks, settings: &Settings) {
    let Some(tls) = settings.tls.clone() else { return };
    let host = settings.public_https.is_some().then(|| settings.public_host());
    checks.add_blocking(CHECK, "the certificates of `[server.tls]`", move || {
        examine(&tls, host.as_deref())
    });
}

fn examine(tls: &Arc<Certificates>, public_host: Option<&str>) -> Vec<Finding> {
    let now = Clock::system().now();
    let mut findings: Vec<Finding> = tls
        .inspect(now)
        .iter()
        .flat_map(|inspected| one(inspected, now))
        .collect();
    if let Some(host) = public_host {
        findings.push(if tls.covers(host) {
            Finding::ok(
                CHECK,
                format!("a certificate is made out to `{host}`, the host of `public_url`"),
            )
        } else {
            Finding::problem(
                CHECK,
                format!("no certificate is made out to `{host}`, the host of `public_url`"),
                "order one for this name, or correct `public_url`",
            )
        });
    }
    findings
}

fn one(inspected: &Inspected, now: UnixSeconds) -> Vec<Finding> {
    let place = &inspected.place;
    let mut findings = Vec::new();
    findings.push(match inspected.validity {
        None => Finding::unknown(
            CHECK,
            format!("the certificate from {place}: its time cannot be read"),
            "`openssl x509 -noout -dates -in FILE` shows it",
        ),
        Some(validity) => {
            let text = format!("the certificate from {place} {}", validity.expiry(now));
            if !validity.contains(now) {
                Finding::problem(CHECK, text, "renew it, or correct the clock of this machine")
            } else if validity.ends_soon(now) {
                Finding::warning(
                    CHECK,
                    text,
                    "renew it; changed files are read again without a restart",
                )
            } else {
                Finding::ok(CHECK, text)
            }
        }
    });
    let is_in_time = inspected.validity.is_none_or(|validity| validity.contains(now));
    if let Some(fault) = inspected.chain_fault.as_ref().filter(|_| is_in_time) {
        findings.push(Finding::warning(
            CHECK,
            format!("the certificate from {place}: {fault}"),
            "clients that do not know the authority refuse it; the file holds the certificate of the site first, then those of its issuers",
        ));
    }
    findings.extend(inspected.key_file.as_deref().and_then(exposed));
    findings
}

fn exposed(key: &Path) -> Option<Finding> {
    let mode = std::fs::metadata(key).ok()?.permissions().mode() & 0o7777;
    let shown = key.display();
    (mode & 0o077 != 0).then(|| {
        Finding::warning(
            CHECK,
            format!("the private key `{shown}` can be read by others (mode {mode:04o})"),
            format!("run `chmod 600 {shown}`"),
        )
    })
}
