//! The pages on the admin port: the overview, and the decision about one request.
//!
//! Input: plain values, some of them of clients. Output: pages in the colours of the sign-in pages. Invariants: no script; nothing
//! is loaded; every value is escaped; no cache keeps a page.

mod chart;

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, REFRESH, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use minijinja::value::Value;
use minijinja::{Environment, context};

use super::templates::environment;
use super::{Pages, cut, relative_time};
use crate::clock::UnixSeconds;
use chart::Line;

/// Seconds after which the overview is loaded again. By a field and not in the page, so that the address without it
/// (`/?refresh=off`) is the same page, which stays for as long as it is read.
const REFRESH_AFTER: &str = "10";
/// The longest path and subject in a table, in bytes.
const LONGEST: usize = 200;

const OVERVIEW: &str = "operator.html";
const DECISION: &str = "decision.html";
const STYLE: &str = include_str!("../templates/operator.css");

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = environment();
    for (name, text) in [
        (
            "operator_layout.html",
            include_str!("../templates/operator_layout.html"),
        ),
        (OVERVIEW, include_str!("../templates/operator.html")),
        (DECISION, include_str!("../templates/decision.html")),
    ] {
        environment
            .add_template(name, text)
            .expect("the built-in templates are right");
    }
    environment
});

/// What the overview shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    /// Whether it is loaded again by itself.
    pub(crate) is_live: bool,
    /// Whether the client sees decisions and callers.
    pub(crate) sees_decisions: bool,
    pub(crate) now: UnixSeconds,
    pub(crate) started_at: UnixSeconds,
    pub(crate) loaded_at: UnixSeconds,
    pub(crate) file: String,
    /// Why the gateway is not ready or healthy.
    pub(crate) problems: Vec<String>,
    /// Why the last reload failed.
    pub(crate) reload_failure: Option<String>,
    /// What else an operator should look at.
    pub(crate) notes: Vec<String>,
    pub(crate) connections: u64,
    /// Steps of a full hour.
    pub(crate) steps_of_hour: usize,
    /// Requests in a second, in each step.
    pub(crate) requests: Vec<Option<f64>>,
    /// Those that were refused or failed.
    pub(crate) refusals: Vec<Option<f64>>,
    /// Seconds to the head of the answer: the median, and what one in a hundred takes.
    pub(crate) p50: Vec<Option<f64>>,
    pub(crate) p99: Vec<Option<f64>>,
    /// The whole hour.
    pub(crate) total: Total,
    /// By reason, the most frequent first.
    pub(crate) reasons: Vec<Reason>,
    pub(crate) upstreams: Vec<UpstreamItem>,
    pub(crate) issuers: Vec<IssuerItem>,
    pub(crate) certificates: Vec<Item>,
    /// The last refused requests.
    pub(crate) refused: Vec<Refused>,
}

/// The sums of an hour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    pub(crate) requests: u64,
    pub(crate) refused: u64,
    /// Seconds.
    pub(crate) p50: Option<f64>,
    pub(crate) p99: Option<f64>,
}

/// A reason of refusals.
#[derive(Clone, Debug)]
pub(crate) struct Reason {
    pub(crate) name: &'static str,
    pub(crate) status: u16,
    pub(crate) count: u64,
    /// In each step.
    pub(crate) counts: Vec<Option<f64>>,
}

/// An upstream.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamItem {
    pub(crate) name: String,
    pub(crate) servers: Vec<Item>,
}

/// A thing and its state.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) is_good: bool,
}

/// An issuer.
#[derive(Clone, Debug)]
pub(crate) struct IssuerItem {
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) keys: usize,
    /// When keys were last had; `None`: never.
    pub(crate) fetched_at: Option<UnixSeconds>,
    /// Whether they are fetched at all.
    pub(crate) is_fetched: bool,
    /// Why the last fetch failed.
    pub(crate) error: Option<String>,
}

/// A refused request.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) request_id: String,
    /// Its address on the admin port.
    pub(crate) href: String,
    pub(crate) at: UnixSeconds,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) subject: Option<String>,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) rule: Option<String>,
}

