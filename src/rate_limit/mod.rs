//! Limits on the requests of a route, and on tokens with a bad signature.
//!
//! Input: the `rate_limit` of a route; a request's caller and client address. Output: whether the request may pass, and the
//! `RateLimit` fields of its answer (draft-ietf-httpapi-ratelimit-headers). Invariants: a limit holds for the whole process,
//! and across a reload that does not change it; no client can choose keys that share a counter, because they are hashed
//! with random keys of the process; a request allocates nothing here.

mod table;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};

use self::table::{Rate, Table, Verdict};
use crate::authorize::RuleName;
use crate::config::raw::RawRateLimit;
use crate::config::{Problems, Spanned};
use crate::http::client::ClientKey;
use crate::identity::Identity;
use crate::values::RateLimitBy;

/// Buckets of the counters of routes: 4 MiB, made where a route has a limit.
const ROUTE_BUCKETS: usize = 1 << 16;
/// Buckets of the counters of bad signatures: 64 KiB.
const SIGNATURE_BUCKETS: usize = 1 << 10;
/// The most values of `RateLimit` that are kept ready. With a larger quota the rest of it is told rounded down.
const MOST_VALUES: u64 = 1_000;
/// Tokens with a bad signature that a client address may send at once, and then at an interval of 100 ms.
const BAD_SIGNATURES: Rate = rate(200, 100_000);
/// How often the log says that there is no room for a new key, in milliseconds.
const SAY_AGAIN: u64 = 60_000;

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const fn rate(requests: u64, interval: u64) -> Rate {
    Rate {
        interval,
        tolerance: interval * (requests - 1),
    }
}

/// The limit of a route.
#[derive(Debug)]
pub(crate) struct RateLimit {
    by: RateLimitBy,
    rate: Rate,
    /// The route and the limit as they are written: what the counters of a limit are found by, also after a reload.
    id: [u8; 16],
    rule: Arc<RuleName>,
    policy: HeaderValue,
    /// `RateLimit` by how much of the quota is left, in steps of `step`.
    left: Box<[HeaderValue]>,
    step: u64,
    shown: ShownRateLimit,
}

/// A limit for people and programs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct ShownRateLimit {
    /// All of the quota.
    pub(crate) requests: u64,
    /// Seconds after which all of it is there again.
    pub(crate) per_seconds: u64,
    /// `subject`, `ip` or `route`.
    pub(crate) by: &'static str,
}

impl std::fmt::Display for ShownRateLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            requests,
            per_seconds,
            by,
        } = self;
        write!(f, "{requests} requests per {per_seconds}s by {by}")
    }
}

