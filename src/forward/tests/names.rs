//! Servers that have a name: which addresses are used, and for how long.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::http2::{answer, app as http2_app};
use super::*;
use crate::forward::name_watch::watch_names_by;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_millis(30);

/// A resolver that gives the answer of the moment.
#[derive(Clone)]
struct Resolver {
    answer: Arc<Mutex<Result<Vec<SocketAddr>, io::ErrorKind>>>,
    asked: Arc<AtomicUsize>,
}

impl Resolver {
    fn of(addresses: &[SocketAddr]) -> Self {
        Self {
            answer: Arc::new(Mutex::new(Ok(addresses.to_vec()))),
            asked: Arc::default(),
        }
    }

    fn now(&self, answer: Result<Vec<SocketAddr>, io::ErrorKind>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A gateway in front of a server with a name, which is asked for at this interval.
    async fn gateway(&self, url: &str, interval: Duration) -> Gateway {
        let upstream = compile(&raw(&[url.to_owned()]));
        let this = self.clone();
        let resolve = move |host: String, port: u16| {
            assert_eq!((host.as_str(), port), ("app.test", 3000));
            this.asked.fetch_add(1, Ordering::SeqCst);
            std::future::ready(this.answer.lock().unwrap().clone().map_err(io::Error::from))
        };
        tokio::spawn(watch_names_by(
            upstream.clone(),
            resolve,
            interval,
            std::future::pending(),
        ));
        Gateway::without_names(upstream, rules()).await
    }
}

async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < give_up);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn named(name: &'static str) -> App {
    App::start(move |mut wire, _| async move {
        loop {
            wire.message().await;
            wire.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{name}"))
                .await;
        }
    })
    .await
}

#[tokio::test]
async fn changed_addresses_are_used_and_old_connections_are_not_used_again() {
    let (a, b) = (named("a").await, named("b").await);
    let resolver = Resolver::of(&[a.address]);
    let gateway = resolver.gateway("http://app.test:3000", OFTEN).await;
    for _ in 0..3 {
        assert_eq!(gateway.ask(GET).await.1, "a");
    }
    assert_eq!(a.connections(), 1);
    // More addresses: the connection leads to one of them.
    resolver.now(Ok(vec![b.address, a.address]));
    let asked = resolver.asked();
    eventually(async || resolver.asked() > asked + 1).await;
    assert_eq!(gateway.ask(GET).await.1, "a");
    resolver.now(Ok(vec![b.address]));
    // The connection is in use all the time, so that nothing finds it idle.
    eventually(async || gateway.ask(GET).await.1 == "b").await;
    assert_eq!(gateway.ask(GET).await.1, "b");
    assert_eq!((a.connections(), b.connections()), (1, 1));
}

#[tokio::test]
async fn idle_connection_to_an_address_that_is_gone_is_closed() {
    let (ended, mut has_ended) = tokio::sync::mpsc::unbounded_channel();
    let a = App::start(move |mut wire, _| {
        let ended = ended.clone();
        async move {
            wire.message().await;
            wire.send(OK).await;
            wire.rest().await;
            ended.send(()).unwrap();
        }
    })
    .await;
    let resolver = Resolver::of(&[a.address]);
    let gateway = resolver.gateway("http://app.test:3000", OFTEN).await;
    assert_eq!(gateway.ask(GET).await.1, "ok");
    let sweep = || gateway.pool.sweep(Instant::now());
    (0..3).for_each(|_| sweep());
    assert!(has_ended.try_recv().is_err());
    resolver.now(Ok(vec!["127.0.0.1:1".parse().unwrap()]));
    eventually(async || {
        sweep();
        has_ended.try_recv().is_ok()
    })
    .await;
}

#[tokio::test]
async fn resolver_that_fails_leaves_the_last_addresses_in_use() {
    let app = App::start(|mut wire, _| async move {
        wire.message().await;
        wire.send(OK).await;
    })
    .await;
    let resolver = Resolver::of(&[app.address]);
    let gateway = resolver.gateway("http://app.test:3000", OFTEN).await;
    assert_eq!(gateway.ask(GET).await.1, "ok");
    for answer in [Err(io::ErrorKind::TimedOut), Ok(Vec::new())] {
        resolver.now(answer);
        let asked = resolver.asked();
        eventually(async || resolver.asked() > asked + 1).await;
        assert_eq!(gateway.ask(GET).await.1, "ok");
    }
    assert_eq!(app.connections(), 3);
}

#[tokio::test]
async fn name_without_an_address_is_refused_and_found_when_it_has_one() {
    let app = App::answering(OK).await;
    let resolver = Resolver::of(&[]);
    let gateway = resolver.gateway("http://app.test:3000", NEVER).await;
    let refused = gateway.ask(GET).await;
    assert_eq!(
        (status(&refused), refused.1.as_str()),
        ("502", "upstream-unreachable")
    );
    resolver.now(Ok(vec![app.address]));
    eventually(async || gateway.ask(GET).await.1 == "ok").await;
}

#[tokio::test]
async fn connection_that_fails_has_the_name_looked_up_again() {
    let app = App::answering(OK).await;
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let resolver = Resolver::of(&[closed]);
    let gateway = resolver.gateway("http://app.test:3000", NEVER).await;
    let refused = gateway.ask(GET).await;
    assert_eq!(
        (status(&refused), refused.1.as_str()),
        ("502", "upstream-unreachable")
    );
    resolver.now(Ok(vec![app.address]));
    eventually(async || gateway.ask(GET).await.1 == "ok").await;
    assert!(
        resolver.asked() <= 12,
        "at most once in two seconds: {}",
        resolver.asked()
    );
}

#[tokio::test]
async fn shared_connection_to_an_address_that_is_gone_takes_no_more_requests() {
    let (a, first) = http2_app(|(_, mut respond), _| async move { answer(&mut respond, "a") }).await;
    let (b, second) = http2_app(|(_, mut respond), _| async move { answer(&mut respond, "b") }).await;
    let address = |url: &str| url.strip_prefix("h2c://").unwrap().parse().unwrap();
    let resolver = Resolver::of(&[address(&a)]);
    let gateway = resolver.gateway("h2c://app.test:3000", OFTEN).await;
    for _ in 0..2 {
        assert!(gateway.ask(GET).await.1.contains('a'));
    }
    resolver.now(Ok(vec![address(&b)]));
    eventually(async || gateway.ask(GET).await.1.contains('b')).await;
    assert!(gateway.ask(GET).await.1.contains('b'));
    assert_eq!(
        (first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)),
        (1, 1)
    );
}

#[tokio::test]
async fn upstream_of_the_next_configuration_knows_the_addresses_before_the_resolver_answers() {
    let app = App::answering(OK).await;
    let resolver = Resolver::of(&[app.address]);
    let before = resolver.gateway("http://app.test:3000", NEVER).await;
    assert_eq!(before.ask(GET).await.1, "ok");
    let next = compile(&raw(&["http://app.test:3000".to_owned()]));
    next.remember(std::slice::from_ref(&before.upstream));
    let gateway = Gateway::without_names(next, rules()).await;
    assert_eq!(gateway.ask(GET).await.1, "ok");
}
