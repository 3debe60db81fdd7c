//! Apps that speak HTTP/2 without TLS.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // what a test sends is bounded by the test

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

use super::*;

pub(super) type Incoming = (Request<h2::RecvStream>, SendResponse<Bytes>);

/// An app that hands each request to `serve`, with the number of the connection.
pub(super) async fn app<F>(
    serve: impl Fn(Incoming, usize) -> F + Send + Sync + 'static,
) -> (String, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("h2c://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let (count, serve) = (connections.clone(), Arc::new(serve));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (number, serve) = (count.fetch_add(1, Ordering::SeqCst), serve.clone());
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok(request)) = connection.accept().await {
                    tokio::spawn(serve(request, number));
                }
            });
        }
    });
    (url, connections)
}

pub(super) fn answer(respond: &mut SendResponse<Bytes>, body: &'static str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream
        .send_data(Bytes::from_static(body.as_bytes()), true)
        .unwrap();
}

#[tokio::test]
async fn requests_share_one_connection_and_name_their_authority() {
    let (url, connections) = app(|(request, mut respond), _| async move {
        assert_eq!(request.uri(), "http://shop.example/x?y=%20z");
        assert!(!request.headers().contains_key("host"));
        answer(&mut respond, "ok");
    })
    .await;
    let gateway = Gateway::to(&[url]).await;
    let (one, two) = tokio::join!(gateway.ask(GET), gateway.ask(GET));
    for answer in [one, two, gateway.ask(GET).await] {
        assert!(answer.0.contains("transfer-encoding: chunked"), "{answer:?}");
        assert_eq!(answer.1, "2\r\nok\r\n0\r\n\r\n");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let (url, _) = app(|(request, mut respond), _| async move {
        assert_eq!(request.headers()["te"], "trailers");
        let mut body = request.into_body();
        let mut got = Vec::new();
        while let Some(data) = body.data().await {
            got.extend_from_slice(&data.unwrap());
            let _ = body.flow_control().release_capacity(got.len());
        }
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(
            (got.as_slice(), &trailers["x-sum"]),
            (&b"abc"[..], &"1".parse().unwrap())
        );
        assert!(!trailers.contains_key("x-auth-user"));
        let head = Response::builder().header("trailer", "x-sum").body(()).unwrap();
        let mut stream = respond.send_response(head, false).unwrap();
        stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "2".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
    })
    .await;
    let gateway = Gateway::to(&[url]).await;
    let mut client = Wire::connect(gateway.address).await;
    client
        .send(concat!(
            "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\ntransfer-encoding: chunked\r\n\r\n",
            "3\r\nabc\r\n0\r\nx-sum: 1\r\nx-auth-user: root\r\n\r\n"
        ))
        .await;
    assert!(
        client
            .until("x-sum: 2\r\n\r\n")
            .await
            .contains("2\r\nok\r\n0\r\n")
    );
}

#[tokio::test]
async fn a_stream_that_is_reset_is_sent_again_where_nothing_can_have_happened_twice() {
    const REFUSED: h2::Reason = h2::Reason::REFUSED_STREAM;
    const ERROR: h2::Reason = h2::Reason::INTERNAL_ERROR;
    for (method, reason, body, tries, expected) in [
        ("POST", REFUSED, "", 2, "ok"),
        // Its body is gone.
        ("POST", REFUSED, "abc", 1, "upstream-closed"),
        ("PUT", REFUSED, "abc", 1, "upstream-closed"),
        ("POST", ERROR, "", 1, "upstream-closed"),
        ("PATCH", ERROR, "", 1, "upstream-closed"),
        ("PUT", ERROR, "abc", 1, "upstream-closed"),
        ("GET", REFUSED, "", 2, "ok"),
        ("GET", ERROR, "", 2, "ok"),
        ("DELETE", h2::Reason::CANCEL, "", 2, "ok"),
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let (url, _) = app(move |(_, mut respond), _| {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    respond.send_reset(reason)
                } else {
                    answer(&mut respond, "ok")
                }
            }
        })
        .await;
        let gateway = Gateway::to(&[url]).await;
        let request = format!(
            "{method} / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = gateway.ask(&request).await;
        assert!(answer.1.contains(expected), "{method} {reason}: {answer:?}");
        assert_eq!(seen.load(Ordering::SeqCst), tries, "{method} {reason}");
    }
}

