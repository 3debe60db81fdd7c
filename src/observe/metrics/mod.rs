//! Counts and durations of requests, for `/metrics` (OpenMetrics 1.0 text).
//!
//! Each worker counts into a table of its own, whose lock only a scrape takes besides; a scrape adds the tables up. Counts
//! of others (cache, key sets) are passed in at that moment as plain values. By hand, because prometheus-client's histogram locks a mutex
//! that all workers would share; the crate only writes the text.
//!
//! Number of series: `passgate_requests_total` has one for each route pattern × `read`/`write` × status × refusal reason that
//! has occurred, that is a handful per route. Patterns beyond 20,000 in the life of the process count as `other`. No label
//! holds a value that a client chose, but for the status of an app's response.

mod encode;
mod histogram;

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

use crate::refusal::Refusal;
pub(crate) use histogram::Histogram as Durations;
use histogram::Histogram;

/// The content type of what [`Metrics::encode`] returns.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Route patterns that have a label of their own.
const MAX_ROUTES: usize = 20_000;

/// Stands for a route's pattern in the tables of the workers. The same pattern has the same label after a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteLabel(u32);

impl RouteLabel {
    /// The request was refused before a route was found, or no route covers it. Its label is empty.
    pub const NONE: Self = Self(0);
    /// One of too many.
    const OTHER: Self = Self(1);
}

/// What is counted about a request that is over.
#[derive(Clone, Debug)]
pub struct Observation<'a> {
    /// The route.
    pub route: RouteLabel,
    /// The method; `read` is GET, HEAD and OPTIONS, `write` all others.
    pub method: &'a Method,
    /// The status of the answer.
    pub status: u16,
    /// Why the gateway answered instead of the app, or ended the app's answer.
    pub refusal: Option<Refusal>,
    /// Whether a rule would refuse the request, and is only logged.
    pub is_only_logged: bool,
    /// From sending to the app to the head of its answer; `None` where no app was asked.
    pub upstream: Option<Duration>,
    /// What the gateway took for itself: from the request's head to sending to the app, and from the head of the app's
    /// answer to sending it on; where no app was asked, from the request's head to its answer.
    pub gateway: Duration,
}

/// All counts of the process.
#[derive(Debug)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    patterns: Mutex<Patterns>,
}

