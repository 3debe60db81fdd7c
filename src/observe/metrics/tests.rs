use super::*;

fn observation(route: RouteLabel) -> Observation<'static> {
    Observation {
        route,
        method: &Method::GET,
        status: 200,
        refusal: None,
        is_only_logged: false,
        upstream: Some(Duration::from_millis(3)),
        gateway: Duration::from_micros(20),
    }
}

#[test]
fn requests_of_all_workers_are_counted_by_route_class_status_and_reason() {
    let metrics = Metrics::new();
    let (admin, api) = (metrics.route("/admin/*"), metrics.route("/api/{id}"));
    let refused = Observation {
        status: 403,
        refusal: Some(Refusal::RoleRefused),
        is_only_logged: false,
        upstream: None,
        ..observation(admin)
    };
    for _ in 0..2 {
        let worker = metrics.worker();
        worker.record(&observation(admin));
        worker.record(&refused);
        worker.record(&Observation {
            method: &Method::HEAD,
            ..observation(api)
        });
        worker.record(&Observation {
            method: &Method::DELETE,
            ..observation(api)
        });
        worker.record(&Observation {
            method: &Method::OPTIONS,
            status: 599,
            ..observation(RouteLabel::NONE)
        });
    }
    let text = metrics.encode(OtherCounts::default());
    let expected = [
        "# TYPE passgate_requests counter",
        r#"passgate_requests_total{route="/admin/*",method="read",status="200",reason=""} 2"#,
        r#"passgate_requests_total{route="/admin/*",method="read",status="403",reason="role-refused"} 2"#,
        r#"passgate_requests_total{route="/api/{id}",method="read",status="200",reason=""} 2"#,
        r#"passgate_requests_total{route="/api/{id}",method="write",status="200",reason=""} 2"#,
        r#"passgate_requests_total{route="",method="read",status="599",reason=""} 2"#,
        "passgate_upstream_seconds_count 8",
        "passgate_gateway_seconds_count 10",
        r#"passgate_upstream_seconds_bucket{le="0.0025"} 0"#,
        r#"passgate_upstream_seconds_bucket{le="0.005"} 8"#,
        r#"passgate_upstream_seconds_bucket{le="+Inf"} 8"#,
        r#"passgate_gateway_seconds_bucket{le="0.00005"} 10"#,
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn every_key_comes_apart_into_what_it_was_made_of() {
    for refusal in Refusal::ALL.iter().copied().map(Some).chain([None]) {
        for (route, method, status) in [
            (0, Method::GET, 0),
            (u32::MAX, Method::POST, u16::MAX),
            (7, Method::PUT, 404),
        ] {
            let observed = Observation {
                method: &method,
                status,
                refusal,
                ..observation(RouteLabel(route))
            };
            let (found, is_read, found_status, found_refusal) = SeriesKey::new(&observed).parts();
            assert_eq!(
                (found, found_status, found_refusal),
                (route as usize, status, refusal)
            );
            assert_eq!(is_read, method == Method::GET);
        }
    }
}

#[test]
fn a_pattern_keeps_its_label_and_there_are_not_endlessly_many() {
    let metrics = Metrics::new();
    let first = metrics.route("/a");
    assert_ne!(first, RouteLabel::NONE);
    assert_ne!(metrics.route("/b"), first);
    for number in 0..MAX_ROUTES + 10 {
        metrics.route(&format!("/route/{number}"));
    }
    assert_eq!(metrics.route("/a"), first);
    assert_eq!(metrics.route("/one/more"), RouteLabel::OTHER);
    metrics.worker().record(&observation(RouteLabel::OTHER));
    assert!(
        metrics
            .encode(OtherCounts::default())
            .contains(r#"route="other""#)
    );
}

#[test]
fn a_connection_is_open_until_it_is_dropped() {
    let metrics = Metrics::new();
    let one = metrics.worker().open_connection();
    let other = metrics.worker().open_connection();
    drop(one);
    assert_eq!(metrics.open_connections(), 1);
    let text = metrics.encode(OtherCounts::default());
    assert!(text.contains("passgate_connections_accepted_total 2\n"), "{text}");
    assert!(text.contains("passgate_connections_open 1\n"), "{text}");
    drop(other);
    assert_eq!(metrics.open_connections(), 0);
}

#[test]
fn what_others_counted_is_there_with_escaped_labels() {
    let issuer = |issuer: &str, fetched_at| KeySetState {
        issuer: issuer.to_owned(),
        keys: 3,
        fetched_at,
        fetches: 5,
        failures: 1,
    };
    let text = Metrics::new().encode(OtherCounts {
        servers: vec![ServerCounts {
            upstream: "app".into(),
            server: "127.0.0.1:3000".into(),
            is_up: true,
            ejections: 6,
            retries: 7,
            pending: 8,
        }],
        cookies_dropped: vec![("app".to_owned(), 3)],
        cache: CacheCounts {
            hits: 10,
            misses: 2,
            entries: 1,
        },
        key_sets: vec![issuer("corp", Some(1_800_000_000)), issuer("a\"b\\\n", None)],
        log_lines_dropped: 4,
        diagnostics_dropped: 5,
        config_loaded_at: 1_700_000_000,
        config_reload_failed: true,
    });
    let expected = [
        "passgate_token_cache_hits_total 10",
        "passgate_token_cache_misses_total 2",
        "passgate_token_cache_entries 1",
        r#"passgate_set_cookies_dropped_total{upstream="app"} 3"#,
        r#"passgate_upstream_server_up{upstream="app",server="127.0.0.1:3000"} 1"#,
        r#"passgate_upstream_ejections_total{upstream="app",server="127.0.0.1:3000"} 6"#,
        r#"passgate_upstream_retries_total{upstream="app",server="127.0.0.1:3000"} 7"#,
        r#"passgate_upstream_requests_pending{upstream="app",server="127.0.0.1:3000"} 8"#,
        "passgate_access_log_lines_dropped_total 4",
        "passgate_diagnostics_lines_dropped_total 5",
        "passgate_config_loaded_timestamp_seconds 1700000000",
        "passgate_config_reload_failed 1",
        r#"passgate_jwks_keys{issuer="corp"} 3"#,
        r#"passgate_jwks_fetched_timestamp_seconds{issuer="corp"} 1800000000"#,
        r#"passgate_jwks_fetches_total{issuer="corp"} 5"#,
        r#"passgate_jwks_fetch_failures_total{issuer="a\"b\\\n"} 1"#,
    ];
    for line in expected {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert_eq!(
        text.matches("passgate_jwks_fetched_timestamp_seconds{").count(),
        1
    );
}

#[test]
fn the_text_is_sound_also_when_nothing_was_counted() {
    let text = Metrics::new().encode(OtherCounts::default());
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines() {
        assert!(line.starts_with("passgate_") || line.starts_with("# "), "{line}");
        assert!(!line.contains("{}"), "{line}");
    }
    let names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .collect();
    assert_eq!(names.len(), text.matches("# HELP ").count());
    let mut unique = names.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), names.len());
}
