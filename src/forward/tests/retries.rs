//! Which requests are sent a second time, and to which server.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // what a test sends is bounded by the test

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;

/// What all servers of a test received: the name of the server and the bytes of each request, in their order.
#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<(&'static str, String)>>>);

impl Received {
    fn all(&self) -> Vec<(&'static str, String)> {
        self.0.lock().unwrap().clone()
    }

    fn servers(&self) -> Vec<&'static str> {
        self.all().iter().map(|(server, _)| *server).collect()
    }

    /// A server that answers each request with what `answers` has for its number, and closes the connection where that is
    /// no whole answer. Behind the last one it goes on with [`OK`].
    async fn server(&self, name: &'static str, answers: &'static [&'static str]) -> App {
        let received = self.clone();
        let number = Arc::new(Mutex::new(0));
        App::start(move |mut wire, _| {
            let (received, number) = (received.clone(), number.clone());
            async move {
                loop {
                    let (head, body) = wire.message().await;
                    // Fields may come in any order.
                    let mut lines: Vec<_> = head.split("\r\n").collect();
                    lines[1..].sort_unstable();
                    received
                        .0
                        .lock()
                        .unwrap()
                        .push((name, lines.join("\r\n") + "\r\n" + &body));
                    let at = {
                        let mut number = number.lock().unwrap();
                        *number += 1;
                        *number - 1
                    };
                    let answer = answers.get(at).copied().unwrap_or(OK);
                    wire.send(answer).await;
                    if !answer.ends_with("ok") {
                        return;
                    }
                }
            }
        })
        .await
    }
}

/// The connection ends with the request.
const CLOSED: &str = "";

