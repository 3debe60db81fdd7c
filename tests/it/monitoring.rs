//! The page, the dashboard and the alert rules for the metrics: each metric is on the page, and no file names one that is not
//! there.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::support::gateway::before;
use super::support::{App, Gateway};

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.split(|letter| !is_part(letter))
        .filter(|word| word.starts_with("passgate_"))
        .map(str::to_owned)
        .collect()
}

/// The metrics of a gateway, as queries name them.
fn known(metrics: &str) -> BTreeSet<String> {
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    families
        .map(|family| match family.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, _) => name.to_owned(),
        })
        .collect()
}

#[test]
fn page_dashboard_and_alerts_name_the_metrics_that_are_there() {
    let app = App::start();
    let admin =
        "[admin]\nlisten = \"127.0.0.1:0\"\n[[routes]]\npath = \"/*\"\nauth = \"none\"\nupstream = \"app\"\n";
    let gateway = Gateway::start(&before(&app, admin));
    gateway.get("/x").expect(200);
    let known = known(&gateway.admin_get("/metrics").expect(200).text());
    assert!(known.contains("passgate_requests_total"), "{known:?}");
    assert_eq!(names(&read("monitoring.md")), known);

    let buckets = |name: &str| name.strip_suffix("_bucket").unwrap_or(name).to_owned();
    for file in ["monitoring/alerts.yml", "monitoring/grafana.json"] {
        let named: BTreeSet<String> = names(&read(file)).iter().map(|name| buckets(name)).collect();
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(!named.is_empty() && unknown.is_empty(), "{file}: {unknown:?}");
    }
    let dashboard: Value = serde_json::from_str(&read("monitoring/grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
}
