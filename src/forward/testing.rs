//! For the tests of this room: apps that follow a script, a gateway that is nothing but [`forward`], and clients that
//! write raw bytes.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{
    Affinity, BodyRules, Outgoing, Pool, RequestBody, ResponseBody, Upstream, forward, tunnel, watch_names,
};
use crate::authorize::Permit;
use crate::config::raw::{RawUpstream, RawUpstreamServer};
use crate::config::{Problems, Spanned};
use crate::http::client::{Holder, Share};
use crate::http::headers::HopByHop;
use crate::http::pace::PaceRules;
use crate::values::ServerAddress;

/// A value as if it stood at the start of the file.
pub(super) fn at<T>(value: T) -> Spanned<T> {
    Spanned { value, span: 0..0 }
}

pub(super) fn raw(servers: &[String]) -> RawUpstream {
    RawUpstream {
        servers: servers
            .iter()
            .map(|server| {
                at(RawUpstreamServer {
                    url: ServerAddress::parse(server).unwrap(),
                    weight: None,
                })
            })
            .collect(),
        ..RawUpstream::default()
    }
}

pub(super) fn compile(raw: &RawUpstream) -> Arc<Upstream> {
    let mut problems = Problems::new(Path::new("gateway.toml"), "");
    let upstream = Upstream::compile(&at("app".to_owned()), raw, 1, &mut problems);
    assert!(problems.errors().is_empty(), "{:?}", problems.errors());
    Arc::new(upstream)
}

/// One end of a connection, for scripts and raw clients.
pub(super) struct Wire {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(super) async fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).await.unwrap())
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn more(&mut self) -> bool {
        let read = tokio::time::timeout(Duration::from_secs(10), self.stream.read_buf(&mut self.buffer));
        matches!(read.await.expect("nothing came for 10 seconds"), Ok(read) if read > 0)
    }

    fn take(&mut self, length: usize) -> String {
        String::from_utf8(self.buffer.drain(..length).collect()).unwrap()
    }

    /// What was read and not asked for.
    pub(super) fn buffered(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Everything up to and with `end`.
    pub(super) async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self
                .buffer
                .windows(end.len())
                .position(|window| window == end.as_bytes())
            {
                return self.take(at + end.len());
            }
            assert!(
                self.more().await,
                "closed after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    pub(super) async fn exactly(&mut self, length: usize) -> String {
        while self.buffer.len() < length {
            assert!(
                self.more().await,
                "closed after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
        self.take(length)
    }

    /// Everything up to the end of the connection, however it ended.
    pub(super) async fn rest(&mut self) -> String {
        while self.more().await {}
        self.take(self.buffer.len())
    }

    /// The same, where it is no text.
    pub(super) async fn rest_bytes(&mut self) -> Vec<u8> {
        while self.more().await {}
        self.buffered()
    }

    /// A head, in lower case, and the body that it announces.
    pub(super) async fn message(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n").await.to_ascii_lowercase();
        let body = if head.contains("transfer-encoding: chunked") {
            self.until("0\r\n\r\n").await
        } else {
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            self.exactly(length.map_or(0, |length| length.parse().unwrap()))
                .await
        };
        (head, body)
    }
}

/// An app whose connections each follow `script`, which gets the connection and its number, from 0.
pub(super) struct App {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl App {
    pub(super) async fn start<F>(script: impl Fn(Wire, usize) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
        };
        let accepted = app.accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                tokio::spawn(script(Wire::new(stream), accepted.fetch_add(1, Ordering::SeqCst)));
            }
        });
        app
    }

    /// Answers each request with `answer`, as long as the client likes.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(move |mut wire, _| async move {
            loop {
                if wire.buffer.is_empty() && !wire.more().await {
                    return;
                }
                wire.message().await;
                wire.send(answer).await;
            }
        })
        .await
    }

    pub(super) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// What is known of the ends of upgraded connections.
#[derive(Clone)]
struct Ends {
    spliced: Arc<Mutex<Vec<super::websocket::Traffic>>>,
    close: Arc<Notify>,
    closing: Arc<AtomicUsize>,
}

/// A server that forwards everything to one upstream.
pub(super) struct Gateway {
    pub(super) address: SocketAddr,
    pub(super) upstream: Arc<Upstream>,
    pub(super) pool: Arc<Pool>,
    /// What went through upgraded connections, when they ended.
    pub(super) spliced: Arc<Mutex<Vec<super::websocket::Traffic>>>,
    /// Closes an upgraded connection.
    pub(super) close: Arc<Notify>,
    /// How often one has heard of it.
    closing: Arc<AtomicUsize>,
}