impl RateLimit {
    /// The limit of the route that is called `label`.
    pub(crate) fn compile(raw: &Spanned<RawRateLimit>, label: &str, problems: &Problems) -> Option<Self> {
        let (requests, per) = (raw.requests.as_ref()?, raw.per.as_ref()?);
        let by = raw.by.as_ref().map(|by| by.value).unwrap_or_default();
        let micros = u64::try_from(per.as_micros()).unwrap_or(u64::MAX);
        let interval = micros.div_ceil(requests.value);
        let shown = ShownRateLimit {
            requests: requests.value,
            per_seconds: micros.div_ceil(1_000_000),
            by: by.as_str(),
        };
        let step = requests.value.div_ceil(MOST_VALUES);
        let value = |left: u64| {
            // Until all of the quota is there again.
            let reset = ((requests.value - left) * interval).div_ceil(1_000_000);
            HeaderValue::try_from(format!(r#""{}";r={left};t={reset}"#, shown.by)).ok()
        };
        let left: Option<Box<[_]>> = (0..=requests.value / step)
            .map(|left| value(left * step))
            .collect();
        let policy = format!(r#""{}";q={};w={}"#, shown.by, shown.requests, shown.per_seconds);
        let id = blake3::hash(
            format!(
                "{label}\0{requests} {micros} {by}",
                requests = requests.value,
                by = shown.by
            )
            .as_bytes(),
        );
        Some(Self {
            by,
            rate: rate(requests.value, interval),
            id: *id.as_bytes().first_chunk()?,
            rule: Arc::new(RuleName {
                text: format!("rate_limit: {shown}").into(),
                place: problems.place(&raw.span),
            }),
            policy: HeaderValue::try_from(policy).ok()?,
            left: left?,
            step,
            shown,
        })
    }

    /// Whether a request counts whatever its credential turns out to be, so that it is counted before that is verified.
    pub(crate) fn is_by_address(&self) -> bool {
        self.by == RateLimitBy::Ip
    }

    /// The limit as a rule, for the log.
    pub(crate) fn rule(&self) -> &Arc<RuleName> {
        &self.rule
    }

    /// For people and programs.
    pub(crate) fn shown(&self) -> &ShownRateLimit {
        &self.shown
    }

    /// What a request counts for, for people.
    pub(crate) fn counted_for(&self, caller: Option<&Identity>, client: IpAddr) -> String {
        match (self.by, caller) {
            (RateLimitBy::Route, _) => "the route".to_owned(),
            (RateLimitBy::Subject, Some(caller)) => format!("the subject `{}`", caller.subject),
            (RateLimitBy::Subject | RateLimitBy::Ip, _) if client.is_unspecified() => {
                "the client address".to_owned()
            }
            (RateLimitBy::Subject | RateLimitBy::Ip, _) => {
                format!("the client address {}", ClientKey::from(client))
            }
        }
    }

    /// How it is with the quota after a request, of which so many more are left.
    fn quota(&self, left: u64) -> Quota<'_> {
        Quota { limit: self, left }
    }
}

/// What is left of a quota.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota<'g> {
    limit: &'g RateLimit,
    left: u64,
}

impl Quota<'_> {
    /// Adds the fields that tell the client, where the app tells nothing of the kind itself.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        if headers.contains_key(&RATE_LIMIT) || headers.contains_key(&RATE_LIMIT_POLICY) {
            return;
        }
        let last = self.limit.left.len() - 1;
        let step = usize::try_from(self.left / self.limit.step).map_or(last, |step| step.min(last));
        headers.insert(RATE_LIMIT.clone(), self.limit.left[step].clone());
        headers.insert(RATE_LIMIT_POLICY.clone(), self.limit.policy.clone());
    }
}

/// A request that is over the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over<'g> {
    /// For the answer.
    pub(crate) quota: Quota<'g>,
    /// Seconds until a request fits, at least 1.
    pub(crate) retry_after: u64,
}

/// The counters of a process.
#[derive(Debug)]
pub struct RateLimits {
    routes: OnceLock<Table>,
    bad_signatures: OnceLock<Table>,
    hashing: RandomState,
    start: Instant,
    /// When the log last said that there is no room, in milliseconds after `start`.
    said: AtomicU64,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            routes: OnceLock::new(),
            bad_signatures: OnceLock::new(),
            hashing: RandomState::new(),
            start: Instant::now(),
            said: AtomicU64::new(0),
        }
    }
}

impl RateLimits {
    /// Makes the table of routes, so that no request has to wait for it.
    pub(crate) fn prepare(&self) {
        self.routes();
    }

    fn routes(&self) -> &Table {
        self.routes.get_or_init(|| Table::new(ROUTE_BUCKETS))
    }

    fn bad_signatures(&self) -> &Table {
        self.bad_signatures.get_or_init(|| Table::new(SIGNATURE_BUCKETS))
    }

