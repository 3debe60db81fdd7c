//! One connection from a client: TLS, the version of HTTP, its requests one after the other, and its end.
//!
//! Input: an accepted socket. Every request on it goes to the worker's `gateway::WorkerContext`. Errors before there is a
//! request (a head that is not HTTP, or too long, or too slow) are answered here, with the same refusals and the same log.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::clock::{Clock, Tick};
use super::context::{Context, PREFACE};
use super::framing::Framed;
use super::http2;
use super::meter::Metered;
use super::rewind::Rewind;
use crate::gateway::{Activity, Answer, ConnectionInfo};
use crate::http::client::Exit;
use crate::http::incoming::ClientBody;
use crate::identity_headers::PeerAddress;
use crate::refusal::Refusal;

/// How long the gateway, when it drains, waits for the first request of a connection. A client that has connected a moment ago is
/// about to send it, and would not send it again; on a connection that it has used it would (RFC 9112 section 9.3.1).
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// How long, and how much, is still read of a request that was answered before its end, so that the answer is not lost
/// in a reset (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// A connection as it was accepted.
pub struct Accepted {
    /// The address of the client.
    pub address: PeerAddress,
    /// What goes on on it.
    pub activity: Arc<Activity>,
    /// How it is ended from elsewhere.
    pub exit: Arc<Exit>,
    /// Bytes in which its socket tells of what the client has taken.
    pub step: u64,
    /// Held as long as something of it is alive.
    pub hold: Box<dyn Any + Send + Sync>,
}

impl Accepted {
    fn client(self, context: &Context, server_name: Option<String>) -> ConnectionInfo {
        self.client_by(context, context.tls.is_some(), server_name)
    }

    /// Where no TLS is spoken, whatever the other listeners do.
    pub(super) fn client_without_tls(self, context: &Context) -> ConnectionInfo {
        self.client_by(context, false, None)
    }

    fn client_by(self, context: &Context, https: bool, server_name: Option<String>) -> ConnectionInfo {
        let peer = context.worker.load().gateway.peer(self.address, https);
        ConnectionInfo::new(peer, server_name, self.activity, self.exit, self.hold)
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Serves all requests of one connection.
pub async fn serve<I>(context: Arc<Context>, io: I, accepted: Accepted)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let activity = Arc::clone(&accepted.activity);
    let io = Metered::new(
        io,
        limits.pace(accepted.step),
        activity,
        Arc::clone(&accepted.exit),
    );
    match &context.tls {
        Some(config) => serve_tls(&context, config, io, accepted).await,
        None => {
            let client = Arc::new(accepted.client(&context, None));
            serve_cleartext(&context, io, client).await;
        }
    }
}

async fn serve_tls<I>(context: &Arc<Context>, config: &Arc<ServerConfig>, mut io: I, accepted: Accepted)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let by = Instant::now() + context.limits.header_timeout;
    let mut first = BytesMut::with_capacity(2048);
    match timeout_at(by, io.read_buf(&mut first)).await {
        Ok(Ok(read)) if read > 0 => {}
        _ => return,
    }
    if first[0].is_ascii_uppercase() {
        let client = Arc::new(accepted.client_without_tls(context));
        return refuse_cleartext(context, io, &first, &client).await;
    }
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(Rewind::new(io, first.freeze()));
    match timeout_at(by, accept).await {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            let is_http2 = session.alpn_protocol() == Some(b"h2");
            let server_name = session
                .server_name()
                .map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            let client = Arc::new(accepted.client(context, server_name));
            if is_http2 {
                http2::serve(context, stream, Bytes::new(), by, client).await;
            } else {
                serve_http1(context, stream, Bytes::new(), client).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(client = %accepted.address, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(client = %accepted.address, "TLS handshake took too long"),
    }
}

/// To a client that speaks HTTP where TLS is expected (no TLS record begins with a letter, RFC 8446 section 5.1).
async fn refuse_cleartext<I>(context: &Context, mut io: I, first: &[u8], client: &Arc<ConnectionInfo>)
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let browser = first.windows(9).any(|piece| piece == b"text/html");
    let answer =
        context
            .worker
            .load_full()
            .refuse_connection(client, Refusal::CleartextOnTls, &Method::GET, browser);
    if write_answer(&mut io, &answer).await.is_ok() {
        linger(&mut io).await;
    }
}

/// Without ALPN the first bytes tell: HTTP/2 with prior knowledge begins with its preface (RFC 9113 section 3.3).
async fn serve_cleartext<I>(context: &Arc<Context>, mut io: I, client: Arc<ConnectionInfo>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut first = BytesMut::with_capacity(4096);
    let begun = tokio::select! {
        begun = timeout(context.limits.idle_timeout, io.read_buf(&mut first)) => begun,
        () = too_late_to_begin(context) => return,
    };
    if !matches!(begun, Ok(Ok(read)) if read > 0) {
        return;
    }
    let by = Instant::now() + context.limits.header_timeout;
    match timeout_at(by, read_preface(&mut io, &mut first)).await {
        Ok(Ok(true)) => http2::serve(context, io, first.freeze(), by, client).await,
        Ok(Ok(false)) => serve_http1(context, io, first.freeze(), client).await,
        Ok(Err(_)) | Err(_) => {}
    }
}

/// Returns when the gateway drains, and has waited for the first byte of a connection for long enough.
pub(super) async fn too_late_to_begin(context: &Context) {
    let mut draining = context.draining.clone();
    let _ = draining.wait_for(|draining| *draining).await;
    sleep(FIRST_REQUEST).await;
}

/// Reads until the bytes cannot be the preface of HTTP/2 any more, or are it.
async fn read_preface<I: AsyncRead + Unpin>(io: &mut I, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        let compared = first.len().min(PREFACE.len());
        if first[..compared] != PREFACE[..compared] {
            return Ok(false);
        }
        if compared == PREFACE.len() {
            return Ok(true);
        }
        if io.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn serve_http1<I>(context: &Context, io: I, first: Bytes, client: Arc<ConnectionInfo>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let activity = Arc::clone(&client.activity);
    let framed = Framed::new(
        io,
        first,
        limits.max_header_bytes,
        limits.header_timeout,
        activity,
    );
    let mut connection = hyper::server::conn::http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None) // `Framed` and `Clock` keep the time, without a timer a request
        .timer(TokioTimer::new())
        .max_buf_size(limits.max_header_bytes.max(8192) + 1024)
        .serve_connection(TokioIo::new(framed), service(context, &client))
        .with_upgrades();
    let ended = drive(context, &client, Pin::new(&mut connection), |connection| {
        connection.graceful_shutdown()
    })
    .await;
    // Before the connection is taken apart, because that ends what is under way.
    let is_busy = client.activity.is_busy();
    let Some(parts) = connection.into_parts() else {
        return;
    };
    let mut framed = parts.io.into_inner();
    match (ended, framed.fault()) {
        // An empty line is no request that could be answered: the client would take the answer for that to its next one.
        (_, Some(Refusal::ClientTimeout)) if framed.scanner().is_blank() => {}
        // Nothing of an answer may be under way: the client would take ours for part of it.
        (_, Some(refusal)) if !is_busy => {
            let method = framed.scanner().method();
            let answer = context
                .worker
                .load_full()
                .refuse_connection(&client, refusal, method, false);
            if write_answer(&mut framed, &answer).await.is_ok() {
                linger(framed.inner()).await;
            }
        }
        // What the scanner leaves to the library: names that are no tokens, control bytes in values, too many fields.
        (Err(error), None) if !is_busy && error.is_parse() => {
            let refusal = if error.is_parse_too_large() {
                Refusal::HeadersTooLarge
            } else {
                Refusal::MalformedHead
            };
            context.worker.load_full().note_refused(&client, refusal);
            linger(framed.inner()).await;
        }
        (Ok(()), _) if !framed.scanner().is_between_requests() => linger(framed.inner()).await,
        _ => {}
    }
}

/// A request on its way.
type Serving = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

fn service(
    context: &Context,
    client: &Arc<ConnectionInfo>,
) -> impl Service<Request<Incoming>, Response = Response<Answer>, Error = Infallible, Future = Serving>
+ Unpin
+ 'static {
    let (worker, client) = (Arc::clone(&context.worker), Arc::clone(client));
    service_fn(move |request: Request<Incoming>| {
        let request = request.map(ClientBody::from);
        let (worker, client) = (worker.load_full(), Arc::clone(&client));
        // Boxed: it is some kilobytes, and the library moves it more than once. It is made inside, so that it is not moved here.
        let serving: Serving = Box::pin(async move {
            let exit = Arc::clone(&client.exit);
            Ok(worker.serve(client, exit, request).await)
        });
        serving
    })
}

