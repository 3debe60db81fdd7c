//! The counts as OpenMetrics text. The crate that knows the format is used only here, at a scrape.

use std::borrow::Cow;
use std::fmt::{Error, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, LabelSetEncoder, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::histogram::Histogram;
use super::{OtherCounts, Sum};
use crate::refusal::Refusal;

/// Every name starts with this and an underscore.
const PREFIX: &str = "passgate";

pub(super) fn encode(sum: Sum, others: OtherCounts) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape { sum, others }));
    let mut out = String::with_capacity(16 * 1024);
    text::encode(&mut out, &registry).expect("a string takes any text");
    out
}

#[derive(Debug)]
struct Scrape {
    sum: Sum,
    others: OtherCounts,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Output(encoder);
        let Self { sum, others } = self;
        out.gauge(
            "build_info",
            "The version that runs",
            [(Labels(vec![("version", env!("CARGO_PKG_VERSION").into())]), 1_i64)],
        )?;
        out.counter(
            "requests",
            "Requests that are over, by route pattern, method class, status and the reason of a refusal",
            sum.requests.iter().map(|series| {
                let labels = vec![
                    ("route", (*series.route).into()),
                    ("method", series.class.into()),
                    ("status", series.status.to_string().into()),
                    ("reason", series.refusal.map_or("", Refusal::reason).into()),
                ];
                (Labels(labels), series.count)
            }),
        )?;
        out.counter(
            "shadow_refusals",
            "Requests that passed and that the rules of a route with `enforce = \"log\"` would refuse",
            sum.shadow_refusals
                .iter()
                .map(|(route, count)| (Labels(vec![("route", (**route).into())]), *count)),
        )?;
        out.histogram(
            "upstream_seconds",
            "From sending to the app to the head of its answer",
            &sum.upstream,
        )?;
        out.histogram(
            "gateway_seconds",
            "What the gateway took for a request, without the app",
            &sum.gateway,
        )?;
        out.counter(
            "connections_accepted",
            "Connections accepted from clients",
            [(NO_LABELS, sum.accepted)],
        )?;
        out.gauge(
            "connections_open",
            "Connections from clients that are open",
            [(NO_LABELS, sum.open)],
        )?;
        out.counter(
            "proxy_headers_refused",
            "Connections of trusted proxies that were closed because their PROXY protocol header was missing or wrong",
            [(NO_LABELS, sum.proxy_headers_refused)],
        )?;
        out.counter(
            "token_cache_hits",
            "Tokens that were known",
            [(NO_LABELS, others.cache.hits)],
        )?;
        out.counter(
            "token_cache_misses",
            "Tokens that had to be verified",
            [(NO_LABELS, others.cache.misses)],
        )?;
        out.gauge(
            "token_cache_entries",
            "Tokens that are known",
            [(NO_LABELS, others.cache.entries)],
        )?;
        out.counter(
            "set_cookies_dropped",
            "Set-Cookie fields of an app that were dropped because the gateway has cookies of their names",
            others
                .cookies_dropped
                .iter()
                .map(|(upstream, count)| (Labels(vec![("upstream", upstream.as_str().into())]), *count)),
        )?;
        Self::encode_servers(&mut out, others)?;
        out.counter(
            "access_log_lines_dropped",
            "Lines that were dropped because the log was not read or could not be written",
            [(NO_LABELS, others.log_lines_dropped)],
        )?;
        out.counter(
            "diagnostics_lines_dropped",
            "Lines that were dropped because standard error was not read or could not be written",
            [(NO_LABELS, others.diagnostics_dropped)],
        )?;
        out.gauge(
            "config_loaded_timestamp_seconds",
            "When the configuration in force was loaded",
            [(NO_LABELS, others.config_loaded_at)],
        )?;
        out.gauge(
            "config_reload_failed",
            "1 if the last reload was refused and an older configuration is in force",
            [(NO_LABELS, i64::from(others.config_reload_failed))],
        )?;
        Self::encode_key_sets(&mut out, others)
    }
}

impl Scrape {
    fn encode_servers(out: &mut Output<'_>, others: &OtherCounts) -> Result<(), Error> {
        let by_server = || {
            others.servers.iter().map(|server| {
                let labels = vec![
                    ("upstream", (*server.upstream).into()),
                    ("server", (*server.server).into()),
                ];
                (Labels(labels), server)
            })
        };
        out.gauge(
            "upstream_server_up",
            "1 if a server of an app takes requests, 0 if its health check fails or it is ejected",
            by_server().map(|(labels, server)| (labels, i64::from(server.is_up))),
        )?;
        out.gauge(
            "upstream_requests_pending",
            "Requests that wait for a connection to a server",
            by_server().map(|(labels, server)| (labels, server.pending)),
        )?;
        out.counter(
            "upstream_ejections",
            "How often a server was ejected because requests failed there",
            by_server().map(|(labels, server)| (labels, server.ejections)),
        )?;
        out.counter(
            "upstream_retries",
            "Requests that were sent again after they had failed at a server",
            by_server().map(|(labels, server)| (labels, server.retries)),
        )
    }

    fn encode_key_sets(out: &mut Output<'_>, others: &OtherCounts) -> Result<(), Error> {
        let by_issuer = || {
            others
                .key_sets
                .iter()
                .map(|set| (Labels(vec![("issuer", set.issuer.as_str().into())]), set))
        };
        out.gauge(
            "jwks_keys",
            "Keys of an issuer that can verify",
            by_issuer().map(|(labels, set)| (labels, set.keys)),
        )?;
        out.gauge(
            "jwks_fetched_timestamp_seconds",
            "When an issuer's keys were last had from it",
            by_issuer().filter_map(|(labels, set)| Some((labels, set.fetched_at?))),
        )?;
        out.counter(
            "jwks_fetches",
            "Fetches that brought an issuer's keys",
            by_issuer().map(|(labels, set)| (labels, set.fetches)),
        )?;
        out.counter(
            "jwks_fetch_failures",
            "Fetches of an issuer's keys that failed",
            by_issuer().map(|(labels, set)| (labels, set.failures)),
        )
    }
}

/// Writes whole metrics: name, help, type, and each series.
struct Output<'a>(DescriptorEncoder<'a>);

impl Output<'_> {
    /// The encoder adds `_total`.
    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            if labels.0.is_empty() {
                metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            } else {
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'a>, impl EncodeGaugeValue)>,
    ) -> Result<(), Error> {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in series {
            if labels.0.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> Result<(), Error> {
        let (sum, count, buckets) = histogram.figures();
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// Label names and values; none for a metric that is one number.
struct Labels<'a>(Vec<(&'static str, Cow<'a, str>)>);

const NO_LABELS: Labels<'static> = Labels(Vec::new());

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), Error> {
        for (name, value) in &self.0 {
            let mut label = encoder.encode_label();
            let mut key = label.encode_label_key()?;
            key.write_str(name)?;
            let mut encoded = key.encode_label_value()?;
            encoded.write_str(value)?;
            encoded.finish()?;
        }
        Ok(())
    }
}
