//! HTTP/2 with a client: one connection, its streams, and their ends.
//!
//! Input: a connection that begins with the preface. Every request on it goes to the worker's `gateway::WorkerContext` in a
//! task of its own. Bytes of a response wait in the stream's own task until the client's window takes them, and never in the
//! library: so a stream whose client does not read can be ended alone.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncWrite};

use super::clock::{Clock, Tick};
use super::context::Context;
use super::date;
use super::frames::{Framed, IdleFrames};
use super::rewind::Rewind;
use crate::gateway::{Answer, ConnectionInfo, StreamSlot};
use crate::http::client::Exit;
use crate::http::headers::has_padded_value;
use crate::http::incoming::ClientBody;
use crate::http::pace::{Pace, PaceRules};
use crate::refusal::Refusal;

/// Requests at once on one connection.
pub(super) const MAX_STREAMS: u32 = 128;
/// Bytes of an answer that are handed to the library ahead of the socket, for each stream.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// Resets by the client that are not yet worked off, after which the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// What a client may send of one body, and of all of them, before we have taken any of it.
const WINDOW: u32 = 1024 * 1024;
/// Asked of h2 at once for an answer: more would be taken from what other streams may send.
const CLAIM: usize = 16 * 1024;

/// Serves all requests of a connection of which `first` has been read already. Its preface and its SETTINGS must be
/// there at `by`.
pub(super) async fn serve<I>(
    context: &Arc<Context>,
    io: I,
    first: Bytes,
    by: tokio::time::Instant,
    client: Arc<ConnectionInfo>,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &context.limits;
    let idle_frames = IdleFrames::default();
    let io = Framed::new(
        Rewind::new(io, first),
        by,
        limits.header_timeout,
        idle_frames.clone(),
    );
    let handshake = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .handshake(io)
        .await;
    let mut connection = match handshake {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(client = %client.peer.ip, %error, "HTTP/2 did not begin");
            return;
        }
    };
    let clock = Clock::new(limits, Some(idle_frames.clone()), connection.ping_pong());
    let streams = Streams {
        context: Arc::clone(context),
        client: Arc::clone(&client),
        idle_frames,
    };
    if let Err(error) = drive(&mut connection, clock, &streams).await {
        tracing::debug!(client = %client.peer.ip, %error, "HTTP/2 connection ended");
    }
}

async fn drive<I>(
    connection: &mut Connection<I, Bytes>,
    mut clock: Clock,
    streams: &Streams,
) -> Result<(), h2::Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let mut draining = streams.context.draining.clone();
    let mut drain = pin!(async move { draining.wait_for(|draining| *draining).await.is_ok() });
    poll_fn(|cx| {
        loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    streams.begin(request, respond, clock.refuses());
                    continue;
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {}
            }
            let asked_to_end = !clock.is_ending() && drain.as_mut().poll(cx).is_ready();
            match ready!(clock.poll(asked_to_end, &streams.client.activity, cx)) {
                // Both have the library write something.
                Tick::ShutDown => connection.graceful_shutdown(),
                Tick::Ping => {}
                Tick::End => return Poll::Ready(Ok(())),
            }
        }
    })
    .await
}

/// What each stream of a connection needs.
struct Streams {
    context: Arc<Context>,
    client: Arc<ConnectionInfo>,
    idle_frames: IdleFrames,
}