#[tokio::test]
async fn a_request_is_sent_three_times_at_most_and_once_after_a_reset() {
    const REFUSED: h2::Reason = h2::Reason::REFUSED_STREAM;
    const ERROR: h2::Reason = h2::Reason::INTERNAL_ERROR;
    for (resets, tries) in [
        ([ERROR, ERROR, ERROR], 2),
        ([REFUSED, REFUSED, REFUSED], 3),
        ([REFUSED, REFUSED, ERROR], 3),
        ([ERROR, REFUSED, REFUSED], 3),
        ([REFUSED, ERROR, ERROR], 3),
    ] {
        let seen = Arc::new(AtomicUsize::new(0));
        let count = seen.clone();
        let (url, _) = app(move |(_, mut respond), _| {
            let reason = resets.get(count.fetch_add(1, Ordering::SeqCst)).copied();
            async move { respond.send_reset(reason.unwrap_or(ERROR)) }
        })
        .await;
        let gateway = Gateway::to(&[url]).await;
        assert_eq!(gateway.ask(GET).await.1, "upstream-closed");
        assert_eq!(seen.load(Ordering::SeqCst), tries, "{resets:?}");
    }
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// A frame of stream 0 without flags (RFC 9113 section 4.1).
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, 0, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// The type of the next frame.
async fn read_frame(stream: &mut TcpStream) -> u8 {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    head[3]
}

#[tokio::test]
async fn a_connection_that_goes_away_is_replaced_and_what_it_left_out_is_sent_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("h2c://{}", listener.local_addr().unwrap());
    let (told, mut seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // Says by GOAWAY that stream 0 was the last it did anything with, then closes.
        let mut first = listener.accept().await.unwrap().0;
        first.write_all(&frame(SETTINGS, &[])).await.unwrap();
        first.read_exact(&mut [0; 24]).await.unwrap();
        while read_frame(&mut first).await != HEADERS {}
        first.write_all(&frame(GOAWAY, &[0; 8])).await.unwrap();
        let second = listener.accept().await.unwrap().0;
        drop(first);
        let mut connection = h2::server::handshake(second).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            answer(&mut respond, "ok");
            told.send(()).unwrap();
        }
    });
    let gateway = Gateway::to(&[url]).await;
    let answer = gateway.ask(GET).await;
    assert!(answer.1.contains("ok"), "{answer:?}");
    seen.recv().await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_and_no_other() {
    let (arrived, reset) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (here, gone) = (arrived.clone(), reset.clone());
    let (url, connections) = app(move |(request, mut respond), _| {
        let (arrived, reset) = (here.clone(), gone.clone());
        async move {
            match request.uri().path() {
                "/head" => {
                    arrived.notify_one();
                    let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
                    reset.notify_one();
                }
                "/body" => {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"first"), false).unwrap();
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
                    reset.notify_one();
                }
                _ => answer(&mut respond, "ok"),
            }
        }
    })
    .await;
    let gateway = Gateway::to(&[url]).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send("GET /head HTTP/1.1\r\nhost: a\r\n\r\n").await;
    arrived.notified().await;
    drop(client);
    reset.notified().await;
    let mut client = Wire::connect(gateway.address).await;
    client.send("GET /body HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.until("first").await;
    drop(client);
    reset.notified().await;
    assert!(gateway.ask(GET).await.1.contains("ok"));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_does_not_speak_it_is_refused() {
    let app = App::start(|mut wire, _| async move {
        wire.until("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        wire.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await;
    })
    .await;
    let gateway = Gateway::to(&[format!("h2c://{}", app.address)]).await;
    let answer = gateway.ask(GET).await;
    assert_eq!(status(&answer), "502", "{answer:?}");
}

#[tokio::test]
async fn an_upgrade_is_refused() {
    let (url, connections) = app(|(_, mut respond), _| async move { answer(&mut respond, "ok") }).await;
    let gateway = Gateway::to(&[url]).await;
    let answer = gateway
        .ask("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    assert_eq!((status(&answer), answer.1.as_str()), ("502", "upstream-protocol"));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_resets_the_stream() {
    let reset = Arc::new(Notify::new());
    let done = reset.clone();
    let (url, _) = app(move |(request, _respond), _| {
        let done = done.clone();
        async move {
            let mut body = request.into_body();
            while let Some(data) = body.data().await {
                let Ok(data) = data else { return done.notify_one() };
                assert_eq!(data, "abc");
            }
        }
    })
    .await;
    let limited = crate::forward::BodyRules {
        max_bytes: Some(5),
        ..rules()
    };
    let gateway = Gateway::start(compile(&raw(&[url])), limited).await;
    let answer = gateway
        .ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
        .await;
    assert_eq!((status(&answer), answer.1.as_str()), ("413", "body-too-large"));
    reset.notified().await;
}

#[tokio::test]
async fn requests_over_the_servers_limit_of_streams_wait_as_for_a_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut table = raw(&[format!("h2c://{}", listener.local_addr().unwrap())]);
    table.max_pending = Some(at(1));
    table.connect_timeout = Some(at(std::time::Duration::from_millis(300)));
    let (held, mut requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let stream = listener.accept().await.unwrap().0;
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            match request.uri().path() {
                "/hold" => held.send(respond).unwrap(),
                _ => answer(&mut respond, "ok"),
            }
        }
    });
    let gateway = Gateway::start(compile(&table), rules()).await;
    // From here on the gateway knows the limit.
    assert!(gateway.ask(GET).await.1.contains("ok"));
    let mut first = Wire::connect(gateway.address).await;
    first.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut hold = requests.recv().await.unwrap();

    let late = gateway.ask(GET).await;
    assert_eq!((status(&late), late.1.as_str()), ("503", "upstream-busy"));

    let mut waits = Wire::connect(gateway.address).await;
    waits.send(GET).await;
    let pending = &gateway.upstream.servers[0].health.pending;
    while pending.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let full = gateway.ask(GET).await;
    assert_eq!((status(&full), full.1.as_str()), ("503", "upstream-full"));
    answer(&mut hold, "ok");
    assert!(waits.message().await.1.contains("ok"));
}
