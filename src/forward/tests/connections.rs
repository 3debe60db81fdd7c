//! Which connection a request takes, and what happens to it afterwards.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // what a test sends is bounded by the test

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore, mpsc};

use super::*;

#[tokio::test]
async fn a_request_arrives_with_target_host_and_fields_and_nothing_else() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, _| {
        let heads = heads.clone();
        async move {
            heads.send(wire.until("\r\n\r\n").await).unwrap();
            wire.send(OK).await;
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let answer = gateway
        .ask("GET /x?y=%20z HTTP/1.0\r\nhost: shop.example\r\nx-a: b\r\n\r\n")
        .await;
    assert_eq!(answer.1, "ok");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("GET /x?y=%20z HTTP/1.1\r\n"), "{head}");
    let mut fields: Vec<_> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["host: shop.example", "x-a: b"]);
}

#[tokio::test]
async fn the_host_of_the_upstream_replaces_the_clients() {
    let (heads, mut seen) = mpsc::unbounded_channel();
    let app = App::start(move |mut wire, _| {
        let heads = heads.clone();
        async move {
            heads.send(wire.until("\r\n\r\n").await).unwrap();
            wire.send(OK).await;
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.host = Some(at("app.internal:81".parse().unwrap()));
    let gateway = Gateway::start(compile(&table), rules()).await;
    gateway.ask(GET).await;
    let head = seen.recv().await.unwrap();
    assert_eq!(head.matches("host:").count(), 1);
    assert!(head.contains("host: app.internal:81\r\n"), "{head}");
}

#[tokio::test]
async fn one_connection_serves_request_after_request_of_different_clients() {
    let app = App::answering(OK).await;
    let gateway = Gateway::to(&[app.url()]).await;
    for _ in 0..5 {
        assert_eq!(gateway.ask(GET).await.1, "ok");
    }
    let mut client = Wire::connect(gateway.address).await;
    for _ in 0..5 {
        client.send(GET).await;
        assert_eq!(client.message().await.1, "ok");
    }
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn the_connection_used_last_is_used_next() {
    let app = App::start(|mut wire, number| async move {
        loop {
            let (head, _) = wire.message().await;
            if head.contains("/slow") {
                wire.send("HTTP/1.1 200 OK\r\nx-connection: slow\r\ncontent-length: 1\r\n\r\n")
                    .await;
                wire.until("never").await;
            }
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
            wire.send(&answer).await;
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut slow = Wire::connect(gateway.address).await;
    slow.send("GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    slow.until("\r\n\r\n").await;
    for _ in 0..3 {
        assert_eq!(gateway.ask(GET).await.1, "1");
    }
    assert_eq!(app.connections(), 2);
}

#[tokio::test]
async fn a_connection_that_the_app_closed_meanwhile_costs_the_client_nothing() {
    let (close, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (when, done) = (close.clone(), closed.clone());
    let app = App::start(move |mut wire, _| {
        let (close, closed) = (when.clone(), done.clone());
        async move {
            wire.message().await;
            wire.send(OK).await;
            close.notified().await;
            drop(wire);
            closed.notify_one();
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    for count in 1..=3 {
        let answer = gateway
            .ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")
            .await;
        assert_eq!(answer.1, "ok");
        assert_eq!(app.connections(), count);
        close.notify_one();
        closed.notified().await;
    }
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_are_not_the_answer_to_the_next_request() {
    let (speak, spoken) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (when, done) = (speak.clone(), spoken.clone());
    let app = App::start(move |mut wire, number| {
        let (speak, spoken) = (when.clone(), done.clone());
        async move {
            wire.message().await;
            wire.send(OK).await;
            if number == 0 {
                speak.notified().await;
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsecrets")
                    .await;
                spoken.notify_one();
            }
            wire.rest().await;
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    gateway.ask(GET).await;
    speak.notify_one();
    spoken.notified().await;
    assert_eq!(gateway.ask(GET).await.1, "ok");
    assert_eq!(app.connections(), 2);
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_an_answer_that_ends_it() {
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
    ] {
        let app = App::answering(answer).await;
        let gateway = Gateway::to(&[app.url()]).await;
        for count in 1..=2 {
            let answer = gateway
                .ask("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
                .await;
            assert!(answer.0.starts_with("http/1.1 200 "), "{answer:?}");
            assert_eq!(answer.1, "ok");
            assert_eq!(app.connections(), count);
        }
    }
}

#[tokio::test]
async fn the_hop_by_hop_fields_of_an_answer_stay_behind() {
    let app = App::answering(concat!(
        "HTTP/1.1 200 OK\r\nconnection: x-hop, keep-alive\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\n",
        "x-hop: 1\r\nx-end: 1\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nok"
    ))
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let (head, body) = gateway.ask(GET).await;
    assert_eq!(body, "ok");
    assert!(head.contains("x-end: 1\r\n"));
    for gone in ["x-hop", "keep-alive", "proxy-connection", "upgrade"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
}

#[tokio::test]
async fn a_length_beside_chunked_coding_does_not_reach_the_client() {
    let app = App::answering(concat!(
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n"
    ))
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let (head, body) = gateway.ask(GET).await;
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n");
    gateway.ask(GET).await;
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn answers_without_a_body_end_at_their_head() {
    let app = App::start(|mut wire, number| async move {
        if number == 0 {
            wire.message().await;
            return wire.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
        }
        wire.message().await;
        wire.send(
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n",
        )
        .await;
        wire.message().await;
        wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        wire.rest().await;
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(client.until("\r\n\r\n").await.contains("content-length: 5"));
    client.send(GET).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 304"));
    client.send(GET).await;
    assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 204"));
    assert_eq!(app.connections(), 2);
}

#[tokio::test]
async fn an_answer_streams_as_it_comes_until_the_app_closes() {
    let (next, go) = mpsc::unbounded_channel::<()>();
    let go = Arc::new(tokio::sync::Mutex::new(go));
    let app = App::start(move |mut wire, _| {
        let go = go.clone();
        async move {
            wire.message().await;
            wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
            for part in ["one", "two", "three"] {
                wire.send(part).await;
                go.lock().await.recv().await;
            }
        }
    })
    .await;
    let gateway = Gateway::to(&[app.url()]).await;
    let mut client = Wire::connect(gateway.address).await;
    client.send(GET).await;
    for part in ["one", "two", "three"] {
        client.until(part).await;
        next.send(()).unwrap();
    }
    assert!(client.until("0\r\n\r\n").await.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn an_answer_cut_short_is_cut_short_for_the_client_too() {
    for (begun, ended) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello", ""),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "zz\r\n0\r\n\r\n",
        ),
    ] {
        let go = Arc::new(Notify::new());
        let when = go.clone();
        let app = App::start(move |mut wire, _| {
            let go = when.clone();
            async move {
                wire.message().await;
                wire.send(begun).await;
                go.notified().await;
                wire.send(ended).await;
            }
        })
        .await;
        let gateway = Gateway::to(&[app.url()]).await;
        let mut client = Wire::connect(gateway.address).await;
        client.send(GET).await;
        client.until("hello").await;
        go.notify_one();
        let rest = client.rest().await;
        assert!(rest.trim().is_empty(), "{rest}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let huge: &'static str = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(100_000)).leak();
    for answer in [
        "hello\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        huge,
    ] {
        let app = App::start(move |mut wire, _| async move {
            wire.message().await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut wire.stream, answer.as_bytes()).await;
            wire.rest().await;
        })
        .await;
        let gateway = Gateway::to(&[app.url()]).await;
        let (head, reason) = gateway.ask(GET).await;
        assert!(head.starts_with("http/1.1 502 "), "{}", &head[..30]);
        assert_eq!(reason, "upstream-protocol", "{}", &answer[..15]);
    }
}

#[tokio::test]
async fn an_app_that_does_not_answer_in_time_is_left_and_its_connection_closed() {
    let closed = Arc::new(Notify::new());
    let done = closed.clone();
    let app = App::start(move |mut wire, _| {
        let done = done.clone();
        async move {
            wire.rest().await;
            done.notify_one();
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.response_timeout = Some(at(Duration::from_millis(30)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let answer = gateway.ask(GET).await;
    assert_eq!((status(&answer), answer.1.as_str()), ("504", "upstream-timeout"));
    closed.notified().await;
}

#[tokio::test]
async fn a_kept_connection_has_the_whole_response_timeout_for_each_request() {
    let app = App::start(|mut wire, _| async move {
        wire.message().await;
        wire.send(OK).await;
        wire.message().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        wire.send(OK).await;
        wire.rest().await;
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.response_timeout = Some(at(Duration::from_millis(600)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    assert_eq!(gateway.ask(GET).await.1, "ok");
    tokio::time::sleep(Duration::from_millis(450)).await;
    // What was wound up for the first request runs out during the second.
    assert_eq!(gateway.ask(GET).await.1, "ok");
    assert_eq!(app.connections(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_exchange_with_the_app() {
    for answered in [false, true] {
        let (arrived, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (here, gone) = (arrived.clone(), closed.clone());
        let app = App::start(move |mut wire, _| {
            let (arrived, closed) = (here.clone(), gone.clone());
            async move {
                wire.message().await;
                if answered {
                    wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfirst")
                        .await;
                }
                arrived.notify_one();
                wire.rest().await;
                closed.notify_one();
            }
        })
        .await;
        let gateway = Gateway::to(&[app.url()]).await;
        let mut client = Wire::connect(gateway.address).await;
        client.send(GET).await;
        arrived.notified().await;
        if answered {
            client.until("first").await;
        }
        drop(client);
        closed.notified().await;
    }
}

#[tokio::test]
async fn idle_connections_are_closed_when_they_have_been_idle_for_long_or_the_app_has_closed_them() {
    let closed = Arc::new(Notify::new());
    let (close, done) = (Arc::new(Notify::new()), closed.clone());
    let when = close.clone();
    let app = App::start(move |mut wire, number| {
        let (close, done) = (when.clone(), done.clone());
        async move {
            wire.message().await;
            wire.send(OK).await;
            if number == 1 {
                close.notified().await;
            } else {
                wire.rest().await;
            }
            drop(wire);
            done.notify_one();
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.max_connections = Some(at(1));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let now = Instant::now();
    gateway.ask(GET).await;
    gateway.pool.sweep(now);
    gateway.pool.sweep(now + Duration::from_secs(61));
    closed.notified().await;
    // The limit of one shows that the place was freed.
    gateway.ask(GET).await;
    assert_eq!(app.connections(), 2);
    gateway.pool.sweep(now);
    close.notify_one();
    closed.notified().await;
    gateway.pool.sweep(now);
    gateway.ask(GET).await;
    assert_eq!(app.connections(), 3);
}

#[tokio::test]
async fn a_request_over_the_limit_waits_for_a_connection_and_not_for_ever() {
    let go = Arc::new(Semaphore::new(0));
    let when = go.clone();
    let app = App::start(move |mut wire, _| {
        let go = when.clone();
        async move {
            loop {
                wire.message().await;
                go.acquire().await.unwrap().forget();
                wire.send(OK).await;
            }
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.max_connections = Some(at(1));
    table.connect_timeout = Some(at(Duration::from_millis(800)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let (mut first, mut second) = (
        Wire::connect(gateway.address).await,
        Wire::connect(gateway.address).await,
    );
    first.send(GET).await;
    second.send(GET).await;
    go.add_permits(2);
    let (one, two) = tokio::join!(first.message(), second.message());
    assert_eq!((one.1.as_str(), two.1.as_str()), ("ok", "ok"));
    assert_eq!(app.connections(), 1);

    first.send(GET).await;
    let busy = gateway.ask(GET).await;
    assert_eq!((status(&busy), busy.1.as_str()), ("503", "upstream-busy"));
}

#[tokio::test]
async fn a_request_that_may_not_wait_is_refused_at_once() {
    let app = App::start(|mut wire, _| async move { drop(wire.rest().await) }).await;
    let mut table = raw(&[app.url()]);
    table.max_connections = Some(at(1));
    table.max_pending = Some(at(0));
    table.connect_timeout = Some(at(Duration::from_secs(60)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let mut first = Wire::connect(gateway.address).await;
    first.send(GET).await;
    while app.connections() == 0 {
        tokio::task::yield_now().await;
    }
    let full = gateway.ask(GET).await;
    assert_eq!((status(&full), full.1.as_str()), ("503", "upstream-full"));
}

#[tokio::test]
async fn a_place_is_free_again_however_an_exchange_ended() {
    let app = App::start(|mut wire, number| async move {
        wire.message().await;
        match number {
            0 => {}
            1 => wire.send("nonsense\r\n\r\n").await,
            2 => {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort")
                    .await
            }
            3 => drop(wire.rest().await),
            _ => wire.send(OK).await,
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.max_connections = Some(at(1));
    table.response_timeout = Some(at(Duration::from_millis(500)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let post = "POST / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(gateway.ask(post).await.1, "upstream-closed");
    assert_eq!(gateway.ask(GET).await.1, "upstream-protocol");
    let mut client = Wire::connect(gateway.address).await;
    client.send(GET).await;
    client.rest().await;
    assert_eq!(gateway.ask(GET).await.1, "upstream-timeout");
    assert_eq!(gateway.ask(GET).await.1, "ok");
}
