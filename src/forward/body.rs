//! The two bodies that pass through here: the client's on its way to the app, and the app's on its way back.
//!
//! Enters: what hyper reads from either side. Leaves: the same bytes, frame by frame, never collected. A request body
//! is counted, limited, and cut off when the client stops sending; an app must never see a shortened body that looks
//! complete, so every failure here is an error of the stream and ends the connection to the app.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::pool::{Lease, Slot};
use crate::refusal::Refusal;

/// What holds for every request body of a server.
pub struct BodyRules {
    /// The longest body in bytes; `None` for no limit.
    pub max_bytes: Option<u64>,
    /// The longest wait for more of a body.
    pub idle_timeout: Duration,
    /// Says which trailer fields the app must not get from a client, above those of RFC 9110 section 6.5.1: every name
    /// that an app could take for one of ours.
    pub protected: Box<dyn Fn(&HeaderName) -> bool + Send + Sync>,
}

impl fmt::Debug for BodyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyRules")
            .field("max_bytes", &self.max_bytes)
            .field("idle_timeout", &self.idle_timeout)
            .finish_non_exhaustive()
    }
}

/// How far a request body has come. Shared with whoever needs to know after the body itself has been handed on.
#[derive(Debug)]
pub struct Progress {
    since: Instant,
    /// Milliseconds from `since` to the last bytes.
    moved: AtomicU64,
    bytes: AtomicU64,
    complete: AtomicBool,
    failure: OnceLock<BodyFailure>,
}

impl Progress {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            moved: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            complete: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    fn moved(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.moved.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// When bytes last went towards the app, to the millisecond.
    pub(super) fn last_moved(&self) -> Instant {
        self.since + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Bytes of the body that went towards the app so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the whole body, trailers included, went towards the app.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Why it ended before its end, if it did.
    #[must_use]
    pub fn failure(&self) -> Option<BodyFailure> {
        self.failure.get().copied()
    }
}

/// Why a request body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFailure {
    /// Longer than [`BodyRules::max_bytes`].
    TooLarge,
    /// Nothing came for [`BodyRules::idle_timeout`].
    TimedOut,
    /// The client closed the connection or reset the stream.
    Broken,
    /// The chunked coding was not well formed (RFC 9112 section 7.1).
    Malformed,
}

impl BodyFailure {
    /// What the client is told, where nothing was answered yet.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::TooLarge => Refusal::BodyTooLarge,
            Self::TimedOut | Self::Broken => Refusal::ClientTimeout,
            Self::Malformed => Refusal::AmbiguousFraming,
        }
    }

    fn of_client(error: &hyper::Error) -> Self {
        match error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind) {
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Self::Malformed,
            _ => Self::Broken,
        }
    }
}

impl fmt::Display for BodyFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "request body is too large",
            Self::TimedOut => "client stopped sending the request body",
            Self::Broken => "client closed the connection inside the request body",
            Self::Malformed => "request body is not well-formed chunked coding",
        })
    }
}

impl Error for BodyFailure {}

/// A request body on its way to the app.
///
/// One machine word where there is no body, which is most requests.
#[derive(Debug)]
pub struct RequestBody(Option<Box<Streaming>>);

#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    rules: Arc<BodyRules>,
    left: u64,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether `timer` counts for the wait that is going on.
    waiting: bool,
    progress: Arc<Progress>,
}

impl RequestBody {
    /// The body of a request that a client sent.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] where the declared length is over the limit already; then nothing need be read.
    pub fn new(incoming: Incoming, rules: &Arc<BodyRules>) -> Result<Self, Refusal> {
        if incoming.is_end_stream() {
            return Ok(Self::empty());
        }
        let left = rules.max_bytes.unwrap_or(u64::MAX);
        if incoming.size_hint().lower() > left {
            return Err(Refusal::BodyTooLarge);
        }
        Ok(Self(Some(Box::new(Streaming {
            incoming,
            rules: rules.clone(),
            left,
            timer: None,
            waiting: false,
            progress: Arc::new(Progress::new()),
        }))))
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(None)
    }

    /// How far it has come, from now on; `None` where there is no body.
    #[must_use]
    pub fn progress(&self) -> Option<Arc<Progress>> {
        self.0.as_ref().map(|streaming| streaming.progress.clone())
    }
}

impl Streaming {
    fn fail(&mut self, failure: BodyFailure) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        // Set once: a body that failed is not polled on.
        let _ = self.progress.failure.set(failure);
        Poll::Ready(Some(Err(failure)))
    }

    fn complete(&self) {
        self.progress.complete.store(true, Ordering::Relaxed);
    }

    fn data(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let length = data.len() as u64;
        let Some(left) = self.left.checked_sub(length) else {
            return self.fail(BodyFailure::TooLarge);
        };
        self.left = left;
        self.progress.moved(length);
        if self.incoming.is_end_stream() {
            self.complete();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn trailers(&mut self, mut trailers: HeaderMap) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        drop_trailers(&mut trailers, &*self.rules.protected);
        self.complete();
        if trailers.is_empty() { Poll::Ready(None) } else { Poll::Ready(Some(Ok(Frame::trailers(trailers)))) }
    }

    /// The client has sent nothing more yet: looks at the clock, which is wound up only now.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.waiting {
                    timer.as_mut().reset(Instant::now() + self.rules.idle_timeout);
                }
                timer
            }
            none => none.insert(Box::pin(tokio::time::sleep(self.rules.idle_timeout))),
        };
        self.waiting = true;
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => self.fail(BodyFailure::TimedOut),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFailure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailure>>> {
        let Some(this) = self.0.as_deref_mut() else {
            return Poll::Ready(None);
        };
        if let Some(failure) = this.progress.failure() {
            return Poll::Ready(Some(Err(failure)));
        }
        let Poll::Ready(next) = Pin::new(&mut this.incoming).poll_frame(cx) else {
            return this.wait(cx);
        };
        this.waiting = false;
        match next {
            None => {
                this.complete();
                Poll::Ready(None)
            }
            Some(Err(error)) => this.fail(BodyFailure::of_client(&error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => this.data(data),
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => this.trailers(trailers),
                    Err(_unknown) => this.fail(BodyFailure::Malformed),
                },
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|this| this.progress.failure().is_none() && this.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |this| this.incoming.size_hint())
    }
}

