//! Sign-ins in a row whose sessions do not count: a browser is signed in, comes back to the page, and is sent to sign in again.
//! With one provider, which has a session of its own, that would go on without the user.
//!
//! Input: each session that is opened, each use of a new one, each visit of the sign-in page. Output: whether this visit is the
//! third in a row for one page. Nothing of it is kept in the browser, which may be what keeps nothing.
//! Invariants: memory is fixed; a session that was used once ends a row; a row has one account, one browser (address, agent
//! and languages) and one page, so that tabs, other users behind one address, and sign-ins after signing out are none.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use http::header::{ACCEPT_LANGUAGE, USER_AGENT};

use crate::clock::UnixSeconds;
use crate::identity_headers::client_network;
use crate::refusal::Refusal;

/// Bounces in a row that stop at a page.
const MOST: u8 = 3;
/// Seconds after a sign-in within which a browser without a session has come back from it.
const BACK_WITHIN: UnixSeconds = 10;
/// Seconds that a user may take for the next sign-in of a row.
const ROW: UnixSeconds = 5 * 60;
/// Rows that are remembered; a power of two. 40 KiB.
const ROWS: usize = 1 << 10;
/// Uses that are remembered; a power of two. 32 KiB.
const USES: usize = 1 << 12;

/// What is known of one page in one browser.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    key: u64,
    account: u64,
    session: u64,
    opened_at: UnixSeconds,
    bounces: u8,
    /// Whether the browser has not come back since its session was opened.
    is_open: bool,
    /// Why the cookie that it sent did not count.
    refused: Option<Refusal>,
}

/// A row has ended: its browser is not sent to sign in any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    /// Why the cookie that the browser sent for the page did not count; `None`: it sent none, or that is not known.
    pub(super) refused: Option<Refusal>,
}

/// The rows of a process. They outlive a configuration.
#[derive(Debug)]
pub struct Bounces {
    hashing: RandomState,
    rows: Mutex<Box<[Row]>>,
    /// Hashes of sessions and pages that were used a moment ago, each in the place that its low bits say.
    uses: Box<[AtomicU64]>,
}

/// Which page, in which browser.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    pub(crate) client: std::net::IpAddr,
    pub(crate) headers: &'a HeaderMap,
    /// As `Host::name` spells it.
    pub(crate) host: &'a str,
    /// With its query.
    pub(crate) path: &'a str,
}

