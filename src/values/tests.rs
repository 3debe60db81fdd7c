//! What each kind of value may look like, and what is said of one that does not.
#![allow(clippy::unwrap_used)]
use std::time::Duration;

use super::scalar::{DURATION_FORM, SIZE_FORM};
use super::*;
use crate::http::url::Url;

#[test]
fn a_cookie_has_a_name_that_browsers_keep_and_one_for_plain_http() {
    for (name, plain) in [
        ("__Host-session", "passgate-session"),
        ("__Host-app", "app"),
        ("__Secure-session", "session"),
        ("__Secure-a", "a"),
        ("session", "session"),
        ("__session", "__session"),
        ("Host-a", "Host-a"),
    ] {
        assert_eq!(cookie_name(name).unwrap(), name);
        assert_eq!(cookie_on_http(name), plain);
    }
    for (name, hint) in [
        ("", "letters"),
        ("a b", "letters"),
        ("a=b", "letters"),
        ("a;b", "letters"),
        ("ä", "letters"),
        ("__Host-", "`__Host-session`"),
        ("__Secure-", "`__Secure-session`"),
        ("__host-a", "`__Host-a`"),
        ("__SECURE-a", "`__Secure-a`"),
    ] {
        let reason = cookie_name(name).unwrap_err();
        assert!(reason.contains(hint), "{name}: {reason}");
    }
    assert!(cookie_name(&"a".repeat(64)).is_ok() && cookie_name(&"a".repeat(65)).is_err());
}

#[test]
fn durations_have_units_from_large_to_small() {
    for (text, milliseconds) in [
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("24h", 86_400_000),
        ("7d", 604_800_000),
        ("1h30m", 5_400_000),
        ("1d2h3m4s5ms", 93_784_005),
        ("0s", 0),
    ] {
        assert_eq!(
            duration(text).unwrap(),
            Duration::from_millis(milliseconds),
            "{text}"
        );
    }
    for text in [
        "", "30", "s", "30 s", "1.5s", "30m1h", "1s1s", "-1s", "1w", "5M", "1h30", "٣s", "3651d",
    ] {
        assert!(duration(text).is_err(), "{text}");
    }
    assert!(duration("99999999999999999999s").is_err());
    assert!(duration("18446744073709551615d").is_err());
    assert!(duration("18446744073709551615ms").is_err());
}

