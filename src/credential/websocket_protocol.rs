//! A credential in the list of protocols of a WebSocket handshake (RFC 6455 section 11.3.4): `bearer, <token>`.
//!
//! A page cannot set any other header of a handshake. The name of the protocol says that the next entry is a token; both
//! are taken out of the list before the app sees it. What must never happen here: the token stays in the list, of two
//! tokens one is picked, or the client waits for a protocol that was never chosen.

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Found, token_of};
use crate::config::raw::RawSource;
use crate::refusal::Refusal;

/// A protocol by name.
#[derive(Clone, Debug)]
pub struct WebSocketProtocol {
    name: Box<str>,
}

/// Compared without case, as schemes of `Authorization` are.
impl PartialEq for WebSocketProtocol {
    fn eq(&self, other: &Self) -> bool {
        self.name.eq_ignore_ascii_case(&other.name)
    }
}

impl Eq for WebSocketProtocol {}

impl std::fmt::Display for WebSocketProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebSocket protocol `{}`", self.name)
    }
}

impl WebSocketProtocol {
    pub(super) fn compile(raw: &RawSource) -> Option<Self> {
        let RawSource::WebSocketProtocol(name) = raw else {
            return None;
        };
        Some(Self {
            name: (**name).into(),
        })
    }

    fn is_name(&self, entry: &[u8]) -> bool {
        entry.eq_ignore_ascii_case(self.name.as_bytes())
    }

    pub(super) fn read<'a>(&self, headers: &'a HeaderMap, _query: Option<&'a str>) -> Found<'a> {
        let mut entries = entries(headers);
        if !entries.any(|entry| self.is_name(entry)) {
            return Found::Absent("there is no such protocol in the handshake");
        }
        let token = entries.next();
        // Also a token that is called like the protocol itself.
        if entries.chain(token).any(|entry| self.is_name(entry)) {
            return Found::Refused(Refusal::CredentialRepeated);
        }
        match token.and_then(token_of) {
            Some(token) => Found::Token(token.into()),
            None => Found::Refused(Refusal::CredentialMalformed),
        }
    }

    /// The other entries stay, in one line.
    pub(super) fn strip(&self, headers: &mut HeaderMap) {
        if !entries(headers).any(|entry| self.is_name(entry)) {
            return;
        }
        let mut rest: Vec<u8> = Vec::new();
        let mut is_token = false;
        for entry in entries(headers) {
            if std::mem::take(&mut is_token) {
                continue;
            }
            if self.is_name(entry) {
                is_token = true;
                continue;
            }
            if !rest.is_empty() {
                rest.extend_from_slice(b", ");
            }
            rest.extend_from_slice(entry);
        }
        headers.remove(SEC_WEBSOCKET_PROTOCOL);
        if let Some(rest) = HeaderValue::from_bytes(&rest)
            .ok()
            .filter(|rest| !rest.is_empty())
        {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, rest);
        }
    }

    /// The name as the client spells it, which is what it waits for in the answer.
    pub(super) fn offered(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        entries(headers)
            .find(|entry| self.is_name(entry))
            .and_then(|entry| HeaderValue::from_bytes(entry).ok())
    }

    #[expect(clippy::unused_self, reason = "every kind answers this")]
    pub(super) fn query_name(&self) -> Option<&str> {
        None
    }

    #[expect(
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "every kind answers this"
    )]
    pub(super) fn header_name(&self) -> Option<&HeaderName> {
        Some(&SEC_WEBSOCKET_PROTOCOL)
    }
}

/// The entries of the list, over all of its lines (RFC 9110 section 5.3); empty ones do not count (section 5.6.1).
fn entries(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|entry| !entry.is_empty())
}
