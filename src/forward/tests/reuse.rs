//! Which connections to an app carry a second request: none on which bytes could still be on their way, in either
//! direction, that would be taken for another request or for another request's answer.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // what a test sends is bounded by the test

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::*;

const STALE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale";

/// An app whose first connection answers one request with `answer`, and says `later` when it is told to; every other
/// connection answers all requests with [`OK`].
async fn app(answer: &'static str, later: &'static str, tell: Arc<Notify>, told: Arc<Notify>) -> App {
    App::start(move |mut wire, number| {
        let (tell, told) = (tell.clone(), told.clone());
        async move {
            if number == 0 {
                wire.message().await;
                wire.send(answer).await;
                if !later.is_empty() {
                    tell.notified().await;
                    let _ = tokio::io::AsyncWriteExt::write_all(&mut wire.stream, later.as_bytes()).await;
                    told.notify_one();
                }
            }
            loop {
                wire.message().await;
                wire.send(OK).await;
            }
        }
    })
    .await
}

/// What an app does with one connection, and what that means for it.
struct Case {
    method: &'static str,
    answer: &'static str,
    /// Sent once the client has its answer.
    later: &'static str,
    /// Whether the next request may go out on the same connection.
    kept: bool,
    /// Whether the gateway has seen bytes that it did not ask for.
    seen: bool,
}

const CASES: [Case; 17] = {
    const fn case(
        method: &'static str,
        answer: &'static str,
        later: &'static str,
        kept: bool,
        seen: bool,
    ) -> Case {
        Case {
            method,
            answer,
            later,
            kept,
            seen,
        }
    }
    [
        case("GET", OK, "", true, false),
        case("GET", "HTTP/1.1 204 No Content\r\n\r\n", "", true, false),
        case(
            "GET",
            "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
            "",
            true,
            false,
        ),
        case(
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            "",
            false,
            false,
        ),
        case("HEAD", "HTTP/1.1 204 No Content\r\n\r\n", "", false, false),
        case(
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 48\r\n\r\n",
            STALE,
            false,
            false,
        ),
        case(
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 48\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale",
            "",
            false,
            true,
        ),
        case(
            "GET",
            "HTTP/1.1 204 No Content\r\ncontent-length: 48\r\n\r\n",
            STALE,
            false,
            false,
        ),
        case(
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 48\r\n\r\n",
            STALE,
            false,
            false,
        ),
        case(
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 48\r\n\r\n",
            "",
            false,
            false,
        ),
        case(
            "GET",
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
            STALE,
            false,
            false,
        ),
        case(
            "GET",
            "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n",
            "",
            false,
            false,
        ),
        case(
            "GET",
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale",
            "",
            false,
            true,
        ),
        case("GET", "HTTP/1.1 204 No Content\r\n\r\n", STALE, false, true),
        case(
            "GET",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale",
            "",
            false,
            true,
        ),
        case("GET", OK, STALE, false, true),
        case(
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "\r\n",
            false,
            true,
        ),
    ]
};

#[tokio::test]
async fn no_request_is_answered_with_what_an_app_sends_too_much() {
    for (number, case) in CASES.iter().enumerate() {
        let (tell, told) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let app = app(case.answer, case.later, tell.clone(), told.clone()).await;
        let gateway = Gateway::to(&[app.url()]).await;
        let mut client = Wire::connect(gateway.address).await;
        client
            .send(&format!(
                "{} / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
                case.method
            ))
            .await;
        assert!(
            !client.rest().await.contains("stale"),
            "{number}: {}",
            case.answer
        );
        if !case.later.is_empty() {
            tell.notify_one();
            told.notified().await;
        }
        for _ in 0..3 {
            assert_eq!(gateway.ask(GET).await.1, "ok", "{number}: {}", case.answer);
        }
        assert_eq!(
            !gateway.upstream.is_reusable(0),
            case.seen,
            "{number}: {}",
            case.answer
        );
        let connections = match (case.kept, case.seen) {
            (true, _) => 1,
            (false, false) => 2,
            // Each request has its own from now on.
            (false, true) => 4,
        };
        assert_eq!(app.connections(), connections, "{number}: {}", case.answer);
    }
}

#[tokio::test]
async fn a_server_that_spoke_unasked_is_told_that_each_connection_ends_and_idle_ones_are_closed() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, number| {
        let heads = heads.clone();
        async move {
            loop {
                heads.send((number, wire.message().await.0)).unwrap();
                wire.send(if number == 0 {
                    "HTTP/1.1 204 No Content\r\n\r\nmore"
                } else {
                    OK
                })
                .await;
            }
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    assert!(gateway.ask(GET).await.0.starts_with("http/1.1 204"));
    assert!(!seen.recv().await.unwrap().1.contains("connection:"));
    for connection in 1..4 {
        gateway.ask(GET).await;
        let (number, head) = seen.recv().await.unwrap();
        assert_eq!(number, connection);
        assert!(head.contains("connection: close\r\n"), "{head}");
    }
}

#[tokio::test]
async fn a_body_that_an_app_may_not_read_ends_the_connection() {
    // The app answers as soon as it has the head, and would take the body for its next request.
    let bodies = [
        "content-length: 23\r\n\r\nGET /admin HTTP/1.1\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n17\r\nGET /admin HTTP/1.1\r\n\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "expect: 100-continue\r\ncontent-length: 1\r\n\r\nx",
        "te: trailers\r\nconnection: te\r\ncontent-length: 1\r\n\r\nx",
    ];
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "QUERY", "X"] {
        for body in bodies {
            let (heads, mut seen) = mpsc::unbounded_channel();
            let app = App::start(move |mut wire, number| {
                let heads = heads.clone();
                async move {
                    loop {
                        heads
                            .send((number, wire.until("\r\n\r\n").await.to_ascii_lowercase()))
                            .unwrap();
                        wire.send(OK).await;
                    }
                }
            })
            .await;
            let gateway = Gateway::to(&[app.url()]).await;
            let mut client = Wire::connect(gateway.address).await;
            client
                .send(&format!("{method} / HTTP/1.1\r\nhost: a\r\n{body}"))
                .await;
            client.until("HTTP/1.1 200").await;
            let (_, head) = seen.recv().await.unwrap();
            assert!(head.contains("connection: close"), "{method} {body:?}: {head}");
            assert_eq!(
                head.contains("connection: close, te\r\n"),
                head.contains("te: trailers\r\n"),
                "{head}"
            );
            gateway.ask(GET).await;
            // What the app reads on the first connection beyond that head is its own affair: nothing answers for it.
            while let Some((number, head)) = seen.recv().await {
                if number == 1 {
                    assert!(!head.contains("connection:"), "{head}");
                    break;
                }
            }
        }
    }
}

