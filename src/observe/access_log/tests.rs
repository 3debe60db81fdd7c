#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::ErrorKind;
use std::sync::mpsc::{Sender, channel};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn entry<'a>() -> Entry<'a> {
    Entry {
        time: 1_800_000_000_042,
        request_id: "0190-id",
        client: "192.0.2.1".parse().unwrap(),
        method: "GET",
        host: "app.example.com",
        path: "/admin/users",
        forward_auth: false,
        route: Some("/admin/*"),
        subject: Some("u-1"),
        email: Some("alice@example.com"),
        issuer: Some("corp"),
        decision: Decision::Allow,
        reason: None,
        rule: Some("gateway.toml:12"),
        is_only_logged: false,
        status: 200,
        bytes: 1234,
        upstream: Some("app"),
        duration_us: 999,
        upstream_us: Some(0),
    }
}

fn line_as(entry: &Entry<'_>, form: Form) -> String {
    let mut out = Vec::new();
    line::append(&mut out, &mut TimeText::default(), entry, form);
    String::from_utf8(out).unwrap()
}

fn line(entry: &Entry<'_>) -> String {
    line_as(entry, Form::default())
}

fn parsed(entry: &Entry<'_>) -> Value {
    serde_json::from_str(&line(entry)).unwrap()
}

#[test]
fn a_line_has_all_fields_in_order() {
    assert_eq!(
        line(&entry()),
        "{\"time\":\"2027-01-15T08:00:00.042Z\",\"request_id\":\"0190-id\",\"client\":\"192.0.2.1\",\"method\":\"GET\",\
         \"host\":\"app.example.com\",\"path\":\"/admin/users\",\"route\":\"/admin/*\",\"subject\":\"u-1\",\
         \"email\":\"alice@example.com\",\"issuer\":\"corp\",\"decision\":\"allow\",\"reason\":null,\"rule\":\"gateway.toml:12\",\"status\":200,\
         \"bytes\":1234,\"upstream\":\"app\",\"duration_us\":999,\"upstream_us\":0}\n"
    );
    let refused = Entry {
        client: "2001:db8::1".parse().unwrap(),
        route: None,
        subject: None,
        email: None,
        issuer: None,
        decision: Decision::Refuse,
        reason: Some("route-missing"),
        rule: None,
        status: 404,
        bytes: u64::MAX,
        upstream: None,
        upstream_us: None,
        ..entry()
    };
    let refused = parsed(&refused);
    for absent in [
        "route",
        "subject",
        "email",
        "issuer",
        "rule",
        "upstream",
        "upstream_us",
    ] {
        assert_eq!(refused[absent], Value::Null, "{absent}");
    }
    assert_eq!(refused["client"], "2001:db8::1");
    assert_eq!(
        (&refused["decision"], &refused["reason"]),
        (&json!("refuse"), &json!("route-missing"))
    );
    assert_eq!(refused["bytes"], u64::MAX);
}

#[test]
fn an_email_address_can_be_left_out() {
    for json in [true, false] {
        let without = line_as(
            &entry(),
            Form {
                email: false,
                json,
                ..Form::default()
            },
        );
        assert!(
            !without.contains("email") && !without.contains("alice@"),
            "{without}"
        );
    }
}

#[test]
fn a_line_of_text_leaves_out_what_is_absent() {
    let text = |entry: &Entry<'_>| {
        line_as(
            entry,
            Form {
                json: false,
                ..Form::default()
            },
        )
    };
    assert_eq!(
        text(&entry()),
        "2027-01-15T08:00:00.042Z 192.0.2.1 GET app.example.com /admin/users 200 allow rule=gateway.toml:12 subject=u-1 \
         email=alice@example.com issuer=corp route=/admin/* upstream=app bytes=1234 duration_us=999 upstream_us=0 \
         request_id=0190-id\n"
    );
    let refused = Entry {
        host: "",
        path: "/a b?secret",
        route: None,
        subject: Some("a\" decision=allow\n"),
        email: None,
        issuer: None,
        decision: Decision::Error,
        reason: Some("upstream-unreachable"),
        rule: None,
        status: 502,
        upstream: None,
        upstream_us: None,
        ..entry()
    };
    assert_eq!(
        text(&refused),
        "2027-01-15T08:00:00.042Z 192.0.2.1 GET \"\" \"/a b\" 502 error reason=upstream-unreachable \
         subject=\"a\\\" decision=allow\\n\" bytes=1234 duration_us=999 request_id=0190-id\n"
    );
}

