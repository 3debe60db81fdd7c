//! Upgrades.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use super::*;

const HANDSHAKE: &str = concat!(
    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
    "sec-websocket-key: abc\r\n\r\n"
);
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: def\r\n\r\n";

#[tokio::test]
async fn after_the_handshake_bytes_pass_both_ways_until_both_sides_have_finished() {
    let app = App::start(|mut wire, _| async move {
        let head = wire.until("\r\n\r\n").await;
        assert!(
            head.contains("connection: upgrade\r\n") && head.contains("upgrade: websocket\r\n"),
            "{head}"
        );
        assert!(head.contains("sec-websocket-key: abc\r\n"), "{head}");
        // The first bytes of the new protocol may come with the head.
        wire.send(&format!("{SWITCH}hello")).await;
        assert_eq!(wire.exactly(4).await, "ping");
        assert_eq!(wire.rest().await, "", "the client has finished");
        wire.send("bye").await;
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send(HANDSHAKE).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(
        head.contains("upgrade: websocket\r\n") && head.contains("sec-websocket-accept: def\r\n"),
        "{head}"
    );
    client.until("hello").await;
    client.send("ping").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, "bye");
    while gateway.spliced.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let traffic = gateway.spliced.lock().unwrap()[0];
    assert_eq!((traffic.sent, traffic.received), (4, 8));
}

#[tokio::test]
async fn nothing_of_the_client_reaches_the_app_before_it_agrees() {
    let go = Arc::new(Notify::new());
    let when = go.clone();
    let app = App::start(move |mut wire, _| {
        let go = when.clone();
        async move {
            wire.until("\r\n\r\n").await;
            go.notified().await;
            let mut byte = [0];
            assert!(
                wire.stream.try_read(&mut byte).is_err(),
                "there is something to read"
            );
            wire.send(SWITCH).await;
            assert_eq!(wire.exactly(5).await, "early");
            wire.send("done").await;
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send(&format!("{HANDSHAKE}early")).await;
    tokio::task::yield_now().await;
    go.notify_one();
    client.until("done").await;
}

#[tokio::test]
async fn an_app_that_does_not_agree_answers_as_usual() {
    let app = App::answering("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno").await;
    let gateway = Gateway::to(&[app.url()]).await;
    for _ in 0..2 {
        let answer = gateway.ask(HANDSHAKE).await;
        assert_eq!((status(&answer), answer.1.as_str()), ("403", "no"));
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_refused() {
    for (request, answer) in [
        (GET, SWITCH),
        (
            HANDSHAKE,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        ),
        (
            HANDSHAKE,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n",
        ),
        (HANDSHAKE, "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
    ] {
        let closed = Arc::new(Notify::new());
        let done = closed.clone();
        let app = App::start(move |mut wire, _| {
            let done = done.clone();
            async move {
                wire.until("\r\n\r\n").await;
                wire.send(answer).await;
                wire.rest().await;
                done.notify_one();
            }
        })
        .await;
        let gateway = Gateway::to(&[app.url()]).await;
        let refused = gateway.ask(request).await;
        assert_eq!(
            (status(&refused), refused.1.as_str()),
            ("502", "upstream-protocol")
        );
        closed.notified().await;
    }
}

#[tokio::test]
async fn an_upgraded_connection_counts_against_the_limit_until_it_ends() {
    let app = App::start(|mut wire, _| async move {
        if wire.until("\r\n\r\n").await.contains("upgrade") {
            wire.send(SWITCH).await;
        } else {
            wire.send(OK).await;
        }
        wire.rest().await;
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.max_connections = Some(at(1));
    table.connect_timeout = Some(at(std::time::Duration::from_millis(500)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send(HANDSHAKE).await;
    client.until("\r\n\r\n").await;
    assert_eq!(gateway.ask(GET).await.1, "upstream-busy");
    drop(client);
    while gateway.spliced.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.ask(GET).await.1, "ok");
}

#[tokio::test]
async fn an_upgraded_connection_ends_when_it_is_told_to_between_two_frames_of_the_app() {
    let (closed, more) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (done, go) = (closed.clone(), more.clone());
    let app = App::start(move |mut wire, _| {
        let (done, go) = (done.clone(), go.clone());
        async move {
            wire.until("\r\n\r\n").await;
            // Two frames, the second one cut in its middle.
            wire.send(&format!("{SWITCH}\x02\x03one\x02\x05fi")).await;
            go.notified().await;
            wire.send("ve+\x02\x05never").await;
            assert_eq!(
                wire.rest().await,
                "before",
                "nothing of what the client sends after the end"
            );
            done.notify_one();
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send(&format!("{HANDSHAKE}before")).await;
    client.until("\x02\x05fi").await;
    gateway.close.notify_one();
    // The end is known before the frame goes on.
    while gateway.close_seen() == 0 {
        tokio::task::yield_now().await;
    }
    client.send("after").await;
    more.notify_one();
    let last = client.rest_bytes().await;
    assert_eq!(last, b"ve+\x88\x0f\x03\xf0session ended");
    drop(client);
    closed.notified().await;
}