#[tokio::test]
async fn a_request_without_a_body_or_with_one_that_every_app_expects_keeps_the_connection() {
    let app = App::answering(OK).await;
    let gateway = Gateway::to(&[app.url()]).await;
    for method in ["GET", "DELETE", "OPTIONS", "PROPFIND"] {
        for body in ["\r\n", "content-length: 0\r\n\r\n"] {
            gateway
                .ask(&format!("{method} / HTTP/1.1\r\nhost: a\r\n{body}"))
                .await;
        }
    }
    for method in ["POST", "PUT", "PATCH"] {
        for body in [
            "content-length: 3\r\n\r\nabc",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "\r\n",
        ] {
            gateway
                .ask(&format!("{method} / HTTP/1.1\r\nhost: a\r\n{body}"))
                .await;
        }
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn what_is_left_of_a_body_after_the_answer_never_reaches_the_app_and_the_client_can_go_on() {
    let rests = [
        "GET /admin HTTP/1.1\r\n\r\n",
        "17\r\nGET /admin HTTP/1.1\r\n\r\n\r\n0\r\n\r\n",
    ];
    for (framing, begun, rest) in [
        ("content-length: 26", "abc", rests[0]),
        ("content-length: 23", "", rests[0]),
        ("transfer-encoding: chunked", "3\r\nabc\r\n", rests[1]),
        ("transfer-encoding: chunked", "", rests[1]),
    ] {
        for answer in [
            "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
        ] {
            for method in ["POST", "PUT", "PATCH", "GET"] {
                let (told, mut seen) = mpsc::unbounded_channel();
                let app = App::start(move |mut wire, number| {
                    let told = told.clone();
                    async move {
                        if number == 0 {
                            wire.until("\r\n\r\n").await;
                            wire.exactly(begun.len()).await;
                            wire.send(answer).await;
                            told.send(wire.rest().await).unwrap();
                        }
                        loop {
                            wire.message().await;
                            wire.send(OK).await;
                        }
                    }
                })
                .await;
                let gateway = Gateway::to(&[app.url()]).await;
                let mut client = Wire::connect(gateway.address).await;
                client
                    .send(&format!(
                        "{method} / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{begun}"
                    ))
                    .await;
                let (head, _) = client.message().await;
                assert!(head.starts_with(&answer[..12].to_ascii_lowercase()), "{head}");
                // The app's connection is closed already, before the client sends on.
                assert_eq!(
                    seen.recv().await.unwrap(),
                    "",
                    "{method} {framing} {begun:?} {answer:?}"
                );
                client.send(rest).await;
                client.send(GET).await;
                assert_eq!(client.message().await.1, "ok", "{method} {framing} {begun:?}");
                assert_eq!(app.connections(), 2);
            }
        }
    }
}

#[tokio::test]
async fn an_answer_to_a_body_that_lies_unsent_ends_the_connection_with_it() {
    // The app reads nothing of the body, so that it fills all buffers on the way, answers, and then reads.
    const LENGTH: usize = 32 << 20;
    let (told, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, number| {
        let told = told.clone();
        async move {
            if number == 0 {
                wire.until("\r\n\r\n").await;
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
                told.send(wire.rest_bytes().await.len()).unwrap();
            }
            loop {
                wire.message().await;
                wire.send(OK).await;
            }
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let client = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let (read, mut write) = client.into_split();
    let sending = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut write, head.as_bytes())
            .await
            .unwrap();
        let _ = tokio::io::AsyncWriteExt::write_all(&mut write, &vec![b'a'; LENGTH]).await;
        write
    });
    let mut buffer = Vec::new();
    let mut read = tokio::io::BufReader::new(read);
    while !buffer.ends_with(b"\r\n\r\nno") {
        buffer.push(tokio::io::AsyncReadExt::read_u8(&mut read).await.unwrap());
    }
    let got = seen.recv().await.unwrap();
    assert!(got < LENGTH, "{got}");
    assert_eq!(gateway.ask(GET).await.1, "ok");
    assert_eq!(app.connections(), 2);
    drop(read);
    drop(sending.await);
}

#[test]
fn a_reload_does_not_forget_which_server_spoke_unasked() {
    let [first, other] = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(str::to_owned);
    let before = compile(&raw(&[first.clone(), other.clone()]));
    before.spoke_unasked(0);
    let after = compile(&raw(&[other, first]));
    after.remember(&[before]);
    assert!(after.is_reusable(0) && !after.is_reusable(1));
}
