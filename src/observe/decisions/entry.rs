//! One decision, as it is kept.
//!
//! Texts of a request are copied into a buffer of fixed size: a value of the HTTP library would keep the bytes of the whole
//! head in memory, with its tokens. Everything else is a number, or a part of the configuration or of the token cache that is
//! shared.

use std::net::IpAddr;
use std::sync::Arc;

use crate::authorize::{RuleName, Rules};
use crate::config::Place;
use crate::identity::Caller;
use crate::observe::Decision;
use crate::refusal::Refusal;

/// Bytes of request id, method, host and path together; a path that does not fit is cut.
const TEXT: usize = 320;
/// The longest method.
const MAX_METHOD: usize = 24;
/// The longest host.
const MAX_HOST: usize = 128;
/// The most that a caller may take in memory to be kept, in bytes.
const MAX_CALLER: usize = 16 * 1024;

/// A route as a decision went by it, also when the configuration has changed since.
#[derive(Debug)]
pub struct RouteOrigin {
    /// Its pattern, as log lines name it.
    pub text: Arc<str>,
    /// Its line in the file; `None` for the gateway's own endpoints.
    pub place: Option<Place>,
    /// Its rules; `None` for the gateway's own endpoints.
    pub rules: Option<Arc<Rules>>,
    /// Where a credential could be, in order, the session cookie last.
    pub sources: Arc<[String]>,
}

/// Which credentials a decision looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    /// Whether any was looked for.
    pub is_read: bool,
    list: [Option<Attempt>; 4],
}

/// One credential that was looked at, and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The place among [`RouteOrigin::sources`]; [`Attempt::NO_SOURCE`]: of several.
    pub source: u8,
    /// `None`: it counted.
    pub refusal: Option<Refusal>,
}

impl Attempt {
    /// Of no source alone.
    pub const NO_SOURCE: u8 = u8::MAX;
    /// The session cookie, which is the last one.
    pub const SESSION: u8 = u8::MAX - 1;
}

impl Attempts {
    /// Notes a further one; of more than four, the last.
    pub(crate) fn note(&mut self, attempt: Attempt) {
        let free = self.list.iter().position(Option::is_none);
        self.list[free.unwrap_or(self.list.len() - 1)] = Some(attempt);
    }

    /// In their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Attempt> {
        self.list.iter().flatten().copied()
    }

    /// Why no caller is known, where a credential was not good enough to go on.
    #[must_use]
    pub(crate) fn ended_by(&self) -> Option<Refusal> {
        self.iter().last()?.refusal
    }
}

/// How far the decision came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Deciding {
    /// There was none: the request was refused before, or the connection ended.
    #[default]
    NotBegun,
    /// The request may be forwarded.
    Allowed,
    /// The gateway answers it itself.
    Own,
    /// It is the preflight of a page.
    Preflight,
    /// It was refused.
    Refused,
}

/// What is known of a request that is over, for [`Remembered::new`].
#[derive(Debug)]
pub(crate) struct Finding<'a> {
    /// Milliseconds since 1970.
    pub time: u64,
    /// The id in log and answer.
    pub request_id: &'a str,
    /// The method of the request that the decision is about.
    pub method: &'a str,
    /// As sent.
    pub host: &'a str,
    /// Canonical where there was one; without a query.
    pub path: &'a str,
    /// The address of the client.
    pub client: IpAddr,
    /// Whether rules on networks can go by it.
    pub is_client_known: bool,
    /// Whether the peer is in `trusted_proxies`.
    pub is_peer_trusted: bool,
    /// Whether another proxy asked about the request.
    pub is_forward_auth: bool,
    /// The route.
    pub route: Option<Arc<RouteOrigin>>,
    /// The caller.
    pub caller: Option<Arc<Caller>>,
    /// The rule that refused, or would refuse.
    pub rule: Option<Arc<RuleName>>,
    /// Whether the rule is only logged.
    pub is_only_logged: bool,
    /// How far the decision came.
    pub deciding: Deciding,
    /// The credentials that were looked at.
    pub attempts: Attempts,
    /// As the log has it.
    pub decision: Decision,
    /// As the log has it.
    pub reason: Option<&'static str>,
    /// Why the gateway answered instead of the app.
    pub refusal: Option<Refusal>,
    /// Of the answer.
    pub status: u16,
}