    /// Counts a request.
    ///
    /// # Errors
    /// It is over the limit, or there is no room to count a key that is new.
    pub(crate) fn take<'g>(
        &self,
        limit: &'g RateLimit,
        caller: Option<&Identity>,
        client: IpAddr,
    ) -> Result<Quota<'g>, Over<'g>> {
        let key = match (limit.by, caller) {
            (RateLimitBy::Route, _) => self.hashing.hash_one(limit.id),
            (RateLimitBy::Subject, Some(caller)) => {
                self.hashing
                    .hash_one((limit.id, &*caller.issuer, &*caller.subject))
            }
            (RateLimitBy::Subject | RateLimitBy::Ip, _) => {
                self.hashing.hash_one((limit.id, ClientKey::from(client)))
            }
        };
        let wait = match self.routes().take(key, limit.rate, self.now()) {
            Verdict::Fits(left) => return Ok(limit.quota(left)),
            Verdict::Over(wait) => wait,
            Verdict::Full(wait) => {
                self.say_full();
                wait
            }
        };
        Err(Over {
            quota: limit.quota(0),
            retry_after: seconds(wait),
        })
    }

    /// Whether so many tokens of `client` had a bad signature lately that none is verified now that is not known to be good.
    pub(crate) fn has_bad_signatures(&self, client: IpAddr) -> bool {
        // Until the first one, nothing is looked up.
        self.bad_signatures
            .get()
            .is_some_and(|table| table.is_over(self.address(client), BAD_SIGNATURES, self.now()))
    }

    /// Notes that a token of `client` had a bad signature. Where there is no room it does not count: a full table must not
    /// keep the tokens of others from being verified.
    pub(crate) fn note_bad_signature(&self, client: IpAddr) {
        let key = self.address(client);
        self.bad_signatures().take(key, BAD_SIGNATURES, self.now());
    }

    fn address(&self, client: IpAddr) -> u64 {
        self.hashing.hash_one(ClientKey::from(client))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn say_full(&self) {
        let now = self.now() / 1_000 + SAY_AGAIN;
        let said = self.said.load(Ordering::Relaxed);
        let is_due = now.saturating_sub(said) >= SAY_AGAIN;
        if is_due
            && self
                .said
                .compare_exchange(said, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            tracing::warn!(
                "too many clients and subjects have part of a `rate_limit` used up: a new one is answered with 429 until another \
                 one has its whole quota again"
            );
        }
    }
}