/// Drops the fields that are not allowed in trailers because they would say something about framing, routing, caching
/// or the caller after those have been decided (RFC 9110 section 6.5.1), and the `protected` ones.
fn drop_trailers(trailers: &mut HeaderMap, protected: &dyn Fn(&HeaderName) -> bool) {
    let forbidden: Vec<HeaderName> =
        trailers.keys().filter(|name| is_forbidden_trailer(name) || protected(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

fn is_forbidden_trailer(name: &HeaderName) -> bool {
    const FORBIDDEN: [HeaderName; 37] = [
        header::ACCEPT_RANGES,
        header::AGE,
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_LOCATION,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::DATE,
        header::EXPECT,
        header::EXPIRES,
        header::FORWARDED,
        header::HOST,
        header::IF_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_NONE_MATCH,
        header::IF_RANGE,
        header::IF_UNMODIFIED_SINCE,
        header::LOCATION,
        header::MAX_FORWARDS,
        header::ORIGIN,
        header::PRAGMA,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::RANGE,
        header::RETRY_AFTER,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::VARY,
        header::WARNING,
        header::WWW_AUTHENTICATE,
    ];
    FORBIDDEN.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// A response body on its way to the client.
///
/// Dropping it before its end cancels the exchange: an HTTP/1.1 connection is closed, an HTTP/2 stream reset. At its end
/// the connection goes back to the pool.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    /// Bytes of our own.
    Whole(Option<Bytes>),
    /// The connection makes progress while, and only while, this body is polled: no second task is woken.
    Driven { incoming: Incoming, lease: Option<Lease> },
    /// The request body was still on its way when the response began. The connection runs as a task of its own, so that
    /// a client that sends without reading cannot block itself; it is not used again.
    Detached { incoming: Incoming, task: Option<Detached> },
    /// A stream of an HTTP/2 connection.
    Stream { incoming: Incoming, slot: Option<Slot> },
}

/// A connection that runs as a task, ended together with its response.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) task: tokio::task::AbortHandle,
    /// Counts against the server's connections for as long as the task may live.
    pub(super) _slot: Slot,
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ResponseBody {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Kind::Whole(None))
    }

    /// Bytes of our own.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty())))
    }

    pub(super) fn driven(incoming: Incoming, lease: Lease) -> Self {
        if incoming.is_end_stream() {
            lease.give_back();
            return Self::empty();
        }
        Self(Kind::Driven { incoming, lease: Some(lease) })
    }

    pub(super) fn detached(incoming: Incoming, task: Detached) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Detached { incoming, task: Some(task) })
    }

    pub(super) fn stream(incoming: Incoming, slot: Slot) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Stream { incoming, slot: Some(slot) })
    }
}

fn poll_driven(
    incoming: &mut Incoming,
    lease: &mut Option<Lease>,
    cx: &mut Context<'_>,
) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
    let Some(connection) = lease.as_mut().and_then(Lease::connection) else {
        return Poll::Ready(None);
    };
    connection.drain(cx, |here| Pin::new(&mut *incoming).poll_frame(here))
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.0 {
            Kind::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Driven { incoming, lease } => {
                let next = poll_driven(incoming, lease, cx);
                match &next {
                    Poll::Pending => {}
                    Poll::Ready(Some(Err(_))) => drop(lease.take()),
                    // hyper asks `is_end_stream` after a chunk and then does not poll again.
                    Poll::Ready(Some(Ok(_))) if !incoming.is_end_stream() => {}
                    Poll::Ready(_) => drop(lease.take().map(Lease::give_back)),
                }
                next
            }
            Kind::Detached { incoming, task } => {
                let next = Pin::new(&mut *incoming).poll_frame(cx);
                if matches!(next, Poll::Ready(None | Some(Err(_)))) || incoming.is_end_stream() {
                    task.take();
                }
                next
            }
            Kind::Stream { incoming, slot } => {
                let next = Pin::new(&mut *incoming).poll_frame(cx);
                if matches!(next, Poll::Ready(None | Some(Err(_)))) || incoming.is_end_stream() {
                    slot.take();
                }
                next
            }
        };
        next.map_err(io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Driven { incoming, .. } | Kind::Detached { incoming, .. } | Kind::Stream { incoming, .. } => {
                incoming.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Driven { incoming, .. } | Kind::Detached { incoming, .. } | Kind::Stream { incoming, .. } => {
                incoming.size_hint()
            }
        }
    }
}