/// One decision.
#[derive(Clone, Debug)]
pub(crate) struct Remembered {
    text: [u8; TEXT],
    /// Where id, method, host and path end in `text`.
    ends: [u16; 4],
    /// Whether method, host or path was cut.
    pub is_cut: bool,
    /// Whether the caller is left out for what it takes in memory.
    pub is_caller_left_out: bool,
    /// Milliseconds since 1970.
    pub time: u64,
    /// See [`Finding`], also for the others.
    pub client: IpAddr,
    /// Whether rules on networks can go by it.
    pub is_client_known: bool,
    /// Whether the peer is in `trusted_proxies`.
    pub is_peer_trusted: bool,
    /// Whether another proxy asked about the request.
    pub is_forward_auth: bool,
    /// The route.
    pub route: Option<Arc<RouteOrigin>>,
    /// The caller.
    pub caller: Option<Arc<Caller>>,
    /// The rule that refused, or would refuse.
    pub rule: Option<Arc<RuleName>>,
    /// Whether the rule is only logged.
    pub is_only_logged: bool,
    /// How far the decision came.
    pub deciding: Deciding,
    /// The credentials that were looked at.
    pub attempts: Attempts,
    /// As the log has it.
    pub decision: Decision,
    /// As the log has it.
    pub reason: Option<&'static str>,
    /// Why the gateway answered instead of the app.
    pub refusal: Option<Refusal>,
    /// Of the answer.
    pub status: u16,
}

impl Remembered {
    /// What is kept of `finding`. Allocates nothing.
    #[must_use]
    pub(crate) fn new(finding: Finding<'_>) -> Self {
        let is_caller_left_out = finding
            .caller
            .as_ref()
            .is_some_and(|caller| caller.memory() > MAX_CALLER);
        let mut kept = Self {
            text: [0; TEXT],
            ends: [0; 4],
            is_cut: false,
            is_caller_left_out,
            time: finding.time,
            client: finding.client,
            is_client_known: finding.is_client_known,
            is_peer_trusted: finding.is_peer_trusted,
            is_forward_auth: finding.is_forward_auth,
            route: finding.route,
            caller: finding.caller.filter(|_| !is_caller_left_out),
            rule: finding.rule,
            is_only_logged: finding.is_only_logged,
            deciding: finding.deciding,
            attempts: finding.attempts,
            decision: finding.decision,
            reason: finding.reason,
            refusal: finding.refusal,
            status: finding.status,
        };
        let path = finding.path.split(['?', '#']).next().unwrap_or_default();
        let texts = [
            (finding.request_id, TEXT),
            (finding.method, MAX_METHOD),
            (finding.host, MAX_HOST),
            (path, TEXT),
        ];
        let mut end = 0;
        for (index, (text, most)) in texts.into_iter().enumerate() {
            let room = most.min(TEXT - end);
            let length = boundary(text, room);
            kept.is_cut |= length < text.len();
            kept.text[end..end + length].copy_from_slice(&text.as_bytes()[..length]);
            end += length;
            kept.ends[index] = u16::try_from(end).unwrap_or_default();
        }
        kept
    }

    /// The text of that number.
    fn text(&self, index: usize) -> &str {
        let from = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        let bytes = self.text.get(usize::from(from)..usize::from(self.ends[index]));
        // Cut at the end of a character.
        bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// The id in log and answer.
    #[must_use]
    pub(crate) fn request_id(&self) -> &str {
        self.text(0)
    }

    /// The method.
    #[must_use]
    pub(crate) fn method(&self) -> &str {
        self.text(1)
    }

    /// The host as sent.
    #[must_use]
    pub(crate) fn host(&self) -> &str {
        self.text(2)
    }

    /// The path, without a query.
    #[must_use]
    pub(crate) fn path(&self) -> &str {
        self.text(3)
    }

    /// Whether the log says `allow`.
    #[must_use]
    pub(crate) fn is_allowed(&self) -> bool {
        self.decision == Decision::Allow
    }
}

/// The most bytes of `text`, at most `most`, that end with a whole character.
fn boundary(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end));
    end.unwrap_or_default()
}
