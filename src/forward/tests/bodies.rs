//! Request bodies, and responses that come before their end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // what a test sends is bounded by the test

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::*;
use crate::forward::BodyRules;
use crate::http::pace::PaceRules;

/// An app that answers, and tells what it got.
async fn listening() -> (App, mpsc::UnboundedReceiver<(String, String)>) {
    let (told, seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, _| {
        let told = told.clone();
        async move {
            loop {
                told.send(wire.message().await).unwrap();
                wire.send(OK).await;
            }
        }
    })
    .await;
    (app, seen)
}

#[tokio::test]
async fn a_body_arrives_with_the_framing_that_it_had() {
    let (app, mut seen) = listening().await;
    let gateway = Gateway::to(&[app.url()]).await;
    gateway
        .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")
        .await;
    let (head, body) = seen.recv().await.unwrap();
    assert!(
        head.contains("content-length: 3\r\n") && !head.contains("transfer-encoding"),
        "{head}"
    );
    assert_eq!(body, "abc");

    // A GET may have a body too, and hyper would drop one of unknown length.
    for method in ["POST", "GET"] {
        gateway
            .ask(&format!(
                "{method} / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            ))
            .await;
        let (head, body) = seen.recv().await.unwrap();
        assert!(
            head.contains("transfer-encoding: chunked\r\n") && !head.contains("content-length"),
            "{head}"
        );
        assert_eq!(body, "3\r\nabc\r\n0\r\n\r\n");
    }

    gateway
        .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert!(seen.recv().await.unwrap().0.contains("content-length: 0\r\n"));
    gateway.ask("POST / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(seen.recv().await.unwrap().0.contains("content-length: 0\r\n"));
    gateway.ask(GET).await;
    assert!(!seen.recv().await.unwrap().0.contains("content-length"));
    // The GET with a body had the first for itself from then on.
    assert_eq!(app.connections(), 2);
}

#[tokio::test]
async fn a_client_that_waits_to_be_told_is_told_and_the_app_is_not_asked() {
    let (app, mut seen) = listening().await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .await;
    client.until("100 Continue\r\n\r\n").await;
    client.send("abc").await;
    assert_eq!(client.message().await.1, "ok");
    let (head, body) = seen.recv().await.unwrap();
    assert!(!head.contains("expect"), "{head}");
    assert_eq!(body, "abc");
}

#[tokio::test]
async fn a_body_streams_as_it_comes() {
    let (told, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, _| {
        let told = told.clone();
        async move {
            wire.until("\r\n\r\n").await;
            for part in ["one", "two", "end"] {
                wire.until(part).await;
                told.send(()).unwrap();
            }
            wire.send(OK).await;
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n")
        .await;
    for part in ["one", "two", "end"] {
        client.send(part).await;
        seen.recv().await.unwrap();
    }
    assert_eq!(client.message().await.1, "ok");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_never_looks_complete_to_the_app() {
    let (told, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, _| {
        let told = told.clone();
        async move { told.send(wire.rest().await).unwrap() }
    })
    .await;
    let limited = || BodyRules {
        max_bytes: Some(5),
        ..rules()
    };
    let gateway = Gateway::start(compile(&raw(&[app.url()])), limited()).await;

    let declared = gateway
        .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabcdef")
        .await;
    assert_eq!(
        (status(&declared), declared.1.as_str()),
        ("413", "body-too-large")
    );
    assert_eq!(app.connections(), 0);

    let chunked = gateway
        .ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        .await;
    assert_eq!((status(&chunked), chunked.1.as_str()), ("413", "body-too-large"));
    let got = seen.recv().await.unwrap();
    assert!(!got.contains("0\r\n\r\n") && !got.contains("def"), "{got}");
}

#[tokio::test]
async fn a_body_of_just_the_limit_passes() {
    let (app, mut seen) = listening().await;
    let gateway = Gateway::start(
        compile(&raw(&[app.url()])),
        BodyRules {
            max_bytes: Some(3),
            ..rules()
        },
    )
    .await;
    let answer = gateway
        .ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        .await;
    assert_eq!(answer.1, "ok");
    assert_eq!(seen.recv().await.unwrap().1, "3\r\nabc\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_stops_sending_is_refused() {
    let (told, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, _| {
        let told = told.clone();
        async move { told.send(wire.rest().await).unwrap() }
    })
    .await;
    let pace = PaceRules {
        idle_timeout: Duration::from_millis(30),
        min_rate: 0,
        step: 0,
    };
    let rules = BodyRules { pace, ..rules() };
    let gateway = Gateway::start(compile(&raw(&[app.url()])), rules).await;
    let answer = gateway
        .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc")
        .await;
    assert_eq!((status(&answer), answer.1.as_str()), ("408", "client-timeout"));
    assert!(seen.recv().await.unwrap().ends_with("abc"));
}

#[tokio::test]
async fn broken_chunks_are_refused() {
    let (told, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, _| {
        let told = told.clone();
        async move { told.send(wire.rest().await).unwrap() }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        .await;
    assert!(client.rest().await.contains("ambiguous-framing"));
    assert!(!seen.recv().await.unwrap().contains("0\r\n\r\n"));
}

#[tokio::test]
async fn trailers_pass_except_those_that_could_pass_for_something_else() {
    let (app, mut seen) = {
        let (told, seen) = mpsc::unbounded_channel();
        let app = App::start(move |mut wire, _| {
            let told = told.clone();
            async move {
                let head = wire.until("\r\n\r\n").await;
                wire.until("0\r\n").await;
                told.send((head, wire.until("\r\n\r\n").await)).unwrap();
                wire.send(concat!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n",
                    "2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n"
                ))
                .await;
                wire.rest().await;
            }
        })
        .await;
        (app, seen)
    };
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client
        .send(concat!(
            "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n",
            "trailer: x-sum, x-auth-user, authorization, content-length\r\n\r\n3\r\nabc\r\n0\r\n",
            "x-sum: 1\r\nx-auth-user: root\r\nauthorization: Bearer x\r\ncontent-length: 9\r\n\r\n"
        ))
        .await;
    let (head, trailers) = seen.recv().await.unwrap();
    assert!(
        head.contains("te: trailers\r\n") && head.contains("connection: te\r\n"),
        "{head}"
    );
    assert_eq!(trailers, "x-sum: 1\r\n\r\n");
    assert!(
        client
            .until("x-sum: 2\r\n\r\n")
            .await
            .contains("2\r\nok\r\n0\r\n")
    );
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_reaches_the_client_and_ends_the_connection() {
    let closed = Arc::new(Notify::new());
    let done = closed.clone();
    let app = App::start(move |mut wire, _| {
        let done = done.clone();
        async move {
            wire.until("\r\n\r\n").await;
            wire.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")
                .await;
            wire.rest().await;
            done.notify_one();
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc")
        .await;
    let answer = client.message().await;
    assert_eq!((status(&answer), answer.1.as_str()), ("403", "no"));
    closed.notified().await;
}

#[tokio::test]
async fn client_and_app_may_talk_at_the_same_time() {
    // The app answers as it reads, and the client reads nothing until it has sent all of it: more than all buffers on
    // the way hold. Only a request body that goes on while the response is stuck gets through.
    const LENGTH: usize = 4 << 20;
    let app = App::start(|mut wire, _| async move {
        let head = wire.until("\r\n\r\n").await;
        assert!(head.contains(&format!("content-length: {LENGTH}")));
        wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n"))
            .await;
        let early = wire.buffered();
        let (mut read, mut write) = wire.stream.split();
        // Reads on while its answer is stuck, as an app with threads does.
        let (parts, mut queue) = mpsc::unbounded_channel::<Vec<u8>>();
        let reading = async move {
            let mut left = LENGTH - early.len();
            parts.send(early).unwrap();
            while left > 0 {
                let mut part = vec![0; 64 << 10];
                let length = tokio::io::AsyncReadExt::read(&mut read, &mut part).await.unwrap();
                part.truncate(length);
                left -= length;
                parts.send(part).unwrap();
            }
        };
        let writing = async move {
            while let Some(part) = queue.recv().await {
                tokio::io::AsyncWriteExt::write_all(&mut write, &part)
                    .await
                    .unwrap();
            }
        };
        tokio::join!(reading, writing);
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client
        .send(&format!(
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n"
        ))
        .await;
    let body = "a".repeat(LENGTH);
    client.send(&body).await;
    client.until("\r\n\r\n").await;
    assert_eq!(client.exactly(LENGTH).await, body);
}

#[tokio::test]
async fn a_large_answer_passes_unchanged_and_the_connection_is_kept() {
    const LENGTH: usize = 3 << 20;
    let body: &'static str = (0..LENGTH)
        .map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap()))
        .collect::<String>()
        .leak();
    let app = App::start(move |mut wire, _| async move {
        loop {
            wire.message().await;
            wire.send(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n{body}"
            ))
            .await;
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    for _ in 0..3 {
        assert!(gateway.ask(GET).await.1 == body);
    }
    assert_eq!(app.connections(), 1);
}