impl Streams {
    fn begin(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, is_too_late: bool) {
        if is_too_late {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        let Some(slot) = self.client.activity.begin_stream() else {
            // The client may send the request again (RFC 9113 section 8.7).
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        };
        let worker = self.context.worker.load_full();
        if has_padded_value(request.headers()) {
            // Malformed (RFC 9113 section 8.2.1): the stream is reset, and the connection goes on.
            worker.note_refused(&self.client, Refusal::MalformedHead);
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return;
        }
        let is_head = *request.method() == Method::HEAD;
        let length = content_length(&request);
        let request = request.map(|stream| ClientBody::http2(stream, length));
        let exit = Arc::new(Exit::default());
        // Boxed: it is some kilobytes, and is moved more than once.
        let serving = Box::pin(worker.serve(Arc::clone(&self.client), Arc::clone(&exit), request));
        let rules = self.context.limits.pace(0);
        let end = End {
            is_head,
            rules,
            idle_frames: self.idle_frames.clone(),
            exit: Arc::clone(&exit),
            _slot: slot,
        };
        let task = tokio::spawn(answer(serving, respond, end));
        exit.leads_to(task.abort_handle());
    }
}

/// The one length that a request names; h2 has refused a wrong one.
fn content_length(request: &Request<RecvStream>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What is known of a stream before its answer is.
struct End {
    is_head: bool,
    rules: PaceRules,
    idle_frames: IdleFrames,
    exit: Arc<Exit>,
    /// Of the stream among those of the client, until the answer has ended.
    _slot: StreamSlot,
}

async fn answer(
    mut serving: Pin<Box<impl Future<Output = Response<Answer>>>>,
    mut respond: SendResponse<Bytes>,
    end: End,
) {
    let response = poll_fn(|cx| match serving.as_mut().poll(cx) {
        Poll::Ready(response) => Poll::Ready(Some(response)),
        // The client does not want the answer any more.
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    })
    .await;
    drop(serving);
    let Some(response) = response else { return };
    let (mut head, body) = response.into_parts();
    for name in [
        CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        KEEP_ALIVE,
        PROXY_CONNECTION,
    ] {
        head.headers.remove(name);
    }
    if !head.headers.contains_key(DATE) {
        head.headers.insert(DATE, date::now());
    }
    let is_bare = body.is_end_stream();
    if !is_bare && let Some(length) = body.size_hint().exact() {
        head.headers
            .entry(CONTENT_LENGTH)
            .or_insert_with(|| HeaderValue::from(length));
    }
    let End {
        is_head,
        rules,
        idle_frames,
        exit,
        _slot,
    } = end;
    idle_frames.reset();
    // An answer to HEAD has the fields of one to GET, and no DATA (RFC 9110 section 9.3.2).
    let is_bare = is_bare || is_head;
    match respond.send_response(Response::from_parts(head, ()), is_bare) {
        Ok(stream) if !is_bare => {
            send(
                body,
                Outgoing {
                    stream,
                    rules,
                    pace: Pace::default(),
                    idle_frames,
                    exit,
                },
            )
            .await;
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, "an answer cannot be sent over HTTP/2");
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Sends a body to its end, as fast as the client takes it. Dropped before that, the stream is reset.
async fn send(mut body: Answer, mut out: Outgoing) {
    loop {
        let next = poll_fn(|cx| {
            if out.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            Pin::new(&mut body).poll_frame(cx).map(Some)
        })
        .await;
        let frame = match next {
            Some(Some(Ok(frame))) => frame,
            Some(None) => {
                let _ = out.stream.send_data(Bytes::new(), true);
                return;
            }
            // Half an answer must not look like a whole one.
            Some(Some(Err(_))) => return out.stream.send_reset(Reason::INTERNAL_ERROR),
            None => return,
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    let _ = out.stream.send_trailers(trailers);
                    return;
                }
                continue;
            }
        };
        let is_last = body.is_end_stream();
        if data.is_empty() && !is_last {
            continue;
        }
        match send_data(data, is_last, &mut body, &mut out).await {
            Ok(()) if is_last => return,
            Ok(()) => {}
            Err(Unsent::Gone) => return,
            Err(Unsent::TooSlow) => return out.stream.send_reset(Reason::CANCEL),
        }
    }
}

/// Why a piece was not sent.
enum Unsent {
    /// The stream or the connection has ended.
    Gone,
    /// The client does not take it, or hardly.
    TooSlow,
}

/// Sends one piece, never more of it than the client's window has room for.
async fn send_data(
    mut data: Bytes,
    is_last: bool,
    body: &mut Answer,
    out: &mut Outgoing,
) -> Result<(), Unsent> {
    loop {
        let room = if data.is_empty() {
            0
        } else {
            out.room(data.len(), body).await?
        };
        let piece = data.split_to(room.min(data.len()));
        let is_end = data.is_empty();
        out.pace.moved(piece.len() as u64);
        out.idle_frames.reset();
        out.stream
            .send_data(piece, is_last && is_end)
            .map_err(|_| Unsent::Gone)?;
        if is_end {
            return Ok(());
        }
    }
}

/// The client's end of one stream.
struct Outgoing {
    stream: SendStream<Bytes>,
    rules: PaceRules,
    pace: Pace,
    idle_frames: IdleFrames,
    exit: Arc<Exit>,
}

impl Outgoing {
    /// Waits until the client's window has room, and says for how much of `wanted`.
    async fn room(&mut self, wanted: usize, body: &mut Answer) -> Result<usize, Unsent> {
        self.stream.reserve_capacity(wanted.min(CLAIM));
        let is_measured = body.is_measured();
        let mut waits = false;
        let room = poll_fn(|cx| {
            loop {
                match self.stream.capacity() {
                    0 => {}
                    room => return Poll::Ready(Ok(room)),
                }
                match self.stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(_) => return Poll::Ready(Err(Unsent::Gone)),
                    Poll::Pending => {}
                }
                if self.stream.poll_reset(cx).is_ready() {
                    return Poll::Ready(Err(Unsent::Gone));
                }
                if !std::mem::replace(&mut waits, true) {
                    self.exit.wait();
                }
                return self
                    .pace
                    .poll_too_slow(&self.rules, is_measured, cx)
                    .map(|()| Err(Unsent::TooSlow));
            }
        })
        .await;
        if waits {
            self.exit.go_on();
        }
        if matches!(room, Err(Unsent::TooSlow)) {
            body.was_too_slow();
        }
        room
    }
}
