//! `security_headers` of a route: what browsers are told about an app's answers, where the app does not say it itself.
//!
//! Input: the head of the app's answer. Output: the same with the fields that are missing. Invariant: no field of the app
//! is changed.

use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue};

/// A year, for this host alone (RFC 6797 section 6.1).
pub(super) const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// A browser takes the type that an answer names.
pub(super) const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// Adds the fields. `is_https`: the browser asked by HTTPS, for a host without a port.
pub(super) fn add(headers: &mut HeaderMap, is_https: bool) {
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(NO_SNIFFING);
    headers
        .entry(REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("strict-origin-when-cross-origin"));
    // Either of the two may say whose pages may frame the answer; older browsers know the second one only.
    if !headers.contains_key(CONTENT_SECURITY_POLICY) && !headers.contains_key(X_FRAME_OPTIONS) {
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("frame-ancestors 'self'"),
        );
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    }
    if is_https {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(HTTPS_ONLY);
    }
}