#[test]
fn a_log_can_be_switched_off_and_sent_elsewhere() {
    let (log, written, answer) = steered(1);
    drop(answer);
    log.set_form(Form {
        access: false,
        ..Form::default()
    });
    log.worker(0).write(&with_id("unseen"));
    log.set_form(Form::default());
    log.worker(0).write(&with_id("first"));
    assert_eq!(ids(&written.recv_timeout(PATIENCE).unwrap()), ["first"]);
    let (writes, elsewhere) = channel();
    let (_, answers) = channel();
    log.redirect(Box::new(Steered { writes, answers }));
    assert!(
        written.recv_timeout(PATIENCE).is_err(),
        "what was written to until now is closed"
    );
    log.worker(0).write(&with_id("second"));
    assert!(log.flush_and_stop(PATIENCE));
    assert_eq!(ids(&elsewhere.recv_timeout(PATIENCE).unwrap()), ["second"]);
}

#[test]
fn the_time_is_that_of_each_line() {
    let mut time = TimeText::default();
    let times = [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.999Z"),
        (1000, "1970-01-01T00:00:01.000Z"),
        (951_782_400_007, "2000-02-29T00:00:00.007Z"),
        (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        (999, "1970-01-01T00:00:00.999Z"),
    ];
    for (milliseconds, expected) in times {
        let mut out = Vec::new();
        line::append(
            &mut out,
            &mut time,
            &Entry {
                time: milliseconds,
                ..entry()
            },
            Form::default(),
        );
        let value: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["time"], expected);
    }
    assert_eq!(
        parsed(&Entry {
            time: u64::MAX,
            ..entry()
        })["time"],
        "1970-01-01T00:00:00.615Z"
    );
}

#[test]
fn a_query_is_never_logged() {
    assert_eq!(
        parsed(&Entry {
            path: "/a?access_token=secret",
            ..entry()
        })["path"],
        "/a"
    );
    assert_eq!(
        parsed(&Entry {
            path: "/a#secret",
            ..entry()
        })["path"],
        "/a"
    );
}

