//! An app that records how the connections to it are made: the header in front, TLS, the version of HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, Version, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How a request came.
#[derive(Clone, Debug, Default)]
pub struct Came {
    /// The number of the connection, from 1.
    pub connection: usize,
    /// The header of the PROXY protocol.
    pub announced: Vec<u8>,
    /// The name asked for in TLS.
    pub server_name: Option<String>,
    /// The certificates of the client.
    pub certificates: Vec<Vec<u8>>,
    /// Whether it came by HTTP/2.
    pub is_http2: bool,
    /// The target as HTTP/1.1 or HTTP/2 has it.
    pub uri: String,
    /// `Connection` of the request.
    pub option: Option<String>,
}

/// The app. It runs until the process ends.
pub struct Server {
    pub address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Without TLS; each connection begins with a header of the PROXY protocol.
    pub fn announced() -> Self {
        Self::start(None, true)
    }

    /// With TLS.
    pub fn with_tls(config: Arc<ServerConfig>) -> Self {
        Self::start(Some(config), false)
    }

    /// With TLS after a header of the PROXY protocol.
    pub fn announced_with_tls(config: Arc<ServerConfig>) -> Self {
        Self::start(Some(config), true)
    }

    fn start(tls: Option<Arc<ServerConfig>>, is_announced: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            came: Arc::default(),
            connections: Arc::default(),
        };
        let (came, connections) = (Arc::clone(&server.came), Arc::clone(&server.connections));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let how = Came {
                        connection: connections.fetch_add(1, Ordering::SeqCst) + 1,
                        ..Came::default()
                    };
                    tokio::spawn(accept(stream, tls.clone(), is_announced, how, Arc::clone(&came)));
                }
            });
        });
        server
    }

    /// How each request came so far.
    pub fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }

    /// How the latest request came that is no health check.
    #[track_caller]
    pub fn last(&self) -> Came {
        let mut came = self.came();
        came.retain(|came| !came.uri.ends_with("/healthz"));
        came.pop().expect("the app got no request")
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept(
    mut stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    is_announced: bool,
    mut how: Came,
    came: Arc<Mutex<Vec<Came>>>,
) {
    if is_announced {
        let mut first = [0; 16];
        if stream.read_exact(&mut first).await.is_err() {
            return;
        }
        let mut rest = vec![0; usize::from(u16::from_be_bytes([first[14], first[15]]))];
        stream.read_exact(&mut rest).await.unwrap();
        how.announced = [&first[..], &rest].concat();
    }
    let Some(tls) = tls else {
        return serve(stream, how, came).await;
    };
    let Ok(stream) = tokio_rustls::TlsAcceptor::from(tls).accept(stream).await else {
        return;
    };
    let session = stream.get_ref().1;
    how.server_name = session.server_name().map(str::to_owned);
    how.is_http2 = session.alpn_protocol() == Some(b"h2");
    let certificates = session.peer_certificates().unwrap_or_default();
    how.certificates = certificates
        .iter()
        .map(|certificate| certificate.to_vec())
        .collect();
    serve(stream, how, came).await;
}

async fn serve<S>(stream: S, how: Came, came: Arc<Mutex<Vec<Came>>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let is_http2 = how.is_http2;
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        came.lock().unwrap().push(Came {
            uri: request.uri().to_string(),
            option: request
                .headers()
                .get(header::CONNECTION)
                .map(|value| value.to_str().unwrap().to_owned()),
            ..how.clone()
        });
        assert_eq!(request.version() == Version::HTTP_2, is_http2);
        std::future::ready(Ok::<_, hyper::Error>(answer(request)))
    });
    let stream = TokioIo::new(stream);
    if is_http2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
        let _ = connection.with_upgrades().await;
    }
}

/// `ok`; to a request for a WebSocket a connection that sends back what it gets.
fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !request.headers().contains_key(header::UPGRADE) {
        return Response::new(Full::from("ok"));
    }
    tokio::spawn(async move {
        let mut stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        let mut bytes = [0; 64];
        while let Ok(read @ 1..) = stream.read(&mut bytes).await {
            stream.write_all(&bytes[..read]).await.unwrap();
        }
    });
    Response::builder()
        .status(101)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .body(Full::default())
        .unwrap()
}