/// Whole seconds, at least 1.
fn seconds(micros: u64) -> u64 {
    micros.div_ceil(1_000_000).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;
    use crate::clock::UnixSeconds;

    fn limit(by: &str, label: &str) -> RateLimit {
        limit_of(&format!("requests = 3, per = \"1h\", by = \"{by}\""), label)
    }

    fn limit_of(keys: &str, label: &str) -> RateLimit {
        let text = format!(
            "[upstreams.a]\nbuiltin = \"whoami\"\n[[routes]]\npath = \"/\"\nupstream = \"a\"\nrate_limit = {{ {keys} }}"
        );
        let mut problems = Problems::new(Path::new("gateway.toml"), &text);
        let raw = crate::config::read(&mut problems);
        let raw = raw.routes[0].rate_limit.as_ref().unwrap();
        RateLimit::compile(raw, label, &problems).unwrap()
    }

    fn caller(issuer: &str, subject: &str) -> Identity {
        Identity {
            issuer: issuer.into(),
            subject: subject.to_owned(),
            email: None,
            name: None,
            roles: Vec::new(),
            scopes: Vec::new(),
            token_id: None,
            session_id: None,
            issued_at: None,
            expires_at: UnixSeconds::MAX,
            claims: serde_json::Map::new(),
        }
    }

    /// How many of ten requests pass.
    fn passed(limits: &RateLimits, limit: &RateLimit, caller: Option<&Identity>, ip: &str) -> usize {
        let client = ip.parse().unwrap();
        (0..10)
            .filter(|_| limits.take(limit, caller, client).is_ok())
            .count()
    }

    #[test]
    fn subjects_of_an_issuer_are_counted_each_and_others_by_address() {
        let (limits, limit) = (RateLimits::default(), limit("subject", "/"));
        let [ann, other_ann, bob] =
            [("a", "ann"), ("b", "ann"), ("a", "bob")].map(|(iss, sub)| caller(iss, sub));
        assert_eq!(passed(&limits, &limit, Some(&ann), "192.0.2.1"), 3);
        assert_eq!(passed(&limits, &limit, Some(&ann), "192.0.2.2"), 0);
        assert_eq!(passed(&limits, &limit, Some(&other_ann), "192.0.2.1"), 3);
        assert_eq!(passed(&limits, &limit, Some(&bob), "192.0.2.1"), 3);
        assert_eq!(passed(&limits, &limit, None, "192.0.2.1"), 3);
        assert_eq!(passed(&limits, &limit, None, "192.0.2.1"), 0);
    }

    #[test]
    fn names_that_join_to_one_text_are_two_subjects() {
        let (limits, limit) = (RateLimits::default(), limit("subject", "/"));
        let [one, other] = [("ab", "c"), ("a", "bc")].map(|(issuer, subject)| caller(issuer, subject));
        assert_eq!(passed(&limits, &limit, Some(&one), "::1"), 3);
        assert_eq!(passed(&limits, &limit, Some(&other), "::1"), 3);
    }

    #[test]
    fn addresses_of_one_64_are_one_client_and_its_subjects_do_not_count() {
        let (limits, limit) = (RateLimits::default(), limit("ip", "/"));
        let ann = caller("a", "ann");
        assert_eq!(passed(&limits, &limit, Some(&ann), "2001:db8::1"), 3);
        assert_eq!(passed(&limits, &limit, None, "2001:db8::ffff:1"), 0);
        assert_eq!(passed(&limits, &limit, None, "2001:db8:0:1::1"), 3);
        assert_eq!(passed(&limits, &limit, Some(&ann), "192.0.2.1"), 3);
        assert_eq!(passed(&limits, &limit, None, "::ffff:192.0.2.1"), 0);
    }

    #[test]
    fn all_callers_of_a_route_share_one_limit_and_each_route_has_its_own() {
        let limits = RateLimits::default();
        let [limit, other] = ["/a", "/b"].map(|label| limit("route", label));
        assert_eq!(passed(&limits, &limit, None, "192.0.2.1"), 3);
        assert_eq!(passed(&limits, &limit, Some(&caller("a", "ann")), "192.0.2.2"), 0);
        assert_eq!(passed(&limits, &other, None, "192.0.2.1"), 3);
        // As after a reload: the same limit goes on, a changed one begins anew.
        assert_eq!(passed(&limits, &self::limit("route", "/a"), None, "192.0.2.1"), 0);
        let changed = limit_of("requests = 4, per = \"1h\", by = \"route\"", "/a");
        assert_eq!(passed(&limits, &changed, None, "192.0.2.1"), 4);
    }

    #[test]
    fn fields_tell_the_quota_and_leave_those_of_the_app() {
        let limits = RateLimits::default();
        let fields = |quota: Quota<'_>| {
            let mut headers = HeaderMap::new();
            quota.apply(&mut headers);
            ["ratelimit", "ratelimit-policy"].map(|name| headers[name].to_str().unwrap().to_owned())
        };
        let ip = "192.0.2.1".parse().unwrap();
        let limit = limit("ip", "/");
        let quota = limits.take(&limit, None, ip).unwrap();
        assert_eq!(fields(quota), [r#""ip";r=2;t=1200"#, r#""ip";q=3;w=3600"#]);
        let mut headers = HeaderMap::new();
        headers.insert("ratelimit", HeaderValue::from_static("limit=9, remaining=1"));
        quota.apply(&mut headers);
        assert_eq!(
            (headers.len(), &headers["ratelimit"]),
            (1, &HeaderValue::from_static("limit=9, remaining=1"))
        );
        for _ in 0..2 {
            limits.take(&limit, None, ip).unwrap();
        }
        let over = limits.take(&limit, None, ip).unwrap_err();
        assert_eq!(fields(over.quota)[0], r#""ip";r=0;t=3600"#);
        assert!((1199..=1200).contains(&over.retry_after), "{}", over.retry_after);
        // A larger quota is told in steps, never more than there is.
        let limit = limit_of("requests = 2500, per = \"24h\"", "/large");
        let quota = limits.take(&limit, None, ip).unwrap();
        assert_eq!(fields(quota)[0], r#""subject";r=2499;t=35"#);
        let quota = limits.take(&limit, None, ip).unwrap();
        assert_eq!(fields(quota)[0], r#""subject";r=2496;t=139"#);
    }

    #[test]
    fn client_with_too_many_bad_signatures_is_not_verified_for_a_while() {
        let limits = RateLimits::default();
        let [client, other] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        for _ in 0..200 {
            assert!(!limits.has_bad_signatures(client));
            limits.note_bad_signature(client);
        }
        // What is refilled meanwhile is used up as well.
        (0..50).for_each(|_| limits.note_bad_signature(client));
        assert!(limits.has_bad_signatures(client));
        assert!(!limits.has_bad_signatures(other));
    }
}
