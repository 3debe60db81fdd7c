//! One connection from a client: TLS, the version of HTTP, its requests one after the other, and its end.
//!
//! Enters: an accepted socket. Leaves: nothing; every request on it walks through the worker's [`Lane`]. What ends the
//! connection before there is a request (a head that is not HTTP, or too long, or too slow) is answered here, through
//! the same refusals and the same log.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::framing::Framed;
use crate::caller::PeerAddress;
use crate::gateway::{Answer, Client, Lane};
use crate::http::headers::has_padded_value;
use crate::refusal::Refusal;

/// The connection preface of HTTP/2 (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;
/// Bytes of an answer that are held for each of them while the client does not read. A client sets its window itself,
/// so that only this bounds what the streams of one connection can make us hold; hyper's own bound is 400 kB.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Resets by the client that are not yet worked off, after which the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// How long, and how much, is still read of a request that was answered before its end, so that the answer is not lost
/// in a reset (RFC 9112 section 9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// What connections are held to.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request head.
    pub max_header_bytes: usize,
    /// To a complete request head, and to a finished TLS handshake.
    pub header_timeout: Duration,
    /// On a connection without a request.
    pub idle_timeout: Duration,
}

/// What a connection needs to know of its worker.
#[derive(Debug)]
pub struct Context {
    /// The worker's lane, swapped when the configuration is.
    pub lane: Arc<ArcSwap<Lane>>,
    /// TLS, where it is switched on.
    pub tls: Option<Arc<ServerConfig>>,
    /// Limits.
    pub limits: Limits,
    /// `true` from the moment at which the gateway wants to end.
    pub draining: watch::Receiver<bool>,
}