impl Pages {
    /// The overview for operators.
    #[must_use]
    pub(crate) fn overview(&self, overview: Overview) -> Response<Bytes> {
        // A gateway that was started lately has a part of the hour alone.
        let (steps, window) = [
            (12, "5 minutes"),
            (4, "15 minutes"),
            (2, "30 minutes"),
            (1, "1 hour"),
        ]
        .into_iter()
        .map(|(part, window)| (overview.steps_of_hour / part, window))
        .find(|(steps, _)| overview.requests.len() <= *steps)
        .unwrap_or((overview.steps_of_hour, "1 hour"));
        let draw = |values: &[Option<f64>], top: f64| chart::line(values, steps, top);
        let most = |values: &[Option<f64>]| values.iter().flatten().copied().fold(0.0, f64::max);
        let most_requests = most(&overview.requests);
        let most_refusals = most(&overview.refusals);
        let longest = most(&overview.p99);
        let rate = overview.requests.iter().rev().take(6).flatten();
        let rate = rate.clone().sum::<f64>() / f64::from(u8::try_from(rate.count().max(1)).unwrap_or(1));
        let reasons: Vec<Value> = overview
            .reasons
            .into_iter()
            .map(|reason| {
                let line: Line = draw(&reason.counts, most(&reason.counts));
                context! { name => reason.name, status => reason.status, count => whole(reason.count), line => line.line, area => line.area }
            })
            .collect();
        let issuers: Vec<Value> = overview
            .issuers
            .into_iter()
            .map(|issuer| {
                let fetched = issuer.fetched_at.map(|at| ago(at, overview.now));
                context! {
                    name => issuer.name, issuer => issuer.issuer, keys => issuer.keys, fetched => fetched,
                    is_fetched => issuer.is_fetched, error => issuer.error,
                }
            })
            .collect();
        let refused: Vec<Value> = overview
            .refused
            .into_iter()
            .map(|refused| {
                context! {
                    request_id => refused.request_id, href => refused.href,
                    at => ago(refused.at, overview.now), clock => relative_time::clock(refused.at), method => refused.method,
                    path => short(&refused.path), subject => refused.subject.as_deref().map(short),
                    status => refused.status, reason => refused.reason, rule => refused.rule,
                }
            })
            .collect();
        let upstreams: Vec<Value> = overview
            .upstreams
            .into_iter()
            .map(|upstream| {
                let servers: Vec<Value> = upstream.servers.into_iter().map(item).collect();
                context! { name => upstream.name, servers => servers }
            })
            .collect();
        let p99 = draw(&overview.p99, longest);
        let values = context! {
            is_live => overview.is_live,
            sees_decisions => overview.sees_decisions,
            version => env!("CARGO_PKG_VERSION"),
            started => ago(overview.started_at, overview.now),
            loaded => ago(overview.loaded_at, overview.now),
            now => relative_time::exact(overview.now),
            file => overview.file,
            problems => overview.problems,
            reload_failure => overview.reload_failure,
            notes => overview.notes,
            connections => whole(overview.connections),
            rate => rate_text(rate),
            hour => context! {
                requests => whole(overview.total.requests),
                refused => whole(overview.total.refused),
                share => share(overview.total.refused, overview.total.requests),
                p50 => overview.total.p50.map(duration),
                p99 => overview.total.p99.map(duration),
            },
            window => window,
            requests => drawn(draw(&overview.requests, most_requests)),
            most_requests => rate_text(most_requests),
            refusals => drawn(draw(&overview.refusals, most_refusals)),
            most_refusals => rate_text(most_refusals),
            p50 => draw(&overview.p50, longest).line,
            p99 => drawn(p99),
            longest => duration(longest),
            reasons => reasons,
            upstreams => upstreams,
            issuers => issuers,
            certificates => overview.certificates.into_iter().map(item).collect::<Vec<_>>(),
            refused => refused,
        };
        let mut response = self.operator(StatusCode::OK, OVERVIEW, values);
        if overview.is_live {
            let after = HeaderValue::from_static(REFRESH_AFTER);
            response.headers_mut().insert(REFRESH, after);
        }
        response
    }

