#![allow(clippy::unwrap_used)]
use std::path::Path;

use super::*;
use crate::config::Problems;
use crate::config::raw::RawPages;

const NOW: UnixSeconds = 1_800_000_000;
const HOSTILE: &str = "<script>alert(1)</script>\"'&\u{202e}";

fn pages() -> Pages {
    let mut problems = Problems::new(Path::new("gateway.toml"), "");
    Pages::compile(&RawPages::default(), "/auth", HOSTILE, false, &mut problems)
}

fn full() -> Overview {
    let text = || HOSTILE.to_owned();
    let item = |is_good| Item {
        name: text(),
        state: text(),
        is_good,
    };
    Overview {
        is_live: true,
        sees_decisions: true,
        now: NOW,
        started_at: NOW - 3600,
        loaded_at: NOW - 60,
        file: text(),
        problems: vec![text()],
        reload_failure: Some(text()),
        notes: vec![text()],
        connections: 12_345,
        steps_of_hour: 360,
        requests: vec![Some(1.0), Some(1500.0)],
        refusals: vec![Some(0.0), Some(0.2)],
        p50: vec![None, Some(0.002)],
        p99: vec![None, Some(1.5)],
        total: Total {
            requests: 15_010,
            refused: 2,
            p50: Some(0.002),
            p99: Some(1.5),
        },
        reasons: vec![Reason {
            name: "role-refused",
            status: 403,
            count: 2,
            counts: vec![Some(0.0), Some(0.2)],
        }],
        upstreams: vec![UpstreamItem {
            name: text(),
            servers: vec![item(true), item(false)],
        }],
        issuers: vec![IssuerItem {
            name: text(),
            issuer: text(),
            keys: 2,
            fetched_at: Some(NOW - 30),
            is_fetched: true,
            error: Some(text()),
        }],
        certificates: vec![item(false)],
        refused: vec![Refused {
            request_id: text(),
            href: "/decisions/0197".to_owned(),
            at: NOW - 5,
            method: text(),
            path: text(),
            subject: Some(text()),
            status: 403,
            reason: text(),
            rule: Some(text()),
        }],
    }
}

fn html(response: &Response<Bytes>) -> &str {
    std::str::from_utf8(response.body()).unwrap()
}

#[test]
fn no_value_becomes_markup_and_nothing_runs_or_is_loaded() {
    let page = pages().overview(full());
    let decision = pages().decision(
        HOSTILE,
        Some(&format!(
            "GET / on host {HOSTILE}\nroute\n  ✗ {HOSTILE}\nrefused: {HOSTILE}\n"
        )),
    );
    for response in [&page, &decision] {
        let html = html(response);
        assert!(html.contains("&lt;script&gt;alert(1)"), "{html}");
        for forbidden in [
            "<script",
            "onclick",
            "javascript:",
            "style=\"",
            "<img",
            "src=",
            "<link",
            "http-equiv",
        ] {
            assert!(!html.contains(forbidden), "{forbidden} in {html}");
        }
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("script-src"),
            "{policy}"
        );
        let style = html
            .split("<style>")
            .nth(1)
            .unwrap()
            .split("</style>")
            .next()
            .unwrap();
        assert!(
            policy.contains(&super::super::sha256(style)),
            "the style sheet is the one that the policy names"
        );
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[X_FRAME_OPTIONS], "DENY");
    }
    assert!(!html(&page).contains(HOSTILE) && !html(&decision).contains(HOSTILE));
}

#[test]
fn overview_is_loaded_again_unless_it_is_stopped() {
    let page = pages().overview(full());
    assert_eq!(page.headers()[REFRESH], "10");
    let still = pages().overview(Overview {
        is_live: false,
        ..full()
    });
    assert!(still.headers().get(REFRESH).is_none());
}

#[test]
fn numbers_are_short_and_an_empty_hour_is_a_page_too() {
    let page = pages().overview(full());
    let html = html(&page);
    for text in [
        "12\u{202f}345",
        "1.5\u{a0}s",
        "2.0\u{a0}ms",
        "at most 1500/s",
        "< 0.1\u{a0}%".replace('<', "&lt;").as_str(),
        "5 minutes ago",
        "1 minute ago",
    ] {
        assert!(html.contains(text), "{text} is not in {html}");
    }
    let empty = pages().overview(Overview {
        steps_of_hour: 360,
        ..Overview::default()
    });
    assert_eq!(empty.status(), StatusCode::OK);
    assert_eq!(
        (share(1, 3), share(0, 9), share(1, 100)),
        (
            "33\u{a0}%".to_owned(),
            "0\u{a0}%".to_owned(),
            "1.0\u{a0}%".to_owned()
        )
    );
    assert_eq!(
        (whole(999), whole(1000), whole(1_234_567)),
        (
            "999".to_owned(),
            "1\u{202f}000".to_owned(),
            "1\u{202f}234\u{202f}567".to_owned()
        )
    );
    assert_eq!(
        (duration(0.000_25), duration(0.02)),
        ("250\u{a0}µs".to_owned(), "20\u{a0}ms".to_owned())
    );
}

#[test]
fn callers_are_not_named_to_other_clients() {
    let page = pages().overview(Overview {
        sees_decisions: false,
        ..full()
    });
    let html = html(&page);
    assert!(
        !html.contains("/decisions") && html.contains("[admin] token"),
        "{html}"
    );
    assert!(html.contains("role-refused"), "counts are for everyone");
}

#[test]
fn decision_that_is_not_remembered_is_404() {
    let page = pages().decision("0197", None);
    assert_eq!(page.status(), StatusCode::NOT_FOUND);
    assert!(html(&page).contains("does not remember this request"));
}