fn request(method: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} /x HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn idempotent_request_without_a_body_is_sent_again_after_a_reset() {
    for (method, body, sent) in [
        ("GET", "", 2),
        ("HEAD", "", 2),
        ("OPTIONS", "", 2),
        ("PUT", "", 2),
        ("DELETE", "", 2),
        ("POST", "", 1),
        ("PATCH", "", 1),
        ("PURGE", "", 1),
        ("POST", "abc", 1),
        ("PUT", "abc", 1),
        ("DELETE", "abc", 1),
    ] {
        for warm in [false, true] {
            let received = Received::default();
            let app = if warm {
                received.server("app", &[OK, CLOSED]).await
            } else {
                received.server("app", &[CLOSED]).await
            };
            let gateway = Gateway::to(&[app.url()]).await;
            if warm {
                assert_eq!(gateway.ask(GET).await.1, "ok");
            }
            let mut client = Wire::connect(gateway.address).await;
            client.send(&request(method, body)).await;
            let head = client.until("\r\n\r\n").await;
            let expected = if sent == 2 { "200" } else { "502" };
            assert_eq!(head.split(' ').nth(1), Some(expected), "{method} {body}: {head}");
            let received: Vec<_> = received.all().into_iter().skip(usize::from(warm)).collect();
            assert_eq!(received.len(), sent, "{method} {body}, warm: {warm}");
            assert!(
                received.iter().all(|each| *each == received[0]),
                "the same bytes: {received:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_second_reset_is_the_answer() {
    let received = Received::default();
    let app = received.server("app", &[CLOSED, CLOSED]).await;
    let gateway = Gateway::to(&[app.url()]).await;
    let answer = gateway.ask(GET).await;
    assert_eq!((status(&answer), answer.1.as_str()), ("502", "upstream-closed"));
    assert_eq!(received.servers().len(), 2);
}

#[tokio::test]
async fn after_a_reset_the_request_goes_to_another_server() {
    let received = Received::default();
    let one = received.server("one", &[CLOSED; 40]).await;
    let two = received.server("two", &[]).await;
    let gateway = Gateway::to(&[one.url(), two.url()]).await;
    while !received.servers().contains(&"one") {
        assert_eq!(gateway.ask(GET).await.1, "ok");
    }
    let servers = received.servers();
    assert!(servers.ends_with(&["one", "two"]), "{servers:?}");
}

#[tokio::test]
async fn a_request_is_not_sent_again_once_an_answer_began() {
    for begun in ["H", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let received = Received::default();
        let app = received.server("app", vec![begun].leak()).await;
        let gateway = Gateway::to(&[app.url()]).await;
        assert_eq!(status(&gateway.ask(GET).await), "502", "{begun}");
        assert_eq!(received.servers().len(), 1, "{begun}");
    }
}

#[tokio::test]
async fn a_request_that_waits_too_long_for_its_answer_is_not_sent_again() {
    let received = Received::default();
    let count = received.clone();
    let app = App::start(move |mut wire, _| {
        let count = count.clone();
        async move {
            let (head, _) = wire.message().await;
            count.0.lock().unwrap().push(("app", head));
            wire.rest().await;
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.response_timeout = Some(at(Duration::from_millis(50)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let answer = gateway.ask(GET).await;
    assert_eq!((status(&answer), answer.1.as_str()), ("504", "upstream-timeout"));
    assert_eq!(received.servers().len(), 1);
}

#[tokio::test]
async fn a_second_try_has_the_time_that_the_first_one_left() {
    let go = Arc::new(Notify::new());
    let when = go.clone();
    let app = App::start(move |mut wire, number| {
        let go = when.clone();
        async move {
            wire.message().await;
            if number == 0 {
                go.notified().await;
            } else {
                wire.rest().await;
            }
        }
    })
    .await;
    let mut table = raw(&[app.url()]);
    table.response_timeout = Some(at(Duration::from_millis(600)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    let began = Instant::now();
    let (answer, ()) = tokio::join!(gateway.ask(GET), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        go.notify_one();
    });
    assert_eq!(answer.1, "upstream-timeout");
    assert!(
        began.elapsed() < Duration::from_millis(890),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(app.connections(), 2);
}

#[tokio::test]
async fn a_websocket_handshake_is_not_sent_again() {
    let received = Received::default();
    let app = received.server("app", &[CLOSED]).await;
    let gateway = Gateway::to(&[app.url()]).await;
    let answer = gateway
        .ask("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(answer.1, "upstream-closed");
    assert_eq!(received.servers().len(), 1);
}

#[tokio::test]
async fn a_body_goes_to_the_server_that_accepts_whole_and_once() {
    let received = Received::default();
    let app = received.server("app", &[]).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let gateway = Gateway::to(&[url.clone(), url.replace("127.0.0.1", "localhost"), app.url()]).await;
    for _ in 0..5 {
        assert_eq!(gateway.ask(&request("POST", "abc")).await.1, "ok");
    }
    let received = received.all();
    assert_eq!(received.len(), 5);
    assert!(
        received.iter().all(|(_, bytes)| bytes.ends_with("\r\nabc")),
        "{received:?}"
    );
}

#[tokio::test]
async fn servers_that_do_not_accept_cost_one_connect_timeout_together() {
    let mut full = Vec::new();
    for _ in 0..3 {
        full.push(Unanswering::start().await);
    }
    let urls: Vec<_> = full.iter().map(|server| server.url.clone()).collect();
    let mut table = raw(&urls);
    table.connect_timeout = Some(at(Duration::from_millis(400)));
    let gateway = Gateway::start(compile(&table), rules()).await;
    for _ in 0..2 {
        let began = Instant::now();
        let answer = gateway.ask(GET).await;
        assert_eq!(
            (status(&answer), answer.1.as_str()),
            ("504", "upstream-connect-timeout")
        );
        assert!(
            began.elapsed() < Duration::from_millis(800),
            "{:?}",
            began.elapsed()
        );
    }
}

/// A listener whose queue is full, so that the kernel answers no further connection.
struct Unanswering {
    url: String,
    _listener: std::net::TcpListener,
    _queue: Vec<socket2::Socket>,
}

impl Unanswering {
    async fn start() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener
            .bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let queue = (0..4)
            .map(|_| {
                let client =
                    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&address);
                client
            })
            .collect();
        tokio::task::yield_now().await;
        Self {
            url: format!("http://{}", address.as_socket().unwrap()),
            _listener: listener.into(),
            _queue: queue,
        }
    }
}

#[tokio::test]
async fn a_killed_server_is_ejected_and_tried_by_one_request_when_the_time_is_over() {
    let received = Received::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let other = received.server("other", &[]).await;
    let gateway = Gateway::to(&[format!("http://{address}"), other.url()]).await;
    let health = &gateway.upstream.servers[0].health;
    let ejections = || health.ejections.load(std::sync::atomic::Ordering::Relaxed);
    for _ in 0..100 {
        assert_eq!(gateway.ask(&request("POST", "abc")).await.1, "ok");
    }
    assert_eq!(ejections(), 1);
    // It is back, and nothing has told the gateway.
    let listener = TcpListener::bind(address).await.unwrap();
    let back = received.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (mut wire, back) = (Wire::new(stream), back.clone());
            tokio::spawn(async move {
                loop {
                    let (head, _) = wire.message().await;
                    back.0.lock().unwrap().push(("back", head));
                    wire.send(OK).await;
                }
            });
        }
    });
    let later = |milliseconds| {
        let ahead = &gateway.upstream.uptime.ahead;
        ahead.fetch_add(milliseconds, std::sync::atomic::Ordering::Relaxed);
    };
    for _ in 0..20 {
        assert_eq!(gateway.ask(GET).await.1, "ok");
    }
    assert!(!received.servers().contains(&"back"), "it is ejected");
    later(5_000);
    assert_eq!(gateway.ask(GET).await.1, "ok");
    assert_eq!(received.servers().last(), Some(&"back"));
    assert!(!health.is_suspect());
}

#[tokio::test]
async fn a_server_that_resets_requests_is_ejected_and_answers_of_any_status_are_none() {
    let received = Received::default();
    let broken = received.server("broken", &[CLOSED; 100]).await;
    let failing = App::answering("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\nok").await;
    let gateway = Gateway::to(&[broken.url(), failing.url()]).await;
    for _ in 0..60 {
        assert_eq!(status(&gateway.ask(GET).await), "500");
    }
    assert_eq!(received.servers().len(), 5, "then it is ejected");
    assert!(!gateway.upstream.servers[1].health.is_suspect());
}