#[derive(Debug)]
struct Patterns {
    by_label: Vec<Arc<str>>,
    labels: HashMap<Arc<str>, RouteLabel>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let patterns = Patterns {
            by_label: vec!["".into(), "other".into()],
            labels: HashMap::new(),
        };
        Self {
            workers: Mutex::default(),
            patterns: Mutex::new(patterns),
        }
    }

    /// A table for one worker more.
    #[must_use]
    pub fn worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::default();
        lock(&self.workers).push(Arc::clone(&worker));
        worker
    }

    /// The label of a route's pattern (with its host, where it has one). To be asked when a configuration is loaded.
    pub fn route(&self, pattern: &str) -> RouteLabel {
        let mut patterns = lock(&self.patterns);
        if let Some(known) = patterns.labels.get(pattern) {
            return *known;
        }
        if patterns.labels.len() >= MAX_ROUTES {
            return RouteLabel::OTHER;
        }
        let Ok(number) = u32::try_from(patterns.by_label.len()) else {
            return RouteLabel::OTHER;
        };
        let pattern: Arc<str> = pattern.into();
        patterns.by_label.push(pattern.clone());
        patterns.labels.insert(pattern, RouteLabel(number));
        RouteLabel(number)
    }

    /// All connections from clients that are open now, of all workers.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        lock(&self.workers)
            .iter()
            .map(|worker| worker.open.load(Ordering::Relaxed))
            .sum()
    }

    /// Everything as text for a scraper, with what others counted.
    #[must_use]
    pub fn encode(&self, others: OtherCounts) -> String {
        encode::encode(self.sum(), others)
    }

    /// The sums that the operator's page goes by.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        totals.refusals.resize(Refusal::ALL.len(), 0);
        for worker in lock(&self.workers).iter() {
            let table = lock(&worker.table);
            for (key, count) in &table.requests {
                totals.requests += count;
                let (.., refusal) = key.parts();
                if let Some(refused) = refusal.and_then(|refusal| totals.refusals.get_mut(refusal as usize)) {
                    *refused += count;
                }
            }
            totals.answered.add(&table.answered);
        }
        totals
    }

    fn sum(&self) -> Sum {
        let mut sum = Sum {
            open: self.open_connections(),
            ..Sum::default()
        };
        let mut requests: HashMap<SeriesKey, u64, KeyHasher> = HashMap::default();
        let mut shadow_refusals: HashMap<RouteLabel, u64> = HashMap::new();
        for worker in lock(&self.workers).iter() {
            sum.accepted += worker.accepted.load(Ordering::Relaxed);
            sum.proxy_headers_refused += worker.proxy_headers_refused.load(Ordering::Relaxed);
            let table = lock(&worker.table);
            for (key, count) in &table.requests {
                *requests.entry(*key).or_default() += count;
            }
            for (route, count) in &table.shadow_refusals {
                *shadow_refusals.entry(*route).or_default() += count;
            }
            sum.upstream.add(&table.upstream);
            sum.gateway.add(&table.gateway);
        }
        let patterns = lock(&self.patterns);
        sum.requests = requests
            .into_iter()
            .map(|(key, count)| {
                let (route, is_read, status, refusal) = key.parts();
                let class = if is_read { "read" } else { "write" };
                Series {
                    route: patterns.by_label[route].clone(),
                    class,
                    status,
                    refusal,
                    count,
                }
            })
            .collect();
        sum.requests.sort_unstable();
        let pattern = |label: RouteLabel| {
            usize::try_from(label.0)
                .ok()
                .and_then(|at| patterns.by_label.get(at))
        };
        sum.shadow_refusals = shadow_refusals
            .into_iter()
            .filter_map(|(label, count)| Some((pattern(label)?.clone(), count)))
            .collect();
        sum
    }
}

/// The counts of one worker.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    accepted: AtomicU64,
    open: AtomicU64,
    proxy_headers_refused: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    requests: HashMap<SeriesKey, u64, KeyHasher>,
    /// Requests that a rule would refuse, and that is only logged.
    shadow_refusals: HashMap<RouteLabel, u64>,
    upstream: Histogram,
    gateway: Histogram,
    /// To the head of the answer, of the app or the gateway.
    answered: Histogram,
}

impl WorkerMetrics {
    /// Counts a request that is over.
    pub fn record(&self, observation: &Observation<'_>) {
        let key = SeriesKey::new(observation);
        let mut table = lock(&self.table);
        *table.requests.entry(key).or_default() += 1;
        if observation.is_only_logged {
            *table.shadow_refusals.entry(observation.route).or_default() += 1;
        }
        if let Some(upstream) = observation.upstream {
            table.upstream.record(upstream);
        }
        table.gateway.record(observation.gateway);
        let upstream = observation.upstream.unwrap_or_default();
        table
            .answered
            .record(observation.gateway.saturating_add(upstream));
    }

    /// Counts a connection that was closed because it did not begin with a right header of the PROXY protocol.
    pub fn count_proxy_header_refused(&self) {
        self.proxy_headers_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection from a client, open for as long as what is returned lives.
    #[must_use]
    pub fn open_connection(self: &Arc<Self>) -> OpenConnection {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self.clone())
    }
}