impl Default for Bounces {
    fn default() -> Self {
        Self {
            hashing: RandomState::new(),
            rows: Mutex::new(vec![Row::default(); ROWS].into()),
            uses: (0..USES).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

fn place(hash: u64, places: usize) -> usize {
    // The low bits alone say which; on every machine they fit.
    #[expect(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
    let low = hash as usize;
    low & (places - 1)
}

impl Bounces {
    fn key(&self, page: Page<'_>) -> u64 {
        let field = |name| page.headers.get(name).map(http::HeaderValue::as_bytes);
        let path = page.path.split('#').next();
        self.hashing.hash_one((
            client_network(page.client),
            field(USER_AGENT),
            field(ACCEPT_LANGUAGE),
            page.host,
            path,
        ))
    }

    fn used(&self, hash: u64) -> &AtomicU64 {
        &self.uses[place(hash, USES)]
    }

    fn is_used(&self, hash: u64) -> bool {
        self.used(hash).load(Ordering::Relaxed) == hash
    }

    /// A session cookie of this time has opened a page. Takes no lock and allocates nothing.
    pub(crate) fn note_use(
        &self,
        session_id: &str,
        issued_at: UnixSeconds,
        page: Page<'_>,
        now: UnixSeconds,
    ) {
        if now.saturating_sub(issued_at) <= BACK_WITHIN {
            self.note_session(session_id);
            let key = self.key(page);
            self.used(key).store(key, Ordering::Relaxed);
        }
    }

    /// The browser has sent the cookie of this session, and it counted.
    pub(crate) fn note_session(&self, session_id: &str) {
        let session = self.hashing.hash_one(session_id);
        self.used(session).store(session, Ordering::Relaxed);
    }

    /// A session was opened, and the browser is sent to the page.
    pub(super) fn opened(&self, page: Page<'_>, account_id: &str, session_id: &str, now: UnixSeconds) {
        let key = self.key(page);
        let account = self.hashing.hash_one(account_id);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = &mut rows[place(key, ROWS)];
        let goes_on = row.key == key
            && row.account == account
            && !row.is_open
            && (0..=ROW).contains(&now.saturating_sub(row.opened_at));
        *row = Row {
            key,
            account,
            session: self.hashing.hash_one(session_id),
            opened_at: now,
            bounces: if goes_on { row.bounces } else { 0 },
            is_open: true,
            refused: None,
        };
        let _ = self
            .used(key)
            .compare_exchange(key, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The session cookie that the browser sent for the page does not count.
    pub(crate) fn note_refused(&self, page: Page<'_>, refusal: Refusal) {
        let key = self.key(page);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = &mut rows[place(key, ROWS)];
        if row.key == key {
            row.refused = Some(refusal);
        }
    }

    /// The browser is at the sign-in page, for this page after it: whether that is the last bounce of a row, which begins anew.
    /// `by_session`: another page that the session has opened shows as well that its cookie counts.
    pub(super) fn came_back(&self, page: Page<'_>, by_session: bool, now: UnixSeconds) -> Option<Stopped> {
        let key = self.key(page);
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = &mut rows[place(key, ROWS)];
        if row.key != key || !row.is_open {
            return None;
        }
        // A session that was ended says nothing about the next one.
        let is_used = self.is_used(key)
            || (by_session && self.is_used(row.session))
            || row.refused == Some(Refusal::Revoked);
        let is_soon = (0..=BACK_WITHIN).contains(&now.saturating_sub(row.opened_at));
        if is_used || !is_soon {
            *row = Row::default();
            return None;
        }
        row.is_open = false;
        row.bounces += 1;
        let stopped = Stopped { refused: row.refused };
        if row.bounces < MOST {
            return None;
        }
        *row = Row::default();
        Some(stopped)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const NOW: UnixSeconds = 1_800_000_000;
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn page<'a>(headers: &'a HeaderMap, path: &'a str) -> Page<'a> {
        Page {
            client: HERE,
            headers,
            host: "app.example.com",
            path,
        }
    }

    #[test]
    fn third_bounce_of_one_account_in_one_browser_stops() {
        let (bounces, headers) = (Bounces::default(), HeaderMap::new());
        let at = page(&headers, "/x");
        for row in 0..2 {
            for number in 1..=3 {
                let now = NOW + row * 100 + number * 10;
                bounces.opened(at, "ann", &format!("{row}-{number}"), now);
                let stopped = bounces.came_back(page(&headers, "/x#part"), true, now + 1);
                assert_eq!(stopped.is_some(), number == 3, "{row} {number}");
                assert_eq!(bounces.came_back(at, true, now + 1), None, "read again");
            }
        }
    }

    #[test]
    fn what_comes_in_between_ends_a_row() {
        let chrome = HeaderMap::from_iter([(USER_AGENT, "Chrome".parse().unwrap())]);
        let headers = HeaderMap::new();
        let at = page(&headers, "/x");
        let last = |what: &str, between: &dyn Fn(&Bounces)| {
            let bounces = Bounces::default();
            for number in 1..=2 {
                bounces.opened(at, "ann", "s", NOW + number);
                assert_eq!(bounces.came_back(at, true, NOW + number), None);
            }
            between(&bounces);
            (what.to_owned(), bounces.came_back(at, true, NOW + 4).is_some())
        };
        let open = |bounces: &Bounces, account: &str, now| bounces.opened(at, account, "s3", now);
        for (what, is_stopped) in [
            last("nothing", &|b| open(b, "ann", NOW + 3)),
            last("another browser", &|b| {
                b.opened(page(&chrome, "/x"), "bob", "s", NOW + 3);
                open(b, "ann", NOW + 3);
            }),
            last("another page", &|b| {
                open(b, "ann", NOW + 3);
                b.note_use("other", NOW, page(&headers, "/y"), NOW + 3);
            }),
        ] {
            assert!(is_stopped, "{what}");
        }
        for (what, is_stopped) in [
            last("another account", &|b| open(b, "bob", NOW + 3)),
            last("the page is opened", &|b| {
                open(b, "ann", NOW + 3);
                b.note_use("s3", NOW + 3, at, NOW + 4);
            }),
            last("another page is opened", &|b| {
                open(b, "ann", NOW + 3);
                b.note_use("s3", NOW + 3, page(&headers, "/y"), NOW + 4);
            }),
            last("signed out", &|b| {
                open(b, "ann", NOW + 3);
                b.note_session("s3");
            }),
            last("revoked", &|b| {
                open(b, "ann", NOW + 3);
                b.note_refused(at, Refusal::Revoked);
            }),
            last("later", &|b| open(b, "ann", NOW + 4 - BACK_WITHIN - 1)),
            last("much later", &|b| {
                open(b, "ann", NOW + 2 + ROW + 1);
            }),
            last("two sign-ins", &|b| {
                open(b, "ann", NOW + 3);
                open(b, "ann", NOW + 3);
            }),
        ] {
            assert!(!is_stopped, "{what}");
        }
    }

    #[test]
    fn reason_why_a_cookie_did_not_count_is_told() {
        let (bounces, headers) = (Bounces::default(), HeaderMap::new());
        let at = page(&headers, "/x");
        for number in 1..=3 {
            bounces.opened(at, "ann", "s", NOW);
            bounces.note_refused(page(&headers, "/other"), Refusal::Expired);
            bounces.note_refused(at, Refusal::NotYetValid);
            let stopped = bounces.came_back(at, true, NOW);
            let expected = Stopped {
                refused: Some(Refusal::NotYetValid),
            };
            assert_eq!(stopped, (number == 3).then_some(expected));
        }
    }
}
