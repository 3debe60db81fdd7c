//! What a certificate says: the time for which it is good, and who signed it.
//!
//! Input: certificates as they are on the wire, leaf first. Output: times, and faults in words.

use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::clock::UnixSeconds;

/// How long before its end a certificate is warned of, at most; one that lives shortly, for its last quarter.
const WARN_BEFORE: UnixSeconds = 14 * 86_400;

/// The time for which a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// The first second.
    pub(crate) not_before: UnixSeconds,
    /// The last one.
    pub(crate) not_after: UnixSeconds,
}

impl Validity {
    /// What `leaf` says. The library that reads certificates gives these times in its errors alone, so it is asked to
    /// verify at both ends of time.
    pub(crate) fn of(leaf: &CertificateDer<'_>) -> Option<Self> {
        let leaf = webpki::EndEntityCert::try_from(leaf).ok()?;
        let fault = |at: u64| {
            let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
            leaf.verify_for_usage(&[], &[], &[], at, webpki::KeyUsage::server_auth(), None, None)
                .err()
        };
        let seconds = |time: UnixTime| UnixSeconds::try_from(time.as_secs()).ok();
        // The year 9999 is the last that a certificate can name (RFC 5280 section 4.1.2.5).
        let webpki::Error::CertExpired { not_after, .. } = fault(253_402_300_800)? else {
            return None;
        };
        let not_before = match fault(0)? {
            webpki::Error::CertNotValidYet { not_before, .. } => seconds(not_before)?,
            _ => 0,
        };
        Some(Self {
            not_before,
            not_after: seconds(not_after)?,
        })
    }

    /// Whether it is good at `now`.
    pub(crate) fn contains(self, now: UnixSeconds) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Whether it ends soon after `now`, or has ended.
    pub(crate) fn ends_soon(self, now: UnixSeconds) -> bool {
        self.not_after - now <= WARN_BEFORE.min((self.not_after - self.not_before) / 4)
    }

    /// `expires 2026-12-24T00:00:00Z, in 26 days`
    pub(crate) fn expiry(self, now: UnixSeconds) -> String {
        let text = |seconds| {
            jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |time| time.to_string())
        };
        let time = text(self.not_after);
        if now < self.not_before {
            return format!("is not valid before {}", text(self.not_before));
        }
        match self.not_after - now {
            left if left < 0 => format!("expired {time}"),
            left if left < 2 * 86_400 => format!("expires {time}, in {} hours", left / 3600),
            left => format!("expires {time}, in {} days", left / 86_400),
        }
    }
}

/// Why no authority of `roots` vouches for `chain` at `now`, in words; `None` where one does.
pub(crate) fn chain_fault(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: UnixSeconds,
) -> Option<String> {
    let (leaf, intermediates) = chain.split_first()?;
    let leaf = match webpki::EndEntityCert::try_from(leaf) {
        Ok(leaf) => leaf,
        Err(fault) => return Some(fault.to_string()),
    };
    let algorithms = aws_lc_rs::default_provider()
        .signature_verification_algorithms
        .all;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.unsigned_abs()));
    let usage = webpki::KeyUsage::server_auth();
    let verified = leaf.verify_for_usage(algorithms, &roots.roots, intermediates, now, usage, None, None);
    verified.err().map(|fault| match fault {
        webpki::Error::UnknownIssuer if intermediates.is_empty() => {
            "no authority of this system signed it, and the file has no further certificate".to_owned()
        }
        webpki::Error::UnknownIssuer => "its chain leads to no authority of this system".to_owned(),
        fault => fault.to_string(),
    })
}