#[test]
fn texts_are_escaped_for_json_and_terminals() {
    let odd = "\"\\\n\r\t\0\u{1b}[2J\u{7f}\u{85}\u{9b}\u{a0}é\u{2027}\u{2028}\u{2029}\u{202a}€😀";
    let text = line(&Entry {
        subject: Some(odd),
        ..entry()
    });
    assert!(
        text.contains(r#""subject":"\"\\\n\r\t\u0000\u001b[2J\u007f\u0085\u009b"#),
        "{text}"
    );
    assert!(
        text.contains("\u{a0}é\u{2027}\\u2028\\u2029\u{202a}€😀\""),
        "{text}"
    );
    assert_eq!(
        parsed(&Entry {
            subject: Some(odd),
            ..entry()
        })["subject"],
        odd
    );
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let long = "é".repeat(5000);
    let value = parsed(&Entry {
        path: &long,
        subject: Some(&long),
        host: &long,
        method: &long,
        ..entry()
    });
    let cut = |count| "é".repeat(count) + "…";
    assert_eq!(value["path"], cut(1024));
    assert_eq!(
        (&value["subject"], &value["host"]),
        (&json!(cut(256)), &json!(cut(256)))
    );
    assert_eq!(value["method"], cut(64));
    let odd = format!("a{long}");
    assert_eq!(
        parsed(&Entry {
            path: &odd,
            ..entry()
        })["path"],
        format!("a{}", cut(1023))
    );
}

proptest! {
    #[test]
    fn any_text_is_one_line_of_json_that_says_the_same(value in any::<String>()) {
        let text = line(&Entry { subject: Some(&value), ..entry() });
        prop_assert_eq!(text.matches('\n').count(), 1);
        prop_assert!(!text.trim_end_matches('\n').chars().any(char::is_control));
        let plain = line_as(&Entry { subject: Some(&value), ..entry() }, Form { json: false, ..Form::default() });
        prop_assert!(!plain.trim_end_matches('\n').chars().any(char::is_control));
        let back: Value = serde_json::from_str(&text).unwrap();
        if value.len() <= 512 {
            prop_assert_eq!(&back["subject"], &Value::String(value));
        }
    }
}

/// Hands each write to the test, which answers how many of its bytes were taken or what failed.
struct Steered {
    writes: Sender<Vec<u8>>,
    answers: Receiver<Result<usize, ErrorKind>>,
}

impl Write for Steered {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.writes.send(bytes.to_vec());
        match self.answers.recv() {
            Ok(Ok(length)) => Ok(length.min(bytes.len())),
            Ok(Err(kind)) => Err(kind.into()),
            Err(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn steered(workers: usize) -> (AccessLog, Receiver<Vec<u8>>, Sender<Result<usize, ErrorKind>>) {
    let (writes, written) = channel();
    let (answer, answers) = channel();
    (
        AccessLog::start(workers, Box::new(Steered { writes, answers })).unwrap(),
        written,
        answer,
    )
}

const PATIENCE: Duration = Duration::from_secs(10);

fn with_id(id: &str) -> Entry<'_> {
    Entry {
        request_id: id,
        ..entry()
    }
}

fn ids(bytes: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["request_id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[test]
fn the_lines_of_all_workers_arrive_without_a_stop() {
    let (log, written, answer) = steered(3);
    for round in 0..3 {
        for worker in 0..3 {
            log.worker(worker).write(&with_id(&format!("{round}-{worker}")));
        }
        let mut seen = Vec::new();
        while seen.len() < 3 {
            seen.extend(ids(&written.recv_timeout(PATIENCE).unwrap()));
            answer.send(Ok(usize::MAX)).unwrap();
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2].map(|worker| format!("{round}-{worker}")));
    }
    assert!(log.flush_and_stop(PATIENCE));
}

#[test]
fn stopping_writes_what_is_left() {
    let (log, written, answer) = steered(2);
    drop(answer);
    for number in 0..1000 {
        log.worker(number % 2).write(&with_id(&number.to_string()));
    }
    assert!(log.flush_and_stop(PATIENCE));
    assert_eq!(written.iter().flat_map(|bytes| ids(&bytes)).count(), 1000);
}

#[test]
fn short_and_interrupted_and_refused_writes_lose_nothing() {
    let (log, written, answer) = steered(1);
    log.worker(0).write(&with_id("a"));
    let mut all = Vec::new();
    for taken in [
        Ok(1),
        Err(ErrorKind::Interrupted),
        Err(ErrorKind::WouldBlock),
        Ok(10),
        Ok(usize::MAX),
    ] {
        let bytes = written.recv_timeout(PATIENCE).unwrap();
        if let Ok(length) = taken {
            all.extend_from_slice(&bytes[..length.min(bytes.len())]);
        }
        answer.send(taken).unwrap();
    }
    assert_eq!(ids(&all), ["a"]);
    assert_eq!(log.dropped(), 0);
    drop(answer);
    assert!(log.flush_and_stop(PATIENCE));
}

#[test]
fn a_reader_that_goes_away_costs_lines_and_one_that_comes_back_reads_whole_ones() {
    let (log, written, answer) = steered(1);
    log.worker(0).write(&with_id("a"));
    written.recv_timeout(PATIENCE).unwrap();
    answer.send(Ok(5)).unwrap();
    written.recv_timeout(PATIENCE).unwrap();
    answer.send(Err(ErrorKind::BrokenPipe)).unwrap();
    log.worker(0).write(&with_id("b"));
    assert_eq!(written.recv_timeout(PATIENCE).unwrap(), b"\n");
    answer.send(Ok(usize::MAX)).unwrap();
    assert_eq!(ids(&written.recv_timeout(PATIENCE).unwrap()), ["b"]);
    assert_eq!(log.dropped(), 1);
    answer.send(Ok(usize::MAX)).unwrap();
    drop(answer);
    assert!(log.flush_and_stop(PATIENCE));
}

#[test]
fn a_reader_that_stands_still_costs_lines_and_not_the_end() {
    let (log, written, answer) = steered(1);
    let worker = log.worker(0);
    worker.write(&entry());
    // The thread is inside its write now and stays there.
    written.recv_timeout(PATIENCE).unwrap();
    let length = line(&entry()).len();
    let fitting = MAX_WAITING / length;
    for _ in 0..fitting + 3 {
        worker.write(&entry());
    }
    assert_eq!(log.dropped(), 3);
    assert_eq!(lock(&worker.waiting).lines.len(), fitting * length);
    assert!(!log.flush_and_stop(Duration::from_millis(1)));
    drop(answer);
}

#[test]
fn a_full_pipe_does_not_keep_the_gateway_from_ending() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = AccessLog::start(1, Box::new(Full)).unwrap();
    log.worker(0).write(&entry());
    assert!(log.flush_and_stop(PATIENCE));
}

#[test]
fn a_buffer_with_room_is_not_allocated_again() {
    let mut lines = Vec::with_capacity(FIRST_CAPACITY);
    let before = lines.as_ptr();
    let mut time = TimeText::default();
    for _ in 0..100 {
        line::append(&mut lines, &mut time, &entry(), Form::default());
    }
    assert_eq!(lines.as_ptr(), before);
}