#[test]
fn sizes_are_whole_numbers_and_do_not_overflow() {
    for (text, bytes) in [
        ("512B", 512),
        ("32KiB", 32_768),
        ("1MB", 1_000_000),
        ("1GiB", 1 << 30),
        ("0B", 0),
    ] {
        assert_eq!(size(text).unwrap(), bytes, "{text}");
    }
    for text in [
        "",
        "32",
        "KiB",
        "1.5MiB",
        "-1B",
        "1 KiB",
        "32kib",
        "16777216TiB",
        "99999999999999999999B",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
    assert_eq!(size("32kib").unwrap_err(), "write `\"32KiB\"`");
}

#[test]
fn addresses_are_never_names() {
    assert_eq!(
        listen("127.0.0.1:8080").unwrap(),
        Listen::Tcp("127.0.0.1:8080".parse().unwrap())
    );
    assert_eq!(
        listen("[::1]:0").unwrap(),
        Listen::Tcp("[::1]:0".parse().unwrap())
    );
    assert_eq!(
        listen("unix:/run/p.sock").unwrap(),
        Listen::Unix("/run/p.sock".into())
    );
    assert_eq!(listen("systemd").unwrap(), Listen::Systemd(None));
    assert_eq!(
        listen("systemd:passgate.socket").unwrap(),
        Listen::Systemd(Some("passgate.socket".into()))
    );
    for text in ["systemd:", "systemd:a b", "systemd:a:b", "systemd:\n"] {
        assert!(
            listen(text).unwrap_err().contains("systemd:passgate.socket"),
            "{text}"
        );
    }
    for text in [
        "",
        ":8080",
        "8080",
        "localhost:8080",
        "127.0.0.1",
        "127.0.0.1:99999",
        "unix:",
        "/run/p.sock",
        "::1:80",
    ] {
        assert!(listen(text).is_err(), "{text}");
    }
}

#[test]
fn a_network_with_host_bits_is_refused() {
    assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
    assert_eq!(network("::1").unwrap().to_string(), "::1/128");
    assert!(network("10.1.2.3/8").unwrap_err().contains("`10.0.0.0/8`"));
    for text in ["", "10.0.0.0/33", "localhost", "10.0.0/8"] {
        assert!(network(text).is_err(), "{text}");
    }
}

#[test]
fn an_origin_is_what_browsers_send() {
    for text in [
        "https://app.example.com",
        "http://127.0.0.1:8080",
        "https://[::1]:8443",
    ] {
        assert_eq!(origin(text).unwrap().as_str(), text);
    }
    for text in [
        "",
        "app.example.com",
        "https://",
        "https://app.example.com/",
        "https://app.example.com/x",
        "https://app.example.com?x",
        "https://app.example.com:443",
        "https://APP.example.com",
        "https://u:p@app.example.com",
        "ftp://app.example.com",
        "https://app.example.com:0",
        "https://app.example.com:",
        "https://a\\b",
        "https://[::1",
        "https://ä.example",
    ] {
        assert!(origin(text).is_err(), "{text}");
    }
}

#[test]
fn loopback_is_judged_by_address_and_not_by_how_a_name_begins() {
    let loopback = |text: &str| text.parse::<Url>().unwrap().is_loopback();
    assert!(loopback("http://127.0.0.1:1/") && loopback("http://[::1]/x") && loopback("http://localhost"));
    assert!(!loopback("http://127.0.0.1.example.com/") && !loopback("http://localhost.example.com"));
    assert!(!loopback("http://127.0.0.1@example.com/"));
}

#[test]
fn a_prefix_has_plain_segments_only() {
    assert!(prefix("/auth").is_ok() && prefix("/a/b-c").is_ok());
    for text in [
        "", "/", "auth", "/auth/", "//", "/a//b", "/../x", "/a%2f", "/a*", "/{x}", "/a;b",
    ] {
        assert!(prefix(text).is_err(), "{text}");
    }
}

#[test]
fn what_is_echoed_is_short_tame_and_without_passwords() {
    assert_eq!(echo("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
    assert_eq!(echo("postgres://me:pw@db/x"), "postgres://<hidden>@db/x");
    assert_eq!(echo(&"x".repeat(100)).chars().count(), 60);
}

#[test]
fn what_is_clear_is_said_in_the_form_that_it_has_here() {
    for (text, mended) in [
        ("1 hour", "1h"),
        ("3600", "3600s"),
        ("30 s", "30s"),
        ("5M", "5m"),
        ("2 Hours, 30 Min", "2h30m"),
        ("1 day and 12 hours", "1d12h"),
        ("2 weeks", "14d"),
        ("100 milliseconds", "100ms"),
    ] {
        assert_eq!(
            duration(text).unwrap_err(),
            format!("write `\"{mended}\"`"),
            "{text}"
        );
    }
    for text in [
        "",
        "soon",
        "1.5h",
        "1 fortnight",
        "30m1h",
        "1h1h",
        "-1s",
        "99999999999999999999 hours",
        "1w1w1w1w1w1w",
    ] {
        assert_eq!(duration(text).unwrap_err(), DURATION_FORM, "{text}");
    }
    for (text, mended) in [
        ("10 MB", "10MB"),
        ("10mb", "10MB"),
        ("1048576", "1048576B"),
        ("32 kib", "32KiB"),
        ("2 megabytes", "2MB"),
        ("1 Byte", "1B"),
    ] {
        assert_eq!(size(text).unwrap_err(), format!("write `\"{mended}\"`"), "{text}");
    }
    assert!(
        size("10M").unwrap_err().contains("`\"10MiB\"`") && size("10M").unwrap_err().contains("`\"10MB\"`")
    );
    for text in ["", "1.5MB", "MB", "10 pages", "1 KB 2"] {
        assert_eq!(size(text).unwrap_err(), SIZE_FORM, "{text}");
    }
}

#[test]
fn an_ipv6_address_with_a_port_stands_in_brackets() {
    for (text, hint) in [
        ("::1:8080", "`\"[::1]:8080\"`"),
        ("2001:db8::5:443", "`\"[2001:db8::5]:443\"`"),
        ("::1", "the port is missing: `\"[::1]:8080\"`"),
        ("[::1]", "the port is missing: `\"[::1]:8080\"`"),
        ("fe80::", "the port is missing: `\"[fe80::]:8080\"`"),
        ("8080", "`\"127.0.0.1:8080\"`"),
        ("http://0.0.0.0:80/", "`\"0.0.0.0:80\"`"),
    ] {
        let said = listen(text).unwrap_err();
        assert!(said.contains(hint), "{text}: {said}");
    }
}