/// Serves all requests of one connection.
pub async fn serve<I>(context: Arc<Context>, io: I, address: PeerAddress, hold: Box<dyn std::any::Any + Send + Sync>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let lane = context.lane.load_full();
    let Some(config) = &context.tls else {
        let client = Client::new(lane.gateway.peer(address, false), None, hold);
        return serve_http(&context, io, client, None).await;
    };
    let accept = TlsAcceptor::from(Arc::clone(config)).accept(io);
    match timeout(context.limits.header_timeout, accept).await {
        Ok(Ok(stream)) => {
            let session = stream.get_ref().1;
            let is_http2 = session.alpn_protocol() == Some(b"h2");
            let server_name = session.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
            let client = Client::new(lane.gateway.peer(address, true), server_name, hold);
            serve_http(&context, stream, client, Some(is_http2)).await;
        }
        Ok(Err(error)) => tracing::debug!(client = %address, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(client = %address, "TLS handshake took too long"),
    }
}

async fn serve_http<I>(context: &Context, mut io: I, client: Client, is_http2: Option<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = Arc::new(client);
    // Without ALPN the first bytes tell: HTTP/2 with prior knowledge begins with its preface (RFC 9113 section 3.3).
    let (is_http2, first) = match is_http2 {
        Some(known) => (known, Bytes::new()),
        None => {
            let mut draining = context.draining.clone();
            let told = tokio::select! {
                told = timeout(context.limits.idle_timeout, read_first(&mut io)) => told,
                _ = draining.wait_for(|draining| *draining) => return,
            };
            match told {
                Ok(Ok(Some(told))) => told,
                Ok(Ok(None) | Err(_)) | Err(_) => return,
            }
        }
    };
    if is_http2 { serve_http2(context, io, first, client).await } else { serve_http1(context, io, first, client).await }
}

/// Reads until the bytes cannot be the preface of HTTP/2 any more, or are it. `None`: the client went away.
async fn read_first<I: AsyncRead + Unpin>(io: &mut I) -> io::Result<Option<(bool, Bytes)>> {
    let mut first = BytesMut::with_capacity(4096);
    loop {
        if io.read_buf(&mut first).await? == 0 {
            return Ok(None);
        }
        let compared = first.len().min(PREFACE.len());
        if first[..compared] != PREFACE[..compared] {
            return Ok(Some((false, first.freeze())));
        }
        if compared == PREFACE.len() {
            return Ok(Some((true, first.freeze())));
        }
    }
}

async fn serve_http1<I>(context: &Context, io: I, first: Bytes, client: Arc<Client>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let framed = Framed::new(io, first, limits.max_header_bytes, limits.header_timeout, client.switched());
    let mut connection = hyper::server::conn::http1::Builder::new()
        .half_close(false)
        .header_read_timeout(None) // `Framed` and `Activity` keep the time, without a timer a request
        .timer(TokioTimer::new())
        .max_buf_size(limits.max_header_bytes.max(8192) + 1024)
        .serve_connection(TokioIo::new(framed), service(context, &client))
        .with_upgrades();
    let ended = drive(context, &client, Pin::new(&mut connection), |connection| connection.graceful_shutdown()).await;
    // Before the connection is taken apart, because that ends what is under way.
    let is_busy = client.activity.is_busy();
    let Some(parts) = connection.into_parts() else { return };
    let mut framed = parts.io.into_inner();
    match (ended, framed.fault()) {
        // Nothing of an answer may be under way: the client would take ours for part of it.
        (_, Some(refusal)) if !is_busy => {
            let method = framed.scanner().method();
            let answer = context.lane.load_full().refuse_connection(&client, refusal, method);
            if write_answer(&mut framed, &answer).await.is_ok() {
                linger(&mut framed).await;
            }
        }
        // What the scanner leaves to the library: names that are no tokens, control bytes in values, too many fields.
        (Err(error), None) if !is_busy && error.is_parse() => {
            let refusal = if error.is_parse_too_large() { Refusal::HeadersTooLarge } else { Refusal::MalformedHead };
            context.lane.load_full().note_refused(&client, refusal);
            linger(&mut framed).await;
        }
        (Ok(()), _) if !framed.scanner().is_between_requests() => linger(&mut framed).await,
        _ => {}
    }
}

async fn serve_http2<I>(context: &Context, io: I, first: Bytes, client: Arc<Client>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let io = TokioIo::new(super::rewind::Rewind::new(io, first));
    let mut connection = pin!(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_send_buf_size(MAX_SEND_BUFFER)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
            .keep_alive_interval(limits.idle_timeout)
            .keep_alive_timeout(limits.header_timeout)
            .serve_connection(io, service(context, &client))
    );
    if let Err(error) = drive(context, &client, connection.as_mut(), |connection| connection.graceful_shutdown()).await
    {
        tracing::debug!(client = %client.peer.ip, %error, "HTTP/2 connection ended");
    }
}

/// A request on its way.
type Serving = Pin<Box<dyn Future<Output = Result<Response<Answer>, h2::Error>> + Send>>;

fn service(
    context: &Context,
    client: &Arc<Client>,
) -> impl Service<Request<Incoming>, Response = Response<Answer>, Error = h2::Error, Future = Serving> + Unpin + 'static
{
    let (lane, client) = (Arc::clone(&context.lane), Arc::clone(client));
    service_fn(move |request| {
        let lane = lane.load_full();
        if request.version() == Version::HTTP_2 && has_padded_value(request.headers()) {
            // Malformed (RFC 9113 section 8.2.1): the stream is reset, and the connection goes on.
            lane.note_refused(&client, Refusal::MalformedHead);
            let reset: Serving = Box::pin(std::future::ready(Err(h2::Reason::PROTOCOL_ERROR.into())));
            return reset;
        }
        let answer = lane.serve(Arc::clone(&client), request);
        // Boxed: it is some kilobytes, and the library moves it more than once.
        let serving: Serving = Box::pin(async move { Ok(answer.await) });
        serving
    })
}

/// Polls a connection to its end. It is asked to end after its requests when the gateway drains, and when it has had
/// none for `idle_timeout`. The timer is set once a period, not once a request.
async fn drive<C>(
    context: &Context,
    client: &Client,
    mut connection: Pin<&mut C>,
    shut_down: fn(Pin<&mut C>),
) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut draining = context.draining.clone();
    let mut drain = pin!(async move { draining.wait_for(|draining| *draining).await.is_ok() });
    let idle_timeout = context.limits.idle_timeout;
    let mut idle = pin!(sleep_until(Instant::now() + idle_timeout));
    let mut told = false;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if told {
            return Poll::Pending;
        }
        if drain.as_mut().poll(cx).is_ready() {
            told = true;
        }
        while !told && idle.as_mut().poll(cx).is_ready() {
            match client.activity.idle_since() {
                Some(since) if since.elapsed() >= idle_timeout => told = true,
                Some(since) => idle.as_mut().reset((since + idle_timeout).into()),
                None => idle.as_mut().reset(Instant::now() + idle_timeout),
            }
        }
        if told {
            shut_down(connection.as_mut());
            return connection.as_mut().poll(cx);
        }
        Poll::Pending
    })
    .await
}

async fn write_answer<I: AsyncWrite + Unpin>(io: &mut I, answer: &Response<Bytes>) -> io::Result<()> {
    let mut text = BytesMut::with_capacity(1024);
    let status = answer.status();
    text.extend_from_slice(
        format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).as_bytes(),
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
async fn linger<I: AsyncRead + AsyncWrite + Unpin>(framed: &mut Framed<I>) {
    let io = framed.inner();
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