    /// The decision about one request, in the words of `passgate why`; `None`: it is not remembered.
    #[must_use]
    pub(crate) fn decision(&self, request_id: &str, text: Option<&str>) -> Response<Bytes> {
        let status = if text.is_some() {
            StatusCode::OK
        } else {
            StatusCode::NOT_FOUND
        };
        let lines: Vec<Value> = text.into_iter().flat_map(str::lines).map(decision_line).collect();
        let values = context! { request_id => short(request_id), lines => lines, is_known => text.is_some() };
        self.operator(status, DECISION, values)
    }

    fn operator(&self, status: StatusCode, template: &str, values: Value) -> Response<Bytes> {
        let style = self.palette.css() + "\n" + STYLE;
        let values = context! {
            site => cut(&self.site, LONGEST),
            // Our own text, which has no way out of its element.
            style => Value::from_safe_string(style.clone()),
            theme => context! {
                light => self.palette.light.color("background").map(|color| color.to_string()),
                dark => self.palette.dark.color("background").map(|color| color.to_string()),
            },
            ..values
        };
        let rendered = TEMPLATES
            .get_template(template)
            .and_then(|template| template.render(values));
        let (status, html) = match rendered {
            Ok(html) => (status, html),
            Err(error) => {
                tracing::error!(%error, template, "cannot render a page of the admin port");
                (StatusCode::INTERNAL_SERVER_ERROR, String::new())
            }
        };
        let mut response = Response::new(Bytes::from(html));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_SECURITY_POLICY, policy(&style));
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

const HEADERS: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("x-content-type-options"), "nosniff"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
];

/// Nothing runs and nothing is loaded; the style sheet is named by its hash.
fn policy(style: &str) -> HeaderValue {
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
        super::sha256(style)
    );
    HeaderValue::try_from(policy).expect("base64 and our own words are visible ASCII")
}

/// A line of a decision: what it is, and its text.
fn decision_line(line: &str) -> Value {
    let (kind, text) = match line.trim_start() {
        text if text.starts_with('✓') => ("passed", text.trim_start_matches('✓')),
        text if text.starts_with('✗') => ("failed", text.trim_start_matches('✗')),
        text if [
            "target",
            "route",
            "network",
            "credential",
            "rules",
            "endpoint",
            "answer",
        ]
        .contains(&text) =>
        {
            ("part", text)
        }
        text if text.starts_with("refused: ") || text.starts_with("failed: ") => ("refused", text),
        text if text.starts_with("allowed: ") => ("allowed", text),
        text => ("plain", text),
    };
    context! { kind => kind, text => text.trim_start() }
}

fn item(item: Item) -> Value {
    context! { name => item.name, state => item.state, is_good => item.is_good }
}

/// A path is numbers and letters.
fn drawn(line: Line) -> Value {
    context! { line => line.line, area => line.area }
}

fn ago(at: UnixSeconds, now: UnixSeconds) -> Value {
    context! { text => relative_time::ago(at, now), exact => relative_time::exact(at), machine => relative_time::machine(at) }
}

fn short(text: &str) -> String {
    match cut(text, LONGEST) {
        all if all.len() == text.len() => text.to_owned(),
        begin => format!("{begin}…"),
    }
}

/// `12 345`, with narrow spaces.
fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn rate_text(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => format!("{rate:.0}"),
        rate if rate >= 10.0 || rate == 0.0 => format!("{rate:.0}"),
        rate => format!("{rate:.1}"),
    }
}

/// Seconds as people read them.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 1.0 => format!("{seconds:.1}\u{a0}s"),
        seconds if seconds >= 0.01 => format!("{:.0}\u{a0}ms", seconds * 1e3),
        seconds if seconds >= 0.001 => format!("{:.1}\u{a0}ms", seconds * 1e3),
        seconds => format!("{:.0}\u{a0}µs", seconds * 1e6),
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is rounded to a tenth of a percent")]
fn share(part: u64, all: u64) -> String {
    if all == 0 {
        return "0\u{a0}%".to_owned();
    }
    let percent = part as f64 / all as f64 * 100.0;
    match percent {
        percent if percent > 0.0 && percent < 0.1 => "< 0.1\u{a0}%".to_owned(),
        percent if percent == 0.0 || percent >= 10.0 => format!("{percent:.0}\u{a0}%"),
        percent => format!("{percent:.1}\u{a0}%"),
    }
}

#[cfg(test)]
mod tests;
