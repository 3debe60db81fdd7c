//! A small HTTP/2 client that can also say what a polite client would not.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// One answer.
#[derive(Debug)]
pub struct Http2Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Http2Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection with a runtime of its own.
pub struct Http2 {
    runtime: Runtime,
    sender: SendRequest<Bytes>,
}

impl Http2 {
    /// Cleartext with prior knowledge (RFC 9113 section 3.3).
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            handshake(stream).await
        });
        Self { runtime, sender }
    }

    /// Over TLS; fails unless the server chooses `h2`.
    #[track_caller]
    pub fn connect_tls(config: &Arc<rustls::ClientConfig>, address: SocketAddr, name: &str) -> Self {
        let runtime = runtime();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            handshake(stream).await
        });
        Self { runtime, sender }
    }

    /// Sends a request with a body (empty: none) and trailers, and reads the whole answer.
    pub fn try_send(
        &self,
        request: Request<()>,
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) -> Result<Http2Response, h2::Error> {
        self.runtime.block_on(async {
            let mut sender = self.sender.clone().ready().await?;
            let bare = body.is_empty() && trailers.is_none();
            let (response, mut stream) = sender.send_request(request, bare)?;
            if !bare {
                // What is not sent because the answer came early is no failure: the answer tells.
                let _ = stream.send_data(Bytes::copy_from_slice(body), trailers.is_none());
                if let Some(trailers) = trailers {
                    let _ = stream.send_trailers(trailers);
                }
            }
            let (head, mut incoming) = response.await?.into_parts();
            let mut content = Vec::new();
            while let Some(data) = incoming.data().await {
                let data = data?;
                let _ = incoming.flow_control().release_capacity(data.len());
                content.extend_from_slice(&data);
            }
            let trailers = incoming.trailers().await?;
            Ok(Http2Response { status: head.status, headers: head.headers, body: content, trailers })
        })
    }

    /// Sends the head of a request whose body is still to come.
    #[track_caller]
    pub fn open(&self, request: Request<()>) -> Http2Stream<'_> {
        let (response, upload) = self.runtime.block_on(async {
            let mut sender = self.sender.clone().ready().await.unwrap();
            sender.send_request(request, false).unwrap()
        });
        Http2Stream { http2: self, response: Some(response), upload, incoming: None }
    }

    /// A request without a body.
    #[track_caller]
    pub fn send(&self, request: Request<()>) -> Http2Response {
        self.try_send(request, &[], None).unwrap()
    }

    /// Requests without bodies, all under way at once, and their answers.
    #[track_caller]
    pub fn send_all(&self, requests: Vec<Request<()>>) -> Vec<http::Response<RecvStream>> {
        self.within(async {
            let mut answers = Vec::new();
            for request in requests {
                let mut sender = self.sender.clone().ready().await.unwrap();
                answers.push(sender.send_request(request, true).unwrap().0);
            }
            let mut heads = Vec::new();
            for answer in answers {
                heads.push(answer.await.unwrap());
            }
            heads
        })
    }

    /// A GET with a bearer token.
    #[track_caller]
    pub fn get(&self, url: &str, token: Option<&str>) -> Http2Response {
        let mut request = Request::get(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(()).unwrap())
    }
}

/// One exchange that both sides take their time over.
pub struct Http2Stream<'a> {
    http2: &'a Http2,
    response: Option<ResponseFuture>,
    upload: SendStream<Bytes>,
    incoming: Option<RecvStream>,
}

impl Http2Stream<'_> {
    /// Sends a piece of the body; false when nobody takes it any more.
    pub fn upload(&mut self, piece: &[u8]) -> bool {
        self.http2.runtime.block_on(async { self.upload.send_data(Bytes::copy_from_slice(piece), false).is_ok() })
    }

    /// The head of the answer.
    #[track_caller]
    pub fn head(&mut self) -> http::Response<()> {
        let response = self.response.take().expect("the head was not read before");
        let (head, body) = self.http2.within(response).unwrap().into_parts();
        self.incoming = Some(body);
        http::Response::from_parts(head, ())
    }

    /// The next piece of the answer; `None` at its end.
    #[track_caller]
    pub fn next(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let incoming = self.incoming.as_mut().expect("the head was read");
        loop {
            let data = self.http2.within(async { incoming.data().await });
            match &data {
                // The end may come with a frame of its own.
                Some(Ok(data)) if data.is_empty() => continue,
                Some(Ok(data)) => drop(incoming.flow_control().release_capacity(data.len())),
                _ => {}
            }
            return data;
        }
    }

    /// Whether nothing comes, neither more nor the end, for a little while.
    pub fn is_silent(&mut self) -> bool {
        let incoming = self.incoming.as_mut().expect("the head was read");
        let wait = std::time::Duration::from_millis(50);
        self.http2.runtime.block_on(async { tokio::time::timeout(wait, incoming.data()).await }).is_err()
    }

    /// The trailers, after the end.
    #[track_caller]
    pub fn trailers(&mut self) -> Option<HeaderMap> {
        let incoming = self.incoming.as_mut().expect("the head was read");
        self.http2.within(async { incoming.trailers().await }).unwrap()
    }
}

impl Http2 {
    #[track_caller]
    fn within<T>(&self, future: impl Future<Output = T>) -> T {
        let done = self.runtime.block_on(async { tokio::time::timeout(super::DEADLINE, future).await });
        done.expect("nothing came by the deadline")
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}
