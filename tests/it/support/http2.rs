//! A small HTTP/2 client that can also say what a polite client would not.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
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
        Self::connect_tls_after(b"", config, address, name)
    }

    /// The same with `first` in front of TLS.
    #[track_caller]
    pub fn connect_tls_after(
        first: &[u8],
        config: &Arc<rustls::ClientConfig>,
        address: SocketAddr,
        name: &str,
    ) -> Self {
        let runtime = runtime();
        let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
        let sender = runtime.block_on(async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(first).await.unwrap();
            let stream = tokio_rustls::TlsConnector::from(config.clone())
                .connect(name, stream)
                .await
                .unwrap();
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
            Ok(Http2Response {
                status: head.status,
                headers: head.headers,
                body: content,
                trailers,
            })
        })
    }

    /// Sends the head of a request whose body is still to come.
    #[track_caller]
    pub fn open(&self, request: Request<()>) -> Http2Stream<'_> {
        let (response, upload) = self.runtime.block_on(async {
            let mut sender = self.sender.clone().ready().await.unwrap();
            sender.send_request(request, false).unwrap()
        });
        Http2Stream {
            http2: self,
            response: Some(response),
            upload,
            incoming: None,
        }
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
    /// Sends a piece of the body; false when the peer no longer reads.
    pub fn upload(&mut self, piece: &[u8]) -> bool {
        self.http2.runtime.block_on(async {
            self.upload
                .send_data(Bytes::copy_from_slice(piece), false)
                .is_ok()
        })
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
        self.http2
            .runtime
            .block_on(async { tokio::time::timeout(wait, incoming.data()).await })
            .is_err()
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
        let done = self
            .runtime
            .block_on(async { tokio::time::timeout(super::DEADLINE, future).await });
        done.expect("nothing came by the deadline")
    }
}

/// A connection that sends frames and fields as they are written, and shows the frames that come back.
pub struct Frames {
    stream: std::net::TcpStream,
}

/// One frame (RFC 9113 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl RawFrame {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const GOAWAY: u8 = 7;

    /// The END_STREAM flag of HEADERS and DATA.
    pub fn ends(&self) -> bool {
        self.flags & 1 != 0
    }
}

impl Frames {
    /// Cleartext with prior knowledge; the settings of both sides are told and acknowledged.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(super::DEADLINE)).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let mut frames = Self { stream };
        frames.send(4, 0, 0, &[]);
        frames.send(4, 1, 0, &[]);
        frames
    }

    /// Sends one frame.
    #[track_caller]
    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        use std::io::Write;
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).unwrap();
    }

    /// Sends a request to `localhost` without a body, with exactly these fields (RFC 7541 section 6.2.2, without Huffman coding).
    #[track_caller]
    pub fn request(&mut self, stream: u32, method: &str, path: &str, fields: &[(&str, &str)]) {
        let pseudo = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
        ];
        let mut block = Vec::new();
        for (name, value) in pseudo.iter().chain(fields) {
            block.push(0);
            for text in [name, value] {
                block.push(
                    u8::try_from(text.len())
                        .ok()
                        .filter(|length| *length < 127)
                        .unwrap(),
                );
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.send(RawFrame::HEADERS, 0x4 | 0x1, stream, &block);
    }

    /// The next frame of any stream; `None` at the end of the connection.
    pub fn try_next(&mut self) -> Option<RawFrame> {
        use std::io::Read;
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(RawFrame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// The frames of this stream up to the one that ends it; frames of the connection are passed over, of other streams
    /// there are none.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> Vec<RawFrame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.try_next().expect("the connection goes on");
            assert_ne!(frame.kind, RawFrame::GOAWAY, "{frame:?}");
            if frame.stream == 0 {
                continue;
            }
            assert_eq!(frame.stream, stream, "{frame:?}");
            let is_last =
                frame.kind == RawFrame::RST_STREAM || frame.kind <= RawFrame::HEADERS && frame.ends();
            frames.push(frame);
            if is_last {
                return frames;
            }
        }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> SendRequest<Bytes> {
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender
}

/// An app that speaks HTTP/2 in cleartext. `answer` makes body and trailers of each request's head, body and trailers.
pub fn app(
    answer: impl Fn(&http::request::Parts, &[u8], Option<&HeaderMap>) -> (Vec<u8>, HeaderMap)
    + Send
    + Sync
    + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let answer = Arc::clone(&answer);
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await?;
                        let received = body.trailers().cloned();
                        let (content, trailers) = answer(&head, &body.to_bytes(), received.as_ref());
                        let whole = Full::new(Bytes::from(content))
                            .with_trailers(std::future::ready(Some(Ok(trailers))));
                        Ok::<_, hyper::Error>(http::Response::new(whole))
                    }
                });
                let stream = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(executor).serve_connection(stream, service),
                );
            }
        });
    });
    address
}