impl Gateway {
    pub(super) async fn to(servers: &[String]) -> Self {
        Self::start(compile(&raw(servers)), rules()).await
    }

    pub(super) async fn start(upstream: Arc<Upstream>, rules: BodyRules) -> Self {
        tokio::spawn(watch_names(upstream.clone(), std::future::pending()));
        Self::without_names(upstream, rules).await
    }

    /// The same without a resolver.
    pub(super) async fn without_names(upstream: Arc<Upstream>, rules: BodyRules) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = Self {
            address: listener.local_addr().unwrap(),
            upstream: upstream.clone(),
            pool: Arc::new(Pool::new(Share::Percent(25))),
            spliced: Arc::default(),
            close: Arc::default(),
            closing: Arc::default(),
        };
        let (pool, rules) = (gateway.pool.clone(), Arc::new(rules));
        let ends = Ends {
            spliced: gateway.spliced.clone(),
            close: gateway.close.clone(),
            closing: gateway.closing.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (upstream, pool, ends, rules) =
                    (upstream.clone(), pool.clone(), ends.clone(), rules.clone());
                let service = service_fn(move |request| {
                    let (upstream, pool, ends, rules) =
                        (upstream.clone(), pool.clone(), ends.clone(), rules.clone());
                    async move { Ok::<_, Infallible>(serve(request, &upstream, &pool, &ends, &rules).await) }
                });
                tokio::spawn(async move {
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    let _ = connection.with_upgrades().await;
                });
            }
        });
        gateway
    }

    /// How often an upgraded connection has heard that it is to end.
    pub(super) fn close_seen(&self) -> usize {
        self.closing.load(Ordering::SeqCst)
    }

    /// Sends one request on a connection of its own and returns status and reason of the answer, and its body.
    pub(super) async fn ask(&self, request: &str) -> (String, String) {
        let mut client = Wire::connect(self.address).await;
        client.send(request).await;
        client.message().await
    }
}

pub(super) fn rules() -> BodyRules {
    BodyRules {
        max_bytes: None,
        pace: PaceRules {
            idle_timeout: Duration::from_secs(30),
            min_rate: 0,
            step: 0,
        },
        protected: Box::new(|name| name.as_str().starts_with("x-auth")),
    }
}

async fn serve(
    mut request: Request<Incoming>,
    upstream: &Arc<Upstream>,
    pool: &Pool,
    ends: &Ends,
    rules: &Arc<BodyRules>,
) -> Response<ResponseBody> {
    let client = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().parse().unwrap());
    let host = head
        .headers
        .remove(header::HOST)
        .or(authority)
        .unwrap_or(HeaderValue::from_static("none"));
    let hop = HopByHop {
        te_trailers: head.headers.remove(header::TE).is_some(),
        websocket: head.headers.remove(header::UPGRADE).is_some(),
    };
    head.headers.remove(header::CONNECTION);
    head.headers.remove(header::TRANSFER_ENCODING);
    head.uri = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let forwarded = match RequestBody::new(body, &head.headers, rules) {
        Ok(body) => {
            let holder = Holder {
                key: IpAddr::V4(Ipv4Addr::LOCALHOST).into(),
                exit: Arc::default(),
            };
            forward(
                &Permit::for_tests(),
                upstream,
                pool,
                &holder,
                Affinity::None,
                "/*",
                Outgoing {
                    request: Request::from_parts(head, body),
                    host,
                    hop,
                    client: None,
                },
            )
            .await
        }
        Err(refusal) => Err(refusal),
    };
    match forwarded {
        Ok(forwarded) => {
            if let Some(app) = forwarded.upgrade {
                let Ends {
                    spliced,
                    close,
                    closing,
                } = ends.clone();
                tokio::spawn(async move {
                    let close = async {
                        close.notified().await;
                        closing.fetch_add(1, Ordering::SeqCst);
                    };
                    let traffic = tunnel(client, app, close).await;
                    spliced.lock().unwrap().push(traffic);
                });
            }
            forwarded.response
        }
        Err(refusal) => {
            let mut response = Response::new(ResponseBody::whole(refusal.reason()));
            *response.status_mut() = refusal.status();
            assert_ne!(refusal.status(), StatusCode::OK);
            response
        }
    }
}