/// A connection that is counted as open.
#[derive(Debug)]
pub struct OpenConnection(Arc<WorkerMetrics>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What other rooms counted until now.
#[derive(Clone, Debug, Default)]
pub struct OtherCounts {
    /// The cache of verified tokens.
    pub cache: CacheCounts,
    /// The key set of each issuer that has one.
    pub key_sets: Vec<KeySetState>,
    /// The servers of apps.
    pub servers: Vec<ServerCounts>,
    /// `Set-Cookie` fields of apps that were dropped, by upstream.
    pub cookies_dropped: Vec<(String, u64)>,
    /// Lines that the access log dropped.
    pub log_lines_dropped: u64,
    /// Lines of diagnostics that were dropped.
    pub diagnostics_dropped: u64,
    /// When the configuration in force was loaded, in seconds since 1970.
    pub config_loaded_at: i64,
    /// Whether the last reload was refused and the configuration in force is an older one.
    pub config_reload_failed: bool,
}

/// A server of an app.
#[derive(Clone, Debug)]
pub struct ServerCounts {
    /// The upstream's name in the TOML.
    pub upstream: Arc<str>,
    /// Its address.
    pub server: Arc<str>,
    /// Whether it takes requests: its health check does not fail, and it is not ejected.
    pub is_up: bool,
    /// How often it was ejected.
    pub ejections: u64,
    /// Requests that were sent again after they had failed there.
    pub retries: u64,
    /// Requests that wait for a connection to it.
    pub pending: u64,
}

/// Counts of the token cache.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheCounts {
    /// Tokens that were known.
    pub hits: u64,
    /// Tokens that had to be verified.
    pub misses: u64,
    /// Tokens in the cache.
    pub entries: u64,
}

/// The state of an issuer's keys.
#[derive(Clone, Debug)]
pub struct KeySetState {
    /// The issuer's name in the TOML.
    pub issuer: String,
    /// Keys that can verify.
    pub keys: u64,
    /// When they were had from the issuer, in seconds since 1970; `None`: never.
    pub fetched_at: Option<i64>,
    /// Fetches that brought keys.
    pub fetches: u64,
    /// Fetches that failed.
    pub failures: u64,
}

/// All workers' tables as one.
#[derive(Debug, Default)]
struct Sum {
    accepted: u64,
    open: u64,
    proxy_headers_refused: u64,
    requests: Vec<Series>,
    /// By route pattern.
    shadow_refusals: BTreeMap<Arc<str>, u64>,
    upstream: Histogram,
    gateway: Histogram,
}

/// Sums since the start of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    /// Requests that ended.
    pub(crate) requests: u64,
    /// Those that the gateway answered in place of the app, by reason, in the order of [`Refusal::ALL`].
    pub(crate) refusals: Vec<u64>,
    /// From the head of the request to the head of the answer.
    pub(crate) answered: Durations,
}

/// One series of `passgate_requests_total`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    route: Arc<str>,
    /// `read` or `write`.
    class: &'static str,
    status: u16,
    refusal: Option<Refusal>,
    count: u64,
}

/// What a request is counted by, in one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SeriesKey(u64);

impl SeriesKey {
    fn new(observation: &Observation<'_>) -> Self {
        let is_read = matches!(*observation.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let refusal = observation.refusal.map_or(0, |refusal| refusal as u64 + 1);
        Self(
            u64::from(observation.route.0) << 32
                | u64::from(observation.status) << 16
                | refusal << 1
                | u64::from(is_read),
        )
    }

    /// Route, whether it reads, status, refusal.
    fn parts(self) -> (usize, bool, u16, Option<Refusal>) {
        let bits = |from: u32, count: u32| (self.0 >> from) & ((1 << count) - 1);
        let small = |value: u64| usize::try_from(value).unwrap_or(0);
        let refusal = small(bits(1, 15))
            .checked_sub(1)
            .and_then(|place| Refusal::ALL.get(place).copied());
        (
            small(bits(32, 32)),
            bits(0, 1) == 1,
            u16::try_from(bits(16, 16)).unwrap_or(0),
            refusal,
        )
    }
}

/// Hashes keys of the gateway's own making, which no client can choose to collide.
#[derive(Clone, Copy, Debug, Default)]
struct Spread(u64);

type KeyHasher = BuildHasherDefault<Spread>;

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // Multiplication by the golden ratio moves every bit up, the rotation brings the best ones down as well.
        self.0 = (self.0 ^ value)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(32);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