/// Polls a connection to its end. It is asked to end after its requests when the gateway drains, and when it has had
/// none for `idle_timeout`; a client that does not follow is left.
async fn drive<C>(
    context: &Context,
    client: &ConnectionInfo,
    mut connection: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut draining = context.draining.clone();
    let mut drain = pin!(async move {
        let _ = draining.wait_for(|draining| *draining).await;
        if client.activity.is_new() {
            sleep(FIRST_REQUEST).await;
        }
    });
    let mut clock = Clock::new(&context.limits, None, None);
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(ended);
            }
            let asked_to_end = !clock.is_ending() && drain.as_mut().poll(cx).is_ready();
            match ready!(clock.poll(asked_to_end, &client.activity, cx)) {
                Tick::ShutDown => shut_down(connection.as_mut()),
                Tick::Ping => {}
                Tick::End => return Poll::Ready(Ok(())),
            }
        }
    })
    .await
}

pub(super) async fn write_answer<I: AsyncWrite + Unpin>(
    io: &mut I,
    answer: &Response<Bytes>,
) -> io::Result<()> {
    let mut text = BytesMut::with_capacity(1024);
    let status = answer.status();
    text.extend_from_slice(
        format!(
            "HTTP/1.1 {} {}\r\n",
            status.as_str(),
            status.canonical_reason().unwrap_or("")
        )
        .as_bytes(),
    );
    for (name, value) in answer.headers() {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(answer.body());
    timeout(LINGER, async {
        io.write_all(&text).await?;
        io.flush().await
    })
    .await
    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Ends our side and reads on for a moment: a socket that is closed with unread bytes resets the connection, and the
/// client may lose the answer.
pub(super) async fn linger<I: AsyncRead + AsyncWrite + Unpin>(io: &mut I) {
    let mut buffer = vec![0; 16 * 1024];
    let mut left = LINGER_BYTES;
    let _ = timeout(LINGER, async {
        io.shutdown().await?;
        while left > 0 {
            match io.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    })
    .await;
}
